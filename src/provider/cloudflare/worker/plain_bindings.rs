//! Bindings without an object of their own: rate limits, data sets of Analytics Engine, Workers AI and their like.
//!
//! Scripts make them with functions (`RateLimit(..)`), which answer a map that is marked with the type of the binding.

use serde_json::{Value as Json, json};

use super::super::props;
use crate::{
    model::{Map, Value, schema::snake_case},
    provider::{FailureKind, ProviderError},
};

/// The key whose value is the type of the binding.
pub const MARK: &str = "$binding";

/// The map of a marked binding, with its type.
pub(super) fn marked(value: &Value) -> Option<(&str, &Map)> {
    let map = value.as_map()?;
    Some((map.get(MARK)?.as_str()?, map))
}

/// The binding as an upload takes it; `worker` is the Worker that gets it.
pub(super) fn binding(
    name: &str,
    kind: &str,
    map: &Map,
    worker: &str,
) -> Result<Json, ProviderError> {
    let refused = |reason: String| {
        ProviderError::new(FailureKind::Refused, format!("binding `{name}`: {reason}"))
    };
    let mut out = json!({ "name": name, "type": kind });
    for key in map.keys().filter(|key| *key != MARK) {
        if kind == "service" && key == "service" {
            continue;
        }
        if let Some(value) = props::json_prop(map, key).map_err(|error| refused(error.message))? {
            out[snake_case(key)] = value;
        }
    }
    match (kind, map.get("service")) {
        ("service", Some(Value::Resource(view))) => {
            let name = props::known_output(&view.outputs, "name", view.fqn.as_str())?;
            out["service"] = json!(name);
        }
        ("service", Some(Value::String(name))) => out["service"] = json!(name),
        ("service", None) => out["service"] = json!(worker),
        ("service", Some(other)) => {
            return Err(refused(format!(
                "a service cannot be {}",
                other.type_name()
            )));
        }
        _ => {}
    }
    Ok(out)
}
