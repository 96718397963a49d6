//! A whole stage as one document: what a backup, an export and a replacement in the journal hold.
//!
//! The document is the JSON of [`Snapshot`], format version [`FORMAT`]. Secrets in it are sealed with the key of the stage it was
//! taken from, so it says nothing without that key, and fits only a stage of the same name.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    StageState,
    file::envelope,
    migrate::{self, Unreadable},
    record::{FORMAT, Intent, Record, StageHeader},
};
use crate::model::{Fqn, StagePath};

/// Everything that a stage held at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Format version.
    pub format: u32,
    /// The stage.
    pub stage: StagePath,
    /// That of its application.
    pub lineage: String,
    /// The checkpoint it is of.
    pub serial: u64,
    /// The highest epoch that had written.
    pub epoch: u64,
    /// The stage's own record.
    pub header: StageHeader,
    /// Resources by name.
    pub records: BTreeMap<Fqn, Arc<Record>>,
    /// Intents without a result.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub open_intents: BTreeMap<Fqn, Arc<Intent>>,
}

impl Snapshot {
    /// The state of `stage` as it is.
    #[must_use]
    pub fn of(stage: &StagePath, state: &StageState) -> Self {
        Self {
            format: FORMAT,
            stage: stage.clone(),
            lineage: state.lineage.clone(),
            serial: state.serial,
            epoch: state.epoch,
            header: state.header.clone(),
            records: state.records.clone(),
            open_intents: state.open_intents.clone(),
        }
    }

    /// The state that it was taken of.
    #[must_use]
    pub fn into_state(self) -> StageState {
        StageState {
            lineage: self.lineage,
            serial: self.serial,
            epoch: self.epoch,
            header: self.header,
            records: self.records,
            open_intents: self.open_intents,
        }
    }

    /// The bytes of an exported file: the document with a checksum over it.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn to_file(&self) -> Result<Vec<u8>, serde_json::Error> {
        envelope::seal(self).map(|(bytes, _)| bytes)
    }

    /// Reads an exported file.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Damaged;
        let (json, _) = envelope::unseal(bytes).map_err(damaged)?;
        let snapshot: Self = migrate::read(json).map_err(|error| match error {
            Unreadable::TooNew(found) => SnapshotError::TooNew(found),
            Unreadable::Wrong(problem) => damaged(problem),
        })?;
        match snapshot.contradiction() {
            Some(problem) => Err(damaged(problem)),
            None => Ok(snapshot),
        }
    }

    /// What contradicts itself in it, if anything does: a record under another's name, or of another stage.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let prefix = format!("{}/", self.stage);
        let named = self
            .records
            .iter()
            .map(|(name, record)| (name, &record.fqn))
            .chain(
                self.open_intents
                    .iter()
                    .map(|(name, intent)| (name, &intent.fqn)),
            );
        for (name, own) in named {
            if name != own {
                return Some(format!("it has the record of `{own}` under `{name}`"));
            }
            if !name.as_str().starts_with(&prefix) {
                return Some(format!(
                    "it names `{name}`, which is not of stage {}",
                    self.stage
                ));
            }
        }
        None
    }
}

/// Why a file cannot be read as a state.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is torn, changed, or no such file at all.
    #[error("{0}")]
    Damaged(String),
    /// A newer alch wrote it.
    #[error("it was written in format {0}; this alch reads up to {FORMAT}")]
    TooNew(u32),
}

/// What could be read of a stage, whole or damaged.
#[derive(Debug, Clone)]
pub struct Salvage {
    /// The stage as far as it could be read. Without a readable stage record its header and serial are those of no stage.
    pub snapshot: Snapshot,
    /// The lineage that the application or any readable file of the stage names.
    pub lineage: Option<String>,
    /// Whether the stage's own record could be read, so that it is known which resources there were.
    pub has_index: bool,
    /// Resources that are known by name only: their records are damaged or missing.
    pub lost: Vec<Fqn>,
}

/// A backup of a stage, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupName {
    /// Its name: `state-2024-01-15T10-30-00-000Z.json`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}
