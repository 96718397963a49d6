//! What only one Worker can have, as a route or the messages of a queue, and another one has: whether it may be taken.
//!
//! Within one stage it may, because two resources that declare it are refused before anything is done
//! ([`Provider::claims`](crate::provider::Provider::claims)): who has it then gives it up in the same run, later perhaps
//! than the one who gets it. What is taken is deleted and made anew, so that the former owner, which knows the old object
//! by its id, does not delete the new one.

use super::{
    super::client::{Call, Client},
    metadata, path, tags,
};
use crate::{
    model::Map,
    provider::{OperationContext, ProviderError},
};

/// Whether what leads to the Worker already stays as it is: it was declared before (`listed`), or nothing is known of what
/// was, as with a Worker that is taken over. Otherwise a resource of its own may have made it, and is deleted after this.
pub(super) fn stays(before: Option<&Map>, listed: bool) -> bool {
    listed || before.is_some_and(Map::is_empty)
}

/// Whether Worker `holder` was made by the stage of `context`'s resource, and so gives up what that one declares.
pub(super) async fn may_take(
    client: &Client,
    context: &OperationContext,
    holder: Option<&str>,
) -> Result<bool, ProviderError> {
    let Some(holder) = holder else {
        return Ok(false);
    };
    let settings = Call::get(path(holder, "/settings"));
    let answer = client.look(context, &settings).await?;
    Ok(answer.is_some_and(|answer| metadata::same_stage(&context.fqn, &tags(&answer.result))))
}
