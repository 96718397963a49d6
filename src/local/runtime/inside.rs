//! The way to the events of a Worker that are no requests: `queue` and `scheduled`, called through the entry Worker.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::host::TOKEN;
use crate::local::api::queue_delivery::Batch;

/// How long a Worker may take: Cloudflare ends it after 15 minutes.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Why a Worker was not called.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsideError {
    /// The runtime does not answer.
    #[error("the runtime does not answer: {0}")]
    Connection(#[from] reqwest::Error),
    /// No Worker runs, or not this one.
    #[error("no Worker `{0}` runs")]
    Absent(String),
    /// The Worker of this workflow does not run.
    #[error("the Worker of the workflow `{0}` does not run")]
    NoWorkflow(String),
    /// The client cannot be made.
    #[error("requests to the runtime cannot be made: {0}")]
    Client(String),
}

/// What became of an event.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Called {
    /// `ok`, `exception` ..
    pub(super) outcome: String,
    /// What was thrown, where it can be seen.
    pub(super) error: Option<String>,
    pub(super) retry_batch: RetryBatch,
    pub(super) explicit_acks: Vec<String>,
    pub(super) retry_messages: Vec<RetryMessage>,
}

/// Whether all messages of a batch are to be tried again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RetryBatch {
    pub(super) retry: bool,
    pub(super) delay_seconds: Option<i64>,
}

/// A message that is to be tried again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RetryMessage {
    pub(super) msg_id: String,
    pub(super) delay_seconds: Option<i64>,
}

/// Chooses the provider of TLS for the process: a client wants one, though it speaks to loopback only.
pub(super) fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::trace!("a TLS provider was installed at the same moment");
    }
}

/// The entry Worker, for this program alone.
#[derive(Debug)]
pub(super) struct Inside {
    client: reqwest::Client,
    address: SocketAddr,
    token: String,
}

impl Inside {
    pub(super) fn new(address: SocketAddr, token: String) -> Result<Self, InsideError> {
        install_tls();
        let client = reqwest::Client::builder()
            .no_proxy()
            // The process at the other end may be another one by the next call.
            .pool_max_idle_per_host(0)
            .timeout(LONGEST)
            .build()
            .map_err(|error| InsideError::Client(error.to_string()))?;
        Ok(Self {
            client,
            address,
            token,
        })
    }

    /// Calls `scheduled` of a Worker. `time` is in milliseconds since 1970.
    pub(super) async fn scheduled(
        &self,
        worker: &str,
        cron: &str,
        time: i64,
    ) -> Result<Called, InsideError> {
        let event = json!({ "event": "scheduled", "cron": cron, "scheduledTime": time });
        self.call(worker, event).await
    }

    /// Calls `queue` of a Worker.
    pub(super) async fn queue(&self, batch: &Batch) -> Result<Called, InsideError> {
        let messages: Vec<Value> = batch
            .messages
            .iter()
            .map(|message| {
                json!({
                    "id": message.id,
                    "timestamp": message.timestamp,
                    "attempts": message.attempts,
                    "contentType": message.content_type,
                    "body": message.body,
                })
            })
            .collect();
        let event =
            json!({ "event": "queue", "queue": batch.consumer.queue, "messages": messages });
        self.call(&batch.consumer.script, event).await
    }

    /// Does something with instances of the workflow that `wanted` names; the form is that of `workflows.js`.
    pub(super) async fn workflow(&self, mut wanted: Value) -> Result<Value, InsideError> {
        wanted["event"] = json!("workflow");
        let name = wanted["workflow"].as_str().unwrap_or_default().to_owned();
        self.send(&wanted, InsideError::NoWorkflow(name)).await
    }

    async fn call(&self, worker: &str, mut event: Value) -> Result<Called, InsideError> {
        event["worker"] = json!(worker);
        self.send(&event, InsideError::Absent(worker.to_owned()))
            .await
    }

    /// Sends an event. `absent` is the failure when nobody is there to take it.
    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        event: &Value,
        absent: InsideError,
    ) -> Result<T, InsideError> {
        let answer = self
            .client
            .post(format!("http://{}/", self.address))
            .header(TOKEN, &self.token)
            .body(event.to_string())
            .send()
            .await?;
        // While no Worker runs this program answers there itself, and not with JSON.
        if answer.status() != reqwest::StatusCode::OK {
            return Err(absent);
        }
        let bytes = answer.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|_| absent)
    }
}
