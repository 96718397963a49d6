//! The bindings of a deployed Worker beside those that were uploaded. Secrets are compared by name and presence: no call shows
//! them.

use serde_json::Value as Json;

use super::{super::props, assets, bindings, plain_bindings::MARK};
use crate::{
    model::{Map, Value, schema::camel_case},
    provider::{Difference, Existing, Observation},
};

/// Types whose bindings may name a script, and mean the Worker's own class where they do not.
const OF_SCRIPTS: [&str; 2] = ["durable_object_namespace", "workflow"];

/// The bindings of a script's settings by name.
pub(super) fn found(settings: &Json, worker: &str) -> Value {
    let list = settings.get("bindings").and_then(Json::as_array);
    let named = list.into_iter().flatten().filter_map(|binding| {
        let name = props::text(binding, "name")?;
        Some((name.to_owned(), plain(binding.clone(), worker)))
    });
    Value::Map(named.collect())
}

/// A binding of the API as a value: without its name, and with every field that the API leaves out or spells in two ways.
fn plain(mut binding: Json, worker: &str) -> Value {
    let kind = props::text(&binding, "type").unwrap_or_default().to_owned();
    if let Some(fields) = binding.as_object_mut() {
        fields.remove("name");
        if kind == "d1"
            && let Some(id) = fields.remove("database_id")
        {
            fields.entry("id").or_insert(id);
        }
        if OF_SCRIPTS.contains(&kind.as_str()) {
            fields.entry("script_name").or_insert(Json::from(worker));
        }
        fields.retain(|_, value| !value.is_null());
    }
    Value::from_plain_json(binding)
}

/// The bindings that state has and those that are there. One that nobody declared counts unless its type is kept, as the next
/// upload takes it away.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let Some(found) = props::map_prop(&seen.props, "bindings") else {
        return Vec::new();
    };
    let worker = existing.physical_name.as_str();
    let none = Map::new();
    let declared = props::map_prop(&existing.props, "bindings").unwrap_or(&none);
    let mut wanted: Map = declared
        .iter()
        .map(|(name, value)| {
            let shown = bindings::shown(name, value, worker);
            let shown = shown.map_or(Value::Null, |shown| plain(shown, worker));
            (name.clone(), shown)
        })
        .collect();
    if let Some(binding) = assets::binding(&existing.props)
        && let Some(name) = props::text(&binding, "name")
    {
        wanted.insert(name.to_owned(), plain(binding.clone(), worker));
    }
    let difference = |name: &str, state: Value, found: Value| Difference {
        path: vec!["bindings".to_owned(), name.to_owned()],
        state,
        found,
    };
    let mut out = Vec::new();
    for (name, wanted) in &wanted {
        match found.get(name) {
            None => out.push(difference(name, brief(wanted), Value::Null)),
            Some(there) if differs(wanted, there) => {
                let (state, found) = told(wanted, there);
                out.push(difference(name, state, found));
            }
            Some(_) => {}
        }
    }
    let kept = existing.props.get("keepBindings").and_then(Value::as_array);
    let kept = kept.unwrap_or_default();
    for (name, there) in found {
        let kind = there.at(&["type".to_owned()]);
        if !wanted.contains_key(name) && !kind.is_some_and(|kind| kept.contains(kind)) {
            out.push(difference(name, Value::Null, brief(there)));
        }
    }
    out
}

/// Whether a field that both show is not the same. A wanted one of which nothing is known differs in nothing.
fn differs(wanted: &Value, there: &Value) -> bool {
    let (Some(wanted), Some(there)) = (wanted.as_map(), there.as_map()) else {
        return false;
    };
    wanted.iter().any(|(field, value)| {
        there.get(field).is_some_and(|found| {
            let same_number = number(value).is_some() && number(value) == number(found);
            value != found && !same_number
        })
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// Two bindings as the user knows them: text and data by themselves. What takes the place of a secret may be one, too.
fn told(wanted: &Value, there: &Value) -> (Value, Value) {
    let kind = |value: &Value| value.at(&["type".to_owned()]).cloned();
    let secret = Some(Value::from("secret_text"));
    if kind(wanted) == kind(there) {
        for field in ["text", "json"] {
            let field = [field.to_owned()];
            if let (Some(wanted), Some(there)) = (wanted.at(&field), there.at(&field)) {
                return (wanted.clone(), there.clone());
            }
        }
    } else if kind(wanted) == secret {
        let kind = Map::from([("type".to_owned(), kind(there).unwrap_or_default())]);
        return (brief(wanted), Value::Map(kind));
    }
    (brief(wanted), brief(there))
}

/// A binding in short: text and data stand for themselves.
fn brief(binding: &Value) -> Value {
    for field in ["text", "json"] {
        if let Some(value) = binding.at(&[field.to_owned()]) {
            return value.clone();
        }
    }
    binding.clone()
}

/// A binding as a script writes it: text and data as they are, anything else by its type and fields; none where it is a secret.
pub(super) fn written(binding: Value, worker: &str) -> Option<Value> {
    let Value::Map(mut fields) = binding else {
        return None;
    };
    let kind = fields.remove("type")?;
    match kind.as_str()? {
        "secret_text" | "secret_key" => return None,
        "plain_text" => return fields.remove("text"),
        "json" => match fields.remove("json") {
            Some(data @ (Value::Map(_) | Value::Array(_) | Value::Bool(_) | Value::Int(_))) => {
                return Some(data);
            }
            data => {
                fields = Map::from([("json".to_owned(), data.unwrap_or_default())]);
            }
        },
        _ => {}
    }
    if fields.get("script_name").and_then(Value::as_str) == Some(worker) {
        fields.remove("script_name");
    }
    let mut out: Map = fields
        .into_iter()
        .map(|(key, value)| (camel_case(&key), value))
        .collect();
    out.insert(MARK.to_owned(), kind);
    Some(Value::Map(out))
}
