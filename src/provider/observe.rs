//! Observations: objects as their provider shows them now. Drift, refresh, import and scan rest on them.
//!
//! Only what a script declared is compared with what is there: a setting that nobody declared is not alch's business.

use crate::model::{Map, Value};

/// One object as its provider shows it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What tells it from the other objects of its kind, and what `alch import` takes: its id, or its name where it has none.
    pub id: String,
    /// Its name.
    pub physical_name: String,
    /// Its outputs, in the same shape as `create` answers, as far as the answer shows them.
    pub outputs: Map,
    /// Its props in the schema's spelling, as far as the answer shows them. What is left out is not compared, and a prop that
    /// only has the value that it has by itself belongs out of here unless it can be declared, too.
    pub props: Map,
}

/// Files that an object was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Path below a folder of their own, with `/`, and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// The prop that names one of them, the main one.
    pub prop: &'static str,
    /// That one.
    pub main: String,
    /// What a script cannot say, each as a sentence for the user.
    pub notes: Vec<String>,
}

/// A property that is not as state says.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Path of keys and indices.
    pub path: Vec<String>,
    /// What state says.
    pub state: Value,
    /// What the provider has.
    pub found: Value,
}

/// The default of [`Provider::object_id`](super::Provider::object_id): the output `id`, else the name.
#[must_use]
pub fn object_id(physical_name: &str, outputs: &Map) -> String {
    outputs
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or(physical_name)
        .to_owned()
}

/// The default of [`Provider::compare`](super::Provider::compare): the name, and every declared prop that the observation shows.
#[must_use]
pub fn compare(physical_name: &str, props: &Map, seen: &Observation) -> Vec<Difference> {
    let mut out = Vec::new();
    if physical_name != seen.physical_name {
        out.push(Difference {
            path: vec!["name".to_owned()],
            state: Value::from(physical_name),
            found: Value::from(seen.physical_name.as_str()),
        });
    }
    let mut path = Vec::new();
    for (key, declared) in props {
        // The name is compared above, whichever prop gave it.
        if let Some(found) = seen.props.get(key).filter(|_| key != "name") {
            path.push(key.clone());
            walk(declared, found, &mut path, &mut out);
            path.pop();
        }
    }
    out
}

/// The difference of an output that tells what another resource gave: the prop of that name is a reference, which no
/// observation shows.
#[must_use]
pub fn compare_output(output: &str, known: &Map, seen: &Observation) -> Option<Difference> {
    let (state, found) = (known.get(output)?, seen.outputs.get(output)?);
    (state != found).then(|| Difference {
        path: vec![output.to_owned()],
        state: state.clone(),
        found: found.clone(),
    })
}

fn walk(declared: &Value, found: &Value, path: &mut Vec<String>, out: &mut Vec<Difference>) {
    match (declared, found) {
        (Value::Map(declared), Value::Map(found)) => {
            for (key, declared) in declared {
                if let Some(found) = found.get(key) {
                    path.push(key.clone());
                    walk(declared, found, path, out);
                    path.pop();
                }
            }
        }
        (Value::Array(declared), Value::Array(found)) if declared.len() == found.len() => {
            for (index, (declared, found)) in declared.iter().zip(found).enumerate() {
                path.push(index.to_string());
                walk(declared, found, path, out);
                path.pop();
            }
        }
        // What stands for a value that only the run knows, and what no provider shows.
        (
            Value::Null
            | Value::Ref(_)
            | Value::Template(_)
            | Value::Secret(_)
            | Value::Resource(_),
            _,
        ) => {}
        (Value::Int(declared), Value::Float(found)) if *declared as f64 == *found => {}
        (Value::Float(declared), Value::Int(found)) if *declared == *found as f64 => {}
        (declared, found) if declared == found => {}
        (declared, found) => out.push(Difference {
            path: path.clone(),
            state: declared.clone(),
            found: found.clone(),
        }),
    }
}

/// Puts what was found into props: what an update starts from.
#[must_use]
pub fn as_found(props: &Map, differences: &[Difference]) -> Map {
    let mut out = props.clone();
    for difference in differences {
        if let Some((first, rest)) = difference.path.split_first()
            && let Some(value) = out.get_mut(first)
        {
            put(value, rest, &difference.found);
        }
    }
    out
}

fn put(value: &mut Value, path: &[String], found: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = found.clone();
        return;
    };
    let inner = match value {
        Value::Map(map) => map.get_mut(first),
        Value::Array(items) => first.parse().ok().and_then(|at: usize| items.get_mut(at)),
        _ => None,
    };
    if let Some(inner) = inner {
        put(inner, rest, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(json: serde_json::Value) -> Map {
        match Value::from_plain_json(json) {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    fn seen(name: &str, props: serde_json::Value) -> Observation {
        Observation {
            id: "1".to_owned(),
            physical_name: name.to_owned(),
            outputs: Map::new(),
            props: map(props),
        }
    }

    fn paths(declared: serde_json::Value, found: serde_json::Value) -> Vec<String> {
        compare("a", &map(declared), &seen("a", found))
            .into_iter()
            .map(|difference| difference.path.join("."))
            .collect()
    }

    #[test]
    fn only_what_is_declared_and_shown_is_compared() {
        let found = json!({ "settings": { "delay": 9, "paused": true }, "extra": 1, "list": [1, 2], "n": 2.0 });
        assert_eq!(
            paths(
                json!({ "settings": { "delay": 5, "other": 1 }, "hidden": 3, "list": [1, 3], "n": 2 }),
                found.clone()
            ),
            ["list.1", "settings.delay"]
        );
        assert!(paths(json!({ "settings": { "delay": 9 }, "list": [1, 2] }), found).is_empty());
        assert_eq!(
            paths(json!({ "list": [1] }), json!({ "list": [] })),
            ["list"]
        );
    }

    #[test]
    fn another_name_is_told_once_and_what_was_found_can_be_put_in() {
        let declared = map(json!({ "name": "a", "settings": { "delay": 5 } }));
        let differences = compare(
            "a",
            &declared,
            &seen("b", json!({ "name": "b", "settings": { "delay": 9 } })),
        );
        assert_eq!(differences.len(), 2);
        assert_eq!(
            as_found(&declared, &differences),
            map(json!({ "name": "b", "settings": { "delay": 9 } }))
        );
    }
}
