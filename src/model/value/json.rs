//! The JSON forms of a value: for state files and back, for people, and plain for requests to and answers of APIs.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Number, Value as Json};

use super::{Map, Reference, SealedSecret, Secret, TemplatePart, Value};
use crate::model::name::Fqn;

/// Why JSON could not be read back as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {path}: {problem}")]
pub struct DecodeError {
    /// Where, as `$.a.b[0]`.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

impl Value {
    /// The JSON form for state files. Plain secrets must have been sealed before; they become `{"$secret": null}`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let base64 = base64::engine::general_purpose::STANDARD;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::Number((*value).into()),
            Self::Float(value) => match Number::from_f64(*value) {
                Some(number) => Json::Number(number),
                None => serde_json::json!({ "$float": value.to_string() }),
            },
            Self::String(text) => Json::String(text.clone()),
            Self::Bytes(bytes) => serde_json::json!({ "$bytes": base64.encode(bytes) }),
            Self::Array(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(map) => Json::Object(
                map.iter()
                    .map(|(key, item)| (escape_key(key), item.to_json()))
                    .collect(),
            ),
            Self::Secret(Secret::Plain(_)) => serde_json::json!({ "$secret": null }),
            Self::Secret(Secret::Sealed(sealed)) => serde_json::json!({ "$secret": {
                "mac": sealed.mac,
                "nonce": base64.encode(&sealed.nonce),
                "ciphertext": base64.encode(&sealed.ciphertext),
                "context": sealed.context,
            } }),
            Self::Ref(reference) => reference.to_json(),
            Self::Template(parts) => serde_json::json!({ "$template": parts
                .iter()
                .map(|part| match part {
                    TemplatePart::Text(text) => Json::String(text.clone()),
                    TemplatePart::Ref(reference) => reference.to_json(),
                })
                .collect::<Vec<_>>() }),
            Self::Resource(view) => Reference {
                fqn: view.fqn.clone(),
                path: Vec::new(),
            }
            .to_json(),
        }
    }

    /// The JSON form for people and programs outside: secrets are `"<secret>"`, references `"${fqn.attr}"`.
    #[must_use]
    pub fn to_display_json(&self) -> Json {
        match self {
            Self::Secret(_) => Json::String("<secret>".to_owned()),
            Self::Ref(reference) => Json::String(format!("${{{reference}}}")),
            Self::Template(parts) => Json::String(
                parts
                    .iter()
                    .map(|part| match part {
                        TemplatePart::Text(text) => text.clone(),
                        TemplatePart::Ref(reference) => format!("${{{reference}}}"),
                    })
                    .collect(),
            ),
            Self::Resource(view) => Json::String(format!("${{{}}}", view.fqn)),
            Self::Array(items) => Json::Array(items.iter().map(Self::to_display_json).collect()),
            Self::Map(map) => Json::Object(
                map.iter()
                    .map(|(key, item)| (key.clone(), item.to_display_json()))
                    .collect(),
            ),
            Self::Bytes(bytes) => Json::String(format!("<{} bytes>", bytes.len())),
            other => other.to_json(),
        }
    }

    /// Plain JSON for a request body: every secret opened, no reference left.
    ///
    /// # Errors
    /// [`DecodeError`] naming the place of a sealed secret, a reference or bytes that are left.
    pub fn to_plain_json(&self) -> Result<Json, DecodeError> {
        fn walk(value: &Value, path: &mut String) -> Result<Json, DecodeError> {
            match value {
                Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| nested(path, &format!("[{index}]"), item))
                    .collect::<Result<_, _>>()
                    .map(Json::Array),
                Value::Map(map) => map
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), nested(path, &format!(".{key}"), item)?)))
                    .collect::<Result<_, _>>()
                    .map(Json::Object),
                Value::Secret(Secret::Plain(text)) => Ok(Json::String(text.to_string())),
                Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::String(_) => Ok(value.to_json()),
                other => Err(DecodeError {
                    path: path.clone(),
                    problem: format!("{} cannot stand here", other.type_name()),
                }),
            }
        }
        fn nested(path: &mut String, step: &str, value: &Value) -> Result<Json, DecodeError> {
            let length = path.len();
            path.push_str(step);
            let json = walk(value, path);
            path.truncate(length);
            json
        }
        walk(self, &mut "$".to_owned())
    }

    /// Takes plain JSON as it is: no key is special. For answers of APIs.
    #[must_use]
    pub fn from_plain_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => from_number(&number),
            Json::String(text) => Self::String(text),
            Json::Array(items) => {
                Self::Array(items.into_iter().map(Self::from_plain_json).collect())
            }
            Json::Object(map) => Self::Map(
                map.into_iter()
                    .map(|(key, item)| (key, Self::from_plain_json(item)))
                    .collect(),
            ),
        }
    }

    /// Reads the JSON form of state files.
    ///
    /// # Errors
    /// [`DecodeError`] when a `$` key is unknown or malformed.
    pub fn from_json(json: Json) -> Result<Self, DecodeError> {
        decode(json, &mut "$".to_owned())
    }
}

fn from_number(number: &Number) -> Value {
    match number.as_i64() {
        Some(whole) => Value::Int(whole),
        None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

pub(super) fn escape_key(key: &str) -> String {
    if key.starts_with('$') {
        format!("${key}")
    } else {
        key.to_owned()
    }
}

fn decode(json: Json, path: &mut String) -> Result<Value, DecodeError> {
    match json {
        Json::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                out.push(decode(item, path)?);
                path.truncate(length);
            }
            Ok(Value::Array(out))
        }
        Json::Object(map) => {
            if map
                .keys()
                .any(|key| key.starts_with('$') && !key.starts_with("$$"))
            {
                return decode_marked(&map, path);
            }
            let mut out = Map::new();
            for (key, item) in map {
                let length = path.len();
                path.push('.');
                path.push_str(&key);
                let value = decode(item, path)?;
                path.truncate(length);
                let key = key
                    .strip_prefix('$')
                    .map_or_else(|| key.clone(), str::to_owned);
                out.insert(key, value);
            }
            Ok(Value::Map(out))
        }
        leaf => Ok(Value::from_plain_json(leaf)),
    }
}

pub(super) fn decode_marked(
    map: &serde_json::Map<String, Json>,
    path: &str,
) -> Result<Value, DecodeError> {
    let fail = |problem: String| DecodeError {
        path: path.to_owned(),
        problem,
    };
    let base64 = base64::engine::general_purpose::STANDARD;
    if map.contains_key("$ref") {
        return Reference::from_json(map).map(Value::Ref).map_err(fail);
    }
    if let Some(text) = map.get("$bytes").and_then(Json::as_str) {
        return base64
            .decode(text)
            .map(Value::Bytes)
            .map_err(|error| fail(error.to_string()));
    }
    if let Some(text) = map.get("$float").and_then(Json::as_str) {
        return text
            .parse()
            .map(Value::Float)
            .map_err(|_| fail(format!("`{text}` is no number")));
    }
    if let Some(parts) = map.get("$template").and_then(Json::as_array) {
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            out.push(match part {
                Json::String(text) => TemplatePart::Text(text.clone()),
                Json::Object(part) => TemplatePart::Ref(Reference::from_json(part).map_err(fail)?),
                _ => return Err(fail("a template holds text and references only".to_owned())),
            });
        }
        return Ok(Value::Template(out));
    }
    if let Some(secret) = map.get("$secret").and_then(Json::as_object) {
        let text = |key: &str| {
            secret
                .get(key)
                .and_then(Json::as_str)
                .ok_or_else(|| fail(format!("the secret lacks `{key}`")))
        };
        let bytes = |key: &str| {
            base64
                .decode(text(key)?)
                .map_err(|error| fail(format!("`{key}`: {error}")))
        };
        return Ok(Value::Secret(Secret::Sealed(Arc::new(SealedSecret {
            mac: text("mac")?.to_owned(),
            nonce: bytes("nonce")?,
            ciphertext: bytes("ciphertext")?,
            context: text("context")?.to_owned(),
        }))));
    }
    let keys: Vec<_> = map.keys().cloned().collect();
    Err(fail(format!(
        "no value is written with the keys {}",
        keys.join(", ")
    )))
}

impl Reference {
    fn to_json(&self) -> Json {
        let mut map = serde_json::Map::new();
        map.insert(
            "$ref".to_owned(),
            Json::String(self.fqn.as_str().to_owned()),
        );
        if !self.path.is_empty() {
            map.insert(
                "attr".to_owned(),
                Json::Array(self.path.iter().cloned().map(Json::String).collect()),
            );
        }
        Json::Object(map)
    }

    fn from_json(map: &serde_json::Map<String, Json>) -> Result<Self, String> {
        let fqn = map
            .get("$ref")
            .and_then(Json::as_str)
            .ok_or("`$ref` is not text")?;
        let fqn = Fqn::parse(fqn).map_err(|error| error.to_string())?;
        let path = match map.get("attr") {
            None => Vec::new(),
            Some(Json::String(name)) => vec![name.clone()],
            Some(Json::Array(parts)) => parts
                .iter()
                .map(|part| {
                    part.as_str()
                        .map(str::to_owned)
                        .ok_or("`attr` holds no text")
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err("`attr` is neither text nor a list".to_owned()),
        };
        Ok(Self { fqn, path })
    }
}
