//! Checkpoints: the journal folded into one record a resource.
//!
//! Order is what makes them safe: the backup of the last checkpoint has its name, durably, before the first of its records is replaced;
//! records are synced before the stage record that lists them is renamed into place, and that is durable before the
//! journal is replaced. Until then the journal still says everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    backup,
    envelope::{Checksum, io_error},
    files::{create_folder, parent_of, rename, sealed, write_file},
    layout::{STATE, StageLayout, temporary},
    recover,
    writer::Writer,
};
use crate::{
    model::Fqn,
    state::{Snapshot, StageHeader, StateError, disk::Disk, record::FORMAT},
};

/// The record of a scope: says whose folder it is, to people who look.
#[derive(Serialize)]
struct ScopeRecord<'a> {
    format: u32,
    scope: &'a str,
}

impl Writer {
    /// Folds the journal into records; see [`crate::state::Session::checkpoint`].
    pub(crate) fn checkpoint(
        &mut self,
        disk: &dyn Disk,
        header: StageHeader,
        at: Timestamp,
        keep: usize,
        new_lineage: &dyn Fn() -> String,
    ) -> Result<(), StateError> {
        let nothing_to_fold = self.entries == self.state.open_intents.len()
            && self.touched.is_empty()
            && !self.repairs;
        if nothing_to_fold && header == self.header {
            return Ok(());
        }
        self.create(disk, new_lineage)?;
        let has_backup = match self.back_up(disk, at)? {
            Some(backup) => {
                let folder = &self.layout.folder;
                let files = [backup.temporary.clone()];
                disk.sync_tree(folder, &files, std::slice::from_ref(folder))
                    .map_err(|error| io_error("sync", folder, error))?;
                backup.name(disk, &self.layout)?;
                true
            }
            None => false,
        };
        let mut written = Written::default();
        let index = self.write_records(disk, &mut written)?;
        let files: Vec<PathBuf> = written.files;
        let folders: Vec<PathBuf> = written.folders.into_iter().collect();
        if !(files.is_empty() && folders.is_empty()) {
            disk.sync_tree(&self.layout.folder, &files, &folders)
                .map_err(|error| io_error("sync", &self.layout.folder, error))?;
        }
        // Where the journal came to nothing, as after a refused create, a plan of this state still fits.
        let is_new = self.state.serial == 0 || self.repairs;
        if index != self.index || header != self.header || is_new {
            self.state.serial += 1;
        }
        self.index = index;
        self.header = header;
        self.state.header = self.header.clone();
        self.state.epoch = self.epoch;
        self.touched.clear();
        self.write_stage_record(disk)?;
        self.replace_journal(disk)?;
        if has_backup {
            backup::prune(disk, &self.layout, keep)?;
        }
        self.end_repair(disk)
    }

    /// Backs the last checkpoint up, unless it is empty.
    fn back_up(
        &self,
        disk: &dyn Disk,
        at: Timestamp,
    ) -> Result<Option<backup::Unnamed>, StateError> {
        if self.index.is_empty() {
            return Ok(None);
        }
        let mut records = BTreeMap::new();
        for (fqn, checksum) in &self.index {
            let record = match self.touched.get(fqn) {
                Some(Some(before)) => Some(Arc::clone(before)),
                // Named by the journal that a crashed run left.
                Some(None) => match recover::read_record(disk, &self.layout, fqn, *checksum) {
                    Ok(record) => Some(record),
                    // Its checkpoint had come as far as this record, and had made the backup before: one without the record
                    // would be newer, and worth less.
                    Err(StateError::Corrupt { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                },
                None => self.state.records.get(fqn).cloned(),
            };
            if let Some(record) = record {
                records.insert(fqn.clone(), record);
            }
        }
        let backup = Snapshot {
            format: FORMAT,
            stage: self.stage.clone(),
            lineage: self.state.lineage.clone(),
            serial: self.state.serial,
            epoch: self.state.epoch,
            header: self.header.clone(),
            records,
            open_intents: BTreeMap::new(),
        };
        backup::write(disk, &self.layout, at, &backup).map(Some)
    }

    /// Writes the records that changed, removes those that are gone, and answers the new index.
    fn write_records(
        &self,
        disk: &dyn Disk,
        written: &mut Written,
    ) -> Result<BTreeMap<Fqn, Checksum>, StateError> {
        let mut index = self.index.clone();
        let mut removed = Vec::new();
        for fqn in self.touched.keys() {
            let Some(record) = self.state.records.get(fqn) else {
                // One that the index does not list may be there all the same: an earlier, crashed checkpoint wrote it.
                if index.remove(fqn).is_some() || !self.is_on_disk(fqn) {
                    removed.push(fqn);
                }
                continue;
            };
            let path = self.layout.resource_record(fqn);
            let (bytes, checksum) = sealed(&path, record.as_ref())?;
            match index.insert(fqn.clone(), checksum) {
                None => self.write_new_record(disk, fqn, &path, &bytes, written)?,
                Some(old) if old == checksum && self.is_on_disk(fqn) => {}
                Some(_) => {
                    // The folder is missing when a checkpoint that removed the record was cut short.
                    create_folder(disk, parent_of(&path))?;
                    let temporary = temporary(&path);
                    write_file(disk, &temporary, &bytes)?;
                    rename(disk, &temporary, &path)?;
                    written.record(&self.layout, &path);
                }
            }
        }
        if !removed.is_empty() {
            self.remove_records(disk, &removed, written)?;
        }
        Ok(index)
    }

    /// Whether the file of a record is known to hold what the index says. It is not when an earlier, crashed checkpoint
    /// may have replaced it.
    fn is_on_disk(&self, fqn: &Fqn) -> bool {
        !matches!(self.touched.get(fqn), Some(None))
    }

    /// A record that the index does not list yet needs no rename: nobody reads the file before the index does.
    fn write_new_record(
        &self,
        disk: &dyn Disk,
        fqn: &Fqn,
        path: &Path,
        bytes: &[u8],
        written: &mut Written,
    ) -> Result<(), StateError> {
        create_folder(disk, parent_of(path))?;
        write_file(disk, path, bytes)?;
        written.record(&self.layout, path);
        let mut scope = self.layout.scope_folder(fqn);
        let mut name = scope_name(fqn);
        while scope != self.layout.folder && written.scopes.insert(scope.clone()) {
            let path = scope.join(STATE);
            let record = ScopeRecord {
                format: FORMAT,
                scope: name,
            };
            write_scope_record(disk, &path, &sealed(&path, &record)?.0)?;
            written.files.push(path);
            scope.pop();
            name = name.rsplit_once('/').map_or("", |(outer, _)| outer);
        }
        Ok(())
    }

    fn remove_records(
        &self,
        disk: &dyn Disk,
        removed: &[&Fqn],
        written: &mut Written,
    ) -> Result<(), StateError> {
        let mut scopes_in_use = HashSet::new();
        for fqn in self.state.records.keys() {
            let mut scope = scope_name(fqn);
            while scopes_in_use.insert(scope) {
                scope = scope.rsplit_once('/').map_or("", |(outer, _)| outer);
            }
        }
        for fqn in removed {
            // The outermost folder that nothing else is in.
            let mut folder = self.layout.resource_folder(fqn);
            let mut scope_folder = self.layout.scope_folder(fqn);
            let mut scope = scope_name(fqn);
            while scope_folder != self.layout.folder && !scopes_in_use.contains(scope) {
                folder.clone_from(&scope_folder);
                scope_folder.pop();
                scope = scope.rsplit_once('/').map_or("", |(outer, _)| outer);
            }
            disk.remove_dir_all(&folder)
                .map_err(|error| io_error("remove", &folder, error))?;
            let parent = parent_of(&folder).to_owned();
            // Missing when a crashed checkpoint had removed a whole scope.
            if disk
                .exists(&parent)
                .map_err(|error| io_error("look for", &parent, error))?
            {
                written.folders.insert(parent);
            }
        }
        written
            .folders
            .retain(|folder| removed_parent_is_there(disk, folder));
        Ok(())
    }
}

/// What a checkpoint has written so far and has still to sync.
#[derive(Default)]
struct Written {
    files: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
    scopes: HashSet<PathBuf>,
}

impl Written {
    /// Notes a record and the folders between it and the stage.
    fn record(&mut self, layout: &StageLayout, path: &Path) {
        self.files.push(path.to_owned());
        for folder in path.ancestors().skip(1) {
            if !self.folders.insert(folder.to_owned()) || folder == layout.folder {
                break;
            }
        }
    }
}

/// Writes the record of a scope, unless it is there. One that a crash left torn needs no rename: nothing is read from it.
fn write_scope_record(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    match disk.read(path) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", path, error)),
    }
    write_file(disk, path, bytes)
}

fn removed_parent_is_there(disk: &dyn Disk, folder: &Path) -> bool {
    // When this cannot be told, the sync that follows will say so.
    disk.exists(folder).unwrap_or(true)
}

/// The scopes of a resource as text; empty for the stage itself.
fn scope_name(fqn: &Fqn) -> &str {
    fqn.within_stage()
        .rsplit_once('/')
        .map_or("", |(scope, _)| scope)
}
