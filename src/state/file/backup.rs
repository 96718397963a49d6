//! Backups: the state of one checkpoint in one checked file, before the next checkpoint replaces it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    envelope::{corrupt, io_error, seal},
    files::{replace, sealed, sync_folder},
    layout::{self, StageLayout, temporary},
    recover::read_versioned,
};
use crate::{
    model::StagePath,
    state::{BackupName, Snapshot, StateError, disk::Disk},
};

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
    backup: &Snapshot,
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
        .filter(|name| is_backup(name))
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

fn is_backup(name: &str) -> bool {
    name.starts_with("state-") && name.ends_with(".json")
}

/// The backups of a stage, newest first.
pub(crate) fn list(disk: &dyn Disk, layout: &StageLayout) -> Result<Vec<BackupName>, StateError> {
    let folder = layout.backups();
    let entries = disk
        .list(&folder)
        .map_err(|error| io_error("list", &folder, error))?;
    entries
        .iter()
        .rev()
        .filter_map(|entry| entry.text())
        .filter(|name| is_backup(name))
        .map(|name| {
            let path = folder.join(name);
            let bytes = disk
                .read(&path)
                .map_err(|error| io_error("read", &path, error))?;
            Ok(BackupName {
                name: name.to_owned(),
                bytes: bytes.len() as u64,
            })
        })
        .collect()
}

/// Reads one backup.
pub(crate) fn read(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    name: &str,
) -> Result<Snapshot, StateError> {
    let path = layout.backups().join(name);
    if !is_backup(name) || Path::new(name).components().count() != 1 {
        return Err(io_error("read", &path, ErrorKind::InvalidFilename));
    }
    let bytes = disk
        .read(&path)
        .map_err(|error| io_error("read", &path, error))?;
    let snapshot: Snapshot = read_versioned(&bytes, &stage.to_string(), &path)?;
    if snapshot.stage != *stage {
        let problem = format!("it is a backup of stage {}", snapshot.stage);
        return Err(corrupt(stage, &path, problem));
    }
    match snapshot.contradiction() {
        Some(problem) => Err(corrupt(stage, &path, problem)),
        None => Ok(snapshot),
    }
}

/// Puts another content into a backup: after any crash it has the old or the new one.
pub(crate) fn rewrite(
    disk: &dyn Disk,
    layout: &StageLayout,
    name: &str,
    backup: &Snapshot,
) -> Result<(), StateError> {
    let path = layout.backups().join(name);
    if !is_backup(name) || Path::new(name).components().count() != 1 {
        return Err(io_error("write", &path, ErrorKind::InvalidFilename));
    }
    let exists = disk
        .exists(&path)
        .map_err(|error| io_error("look for", &path, error))?;
    match exists {
        true => replace(disk, &path, &sealed(&path, backup)?.0),
        false => Err(io_error("write", &path, ErrorKind::NotFound)),
    }
}

/// The folders in which repairs kept damaged files.
pub(crate) fn set_aside(disk: &dyn Disk, layout: &StageLayout) -> Result<Vec<String>, StateError> {
    let folder = layout.backups();
    let entries = disk
        .list(&folder)
        .map_err(|error| io_error("list", &folder, error))?;
    Ok(entries
        .iter()
        .filter(|entry| entry.is_folder)
        .filter_map(|entry| entry.text())
        .filter(|name| name.starts_with("damaged-"))
        .map(str::to_owned)
        .collect())
}

/// Removes all backups and all that repairs set aside. Answers how many of each.
pub(crate) fn remove_all(
    disk: &dyn Disk,
    layout: &StageLayout,
) -> Result<(usize, usize), StateError> {
    let folder = layout.backups();
    let backups = list(disk, layout)?;
    let asides = set_aside(disk, layout)?;
    for backup in &backups {
        let path = folder.join(&backup.name);
        disk.remove_file(&path)
            .map_err(|error| io_error("remove", &path, error))?;
    }
    for name in &asides {
        let path = folder.join(name);
        disk.remove_dir_all(&path)
            .map_err(|error| io_error("remove", &path, error))?;
    }
    if !backups.is_empty() || !asides.is_empty() {
        sync_folder(disk, &folder)?;
    }
    Ok((backups.len(), asides.len()))
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
