//! Calls `scheduled` of a Worker that another process of this program runs.

use std::path::Path;

use serde_json::json;

use super::{
    host::Beacon,
    inside::{Called, install_tls},
};
use crate::util::fs::FsError;

/// Why a Worker was not called, or failed.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// No server runs over the folder.
    #[error("nothing runs the Workers of this project")]
    NotServed,
    /// The server does not run this Worker.
    #[error("no Worker `{0}` runs")]
    Absent(String),
    /// The Worker has no such handler.
    #[error("the Worker `{0}` has no `scheduled` handler")]
    NoHandler(String),
    /// It failed.
    #[error("`scheduled` of the Worker `{worker}` failed: {reason}")]
    Failed {
        /// The Worker.
        worker: String,
        /// What it threw, or the outcome.
        reason: String,
    },
    /// The server gives no sensible answer.
    #[error("the server of this project does not answer as expected: {0}")]
    Answer(String),
    /// The file that names the server cannot be read.
    #[error(transparent)]
    File(#[from] FsError),
}

/// Calls `scheduled` of `worker` as if the time of `cron` had come, and waits until it is done.
///
/// # Errors
/// [`TriggerError`], also when the Worker throws.
pub async fn trigger(folder: &Path, worker: &str, cron: &str) -> Result<(), TriggerError> {
    let beacon = Beacon::find(folder)?.ok_or(TriggerError::NotServed)?;
    install_tls();
    let unexpected = |error: reqwest::Error| TriggerError::Answer(error.to_string());
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(unexpected)?;
    let (name, value) = beacon.header();
    let request = client
        .post(beacon.url("/trigger"))
        .header(name, value)
        .body(json!({ "worker": worker, "cron": cron }).to_string());
    let answer = match request.send().await {
        Ok(answer) => answer,
        // It was killed and left its file behind.
        Err(error) if error.is_connect() => return Err(TriggerError::NotServed),
        Err(error) => return Err(unexpected(error)),
    };
    match answer.status().as_u16() {
        200 => {}
        // The port is somebody else's now.
        403 => return Err(TriggerError::NotServed),
        404 => return Err(TriggerError::Absent(worker.to_owned())),
        _ => {
            let text = answer.text().await.map_err(unexpected)?;
            return Err(TriggerError::Answer(text));
        }
    }
    let bytes = answer.bytes().await.map_err(unexpected)?;
    let called: Called =
        serde_json::from_slice(&bytes).map_err(|error| TriggerError::Answer(error.to_string()))?;
    if called.outcome == "ok" {
        return Ok(());
    }
    let reason = called.error.unwrap_or(called.outcome);
    if reason.contains("does not export a scheduled") {
        return Err(TriggerError::NoHandler(worker.to_owned()));
    }
    Err(TriggerError::Failed {
        worker: worker.to_owned(),
        reason,
    })
}
