//! The record format: what one resource, one stage and one journal entry hold.
//!
//! Format version [`FORMAT`]. Values stand in the JSON form of [`Value::to_json`](crate::model::Value::to_json): references as `{"$ref": ..}`, secrets
//! sealed. A newer format is refused, an older one is read (there is none yet).

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::Error as _};

use crate::model::{
    Fqn, Map, Position, StagePath,
    value::serial::{deserialize_map, serialize_map},
};

/// The newest format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Where a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// An object may or may not have been made: the last create did not end well.
    Creating,
    /// The object has the recorded props.
    Ready,
    /// The last update did not end well; the recorded props are the last good ones.
    Updating,
    /// The last delete did not end well.
    Deleting,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Updating => "updating",
            Self::Deleting => "deleting",
        })
    }
}

/// One resource as state knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// Where it stands.
    pub status: Status,
    /// What the provider calls it.
    pub physical_name: String,
    /// Seeds marks and idempotency keys; new with every object.
    pub instance: String,
    /// The last good props, references kept, secrets sealed.
    #[serde(serialize_with = "serialize_map", deserialize_with = "deserialize_map")]
    pub props: Map,
    /// Hash of the props with the values that references had, in hexadecimal; empty while creating.
    pub props_hash: String,
    /// Hash of the value that each reference in the props had, by its text form, in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reference_hashes: BTreeMap<String, String>,
    /// What the provider answered, secrets sealed.
    #[serde(serialize_with = "serialize_map", deserialize_with = "deserialize_map")]
    pub outputs: Map,
    /// What it refers to, directly or through values that the script had read: deleted after this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Fqn>,
    /// Whether the object was there before alch took it over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Whether deletes and replacements are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protect: bool,
    /// Whether the object is kept when the resource leaves the script (`delete: false`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Whether the resource was renamed and its object keeps the name made from its old id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_name: bool,
    /// What operations that did not end well may have given the object beside its props; secrets are left out.
    #[serde(
        default,
        skip_serializing_if = "Map::is_empty",
        serialize_with = "serialize_map",
        deserialize_with = "deserialize_map"
    )]
    pub attempted: Map,
    /// Names that updates which did not end well may have given the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempted_names: Vec<String>,
    /// Objects that replacements left behind and that are still to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_objects: Vec<OldObject>,
    /// Where it was last declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// When the object was made.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

/// An object that a replacement left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldObject {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name at the provider.
    pub physical_name: String,
    /// Its instance.
    pub instance: String,
    /// Its props.
    #[serde(serialize_with = "serialize_map", deserialize_with = "deserialize_map")]
    pub props: Map,
    /// Its outputs.
    #[serde(serialize_with = "serialize_map", deserialize_with = "deserialize_map")]
    pub outputs: Map,
    /// When its making was begun, for an object that may never have been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    /// When its making was last tried, where that was later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
}

/// What an operation does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Makes it.
    Create,
    /// Changes it in place.
    Update,
    /// Deletes it.
    Delete,
    /// Takes an object over that is there already.
    Adopt,
}

/// What is about to happen; durable before the first call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What is to happen.
    pub operation: Operation,
    /// The object's name at the provider.
    pub physical_name: String,
    /// The object's instance: the idempotency key is made of it.
    pub instance: String,
    /// Hash of the props to be applied.
    pub props_hash: String,
    /// The props to be applied, so that an object can be deleted after a crash without the script.
    #[serde(serialize_with = "serialize_map", deserialize_with = "deserialize_map")]
    pub props: Map,
    /// When it was written.
    pub at: Timestamp,
}

/// One entry of the journal. Replaying them in order over the last checkpoint gives the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JournalEntry {
    /// An operation is about to start.
    Intent(Arc<Intent>),
    /// An operation ended, well or not, and the resource stands like this now. Closes the intent of the same FQN.
    Record(Arc<Record>),
    /// The object is gone, or was never made. Closes the intent of the same FQN and removes the record.
    Removed {
        /// The resource.
        fqn: Fqn,
    },
    /// A record got another name.
    Renamed {
        /// The old name.
        from: Fqn,
        /// The record under its new name.
        record: Arc<Record>,
    },
    /// What the stage's own record is to hold: a crashed run is taken up, or destroyed, with the key and the target that
    /// it used.
    Header(Arc<StageHeader>),
    /// Header, records and intents are these from now on, and no others: a backup was restored, or another store's state
    /// taken over. Lineage, serial and epoch stay.
    Replaced(Arc<super::Snapshot>),
}

impl JournalEntry {
    /// The resource that the entry is about; none when it is about the whole stage.
    #[must_use]
    pub fn fqn(&self) -> Option<&Fqn> {
        match self {
            Self::Intent(intent) => Some(&intent.fqn),
            Self::Record(record) | Self::Renamed { record, .. } => Some(&record.fqn),
            Self::Removed { fqn } => Some(fqn),
            Self::Header(_) | Self::Replaced(_) => None,
        }
    }
}

/// What tells a wrong password from a right one without giving either away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCheck {
    /// `password` or `file`.
    pub source: KeySource,
    /// Short id of the key, for people.
    pub key_id: String,
    /// Salt of the derivation, in hexadecimal.
    pub salt: String,
    /// Keyed hash of a fixed text, in hexadecimal.
    pub check: String,
}

/// Where the key of a stage comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// Derived from a password.
    Password,
    /// Derived from the key file.
    File,
}

/// What a stage's own record holds besides its resources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageHeader {
    /// Target that the stage was deployed to: `local`, `cloudflare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How its secrets are encrypted; `None` until the first secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyCheck>,
    /// The script it was deployed from, relative to the project folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Resources in declaration order: deletes run against it.
    #[serde(default)]
    pub order: Vec<Fqn>,
    /// The last deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The address of the store that has the stage now: this is an old copy, and no run goes on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

/// A whole stage in memory.
#[derive(Debug, Clone, Default)]
pub struct StageState {
    /// Made with the application's first state; a copy of another project's state shows here.
    pub lineage: String,
    /// Grows with every checkpoint that changes something.
    pub serial: u64,
    /// The highest epoch that has written.
    pub epoch: u64,
    /// The stage's own record.
    pub header: StageHeader,
    /// Resources by name.
    pub records: BTreeMap<Fqn, Arc<Record>>,
    /// Intents without a result: a run died, and the next one resolves them.
    pub open_intents: BTreeMap<Fqn, Arc<Intent>>,
}

impl StageState {
    /// That the stage was not brought to another store.
    ///
    /// # Errors
    /// [`StateError::Moved`](super::StateError::Moved).
    pub fn check_here(&self, stage: &StagePath) -> Result<(), super::StateError> {
        match &self.header.moved_to {
            None => Ok(()),
            Some(to) => Err(super::StateError::Moved {
                stage: stage.clone(),
                to: to.clone(),
            }),
        }
    }

    /// Applies one journal entry.
    pub fn apply(&mut self, entry: &JournalEntry) {
        match entry {
            JournalEntry::Intent(intent) => {
                self.open_intents
                    .insert(intent.fqn.clone(), Arc::clone(intent));
            }
            JournalEntry::Record(record) => {
                self.open_intents.remove(&record.fqn);
                self.records.insert(record.fqn.clone(), Arc::clone(record));
            }
            JournalEntry::Removed { fqn } => {
                self.open_intents.remove(fqn);
                self.records.remove(fqn);
            }
            JournalEntry::Renamed { from, record } => {
                self.records.remove(from);
                self.records.insert(record.fqn.clone(), Arc::clone(record));
            }
            JournalEntry::Header(header) => self.header = StageHeader::clone(header),
            JournalEntry::Replaced(snapshot) => {
                self.header = snapshot.header.clone();
                self.records = snapshot.records.clone();
                self.open_intents = snapshot.open_intents.clone();
            }
        }
    }

    /// Whether nothing is left: no record, no open intent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.open_intents.is_empty()
    }

    /// Names of all records, those of the declared order last to first, unknown ones before them.
    #[must_use]
    pub fn deletion_order(&self) -> Vec<Fqn> {
        let known: std::collections::BTreeSet<&Fqn> = self.header.order.iter().collect();
        let mut out: Vec<Fqn> = self
            .records
            .keys()
            .filter(|fqn| !known.contains(fqn))
            .cloned()
            .collect();
        out.extend(
            self.header
                .order
                .iter()
                .rev()
                .filter(|fqn| self.records.contains_key(*fqn))
                .cloned(),
        );
        out
    }
}

/// What outlives a stage that was removed: its place in the history that it was of. Older copies of it, in other stores, are
/// compared with that as with any state, and a stage of the same name goes on after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// That of its application.
    pub lineage: String,
    /// One more than that of its last state.
    pub serial: u64,
    /// When it was removed.
    pub at: Timestamp,
    /// The last deployment, which is the destroy that emptied it where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

impl Removed {
    /// Of a stage that is being removed.
    #[must_use]
    pub fn of(state: &StageState, at: Timestamp) -> Self {
        Self {
            lineage: state.lineage.clone(),
            // One that was never folded is at 0, which stands for no state.
            serial: state.serial.max(1) + 1,
            at,
            deployment: state.header.deployment.clone(),
        }
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// User name.
    pub owner: String,
    /// Host name.
    pub host: String,
    /// Boot id of the host: pids mean nothing across boots.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot, against pid reuse.
    pub pid_start: u64,
    /// The command.
    pub command: String,
    /// Fencing token.
    pub epoch: u64,
    /// How long the lease lasts without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// When it was taken.
    pub acquired_at: Timestamp,
    /// Counts heartbeats; a taker watches it on its own clock.
    pub heartbeat: u64,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{} (pid {}, `{}`, since {})",
            self.owner, self.host, self.pid, self.command, self.acquired_at
        )
    }
}

/// A lock as `alch scope locks` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockStatus {
    /// The stage.
    pub stage: StagePath,
    /// Who holds it.
    pub holder: LockHolder,
    /// Whether the holder is known to live (`Some(true)`), known to be dead, or out of sight.
    pub alive: Option<bool>,
    /// Milliseconds since the last heartbeat, by the file's time.
    pub heartbeat_age_ms: u64,
}

/// The record of one finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// ULID.
    pub id: String,
    /// The stage.
    pub stage: StagePath,
    /// `run` or `destroy`.
    pub command: String,
    /// Who ran it.
    pub actor: String,
    /// Where it ran.
    pub host: String,
    /// Begin.
    pub started_at: Timestamp,
    /// End.
    pub finished_at: Timestamp,
    /// `succeeded`, `failed`, `cancelled`.
    pub result: String,
    /// Counts by outcome: created, updated, replaced, deleted, unchanged, failed, skipped.
    pub counts: BTreeMap<String, u64>,
    /// Version of alch.
    pub alch_version: String,
}

/// Reads any JSON of a state file, telling where a field is wrong.
///
/// # Errors
/// The path within the JSON and what is wrong there.
pub fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    // Keeping track of the path costs as much as reading does, and most files are well.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{} at `{}`", error.inner(), error.path()))?;
    deserializer
        .end()
        .map_err(|error| serde_json::Error::custom(error).to_string())?;
    Ok(value)
}
