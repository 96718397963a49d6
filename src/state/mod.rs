//! Durable state: the `Store` seam, the record format, and the file store behind it.
//!
//! A [`Store`] hands out one exclusive [`Session`] per stage. A session loads the stage once, appends journal entries that
//! are durable when `append` returns, and folds them into a checkpoint at the end. What is torn, empty or unreadable is
//! an error with the command that repairs it, never "no state".

pub mod bucket;
pub mod difference;
pub mod disk;
pub mod file;
pub mod lease;
pub mod memory;
mod migrate;
pub mod record;
pub mod sim_disk;
pub mod snapshot;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests_support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::model::{AppName, StagePath};

pub use bucket::BucketStore;
pub use file::FileStore;
pub use lease::Lease;
pub use memory::MemoryStore;
pub use record::{
    Deployment, Intent, JournalEntry, KeyCheck, LockHolder, LockStatus, OldObject, Operation,
    Record, Removed, StageHeader, StageState, Status,
};
pub use snapshot::{BackupName, Salvage, Snapshot, SnapshotError};

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run holds the stage.
    #[error("stage {stage} is locked by {holder}")]
    Locked {
        /// The stage.
        stage: StagePath,
        /// Who holds it.
        holder: Box<LockHolder>,
        /// Whether the holder is known to live, known to be dead, or out of sight, on another machine.
        alive: Option<bool>,
    },
    /// Something on disk is torn, empty or contradicts itself.
    #[error("state of {stage} is damaged: {problem} (`{place}`)")]
    Corrupt {
        /// The stage, or the application where the stage cannot be told.
        stage: String,
        /// The file or object.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another run took the stage over: what this one still wants to write is refused.
    #[error("this run lost stage {stage}: epoch {ours} was overtaken by epoch {theirs}")]
    Fenced {
        /// The stage.
        stage: StagePath,
        /// The epoch of this run.
        ours: u64,
        /// The epoch in charge now.
        theirs: u64,
    },
    /// This run could not renew its lock, so that another one may have the stage by now: it starts nothing more.
    #[error(
        "this run could not renew its lock on stage {stage} for {}: {problem}",
        crate::util::text::duration(*silent)
    )]
    Lapsed {
        /// The stage.
        stage: StagePath,
        /// Since the last renewal.
        silent: Duration,
        /// Why the renewal failed.
        problem: String,
    },
    /// The stage was brought to another store; what is here is an old copy.
    #[error(
        "state of {stage} is in `{to}` now; what is here is the copy that `alch state migrate-store` left"
    )]
    Moved {
        /// The stage.
        stage: StagePath,
        /// The address of the other store.
        to: String,
    },
    /// The environment names another store than the one that the state was brought to by a command.
    #[error("{0}")]
    OtherStore(Box<OtherStore>),
    /// Written by a newer alch.
    #[error("`{place}` was written in format {found}; this alch reads up to {known}")]
    TooNew {
        /// The file or object.
        place: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The bucket said no, or nothing.
    #[error("cannot {operation} `{place}`: {problem}")]
    Bucket {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The object.
        place: String,
        /// What sort of failure it is.
        fault: BucketFault,
        /// What the bucket, or the network, said.
        problem: String,
    },
    /// The file system said no.
    #[error("cannot {operation} `{place}`")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or object.
        place: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Two stores of one application: the one that has its state, and the one that the environment names.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`${variable}` names {named}, but state of {app} is in {place}, where `alch state migrate-store` brought it"
)]
pub struct OtherStore {
    /// The application.
    pub app: AppName,
    /// The variable of the environment.
    pub variable: &'static str,
    /// What it names, for people.
    pub named: String,
    /// The same as an address.
    pub named_url: String,
    /// Where the state is, for people.
    pub place: String,
    /// The same as an address.
    pub place_url: String,
}

/// Why a bucket could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketFault {
    /// It does not accept the credentials, or they may not do this.
    Credentials,
    /// There is no such bucket.
    NoBucket,
    /// It does not keep to conditions of writes, without which two runs would overwrite each other.
    NoConditionalWrites,
    /// No answer, or none but "later", for as long as it was tried.
    Unreachable,
    /// The user did not want to wait for its answer any more.
    Stopped,
    /// Anything else that it refused.
    Refused,
}

impl StateError {
    /// The failure of a bucket with one more fact; any other as it is.
    #[must_use]
    pub fn adding(self, fact: &str) -> Self {
        match self {
            Self::Bucket {
                operation,
                place,
                fault,
                problem,
            } => Self::Bucket {
                operation,
                place,
                fault,
                problem: format!("{problem}; {fact}"),
            },
            other => other,
        }
    }
}

impl From<crate::util::fs::FsError> for StateError {
    fn from(error: crate::util::fs::FsError) -> Self {
        Self::Io {
            operation: error.operation,
            place: error.path.display().to_string(),
            source: error.source,
        }
    }
}

/// How to take the lock of a stage.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// How long to wait for another run to end; zero answers at once.
    pub wait: Duration,
    /// What the holder is doing, for the person who meets the lock: the command line without secrets.
    pub command: String,
}

/// How many backups and logs are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Backups per stage.
    pub backups: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { backups: 10 }
    }
}

/// Durable bytes for stages.
#[async_trait]
pub trait Store: Send + Sync {
    /// The applications that have state.
    ///
    /// # Errors
    /// [`StateError`] when that cannot be read.
    async fn apps(&self) -> Result<Vec<AppName>, StateError>;

    /// The stages of an application that have state. Those of its tests are not among them.
    ///
    /// # Errors
    /// [`StateError`] when that cannot be read.
    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError>;

    /// Every stage of an application of which anything is kept: those that have state, those of its tests, and removed ones of
    /// which a backup may be left.
    ///
    /// # Errors
    /// [`StateError`] when that cannot be read.
    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError>;

    /// Reads a stage without the lock; what the journal holds beyond the last checkpoint is applied in memory. `None` when
    /// the stage has never been written.
    ///
    /// # Errors
    /// [`StateError::Corrupt`], [`StateError::Moved`] and the others.
    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError>;

    /// What is known of a stage that was removed and has not been made again; `None` also where that was forgotten.
    ///
    /// # Errors
    /// As [`Store::load`].
    async fn removed(&self, stage: &StagePath) -> Result<Option<Removed>, StateError> {
        tracing::trace!(%stage, "this store forgets what was removed");
        Ok(None)
    }

    /// Takes the stage for one run, recovers what a crashed run left, and makes the stage where there is none.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another run holds it after `request.wait`, [`StateError::Moved`] when it is in another store now.
    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError>;

    /// Who holds the locks of an application, alive or not.
    ///
    /// # Errors
    /// [`StateError`] when that cannot be read.
    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError>;

    /// Removes a lock. A live holder is refused unless `force`.
    ///
    /// # Errors
    /// [`StateError::Locked`] when the holder lives. Answers `false` when there was no lock.
    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError>;

    /// Every problem found in a stage's files, each as a [`StateError::Corrupt`] or the like; empty when all is well.
    ///
    /// # Errors
    /// [`StateError::Io`] when the folder itself cannot be read.
    async fn validate(&self, stage: &StagePath) -> Result<Vec<StateError>, StateError>;

    /// The finished deployments of a stage, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StateError`] when they cannot be read.
    async fn deployments(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Deployment>, StateError>;

    /// As [`Store::deployments`], with why a record cannot be read in its place: a damaged one does not hide the others.
    ///
    /// # Errors
    /// [`StateError`] when the records cannot be listed, or the store does not answer.
    async fn history(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Result<Deployment, StateError>>, StateError> {
        let whole = self.deployments(stage, limit).await?;
        Ok(whole.into_iter().map(Ok).collect())
    }

    /// The backups of a stage, newest first.
    ///
    /// # Errors
    /// [`StateError::Io`] when they cannot be listed.
    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError>;

    /// Reads one backup.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] when it is damaged, and the others.
    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError>;

    /// Everything of a stage that can still be read, whatever else is damaged. Changes nothing.
    ///
    /// # Errors
    /// [`StateError::Io`] when the store itself cannot be read, [`StateError::TooNew`] when a newer alch wrote.
    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError>;

    /// Removes what crashes left behind: a dead lock, unfinished files, records that nothing lists. `thorough` also removes what
    /// may still be of use: files that a repair set aside, all backups but the newest that can be read, old history. Answers what
    /// was removed. No record that state lists is touched.
    ///
    /// # Errors
    /// [`StateError::Locked`] when a run is going on.
    async fn clean_up(
        &self,
        stage: &StagePath,
        thorough: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError>;

    /// Takes a stage for a repair without reading it: what is there is kept aside, never deleted, and the session begins
    /// without any state, for one [`JournalEntry::Replaced`] and a checkpoint. Until that checkpoint the stage counts as damaged, so
    /// a repair that is cut short is never taken for "no state". The lineage of `like` is used where the application has none that
    /// can be read, and serial and epoch go on from it. Answers the session and where the old files are; `None` when there were none.
    ///
    /// # Errors
    /// As [`Store::open`].
    async fn set_aside(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError>;

    /// Takes a stage for the state of another store, as [`Store::set_aside`] does for a repair: for one
    /// [`JournalEntry::Replaced`] and a checkpoint, whose serial is then `serial`, 1 or more. `lineage` is used where the
    /// application has none.
    ///
    /// # Errors
    /// As [`Store::open`].
    async fn receive(
        &self,
        stage: &StagePath,
        lineage: String,
        serial: u64,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError>;
}

/// One run's exclusive hold on a stage. Heartbeats go on in the background until [`Session::release`] or drop.
#[async_trait]
pub trait Session: Send + Sync {
    /// The stage as it was when the lock was taken, recovered. Callable once; later calls answer an empty state.
    fn take_state(&self) -> StageState;

    /// The fencing token of this run.
    fn epoch(&self) -> u64;

    /// What to ask before anything outside the store is changed. The default is for stores whose locks end with their holder.
    fn lease(&self) -> Lease {
        Lease::always()
    }

    /// What a person should hear of how the stage was found, such as what an earlier run had to leave on this machine.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Appends entries in order. Durable on return; calls at the same time share an fsync.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when the stage was taken over; [`StateError::Io`] when the disk refuses.
    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), StateError>;

    /// Folds everything appended into records, writes the header and empties the journal. Records that did not change are
    /// not rewritten; without any change nothing is written at all.
    ///
    /// # Errors
    /// As [`Session::append`].
    async fn checkpoint(&self, header: StageHeader) -> Result<(), StateError>;

    /// Writes the record of this finished run.
    ///
    /// # Errors
    /// As [`Session::append`].
    async fn record_deployment(&self, deployment: Deployment) -> Result<(), StateError>;

    /// Puts `backup` in the place of the backup of that name, in one durable step.
    ///
    /// # Errors
    /// As [`Session::append`]; also when there is no such backup.
    async fn rewrite_backup(&self, name: &str, backup: Snapshot) -> Result<(), StateError>;

    /// What repairs of the stage set aside, as people find it.
    ///
    /// # Errors
    /// [`StateError`] when that cannot be read.
    async fn set_aside(&self) -> Result<Vec<String>, StateError>;

    /// Removes all backups and all that repairs set aside. Answers how many backups and how many copies that were set aside.
    ///
    /// # Errors
    /// As [`Session::append`].
    async fn drop_backups(&self) -> Result<(usize, usize), StateError>;

    /// Removes all files of a stage whose last resource is gone, but its history and that it was removed: see [`Removed`].
    ///
    /// # Errors
    /// As [`Session::append`].
    async fn remove_stage(&self) -> Result<(), StateError>;

    /// As [`Session::remove_stage`], and forgets that there ever was one: for a copy that is the state no more, and for whoever
    /// asks for it.
    ///
    /// # Errors
    /// As [`Session::append`].
    async fn forget_stage(&self) -> Result<(), StateError> {
        self.remove_stage().await
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// [`StateError::Io`] when the lock file cannot be removed.
    async fn release(&self) -> Result<(), StateError>;

    /// After a release: what became of the lock where it could not be given back, and why was said before or is the user's own
    /// wish.
    fn left(&self) -> Option<String> {
        None
    }
}

/// A store shared by everything in a run.
pub type SharedStore = Arc<dyn Store>;
