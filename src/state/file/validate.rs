//! Looks for every problem in the files of a stage, not only the first.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    envelope::{corrupt, io_error, unseal},
    journal,
    layout::{BACKUPS, DEPLOYMENTS, JOURNAL, LOGS, RESOURCES, STATE, StageLayout},
    recover::{self, AppRecord, StageRecord, read_if_present, read_versioned, touches},
    removal,
    store::read_deployment,
};
use crate::{
    model::{Fqn, StagePath},
    state::{StateError, disk::Disk},
};

/// Every problem, in the order of application, stage, journal, records, history.
pub(crate) fn validate(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Vec<StateError>, StateError> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    // What loading finds comes first: it is what stands in the way of the next run.
    match recover::read_stage(disk, layout, stage) {
        Ok(_) => {}
        Err(error @ StateError::Io { .. }) => return Err(error),
        Err(error) => problems.push(error),
    }
    let mut add = |error: StateError| {
        if !problems
            .iter()
            .any(|known| known.to_string() == error.to_string())
        {
            problems.push(error);
        }
    };
    let text = stage.to_string();
    if let Some(bytes) = read_if_present(disk, &layout.app_record())?
        && let Err(error) =
            read_versioned::<AppRecord>(&bytes, stage.app.as_str(), &layout.app_record())
    {
        add(error);
    }
    let mut touched: BTreeSet<Fqn> = BTreeSet::new();
    if let Some(bytes) = read_if_present(disk, &layout.journal())? {
        match journal::decode(&bytes) {
            Ok(journal) => touched.extend(journal.entries.iter().flat_map(touches).cloned()),
            Err(error) => add(error.at(&text, &layout.journal())),
        }
    }
    if let Some(bytes) = read_if_present(disk, &layout.stage_record())? {
        match read_versioned::<StageRecord>(&bytes, &text, &layout.stage_record()) {
            Ok(record) => {
                for (fqn, checksum) in &record.records {
                    known.insert(layout.resource_record(fqn));
                    if !touched.contains(fqn)
                        && let Err(error) = recover::read_record(disk, layout, fqn, *checksum)
                    {
                        add(error);
                    }
                }
                known.extend(touched.iter().map(|fqn| layout.resource_record(fqn)));
                let mut found = Vec::new();
                records_below(disk, &layout.folder, true, &mut found)?;
                for path in found.iter().filter(|path| !known.contains(*path)) {
                    let problem = "the last checkpoint knows nothing of this record";
                    add(corrupt(stage, path, problem));
                }
            }
            Err(error) => add(error),
        }
    }
    for (_, error) in unreadable_history(disk, layout, stage)? {
        add(error);
    }
    Ok(problems)
}

/// The backups and the records of finished runs that cannot be read, and that of the removal, and why.
pub(super) fn unreadable_history(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Vec<(PathBuf, StateError)>, StateError> {
    let mut found = Vec::new();
    for (folder, deployments) in [(layout.backups(), false), (layout.deployments(), true)] {
        for entry in list(disk, &folder)? {
            let path = folder.join(&entry.name);
            if !entry.text().is_some_and(|name| name.ends_with(".json")) {
                continue;
            }
            let result = if deployments {
                read_deployment(disk, stage, &path).map(|_| ())
            } else {
                let bytes = disk
                    .read(&path)
                    .map_err(|error| io_error("read", &path, error))?;
                unseal(&bytes)
                    .map(|_| ())
                    .map_err(|problem| corrupt(stage, &path, problem))
            };
            if let Err(error) = result {
                found.push((path, error));
            }
        }
    }
    if let Err(error) = removal::read(disk, layout, stage) {
        found.push((layout.removal(), error));
    }
    Ok(found)
}

/// All record files in `resources/` folders of a scope and the scopes within it.
pub(super) fn records_below(
    disk: &dyn Disk,
    folder: &Path,
    is_stage: bool,
    out: &mut Vec<PathBuf>,
) -> Result<(), StateError> {
    for entry in list(disk, folder)? {
        let path = folder.join(&entry.name);
        match entry.text() {
            Some(STATE | JOURNAL) => {}
            Some(BACKUPS | DEPLOYMENTS | LOGS) if is_stage => {}
            Some(RESOURCES) => {
                for resource in list(disk, &path)? {
                    let record = path.join(&resource.name).join(STATE);
                    if disk
                        .exists(&record)
                        .map_err(|error| io_error("look for", &record, error))?
                    {
                        out.push(record);
                    }
                }
            }
            _ if entry.is_folder => records_below(disk, &path, false, out)?,
            _ => {}
        }
    }
    Ok(())
}

fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<crate::state::disk::Entry>, StateError> {
    disk.list(folder)
        .map_err(|error| io_error("list", folder, error))
}
