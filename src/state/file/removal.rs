//! The end of a stage: everything of it goes but its history, in an order that leaves no half of it behind at any crash.

use jiff::Timestamp;

use super::{envelope::io_error, files::sync_folder, writer::Writer};
use crate::state::{StageHeader, StageState, StateError, disk::Disk};

impl Writer {
    /// Removes everything of a stage but its history. The caller has seen that the stage is empty.
    pub(crate) fn remove_stage(
        &mut self,
        disk: &dyn Disk,
        at: Timestamp,
    ) -> Result<(), StateError> {
        if !self.created {
            return Ok(());
        }
        // First fold: an index that still lists records must not outlive the journal that says they are gone.
        self.checkpoint(disk, self.header.clone(), at, usize::MAX, &String::new)?;
        // An empty journal of serial 0 is the one thing that may stand without a stage record.
        self.write_journal(disk, 0, &[])?;
        let record = self.layout.stage_record();
        disk.remove_file(&record)
            .map_err(|error| io_error("remove", &record, error))?;
        self.remove_rest(disk)?;
        self.created = false;
        self.state = StageState::default();
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
        if list()?.is_empty() {
            disk.remove_dir_all(folder)
                .map_err(|error| io_error("remove", folder, error))?;
            sync_folder(disk, self.layout.parent())?;
        }
        Ok(())
    }
}
