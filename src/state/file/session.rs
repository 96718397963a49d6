//! One run's hold on a stage: group commit, fencing, heartbeats.
//!
//! Appends wait in a queue. Whoever finds it without a leader leads: writes everything that waits as one batch, syncs it, tells
//! the waiters, and looks again. The leader works on a blocking thread to the end even when the future that started it is
//! dropped, so nobody's entries are lost or reordered.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    backup, envelope::io_error, journal::Payloads, layout::StageLayout, lock, writer::Writer,
};
use crate::{
    model::{ResourceId, StagePath},
    state::{
        Deployment, JournalEntry, Lease, LockHolder, Retention, Session, Snapshot, StageHeader,
        StageState, StateError,
        disk::{Disk, on_disk},
        lease::Renewal,
    },
    util::{clock::Clock, ids::Ids},
};

/// The part of a session that blocking threads share.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) stage: StagePath,
    pub(crate) layout: StageLayout,
    pub(crate) retention: Retention,
    /// As the lock file names us; the heartbeat counter aside.
    pub(crate) holder: LockHolder,
    queue: Mutex<Queue>,
    output: Mutex<Output>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    has_leader: bool,
}

struct Waiting {
    entries: Vec<JournalEntry>,
    payloads: Payloads,
    answer: oneshot::Sender<Result<(), StateError>>,
}

struct Output {
    writer: Writer,
    /// Set by the first failed write: what is on disk is in doubt then, and nothing more is written.
    failed: Option<Failure>,
}

/// A [`StateError`] that can be answered many times.
#[derive(Clone)]
enum Failure {
    Fenced(u64),
    Io {
        operation: &'static str,
        place: String,
        kind: io::ErrorKind,
        code: Option<i32>,
        text: String,
    },
    Other(String),
}

impl Failure {
    fn of(error: &StateError) -> Self {
        match error {
            StateError::Fenced { theirs, .. } => Self::Fenced(*theirs),
            StateError::Io {
                operation,
                place,
                source,
            } => Self::Io {
                operation,
                place: place.clone(),
                kind: source.kind(),
                code: source.raw_os_error(),
                text: source.to_string(),
            },
            other => Self::Other(other.to_string()),
        }
    }

    fn to_error(&self, core: &Core) -> StateError {
        match self {
            Self::Fenced(theirs) => StateError::Fenced {
                stage: core.stage.clone(),
                ours: core.holder.epoch,
                theirs: *theirs,
            },
            Self::Io {
                operation,
                place,
                kind,
                code,
                text,
            } => StateError::Io {
                operation,
                place: place.clone(),
                source: match code {
                    Some(code) => io::Error::from_raw_os_error(*code),
                    None => io::Error::new(*kind, text.clone()),
                },
            },
            Self::Other(text) => {
                io_error("write", &core.layout.folder, io::Error::other(text.clone()))
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is told by `Leading` or by the panic itself; the data are whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with named fields' values"
    )]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        stage: StagePath,
        layout: StageLayout,
        retention: Retention,
        holder: LockHolder,
        writer: Writer,
    ) -> Self {
        Self {
            disk,
            clock,
            ids,
            stage,
            layout,
            retention,
            holder,
            queue: Mutex::default(),
            output: Mutex::new(Output {
                writer,
                failed: None,
            }),
        }
    }

    /// Writes under the guard, after a look at the lock. The first failure is the last write.
    fn write<T>(
        &self,
        output: &mut Output,
        work: impl FnOnce(&mut Writer, &dyn Disk) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        if let Some(failure) = &output.failed {
            return Err(failure.to_error(self));
        }
        let disk = self.disk.as_ref();
        let result = lock::guard(disk, &self.layout).and_then(|_guard| {
            lock::check(disk, &self.layout, &self.stage, &self.holder)?;
            work(&mut output.writer, disk)
        });
        if let Err(error) = &result {
            output.failed = Some(Failure::of(error));
        }
        result
    }

    fn new_lineage(&self) -> String {
        self.ids.ulid(self.clock.now())
    }

    /// Writes batch after batch until nobody waits.
    fn lead(&self) {
        let mut leading = Leading {
            core: self,
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
            self.write_batch(batch);
        }
    }

    fn write_batch(&self, batch: Vec<Waiting>) {
        let mut output = locked(&self.output);
        let payloads: Vec<&Payloads> = batch.iter().map(|waiting| &waiting.payloads).collect();
        let result = self.write(&mut output, |writer, disk| {
            writer.append(disk, &payloads, &|| self.new_lineage())
        });
        if result.is_ok() {
            for waiting in &batch {
                output.writer.apply(&waiting.entries);
            }
        }
        drop(output);
        let failure = result.as_ref().err().map(Failure::of);
        for waiting in batch {
            let answer = match &failure {
                None => Ok(()),
                Some(failure) => Err(failure.to_error(self)),
            };
            // Whoever does not listen any more was dropped, and does not need the answer.
            drop(waiting.answer.send(answer));
        }
    }
}

/// Sees to it that a panic of the leader leaves nobody waiting for ever.
struct Leading<'a> {
    core: &'a Core,
    finished: bool,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let failure = Failure::Other("an earlier write to the journal panicked".to_owned());
        locked(&self.core.output).failed = Some(failure);
        let mut queue = locked(&self.core.queue);
        queue.has_leader = false;
        queue.waiting.clear();
    }
}

/// One run's exclusive hold on a stage of the file store.
pub(crate) struct FileSession {
    core: Arc<Core>,
    handed: Mutex<Option<StageState>>,
    lease: Lease,
    heartbeat: Mutex<Option<JoinHandle<()>>>,
}

impl FileSession {
    /// Starts the heartbeats. `confirmed`: before the lock was written last, by [`Clock::since_boot`].
    pub(crate) fn start(core: Core, confirmed: Duration) -> Self {
        let state = locked(&core.output).writer.state().clone();
        let core = Arc::new(core);
        let lease = Lease::new(
            core.stage.clone(),
            Duration::from_millis(core.holder.ttl_ms),
            Arc::clone(&core.clock),
            confirmed,
            Box::new(Heartbeat {
                disk: Arc::clone(&core.disk),
                stage: core.stage.clone(),
                layout: core.layout.clone(),
                holder: Mutex::new(core.holder.clone()),
            }),
        );
        let heartbeat = tokio::spawn({
            let lease = lease.clone();
            async move { lease.keep().await }
        });
        Self {
            core,
            lease,
            handed: Mutex::new(Some(state)),
            heartbeat: Mutex::new(Some(heartbeat)),
        }
    }

    fn stop_heartbeat(&self) {
        if let Some(task) = locked(&self.heartbeat).take() {
            task.abort();
        }
    }

    /// That the stage has no resources. A refusal writes nothing, so it does not end the session as a failed write does.
    fn check_empty(&self) -> Result<(), StateError> {
        if locked(&self.core.output).writer.state().is_empty() {
            return Ok(());
        }
        Err(io_error(
            "remove",
            &self.core.layout.folder,
            io::Error::new(
                io::ErrorKind::DirectoryNotEmpty,
                "the stage still has resources",
            ),
        ))
    }

    /// Runs a write off the async threads, after the batches that wait.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core, &mut Writer, &dyn Disk) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let core = Arc::clone(&self.core);
        on_disk(&self.core.disk, move |_| {
            let mut output = locked(&core.output);
            core.write(&mut output, |writer, disk| work(&core, writer, disk))
        })
        .await
    }
}

/// Writes the lock file again, with a higher count.
struct Heartbeat {
    disk: Arc<dyn Disk>,
    stage: StagePath,
    layout: StageLayout,
    /// As the lock file names us, and the count of the last try.
    holder: Mutex<LockHolder>,
}

#[async_trait]
impl Renewal for Heartbeat {
    async fn renew(&self) -> Result<(), StateError> {
        let renewed = {
            let mut holder = locked(&self.holder);
            // Counted before it is tried: no two tries write the same bytes, by whose change a taker sees that we live.
            holder.heartbeat += 1;
            holder.clone()
        };
        let (stage, layout) = (self.stage.clone(), self.layout.clone());
        on_disk(&self.disk, move |disk| {
            lock::renew(disk, &layout, &stage, &renewed, &renewed)
        })
        .await
    }
}

impl Drop for FileSession {
    fn drop(&mut self) {
        self.stop_heartbeat();
    }
}

#[async_trait]
impl Session for FileSession {
    fn take_state(&self) -> StageState {
        locked(&self.handed).take().unwrap_or_default()
    }

    fn epoch(&self) -> u64 {
        self.core.holder.epoch
    }

    fn lease(&self) -> Lease {
        self.lease.clone()
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let payloads = Payloads::of(&entries).map_err(|error| {
            io_error(
                "serialise",
                &self.core.layout.journal(),
                io::Error::other(error),
            )
        })?;
        let (answer, answered) = oneshot::channel();
        let lead = {
            let mut queue = locked(&self.core.queue);
            queue.waiting.push(Waiting {
                entries,
                payloads,
                answer,
            });
            !std::mem::replace(&mut queue.has_leader, true)
        };
        if lead && self.core.disk.is_blocking() {
            let core = Arc::clone(&self.core);
            // Not awaited: it ends when the queue is empty, and `release` waits for that.
            drop(tokio::task::spawn_blocking(move || core.lead()));
        } else if lead {
            self.core.lead();
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(io_error(
                "write",
                &self.core.layout.journal(),
                io::Error::other("the journal's writer stopped"),
            )),
        }
    }

    async fn checkpoint(&self, header: StageHeader) -> Result<(), StateError> {
        let at = self.core.clock.now();
        self.write(move |core, writer, disk| {
            let lineage = || core.new_lineage();
            writer.checkpoint(disk, header, at, core.retention.backups, &lineage)
        })
        .await
    }

    async fn record_deployment(&self, deployment: Deployment) -> Result<(), StateError> {
        if ResourceId::new(deployment.id.as_str()).is_err() {
            return Err(io_error(
                "write",
                &self.core.layout.deployments(),
                io::ErrorKind::InvalidFilename,
            ));
        }
        self.write(move |_, writer, disk| writer.record_deployment(disk, &deployment))
            .await
    }

    async fn rewrite_backup(&self, name: &str, backup: Snapshot) -> Result<(), StateError> {
        let name = name.to_owned();
        self.write(move |core, _, disk| backup::rewrite(disk, &core.layout, &name, &backup))
            .await
    }

    async fn set_aside(&self) -> Result<Vec<String>, StateError> {
        let core = Arc::clone(&self.core);
        on_disk(&self.core.disk, move |disk| {
            let folder = core.layout.backups();
            let names = backup::set_aside(disk, &core.layout)?;
            Ok(names
                .iter()
                .map(|name| folder.join(name).display().to_string())
                .collect())
        })
        .await
    }

    async fn drop_backups(&self) -> Result<(usize, usize), StateError> {
        self.write(|core, _, disk| backup::remove_all(disk, &core.layout))
            .await
    }

    async fn remove_stage(&self) -> Result<(), StateError> {
        self.check_empty()?;
        let at = self.core.clock.now();
        self.write(move |_, writer, disk| writer.remove_stage(disk, at))
            .await
    }

    async fn forget_stage(&self) -> Result<(), StateError> {
        self.check_empty()?;
        let at = self.core.clock.now();
        self.write(move |_, writer, disk| writer.forget_stage(disk, at))
            .await
    }

    async fn release(&self) -> Result<(), StateError> {
        self.stop_heartbeat();
        let core = Arc::clone(&self.core);
        on_disk(&self.core.disk, move |disk| {
            let mut output = locked(&core.output);
            // Whatever this session would still write comes too late.
            if output.failed.is_none() {
                output.failed = Some(Failure::Other("the session was released".to_owned()));
            }
            lock::release(disk, &core.layout, &core.holder)
        })
        .await
    }
}
