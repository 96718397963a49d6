//! The metadata part of an upload: everything about a version but its modules.

use serde_json::{Map as JsonMap, Value as Json, json};

use super::{super::props, assets, bindings, modules};
use crate::{
    bundle::Format,
    model::{Fqn, Map, Value, schema::snake_case},
    provider::{OperationContext, ProviderError},
};

/// What the mark of every Worker made by this program begins with.
pub(super) const MARK: &str = "alch:";
/// Longest mark that names the resource in clear.
const MARK_LIMIT: usize = 128;

/// The tag that says which resource made a Worker. Names that a tag cannot hold are hashed.
pub(super) fn mark(fqn: &Fqn) -> String {
    let plain = fqn
        .as_str()
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if plain && fqn.as_str().len() + MARK.len() <= MARK_LIMIT {
        format!("{MARK}{fqn}")
    } else {
        let hash = blake3::hash(fqn.as_str().as_bytes()).to_hex();
        format!("{MARK}hash:{}", &hash[..32])
    }
}

/// Whether the tags of a Worker say that the stage of `fqn` made it. Not where its mark is a hash.
pub(super) fn same_stage(fqn: &Fqn, tags: &[String]) -> bool {
    let start = format!("{MARK}{}/", fqn.stage());
    tags.iter().any(|tag| tag.starts_with(&start))
}

pub(super) fn metadata(
    context: &OperationContext,
    props: &Map,
    main_module: &str,
) -> Result<Json, ProviderError> {
    let mut tags = vec![json!(mark(&context.fqn))];
    if let Some(Json::Array(more)) = props::json_prop(props, "tags")? {
        tags.extend(more);
    }
    let mut bindings = bindings::bindings(props, &context.physical_name)?;
    bindings.extend(assets::binding(props));
    let mut out = json!({ "bindings": bindings, "tags": tags });
    // A Worker of assets alone has no code.
    if !main_module.is_empty() {
        let main = match modules::format(props) {
            Format::Modules => "main_module",
            Format::Script => "body_part",
        };
        out[main] = json!(main_module);
    }
    // What is not declared goes: without this secrets would stay bound.
    let kept = props::json_prop(props, "keepBindings")?;
    out["keep_bindings"] = kept.unwrap_or_else(|| json!([]));
    if let Some(cache) = props::json_prop(props, "cache")? {
        out["cache_options"] = snake_keys(cache);
    }
    let consumers = props.get("tailConsumers").and_then(Value::as_array);
    if let Some(consumers) = consumers {
        let service = |value: &Value| match value {
            Value::Resource(view) => {
                let name = props::known_output(&view.outputs, "name", view.fqn.as_str())?;
                Ok(json!({ "service": name }))
            }
            other => Ok(json!({ "service": other.as_str().unwrap_or_default() })),
        };
        let list: Result<Vec<Json>, ProviderError> = consumers.iter().map(service).collect();
        out["tail_consumers"] = json!(list?);
    }
    for prop in [
        "compatibilityDate",
        "compatibilityFlags",
        "placement",
        "observability",
        "limits",
        "logpush",
    ] {
        if let Some(value) = props::json_prop(props, prop)? {
            out[snake_case(prop)] = snake_keys(value);
        }
    }
    Ok(out)
}

fn snake_keys(json: Json) -> Json {
    match json {
        Json::Object(map) => Json::Object(
            map.into_iter()
                .map(|(key, value)| (snake_case(&key), snake_keys(value)))
                .collect::<JsonMap<_, _>>(),
        ),
        other => other,
    }
}
