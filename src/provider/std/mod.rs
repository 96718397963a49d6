//! Kinds that need no cloud: commands, files, random strings, HTTP requests.
//!
//! What they do on this machine and on the network needs permission: each kind says what that is, and the engine asks
//! before a resource is declared and before every operation.

pub mod exec;
pub mod file;
pub mod http_request;
pub mod random_string;

use std::sync::Arc;

use super::{FailureKind, ProviderError, Registry};
use crate::util::ids::SystemIds;

/// Adds every kind of this module to `registry`.
pub fn register(registry: &Registry) {
    registry.add(Arc::new(exec::Exec::new()));
    registry.add(Arc::new(file::File::new()));
    registry.add(Arc::new(random_string::RandomString::new(Arc::new(
        SystemIds,
    ))));
    registry.add(Arc::new(http_request::HttpRequest::new()));
}

/// Runs blocking work beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        ProviderError::new(
            FailureKind::Ambiguous,
            format!("the operation broke off: {error}"),
        )
    })?
}
