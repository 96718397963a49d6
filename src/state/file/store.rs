//! The [`Store`] over a folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    backup, cleanup,
    envelope::{corrupt, io_error, unseal},
    layout::{self, StageLayout},
    lock::{self, Attempt, DEFAULT_TTL},
    process::{Process, Processes, SystemProcesses},
    recover::{self, Loaded},
    removal, repair,
    session::{Core, FileSession},
    validate,
    writer::Writer,
};
use crate::{
    model::{AppName, ResourceId, StageName, StagePath},
    state::{
        BackupName, Deployment, LockHolder, LockRequest, LockStatus, Removed, Retention, Salvage,
        Session, Snapshot, StageState, StateError, Store,
        disk::{Disk, RealDisk, on_disk},
        migrate::{self, Role},
    },
    util::{
        clock::{Clock, SystemClock},
        ids::{Ids, SystemIds},
    },
};

/// How often a held lock is looked at.
const LOCK_POLL: Duration = Duration::from_millis(250);

/// How often a reader without the lock starts again because a checkpoint came between, and how long it waits.
const READ_TRIES: u32 = 20;
const READ_PAUSE: Duration = Duration::from_millis(10);

/// State in the files of a folder.
#[derive(Clone)]
pub struct FileStore {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    process: Process,
    processes: Arc<dyn Processes>,
    retention: Retention,
    ttl: Duration,
}

impl FileStore {
    /// A store in `root`, the `.alchemy` folder, on the machine's own disk and clock. Nothing is touched yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::over(
            root,
            Arc::new(RealDisk),
            Arc::new(SystemClock),
            Arc::new(SystemIds),
            Process::current(),
            Arc::new(SystemProcesses),
        )
    }

    /// A store over the given seams.
    #[must_use]
    pub fn over(
        root: impl Into<PathBuf>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        process: Process,
        processes: Arc<dyn Processes>,
    ) -> Self {
        Self {
            root: root.into(),
            disk,
            clock,
            ids,
            process,
            processes,
            retention: Retention::default(),
            ttl: DEFAULT_TTL,
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
        self
    }

    fn layout(&self, stage: &StagePath) -> StageLayout {
        StageLayout::new(&self.root, stage)
    }

    fn new_holder(&self, request: &LockRequest) -> LockHolder {
        LockHolder {
            owner: self.process.owner.clone(),
            host: self.process.host.clone(),
            boot_id: self.process.boot_id.clone(),
            pid: self.process.pid,
            pid_start: self.process.pid_start,
            command: request.command.clone(),
            epoch: 0,
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            acquired_at: self.clock.now(),
            heartbeat: 0,
        }
    }

    /// Takes the lock, waiting as long as the request allows. Answers also when, at the latest, the lease begins.
    async fn acquire(
        &self,
        stage: &StagePath,
        request: &LockRequest,
    ) -> Result<(LockHolder, Duration), StateError> {
        let layout = self.layout(stage);
        let begin = self.clock.monotonic();
        // What a lock of unknown life read as, and since when.
        let mut watched: Option<(Vec<u8>, Duration)> = None;
        loop {
            let now = self.clock.monotonic();
            let confirmed = self.clock.since_boot();
            let holder = self.new_holder(request);
            let lease_of = |bytes: &[u8]| {
                serde_json::from_slice(bytes).map_or(DEFAULT_TTL, |holder: LockHolder| {
                    Duration::from_millis(holder.ttl_ms)
                })
            };
            let expired = watched
                .as_ref()
                .filter(|(bytes, since)| now.saturating_sub(*since) >= lease_of(bytes))
                .map(|(bytes, _)| bytes.clone());
            let (process, processes) = (self.process.clone(), Arc::clone(&self.processes));
            let layout = layout.clone();
            let attempt = on_disk(&self.disk, move |disk| {
                lock::attempt(
                    disk,
                    &layout,
                    &process,
                    processes.as_ref(),
                    holder,
                    expired.as_deref(),
                )
            })
            .await?;
            let (seen, watch) = match attempt {
                Attempt::Taken(holder) => return Ok((holder, confirmed)),
                Attempt::Held { seen, watch } => (seen, watch),
            };
            let left = request.wait.saturating_sub(now.saturating_sub(begin));
            if left.is_zero() {
                return Err(StateError::Locked {
                    stage: stage.clone(),
                    alive: seen.is_alive(&self.process, self.processes.as_ref()),
                    holder: Box::new(seen.holder),
                });
            }
            watched = match watched {
                Some((bytes, since)) if watch && bytes == seen.bytes => Some((bytes, since)),
                _ => watch.then_some((seen.bytes, now)),
            };
            self.clock.sleep(left.min(LOCK_POLL)).await;
        }
    }

    /// Reads the stage under the lock, settles the epoch and mends what a crash left.
    async fn take_over(
        &self,
        stage: &StagePath,
        provisional: &LockHolder,
    ) -> Result<(LockHolder, Writer), StateError> {
        let layout = self.layout(stage);
        let stage = stage.clone();
        let ours = provisional.clone();
        on_disk(&self.disk, move |disk| {
            let loaded = recover::read_stage(disk, &layout, &stage)?;
            let written = loaded.as_ref().map_or(0, |loaded| loaded.state.epoch);
            let mut holder = ours.clone();
            if holder.epoch <= written {
                holder.epoch = written + 1;
                lock::renew(disk, &layout, &stage, &ours, &holder)?;
            }
            let _guard = lock::guard(disk, &layout)?;
            lock::check(disk, &layout, &stage, &holder)?;
            let writer = Writer::recover(disk, &stage, &layout, holder.epoch, loaded)?;
            Ok((holder, writer))
        })
        .await
    }

    /// Sets the stage aside under the lock, and settles the epoch.
    async fn begin_anew(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        exact: bool,
        provisional: &LockHolder,
    ) -> Result<(LockHolder, Writer, Option<String>), StateError> {
        let layout = self.layout(stage);
        let stage = stage.clone();
        let ours = provisional.clone();
        let at = self.clock.now();
        let lineage = (!like.lineage.is_empty()).then(|| like.lineage.clone());
        let (like_epoch, like_serial) = (like.epoch, like.serial);
        on_disk(&self.disk, move |disk| {
            let (epoch, serial) = repair::highest(disk, &layout, &stage)?;
            let epoch = epoch.max(like_epoch);
            let serial = if exact {
                like_serial
            } else {
                serial.max(like_serial)
            };
            let mut holder = ours.clone();
            if holder.epoch <= epoch {
                holder.epoch = epoch + 1;
                lock::renew(disk, &layout, &stage, &ours, &holder)?;
            }
            let _guard = lock::guard(disk, &layout)?;
            lock::check(disk, &layout, &stage, &holder)?;
            let aside = repair::set_aside(disk, &layout, &stage, lineage, at)?;
            let writer = Writer::anew(&stage, &layout, holder.epoch, serial);
            Ok((holder, writer, aside.map(|path| path.display().to_string())))
        })
        .await
    }

    fn session(
        &self,
        stage: &StagePath,
        (holder, confirmed): (LockHolder, Duration),
        writer: Writer,
    ) -> Box<dyn Session> {
        let core = Core::new(
            Arc::clone(&self.disk),
            Arc::clone(&self.clock),
            Arc::clone(&self.ids),
            stage.clone(),
            self.layout(stage),
            self.retention,
            holder,
            writer,
        );
        Box::new(FileSession::start(core, confirmed))
    }

    /// Gives a lock back after a failure; that failure is what the caller hears of.
    async fn give_back(&self, stage: &StagePath, holder: LockHolder) {
        let layout = self.layout(stage);
        let result = on_disk(&self.disk, move |disk| {
            lock::release_any_epoch(disk, &layout, &holder)
        })
        .await;
        if let Err(error) = result {
            tracing::warn!(%stage, %error, "the lock could not be given back");
        }
    }
}

/// What one look at a stage's two files came to, to see whether they changed between two looks.
fn look(disk: &dyn Disk, layout: &StageLayout) -> Result<[Option<blake3::Hash>; 2], StateError> {
    let hash = |path: &Path| -> Result<Option<blake3::Hash>, StateError> {
        Ok(recover::read_if_present(disk, path)?.map(|bytes| blake3::hash(&bytes)))
    };
    Ok([hash(&layout.stage_record())?, hash(&layout.journal())?])
}

#[async_trait]
impl Store for FileStore {
    async fn apps(&self) -> Result<Vec<AppName>, StateError> {
        let root = self.root.clone();
        on_disk(&self.disk, move |disk| {
            let mut apps = Vec::new();
            for (name, folder) in folders(disk, &root)? {
                if layout::may_be_app(&name)
                    && let Ok(app) = AppName::new(layout::unescape(&name))
                    && is_app(disk, &folder)?
                {
                    apps.push(app);
                }
            }
            apps.sort();
            Ok(apps)
        })
        .await
    }

    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let root = self.root.clone();
        let app = app.clone();
        on_disk(&self.disk, move |disk| {
            let mut stages = Vec::new();
            for (name, folder) in folders(disk, &layout::app_folder(&root, &app))? {
                let Ok(stage) = StageName::new(layout::unescape(&name)) else {
                    continue;
                };
                let stage = StagePath::new(app.clone(), stage);
                let layout = StageLayout::new(&root, &stage);
                // The folder of the tests has the name that a stage has in another spelling.
                let is_its = layout.folder == folder;
                if is_its
                    && (exists(disk, &layout.stage_record())?
                        || has_lost_record(disk, &layout, &stage)?)
                {
                    stages.push(stage);
                }
            }
            stages.sort();
            Ok(stages)
        })
        .await
    }

    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let folder = layout::app_folder(&self.root, app);
        let app = app.clone();
        on_disk(&self.disk, move |disk| {
            let mut names = kept_stages(disk, &folder)?;
            for (id, folder) in folders(disk, &folder.join(layout::TESTS))? {
                let Ok(id) = ResourceId::new(layout::unescape(&id)) else {
                    continue;
                };
                let of = kept_stages(disk, &folder)?;
                names.extend(of.iter().filter_map(|of| StageName::test(&id, of)));
            }
            names.sort();
            Ok(names
                .into_iter()
                .map(|name| StagePath::new(app.clone(), name))
                .collect())
        })
        .await
    }

    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError> {
        let mut last_look = None;
        for _ in 0..READ_TRIES {
            let (layout, path) = (self.layout(stage), stage.clone());
            let result = on_disk(&self.disk, move |disk| {
                match recover::read_stage(disk, &layout, &path) {
                    // A run may have written in between: then the files look different now than they will.
                    Err(error @ StateError::Corrupt { .. }) => {
                        Ok(Err((error, look(disk, &layout)?)))
                    }
                    other => other.map(Ok),
                }
            })
            .await?;
            match result {
                Ok(Some(Loaded { state, .. })) => {
                    state.check_here(stage)?;
                    return Ok(Some(state));
                }
                Ok(None) => return Ok(None),
                Err((error, look)) if last_look.as_ref() == Some(&look) => return Err(error),
                Err((_, look)) => last_look = Some(look),
            }
            self.clock.sleep(READ_PAUSE).await;
        }
        Err(corrupt(
            stage,
            &self.layout(stage).folder,
            "it changes faster than it can be read",
        ))
    }

    async fn removed(&self, stage: &StagePath) -> Result<Option<Removed>, StateError> {
        let (layout, stage) = (self.layout(stage), stage.clone());
        on_disk(&self.disk, move |disk| {
            match recover::read_stage(disk, &layout, &stage)? {
                Some(_) => Ok(None),
                None => removal::read(disk, &layout, &stage),
            }
        })
        .await
    }

    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let (provisional, confirmed) = self.acquire(stage, &request).await?;
        let taken = self.take_over(stage, &provisional).await;
        let taken = taken.and_then(|taken| taken.1.state().check_here(stage).map(|()| taken));
        let (holder, writer) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.give_back(stage, provisional).await;
                return Err(error);
            }
        };
        Ok(self.session(stage, (holder, confirmed), writer))
    }

    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError> {
        let (store, app) = (self.clone(), app.clone());
        let now = self.clock.now();
        on_disk(&self.disk, move |disk| {
            let mut locks = Vec::new();
            for name in lock::locked_stages(disk, &store.root, &app)? {
                let stage = StagePath::new(app.clone(), name);
                let layout = store.layout(&stage);
                let Some(seen) = lock::read(disk, &layout)? else {
                    continue;
                };
                let age = disk
                    .modified(&layout.lock)
                    .map_or(0, |at| now.as_millisecond() - at.as_millisecond());
                locks.push(LockStatus {
                    stage,
                    alive: seen.is_alive(&store.process, store.processes.as_ref()),
                    holder: seen.holder,
                    heartbeat_age_ms: u64::try_from(age).unwrap_or(0),
                });
            }
            locks.sort_by(|a, b| a.stage.cmp(&b.stage));
            Ok(locks)
        })
        .await
    }

    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError> {
        let (store, stage) = (self.clone(), stage.clone());
        on_disk(&self.disk, move |disk| {
            let layout = store.layout(&stage);
            if lock::read(disk, &layout)?.is_none() {
                return Ok(false);
            }
            let _guard = lock::guard(disk, &layout)?;
            let Some(seen) = lock::read(disk, &layout)? else {
                return Ok(false);
            };
            let alive = seen.is_alive(&store.process, store.processes.as_ref());
            if alive != Some(false) && !force {
                return Err(StateError::Locked {
                    stage,
                    alive,
                    holder: Box::new(seen.holder),
                });
            }
            lock::remove(disk, &layout)?;
            Ok(true)
        })
        .await
    }

    async fn validate(&self, stage: &StagePath) -> Result<Vec<StateError>, StateError> {
        let (layout, stage) = (self.layout(stage), stage.clone());
        on_disk(&self.disk, move |disk| {
            validate::validate(disk, &layout, &stage)
        })
        .await
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
        let (folder, stage) = (self.layout(stage).deployments(), stage.clone());
        on_disk(&self.disk, move |disk| {
            let entries = disk
                .list(&folder)
                .map_err(|error| io_error("list", &folder, error))?;
            Ok(entries
                .iter()
                .rev()
                .filter_map(|entry| entry.text())
                .filter(|name| name.ends_with(".json"))
                .take(limit)
                .map(|name| read_deployment(disk, &stage, &folder.join(name)))
                .collect())
        })
        .await
    }

    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError> {
        let layout = self.layout(stage);
        on_disk(&self.disk, move |disk| backup::list(disk, &layout)).await
    }

    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError> {
        let (layout, stage, name) = (self.layout(stage), stage.clone(), name.to_owned());
        on_disk(&self.disk, move |disk| {
            backup::read(disk, &layout, &stage, &name)
        })
        .await
    }

    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError> {
        let (layout, stage) = (self.layout(stage), stage.clone());
        on_disk(&self.disk, move |disk| {
            repair::salvage(disk, &layout, &stage)
        })
        .await
    }

    async fn clean_up(
        &self,
        stage: &StagePath,
        thorough: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError> {
        let store = self.clone();
        let path = stage.clone();
        let had_dead_lock = on_disk(&self.disk, move |disk| {
            let seen = lock::read(disk, &store.layout(&path))?;
            Ok(seen.is_some_and(|seen| {
                seen.is_alive(&store.process, store.processes.as_ref()) == Some(false)
            }))
        })
        .await?;
        let (holder, _) = self.acquire(stage, &request).await?;
        let (layout, path, ours) = (self.layout(stage), stage.clone(), holder.clone());
        let removed = on_disk(&self.disk, move |disk| {
            let _guard = lock::guard(disk, &layout)?;
            lock::check(disk, &layout, &path, &ours)?;
            let mut removed = cleanup::clean_up(disk, &layout, &path, thorough)?;
            if had_dead_lock {
                let shown = layout.lock.strip_prefix(&layout.root);
                removed.push(shown.unwrap_or(&layout.lock).display().to_string());
            }
            Ok(removed)
        })
        .await;
        self.give_back(stage, holder).await;
        removed
    }

    async fn set_aside(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        let (provisional, confirmed) = self.acquire(stage, &request).await?;
        match self.begin_anew(stage, like, false, &provisional).await {
            Ok((holder, writer, aside)) => {
                Ok((self.session(stage, (holder, confirmed), writer), aside))
            }
            Err(error) => {
                self.give_back(stage, provisional).await;
                Err(error)
            }
        }
    }

    async fn receive(
        &self,
        stage: &StagePath,
        lineage: String,
        serial: u64,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let (provisional, confirmed) = self.acquire(stage, &request).await?;
        let mut like = Snapshot::of(stage, &StageState::default());
        like.lineage = lineage;
        like.serial = serial.saturating_sub(1);
        match self.begin_anew(stage, &like, true, &provisional).await {
            Ok((holder, writer, _)) => Ok(self.session(stage, (holder, confirmed), writer)),
            Err(error) => {
                self.give_back(stage, provisional).await;
                Err(error)
            }
        }
    }
}

/// Reads the record of one finished run.
pub(crate) fn read_deployment(
    disk: &dyn Disk,
    stage: &StagePath,
    path: &Path,
) -> Result<Deployment, StateError> {
    let bytes = disk
        .read(path)
        .map_err(|error| io_error("read", path, error))?;
    let (json, _) = unseal(&bytes).map_err(|problem| corrupt(stage, path, problem))?;
    migrate::read_unstated(Role::Deployment, None, json)
        .map_err(|error| recover::unreadable(error, stage, path))
}

/// The stages in a folder, by what is kept of them.
fn kept_stages(disk: &dyn Disk, folder: &Path) -> Result<Vec<StageName>, StateError> {
    let mut names = Vec::new();
    for (name, folder) in folders(disk, folder)? {
        if let Ok(stage) = StageName::new(layout::unescape(&name))
            && (exists(disk, &folder.join(layout::STATE))?
                || exists(disk, &folder.join(layout::JOURNAL))?
                || exists(disk, &folder.join(layout::REMOVED))?
                || exists(disk, &folder.join(layout::BACKUPS))?)
        {
            names.push(stage);
        }
    }
    Ok(names)
}

/// Whether a folder is that of an application: one that lost its record is one still.
fn is_app(disk: &dyn Disk, folder: &Path) -> Result<bool, StateError> {
    if exists(disk, &folder.join(layout::STATE))? {
        return Ok(true);
    }
    for (_, stage) in folders(disk, folder)? {
        if exists(disk, &stage.join(layout::STATE))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is left of a stage without a stage record is damage, and not the beginning or the end of one.
fn has_lost_record(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<bool, StateError> {
    match recover::read_stage(disk, layout, stage) {
        Ok(loaded) => Ok(loaded.is_some()),
        Err(StateError::Corrupt { .. } | StateError::TooNew { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn folders(disk: &dyn Disk, folder: &Path) -> Result<Vec<(String, PathBuf)>, StateError> {
    let entries = disk
        .list(folder)
        .map_err(|error| io_error("list", folder, error))?;
    Ok(entries
        .iter()
        .filter(|entry| entry.is_folder)
        .filter_map(|entry| entry.text())
        .map(|name| (name.to_owned(), folder.join(name)))
        .collect())
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, StateError> {
    disk.exists(path)
        .map_err(|error| io_error("look for", path, error))
}
