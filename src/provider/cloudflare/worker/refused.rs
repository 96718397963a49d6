//! What an upload was refused for, in the words of the script: which binding or tail consumer names something that is not
//! there. Cloudflare tells it by a code and, at best, by an id.

use serde_json::Value as Json;

use super::{
    super::{error::CallError, props},
    bindings,
};
use crate::{
    model::{Map, ResourceView, Value},
    provider::{FailureKind, OperationContext, ProviderError},
};

/// Code, type of binding, what it names, and the field that names it.
const TARGETS: [(i64, &str, &str, &str); 10] = [
    (10041, "kv_namespace", "KV namespace", "namespace_id"),
    (10181, "d1", "D1 database", "id"),
    (10085, "r2_bucket", "R2 bucket", "bucket_name"),
    (11000, "queue", "queue", "queue_name"),
    (10144, "service", "Worker", "service"),
    (10157, "hyperdrive", "Hyperdrive configuration", "id"),
    (10159, "vectorize", "Vectorize index", "index_name"),
    (10182, "secrets_store_secret", "secret", "secret_name"),
    (
        100_119,
        "dispatch_namespace",
        "dispatch namespace",
        "namespace",
    ),
    (100_143, "mtls_certificate", "certificate", "certificate_id"),
];
/// A tail consumer is not there.
const NO_TAIL: i64 = 10203;
/// The same, as uploads of code say it.
const NO_SCRIPT: i64 = 10007;

/// The failure of an upload of code.
pub(super) fn upload(context: &OperationContext, props: &Map, error: CallError) -> ProviderError {
    if error.has_code(NO_SCRIPT) {
        // An upload makes the Worker itself, so it is another one that is missing.
        return tail(context, props, error);
    }
    settings(context, props, error)
}

/// The failure of a change of settings.
pub(super) fn settings(context: &OperationContext, props: &Map, error: CallError) -> ProviderError {
    if error.has_code(NO_TAIL) {
        return tail(context, props, error);
    }
    let target = TARGETS.iter().find(|(code, ..)| error.has_code(*code));
    let error = ProviderError::from(error);
    let Some((_, kind, what, field)) = target else {
        return error;
    };
    let all = bindings::bindings(props, &context.physical_name).unwrap_or_default();
    let of_kind: Vec<&Json> = all
        .iter()
        .filter(|binding| props::text(binding, "type") == Some(kind))
        .collect();
    let named = |binding: &&&Json| {
        let id = props::text(binding, field);
        id.is_some_and(|id| error.message.contains(id))
    };
    let chosen = match of_kind[..] {
        [only] => Some(only),
        _ => of_kind.iter().find(named).copied(),
    };
    let Some(binding) = chosen else {
        let names: Vec<String> = of_kind
            .iter()
            .filter_map(|binding| Some(format!("`{}`", props::text(binding, "name")?)))
            .collect();
        if names.is_empty() {
            return error;
        }
        let message = format!(
            "one of the bindings {} names a {what} that is not there: {}",
            names.join(", "),
            error.message
        );
        return absent(message, GONE.to_owned(), error);
    };
    let name = props::text(binding, "name").unwrap_or_default();
    let given = props::map_prop(props, "bindings").and_then(|map| map.get(name));
    let view = given.and_then(|value| resource(value, field));
    let id = props::text(binding, field).unwrap_or_default();
    missing(
        context,
        what,
        view,
        id,
        &format!("bound as `{name}`"),
        error,
    )
}

/// What to do about something that is gone, or was never there.
const GONE: &str =
    "`alch run --refresh` makes again what state knows; correct the name of anything else";

fn tail(context: &OperationContext, props: &Map, error: CallError) -> ProviderError {
    let error = ProviderError::from(error);
    let consumers = props.get("tailConsumers").and_then(Value::as_array);
    let consumers = consumers.unwrap_or_default();
    let name = |value: &Value| match value {
        Value::Resource(view) => view.physical_name.clone(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let chosen = match consumers {
        [only] => Some(only),
        _ => consumers
            .iter()
            .find(|value| error.message.contains(&format!("`{}`", name(value)))),
    };
    match chosen {
        Some(value) => {
            let view = match value {
                Value::Resource(view) => Some(view.as_ref()),
                _ => None,
            };
            let place = "named by `tailConsumers`";
            missing(context, "Worker", view, &name(value), place, error)
        }
        None if consumers.is_empty() => error,
        None => {
            let names: Vec<String> = consumers
                .iter()
                .map(|it| format!("`{}`", name(it)))
                .collect();
            let message = format!(
                "one of the Workers {}, named by `tailConsumers`, is not there",
                names.join(", ")
            );
            absent(message, GONE.to_owned(), error)
        }
    }
}

/// The resource that a binding is given, by itself or in a description of the binding.
fn resource<'a>(value: &'a Value, field: &str) -> Option<&'a ResourceView> {
    match value {
        Value::Resource(view) => Some(view),
        Value::Map(map) => match map.get(field) {
            Some(Value::Resource(view)) => Some(view),
            _ => None,
        },
        _ => None,
    }
}

fn missing(
    context: &OperationContext,
    what: &str,
    view: Option<&ResourceView>,
    id: &str,
    place: &str,
    error: ProviderError,
) -> ProviderError {
    let Some(view) = view else {
        let message = format!("there is no {what} `{id}`, {place}");
        let help = format!(
            "if the script declares this {what}, give its handle in place of the text, so that it is made first; else correct the text"
        );
        return absent(message, help, error);
    };
    let (name, resource) = (&view.physical_name, view.fqn.within_stage());
    if context.made.has(id) || context.made.has(name) {
        let message = format!("the {what} `{name}` of `{resource}`, {place}, cannot be seen yet");
        return absent(message, "run again in a moment".to_owned(), error);
    }
    let message = format!("the {what} `{name}` of `{resource}`, {place}, is in state, but gone");
    let help = "`alch run --refresh` makes it again".to_owned();
    absent(message, help, error)
}

fn absent(message: String, help: String, error: ProviderError) -> ProviderError {
    ProviderError {
        kind: FailureKind::Refused,
        message,
        help: Some(help),
        ..error
    }
}
