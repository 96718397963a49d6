//! Reading props and answers: text that must be known, JSON for requests, outputs from results.

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::{
    model::{Map, Value},
    provider::{FailureKind, PropError, ProviderError},
};

/// A mistake in the value of a prop.
pub(super) fn mistake(
    path: &[&str],
    message: impl Into<String>,
    help: impl Into<Option<String>>,
) -> PropError {
    PropError {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        message: message.into(),
        help: help.into(),
        at_key: false,
    }
}

/// The text of a prop that must be known before any call.
pub(super) fn known_text<'a>(props: &'a Map, key: &str) -> Result<Option<&'a str>, PropError> {
    match props.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(mistake(
            &[key],
            "it must be known before the run, and cannot come from an output of another resource",
            "write the text itself, or compute it from the id and the stage".to_owned(),
        )),
    }
}

/// Renames the second spelling of a prop to the first; both at once are a mistake.
pub(super) fn merge_alias(props: &mut Map, name: &str, alias: &str) -> Result<(), PropError> {
    let Some(value) = props.remove(alias) else {
        return Ok(());
    };
    if props.contains_key(name) {
        return Err(PropError {
            path: vec![alias.to_owned()],
            message: format!("`{alias}` is another word for `{name}`, which is given too"),
            help: Some("keep one of them".to_owned()),
            at_key: true,
        });
    }
    props.insert(name.to_owned(), value);
    Ok(())
}

/// A prop as JSON for a request.
pub(super) fn json_prop(props: &Map, key: &str) -> Result<Option<Json>, ProviderError> {
    props
        .get(key)
        .filter(|value| **value != Value::Null)
        .map(|value| {
            value.to_plain_json().map_err(|error| {
                ProviderError::new(FailureKind::Refused, format!("prop `{key}`: {error}"))
            })
        })
        .transpose()
}

/// A prop as a map; empty when it is not given.
pub(super) fn map_prop<'a>(props: &'a Map, key: &str) -> Option<&'a Map> {
    props.get(key).and_then(Value::as_map)
}

/// Text of a result.
pub(super) fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Json::as_str)
}

/// Text of a result without which nothing can go on.
pub(super) fn needed_text(json: &Json, key: &str, call: &str) -> Result<String, ProviderError> {
    text(json, key).map(str::to_owned).ok_or_else(|| {
        let mut error =
            ProviderError::new(FailureKind::Ambiguous, format!("the answer lacks `{key}`"))
                .with_help("run again: what did happen is found and kept");
        error.call = Some(call.to_owned());
        error
    })
}

/// An output that state must have.
pub(super) fn known_output<'a>(
    outputs: &'a Map,
    key: &str,
    what: &str,
) -> Result<&'a str, ProviderError> {
    outputs.get(key).and_then(Value::as_str).ok_or_else(|| {
        ProviderError::new(
            FailureKind::Refused,
            format!("the state of {what} lacks the output `{key}`"),
        )
        .with_help("remove it from the state with `alch state rm` and adopt it again")
    })
}

/// Copies fields of a result into outputs, under their output names, where they are there.
pub(super) fn copy(outputs: &mut Map, result: &Json, fields: &[(&str, &str)]) {
    for (from, to) in fields {
        match result.get(*from) {
            None | Some(Json::Null) => {}
            Some(value) => {
                outputs.insert((*to).to_owned(), Value::from_plain_json(value.clone()));
            }
        }
    }
}

/// A moment of a result.
pub(super) fn moment(result: &Json, key: &str) -> Option<Timestamp> {
    text(result, key)?.parse().ok()
}
