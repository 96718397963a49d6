//! The [`Store`] in memory: what the file store promises, without files, for tests and simulations.
//!
//! A session that is dropped without release counts as a process that died: its lock is found and taken over at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    BackupName, Deployment, JournalEntry, LockHolder, LockRequest, LockStatus, Removed, Retention,
    Salvage, Session, Snapshot, StageHeader, StageState, StateError, Store,
};
use crate::{
    model::{AppName, StagePath},
    util::{clock::Clock, ids::Ids},
};

const LOCK_POLL: Duration = Duration::from_millis(250);

/// State in memory; clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    data: Arc<Mutex<Data>>,
}

#[derive(Default)]
struct Data {
    lineages: BTreeMap<AppName, String>,
    stages: BTreeMap<StagePath, StageState>,
    removed: BTreeMap<StagePath, Removed>,
    deployments: BTreeMap<StagePath, BTreeMap<String, Deployment>>,
    /// By stage, oldest first; and the last checkpoint, which the next one backs up.
    backups: BTreeMap<StagePath, Vec<Snapshot>>,
    checkpoints: BTreeMap<StagePath, Snapshot>,
    locks: BTreeMap<StagePath, Lock>,
    /// Numbers the sessions, as process ids do.
    sessions: u32,
    /// The highest epoch of each stage: it never goes back, though a run may write nothing.
    epochs: BTreeMap<StagePath, u64>,
}

struct Lock {
    holder: LockHolder,
    alive: bool,
}

fn locked(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            clock,
            ids,
            data: Arc::default(),
        }
    }

    fn try_open(
        &self,
        stage: &StagePath,
        request: &LockRequest,
    ) -> Result<MemorySession, Box<LockHolder>> {
        let mut data = locked(&self.data);
        if let Some(lock) = data.locks.get(stage)
            && lock.alive
        {
            return Err(Box::new(lock.holder.clone()));
        }
        data.sessions += 1;
        let pid = data.sessions;
        let epoch = data.epochs.entry(stage.clone()).or_default();
        *epoch += 1;
        let holder = LockHolder {
            owner: "memory".to_owned(),
            host: "memory".to_owned(),
            boot_id: String::new(),
            pid,
            pid_start: 0,
            command: request.command.clone(),
            epoch: *epoch,
            ttl_ms: 60_000,
            acquired_at: self.clock.now(),
            heartbeat: 0,
        };
        let state = data.stages.get(stage).cloned();
        let state = state.unwrap_or_else(|| StageState {
            serial: data.removed.get(stage).map_or(0, |found| found.serial),
            ..StageState::default()
        });
        data.locks.insert(
            stage.clone(),
            Lock {
                holder: holder.clone(),
                alive: true,
            },
        );
        Ok(MemorySession {
            store: self.clone(),
            stage: stage.clone(),
            holder,
            handed: Mutex::new(Some(state)),
        })
    }
}

impl MemoryStore {
    /// Takes the lock of a stage, wherever its state is.
    async fn hold(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let begin = self.clock.monotonic();
        loop {
            let holder = match self.try_open(stage, &request) {
                Ok(session) => return Ok(Box::new(session)),
                Err(holder) => holder,
            };
            let waited = self.clock.monotonic().saturating_sub(begin);
            let left = request.wait.saturating_sub(waited);
            if left.is_zero() {
                return Err(StateError::Locked {
                    stage: stage.clone(),
                    holder,
                    alive: Some(true),
                });
            }
            self.clock.sleep(left.min(LOCK_POLL)).await;
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn apps(&self) -> Result<Vec<AppName>, StateError> {
        Ok(locked(&self.data).lineages.keys().cloned().collect())
    }

    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let data = locked(&self.data);
        let stages = data
            .stages
            .keys()
            .filter(|stage| stage.app == *app && stage.stage.test_parts().is_none());
        Ok(stages.cloned().collect())
    }

    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let data = locked(&self.data);
        let kept = data.stages.keys().chain(data.backups.keys());
        let stages: BTreeSet<&StagePath> = kept.chain(data.removed.keys()).collect();
        let stages = stages.into_iter().filter(|stage| stage.app == *app);
        Ok(stages.cloned().collect())
    }

    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError> {
        let state = locked(&self.data).stages.get(stage).cloned();
        if let Some(state) = &state {
            state.check_here(stage)?;
        }
        Ok(state)
    }

    async fn removed(&self, stage: &StagePath) -> Result<Option<Removed>, StateError> {
        let data = locked(&self.data);
        let found = data.removed.get(stage);
        Ok(found.filter(|_| !data.stages.contains_key(stage)).cloned())
    }

    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let session = self.hold(stage, request).await?;
        let here = locked(&self.data)
            .stages
            .get(stage)
            .map_or(Ok(()), |state| state.check_here(stage));
        match here {
            Ok(()) => Ok(session),
            Err(error) => {
                session.release().await?;
                Err(error)
            }
        }
    }

    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError> {
        let data = locked(&self.data);
        let locks = data.locks.iter().filter(|(stage, _)| stage.app == *app);
        Ok(locks
            .map(|(stage, lock)| LockStatus {
                stage: stage.clone(),
                holder: lock.holder.clone(),
                alive: Some(lock.alive),
                heartbeat_age_ms: 0,
            })
            .collect())
    }

    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError> {
        let mut data = locked(&self.data);
        match data.locks.get(stage) {
            None => Ok(false),
            Some(lock) if lock.alive && !force => Err(StateError::Locked {
                stage: stage.clone(),
                holder: Box::new(lock.holder.clone()),
                alive: Some(true),
            }),
            Some(_) => {
                data.locks.remove(stage);
                Ok(true)
            }
        }
    }

    async fn validate(&self, _stage: &StagePath) -> Result<Vec<StateError>, StateError> {
        Ok(Vec::new())
    }

    async fn deployments(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Deployment>, StateError> {
        let data = locked(&self.data);
        let deployments = data.deployments.get(stage).into_iter();
        Ok(deployments
            .flat_map(|all| all.values().rev())
            .take(limit)
            .cloned()
            .collect())
    }

    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError> {
        let data = locked(&self.data);
        let backups = data.backups.get(stage).into_iter().flatten().rev();
        Ok(backups
            .map(|snapshot| BackupName {
                name: backup_name(snapshot),
                bytes: 0,
            })
            .collect())
    }

    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError> {
        let data = locked(&self.data);
        let mut backups = data.backups.get(stage).into_iter().flatten();
        let found = backups.find(|snapshot| backup_name(snapshot) == name);
        found.cloned().ok_or_else(|| StateError::Io {
            operation: "read",
            place: name.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError> {
        let data = locked(&self.data);
        let state = data.stages.get(stage);
        Ok(Salvage {
            snapshot: Snapshot::of(stage, &state.cloned().unwrap_or_default()),
            lineage: data.lineages.get(&stage.app).cloned(),
            has_index: state.is_some(),
            lost: Vec::new(),
        })
    }

    async fn clean_up(
        &self,
        stage: &StagePath,
        thorough: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError> {
        let session = self.open(stage, request).await?;
        let mut removed = Vec::new();
        if thorough && let Some(backups) = locked(&self.data).backups.get_mut(stage) {
            let excess = backups.len().saturating_sub(1);
            removed.extend(backups.drain(..excess).map(|old| backup_name(&old)));
        }
        session.release().await?;
        Ok(removed)
    }

    async fn set_aside(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        let session = self.hold(stage, request).await?;
        drop(session.take_state());
        let mut data = locked(&self.data);
        let old = data.stages.remove(stage);
        if !like.lineage.is_empty() {
            let lineages = data.lineages.entry(stage.app.clone());
            lineages.or_insert_with(|| like.lineage.clone());
        }
        Ok((session, old.map(|_| "memory".to_owned())))
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
        let (session, _) = self.set_aside(stage, &like, request).await?;
        let mut data = locked(&self.data);
        let state = StageState {
            lineage: data.lineages.get(&stage.app).cloned().unwrap_or_default(),
            serial: serial.saturating_sub(1),
            ..StageState::default()
        };
        data.stages.insert(stage.clone(), state);
        data.checkpoints.remove(stage);
        Ok(session)
    }
}

/// Counts a checkpoint.
fn state_serial(data: &mut Data, stage: &StagePath) -> u64 {
    data.stages.get_mut(stage).map_or(0, |state| {
        state.serial += 1;
        state.serial
    })
}

/// The place of a backup among others of its stage.
fn backup_name(snapshot: &Snapshot) -> String {
    format!("state-{:020}.json", snapshot.serial)
}

/// One run's hold on a stage of a [`MemoryStore`].
struct MemorySession {
    store: MemoryStore,
    stage: StagePath,
    holder: LockHolder,
    handed: Mutex<Option<StageState>>,
}

impl MemorySession {
    fn write<T>(&self, work: impl FnOnce(&mut Data) -> T) -> Result<T, StateError> {
        let mut data = locked(&self.store.data);
        match data.locks.get(&self.stage) {
            Some(lock) if lock.holder == self.holder => Ok(work(&mut data)),
            lock => Err(StateError::Fenced {
                stage: self.stage.clone(),
                ours: self.holder.epoch,
                theirs: lock.map_or(self.holder.epoch + 1, |lock| lock.holder.epoch),
            }),
        }
    }

    /// The stage, made when there is none.
    fn stage<'a>(&self, data: &'a mut Data) -> &'a mut StageState {
        let lineage = data
            .lineages
            .entry(self.stage.app.clone())
            .or_insert_with(|| self.store.ids.ulid(self.store.clock.now()));
        let removed = &data.removed;
        let state = data
            .stages
            .entry(self.stage.clone())
            .or_insert_with(|| StageState {
                lineage: lineage.clone(),
                serial: removed.get(&self.stage).map_or(0, |found| found.serial),
                ..StageState::default()
            });
        state.epoch = self.holder.epoch;
        state
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        let mut data = locked(&self.store.data);
        if let Some(lock) = data.locks.get_mut(&self.stage)
            && lock.holder == self.holder
        {
            lock.alive = false;
        }
    }
}

#[async_trait]
impl Session for MemorySession {
    fn take_state(&self) -> StageState {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.take().unwrap_or_default()
    }

    fn epoch(&self) -> u64 {
        self.holder.epoch
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.write(|data| {
            let state = self.stage(data);
            for entry in &entries {
                state.apply(entry);
            }
        })
    }

    async fn checkpoint(&self, header: StageHeader) -> Result<(), StateError> {
        self.write(|data| {
            if !data.stages.contains_key(&self.stage) && header == StageHeader::default() {
                return;
            }
            let state = self.stage(data);
            state.header = header;
            let mut now = Snapshot::of(&self.stage, state);
            let last = data.checkpoints.get(&self.stage).cloned();
            let same = last
                .as_ref()
                .is_some_and(|last| last.header == now.header && last.records == now.records);
            if same {
                return;
            }
            now.serial = state_serial(data, &self.stage);
            data.checkpoints.insert(self.stage.clone(), now);
            let backups = data.backups.entry(self.stage.clone()).or_default();
            backups.extend(last.filter(|last| !last.records.is_empty()));
            let excess = backups.len().saturating_sub(Retention::default().backups);
            backups.drain(..excess);
        })
    }

    async fn record_deployment(&self, deployment: Deployment) -> Result<(), StateError> {
        self.write(|data| {
            let all = data.deployments.entry(self.stage.clone()).or_default();
            all.insert(deployment.id.clone(), deployment);
        })
    }

    async fn rewrite_backup(&self, name: &str, backup: Snapshot) -> Result<(), StateError> {
        self.write(|data| {
            let mut backups = data.backups.get_mut(&self.stage).into_iter().flatten();
            match backups.find(|old| backup_name(old) == name) {
                Some(old) => {
                    *old = backup;
                    Ok(())
                }
                None => Err(StateError::Io {
                    operation: "write",
                    place: name.to_owned(),
                    source: std::io::ErrorKind::NotFound.into(),
                }),
            }
        })?
    }

    async fn set_aside(&self) -> Result<Vec<String>, StateError> {
        Ok(Vec::new())
    }

    async fn drop_backups(&self) -> Result<(usize, usize), StateError> {
        self.write(|data| {
            let backups = data.backups.remove(&self.stage);
            (backups.map_or(0, |backups| backups.len()), 0)
        })
    }

    async fn remove_stage(&self) -> Result<(), StateError> {
        let at = self.store.clock.now();
        self.write(|data| {
            let state = data.stages.get(&self.stage);
            if state.is_none_or(StageState::is_empty) {
                let removed = state.map(|state| Removed::of(state, at));
                data.removed
                    .extend(removed.map(|removed| (self.stage.clone(), removed)));
                data.stages.remove(&self.stage);
                data.checkpoints.remove(&self.stage);
                data.backups.remove(&self.stage);
                Ok(())
            } else {
                Err(StateError::Io {
                    operation: "remove",
                    place: self.stage.to_string(),
                    source: std::io::Error::new(
                        std::io::ErrorKind::DirectoryNotEmpty,
                        "the stage still has resources",
                    ),
                })
            }
        })?
    }

    async fn forget_stage(&self) -> Result<(), StateError> {
        self.remove_stage().await?;
        self.write(|data| {
            data.removed.remove(&self.stage);
        })
    }

    async fn release(&self) -> Result<(), StateError> {
        let mut data = locked(&self.store.data);
        if let Some(lock) = data.locks.get(&self.stage)
            && lock.holder == self.holder
        {
            data.locks.remove(&self.stage);
        }
        Ok(())
    }
}
