//! The end of a stage: everything of it goes but its history, in an order that leaves no half of it behind at any crash.
//!
//! With the history stays `removed.json`: lineage and serial, so that an older copy of the stage in another store is not taken for
//! what came after. It counts only where there is no stage record; a stage that is made anew goes on from its serial.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    envelope::{corrupt, io_error},
    files::{rename, sealed, sync_folder, write_file},
    layout::{StageLayout, temporary},
    recover::{read_if_present, read_versioned},
    writer::Writer,
};
use crate::{
    model::StagePath,
    state::{
        Removed, StageHeader, StageState, StateError,
        disk::Disk,
        migrate::{Role, Versioned},
        record::FORMAT,
    },
};

/// What `removed.json` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovalRecord {
    format: u32,
    stage: StagePath,
    removed: Removed,
}

impl Versioned for RemovalRecord {
    const ROLE: Role = Role::Removal;
}

/// Reads what is left of a stage that was removed, if anything is. The caller knows whether there is a stage.
pub(crate) fn read(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
) -> Result<Option<Removed>, StateError> {
    let path = layout.removal();
    let Some(bytes) = read_if_present(disk, &path)? else {
        return Ok(None);
    };
    let record: RemovalRecord = read_versioned(&bytes, &stage.to_string(), &path)?;
    match record.stage == *stage {
        true => Ok(Some(record.removed)),
        false => {
            let problem = format!("it is of stage {}", record.stage);
            Err(corrupt(stage, &path, problem))
        }
    }
}

impl Writer {
    /// Removes everything of a stage but its history, and what tells how far it had come. The caller has seen that the stage is
    /// empty.
    pub(crate) fn remove_stage(
        &mut self,
        disk: &dyn Disk,
        at: Timestamp,
    ) -> Result<(), StateError> {
        // The state of a test never leaves this folder, so that there are no copies to be compared with it.
        let is_told = self.stage.stage.test_parts().is_none();
        self.remove(disk, at, is_told)
    }

    /// Removes everything of a stage but its history.
    pub(crate) fn forget_stage(
        &mut self,
        disk: &dyn Disk,
        at: Timestamp,
    ) -> Result<(), StateError> {
        self.remove(disk, at, false)?;
        self.drop_removal(disk)?;
        self.removed = None;
        self.state = StageState::default();
        self.remove_folder_if_empty(disk)
    }

    /// Takes `removed.json` away, if it is there. That it may come back after a power failure does no harm: it tells the truth.
    pub(super) fn drop_removal(&self, disk: &dyn Disk) -> Result<(), StateError> {
        let path = self.layout.removal();
        if !disk
            .exists(&path)
            .map_err(|error| io_error("look for", &path, error))?
        {
            return Ok(());
        }
        disk.remove_file(&path)
            .map_err(|error| io_error("remove", &path, error))
    }

    fn remove(&mut self, disk: &dyn Disk, at: Timestamp, is_told: bool) -> Result<(), StateError> {
        if !self.created {
            return Ok(());
        }
        // First fold: an index that still lists records must not outlive the journal that says they are gone.
        self.checkpoint(disk, self.header.clone(), at, usize::MAX, &String::new)?;
        let removed = is_told.then(|| Removed::of(&self.state, at));
        if let Some(removed) = &removed {
            // Before anything goes: whoever sees no stage sees this.
            let path = self.layout.removal();
            let record = RemovalRecord {
                format: FORMAT,
                stage: self.stage.clone(),
                removed: removed.clone(),
            };
            let temporary = temporary(&path);
            write_file(disk, &temporary, &sealed(&path, &record)?.0)?;
            disk.sync_file(&temporary)
                .map_err(|error| io_error("sync", &temporary, error))?;
            // Durable with the journal, whose folder is the same, and which comes next.
            rename(disk, &temporary, &path)?;
        }
        // An empty journal of serial 0 is the one thing that may stand without a stage record.
        self.write_journal(disk, 0, &[])?;
        let record = self.layout.stage_record();
        disk.remove_file(&record)
            .map_err(|error| io_error("remove", &record, error))?;
        self.remove_rest(disk)?;
        self.created = false;
        self.state = StageState {
            serial: removed.as_ref().map_or(0, |removed| removed.serial),
            ..StageState::default()
        };
        self.removed = removed;
        self.header = StageHeader::default();
        self.index.clear();
        self.touched.clear();
        self.entries = 0;
        Ok(())
    }

    fn remove_rest(&self, disk: &dyn Disk) -> Result<(), StateError> {
        let folder = &self.layout.folder;
        let list = || {
            disk.list(folder)
                .map_err(|error| io_error("list", folder, error))
        };
        for entry in list()? {
            let path = folder.join(&entry.name);
            if [
                self.layout.journal(),
                self.layout.removal(),
                self.layout.deployments(),
                self.layout.logs(),
            ]
            .contains(&path)
            {
                continue;
            }
            let result = if entry.is_folder {
                disk.remove_dir_all(&path)
            } else {
                disk.remove_file(&path)
            };
            result.map_err(|error| io_error("remove", &path, error))?;
        }
        sync_folder(disk, folder)?;
        // Left behind by a power failure it counts as no stage, so that its end need not be synced.
        let journal = self.layout.journal();
        disk.remove_file(&journal)
            .map_err(|error| io_error("remove", &journal, error))?;
        self.remove_folder_if_empty(disk)
    }

    fn remove_folder_if_empty(&self, disk: &dyn Disk) -> Result<(), StateError> {
        let folder = &self.layout.folder;
        let exists = disk
            .exists(folder)
            .map_err(|error| io_error("look for", folder, error))?;
        let is_empty = || {
            let entries = disk.list(folder);
            entries.map(|entries| entries.is_empty())
        };
        if exists && is_empty().map_err(|error| io_error("list", folder, error))? {
            disk.remove_dir_all(folder)
                .map_err(|error| io_error("remove", folder, error))?;
            sync_folder(disk, self.layout.parent())?;
        }
        Ok(())
    }
}
