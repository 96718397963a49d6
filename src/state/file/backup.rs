//! Backups: the state of one checkpoint in one checked file, before the next checkpoint replaces it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    envelope::{io_error, seal},
    layout::{self, StageLayout, temporary},
};
use crate::{
    model::{Fqn, StagePath},
    state::{Record, StageHeader, StateError, disk::Disk},
};

/// Everything that a stage held.
#[derive(Debug, Serialize)]
pub(crate) struct Backup<'a> {
    pub(crate) format: u32,
    pub(crate) stage: &'a StagePath,
    pub(crate) lineage: &'a str,
    pub(crate) serial: u64,
    pub(crate) epoch: u64,
    pub(crate) header: &'a StageHeader,
    pub(crate) records: BTreeMap<&'a Fqn, Arc<Record>>,
}

/// `state-2024-01-15T10-30-00-000Z.json`
fn file_name(at: Timestamp) -> String {
    let text = format!("{at:.3}").replace([':', '.'], "-");
    format!("state-{text}.json")
}

/// A backup that has its content but neither its name nor a sync.
pub(crate) struct Unnamed {
    /// Where it is now: to be synced.
    pub(crate) temporary: PathBuf,
    path: PathBuf,
}

impl Unnamed {
    /// Gives a synced backup its name, durably.
    pub(crate) fn name(self, disk: &dyn Disk, layout: &StageLayout) -> Result<(), StateError> {
        disk.rename(&self.temporary, &self.path)
            .map_err(|error| io_error("rename", &self.path, error))?;
        let folder = layout.backups();
        disk.sync_dir(&folder)
            .map_err(|error| io_error("sync", &folder, error))
    }
}

/// Writes a backup. A second one of the same millisecond gets a number.
pub(crate) fn write(
    disk: &dyn Disk,
    layout: &StageLayout,
    at: Timestamp,
    backup: &Backup<'_>,
) -> Result<Unnamed, StateError> {
    let folder = layout.backups();
    disk.create_dir_all(&folder)
        .map_err(|error| io_error("create folder", &folder, error))?;
    let path = free_path(disk, &folder, &file_name(at))?;
    let (bytes, _) =
        seal(backup).map_err(|error| io_error("serialise", &path, std::io::Error::other(error)))?;
    let temporary = temporary(&path);
    disk.write(&temporary, &bytes)
        .map_err(|error| io_error("write", &temporary, error))?;
    Ok(Unnamed { temporary, path })
}

fn free_path(disk: &dyn Disk, folder: &Path, name: &str) -> Result<PathBuf, StateError> {
    let mut path = folder.join(name);
    let mut number = 2;
    while disk
        .exists(&path)
        .map_err(|error| io_error("look for", &path, error))?
    {
        path = folder.join(name.replace(".json", &format!("-{number}.json")));
        number += 1;
    }
    Ok(path)
}

/// Removes the oldest backups beyond `keep`, and what crashes left half written.
pub(crate) fn prune(disk: &dyn Disk, layout: &StageLayout, keep: usize) -> Result<(), StateError> {
    let folder = layout.backups();
    let entries = disk
        .list(&folder)
        .map_err(|error| io_error("list", &folder, error))?;
    // Names begin with the time, so the order of names is that of age.
    let backups: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry.text())
        .filter(|name| name.starts_with("state-") && name.ends_with(".json"))
        .collect();
    let excess = backups.len().saturating_sub(keep);
    let unfinished = entries
        .iter()
        .filter_map(|entry| entry.text())
        .filter(|name| name.ends_with(layout::TEMPORARY));
    for name in backups[..excess].iter().copied().chain(unfinished) {
        let path = folder.join(name);
        disk.remove_file(&path)
            .map_err(|error| io_error("remove", &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_time_without_colons() {
        let at: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
        assert_eq!(file_name(at), "state-2024-01-15T10-30-00-000Z.json");
    }
}
