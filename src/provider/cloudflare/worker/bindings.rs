//! Bindings: what a Worker's code finds in `env`, from plain values, secrets and handles.

use serde_json::{Value as Json, json};

use super::{
    super::{
        d1_database, durable_object_namespace, hyperdrive, kv_namespace, props, queue, r2_bucket,
        secrets_store, vectorize_index, workflow,
    },
    plain_bindings,
};
use crate::{
    model::{Map, ResourceView, Secret, Value},
    provider::{FailureKind, PropError, ProviderError, text_prop},
};

/// Merges `env` into `bindings` and refuses what cannot be bound.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let mut all = match props.remove("bindings") {
        Some(Value::Map(map)) => map,
        _ => Map::new(),
    };
    check(&all, "bindings", errors);
    if let Some(Value::Map(env)) = props.remove("env") {
        check(&env, "env", errors);
        for (name, value) in env {
            if all.contains_key(&name) {
                errors.push(PropError {
                    path: vec!["env".to_owned(), name.clone()],
                    message: format!("`{name}` stands in `bindings` too"),
                    help: Some("keep one of them".to_owned()),
                    at_key: true,
                });
            }
            all.insert(name, value);
        }
    }
    all.retain(|_, value| *value != Value::Null);
    if !all.is_empty() {
        props.insert("bindings".to_owned(), Value::Map(all));
    }
}

fn check(map: &Map, prop: &str, errors: &mut Vec<PropError>) {
    for (name, value) in map {
        let problem = if name.is_empty() {
            Some("a binding needs a name")
        } else if matches!(value, Value::Bytes(_)) {
            Some("a blob cannot be bound: pass it as base64 text")
        } else if plain_bindings::marked(value).is_some() {
            None
        } else if matches!(value, Value::Map(_) | Value::Array(_)) {
            inside(value)
        } else {
            None
        };
        if let Some(problem) = problem {
            errors.push(props::mistake(&[prop, name], problem, None));
        } else if !name.is_empty() && !is_name(name) {
            errors.push(PropError {
                path: vec![prop.to_owned(), name.clone()],
                message: format!("`{}` is no name for a binding", name.escape_debug()),
                help: Some(
                    "Workers read it as `env.NAME`: letters, digits, `_` and `$`, no digit first"
                        .to_owned(),
                ),
                at_key: true,
            });
        }
    }
}

/// Whether a name is an identifier of JavaScript, as Cloudflare asks for. Dashes and dots are let through: variables and
/// secrets have them, and `env["my-var"]` reads them.
fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || matches!(c, '_' | '$');
    name.starts_with(first)
        && name
            .chars()
            .all(|c| first(c) || c.is_numeric() || matches!(c, '-' | '.'))
}

/// What is wrong with a leaf inside bound data.
fn inside(value: &Value) -> Option<&'static str> {
    match value {
        Value::Array(items) => items.iter().find_map(inside),
        Value::Map(map) => map.values().find_map(inside),
        Value::Secret(_) => {
            Some("a secret inside data would be shown in the dashboard: bind it by itself")
        }
        Value::Ref(reference) if reference.path.is_empty() => {
            Some("a resource inside data is no binding: bind it by itself, or pass an attribute")
        }
        Value::Bytes(_) => Some("a blob cannot be bound: pass it as base64 text"),
        _ => None,
    }
}

/// The bindings of `worker` as an upload takes them, sorted by name.
pub(super) fn bindings(props: &Map, worker: &str) -> Result<Vec<Json>, ProviderError> {
    let Some(map) = props::map_prop(props, "bindings") else {
        return Ok(Vec::new());
    };
    map.iter()
        .map(|(name, value)| match plain_bindings::marked(value) {
            Some((kind, map)) => plain_bindings::binding(name, kind, map, worker),
            None => binding(name, value),
        })
        .collect()
}

fn binding(name: &str, value: &Value) -> Result<Json, ProviderError> {
    let refused = |reason: String| {
        ProviderError::new(FailureKind::Refused, format!("binding `{name}`: {reason}"))
    };
    match value {
        Value::String(text) => Ok(json!({ "name": name, "type": "plain_text", "text": text })),
        Value::Secret(Secret::Plain(text)) => {
            Ok(json!({ "name": name, "type": "secret_text", "text": text.as_str() }))
        }
        Value::Resource(view) => resource(name, view),
        other => {
            // A secret that came out of another resource was not there to be seen when the props were checked.
            if let Some(problem) = inside(other) {
                return Err(refused(problem.to_owned()));
            }
            let data = other
                .to_plain_json()
                .map_err(|error| refused(error.to_string()))?;
            Ok(json!({ "name": name, "type": "json", "json": data }))
        }
    }
}

/// A recorded binding as the API shows it, secrets by their presence alone; none where only a run knows it.
pub(super) fn shown(name: &str, value: &Value, worker: &str) -> Option<Json> {
    if matches!(value, Value::Secret(_)) {
        return Some(json!({ "name": name, "type": "secret_text" }));
    }
    let mut known = true;
    value.visit_references(&mut |_| known = false);
    let made = match plain_bindings::marked(value).filter(|_| known) {
        Some((kind, map)) => plain_bindings::binding(name, kind, map, worker),
        None if known => binding(name, value),
        None => return None,
    };
    made.ok()
}

fn objects(name: &str, view: &ResourceView) -> Result<Json, ProviderError> {
    let class = props::known_output(&view.outputs, "className", view.fqn.as_str())?;
    let mut binding =
        json!({ "name": name, "type": "durable_object_namespace", "class_name": class });
    for (output, field) in [
        ("scriptName", "script_name"),
        ("environment", "environment"),
        ("namespaceId", "namespace_id"),
    ] {
        if let Some(text) = text_prop(&view.outputs, output) {
            binding[field] = json!(text);
        }
    }
    Ok(binding)
}

fn resource(name: &str, view: &ResourceView) -> Result<Json, ProviderError> {
    let output = |key: &str| props::known_output(&view.outputs, key, view.fqn.as_str());
    Ok(match &*view.kind {
        kv_namespace::KIND => {
            json!({ "name": name, "type": "kv_namespace", "namespace_id": output("id")? })
        }
        d1_database::KIND => json!({ "name": name, "type": "d1", "id": output("id")? }),
        r2_bucket::KIND => {
            let mut binding =
                json!({ "name": name, "type": "r2_bucket", "bucket_name": output("name")? });
            if let Some(place) = text_prop(&view.outputs, "jurisdiction")
                && place != "default"
            {
                binding["jurisdiction"] = json!(place);
            }
            binding
        }
        queue::KIND => json!({ "name": name, "type": "queue", "queue_name": output("name")? }),
        durable_object_namespace::KIND => objects(name, view)?,
        workflow::KIND => {
            let class = output("className")?;
            let mut binding = json!({ "name": name, "type": "workflow", "workflow_name": output("name")?, "class_name": class });
            if let Some(script) = text_prop(&view.outputs, "scriptName") {
                binding["script_name"] = json!(script);
            }
            binding
        }
        super::KIND => json!({ "name": name, "type": "service", "service": output("name")? }),
        hyperdrive::KIND => json!({ "name": name, "type": "hyperdrive", "id": output("id")? }),
        vectorize_index::KIND => {
            json!({ "name": name, "type": "vectorize", "index_name": output("name")? })
        }
        secrets_store::SECRET => json!({
            "name": name,
            "type": "secrets_store_secret",
            "store_id": output("storeId")?,
            "secret_name": output("name")?,
        }),
        other => {
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!("binding `{name}`: a {other} cannot be bound to a Worker"),
            )
            .with_help("pass one of its attributes instead of the whole resource"));
        }
    })
}
