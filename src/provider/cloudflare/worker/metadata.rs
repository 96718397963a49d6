//! The metadata part of an upload: everything about a version but its modules.

use serde_json::{Map as JsonMap, Value as Json, json};

use super::{super::props, bindings, modules};
use crate::{
    bundle::Format,
    model::{Fqn, Map, schema::snake_case},
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

pub(super) fn metadata(
    context: &OperationContext,
    props: &Map,
    main_module: &str,
) -> Result<Json, ProviderError> {
    let mut tags = vec![json!(mark(&context.fqn))];
    if let Some(Json::Array(more)) = props::json_prop(props, "tags")? {
        tags.extend(more);
    }
    let main = match modules::format(props) {
        Format::Modules => "main_module",
        Format::Script => "body_part",
    };
    let mut out = json!({
        main: main_module,
        "bindings": bindings::bindings(props, &context.physical_name)?,
        // What is not declared goes: without this secrets would stay bound.
        "keep_bindings": [],
        "tags": tags,
    });
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
