//! Tells whoever deployed when what is deployed answers requests.
//!
//! Each question takes a ticket. The supervisor notes the newest ticket before it reads what is deployed, and answers up to
//! it when that is what runs, or cannot run. So an answer is about everything that was written before the question was
//! asked, by whatever process, and nobody needs to number versions.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use super::{host::Beacon, inside::install_tls};
use crate::util::fs::FsError;

/// How long a question waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long the process that asks waits for the one that answers; longer than that waits itself.
const ANSWER: Duration = Duration::from_secs(20);

/// What became of what is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Settled {
    /// No server runs the Workers: nobody waits for anything.
    #[default]
    NotServed,
    /// Requests are answered by what is deployed, but for these Workers, which cannot start.
    Serving {
        /// Each with what `workerd` said.
        broken: Vec<BrokenWorker>,
    },
    /// Nothing runs.
    Failed {
        /// Why.
        reason: String,
    },
    /// The server is still at it.
    Late,
}

/// A Worker that cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenWorker {
    /// Its name; that of a version with a smaller share ends with `@` and the id of the version.
    pub worker: String,
    /// What `workerd` said.
    pub reason: String,
}

/// Where questions are put and answered within the process that runs the Workers.
#[derive(Debug)]
pub(super) struct Desk {
    asked: watch::Sender<u64>,
    answered: watch::Sender<(u64, Settled)>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(0),
            answered: watch::Sender::new((0, Settled::NotServed)),
        }
    }
}

impl Desk {
    /// Asks what becomes of what is deployed by now.
    pub(super) async fn ask(&self, patience: Duration) -> Settled {
        let mut ticket = 0;
        let mut answers = self.answered.subscribe();
        self.asked.send_modify(|newest| {
            *newest += 1;
            ticket = *newest;
        });
        let answer = answers.wait_for(|(newest, _)| *newest >= ticket);
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => answer.1.clone(),
            // The supervisor is gone, or does not come to its end.
            Ok(Err(_)) | Err(_) => Settled::Late,
        }
    }

    /// The newest ticket: an answer that is read from the control database after this may be given for it.
    pub(super) fn newest(&self) -> u64 {
        *self.asked.borrow()
    }

    /// Waits for a question that is newer than `ticket`.
    pub(super) async fn newer_than(&self, ticket: u64) {
        let mut asked = self.asked.subscribe();
        if asked.wait_for(|newest| *newest > ticket).await.is_err() {
            // Only when the desk itself is gone, and with it who waits here.
            std::future::pending::<()>().await;
        }
    }

    /// Answers all questions up to `ticket`.
    pub(super) fn answer(&self, ticket: u64, settled: Settled) {
        self.answered.send_replace((ticket, settled));
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SettledError {
    /// The server gives no sensible answer.
    #[error("the server of this project does not answer as expected: {0}")]
    Answer(String),
    /// The file that names the server cannot be read.
    #[error(transparent)]
    File(#[from] FsError),
}

/// Asks the process that runs a folder's Workers, wherever it is, and waits at most [`PATIENCE`] until it has settled.
///
/// # Errors
/// [`SettledError`].
pub async fn settled(folder: &Path) -> Result<Settled, SettledError> {
    let Some(beacon) = Beacon::find(folder)? else {
        return Ok(Settled::NotServed);
    };
    install_tls();
    let unexpected = |error: reqwest::Error| SettledError::Answer(error.to_string());
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER)
        .build()
        .map_err(unexpected)?;
    let (name, value) = beacon.header();
    let request = client.post(beacon.url("/settled")).header(name, value);
    let answer = match request.send().await {
        Ok(answer) => answer,
        // It was killed and left its file behind.
        Err(error) if error.is_connect() => return Ok(Settled::NotServed),
        Err(error) if error.is_timeout() => return Ok(Settled::Late),
        Err(error) => return Err(unexpected(error)),
    };
    match answer.status().as_u16() {
        200 => {}
        // The port is somebody else's now.
        403 => return Ok(Settled::NotServed),
        status => {
            return Err(SettledError::Answer(format!("HTTP status {status}")));
        }
    }
    let bytes = answer.bytes().await.map_err(unexpected)?;
    serde_json::from_slice(&bytes).map_err(|error| SettledError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving() -> Settled {
        Settled::Serving { broken: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_an_older_question_is_none_to_a_newer_one() {
        let desk = Desk::default();
        let first = desk.ask(PATIENCE);
        tokio::pin!(first);
        assert!(futures::poll!(&mut first).is_pending());
        let ticket = desk.newest();
        desk.newer_than(ticket - 1).await;
        let second = desk.ask(PATIENCE);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        desk.answer(ticket, serving());
        assert_eq!(first.await, serving());
        assert!(futures::poll!(&mut second).is_pending());
        desk.answer(desk.newest(), Settled::Late);
        assert_eq!(second.await, Settled::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let desk = Desk::default();
        assert_eq!(desk.ask(PATIENCE).await, Settled::Late);
    }

    #[test]
    fn answers_travel_between_processes() {
        for settled in [
            Settled::NotServed,
            serving(),
            Settled::Late,
            Settled::Failed {
                reason: "no".to_owned(),
            },
        ] {
            let text = serde_json::to_vec(&settled).unwrap();
            assert_eq!(serde_json::from_slice::<Settled>(&text).unwrap(), settled);
        }
    }
}
