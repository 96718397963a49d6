//! Keeps the Workers of a folder running: starts `workerd` when the first one is deployed, again when what is deployed
//! changes or the process dies, and not at all when there is none.
//!
//! The listening socket belongs to this program and is handed to each process, so a connection during a restart waits and is
//! never refused. While there is nothing to run, and after a failure, this program answers on it itself.
//!
//! One Worker that cannot start must not take the others along: the one that `workerd` complains about is replaced by one
//! that says why, and the start is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    config::Config,
    deployments::Deployments,
    event::{Event, RuntimeError},
    gate::Gate,
    host::Link,
    inside::Inside,
    launch::{Binary, print},
    process::{Printed, Process},
    reserve::Locks,
    resume::resume,
    settled::{BrokenWorker, Desk, Settled},
    start::{Listener, RuntimeOptions},
};
use crate::local::api::DeployedWorker;

/// How often it is looked whether somebody wrote to the control database.
const POLL: Duration = Duration::from_millis(100);
/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A process that ran this long is sound: the next failure starts from the first wait.
const SOUND: Duration = Duration::from_secs(30);

/// Why a run of one configuration is over.
enum Next {
    /// What is deployed changed.
    Changed,
    /// The user wants an end.
    Stop,
    /// It failed, and is to be tried again after a wait.
    Failed(RuntimeError),
}

pub(super) struct Supervisor {
    pub(super) inside: Arc<Inside>,
    pub(super) options: RuntimeOptions,
    pub(super) address: SocketAddr,
    pub(super) listener: TcpListener,
    pub(super) link: Link,
    pub(super) deployments: Deployments,
    pub(super) listen: Listener,
    /// Where those wait who deployed.
    pub(super) desk: Arc<Desk>,
    pub(super) stop: CancellationToken,
    pub(super) binary: Option<Binary>,
    /// Versions that cannot start, by the names of their services: the version that could not, and the reason.
    pub(super) broken: BTreeMap<String, (String, String)>,
    pub(super) wait: Duration,
    /// What the user was told already.
    pub(super) told: BTreeSet<String>,
    /// The counter of writes before what is deployed was read.
    pub(super) counter: i64,
    /// The newest question before it was read.
    pub(super) ticket: u64,
    /// Held for as long as this runs.
    pub(super) _locks: Locks,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        loop {
            match self.once().await {
                Next::Stop => return,
                Next::Changed => self.wait = FIRST_WAIT,
                Next::Failed(error) => {
                    let page = format!("The Workers do not run: {error}\n");
                    // What npm could not obtain now it will not obtain in ten seconds: only a new deployment tries again.
                    let wait = match error {
                        RuntimeError::Package(_) => None,
                        _ => Some(self.wait),
                    };
                    // The first end of a process that did answer is over in a moment, in which requests rather wait.
                    let brief =
                        matches!(error, RuntimeError::Ended { .. }) && self.wait == FIRST_WAIT;
                    let reason = error.to_string();
                    (self.listen)(Event::Failed(error));
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                    if brief {
                        sleep(FIRST_WAIT).await;
                        continue;
                    }
                    let settled = Settled::Failed { reason };
                    self.desk.answer(self.ticket, settled.clone());
                    let pause = self.pause(wait, &settled);
                    self.answer(StatusCode::SERVICE_UNAVAILABLE, page, pause)
                        .await;
                    if self.stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    /// Runs what is deployed now until that changes.
    async fn once(&mut self) -> Next {
        self.ticket = self.desk.newest();
        self.counter = match self.deployments.counter().await {
            Ok(counter) => counter,
            Err(error) => return Next::Failed(error.into()),
        };
        let workers = match self.deployments.workers().await {
            Ok(workers) => workers,
            Err(error) => return Next::Failed(error.into()),
        };
        if workers.is_empty() {
            self.broken.clear();
            self.desk.answer(self.ticket, self.settled());
            let page =
                "No Worker is deployed here yet; `alch run` deploys the script of a folder.\n";
            let changed = self.changed(None);
            self.answer(StatusCode::NOT_FOUND, page.to_owned(), changed)
                .await;
            return if self.stop.is_cancelled() {
                Next::Stop
            } else {
                Next::Changed
            };
        }
        let stop = self.stop.clone();
        let begun = tokio::select! {
            // What has begun is dropped, which kills it.
            () = stop.cancelled() => return Next::Stop,
            begun = self.begin(&workers) => begun,
        };
        match begun {
            Ok((process, config)) => self.attend(process, &config, &workers).await,
            Err(error) => Next::Failed(error),
        }
    }

    /// Waits for the time to try again: after `wait`, when there is one, and when anybody deploys. Meanwhile `settled` is
    /// what became of what is deployed.
    async fn pause(&self, wait: Option<Duration>, settled: &Settled) {
        let over = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let written = async {
            let mut ticket = self.ticket;
            loop {
                let asked = self.desk.newest();
                if matches!(self.deployments.counter().await, Ok(now) if now != self.counter) {
                    break;
                }
                self.desk.answer(asked, settled.clone());
                ticket = ticket.max(asked);
                self.next_look(ticket).await;
            }
        };
        tokio::select! {
            () = over => {}
            () = written => {}
        }
    }

    /// Waits until what is deployed is no longer what `config` was written for.
    async fn changed(&self, config: Option<&Config>) {
        let mut counter = self.counter;
        let mut ticket = self.ticket;
        loop {
            self.next_look(ticket).await;
            let asked = self.desk.newest();
            // A database that cannot be read for a moment changes nothing; the next look decides.
            let Ok(now) = self.deployments.counter().await else {
                sleep(POLL).await;
                continue;
            };
            if now == counter {
                ticket = asked;
                self.desk.answer(ticket, self.settled());
                continue;
            }
            let Ok(workers) = self.deployments.workers().await else {
                sleep(POLL).await;
                continue;
            };
            counter = now;
            let same = match (config, &self.binary) {
                (Some(config), Some(binary)) => {
                    self.config(&workers, binary).fingerprint() == config.fingerprint()
                }
                _ => workers.is_empty(),
            };
            if !same {
                return;
            }
            ticket = asked;
            self.desk.answer(ticket, self.settled());
        }
    }

    /// Waits for the next look at the control database: soon, and at once when somebody asks who deployed.
    async fn next_look(&self, ticket: u64) {
        tokio::select! {
            () = sleep(POLL) => {}
            () = self.desk.newer_than(ticket) => {}
        }
    }

    /// What became of what is deployed when it runs, or when there is nothing to run.
    pub(super) fn settled(&self) -> Settled {
        let broken = self
            .broken
            .iter()
            .map(|(worker, (_, reason))| BrokenWorker {
                worker: worker.clone(),
                reason: reason.clone(),
            });
        Settled::Serving {
            broken: broken.collect(),
        }
    }

    async fn attend(
        &mut self,
        mut process: Process,
        config: &Config,
        workers: &[DeployedWorker],
    ) -> Next {
        let began = Instant::now();
        let print = |printed: Printed| print(&self.listen, printed);
        let next = {
            let changed = self.changed(Some(config));
            tokio::pin!(changed);
            let resumed = resume(&self.inside, &self.options.folder, workers);
            tokio::pin!(resumed);
            let mut sleeping = true;
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => break Next::Stop,
                    () = &mut changed => break Next::Changed,
                    () = &mut resumed, if sleeping => sleeping = false,
                    line = process.next() => match line {
                        Ok(line) => print(line),
                        Err(ended) => {
                            let how = match ended {
                                Ok(status) => status.to_string(),
                                Err(error) => error.to_string(),
                            };
                            break Next::Failed(RuntimeError::Ended { how });
                        }
                    },
                }
            }
        };
        if !matches!(next, Next::Failed(_)) {
            let _gate = Gate::close(&self.listener);
            process.stop(&print).await;
        } else if began.elapsed() >= SOUND {
            self.wait = FIRST_WAIT;
        }
        next
    }

    /// Answers every request with a page until `done`.
    async fn answer(&self, status: StatusCode, page: String, done: impl Future<Output = ()>) {
        let served = self
            .listener
            .try_clone()
            .and_then(tokio::net::TcpListener::from_std);
        // Without it, requests wait, which is no harm.
        let Ok(listener) = served else {
            tokio::select! {
                () = done => {}
                () = self.stop.cancelled() => {}
            }
            return;
        };
        // Closed after the answer: on a connection that stays, this program would answer for ever.
        let headers = [(header::CONNECTION, "close")];
        let router = Router::new().fallback(move || async move { (status, headers, page) });
        tokio::select! {
            () = done => {}
            () = self.stop.cancelled() => {}
            // Ends only with `done`: errors of single connections do not end it.
            _ = axum::serve(listener, router).into_future() => {}
        }
    }
}
