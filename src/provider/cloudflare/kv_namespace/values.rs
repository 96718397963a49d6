//! The values of a namespace as they are now, under the keys that a script declares, and how they differ from what it says. What a
//! namespace holds under other keys is nobody's business here.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{
    super::client::{Call, encode},
    KvNamespace, PATH,
};
use crate::{
    model::{Map, Value},
    provider::{
        Difference, Existing, Observation, OperationContext, ProviderError, observe, text_prop,
    },
};

pub(super) const PROP: &str = "values";
/// Keys in one bulk read.
const BATCH: usize = 100;

impl KvNamespace {
    /// Adds to `seen` what the namespace has under the keys that `known` declares: one call for a hundred of them. `false` when it
    /// is gone since it was listed.
    pub(super) async fn complete(
        &self,
        context: &OperationContext,
        known: &Existing,
        seen: &mut Observation,
    ) -> Result<bool, ProviderError> {
        let declared = declared(&known.props);
        if declared.is_empty() {
            return Ok(true);
        }
        let mut found = Vec::new();
        for batch in declared.chunks(BATCH) {
            let keys: Vec<&str> = batch.iter().map(|(key, _)| *key).collect();
            let call = Call::post(format!("{PATH}/{}/bulk/get", encode(&seen.id)))
                .idempotent()
                .json(&json!({ "keys": keys, "withMetadata": true }));
            let Some(answer) = self.client.look(context, &call).await? else {
                return Ok(false);
            };
            for key in keys {
                let value = answer.result.get("values").and_then(|all| all.get(key));
                if let Some(Json::Object(fields)) = value {
                    let mut pair = Map::from([("key".to_owned(), Value::from(key))]);
                    for field in ["value", "metadata", "expiration"] {
                        let value = fields.get(field).cloned().unwrap_or_default();
                        pair.insert(field.to_owned(), Value::from_plain_json(value));
                    }
                    found.push(Value::Map(pair));
                }
            }
        }
        seen.props.insert(PROP.to_owned(), Value::Array(found));
        Ok(true)
    }
}

/// The pairs of props whose keys are known, each key once: the last one of a key is what was written.
fn declared(props: &Map) -> Vec<(&str, &Map)> {
    let mut out: Vec<(&str, &Map)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let pairs = props.get(PROP).and_then(Value::as_array);
    for pair in pairs.into_iter().flatten().filter_map(Value::as_map) {
        let Some(key) = text_prop(pair, "key") else {
            continue;
        };
        match places.get(key) {
            Some(place) => out[*place].1 = pair,
            None => {
                places.insert(key, out.len());
                out.push((key, pair));
            }
        }
    }
    out
}

/// As the default, and value by value where the observation has looked at them.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut others = existing.props.clone();
    others.remove(PROP);
    let mut out = observe::compare(&existing.physical_name, &others, seen);
    let Some(found) = seen.props.get(PROP).and_then(Value::as_array) else {
        return out;
    };
    let found: HashMap<&str, &Map> = found
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|pair| Some((text_prop(pair, "key")?, pair)))
        .collect();
    for (key, pair) in declared(&existing.props) {
        let mut differs = |field: Option<&str>, state: &Value, found: Value| {
            let path = [PROP, key].into_iter().chain(field);
            out.push(Difference {
                path: path.map(str::to_owned).collect(),
                state: state.clone(),
                found,
            });
        };
        let value = pair.get("value").unwrap_or(&Value::Null);
        let Some(there) = found.get(key) else {
            // What goes by itself may have gone.
            if !is_given(pair, "expiration") && !is_given(pair, "expirationTtl") {
                differs(None, value, Value::Null);
            }
            continue;
        };
        let content = there
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if let Some(content) = other_content(value, content) {
            differs(None, value, content);
        }
        for field in ["metadata", "expiration"] {
            if let Some(declared) = pair.get(field).filter(|_| is_given(pair, field)) {
                let now = there.get(field).cloned().unwrap_or_default();
                if plain(declared).is_some_and(|plain| now.to_plain_json() != Ok(plain)) {
                    differs(Some(field), declared, now);
                }
            }
        }
    }
    out
}

/// A declared value as data; none where it hides a secret or refers to what state does not know.
fn plain(declared: &Value) -> Option<Json> {
    match has_secret(declared) {
        true => None,
        false => declared.to_plain_json().ok(),
    }
}

fn has_secret(value: &Value) -> bool {
    match value {
        Value::Secret(_) => true,
        Value::Array(items) => items.iter().any(has_secret),
        Value::Map(map) => map.values().any(has_secret),
        _ => false,
    }
}

fn is_given(pair: &Map, field: &str) -> bool {
    pair.get(field).is_some_and(|value| *value != Value::Null)
}

/// What the namespace has in the place of a declared value; none where it is the same, or where state alone does not tell: secrets
/// are sealed, and must not be shown beside what they ought to be.
fn other_content(declared: &Value, content: &str) -> Option<Value> {
    match plain(declared)? {
        Json::String(text) => (text != content).then(|| Value::from(content)),
        // Data is written as JSON, whose spaces say nothing.
        data => match serde_json::from_str::<Json>(content) {
            Ok(found) => (found != data).then(|| Value::from_plain_json(found)),
            Err(_) => Some(Value::from(content)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Secret,
        provider::cloudflare::testing::{existing, map},
    };

    fn seen(values: &Json) -> Observation {
        Observation {
            id: "n1".to_owned(),
            physical_name: "cache".to_owned(),
            outputs: Map::new(),
            props: map(json!({ "values": values })),
        }
    }

    fn told(declared: &Json, found: &Json) -> Vec<String> {
        let known = existing("cache", json!({ "values": declared }), json!({}));
        let differences = compare(&known, &seen(found));
        let texts = differences.iter().map(|difference| {
            let found = difference.found.to_display_json();
            format!("{}: {found}", difference.path.join("."))
        });
        texts.collect()
    }

    #[test]
    fn values_are_compared_as_they_were_written() {
        let found = json!([
            { "key": "text", "value": "1", "metadata": null, "expiration": null },
            { "key": "data", "value": "{ \"b\": [1, 2.5], \"a\": null }", "metadata": { "v": 1 }, "expiration": 9 },
        ]);
        let same = json!([
            { "key": "text", "value": "old" },
            { "key": "text", "value": "1" },
            { "key": "data", "value": { "a": null, "b": [1, 2.5] }, "metadata": { "v": 1 }, "expiration": 9 },
            { "key": "short", "value": "went", "expirationTtl": 60 },
        ]);
        assert_eq!(told(&same, &found), Vec::<String>::new());
        let other = json!([
            { "key": "text", "value": 1 },
            { "key": "data", "value": { "b": [1] }, "metadata": { "v": 2 }, "expiration": 8 },
            { "key": "gone", "value": true },
        ]);
        assert_eq!(
            told(&other, &found),
            [
                r#"values.data: {"a":null,"b":[1,2.5]}"#,
                r#"values.data.metadata: {"v":1}"#,
                "values.data.expiration: 9",
                "values.gone: null",
            ]
        );
    }

    #[test]
    fn of_a_secret_only_its_absence_is_told() {
        let secret = |key: &str| {
            let hidden = Value::Secret(Secret::plain("s3cret".to_owned()));
            let data = Map::from([("deep".to_owned(), Value::Array(vec![hidden]))]);
            Value::Map(Map::from([
                ("key".to_owned(), Value::from(key)),
                ("value".to_owned(), Value::Map(data)),
            ]))
        };
        let mut known = existing("cache", json!({}), json!({}));
        let values = Value::Array(vec![secret("there"), secret("gone")]);
        known.props.insert(PROP.to_owned(), values);
        let seen = seen(
            &json!([{ "key": "there", "value": "another", "metadata": null, "expiration": null }]),
        );
        let told: Vec<String> = compare(&known, &seen)
            .into_iter()
            .map(|difference| difference.path.join("."))
            .collect();
        assert_eq!(told, ["values.gone"]);
    }
}
