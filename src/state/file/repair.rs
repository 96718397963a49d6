//! A stage that cannot be read: what of it can be saved, and setting it aside so that it can be made anew.
//!
//! While a stage is being made anew a note stands in its folder, and whoever reads the stage meanwhile, or after the
//! repair was cut short, is told so: a half-made stage is never taken for an empty one. Nothing is deleted: the old
//! files move into a folder among the backups.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    backup,
    envelope::{io_error, unseal},
    files::{create_folder, rename, replace, sealed, sync_folder},
    journal,
    layout::{BACKUPS, DEPLOYMENTS, LOGS, REMOVED, REPAIR, StageLayout, temporary},
    recover::{AppRecord, StageRecord, open_intents, read_if_present, read_versioned},
    removal,
    validate::records_below,
    writer::Writer,
};
use crate::{
    model::{Fqn, StagePath},
    state::{
        JournalEntry, Record, Salvage, Snapshot, StageState, StateError,
        disk::Disk,
        migrate::{self, Role},
        record::FORMAT,
    },
};

/// The note that a repair is going on.
#[derive(Serialize)]
struct RepairNote<'a> {
    format: u32,
    stage: &'a StagePath,
    at: Timestamp,
    /// Where the old files are, within the stage's folder.
    aside: &'a str,
}

/// Damage counts as absence here; everything else is passed on.
fn if_whole<T>(result: Result<T, StateError>) -> Result<Option<T>, StateError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StateError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn app_record(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Option<AppRecord>, StateError> {
    let path = layout.app_record();
    let Some(bytes) = read_if_present(disk, &path)? else {
        return Ok(None);
    };
    let record: Option<AppRecord> = if_whole(read_versioned(&bytes, stage.app.as_str(), &path))?;
    Ok(record.filter(|record| record.app == stage.app))
}

/// Everything of a stage that can be read.
pub(crate) fn salvage(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Salvage, StateError> {
    let text = stage.to_string();
    let index: Option<StageRecord> = match read_if_present(disk, &layout.stage_record())? {
        None => None,
        Some(bytes) => if_whole(read_versioned(&bytes, &text, &layout.stage_record()))?,
    };
    let index = index.filter(|record: &StageRecord| record.stage == *stage);
    let journal = match read_if_present(disk, &layout.journal())? {
        None => None,
        Some(bytes) => {
            journal::salvage(&bytes).map_err(|error| error.at(&text, &layout.journal()))?
        }
    };
    let mut state = StageState::default();
    let mut wanted: BTreeSet<Fqn> = BTreeSet::new();
    if let Some(index) = &index {
        state.lineage.clone_from(&index.lineage);
        state.serial = index.serial;
        state.epoch = index.epoch;
        state.header = index.header.clone();
        wanted.extend(index.records.keys().cloned());
    }
    for record in whole_records(disk, layout, stage)? {
        // A record that the checkpoint does not list had been removed, or was being made by a checkpoint cut short.
        if index.is_none() || wanted.contains(&record.fqn) {
            state.records.insert(record.fqn.clone(), record.into());
        }
    }
    if let Some(journal) = journal {
        if state.lineage.is_empty() {
            state.lineage.clone_from(&journal.header.lineage);
        }
        let entries = match &index {
            Some(index) if index.lineage != journal.header.lineage => Vec::new(),
            Some(index) if index.serial > journal.header.serial => open_intents(&journal.entries),
            // Without the checkpoint it is for, it still tells the latest of every resource that it names.
            _ => journal.entries,
        };
        state.epoch = state.epoch.max(journal.epoch);
        for entry in &entries {
            match entry {
                JournalEntry::Removed { fqn } | JournalEntry::Renamed { from: fqn, .. } => {
                    wanted.remove(fqn);
                }
                JournalEntry::Replaced(_) => wanted.clear(),
                JournalEntry::Intent(_) | JournalEntry::Record(_) | JournalEntry::Header(_) => {}
            }
            state.apply(entry);
        }
    }
    let lineage = app_record(disk, layout, stage)?
        .map(|app| app.lineage)
        .or_else(|| (!state.lineage.is_empty()).then(|| state.lineage.clone()));
    let lost = wanted
        .into_iter()
        .filter(|fqn| !state.records.contains_key(fqn))
        .collect();
    Ok(Salvage {
        snapshot: Snapshot::of(stage, &state),
        lineage,
        has_index: index.is_some(),
        lost,
    })
}

/// The records whose files are whole and lie where they belong.
fn whole_records(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Vec<Record>, StateError> {
    let prefix = format!("{stage}/");
    let mut paths = Vec::new();
    records_below(disk, &layout.folder, true, &mut paths)?;
    let mut records = Vec::with_capacity(paths.len());
    for path in paths {
        let Some(bytes) = read_if_present(disk, &path)? else {
            continue;
        };
        let Ok((json, _)) = unseal(&bytes) else {
            continue;
        };
        if let Ok(record) = migrate::read_unstated::<Record>(Role::Record, None, json)
            && record.fqn.as_str().starts_with(&prefix)
            && layout.resource_record(&record.fqn) == path
        {
            records.push(record);
        }
    }
    Ok(records)
}

/// The folder among the backups that the damaged files go to.
pub(super) fn aside_folder(at: Timestamp) -> String {
    let text = format!("{at:.3}").replace([':', '.'], "-");
    format!("damaged-{text}")
}

/// Moves the files of a stage aside and leaves the note. The guard must be held and the lock be ours.
pub(crate) fn set_aside(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    lineage: Option<String>,
    at: Timestamp,
) -> Result<Option<PathBuf>, StateError> {
    create_folder(disk, &layout.folder)?;
    let name = aside_folder(at);
    let note = layout.repair_note();
    let content = RepairNote {
        format: FORMAT,
        stage,
        at,
        aside: &name,
    };
    replace(disk, &note, &sealed(&note, &content)?.0)?;
    sync_folder(disk, layout.parent())?;
    let mut moved = false;
    if let Some(app) = app_record(disk, layout, stage)? {
        tracing::debug!(lineage = app.lineage, "the application's record is whole");
    } else {
        let path = layout.app_record();
        if disk
            .exists(&path)
            .map_err(|error| io_error("look for", &path, error))?
        {
            let to = layout.backups().join(&name).join("app.json");
            move_file(disk, &path, &to)?;
            moved = true;
        }
        if let Some(lineage) = lineage {
            let record = AppRecord {
                format: FORMAT,
                app: stage.app.clone(),
                lineage,
            };
            replace(disk, &path, &sealed(&path, &record)?.0)?;
        }
    }
    let target = layout.backups().join(&name);
    moved |= move_stage(disk, layout, &target)?;
    Ok(moved.then_some(target))
}

fn move_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StateError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    create_folder(disk, folder)?;
    rename(disk, from, to)?;
    sync_folder(disk, folder)
}

/// Moves everything but the histories and the note. Answers whether there was anything.
fn move_stage(disk: &dyn Disk, layout: &StageLayout, target: &Path) -> Result<bool, StateError> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for entry in list(disk, &layout.folder)? {
        let path = layout.folder.join(&entry.name);
        match entry.text() {
            Some(BACKUPS | DEPLOYMENTS | LOGS) if entry.is_folder => {}
            Some(REPAIR | REMOVED) => {}
            _ if path == temporary(&layout.repair_note()) => {}
            _ if entry.is_folder => {
                files_below(disk, &path, &mut files)?;
                folders.push(path);
            }
            _ => files.push(path),
        }
    }
    for from in &files {
        let relative = from.strip_prefix(&layout.folder).unwrap_or(from);
        move_file(disk, from, &target.join(relative))?;
    }
    for folder in &folders {
        disk.remove_dir_all(folder)
            .map_err(|error| io_error("remove", folder, error))?;
    }
    sync_folder(disk, &layout.folder)?;
    Ok(!files.is_empty())
}

fn files_below(disk: &dyn Disk, folder: &Path, out: &mut Vec<PathBuf>) -> Result<(), StateError> {
    for entry in list(disk, folder)? {
        let path = folder.join(&entry.name);
        if entry.is_folder {
            files_below(disk, &path, out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}

fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<crate::state::disk::Entry>, StateError> {
    disk.list(folder)
        .map_err(|error| io_error("list", folder, error))
}

impl Writer {
    /// The writer of a stage that was set aside.
    pub(crate) fn anew(stage: &StagePath, layout: &StageLayout, epoch: u64, serial: u64) -> Self {
        Self {
            stage: stage.clone(),
            layout: layout.clone(),
            epoch,
            created: false,
            state: StageState {
                serial,
                ..StageState::default()
            },
            header: crate::state::StageHeader::default(),
            index: BTreeMap::new(),
            touched: BTreeMap::new(),
            entries: 0,
            batch: 0,
            length: 0,
            journal: None,
            removed: None,
            repairs: true,
        }
    }

    /// Takes the note away once the stage is whole again.
    pub(super) fn end_repair(&mut self, disk: &dyn Disk) -> Result<(), StateError> {
        if !self.repairs {
            return Ok(());
        }
        let note = self.layout.repair_note();
        disk.remove_file(&note)
            .map_err(|error| io_error("remove", &note, error))?;
        sync_folder(disk, &self.layout.folder)?;
        self.repairs = false;
        Ok(())
    }
}

/// The highest epoch and serial that anything readable of the stage names: the next ones must be higher.
pub(crate) fn highest(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<(u64, u64), StateError> {
    let saved = salvage(disk, layout, stage)?.snapshot;
    let newest = backup::list(disk, layout)?
        .iter()
        .find_map(|found| backup::read(disk, layout, stage, &found.name).ok());
    let backed_up = newest.map_or((0, 0), |backup| (backup.epoch, backup.serial));
    let removed = if_whole(removal::read(disk, layout, stage))?.flatten();
    let removed = removed.map_or(0, |removed| removed.serial);
    let serial = saved.serial.max(backed_up.1).max(removed);
    Ok((saved.epoch.max(backed_up.0), serial))
}
