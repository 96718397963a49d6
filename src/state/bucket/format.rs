//! What the objects hold: JSON in the sealed form of the file store's records, each with its format version.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    model::{AppName, Fqn, StagePath},
    state::{
        Deployment, Intent, JournalEntry, LockHolder, Record, Removed, StageHeader, StageState,
        StateError,
        file::envelope::{seal, unseal},
        migrate::{self, Role, Unreadable, Versioned},
        record::FORMAT,
    },
};

/// The record of the store itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreRecord {
    pub(super) format: u32,
    /// Who wrote it first.
    pub(super) session: String,
}

/// The record of an application.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRecord {
    pub(super) format: u32,
    pub(super) app: AppName,
    pub(super) lineage: String,
}

/// The lock of a stage. It is never deleted, so that epochs only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockRecord {
    pub(super) format: u32,
    /// Tells two holds apart that have all else in common, and makes a write known again by who sent it.
    pub(super) session: String,
    /// The last holder; its epoch is that of the lock.
    pub(super) holder: LockHolder,
    /// The stage's generation when this was written: its state can be newer, never older.
    pub(super) generation: u64,
    /// Whether it is held.
    pub(super) status: LockState,
}

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LockState {
    Held,
    /// Given back by a run that left nothing behind the checkpoint of `generation`.
    Free,
    /// Given back, or taken away, with work that the next run has to look at.
    Left,
}

/// Whether a checkpoint is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StageStatus {
    #[default]
    Live,
    /// The stage was removed, or never had state and was taken over.
    Removed,
    /// The stage is being made anew after damage, or that was cut short.
    Repairing,
}

impl StageStatus {
    fn is_live(&self) -> bool {
        *self == Self::Live
    }
}

/// The checkpoint of a stage. It is never deleted either: what is left of a removed stage says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateRecord {
    pub(super) format: u32,
    pub(super) stage: StagePath,
    pub(super) lineage: String,
    /// Grows with every write of this object; the journal's segments are named after it.
    pub(super) generation: u64,
    pub(super) serial: u64,
    pub(super) epoch: u64,
    /// The hold that wrote it.
    pub(super) session: String,
    #[serde(default, skip_serializing_if = "StageStatus::is_live")]
    pub(super) status: StageStatus,
    pub(super) header: StageHeader,
    pub(super) records: Vec<Arc<Record>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open_intents: Vec<Arc<Intent>>,
    /// Names of the backups, oldest first, so that nobody has to list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) backups: Vec<String>,
    /// Where the stage was removed: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<Removed>,
}

impl StateRecord {
    /// As the rest of the program knows a stage.
    pub(super) fn to_state(&self) -> StageState {
        let records: BTreeMap<Fqn, Arc<Record>> = self
            .records
            .iter()
            .map(|record| (record.fqn.clone(), Arc::clone(record)))
            .collect();
        StageState {
            lineage: self.lineage.clone(),
            serial: self.serial,
            epoch: self.epoch,
            header: self.header.clone(),
            records,
            open_intents: self
                .open_intents
                .iter()
                .map(|intent| (intent.fqn.clone(), Arc::clone(intent)))
                .collect(),
        }
    }
}

/// One group commit of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) format: u32,
    pub(super) stage: StagePath,
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    /// The hold that wrote it.
    pub(super) session: String,
    /// Whether it stands in the way of an earlier epoch, and has to stay there for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) seal: bool,
    pub(super) entries: Vec<JournalEntry>,
}

impl Versioned for StoreRecord {
    const ROLE: Role = Role::Store;
}

impl Versioned for AppRecord {
    const ROLE: Role = Role::Application;
}

impl Versioned for LockRecord {
    const ROLE: Role = Role::Lock;
}

impl Versioned for StateRecord {
    const ROLE: Role = Role::Checkpoint;
}

impl Versioned for Segment {
    const ROLE: Role = Role::Segment;
}

/// Serialises an object.
pub(super) fn encode(place: &str, value: &impl Serialize) -> Result<Bytes, StateError> {
    match seal(value) {
        Ok((bytes, _)) => Ok(bytes.into()),
        Err(error) => Err(StateError::Io {
            operation: "serialise",
            place: place.to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// Reads an object; what cannot be read is damage, never absence.
pub(super) fn decode<T: DeserializeOwned + Versioned>(
    bytes: &[u8],
    owner: &str,
    place: &str,
) -> Result<T, StateError> {
    let (json, _) = unseal(bytes).map_err(|problem| corrupt(owner, place, problem))?;
    migrate::read(json).map_err(|error| unreadable(error, owner, place))
}

fn unreadable(error: Unreadable, owner: &str, place: &str) -> StateError {
    match error {
        Unreadable::TooNew(found) => StateError::TooNew {
            place: place.to_owned(),
            found,
            known: FORMAT,
        },
        Unreadable::Wrong(problem) => corrupt(owner, place, problem),
    }
}

/// A [`StateError::Corrupt`].
pub(super) fn corrupt(
    owner: impl std::fmt::Display,
    place: &str,
    problem: impl Into<String>,
) -> StateError {
    StateError::Corrupt {
        stage: owner.to_string(),
        place: place.to_owned(),
        problem: problem.into(),
    }
}

/// Reads the record of a finished run, which need not state its format.
pub(super) fn decode_deployment(
    bytes: &[u8],
    owner: &str,
    place: &str,
) -> Result<Deployment, StateError> {
    let (json, _) = unseal(bytes).map_err(|problem| corrupt(owner, place, problem))?;
    migrate::read_unstated(Role::Deployment, None, json)
        .map_err(|error| unreadable(error, owner, place))
}

/// Compares an object with its checksum.
pub(super) fn check(bytes: &[u8], owner: &str, place: &str) -> Result<(), StateError> {
    match unseal(bytes) {
        Ok(_) => Ok(()),
        Err(problem) => Err(corrupt(owner, place, problem)),
    }
}
