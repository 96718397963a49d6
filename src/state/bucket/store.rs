//! The [`Store`] over a bucket.

use std::{
    collections::BTreeSet,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use object_store::{ObjectStore, path::Path};
use tokio_util::sync::CancellationToken;

use super::{
    format::{LockRecord, LockState, StageStatus, StateRecord, StoreRecord, decode, encode},
    keys::{Keys, stem, unescape},
    lease::{Lease, is_unreachable},
    pending::{Kept, Pending, resolve},
    read::{Look, Place, generation_of},
    remote::{Expect, Put, Remote, Requests, Tag},
    session::BucketSession,
    stop::Stop,
    writer::{Hold, Writer},
};
use crate::{
    model::{AppName, StageName, StagePath},
    state::{
        BackupName, BucketFault, Deployment, JournalEntry, LockHolder, LockRequest, LockStatus,
        Removed, Retention, Salvage, Session, Snapshot, StageState, StateError, Store,
        file::{Process, Processes, SystemProcesses},
        record::FORMAT,
    },
    util::{
        clock::{Clock, SystemClock},
        ids::{Ids, SystemIds},
        text,
    },
};

/// How often a held lock is looked at.
const LOCK_POLL: Duration = Duration::from_secs(1);
/// How often a lock that seems free may turn out to be taken before that is an error.
const TAKE_TRIES: u32 = 20;
/// The lease when nothing names another.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// For how long a request is tried again, at most; half a lease where that is shorter.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// More runs than can have come and gone without a trace in a stage.
const UNSEEN_EPOCHS: u64 = 100_000;
/// An object of a stage that was removed is smaller than this, however long its names.
const LONGEST_REMOVED: u64 = 4096;

/// State in a bucket.
#[derive(Clone)]
pub struct BucketStore {
    remote: Remote,
    keys: Keys,
    process: Process,
    processes: Arc<dyn Processes>,
    retention: Retention,
    ttl: Duration,
    pending: Option<Pending>,
}

impl BucketStore {
    /// A store in a bucket, below `prefix`, on this machine's clock. `label` is what messages call the bucket, such as
    /// `s3://team-state`. Nothing is asked yet.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, label: &str, prefix: Path) -> Self {
        Self::over(
            store,
            label,
            prefix,
            Arc::new(SystemClock),
            Arc::new(SystemIds),
            Process::current(),
            Arc::new(SystemProcesses),
        )
    }

    /// A store over the given seams.
    #[must_use]
    pub fn over(
        store: Arc<dyn ObjectStore>,
        label: &str,
        prefix: Path,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        process: Process,
        processes: Arc<dyn Processes>,
    ) -> Self {
        Self {
            remote: Remote {
                store,
                clock,
                ids,
                label: label.into(),
                patience: LONGEST_PATIENCE.min(DEFAULT_TTL / 2),
                requests: Arc::default(),
                stop: Stop::default(),
                guard: None,
            },
            keys: Keys::new(prefix),
            process,
            processes,
            retention: Retention::default(),
            ttl: DEFAULT_TTL,
            pending: None,
        }
    }

    /// Keeps another number of backups.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Takes locks with another lease.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self.remote.patience = LONGEST_PATIENCE.min(ttl / 2);
        self
    }

    /// Keeps what cannot be brought into the bucket in `folder`, the `.alchemy` folder of the project.
    #[must_use]
    pub fn keeping_in(mut self, folder: &FsPath) -> Self {
        let whole = format!("{}/{}", self.remote.label, self.keys.root());
        self.pending = Some(Pending::new(folder, &whole));
        self
    }

    /// Waits for no answer any more once `asked` is cancelled: nothing is tried again then, requests under way have a moment to
    /// be answered, what was done is kept, and a lock that cannot be given back in that time is left to end by itself.
    #[must_use]
    pub fn stopped_by(mut self, asked: CancellationToken) -> Self {
        self.remote.stop = Stop::at(asked);
        self
    }

    /// How many requests were made so far.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.remote.requests
    }

    fn place(&self, stage: &StagePath) -> Place {
        Place {
            remote: self.remote.clone(),
            keys: self.keys.clone(),
            stage: stage.clone(),
        }
    }

    fn new_holder(&self, request: &LockRequest, epoch: u64) -> LockHolder {
        LockHolder {
            owner: self.process.owner.clone(),
            host: self.process.host.clone(),
            boot_id: self.process.boot_id.clone(),
            pid: self.process.pid,
            pid_start: self.process.pid_start,
            command: request.command.clone(),
            epoch,
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            acquired_at: self.remote.clock.now(),
            heartbeat: 0,
        }
    }

    /// Takes the lock under an epoch above `epoch`, waiting as long as the request allows. Answers what there was before, too.
    async fn acquire(
        &self,
        place: &Place,
        request: &LockRequest,
        epoch: u64,
    ) -> Result<(Arc<Lease>, Hold, Look), StateError> {
        let clock = Arc::clone(&self.remote.clock);
        let begin = clock.monotonic();
        // What a held lock read as, and since when.
        let mut watched: Option<(bytes::Bytes, Duration)> = None;
        let mut tries = 0;
        loop {
            let look = place.look().await?;
            let now = clock.monotonic();
            if let Some((record, seen)) = look
                .lock
                .as_ref()
                .filter(|(record, _)| record.status == LockState::Held)
            {
                let alive = self.process.judge(&record.holder, self.processes.as_ref());
                let since = match &watched {
                    Some((bytes, since)) if *bytes == seen.bytes => *since,
                    _ => now,
                };
                watched = Some((seen.bytes.clone(), since));
                let lease = Duration::from_millis(record.holder.ttl_ms);
                let expired = now.saturating_sub(since) >= lease;
                if alive != Some(false) && !expired {
                    let left = request.wait.saturating_sub(now.saturating_sub(begin));
                    if left.is_zero() {
                        return Err(StateError::Locked {
                            stage: place.stage.clone(),
                            holder: Box::new(record.holder.clone()),
                            alive,
                        });
                    }
                    clock.sleep(left.min(LOCK_POLL).min(lease / 4)).await;
                    continue;
                }
            }
            match self.take(place, request, look, epoch).await? {
                Ok(taken) => return Ok(taken),
                // Somebody was faster: the next look says who.
                Err(()) if tries < TAKE_TRIES => tries += 1,
                Err(()) => {
                    return Err(StateError::Bucket {
                        operation: "lock",
                        place: self.remote.place(&place.lock_key()),
                        fault: BucketFault::Refused,
                        problem: "it changes faster than it can be taken".to_owned(),
                    });
                }
            }
        }
    }

    async fn take(
        &self,
        place: &Place,
        request: &LockRequest,
        look: Look,
        epoch: u64,
    ) -> Result<Result<(Arc<Lease>, Hold, Look), ()>, StateError> {
        let key = place.lock_key();
        if look.lock.is_none() {
            self.probe().await?;
        }
        let locked = look.lock.as_ref().map_or(0, |(lock, _)| lock.holder.epoch);
        let written = match &look.checkpoint {
            Ok(Some(checkpoint)) => checkpoint.record.epoch,
            Ok(None) | Err(_) => 0,
        };
        let record = LockRecord {
            format: FORMAT,
            session: self.remote.ids.ulid(self.remote.clock.now()),
            holder: self.new_holder(request, locked.max(written).max(epoch) + 1),
            generation: look.lock.as_ref().map_or(0, |(lock, _)| lock.generation),
            status: LockState::Held,
        };
        let bytes = encode(&self.remote.place(&key), &record)?;
        let expect = Expect::as_seen(look.lock.as_ref().map(|(_, seen)| seen));
        let sent = self.remote.clock.monotonic();
        let written = self.remote.put(&key, &bytes, &expect).await;
        match written.map_err(|error| self.in_doubt(error))? {
            Put::Refused(_) => Ok(Err(())),
            Put::Done(tag) => {
                let (epoch, session) = (record.holder.epoch, record.session.clone());
                let lease = Lease::new(self.remote.clone(), &place.stage, key, record, tag, sent);
                let hold = Hold {
                    place: Place {
                        remote: self.remote.guarded(Arc::clone(&lease) as _),
                        ..place.clone()
                    },
                    epoch,
                    session,
                    keep: self.retention.backups,
                };
                Ok(Ok((lease, hold, look)))
            }
        }
    }

    /// The failure to take a lock, which may be ours all the same.
    fn in_doubt(&self, error: StateError) -> StateError {
        let ttl = text::duration(self.ttl);
        match is_unreachable(&error) {
            true => error.adding(&format!(
                "if the lock was taken all the same, it ends by itself within {ttl}"
            )),
            false => error,
        }
    }

    /// Gives back the lock of a stage that could not be opened. The failure is what the caller hears of, with what becomes of
    /// the lock where that cannot be given back.
    async fn back_out(lease: &Lease, generation: u64, error: StateError) -> StateError {
        match lease.release(LockState::Left, generation).await {
            Ok(()) => error,
            Err(left) => {
                tracing::warn!(error = %left, "the lock could not be given back");
                error.adding(&lease.ends_by_itself())
            }
        }
    }

    /// Stands for a lock that cannot be read. Its epoch is beyond any that a run can have which is not seen in the stage.
    async fn new_lock(&self, place: &Place) -> Result<LockRecord, StateError> {
        let request = LockRequest {
            wait: Duration::ZERO,
            command: "unreadable lock".to_owned(),
        };
        let checkpoint = place.checkpoint().await?;
        let written = checkpoint.map_or(0, |found| found.record.epoch);
        Ok(LockRecord {
            format: FORMAT,
            session: self.remote.ids.ulid(self.remote.clock.now()),
            holder: self.new_holder(&request, written + UNSEEN_EPOCHS),
            generation: 0,
            status: LockState::Held,
        })
    }

    /// Tries whether the bucket keeps to conditions, before the first lock of a stage. A bucket that ignores them would let
    /// two runs through.
    async fn probe(&self) -> Result<(), StateError> {
        let key = self.keys.store();
        let place = self.remote.place(&key);
        let record = || StoreRecord {
            format: FORMAT,
            session: self.remote.ids.ulid(self.remote.clock.now()),
        };
        let unfit = |what: &str| StateError::Bucket {
            operation: "use",
            place: place.clone(),
            fault: BucketFault::NoConditionalWrites,
            problem: format!("it does not keep to `{what}`"),
        };
        let mut there = None;
        // Where the first try made the object, the second one must be refused.
        for _ in 0..2 {
            let bytes = encode(&place, &record())?;
            match self.remote.put(&key, &bytes, &Expect::Absent).await? {
                Put::Done(tag) => there = Some(tag),
                Put::Refused(Some(seen)) => {
                    decode::<StoreRecord>(&seen.bytes, "all applications", &place)?;
                    let stale = encode(&place, &record())?;
                    let other = Expect::Version(Tag::nobodys());
                    return match self.remote.put(&key, &stale, &other).await? {
                        Put::Refused(_) => Ok(()),
                        Put::Done(_) => Err(unfit("If-Match")),
                    };
                }
                Put::Refused(None) => return Err(unfit("If-None-Match")),
            }
        }
        tracing::debug!(?there, "a second creation of one object went through");
        Err(unfit("If-None-Match"))
    }

    /// What was kept on this machine for a stage.
    async fn kept(&self, stage: &StagePath) -> Result<Vec<(PathBuf, Kept)>, StateError> {
        let Some(pending) = self.pending.clone() else {
            return Ok(Vec::new());
        };
        let stage = stage.clone();
        blocking(move || pending.read(&stage)).await
    }

    async fn forget(&self, kept: &[(PathBuf, Kept)]) -> Result<(), StateError> {
        let Some(pending) = self.pending.clone() else {
            return Ok(());
        };
        let files: Vec<PathBuf> = kept.iter().map(|(path, _)| path.clone()).collect();
        blocking(move || pending.forget(&files)).await
    }

    /// Reads the stage under the lock, takes it over where the hold before did not end well, and brings into it what was
    /// kept on this machine.
    async fn settle(&self, hold: Hold, look: Look) -> Result<(Writer, Vec<String>), StateError> {
        let checkpoint = look.checkpoint?;
        let kept = self.kept(&hold.place.stage).await?;
        let lock = look.lock.as_ref().map(|(lock, _)| lock);
        let is_new = lock.is_none() && checkpoint.is_none();
        let is_whole = lock.is_some_and(|lock| {
            lock.status == LockState::Free && lock.generation == generation_of(checkpoint.as_ref())
        });
        if is_new {
            hold.place.prove_absence(None).await?;
        }
        let moved_on = std::sync::atomic::AtomicBool::new(false);
        let resolve_now = |state: &StageState, segments: &[super::format::Segment], generation| {
            let plan = resolve(&kept, state, segments, generation);
            moved_on.store(plan.moved_on, std::sync::atomic::Ordering::Relaxed);
            plan.entries
        };
        let writer = if is_new || is_whole {
            let mut writer = Writer::new(hold, checkpoint);
            let entries: Vec<JournalEntry> = resolve_now(&writer.state, &[], writer.generation());
            if !entries.is_empty() {
                writer.create().await?;
                writer.append(entries, false).await?;
            }
            writer
        } else {
            Writer::recover(&hold, lock, &resolve_now).await?
        };
        if kept.is_empty() {
            return Ok((writer, Vec::new()));
        }
        self.forget(&kept).await?;
        let note = match moved_on.into_inner() {
            false => "saved what a run that could not reach the bucket had kept on this machine",
            true => {
                "another run has worked on the stage since a run here could not reach the bucket: its records stand, and what they do \
                 not know of is looked up"
            }
        };
        Ok((writer, vec![note.to_owned()]))
    }

    /// Takes a stage without reading it, to be made anew after the serial of `like`: exactly, or after the one it is known to
    /// have where that is higher.
    async fn begin_anew(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        exact: bool,
        request: &LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        let place = self.place(stage);
        let known = place.salvage().await?.snapshot;
        let serial = match exact {
            true => like.serial,
            false => like.serial.max(known.serial),
        };
        let lineage = (!like.lineage.is_empty()).then(|| like.lineage.clone());
        let epoch = known.epoch.max(like.epoch);
        let (lease, hold, _) = self.acquire(&place, request, epoch).await?;
        let heartbeat = tokio::spawn(Arc::clone(&lease).beat());
        match Writer::set_aside(&hold, lineage, serial).await {
            Ok((writer, aside)) => {
                let session = BucketSession::start(lease, writer, None, heartbeat, Vec::new());
                drop(session.take_state());
                Ok((Box::new(session), aside))
            }
            Err(error) => {
                heartbeat.abort();
                Err(Self::back_out(&lease, 0, error).await)
            }
        }
    }

    /// Stages without a checkpoint of which something else says that there was one: whoever lists stages has to hear of them.
    async fn lost_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let (states, locks) = (self.keys.states(app), self.keys.locks(app));
        let (journals, backups) = (self.keys.journals(app), self.keys.all_backups(app));
        let (states, locks, journals, backups) = futures::try_join!(
            self.remote.list(&states),
            self.remote.list(&locks),
            self.remote.folders(&journals),
            self.remote.folders(&backups),
        )?;
        let stage = |name: &str| {
            let name = StageName::try_from(unescape(name)?).ok()?;
            Some(StagePath::new(app.clone(), name))
        };
        let known: BTreeSet<StagePath> = states
            .iter()
            .filter_map(|(key, _)| stage(stem(key)?))
            .collect();
        let locked = locks.iter().filter_map(|(key, _)| stage(stem(key)?));
        let folders = journals.0.iter().chain(&backups.0);
        let candidates: BTreeSet<StagePath> = folders
            .filter_map(|key| stage(key.filename()?))
            .chain(locked)
            .filter(|stage| !known.contains(stage))
            .collect();
        let mut lost = Vec::new();
        for stage in candidates {
            match self.place(&stage).load().await {
                // A run that has only begun has a lock, and no more.
                Ok(None) => {}
                // Made between the two looks.
                Ok(Some(_)) => lost.push(stage),
                Err(StateError::Corrupt { .. } | StateError::TooNew { .. }) => lost.push(stage),
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    async fn is_live(&self, key: &Path, size: u64) -> Result<bool, StateError> {
        if size > LONGEST_REMOVED {
            return Ok(true);
        }
        let Some(seen) = self.remote.get(key).await? else {
            return Ok(false);
        };
        let place = self.remote.place(key);
        let record: Result<StateRecord, _> = decode(&seen.bytes, &place, &place);
        // One that cannot be read is there: whoever opens it is told what is wrong.
        Ok(record.map_or(true, |record| record.status != StageStatus::Removed))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StateError::Io {
            operation: "read",
            place: "what was kept on this machine".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

#[async_trait]
impl Store for BucketStore {
    async fn apps(&self) -> Result<Vec<AppName>, StateError> {
        let (folders, _) = self.remote.folders(self.keys.root()).await?;
        let mut apps = Vec::new();
        for folder in folders {
            let name = folder.filename().and_then(unescape);
            let Some(app) = name.and_then(|name| AppName::new(name).ok()) else {
                continue;
            };
            let record = self.remote.get(&self.keys.app_record(&app)).await?;
            // One that lost its record is an application still.
            if record.is_some() || !self.remote.list(&self.keys.states(&app)).await?.is_empty() {
                apps.push(app);
            }
        }
        apps.sort();
        Ok(apps)
    }

    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let mut stages = Vec::new();
        for (key, size) in self.remote.list(&self.keys.states(app)).await? {
            let name = stem(&key).and_then(unescape);
            let Some(stage) = name.and_then(|name| StageName::new(name).ok()) else {
                continue;
            };
            if stage.test_parts().is_none() && self.is_live(&key, size).await? {
                stages.push(StagePath::new(app.clone(), stage));
            }
        }
        let lost = self.lost_stages(app).await?;
        stages.extend(
            lost.into_iter()
                .filter(|stage| stage.stage.test_parts().is_none()),
        );
        stages.sort();
        Ok(stages)
    }

    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let listed = self.remote.list(&self.keys.states(app)).await?;
        let mut stages: Vec<StagePath> = listed
            .iter()
            .filter_map(|(key, _)| StageName::try_from(unescape(stem(key)?)?).ok())
            .map(|stage| StagePath::new(app.clone(), stage))
            .collect();
        stages.extend(self.lost_stages(app).await?);
        stages.sort();
        Ok(stages)
    }

    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError> {
        let state = self.place(stage).load().await?;
        if let Some(state) = &state {
            state.check_here(stage)?;
        }
        Ok(state)
    }

    async fn removed(&self, stage: &StagePath) -> Result<Option<Removed>, StateError> {
        self.place(stage).removed().await
    }

    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let place = self.place(stage);
        let (lease, hold, look) = self.acquire(&place, &request, 0).await?;
        let generation = look.lock.as_ref().map_or(0, |(lock, _)| lock.generation);
        // Recovery may take longer than the lease lasts.
        let heartbeat = tokio::spawn(Arc::clone(&lease).beat());
        let settled = self.settle(hold, look).await;
        let settled =
            settled.and_then(|settled| settled.0.state.check_here(stage).map(|()| settled));
        match settled {
            Ok((writer, notes)) => Ok(Box::new(BucketSession::start(
                lease,
                writer,
                self.pending.clone(),
                heartbeat,
                notes,
            ))),
            Err(error) => {
                heartbeat.abort();
                Err(Self::back_out(&lease, generation, error).await)
            }
        }
    }

    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError> {
        let now = self.remote.clock.now();
        let mut locks = Vec::new();
        for (key, _) in self.remote.list(&self.keys.locks(app)).await? {
            let name = stem(&key).and_then(unescape);
            let Some(name) = name.and_then(|name| StageName::new(name).ok()) else {
                continue;
            };
            let place = self.place(&StagePath::new(app.clone(), name));
            let Some(seen) = self.remote.get(&key).await? else {
                continue;
            };
            let lock = place.parse_lock(&seen)?;
            if lock.status != LockState::Held {
                continue;
            }
            let age = now.as_millisecond() - seen.modified.as_millisecond();
            locks.push(LockStatus {
                stage: place.stage,
                alive: self.process.judge(&lock.holder, self.processes.as_ref()),
                holder: lock.holder,
                heartbeat_age_ms: u64::try_from(age).unwrap_or(0),
            });
        }
        locks.sort_by(|a, b| a.stage.cmp(&b.stage));
        Ok(locks)
    }

    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError> {
        let place = self.place(stage);
        let key = place.lock_key();
        for _ in 0..TAKE_TRIES {
            let Some(seen) = self.remote.get(&key).await? else {
                return Ok(false);
            };
            let lock = match place.parse_lock(&seen) {
                Err(StateError::Corrupt { .. }) if force => self.new_lock(&place).await?,
                other => other?,
            };
            if lock.status != LockState::Held {
                return Ok(false);
            }
            let alive = self.process.judge(&lock.holder, self.processes.as_ref());
            if alive != Some(false) && !force {
                return Err(StateError::Locked {
                    stage: stage.clone(),
                    alive,
                    holder: Box::new(lock.holder),
                });
            }
            let freed = LockRecord {
                status: LockState::Left,
                ..lock
            };
            let bytes = encode(&self.remote.place(&key), &freed)?;
            let expect = Expect::as_seen(Some(&seen));
            if let Put::Done(_) = self.remote.put(&key, &bytes, &expect).await? {
                return Ok(true);
            }
        }
        Err(StateError::Bucket {
            operation: "unlock",
            place: self.remote.place(&key),
            fault: BucketFault::Refused,
            problem: "it changes faster than it can be taken".to_owned(),
        })
    }

    async fn validate(&self, stage: &StagePath) -> Result<Vec<StateError>, StateError> {
        let place = self.place(stage);
        let mut problems = Vec::new();
        match place.load().await {
            Ok(_) => {}
            Err(error @ (StateError::Corrupt { .. } | StateError::TooNew { .. })) => {
                problems.push(error);
            }
            Err(error) => return Err(error),
        }
        for folder in [self.keys.deployments(stage), self.keys.backups(stage)] {
            let listed = self.remote.list(&folder).await?;
            let keys = listed.into_iter().map(|(key, _)| key).collect();
            for (key, seen) in self.remote.get_all(keys).await? {
                let name = self.remote.place(&key);
                let read = seen.map_or(Ok(()), |seen| {
                    super::format::check(&seen.bytes, &stage.to_string(), &name)
                });
                problems.extend(read.err());
            }
        }
        Ok(problems)
    }

    async fn deployments(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Deployment>, StateError> {
        self.history(stage, limit).await?.into_iter().collect()
    }

    async fn history(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Result<Deployment, StateError>>, StateError> {
        let listed = self.remote.list(&self.keys.deployments(stage)).await?;
        let keys = listed
            .into_iter()
            .rev()
            .map(|(key, _)| key)
            .take(limit)
            .collect();
        let found = self.remote.get_all(keys).await?;
        Ok(found
            .into_iter()
            .filter_map(|(key, seen)| seen.map(|seen| (key, seen)))
            .map(|(key, seen)| {
                let place = self.remote.place(&key);
                super::format::decode_deployment(&seen.bytes, &stage.to_string(), &place)
            })
            .collect())
    }

    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError> {
        let listed = self.remote.list(&self.keys.backups(stage)).await?;
        Ok(listed
            .into_iter()
            .rev()
            .filter_map(|(key, bytes)| {
                Some(BackupName {
                    name: key.filename()?.to_owned(),
                    bytes,
                })
            })
            .collect())
    }

    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError> {
        let key = self.keys.backups(stage).join(name);
        let place = self.remote.place(&key);
        let Some(seen) = self.remote.get(&key).await? else {
            return Err(StateError::Io {
                operation: "read",
                place,
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let record: StateRecord = decode(&seen.bytes, &stage.to_string(), &place)?;
        let snapshot = Snapshot::of(&record.stage, &record.to_state());
        if record.stage != *stage {
            let problem = format!("it is a backup of stage {}", record.stage);
            return Err(super::format::corrupt(stage, &place, problem));
        }
        match snapshot.contradiction() {
            None => Ok(snapshot),
            Some(problem) => Err(super::format::corrupt(stage, &place, problem)),
        }
    }

    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError> {
        self.place(stage).salvage().await
    }

    async fn set_aside(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        self.begin_anew(stage, like, false, &request).await
    }

    async fn clean_up(
        &self,
        stage: &StagePath,
        thorough: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError> {
        // Opening it takes a dead lock over, and settles what a crash left.
        let session = self.open(stage, request).await?;
        let removed = self.place(stage).clean_up(thorough).await;
        session.release().await?;
        removed
    }

    async fn receive(
        &self,
        stage: &StagePath,
        lineage: String,
        serial: u64,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let mut like = Snapshot::of(stage, &StageState::default());
        like.lineage = lineage;
        like.serial = serial.saturating_sub(1);
        Ok(self.begin_anew(stage, &like, true, &request).await?.0)
    }
}
