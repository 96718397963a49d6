//! Asks the process that runs a folder's Workers about instances of workflows, which live nowhere else.

use std::{path::Path, time::Duration};

use serde_json::Value;

use super::{host::Beacon, inside::install_tls};
use crate::util::fs::FsError;

/// How long one answer may take; shorter than what a request to the API may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// No server runs over the folder.
    #[error("nothing runs the Workers of this project")]
    NotServed,
    /// The server says why it cannot.
    #[error("{0}")]
    Unavailable(String),
    /// The instance does not do that.
    #[error("{0}")]
    Refused(String),
    /// The server gives no sensible answer.
    #[error("the server of this project does not answer as expected: {0}")]
    Answer(String),
    /// The file that names the server cannot be read.
    #[error(transparent)]
    File(#[from] FsError),
}

/// Sends `question`, in the form of `workflows.js`, and answers its result.
///
/// # Errors
/// [`InstanceError`].
pub async fn ask_instances(folder: &Path, question: &Value) -> Result<Value, InstanceError> {
    let beacon = Beacon::find(folder)?.ok_or(InstanceError::NotServed)?;
    install_tls();
    let unexpected = |error: reqwest::Error| InstanceError::Answer(error.to_string());
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(unexpected)?;
    let (name, value) = beacon.header();
    let request = client
        .post(beacon.url("/workflow"))
        .header(name, value)
        .body(question.to_string());
    let answer = match request.send().await {
        Ok(answer) => answer,
        // It was killed and left its file behind.
        Err(error) if error.is_connect() => return Err(InstanceError::NotServed),
        Err(error) => return Err(unexpected(error)),
    };
    match answer.status().as_u16() {
        200 => {}
        // The port is somebody else's now.
        403 => return Err(InstanceError::NotServed),
        _ => {
            let text = answer.text().await.map_err(unexpected)?;
            return Err(InstanceError::Unavailable(text));
        }
    }
    let bytes = answer.bytes().await.map_err(unexpected)?;
    let mut answer: Value =
        serde_json::from_slice(&bytes).map_err(|error| InstanceError::Answer(error.to_string()))?;
    match answer["error"].take() {
        Value::String(message) => Err(InstanceError::Refused(message)),
        _ => Ok(answer["result"].take()),
    }
}
