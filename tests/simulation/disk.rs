//! The real file store over the simulated disk, told when the process dies and telling when the power does.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alch::{
    state::{
        SharedStore,
        disk::{AppendFile, Disk, Entry, Guard},
        file::{FileStore, Process, Processes},
        sim_disk::{Fault, Loss, SimDisk},
    },
    util::{clock::Clock, ids::Ids},
};
use jiff::Timestamp;

use super::world::{Fate, SimClock};

/// The disk of the simulated machine and the processes that have run on it.
pub(crate) struct SimulatedStore {
    disk: SimDisk,
    loss: Loss,
}

/// Only the process of the current life lives.
struct OneAlive(u64);

impl Processes for OneAlive {
    fn is_alive(&self, _pid: u32, start: u64) -> Option<bool> {
        Some(start == self.0)
    }
}

impl SimulatedStore {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(SimClock::standing_at(1_700_000_000));
        let disk = SimDisk::new(clock);
        // The project folder was there before alch.
        disk.create_dir_all(Path::new("/project")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self {
            disk,
            loss: Loss::Nothing,
        }
    }

    /// The store as a new process opens it.
    pub(crate) fn open(
        &self,
        fate: &Arc<Fate>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<dyn Ids>,
        life: u64,
    ) -> SharedStore {
        let process = Process {
            owner: "sim".to_owned(),
            host: "sim".to_owned(),
            boot_id: "boot".to_owned(),
            pid: 1,
            pid_start: life,
        };
        Arc::new(FileStore::over(
            "/project/.alchemy",
            Arc::new(Watched {
                disk: self.disk.clone(),
                fate: Arc::clone(fate),
            }),
            Arc::clone(clock),
            Arc::clone(ids),
            process,
            Arc::new(OneAlive(life)),
        ))
    }

    /// Lets the power fail at the effect `after` effects from now, and lose `loss` of what was not synced.
    pub(crate) fn strike(&mut self, after: u64, fault: Fault, loss: Loss) {
        self.disk.strike(after, fault);
        self.loss = loss;
    }

    /// The process is gone; the next one finds what was left.
    pub(crate) fn crash(&mut self) {
        self.disk.reboot(self.loss);
        self.loss = Loss::Nothing;
    }

    /// The process ended well: a fault that was beyond its end is taken back.
    pub(crate) fn calm(&mut self) {
        self.crash();
    }

    /// An empty disk, as if the project had been checked out anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }
}

/// Tells the process's fate when the disk went down.
struct Watched {
    disk: SimDisk,
    fate: Arc<Fate>,
}

impl Watched {
    fn watch<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if self.disk.is_down() {
            self.fate.kill();
        }
        if self.fate.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        result
    }

    fn guarded<T>(&self, operation: impl FnOnce(&SimDisk) -> io::Result<T>) -> io::Result<T> {
        if self.fate.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        self.watch(operation(&self.disk))
    }
}

struct WatchedFile {
    file: Box<dyn AppendFile>,
    watched: Watched,
}

impl AppendFile for WatchedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = &mut self.file;
        self.watched.guarded(|_| file.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.file;
        self.watched.guarded(|_| file.sync())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let file = &mut self.file;
        self.watched.guarded(|_| file.truncate(length))
    }
}

impl Disk for Watched {
    fn is_blocking(&self) -> bool {
        false
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.guarded(|disk| disk.read(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.guarded(|disk| disk.exists(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.guarded(|disk| disk.list(path))
    }

    fn modified(&self, path: &Path) -> io::Result<Timestamp> {
        self.guarded(|disk| disk.modified(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.create_dir_all(path))
    }

    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|disk| disk.create_exclusive(path, bytes))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|disk| disk.write(path, bytes))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = self.guarded(|disk| disk.open_append(path))?;
        let watched = Self {
            disk: self.disk.clone(),
            fate: Arc::clone(&self.fate),
        };
        Ok(Box::new(WatchedFile { file, watched }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.sync_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.sync_dir(path))
    }

    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        self.guarded(|disk| disk.sync_tree(root, files, folders))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.guarded(|disk| disk.remove_dir_all(path))
    }

    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>> {
        self.guarded(|disk| disk.guard(path, patience))
    }
}
