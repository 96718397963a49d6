//! Objects that stand under their id in one collection of the account: their path, one look at them, their deletion.
//!
//! For kinds that are more than a [`Shape`](super::object::Shape) can say.

use serde_json::Value as Json;

use super::{
    client::{Call, Client, encode},
    props,
};
use crate::{
    model::Map,
    provider::{Existing, OperationContext, ProviderError},
};

/// The path of an object.
///
/// # Errors
/// [`ProviderError`] where state does not hold its id.
pub(super) fn path(
    collection: &str,
    context: &OperationContext,
    existing: &Existing,
) -> Result<String, ProviderError> {
    let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
    Ok(format!("{collection}/{}", encode(id)))
}

/// The outputs of an object, read from what the API shows of it; none when it is not there.
///
/// # Errors
/// [`ProviderError`] of the call and of `outputs`.
pub(super) async fn read(
    client: &Client,
    collection: &str,
    context: &OperationContext,
    existing: &Existing,
    outputs: impl Fn(&Json, &str) -> Result<Map, ProviderError> + Send,
) -> Result<Option<Map>, ProviderError> {
    let call = Call::get(path(collection, context, existing)?);
    let answer = client.look(context, &call).await?;
    answer
        .map(|answer| outputs(&answer.result, &call.describe()))
        .transpose()
}

/// Deletes an object; one that is not there is deleted.
///
/// # Errors
/// [`ProviderError`] of the call.
pub(super) async fn delete(
    client: &Client,
    collection: &str,
    context: &OperationContext,
    existing: &Existing,
) -> Result<(), ProviderError> {
    let call = Call::delete(path(collection, context, existing)?);
    client.look(context, &call).await.map(drop)
}
