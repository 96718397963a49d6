//! Removing what crashes left behind in the files of a stage. The guard must be held and the lock be ours.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    backup,
    envelope::io_error,
    files::{create_folder, rename, sync_folder},
    layout::{self, BACKUPS, DEPLOYMENTS, LOGS, StageLayout},
    recover,
    repair::aside_folder,
    validate::{records_below, unreadable_history},
};
use crate::{
    model::StagePath,
    state::{
        StateError,
        disk::{Disk, Entry},
    },
};

/// Deployments whose records and logs a thorough clean-up keeps.
const HISTORY: usize = 50;

/// Removes unfinished files, and records that a readable stage does not list; sets damaged history aside. `thorough`: also damaged files that a repair set
/// aside, backups but the newest, and the history beyond the last [`HISTORY`] deployments. Answers what was removed,
/// relative to the folder of the store.
pub(crate) fn clean_up(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    thorough: bool,
) -> Result<Vec<String>, StateError> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    unfinished(disk, &layout.folder, true, &mut files)?;
    unfinished(disk, &layout.backups(), false, &mut files)?;
    unlisted(disk, layout, stage, &mut folders)?;
    if thorough {
        for entry in list(disk, &layout.backups())? {
            if entry.is_folder
                && entry
                    .text()
                    .is_some_and(|name| name.starts_with("damaged-"))
            {
                folders.push(layout.backups().join(&entry.name));
            }
        }
        // The newest that can be read: a damaged one brings nothing back.
        let all = backup::list(disk, layout)?;
        if let Some(keep) = all
            .iter()
            .position(|found| backup::read(disk, layout, stage, &found.name).is_ok())
        {
            let rest = all.iter().skip(keep + 1);
            files.extend(rest.map(|found| layout.backups().join(&found.name)));
        }
        for folder in [layout.deployments(), layout.logs()] {
            let entries = list(disk, &folder)?;
            let excess = entries.len().saturating_sub(HISTORY);
            files.extend(
                entries[..excess]
                    .iter()
                    .map(|entry| folder.join(&entry.name)),
            );
        }
    }
    let mut touched = BTreeSet::new();
    for path in &files {
        disk.remove_file(path)
            .map_err(|error| io_error("remove", path, error))?;
        touched.extend(path.parent().map(Path::to_owned));
    }
    for path in &folders {
        disk.remove_dir_all(path)
            .map_err(|error| io_error("remove", path, error))?;
        touched.extend(path.parent().map(Path::to_owned));
    }
    for folder in touched {
        sync_folder(disk, &folder)?;
    }
    let root = layout.root.clone();
    let shown = |path: &PathBuf| {
        path.strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut removed: Vec<String> = files.iter().chain(&folders).map(shown).collect();
    // Last: what a thorough clean-up removes is not kept.
    for (from, to) in keep_damaged(disk, layout, stage)? {
        removed.push(format!(
            "{} (damaged; kept as {})",
            shown(&from),
            shown(&to)
        ));
    }
    Ok(removed)
}

/// Moves damaged backups and records of finished runs to where repairs keep damaged files: nothing else mends them. Answers
/// where each was and is.
fn keep_damaged(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Vec<(PathBuf, PathBuf)>, StateError> {
    let damaged: Vec<PathBuf> = unreadable_history(disk, layout, stage)?
        .into_iter()
        .filter(|(_, error)| matches!(error, StateError::Corrupt { .. }))
        .map(|(path, _)| path)
        .collect();
    let Some(first) = damaged.first() else {
        return Ok(Vec::new());
    };
    let at = disk
        .modified(first)
        .map_err(|error| io_error("look at", first, error))?;
    let name = aside_folder(at);
    // Backups without a stage record would be the backups of a stage that lost it.
    let has_state = disk
        .exists(&layout.stage_record())
        .map_err(|error| io_error("look for", &layout.stage_record(), error))?;
    let parent = match has_state {
        true => layout.backups(),
        false => layout.deployments(),
    };
    let mut aside = parent.join(&name);
    let mut number = 2;
    while disk
        .exists(&aside)
        .map_err(|error| io_error("look for", &aside, error))?
    {
        aside = parent.join(format!("{name}-{number}"));
        number += 1;
    }
    create_folder(disk, &aside)?;
    let mut moved = Vec::new();
    let mut touched = BTreeSet::from([parent, aside.clone()]);
    for from in damaged {
        let Some(file) = from.file_name() else {
            continue;
        };
        let to = aside.join(file);
        rename(disk, &from, &to)?;
        touched.extend(from.parent().map(Path::to_owned));
        moved.push((from, to));
    }
    for folder in touched {
        sync_folder(disk, &folder)?;
    }
    Ok(moved)
}

/// Files that were being written when a run died.
fn unfinished(
    disk: &dyn Disk,
    folder: &Path,
    is_stage: bool,
    out: &mut Vec<PathBuf>,
) -> Result<(), StateError> {
    for entry in list(disk, folder)? {
        let path = folder.join(&entry.name);
        match entry.text() {
            Some(BACKUPS | DEPLOYMENTS | LOGS) if is_stage => {}
            _ if entry.is_folder && folder.ends_with(BACKUPS) => {}
            _ if entry.is_folder => unfinished(disk, &path, false, out)?,
            Some(name) if name.ends_with(layout::TEMPORARY) => out.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Folders of records that neither the checkpoint nor the journal names. Only where the stage can be read.
fn unlisted(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    out: &mut Vec<PathBuf>,
) -> Result<(), StateError> {
    let loaded = match recover::read_stage(disk, layout, stage) {
        Ok(Some(loaded)) => loaded,
        Ok(None) | Err(StateError::Corrupt { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let known: BTreeSet<PathBuf> = loaded
        .index
        .keys()
        .chain(&loaded.touched)
        .map(|fqn| layout.resource_record(fqn))
        .collect();
    let mut found = Vec::new();
    records_below(disk, &layout.folder, true, &mut found)?;
    for path in found.into_iter().filter(|path| !known.contains(path)) {
        out.extend(path.parent().map(Path::to_owned));
    }
    Ok(())
}

fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<Entry>, StateError> {
    disk.list(folder)
        .map_err(|error| io_error("list", folder, error))
}
