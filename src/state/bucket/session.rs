//! One run's hold on a stage: group commit, and what happens when the bucket cannot be reached any more.
//!
//! Appends wait in a queue. Whoever finds it without a leader starts one: it writes everything that waits as one segment, tells
//! the waiters, and looks again. So all that comes while a request is under way shares the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    format::{LockState, encode},
    lease::{Lease, is_stopped, is_unreachable},
    pending::{self, Pending},
    remote::Guard as _,
    writer::Writer,
};
use crate::{
    model::ResourceId,
    state::{
        self, BucketFault, Deployment, JournalEntry, Session, Snapshot, StageHeader, StageState,
        StateError,
    },
};

struct Core {
    lease: Arc<Lease>,
    pending: Option<Pending>,
    queue: Mutex<Queue>,
    output: tokio::sync::Mutex<Output>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    has_leader: bool,
}

struct Waiting {
    entries: Vec<JournalEntry>,
    answer: oneshot::Sender<Result<(), StateError>>,
}

struct Output {
    writer: Writer,
    /// Set by the first failed write: what is in the bucket is in doubt then, and nothing more is written.
    failed: Option<Failure>,
    /// How many batches were kept on this machine, or could have been.
    kept: u32,
}

/// A [`StateError`] that can be answered many times.
#[derive(Clone)]
enum Failure {
    Fenced(u64),
    Bucket {
        operation: &'static str,
        place: String,
        fault: BucketFault,
        problem: String,
    },
    Other(String),
}

impl Failure {
    fn of(error: &StateError) -> Self {
        match error {
            StateError::Fenced { theirs, .. } => Self::Fenced(*theirs),
            StateError::Bucket {
                operation,
                place,
                fault,
                problem,
            } => Self::Bucket {
                operation,
                place: place.clone(),
                fault: *fault,
                problem: problem.clone(),
            },
            other => Self::Other(other.to_string()),
        }
    }

    fn to_error(&self, lease: &Lease, place: &str) -> StateError {
        match self {
            Self::Fenced(theirs) => lease.fenced(*theirs),
            Self::Bucket {
                operation,
                place,
                fault,
                problem,
            } => StateError::Bucket {
                operation,
                place: place.clone(),
                fault: *fault,
                problem: problem.clone(),
            },
            Self::Other(text) => StateError::Io {
                operation: "write",
                place: place.to_owned(),
                source: std::io::Error::other(text.clone()),
            },
        }
    }

    /// Whether what is written now is to be kept on this machine.
    fn keeps(&self) -> bool {
        matches!(
            self,
            Self::Bucket {
                fault: BucketFault::Unreachable | BucketFault::Stopped,
                ..
            }
        )
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    fn stage_place(writer: &Writer) -> String {
        let place = &writer.hold.place;
        place.remote.place(&place.state_key())
    }

    /// Writes batch after batch until nobody waits.
    async fn lead(self: Arc<Self>) {
        let mut leading = Leading {
            core: Arc::clone(&self),
            finished: false,
        };
        loop {
            let batch = {
                let mut queue = locked(&self.queue);
                if queue.waiting.is_empty() {
                    queue.has_leader = false;
                    leading.finished = true;
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            self.write_batch(batch).await;
        }
    }

    async fn write_batch(&self, batch: Vec<Waiting>) {
        let mut output = self.output.lock().await;
        let (entries, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.entries, waiting.answer))
            .unzip();
        let entries: Vec<JournalEntry> = entries.into_iter().flatten().collect();
        let result = self.append(&mut output, &entries).await;
        let failure = result.err();
        let place = Self::stage_place(&output.writer);
        drop(output);
        for answer in answers {
            let result = match &failure {
                None => Ok(()),
                Some(failure) => Err(failure.to_error(&self.lease, &place)),
            };
            // Whoever does not listen any more was dropped, and does not need the answer.
            drop(answer.send(result));
        }
    }

    /// Brings entries into the bucket; those that cannot be brought there because it cannot be reached are kept here.
    async fn append(&self, output: &mut Output, entries: &[JournalEntry]) -> Result<(), Failure> {
        if output.failed.is_none() {
            let written = self.try_append(&mut output.writer, entries).await;
            match written {
                Ok(()) => return Ok(()),
                Err(error) => output.failed = Some(Failure::of(&error)),
            }
        }
        let Some(failure) = output.failed.clone() else {
            return Ok(());
        };
        if !failure.keeps() {
            return Err(failure);
        }
        let number = output.kept;
        output.kept += 1;
        Err(self.keep(&output.writer, number, entries, failure).await)
    }

    async fn try_append(
        &self,
        writer: &mut Writer,
        entries: &[JournalEntry],
    ) -> Result<(), StateError> {
        self.lease.ensure().await?;
        writer.create().await?;
        writer.append(entries.to_vec(), false).await
    }

    /// Keeps entries on this machine, and says so in the failure.
    async fn keep(
        &self,
        writer: &Writer,
        number: u32,
        entries: &[JournalEntry],
        failure: Failure,
    ) -> Failure {
        let Failure::Bucket {
            operation,
            place,
            fault,
            problem,
        } = failure
        else {
            return failure;
        };
        let told = match &self.pending {
            None => None,
            Some(pending) => {
                let stage = writer.hold.place.stage.clone();
                let at = pending::Place {
                    generation: writer.generation(),
                    sequence: writer.sequence + 1,
                    epoch: writer.hold.epoch,
                    session: writer.hold.session.clone(),
                };
                let folder = pending.folder(&stage);
                let (pending, entries) = (pending.clone(), entries.to_vec());
                let kept =
                    tokio::task::spawn_blocking(move || pending.keep(&stage, &at, number, entries))
                        .await;
                match kept {
                    Ok(Ok(false)) => None,
                    Ok(Ok(true)) => Some(format!(
                        "what was done is kept in `{}`, and the next run here saves it",
                        folder.display()
                    )),
                    Ok(Err(error)) => Some(format!(
                        "what was done could not be kept here either ({error}): the next run looks the object up"
                    )),
                    Err(error) => Some(format!(
                        "what was done could not be kept here either ({error}): the next run looks the object up"
                    )),
                }
            }
        };
        Failure::Bucket {
            operation,
            place,
            fault,
            problem: match told {
                None => problem,
                Some(told) => format!("{problem}; {told}"),
            },
        }
    }

    /// Writes something that is no entry, after the batches that wait.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut Writer) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let mut output = self.output.lock().await;
        if let Some(failure) = &output.failed {
            return Err(failure.to_error(&self.lease, &Self::stage_place(&output.writer)));
        }
        let result = match self.lease.ensure().await {
            Ok(()) => work(&mut output.writer).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            output.failed = Some(Failure::of(error));
        }
        result
    }
}

/// Sees to it that a panic of the leader leaves nobody waiting for ever.
struct Leading {
    core: Arc<Core>,
    finished: bool,
}

impl Drop for Leading {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut queue = locked(&self.core.queue);
        queue.has_leader = false;
        // Their senders are dropped, which they hear of.
        queue.waiting.clear();
    }
}

/// One run's exclusive hold on a stage of a bucket.
pub(super) struct BucketSession {
    core: Arc<Core>,
    epoch: u64,
    handed: Mutex<Option<StageState>>,
    heartbeat: Mutex<Option<JoinHandle<()>>>,
    notes: Vec<String>,
    /// What became of the lock where it could not be given back.
    left: Mutex<Option<String>>,
}

impl BucketSession {
    /// Starts the heartbeats.
    pub(super) fn start(
        lease: Arc<Lease>,
        writer: Writer,
        pending: Option<Pending>,
        heartbeat: JoinHandle<()>,
        notes: Vec<String>,
    ) -> Self {
        Self {
            epoch: writer.hold.epoch,
            handed: Mutex::new(Some(writer.state.clone())),
            heartbeat: Mutex::new(Some(heartbeat)),
            notes,
            left: Mutex::default(),
            core: Arc::new(Core {
                lease,
                pending,
                queue: Mutex::default(),
                output: tokio::sync::Mutex::new(Output {
                    writer,
                    failed: None,
                    kept: 0,
                }),
            }),
        }
    }

    fn stop_heartbeat(&self) {
        if let Some(task) = locked(&self.heartbeat).take() {
            task.abort();
        }
    }
}

impl BucketSession {
    /// That the stage has no resources.
    async fn check_empty(&self) -> Result<(), StateError> {
        let output = self.core.output.lock().await;
        if output.writer.state.is_empty() {
            return Ok(());
        }
        Err(StateError::Io {
            operation: "remove",
            place: Core::stage_place(&output.writer),
            source: std::io::Error::new(
                std::io::ErrorKind::DirectoryNotEmpty,
                "the stage still has resources",
            ),
        })
    }
}

impl Drop for BucketSession {
    fn drop(&mut self) {
        self.stop_heartbeat();
    }
}

#[async_trait]
impl Session for BucketSession {
    fn lease(&self) -> state::Lease {
        self.core.lease.for_run()
    }

    fn take_state(&self) -> StageState {
        locked(&self.handed).take().unwrap_or_default()
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let lead = {
            let mut queue = locked(&self.core.queue);
            queue.waiting.push(Waiting { entries, answer });
            !std::mem::replace(&mut queue.has_leader, true)
        };
        if lead {
            // Not awaited: it ends when the queue is empty, and goes on when whoever started it is dropped.
            drop(tokio::spawn(Arc::clone(&self.core).lead()));
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(StateError::Io {
                operation: "write",
                place: "the journal".to_owned(),
                source: std::io::Error::other("its writer stopped"),
            }),
        }
    }

    async fn checkpoint(&self, header: StageHeader) -> Result<(), StateError> {
        self.core
            .write(async |writer| writer.fold(header).await)
            .await
    }

    async fn record_deployment(&self, deployment: Deployment) -> Result<(), StateError> {
        if ResourceId::new(deployment.id.as_str()).is_err() {
            return Err(StateError::Io {
                operation: "write",
                place: deployment.id,
                source: std::io::ErrorKind::InvalidFilename.into(),
            });
        }
        self.core
            .write(async |writer| {
                let place = &writer.hold.place;
                let folder = place.keys.deployments(&place.stage);
                let key = folder.join(format!("{}.json", super::keys::escape(&deployment.id)));
                let bytes = encode(&place.remote.place(&key), &deployment)?;
                place.remote.overwrite(&key, &bytes).await
            })
            .await
    }

    async fn rewrite_backup(&self, name: &str, backup: Snapshot) -> Result<(), StateError> {
        let name = name.to_owned();
        self.core
            .write(async |writer| writer.hold.place.rewrite_backup(&name, &backup).await)
            .await
    }

    async fn set_aside(&self) -> Result<Vec<String>, StateError> {
        let place = self.core.output.lock().await.writer.hold.place.clone();
        let (folders, _) = place.backups().await?;
        Ok(folders
            .iter()
            .map(|folder| place.remote.place(folder))
            .collect())
    }

    async fn drop_backups(&self) -> Result<(usize, usize), StateError> {
        self.core
            .write(async |writer| writer.drop_backups().await)
            .await
    }

    async fn remove_stage(&self) -> Result<(), StateError> {
        self.check_empty().await?;
        self.core.write(async |writer| writer.remove().await).await
    }

    async fn forget_stage(&self) -> Result<(), StateError> {
        self.check_empty().await?;
        self.core.write(async |writer| writer.forget().await).await
    }

    async fn release(&self) -> Result<(), StateError> {
        self.stop_heartbeat();
        let mut output = self.core.output.lock().await;
        let whole = output.failed.is_none() && output.writer.entries == 0;
        let status = match whole {
            true => LockState::Free,
            false => LockState::Left,
        };
        let was_told = output.failed.as_ref().is_some_and(Failure::keeps);
        // Whatever this session would still write comes too late.
        if output.failed.is_none() {
            output.failed = Some(Failure::Other("the session was released".to_owned()));
        }
        let generation = output.writer.generation();
        match self.core.lease.release(status, generation).await {
            // That the bucket cannot be reached was said already, or is no news to whoever wanted it to stop.
            Err(error) if is_unreachable(&error) && (was_told || is_stopped(&error)) => {
                tracing::warn!(%error, "the lock could not be given back");
                locked(&self.left).replace(self.core.lease.ends_by_itself());
                Ok(())
            }
            Err(error) if is_unreachable(&error) => {
                Err(error.adding(&self.core.lease.ends_by_itself()))
            }
            other => other,
        }
    }

    fn left(&self) -> Option<String> {
        locked(&self.left).clone()
    }
}
