//! Workers as the list of an account's scripts shows them: whether the code is still the uploaded one, and the settings that the
//! list has.

use serde_json::Value as Json;

use super::super::props;
use crate::{
    model::{Map, Value},
    provider::{Difference, Existing, Observation, ProviderError, observe},
};

/// One item of the list. `call` is the call for messages.
pub(super) fn observation(item: &Json, call: &str) -> Result<Observation, ProviderError> {
    let name = props::needed_text(item, "id", call)?;
    let mut outputs = super::base_outputs(&name);
    props::copy(
        &mut outputs,
        item,
        &[
            ("created_on", "createdAt"),
            ("modified_on", "updatedAt"),
            ("etag", "etag"),
        ],
    );
    let mut seen = Map::new();
    props::copy(
        &mut seen,
        item,
        &[
            ("compatibility_date", "compatibilityDate"),
            ("compatibility_flags", "compatibilityFlags"),
            ("logpush", "logpush"),
        ],
    );
    Ok(Observation {
        id: name.clone(),
        physical_name: name,
        outputs,
        props: seen,
    })
}

/// What the list shows, without what a Worker has by itself.
pub(super) fn declarable(seen: &Observation) -> Map {
    let mut props = seen.props.clone();
    let none = |value: &Value| {
        matches!(value, Value::Bool(false)) || value.as_array().is_some_and(<[Value]>::is_empty)
    };
    props.retain(|_, value| !none(value));
    props
}

/// As the default, and by the hash that the provider gives the uploaded code.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut out = observe::compare(&existing.physical_name, &existing.props, seen);
    let hash = |outputs: &Map| {
        outputs
            .get("etag")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if let (Some(state), Some(found)) = (hash(&existing.outputs), hash(&seen.outputs))
        && state != found
    {
        out.push(Difference {
            path: vec!["code".to_owned()],
            state: Value::from(state),
            found: Value::from(found),
        });
    }
    out
}
