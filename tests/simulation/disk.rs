//! The real file store over the simulated disk: told when the process dies, failing where it was asked to.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
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

use super::{
    places::{self, Omission},
    scenario::{Blow, Lost, Moment},
    world::{Fate, SimClock},
};

/// The disk of the simulated machine and the processes that have run on it.
pub(crate) struct SimulatedStore {
    disk: SimDisk,
    loss: Loss,
    /// What the store is made to leave out, to see whether anybody notices.
    pub(crate) omission: Option<Omission>,
}

/// Where a process sits, and who hears of its writes.
pub(crate) struct Seat {
    pub(crate) host: &'static str,
    pub(crate) life: u64,
    pub(crate) alive: Arc<dyn Processes>,
    pub(crate) writes: Arc<Mutex<Vec<Write>>>,
}

/// A write that came through, by which process.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// The lock was taken or renewed.
    Lock(u64),
    /// Something of the stage was written.
    State(u64, String),
}

/// All processes live.
pub(crate) struct AllAlive;

impl Processes for AllAlive {
    fn is_alive(&self, _pid: u32, _start: u64) -> Option<bool> {
        Some(true)
    }
}

/// Only the process of the current life lives.
struct OneAlive(u64);

impl Processes for OneAlive {
    fn is_alive(&self, _pid: u32, start: u64) -> Option<bool> {
        Some(start == self.0)
    }
}

fn loss_of(lost: Lost) -> Loss {
    match lost {
        Lost::Nothing => Loss::Nothing,
        Lost::Everything => Loss::Everything,
        Lost::Some(seed) => Loss::Some(seed),
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
            omission: None,
        }
    }

    /// A disk of its own with the same content.
    pub(crate) fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            loss: Loss::Nothing,
            omission: self.omission.clone(),
        }
    }

    /// The store as a new process opens it, and how often it calls the disk.
    pub(crate) fn open(
        &self,
        fate: &Arc<Fate>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<dyn Ids>,
        life: u64,
        blows: &[Blow],
    ) -> (SharedStore, Arc<AtomicU64>) {
        let seat = Seat {
            host: "sim",
            life,
            alive: Arc::new(OneAlive(life)),
            writes: Arc::default(),
        };
        self.open_at(fate, clock, ids, seat, blows)
    }

    /// The store as one of several processes opens it.
    pub(crate) fn open_at(
        &self,
        fate: &Arc<Fate>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<dyn Ids>,
        seat: Seat,
        blows: &[Blow],
    ) -> (SharedStore, Arc<AtomicU64>) {
        let process = Process {
            owner: "sim".to_owned(),
            host: seat.host.to_owned(),
            boot_id: "boot".to_owned(),
            pid: 1,
            pid_start: seat.life,
        };
        let calls = Arc::<AtomicU64>::default();
        let watched = Watched {
            disk: self.disk.clone(),
            fate: Arc::clone(fate),
            calls: Arc::clone(&calls),
            faults: Arc::new(disk_faults(blows)),
            omission: self.omission.clone(),
            who: seat.life,
            writes: seat.writes,
            own_lock: Arc::default(),
        };
        let store = FileStore::over(
            places::ROOT,
            Arc::new(watched),
            Arc::clone(clock),
            Arc::clone(ids),
            process,
            seat.alive,
        );
        (places::wrap(Arc::new(store), self.omission.clone()), calls)
    }

    /// Lets the power fail where a blow says so.
    pub(crate) fn strike(&mut self, blows: &[Blow]) {
        for blow in blows {
            if let Blow::Power {
                effect,
                moment,
                lost,
            } = blow
            {
                let fault = match moment {
                    Moment::Before => Fault::CrashBefore,
                    Moment::Torn => Fault::CrashTorn,
                    Moment::After => Fault::CrashAfter,
                };
                self.disk.strike(*effect, fault);
                self.loss = loss_of(*lost);
            }
        }
    }

    /// The process is gone; the next one finds what was left. A fault that was beyond its end is taken back.
    pub(crate) fn end_process(&mut self, died: bool, blows: &[Blow]) {
        let outage = blows.iter().find_map(|blow| match blow {
            Blow::Outage { lost } => Some(loss_of(*lost)),
            _ => None,
        });
        let loss = match outage {
            Some(loss) => loss,
            None if died => self.loss,
            None => Loss::Nothing,
        };
        self.disk.reboot(loss);
        self.loss = Loss::Nothing;
    }

    /// Whether the power is gone.
    pub(crate) fn is_down(&self) -> bool {
        self.disk.is_down()
    }

    /// How many changes are not synced.
    pub(crate) fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    /// The power comes back, and of what was not synced only these are there.
    pub(crate) fn lose_all_but(&mut self, kept: u64) {
        self.disk.reboot(Loss::Subset(kept));
    }

    /// What every effect was, in order.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.disk.trace()
    }

    /// The content of all files.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.disk.files()
    }

    /// An empty disk, as if the project had been checked out anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }
}

fn disk_faults(blows: &[Blow]) -> BTreeMap<u64, (i32, bool)> {
    let faults = blows.iter().filter_map(|blow| match blow {
        Blow::Disk { call, errno, short } => Some((*call, (*errno, *short))),
        _ => None,
    });
    faults.collect()
}

/// Tells the process's fate when the disk went down; fails where it is told to.
#[derive(Clone)]
struct Watched {
    disk: SimDisk,
    fate: Arc<Fate>,
    calls: Arc<AtomicU64>,
    /// Calls that fail: with which error, and whether half of the bytes are written all the same.
    faults: Arc<BTreeMap<u64, (i32, bool)>>,
    omission: Option<Omission>,
    who: u64,
    writes: Arc<Mutex<Vec<Write>>>,
    /// The lock as this process wrote it last.
    own_lock: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Watched {
    fn call<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.call_with(operation, || Ok(()))
    }

    /// One call; `half` is what is done where the call is cut short.
    fn call_with<T>(
        &self,
        operation: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<T> {
        if self.fate.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let result = match self.faults.get(&call) {
            Some((errno, short)) => {
                if *short {
                    half()?;
                }
                Err(io::Error::from_raw_os_error(*errno))
            }
            None => operation(),
        };
        if self.disk.is_down() {
            self.fate.kill();
        }
        if self.fate.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        result
    }

    /// Notes a write that came through.
    fn note(&self, operation: &str, path: &Path) {
        let write = match places::place(path) {
            "lock" if operation == "rename" => Write::Lock(self.who),
            "lock" => return,
            place => Write::State(self.who, format!("{operation} {place}")),
        };
        self.writes.lock().unwrap().push(write);
    }

    fn omits(&self, operation: &str, path: &Path) -> bool {
        let omission = self.omission.as_ref();
        omission.is_some_and(|omission| omission.is(operation, path))
    }

    /// Where a file that is renamed into its place is written: there at once, where the rename is left out.
    fn written_at(&self, path: &Path) -> PathBuf {
        let place = path.with_extension("");
        if path.extension().is_some_and(|end| end == "tmp") && self.omits("rename", &place) {
            return place;
        }
        path.to_owned()
    }
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

struct WatchedFile {
    file: Box<dyn AppendFile>,
    path: PathBuf,
    watched: Watched,
}

impl AppendFile for WatchedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = std::cell::RefCell::new(&mut self.file);
        self.watched.call_with(
            || file.borrow_mut().append(bytes),
            || file.borrow_mut().append(half(bytes)),
        )?;
        self.watched.note("append", &self.path);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.watched.omits("sync", &self.path) {
            return Ok(());
        }
        let file = &mut self.file;
        self.watched.call(|| file.sync())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.watched.omits("truncate", &self.path) {
            return Ok(());
        }
        let file = &mut self.file;
        self.watched.call(|| file.truncate(length))
    }
}

impl Disk for Watched {
    fn is_blocking(&self) -> bool {
        false
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let own = self.own_lock.lock().unwrap();
        if let (Some(Omission::Fence), Some(own), true) = (
            &self.omission,
            own.as_ref(),
            path.extension().is_some_and(|end| end == "lock"),
        ) {
            return Ok(own.clone());
        }
        drop(own);
        self.call(|| self.disk.read(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.call(|| self.disk.exists(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.call(|| self.disk.list(path))
    }

    fn modified(&self, path: &Path) -> io::Result<Timestamp> {
        self.call(|| self.disk.modified(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(|| self.disk.create_dir_all(path))
    }

    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(|| {
            if self.omits("create whole", path) {
                return self.disk.write(path, bytes);
            }
            self.disk.create_exclusive(path, bytes)
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if places::place(path) == "lock" {
            *self.own_lock.lock().unwrap() = Some(bytes.to_vec());
        }
        let path = &self.written_at(path);
        self.call_with(
            || self.disk.write(path, bytes),
            || self.disk.write(path, half(bytes)),
        )
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = self.call(|| self.disk.open_append(path))?;
        Ok(Box::new(WatchedFile {
            file,
            path: path.to_owned(),
            watched: self.clone(),
        }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        if self.omits("sync", path) {
            return Ok(());
        }
        let path = &self.written_at(path);
        self.call(|| self.disk.sync_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.omits("sync folder", path) {
            return Ok(());
        }
        self.call(|| self.disk.sync_dir(path))
    }

    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        let kept = |operation: &str, paths: &[PathBuf]| -> Vec<PathBuf> {
            let kept = paths.iter().filter(|path| !self.omits(operation, path));
            kept.map(|path| self.written_at(path)).collect()
        };
        let (files, folders) = (kept("sync", files), kept("sync folder", folders));
        self.call(|| self.disk.sync_tree(root, &files, &folders))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.omits("rename", to) {
            return Ok(());
        }
        self.call(|| self.disk.rename(from, to))?;
        self.note("rename", to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(|| self.disk.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(|| self.disk.remove_dir_all(path))
    }

    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>> {
        self.call(|| self.disk.guard(path, patience))
    }
}
