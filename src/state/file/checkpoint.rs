//! What a session writes: the first files of a stage, batches of the journal, checkpoints, and the end of a stage.
//!
//! [`Writer`] belongs to one session. All its methods expect that the guard of the stage is held and that the lock was
//! found to be ours. Order is what makes them safe: records and backup are synced before the stage record that lists them is
//! renamed into place, and that is durable before the journal is replaced. Until then the journal still says everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    backup::{self, Backup},
    envelope::{Checksum, io_error, seal},
    journal::{JournalHeader, Payloads, encode_batch, encode_new},
    layout::{STATE, StageLayout, temporary},
    recover::{self, AppRecord, JournalState, Loaded, StageRecord, touches},
};
use crate::{
    model::{Fqn, StagePath},
    state::{
        Deployment, JournalEntry, Record, StageHeader, StageState, StateError,
        disk::{AppendFile, Disk},
        record::FORMAT,
    },
};

/// The record of a scope: says whose folder it is, to people who look.
#[derive(Serialize)]
struct ScopeRecord<'a> {
    format: u32,
    scope: &'a str,
}

/// Everything that a session knows of what is on disk.
pub(crate) struct Writer {
    stage: StagePath,
    layout: StageLayout,
    epoch: u64,
    /// Whether the stage has its files.
    created: bool,
    /// As of the last durable entry.
    state: StageState,
    /// The header of the last checkpoint.
    header: StageHeader,
    /// The records of the last checkpoint.
    index: BTreeMap<Fqn, Checksum>,
    /// Records that entries have named since, with what the checkpoint had where that is in memory.
    touched: BTreeMap<Fqn, Option<Arc<Record>>>,
    /// Entries in the journal.
    entries: usize,
    /// Number of the journal's last batch.
    batch: u32,
    journal: Option<Box<dyn AppendFile>>,
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
        let loaded = loaded.unwrap_or_else(|| Loaded {
            state: StageState::default(),
            index: BTreeMap::new(),
            touched: Vec::new(),
            entries: 0,
            batch: 0,
            journal: JournalState::Whole,
        });
        let mut writer = Self {
            stage: stage.clone(),
            layout: layout.clone(),
            epoch,
            created,
            header: loaded.state.header.clone(),
            state: loaded.state,
            index: loaded.index,
            touched: loaded.touched.into_iter().map(|fqn| (fqn, None)).collect(),
            entries: loaded.entries,
            batch: loaded.batch,
            journal: None,
        };
        match loaded.journal {
            JournalState::Whole => {}
            JournalState::Superseded => writer.replace_journal(disk)?,
            JournalState::Torn { good_length } => {
                let path = writer.layout.journal();
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
        let bytes = encode_batch(self.epoch, batch, payloads.iter().copied());
        let path = self.layout.journal();
        let file = self.open_journal(disk)?;
        file.append(&bytes)
            .map_err(|error| io_error("write", &path, error))?;
        file.sync()
            .map_err(|error| io_error("sync", &path, error))?;
        self.batch = batch;
        self.entries += payloads.iter().map(|part| part.len()).sum::<usize>();
        Ok(())
    }

    /// Applies entries that are durable.
    pub(crate) fn apply(&mut self, entries: &[JournalEntry]) {
        for entry in entries {
            for fqn in touches(entry) {
                if !self.touched.contains_key(fqn) {
                    let before = self.state.records.get(fqn).cloned();
                    self.touched.insert(fqn.clone(), before);
                }
            }
            self.state.apply(entry);
        }
        self.state.epoch = self.epoch;
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
    fn create(
        &mut self,
        disk: &dyn Disk,
        new_lineage: &dyn Fn() -> String,
    ) -> Result<(), StateError> {
        if self.created {
            return Ok(());
        }
        create_folder(disk, &self.layout.folder)?;
        let app = self.create_app(disk, new_lineage)?;
        for folder in [
            parent_of(&self.layout.root),
            &self.layout.root,
            &self.layout.app_folder,
        ] {
            sync_folder(disk, folder)?;
        }
        self.state.lineage = app.lineage;
        self.replace_journal(disk)?;
        self.write_stage_record(disk)?;
        self.created = true;
        Ok(())
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
            lineage: new_lineage(),
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
    fn replace_journal(&mut self, disk: &dyn Disk) -> Result<(), StateError> {
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

    fn write_journal(
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
        replace(disk, &path, &bytes)
    }

    fn write_stage_record(&self, disk: &dyn Disk) -> Result<(), StateError> {
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

    /// Folds the journal into records; see [`crate::state::Session::checkpoint`].
    pub(crate) fn checkpoint(
        &mut self,
        disk: &dyn Disk,
        header: StageHeader,
        at: Timestamp,
        keep: usize,
        new_lineage: &dyn Fn() -> String,
    ) -> Result<(), StateError> {
        let nothing_to_fold = self.entries == self.state.open_intents.len();
        if nothing_to_fold && header == self.header {
            return Ok(());
        }
        self.create(disk, new_lineage)?;
        let mut written = Written::default();
        let backup = self.back_up(disk, at, &mut written)?;
        let index = self.write_records(disk, &mut written)?;
        let files: Vec<PathBuf> = written.files;
        let folders: Vec<PathBuf> = written.folders.into_iter().collect();
        if !(files.is_empty() && folders.is_empty()) {
            disk.sync_tree(&self.layout.folder, &files, &folders)
                .map_err(|error| io_error("sync", &self.layout.folder, error))?;
        }
        let has_backup = backup.is_some();
        if let Some(backup) = backup {
            backup.name(disk, &self.layout)?;
        }
        // Where the journal came to nothing, as after a refused create, a plan of this state still fits.
        if index != self.index || header != self.header || self.state.serial == 0 {
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
        Ok(())
    }

    /// Backs the last checkpoint up, unless it is empty.
    fn back_up(
        &self,
        disk: &dyn Disk,
        at: Timestamp,
        written: &mut Written,
    ) -> Result<Option<backup::Unnamed>, StateError> {
        if self.index.is_empty() {
            return Ok(None);
        }
        let mut records = BTreeMap::new();
        for (fqn, checksum) in &self.index {
            let record = match self.touched.get(fqn) {
                Some(Some(before)) => Some(Arc::clone(before)),
                // Named by the journal that a crashed run left. If its checkpoint had come as far as this record, it had
                // also made the backup.
                Some(None) => recover::read_record(disk, &self.layout, fqn, *checksum).ok(),
                None => self.state.records.get(fqn).cloned(),
            };
            if let Some(record) = record {
                records.insert(fqn, record);
            }
        }
        let backup = Backup {
            format: FORMAT,
            stage: &self.stage,
            lineage: &self.state.lineage,
            serial: self.state.serial,
            epoch: self.state.epoch,
            header: &self.header,
            records,
        };
        let backup = backup::write(disk, &self.layout, at, &backup)?;
        written.folders.insert(self.layout.folder.clone());
        written.files.push(backup.temporary.clone());
        Ok(Some(backup))
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
                if index.remove(fqn).is_some() {
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
            write_file(disk, &path, &sealed(&path, &record)?.0)?;
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
        for folder in [
            &self.layout.root,
            &self.layout.app_folder,
            &self.layout.folder,
        ] {
            sync_folder(disk, folder)?;
        }
        Ok(())
    }

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
        sync_folder(disk, &self.layout.folder)?;
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
        let journal = self.layout.journal();
        disk.remove_file(&journal)
            .map_err(|error| io_error("remove", &journal, error))?;
        sync_folder(disk, folder)?;
        if list()?.is_empty() {
            disk.remove_dir_all(folder)
                .map_err(|error| io_error("remove", folder, error))?;
            sync_folder(disk, &self.layout.app_folder)?;
        }
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

fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sealed(path: &Path, record: &impl Serialize) -> Result<(Vec<u8>, Checksum), StateError> {
    seal(record).map_err(|error| io_error("serialise", path, io::Error::other(error)))
}

fn create_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StateError> {
    disk.create_dir_all(folder)
        .map_err(|error| io_error("create folder", folder, error))
}

fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StateError> {
    disk.sync_dir(folder)
        .map_err(|error| io_error("sync", folder, error))
}

fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    disk.write(path, bytes)
        .map_err(|error| io_error("write", path, error))
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StateError> {
    disk.rename(from, to)
        .map_err(|error| io_error("rename", to, error))
}

/// Replaces a file so that after any crash the old or the new one is there, and the new one when this returns.
fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let temporary = temporary(path);
    write_file(disk, &temporary, bytes)?;
    disk.sync_file(&temporary)
        .map_err(|error| io_error("sync", &temporary, error))?;
    rename(disk, &temporary, path)?;
    sync_folder(disk, parent_of(path))
}
