//! The value tree: props, outputs and everything that persists or crosses a module.
//!
//! It is JSON with four more leaves: bytes, secrets, references to an attribute of another resource, and text made of
//! both. Maps are sorted, so key order never matters. The JSON form on disk marks the extra leaves with keys that begin
//! with `$`; a user's key that begins with `$` is escaped by doubling it.

pub mod serial;

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::Engine as _;
use serde_json::{Number, Value as Json};
use zeroize::Zeroizing;

use super::name::Fqn;

/// A map of values, sorted by key.
pub type Map = BTreeMap<String, Value>;

/// JSON with bytes, secrets, references and templates as further leaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing: `()` in a script, `null` in JSON.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// A map.
    Map(Map),
    /// A value that no output may show.
    Secret(Secret),
    /// An attribute of another resource, or the whole resource.
    Ref(Reference),
    /// Text with references in it.
    Template(Vec<TemplatePart>),
    /// What a reference to a whole resource becomes when it is resolved. Never persisted.
    Resource(Arc<ResourceView>),
}

/// A pointer to another resource's output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The resource.
    pub fqn: Fqn,
    /// The path to the attribute below its outputs; empty for the whole resource.
    pub path: Vec<String>,
}

/// One piece of a [`Value::Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it stands.
    Text(String),
    /// The text form of an attribute.
    Ref(Reference),
}

/// What a dependent sees of a resource whose handle it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceView {
    /// Its fully qualified name.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What the provider calls it.
    pub physical_name: String,
    /// Its outputs.
    pub outputs: Map,
}

/// A value that no output may show. `Debug` and `Display` print `<secret>`.
#[derive(Clone)]
pub enum Secret {
    /// The value itself, wiped from memory when dropped.
    Plain(Arc<Zeroizing<String>>),
    /// The value as it stands in state.
    Sealed(Arc<SealedSecret>),
}

/// An encrypted secret: XChaCha20-Poly1305 with `context` as associated data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Keyed hash of the plain text in hexadecimal: tells whether it changed without decrypting it.
    pub mac: String,
    /// 24 bytes.
    pub nonce: Vec<u8>,
    /// Cipher text and tag.
    pub ciphertext: Vec<u8>,
    /// FQN and path of the place it stands in: a cipher text moved elsewhere does not open.
    pub context: String,
}

impl Secret {
    /// Wraps a plain text.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Plain(Arc::new(Zeroizing::new(text.into())))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a == b,
            (Self::Sealed(a), Self::Sealed(b)) => a.mac == b.mac,
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Computes the keyed hash of a secret's plain text, in hexadecimal.
pub trait SecretMac {
    /// The keyed hash of `plaintext`.
    fn mac(&self, plaintext: &str) -> String;
}

/// A 32-byte BLAKE3 hash of a canonical value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Hexadecimal text, 64 characters.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", &self.to_hex()[..12])
    }
}

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
    /// Text as a value.
    #[must_use]
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number, if this is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The map, if this is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if this is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The value below a path of map keys and list indices; `None` where the path ends early.
    #[must_use]
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| match value {
            Self::Map(map) => map.get(key),
            Self::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        })
    }

    /// What the type is called in messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "()",
            Self::Bool(_) => "bool",
            Self::Int(_) => "integer",
            Self::Float(_) => "number",
            Self::String(_) | Self::Template(_) => "string",
            Self::Bytes(_) => "blob",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Secret(_) => "secret",
            Self::Ref(reference) if reference.path.is_empty() => "resource",
            Self::Ref(_) => "output of a resource",
            Self::Resource(_) => "resource",
        }
    }

    /// Calls `visit` for every reference in the tree, in order.
    pub fn visit_references<'a>(&'a self, visit: &mut impl FnMut(&'a Reference)) {
        match self {
            Self::Ref(reference) => visit(reference),
            Self::Template(parts) => {
                for part in parts {
                    if let TemplatePart::Ref(reference) = part {
                        visit(reference);
                    }
                }
            }
            Self::Array(items) => {
                for item in items {
                    item.visit_references(visit);
                }
            }
            Self::Map(map) => {
                for item in map.values() {
                    item.visit_references(visit);
                }
            }
            _ => {}
        }
    }

    /// Whether a reference or template stands anywhere in the tree.
    #[must_use]
    pub fn has_references(&self) -> bool {
        let mut found = false;
        self.visit_references(&mut |_| found = true);
        found
    }

    /// Rebuilds the tree with every leaf passed through `change`; containers are walked, not passed.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn try_map_leaves<E>(
        &self,
        path: &mut Vec<String>,
        change: &mut impl FnMut(&[String], &Self) -> Result<Self, E>,
    ) -> Result<Self, E> {
        match self {
            Self::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    let changed = item.try_map_leaves(path, change);
                    path.pop();
                    out.push(changed?);
                }
                Ok(Self::Array(out))
            }
            Self::Map(map) => {
                let mut out = Map::new();
                for (key, item) in map {
                    path.push(key.clone());
                    let changed = item.try_map_leaves(path, change);
                    path.pop();
                    out.insert(key.clone(), changed?);
                }
                Ok(Self::Map(out))
            }
            leaf => change(path, leaf),
        }
    }

    /// Hashes the canonical form. A reference is hashed as its place and the hash that `resolve` gives for the value
    /// it has; a secret as its keyed hash.
    #[must_use]
    pub fn fingerprint(
        &self,
        macs: &dyn SecretMac,
        resolve: &dyn Fn(&Reference) -> Fingerprint,
    ) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        self.hash_into(&mut hasher, macs, resolve);
        Fingerprint(*hasher.finalize().as_bytes())
    }

    fn hash_into(
        &self,
        hasher: &mut blake3::Hasher,
        macs: &dyn SecretMac,
        resolve: &dyn Fn(&Reference) -> Fingerprint,
    ) {
        fn tagged(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        fn reference(
            hasher: &mut blake3::Hasher,
            reference: &Reference,
            resolve: &dyn Fn(&Reference) -> Fingerprint,
        ) {
            tagged(hasher, b'r', reference.fqn.as_str().as_bytes());
            tagged(hasher, b'p', reference.path.join("\u{0}").as_bytes());
            hasher.update(&resolve(reference).0);
        }
        match self {
            Self::Null => tagged(hasher, b'n', &[]),
            Self::Bool(value) => tagged(hasher, b'b', &[u8::from(*value)]),
            Self::Int(value) => tagged(hasher, b'i', &value.to_le_bytes()),
            Self::Float(value) => tagged(hasher, b'f', &value.to_le_bytes()),
            Self::String(text) => tagged(hasher, b's', text.as_bytes()),
            Self::Bytes(bytes) => tagged(hasher, b'y', bytes),
            Self::Array(items) => {
                tagged(hasher, b'a', &(items.len() as u64).to_le_bytes());
                for item in items {
                    item.hash_into(hasher, macs, resolve);
                }
            }
            Self::Map(map) => {
                tagged(hasher, b'm', &(map.len() as u64).to_le_bytes());
                for (key, item) in map {
                    tagged(hasher, b'k', key.as_bytes());
                    item.hash_into(hasher, macs, resolve);
                }
            }
            Self::Secret(Secret::Plain(text)) => {
                tagged(hasher, b'x', macs.mac(text).as_bytes());
            }
            Self::Secret(Secret::Sealed(sealed)) => tagged(hasher, b'x', sealed.mac.as_bytes()),
            Self::Ref(target) => reference(hasher, target, resolve),
            Self::Template(parts) => {
                tagged(hasher, b't', &(parts.len() as u64).to_le_bytes());
                for part in parts {
                    match part {
                        TemplatePart::Text(text) => tagged(hasher, b's', text.as_bytes()),
                        TemplatePart::Ref(target) => reference(hasher, target, resolve),
                    }
                }
            }
            Self::Resource(view) => {
                tagged(hasher, b'h', view.fqn.as_str().as_bytes());
                Self::Map(view.outputs.clone()).hash_into(hasher, macs, resolve);
            }
        }
    }

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

fn escape_key(key: &str) -> String {
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

fn decode_marked(map: &serde_json::Map<String, Json>, path: &str) -> Result<Value, DecodeError> {
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

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fqn.within_stage())?;
        for part in &self.path {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PlainMac;
    impl SecretMac for PlainMac {
        fn mac(&self, plaintext: &str) -> String {
            blake3::hash(plaintext.as_bytes()).to_hex().to_string()
        }
    }

    fn hash(value: &Value) -> Fingerprint {
        value.fingerprint(&PlainMac, &|_| Fingerprint([0; 32]))
    }

    pub(super) fn sample() -> Value {
        let reference = Reference {
            fqn: Fqn::parse("a/b/c").unwrap(),
            path: vec!["id".to_owned()],
        };
        Value::Map(Map::from([
            ("$odd".to_owned(), Value::Int(1)),
            ("bytes".to_owned(), Value::Bytes(vec![0, 255])),
            (
                "list".to_owned(),
                Value::Array(vec![Value::Null, Value::Float(1.5)]),
            ),
            ("ref".to_owned(), Value::Ref(reference.clone())),
            (
                "text".to_owned(),
                Value::Template(vec![
                    TemplatePart::Text("x-".to_owned()),
                    TemplatePart::Ref(reference),
                ]),
            ),
        ]))
    }

    #[test]
    fn json_form_round_trips() {
        let value = sample();
        assert_eq!(Value::from_json(value.to_json()).unwrap(), value);
    }

    #[test]
    fn unknown_marks_are_refused_with_their_place() {
        let json = serde_json::json!({ "a": [{ "$what": 1 }] });
        let error = Value::from_json(json).unwrap_err();
        assert_eq!(error.path, "$.a[0]");
    }

    #[test]
    fn fingerprints_tell_values_apart() {
        let int = Value::Int(1);
        let text = Value::string("1");
        assert_ne!(hash(&int), hash(&text));
        assert_ne!(
            hash(&Value::Array(vec![Value::string("ab"), Value::string("c")])),
            hash(&Value::Array(vec![Value::string("a"), Value::string("bc")])),
        );
        assert_eq!(hash(&sample()), hash(&sample()));
    }

    #[test]
    fn no_form_shows_a_plain_secret() {
        let value = Value::Secret(Secret::plain("hunter2"));
        for text in [
            value.to_json().to_string(),
            value.to_display_json().to_string(),
            format!("{value:?}"),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
