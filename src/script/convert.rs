//! Between Rhai's values and ours: the one place where either becomes the other.
//!
//! Rhai's own conversions turn closures and handles into names without a word; this walk refuses what cannot be kept and says
//! at which property it stands.

use rhai::{Blob, Dynamic, ImmutableString};

use crate::model::{Map, Reference, Value};

use super::{
    handle::Resource,
    host::Host,
    lazy::{Lazy, SecretValue},
};

/// A value that cannot leave the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConvertError {
    /// Keys and indices down to it.
    pub(super) path: Vec<String>,
    /// What is wrong with it.
    pub(super) message: String,
}

/// The deepest nesting of lists and maps; deeper ones are refused before they exhaust a stack somewhere.
const MAX_DEPTH: usize = 128;

/// A value of the script as ours.
pub(super) fn to_value(host: &Host, value: &Dynamic) -> Result<Value, ConvertError> {
    walk(host, value, &mut Vec::new())
}

/// A map of the script as ours.
pub(super) fn to_map(host: &Host, map: &rhai::Map) -> Result<Map, ConvertError> {
    entries(host, map, &mut Vec::new())
}

fn entries(host: &Host, map: &rhai::Map, path: &mut Vec<String>) -> Result<Map, ConvertError> {
    let mut out = Map::new();
    for (key, item) in map {
        path.push(key.to_string());
        let converted = walk(host, item, path)?;
        path.pop();
        out.insert(key.to_string(), converted);
    }
    Ok(out)
}

fn walk(host: &Host, value: &Dynamic, path: &mut Vec<String>) -> Result<Value, ConvertError> {
    let fail = |path: &[String], message: String| ConvertError {
        path: path.to_vec(),
        message,
    };
    if path.len() > MAX_DEPTH {
        return Err(fail(path, format!("nested deeper than {MAX_DEPTH} levels")));
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(Value::Bool(value));
    }
    if let Ok(value) = value.as_int() {
        return Ok(Value::Int(value));
    }
    if let Ok(value) = value.as_float() {
        return Ok(Value::Float(value));
    }
    if let Ok(value) = value.as_char() {
        return Ok(Value::String(value.to_string()));
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return match host.tokens.resolve(&text) {
            None => Ok(Value::String(text.to_string())),
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(fail(path, error.to_string())),
        };
    }
    if let Some(items) = value.read_lock::<rhai::Array>() {
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            path.push(index.to_string());
            out.push(walk(host, item, path)?);
            path.pop();
        }
        return Ok(Value::Array(out));
    }
    if let Some(map) = value.read_lock::<rhai::Map>() {
        return Ok(Value::Map(entries(host, &map, path)?));
    }
    if let Some(bytes) = value.read_lock::<Blob>() {
        return Ok(Value::Bytes(bytes.clone()));
    }
    if let Some(resource) = value.read_lock::<Resource>() {
        return Ok(Value::Ref(Reference {
            fqn: resource.fqn.clone(),
            path: Vec::new(),
        }));
    }
    if let Some(lazy) = value.read_lock::<Lazy>() {
        return Ok(lazy.0.clone());
    }
    if let Some(secret) = value.read_lock::<SecretValue>() {
        return Ok(Value::Secret(secret.0.clone()));
    }
    let what = if value.is_fnptr() {
        "a closure"
    } else {
        value.type_name()
    };
    Err(fail(path, format!("{what} cannot be stored")))
}

/// One of our values for the script. Text with bytes in it becomes a blob.
pub(super) fn from_value(host: &Host, value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::String(text) => text.into(),
        Value::Bytes(bytes) => Dynamic::from_blob(bytes),
        Value::Array(items) => Dynamic::from_array(
            items
                .into_iter()
                .map(|item| from_value(host, item))
                .collect(),
        ),
        Value::Map(map) => Dynamic::from_map(from_map(host, map)),
        Value::Secret(secret) => {
            host.keep_secret(&secret);
            Dynamic::from(SecretValue(secret))
        }
        Value::Ref(_) | Value::Template(_) => Dynamic::from(Lazy(value)),
        // Closures of script-defined kinds see a dependency as what it answered.
        Value::Resource(view) => {
            let mut map = from_map(host, view.outputs.clone());
            map.entry("name".into())
                .or_insert_with(|| view.physical_name.clone().into());
            map.insert("fqn".into(), view.fqn.as_str().to_owned().into());
            map.insert("kind".into(), view.kind.to_string().into());
            Dynamic::from_map(map)
        }
    }
}

/// One of our maps for the script.
pub(super) fn from_map(host: &Host, map: Map) -> rhai::Map {
    map.into_iter()
        .map(|(key, item)| (key.into(), from_value(host, item)))
        .collect()
}

/// What a type is called in messages, in the words of the docs.
pub(super) fn type_words(name: &str) -> &str {
    match name {
        "i64" | "INT" => "int",
        "f64" | "FLOAT" => "float",
        "map" | "Map" => "map",
        "array" | "Array" => "array",
        "&str | ImmutableString | String" | "ImmutableString" | "&str" | "String" => "string",
        "Fn" | "FnPtr" => "closure",
        "?" | "Dynamic" => "any",
        other => other,
    }
}
