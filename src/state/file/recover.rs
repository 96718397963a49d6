//! Reading a stage: checkpoint, records, and the journal over them. In memory only; what recovery has to write is done by the
//! session that holds the lock.
//!
//! The journal is a redo log. A record that it names is never read from its file, so a checkpoint that was cut short has
//! done no harm; every other record must be there with exactly the checksum that the stage record states.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    envelope::{Checksum, corrupt, io_error, unseal},
    journal,
    layout::{DEPLOYMENTS, LOGS, REMOVED, STATE, StageLayout, temporary},
    removal,
};
use crate::{
    model::{AppName, Fqn, StagePath},
    state::{
        JournalEntry, Record, Snapshot, StageHeader, StageState, StateError,
        disk::Disk,
        migrate::{self, Role, Unreadable, Versioned},
        record::FORMAT,
    },
};

/// The application record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppRecord {
    pub(crate) format: u32,
    pub(crate) app: AppName,
    pub(crate) lineage: String,
}

/// The stage record: the checkpoint, with the checksum of every resource record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageRecord {
    pub(crate) format: u32,
    pub(crate) stage: StagePath,
    pub(crate) lineage: String,
    pub(crate) serial: u64,
    pub(crate) epoch: u64,
    pub(crate) header: StageHeader,
    pub(crate) records: BTreeMap<Fqn, Checksum>,
}

impl Versioned for AppRecord {
    const ROLE: Role = Role::Application;
}

impl Versioned for StageRecord {
    const ROLE: Role = Role::Stage;
}

impl Versioned for Snapshot {
    const ROLE: Role = Role::Snapshot;
}

/// How the journal stands to the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JournalState {
    /// It goes on from the checkpoint and is whole.
    Whole {
        /// Its bytes.
        length: u64,
    },
    /// It goes on from the checkpoint; what lies beyond `good_length` is a torn write.
    Torn {
        /// Where the whole part ends.
        good_length: u64,
    },
    /// It goes on from the checkpoint, and is of an older format, which entries of this program must not be added to.
    Older {
        /// What it holds, as far as it is whole.
        entries: Vec<JournalEntry>,
    },
    /// The checkpoint holds all of it: a crash came between the two.
    Superseded,
}

/// A stage that was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// With the journal applied.
    pub(crate) state: StageState,
    /// The header of the checkpoint: what a backup of its records says, whatever the journal has changed since.
    pub(crate) header: StageHeader,
    /// The checksums of the checkpoint's records.
    pub(crate) index: BTreeMap<Fqn, Checksum>,
    /// Records that the journal names.
    pub(crate) touched: Vec<Fqn>,
    /// How many entries the journal holds.
    pub(crate) entries: usize,
    /// The number of the journal's last batch.
    pub(crate) batch: u32,
    /// What recovery has to do about the journal.
    pub(crate) journal: JournalState,
}

/// Reads a file if it is there.
pub(crate) fn read_if_present(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Reads a checked file that states its format.
pub(crate) fn read_versioned<T: DeserializeOwned + Versioned>(
    bytes: &[u8],
    stage: &str,
    path: &Path,
) -> Result<T, StateError> {
    let (json, _) = unseal(bytes).map_err(|problem| corrupt(stage, path, problem))?;
    migrate::read(json).map_err(|error| unreadable(error, stage, path))
}

/// A document that cannot be read, as people hear of it.
pub(crate) fn unreadable(
    error: Unreadable,
    stage: impl std::fmt::Display,
    path: &Path,
) -> StateError {
    match error {
        Unreadable::TooNew(found) => StateError::TooNew {
            place: path.display().to_string(),
            found,
            known: FORMAT,
        },
        Unreadable::Wrong(problem) => corrupt(stage, path, problem),
    }
}

/// Reads the application record, if there is one.
pub(crate) fn read_app(
    disk: &dyn Disk,
    layout: &StageLayout,
    app: &AppName,
) -> Result<Option<AppRecord>, StateError> {
    let path = layout.app_record();
    let Some(bytes) = read_if_present(disk, &path)? else {
        return Ok(None);
    };
    let record: AppRecord = read_versioned(&bytes, app.as_str(), &path)?;
    if record.app != *app {
        let problem = format!("it is the record of application `{}`", record.app);
        return Err(corrupt(app, &path, problem));
    }
    Ok(Some(record))
}

/// Reads a stage; `None` when it was never written.
pub(crate) fn read_stage(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Option<Loaded>, StateError> {
    if disk
        .exists(&layout.repair_note())
        .map_err(|error| io_error("look for", &layout.repair_note(), error))?
    {
        let problem = "a repair of the stage is going on, or was cut short";
        return Err(corrupt(stage, &layout.repair_note(), problem));
    }
    // In this order: a checkpoint replaces the journal last, so a reader without the lock never misses entries.
    let record = read_if_present(disk, &layout.stage_record())?;
    let journal = read_if_present(disk, &layout.journal())?;
    let Some(record) = record else {
        prove_absence(disk, layout, stage, journal.as_deref())?;
        return Ok(None);
    };
    let checkpoint = read_checkpoint(disk, layout, stage, &record)?;
    let journal_path = layout.journal();
    let Some(bytes) = journal else {
        return Err(corrupt(stage, &journal_path, "it is missing"));
    };
    let found =
        journal::decode(&bytes).map_err(|error| error.at(&stage.to_string(), &journal_path))?;
    // An empty journal of serial 0 stands beside any checkpoint while a stage is being removed.
    if found.header.lineage != checkpoint.lineage {
        return Err(corrupt(
            stage,
            &journal_path,
            format!(
                "it belongs to lineage {}, the stage to {}: it was copied from elsewhere",
                found.header.lineage, checkpoint.lineage
            ),
        ));
    }
    if found.header.serial > checkpoint.serial {
        return Err(corrupt(
            stage,
            &journal_path,
            format!(
                "it goes on from checkpoint {}, but `{STATE}` holds checkpoint {}",
                found.header.serial, checkpoint.serial
            ),
        ));
    }
    let superseded = found.header.serial < checkpoint.serial;
    if found.header.serial + 1 < checkpoint.serial && !found.entries.is_empty() {
        return Err(corrupt(
            stage,
            &journal_path,
            format!(
                "it goes on from checkpoint {}, long before checkpoint {} of `{STATE}`",
                found.header.serial, checkpoint.serial
            ),
        ));
    }
    let state = if superseded {
        JournalState::Superseded
    } else if found.format < FORMAT {
        JournalState::Older {
            entries: found.entries.clone(),
        }
    } else if found.good_length < bytes.len() {
        JournalState::Torn {
            good_length: found.good_length as u64,
        }
    } else {
        JournalState::Whole {
            length: bytes.len() as u64,
        }
    };
    let entries = if superseded {
        open_intents(&found.entries)
    } else {
        found.entries
    };
    let epoch = checkpoint.epoch.max(found.epoch);
    assemble(
        disk,
        layout,
        stage,
        checkpoint,
        &entries,
        epoch,
        (state, found.batch),
    )
    .map(Some)
}

/// What a checkpoint carries from the journal that it supersedes to the next one. Everything else is in the records.
pub(super) fn open_intents(entries: &[JournalEntry]) -> Vec<JournalEntry> {
    let mut state = StageState::default();
    for entry in entries {
        state.apply(entry);
    }
    let open = state.open_intents.into_values();
    open.map(JournalEntry::Intent).collect()
}

fn assemble(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    checkpoint: StageRecord,
    entries: &[JournalEntry],
    epoch: u64,
    (journal, batch): (JournalState, u32),
) -> Result<Loaded, StateError> {
    let mut touched: Vec<Fqn> = entries.iter().flat_map(touches).cloned().collect();
    if entries
        .iter()
        .any(|entry| matches!(entry, JournalEntry::Replaced(_)))
    {
        touched.extend(checkpoint.records.keys().cloned());
    }
    touched.sort_unstable();
    touched.dedup();
    let prefix = format!("{stage}/");
    if let Some(foreign) = touched
        .iter()
        .find(|fqn| !fqn.as_str().starts_with(&prefix))
    {
        return Err(corrupt(
            stage,
            &layout.journal(),
            format!("it names `{foreign}`, which is not of this stage"),
        ));
    }
    let wanted: Vec<(&Fqn, Checksum)> = checkpoint
        .records
        .iter()
        .filter(|(fqn, _)| touched.binary_search(fqn).is_err())
        .map(|(fqn, checksum)| (fqn, *checksum))
        .collect();
    let header = checkpoint.header.clone();
    let mut state = StageState {
        lineage: checkpoint.lineage,
        serial: checkpoint.serial,
        epoch,
        header: checkpoint.header,
        records: read_records(disk, layout, &wanted)?,
        open_intents: BTreeMap::new(),
    };
    for entry in entries {
        state.apply(entry);
    }
    Ok(Loaded {
        state,
        header,
        index: checkpoint.records,
        touched,
        entries: entries.len(),
        batch,
        journal,
    })
}

/// The records that an entry names. [`JournalEntry::Replaced`] also ends all that were there before.
pub(crate) fn touches(entry: &JournalEntry) -> impl Iterator<Item = &Fqn> {
    let from = match entry {
        JournalEntry::Renamed { from, .. } => Some(from),
        _ => None,
    };
    let record = match entry {
        JournalEntry::Intent(_) => None,
        _ => entry.fqn(),
    };
    let all = match entry {
        JournalEntry::Replaced(snapshot) => Some(snapshot.records.keys()),
        _ => None,
    };
    from.into_iter()
        .chain(record)
        .chain(all.into_iter().flatten())
}

/// Parses the stage record and compares it with the application's.
fn read_checkpoint(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    bytes: &[u8],
) -> Result<StageRecord, StateError> {
    let path = layout.stage_record();
    let record: StageRecord = read_versioned(bytes, &stage.to_string(), &path)?;
    if record.stage != *stage {
        let problem = format!("it is the record of stage {}", record.stage);
        return Err(corrupt(stage, &path, problem));
    }
    let prefix = format!("{stage}/");
    let mut names = record.records.keys();
    if let Some(foreign) = names.find(|fqn| !fqn.as_str().starts_with(&prefix)) {
        let problem = format!("it names `{foreign}`, which is not of this stage");
        return Err(corrupt(stage, &path, problem));
    }
    match read_app(disk, layout, &stage.app)? {
        None => Err(corrupt(stage, &layout.app_record(), "it is missing")),
        Some(app) if app.lineage != record.lineage => Err(corrupt(
            stage,
            &path,
            format!(
                "it belongs to lineage {}, the application to {}: it was copied from elsewhere",
                record.lineage, app.lineage
            ),
        )),
        Some(_) => Ok(record),
    }
}

/// Without a stage record there must be no other trace of a stage that held anything.
fn prove_absence(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    journal: Option<&[u8]>,
) -> Result<(), StateError> {
    let missing = || corrupt(stage, &layout.stage_record(), "it is missing");
    if let Some(bytes) = journal {
        let path = layout.journal();
        let found = journal::decode(bytes).map_err(|error| error.at(&stage.to_string(), &path))?;
        // A crash while the stage was made, or removed: nothing was in it.
        let begun = removal::read(disk, layout, stage)?.map_or(0, |removed| removed.serial);
        return if [0, begun].contains(&found.header.serial) && found.entries.is_empty() {
            Ok(())
        } else {
            Err(missing())
        };
    }
    removal::read(disk, layout, stage)?;
    let entries = disk
        .list(&layout.folder)
        .map_err(|error| io_error("list", &layout.folder, error))?;
    let harmless = |name: &str| {
        matches!(name, DEPLOYMENTS | LOGS | REMOVED)
            || [layout.stage_record(), layout.journal(), layout.removal()]
                .iter()
                .any(|path| temporary(path).file_name() == Some(name.as_ref()))
    };
    if entries
        .iter()
        .all(|entry| entry.text().is_some_and(harmless))
    {
        Ok(())
    } else {
        Err(missing())
    }
}

/// Fewer records than this are not worth another thread.
const RECORDS_PER_THREAD: usize = 256;

fn read_records(
    disk: &dyn Disk,
    layout: &StageLayout,
    wanted: &[(&Fqn, Checksum)],
) -> Result<BTreeMap<Fqn, Arc<Record>>, StateError> {
    let read = |part: &[(&Fqn, Checksum)]| -> Result<Vec<(Fqn, Arc<Record>)>, StateError> {
        part.iter()
            .map(|(fqn, checksum)| Ok(((*fqn).clone(), read_record(disk, layout, fqn, *checksum)?)))
            .collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(wanted.len() / RECORDS_PER_THREAD);
    // A disk that does not block is a simulation, which must do everything in one order.
    if threads < 2 || !disk.is_blocking() {
        return Ok(read(wanted)?.into_iter().collect());
    }
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = wanted
            .chunks(wanted.len().div_ceil(threads))
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        running
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect::<Result<Vec<_>, _>>()
    })?;
    // Sorted already, so that the map is built in one go.
    Ok(parts.into_iter().flatten().collect())
}

/// Reads one record, which must be the one that the stage record means.
pub(crate) fn read_record(
    disk: &dyn Disk,
    layout: &StageLayout,
    fqn: &Fqn,
    expected: Checksum,
) -> Result<Arc<Record>, StateError> {
    let path: PathBuf = layout.resource_record(fqn);
    let stage = || fqn.stage();
    let Some(bytes) = read_if_present(disk, &path)? else {
        return Err(corrupt(stage(), &path, "it is missing"));
    };
    let (json, checksum) = unseal(&bytes).map_err(|problem| corrupt(stage(), &path, problem))?;
    if checksum != expected {
        let problem = "it is not the version that the stage's last checkpoint holds";
        return Err(corrupt(stage(), &path, problem));
    }
    let record: Record = migrate::read_unstated(Role::Record, None, json)
        .map_err(|error| unreadable(error, stage(), &path))?;
    if record.fqn != *fqn {
        let problem = format!("it is the record of `{}`", record.fqn);
        return Err(corrupt(stage(), &path, problem));
    }
    Ok(Arc::new(record))
}
