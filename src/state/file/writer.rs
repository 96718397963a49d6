//! What a session writes: the first files of a stage, batches of the journal, and the record of a finished run.
//!
//! [`Writer`] belongs to one session. All its methods expect that the guard of the stage is held and that the lock was
//! found to be ours. Its checkpoints are in `checkpoint`, the end of a stage is in `removal`.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use super::{
    envelope::{Checksum, io_error},
    files::{create_folder, parent_of, replace, sealed, sync_folder},
    journal::{JournalHeader, Payloads, encode_batch, encode_new},
    layout::StageLayout,
    recover::{self, AppRecord, JournalState, Loaded, StageRecord, touches},
    removal,
};
use crate::{
    model::{Fqn, StagePath},
    state::{
        Deployment, JournalEntry, Record, Removed, StageHeader, StageState, StateError,
        disk::{AppendFile, Disk},
        record::FORMAT,
    },
};

/// Everything that a session knows of what is on disk.
pub(crate) struct Writer {
    pub(super) stage: StagePath,
    pub(super) layout: StageLayout,
    pub(super) epoch: u64,
    /// Whether the stage has its files.
    pub(super) created: bool,
    /// As of the last durable entry.
    pub(super) state: StageState,
    /// The header of the last checkpoint.
    pub(super) header: StageHeader,
    /// The records of the last checkpoint.
    pub(super) index: BTreeMap<Fqn, Checksum>,
    /// Records that entries have named since, with what the checkpoint had where that is in memory.
    pub(super) touched: BTreeMap<Fqn, Option<Arc<Record>>>,
    /// Entries in the journal.
    pub(super) entries: usize,
    /// Number of the journal's last batch.
    pub(super) batch: u32,
    /// Bytes of the journal.
    pub(super) length: u64,
    pub(super) journal: Option<Box<dyn AppendFile>>,
    /// Without files: what is known of the stage that was removed.
    pub(super) removed: Option<Removed>,
    /// Whether the stage was set aside and has to be made anew: see `repair`.
    pub(super) repairs: bool,
}

impl Writer {
    /// Goes on from what was read, and mends the journal where a crash left it torn or superseded.
    pub(crate) fn recover(
        disk: &dyn Disk,
        stage: &StagePath,
        layout: &StageLayout,
        epoch: u64,
        loaded: Option<Loaded>,
    ) -> Result<Self, StateError> {
        let created = loaded.is_some();
        let removed = match created {
            true => None,
            false => removal::read(disk, layout, stage)?,
        };
        let serial = removed.as_ref().map_or(0, |removed| removed.serial);
        let loaded = loaded.unwrap_or_else(|| Loaded {
            state: StageState {
                serial,
                ..StageState::default()
            },
            header: StageHeader::default(),
            index: BTreeMap::new(),
            touched: Vec::new(),
            entries: 0,
            batch: 0,
            journal: JournalState::Whole { length: 0 },
        });
        let mut writer = Self {
            stage: stage.clone(),
            layout: layout.clone(),
            epoch,
            created,
            header: loaded.header,
            state: loaded.state,
            index: loaded.index,
            touched: loaded.touched.into_iter().map(|fqn| (fqn, None)).collect(),
            entries: loaded.entries,
            batch: loaded.batch,
            length: 0,
            journal: None,
            removed,
            repairs: false,
        };
        match loaded.journal {
            JournalState::Whole { length } => writer.length = length,
            JournalState::Superseded => writer.replace_journal(disk)?,
            JournalState::Older { entries } => {
                writer.write_journal(disk, writer.state.serial, &entries)?;
                writer.batch = 0;
            }
            JournalState::Torn { good_length } => {
                let path = writer.layout.journal();
                writer.length = good_length;
                let file = writer.open_journal(disk)?;
                file.truncate(good_length)
                    .and_then(|()| file.sync())
                    .map_err(|error| io_error("truncate", &path, error))?;
            }
        }
        Ok(writer)
    }

    /// The stage as the last durable entry left it.
    pub(crate) fn state(&self) -> &StageState {
        &self.state
    }

    /// Appends one batch and makes it durable.
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        payloads: &[&Payloads],
        new_lineage: &dyn Fn() -> String,
    ) -> Result<(), StateError> {
        self.create(disk, new_lineage)?;
        let batch = self.batch.wrapping_add(1);
        let bytes = encode_batch(self.length, self.epoch, batch, payloads.iter().copied());
        let path = self.layout.journal();
        let file = self.open_journal(disk)?;
        file.append(&bytes)
            .map_err(|error| io_error("write", &path, error))?;
        file.sync()
            .map_err(|error| io_error("sync", &path, error))?;
        self.batch = batch;
        self.length += bytes.len() as u64;
        self.entries += payloads.iter().map(|part| part.len()).sum::<usize>();
        Ok(())
    }

    /// Applies entries that are durable.
    pub(crate) fn apply(&mut self, entries: &[JournalEntry]) {
        for entry in entries {
            for fqn in touches(entry) {
                self.touch(fqn);
            }
            if matches!(entry, JournalEntry::Replaced(_)) {
                let all: Vec<Fqn> = self.state.records.keys().cloned().collect();
                all.iter().for_each(|fqn| self.touch(fqn));
            }
            self.state.apply(entry);
        }
        self.state.epoch = self.epoch;
    }

    fn touch(&mut self, fqn: &Fqn) {
        if !self.touched.contains_key(fqn) {
            let before = self.state.records.get(fqn).cloned();
            self.touched.insert(fqn.clone(), before);
        }
    }

    fn open_journal(&mut self, disk: &dyn Disk) -> Result<&mut Box<dyn AppendFile>, StateError> {
        let file = match self.journal.take() {
            Some(file) => file,
            None => {
                let path = self.layout.journal();
                disk.open_append(&path)
                    .map_err(|error| io_error("open", &path, error))?
            }
        };
        Ok(self.journal.insert(file))
    }

    /// Makes the first files of a stage: application record, empty journal, stage record. A crash on the way leaves a journal
    /// without entries at most, which counts as no stage.
    pub(super) fn create(
        &mut self,
        disk: &dyn Disk,
        new_lineage: &dyn Fn() -> String,
    ) -> Result<(), StateError> {
        if self.created {
            return Ok(());
        }
        create_folder(disk, &self.layout.folder)?;
        let app = self.create_app(disk, new_lineage)?;
        self.sync_folders_above(disk)?;
        self.state.lineage = app.lineage;
        self.replace_journal(disk)?;
        self.write_stage_record(disk)?;
        self.created = true;
        self.removed = None;
        self.drop_removal(disk)
    }

    fn create_app(
        &self,
        disk: &dyn Disk,
        new_lineage: &dyn Fn() -> String,
    ) -> Result<AppRecord, StateError> {
        let app = &self.stage.app;
        if let Some(record) = recover::read_app(disk, &self.layout, app)? {
            return Ok(record);
        }
        let path = self.layout.app_record();
        let record = AppRecord {
            format: FORMAT,
            app: app.clone(),
            lineage: match &self.removed {
                Some(removed) if !removed.lineage.is_empty() => removed.lineage.clone(),
                _ => new_lineage(),
            },
        };
        match disk.create_exclusive(&path, &sealed(&path, &record)?.0) {
            Ok(()) => Ok(record),
            // Another stage of the application was made at this moment.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                recover::read_app(disk, &self.layout, app)?
                    .ok_or_else(|| io_error("read", &path, ErrorKind::NotFound))
            }
            Err(error) => Err(io_error("write", &path, error)),
        }
    }

    /// Puts a new journal in the place of the old one: for this checkpoint, with the intents that are still open.
    pub(super) fn replace_journal(&mut self, disk: &dyn Disk) -> Result<(), StateError> {
        let carried: Vec<JournalEntry> = self
            .state
            .open_intents
            .values()
            .map(|intent| JournalEntry::Intent(Arc::clone(intent)))
            .collect();
        self.write_journal(disk, self.state.serial, &carried)?;
        self.entries = carried.len();
        self.batch = 0;
        Ok(())
    }

    pub(super) fn write_journal(
        &mut self,
        disk: &dyn Disk,
        serial: u64,
        entries: &[JournalEntry],
    ) -> Result<(), StateError> {
        let path = self.layout.journal();
        let header = JournalHeader {
            format: FORMAT,
            lineage: self.state.lineage.clone(),
            serial,
            epoch: self.epoch,
        };
        let bytes = Payloads::of(entries)
            .and_then(|carried| encode_new(&header, &carried))
            .map_err(|error| io_error("serialise", &path, io::Error::other(error)))?;
        self.journal = None;
        self.length = bytes.len() as u64;
        replace(disk, &path, &bytes)
    }

    pub(super) fn write_stage_record(&self, disk: &dyn Disk) -> Result<(), StateError> {
        let path = self.layout.stage_record();
        let record = StageRecord {
            format: FORMAT,
            stage: self.stage.clone(),
            lineage: self.state.lineage.clone(),
            serial: self.state.serial,
            epoch: self.epoch,
            header: self.header.clone(),
            records: self.index.clone(),
        };
        replace(disk, &path, &sealed(&path, &record)?.0)
    }

    /// Writes the record of a finished run.
    pub(crate) fn record_deployment(
        &mut self,
        disk: &dyn Disk,
        deployment: &Deployment,
    ) -> Result<(), StateError> {
        let folder = self.layout.deployments();
        self.create_history(disk, &folder)?;
        let path = folder.join(format!("{}.json", deployment.id));
        replace(disk, &path, &sealed(&path, deployment)?.0)
    }

    /// A stage that was removed, or never had state, may still have a history.
    fn create_history(&self, disk: &dyn Disk, folder: &Path) -> Result<(), StateError> {
        if disk
            .exists(folder)
            .map_err(|error| io_error("look for", folder, error))?
        {
            return Ok(());
        }
        create_folder(disk, folder)?;
        if !self.created {
            self.sync_folders_above(disk)?;
        }
        sync_folder(disk, &self.layout.folder)
    }

    /// Makes the names durable that lead to the folder of the stage.
    fn sync_folders_above(&self, disk: &dyn Disk) -> Result<(), StateError> {
        let root = &self.layout.root;
        for folder in [parent_of(root), root, &self.layout.app_folder] {
            sync_folder(disk, folder)?;
        }
        for folder in &self.layout.between {
            sync_folder(disk, folder)?;
        }
        Ok(())
    }
}
