//! What the files of a store are for, by their paths; and what the store can be made to leave out.

use std::{path::Path, sync::Arc};

use alch::{
    model::{AppName, StagePath},
    state::{
        BackupName, Deployment, FileStore, JournalEntry, Lease, LockRequest, LockStatus, Operation,
        Salvage, Session, SharedStore, Snapshot, StageHeader, StageState, StateError, Store,
    },
};
use async_trait::async_trait;

/// The folder of the simulated store.
pub(crate) const ROOT: &str = "/project/.alchemy";

/// What a path of the simulated disk is for.
pub(crate) fn place(path: &Path) -> &'static str {
    let Ok(within) = path.strip_prefix(ROOT) else {
        return "project folder";
    };
    let text = within.to_string_lossy();
    let text = text.strip_suffix(".tmp").unwrap_or(&text);
    match text {
        "" => "root folder",
        "app" => "application folder",
        "app/state.json" => "application record",
        "app/dev" => "stage folder",
        "app/dev/state.json" => "stage record",
        "app/dev/journal.wal" => "journal",
        "app/dev/removed.json" => "removal record",
        _ if text.starts_with("locks") => "lock",
        _ if text.starts_with("app/dev/backups/") => "backup",
        _ if text.starts_with("app/dev/backups") => "backups folder",
        _ if text.starts_with("app/dev/deployments/") => "deployment",
        _ if text.starts_with("app/dev/deployments") => "deployments folder",
        _ if text.ends_with("/state.json") && text.contains("/resources/") => "record",
        _ if text.ends_with("/state.json") => "scope record",
        _ => "record folder",
    }
}

/// An operation of the store that makes something durable, told by what it is, where, and what came before it: each place in
/// the store's code that does so has one of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site {
    /// `sync`, `sync folder`, `rename`, `truncate` or `create whole`.
    pub(crate) operation: &'static str,
    pub(crate) place: &'static str,
    /// The change of the disk before it, or that it is a part of.
    pub(crate) after: String,
}

impl std::fmt::Display for Site {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} {}, after {}",
            self.operation, self.place, self.after
        )
    }
}

/// What a session is at when it looks at its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing of the run's own: a heartbeat.
    Heartbeat,
    Append,
    Checkpoint,
    Deployment,
    RemoveStage,
}

/// One thing that the store is made to leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Omission {
    /// An operation of the disk. What would be renamed is written in place instead.
    Disk(Site),
    /// The intents of an operation.
    Intent(Operation),
    /// The results of operations, until the checkpoint.
    Result,
    /// That a record was renamed, until the checkpoint.
    Renamed,
    /// The look at the lock before this.
    Fence(Work),
    /// The look at the lease before a call to the provider.
    Lease,
}

impl std::fmt::Display for Omission {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(site) => site.fmt(out),
            Self::Intent(operation) => write!(out, "intents of {operation:?}"),
            Self::Result => out.write_str("results"),
            Self::Renamed => out.write_str("renames of records"),
            Self::Fence(work) => write!(out, "the look at the lock, {work:?}"),
            Self::Lease => out.write_str("the look at the lease before a call"),
        }
    }
}

/// What the session of a process does at this moment.
pub(crate) type AtWork = Arc<std::sync::Mutex<Work>>;

/// The store with what is left out above the disk.
pub(crate) fn wrap(
    store: Arc<FileStore>,
    omission: Option<Omission>,
    at_work: AtWork,
) -> SharedStore {
    match omission {
        None | Some(Omission::Disk(_)) => store,
        Some(omission) => Arc::new(Lossy {
            store,
            omission,
            at_work,
        }),
    }
}

/// A store whose sessions leave entries out.
struct Lossy {
    store: Arc<FileStore>,
    omission: Omission,
    at_work: AtWork,
}

impl Lossy {
    fn session(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        Box::new(LossySession {
            session,
            omission: self.omission.clone(),
            at_work: Arc::clone(&self.at_work),
            held_back: std::sync::Mutex::default(),
        })
    }
}

#[async_trait]
impl Store for Lossy {
    async fn apps(&self) -> Result<Vec<AppName>, StateError> {
        self.store.apps().await
    }

    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        self.store.stages(app).await
    }

    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        self.store.all_stages(app).await
    }

    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError> {
        self.store.load(stage).await
    }

    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let session = self.store.open(stage, request).await?;
        Ok(self.session(session))
    }

    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError> {
        self.store.locks(app).await
    }

    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError> {
        self.store.unlock(stage, force).await
    }

    async fn validate(&self, stage: &StagePath) -> Result<Vec<StateError>, StateError> {
        self.store.validate(stage).await
    }

    async fn deployments(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Deployment>, StateError> {
        self.store.deployments(stage, limit).await
    }

    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError> {
        self.store.backups(stage).await
    }

    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError> {
        self.store.backup(stage, name).await
    }

    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError> {
        self.store.salvage(stage).await
    }

    async fn clean_up(
        &self,
        stage: &StagePath,
        force: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError> {
        self.store.clean_up(stage, force, request).await
    }

    async fn receive(
        &self,
        stage: &StagePath,
        lineage: String,
        serial: u64,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        let session = self.store.receive(stage, lineage, serial, request).await?;
        Ok(self.session(session))
    }

    async fn set_aside(
        &self,
        stage: &StagePath,
        basis: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        let (session, kept) = self.store.set_aside(stage, basis, request).await?;
        Ok((self.session(session), kept))
    }
}

struct LossySession {
    session: Box<dyn Session>,
    omission: Omission,
    at_work: AtWork,
    /// Results that come with the checkpoint only.
    held_back: std::sync::Mutex<Vec<JournalEntry>>,
}

#[async_trait]
impl Session for LossySession {
    fn take_state(&self) -> StageState {
        self.session.take_state()
    }

    fn epoch(&self) -> u64 {
        self.session.epoch()
    }

    fn lease(&self) -> Lease {
        match self.omission {
            Omission::Lease => Lease::always(),
            _ => self.session.lease(),
        }
    }

    async fn append(&self, mut entries: Vec<JournalEntry>) -> Result<(), StateError> {
        if let Omission::Intent(omitted) = self.omission {
            entries.retain(|entry| match entry {
                JournalEntry::Intent(intent) => intent.operation != omitted,
                _ => true,
            });
        }
        let late = |entry: &JournalEntry| match self.omission {
            Omission::Result => matches!(
                entry,
                JournalEntry::Record(_) | JournalEntry::Removed { .. }
            ),
            Omission::Renamed => matches!(entry, JournalEntry::Renamed { .. }),
            _ => false,
        };
        {
            let mut held_back = self.held_back.lock().unwrap();
            held_back.extend(entries.extract_if(.., |entry| late(entry)));
        }
        let _at_work = self.at(Work::Append);
        self.session.append(entries).await
    }

    async fn checkpoint(&self, header: StageHeader) -> Result<(), StateError> {
        let held_back = std::mem::take(&mut *self.held_back.lock().unwrap());
        self.session.append(held_back).await?;
        let _at_work = self.at(Work::Checkpoint);
        self.session.checkpoint(header).await
    }

    async fn record_deployment(&self, deployment: Deployment) -> Result<(), StateError> {
        let _at_work = self.at(Work::Deployment);
        self.session.record_deployment(deployment).await
    }

    async fn rewrite_backup(&self, name: &str, backup: Snapshot) -> Result<(), StateError> {
        self.session.rewrite_backup(name, backup).await
    }

    async fn set_aside(&self) -> Result<Vec<String>, StateError> {
        self.session.set_aside().await
    }

    async fn drop_backups(&self) -> Result<(usize, usize), StateError> {
        self.session.drop_backups().await
    }

    async fn remove_stage(&self) -> Result<(), StateError> {
        let _at_work = self.at(Work::RemoveStage);
        self.session.remove_stage().await
    }

    async fn release(&self) -> Result<(), StateError> {
        self.session.release().await
    }
}

impl LossySession {
    /// The disk answers at once, so that nothing else of the process comes in between.
    fn at(&self, work: Work) -> impl Drop + use<> {
        struct AtRest(AtWork);
        impl Drop for AtRest {
            fn drop(&mut self) {
                *self.0.lock().unwrap() = Work::Heartbeat;
            }
        }
        *self.at_work.lock().unwrap() = work;
        AtRest(Arc::clone(&self.at_work))
    }
}
