//! Values straight to and from a serialiser, without a JSON tree in between: state files hold thousands of them.
//!
//! The form is that of [`Value::to_json`]; leaves with a `$` mark are rare and go through the tree.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};

use super::{
    Map, Value,
    json::{decode_marked, escape_key},
};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Float(number) if number.is_finite() => serializer.serialize_f64(*number),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Map(map) => serialize_map(map, serializer),
            marked => marked.to_json().serialize(serializer),
        }
    }
}

/// Writes a map of values, `$` keys escaped.
///
/// # Errors
/// Those of the serialiser.
pub fn serialize_map<S: Serializer>(map: &Map, serializer: S) -> Result<S::Ok, S::Error> {
    let mut entries = serializer.serialize_map(Some(map.len()))?;
    for (key, value) in map {
        if key.starts_with('$') {
            entries.serialize_entry(&escape_key(key), value)?;
        } else {
            entries.serialize_entry(key, value)?;
        }
    }
    entries.end()
}

/// Reads a map of values.
///
/// # Errors
/// Those of the deserialiser, and a mark that no value is written with.
pub fn deserialize_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Map(map) => Ok(map),
        other => Err(D::Error::custom(format!(
            "expected a map, found {}",
            other.type_name()
        ))),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        // What does not fit becomes a float, as it does everywhere else.
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers beyond i64 are floats here"
        )]
        let value = i64::try_from(number).map_or(Value::Float(number as f64), Value::Int);
        Ok(value)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(rest) = key.strip_prefix('$') {
                if rest.starts_with('$') {
                    map.insert(rest.to_owned(), entries.next_value()?);
                    continue;
                }
                if !map.is_empty() {
                    return Err(A::Error::custom(format!(
                        "`{key}` stands beside other keys"
                    )));
                }
                return marked(key, entries);
            }
            map.insert(key, entries.next_value()?);
        }
        Ok(Value::Map(map))
    }
}

fn marked<'de, A: MapAccess<'de>>(first: String, mut entries: A) -> Result<Value, A::Error> {
    let mut map = serde_json::Map::new();
    map.insert(first, entries.next_value()?);
    while let Some((key, value)) = entries.next_entry()? {
        map.insert(key, value);
    }
    decode_marked(&map, "$").map_err(A::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_form_is_the_tree_form() {
        let value = super::super::tests::sample();
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(text, value.to_json().to_string());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn unknown_marks_are_refused() {
        for text in [
            r#"{"$what": 1}"#,
            r#"{"a": 1, "$ref": "a/b/c"}"#,
            r#"{"$ref": 1}"#,
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
        }
    }
}
