//! The real file store over the simulated disk: told when the process dies, failing where it was asked to.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    places::{self, AtWork, Omission, Site, Work},
    scenario::{Blow, Lost, Moment},
    world::{Fate, SimClock},
};

/// The disk of the simulated machine and the processes that have run on it.
pub(crate) struct SimulatedStore {
    disk: SimDisk,
    loss: Loss,
    /// What the store is made to leave out, to see whether anybody notices.
    pub(crate) omission: Option<Omission>,
    /// Where the store has made something durable.
    pub(crate) sites: Arc<Mutex<BTreeSet<Site>>>,
    promised: Arc<Mutex<Promised>>,
}

/// Files and what they hold.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Files as a process left them: what it wrote and did not remove. The journal and the lock are not among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promised {
    pub(crate) files: Files,
    /// The stage record that it put in place last, and the backups that were there by then.
    pub(crate) checkpoint: Option<(Vec<u8>, Files)>,
}

/// Where a process sits, and who hears of its writes.
pub(crate) struct Seat {
    pub(crate) host: &'static str,
    pub(crate) life: u64,
    pub(crate) alive: Arc<dyn Processes>,
    pub(crate) writes: Arc<Mutex<Vec<Write>>>,
    pub(crate) interlude: Option<Interlude>,
}

/// A write that came through, by which process.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// The lock was taken or renewed.
    Lock(u64),
    /// Something of the stage was written.
    State(u64, String),
    /// A request left that changes something at the cloud.
    Request(u64),
}

/// What happens while a process waits for the guard of its stage for the n-th time, counted from 0.
pub(crate) struct Interlude {
    pub(crate) guard: u64,
    pub(crate) act: Box<dyn FnOnce() + Send>,
}

/// All processes live.
pub(crate) struct AllAlive;

impl Processes for AllAlive {
    fn is_alive(&self, _pid: u32, _start: u64) -> Option<bool> {
        Some(true)
    }
}

/// Only the process of the current life lives.
pub(crate) struct OneAlive(pub(crate) u64);

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
            sites: Arc::default(),
            promised: Arc::default(),
        }
    }

    /// The same disk, for another process at the same time.
    pub(crate) fn shared(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            loss: Loss::Nothing,
            omission: None,
            sites: Arc::default(),
            promised: Arc::default(),
        }
    }

    /// A disk of its own with the same content.
    pub(crate) fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            loss: Loss::Nothing,
            omission: self.omission.clone(),
            sites: Arc::clone(&self.sites),
            promised: Arc::default(),
        }
    }

    /// What the last process that wrote left.
    pub(crate) fn promised(&self) -> Promised {
        self.promised.lock().unwrap().clone()
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
            interlude: None,
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
        let at_work: AtWork = Arc::new(Mutex::new(Work::Heartbeat));
        *self.promised.lock().unwrap() = Promised::default();
        let watched = Watched {
            disk: self.disk.clone(),
            fate: Arc::clone(fate),
            calls: Arc::clone(&calls),
            faults: Arc::new(disk_faults(blows)),
            omission: self.omission.clone(),
            who: seat.life,
            writes: seat.writes,
            own_lock: Arc::default(),
            at_work: Arc::clone(&at_work),
            before: Arc::new(Mutex::new("nothing".to_owned())),
            sites: Arc::clone(&self.sites),
            promised: Arc::clone(&self.promised),
            guards: Arc::default(),
            interlude: Arc::new(Mutex::new(seat.interlude)),
        };
        let store = FileStore::over(
            places::ROOT,
            Arc::new(watched),
            Arc::clone(clock),
            Arc::clone(ids),
            process,
            seat.alive,
        );
        let store = places::wrap(Arc::new(store), self.omission.clone(), at_work);
        (store, calls)
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
    at_work: AtWork,
    /// The last change of the disk.
    before: Arc<Mutex<String>>,
    sites: Arc<Mutex<BTreeSet<Site>>>,
    promised: Arc<Mutex<Promised>>,
    guards: Arc<AtomicU64>,
    interlude: Arc<Mutex<Option<Interlude>>>,
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

    /// Notes a change of the disk, for what comes after it.
    fn changed(&self, operation: &str, path: &Path) {
        *self.before.lock().unwrap() = format!("{operation} {}", places::place(path));
    }

    /// Whether this is what the store is to leave out. It then takes it for done.
    fn omits(&self, operation: &'static str, path: &Path) -> bool {
        let after = self.before.lock().unwrap().clone();
        self.omits_after(operation, path, after)
    }

    fn omits_after(&self, operation: &'static str, path: &Path, after: String) -> bool {
        let site = Site {
            operation,
            place: places::place(path),
            after,
        };
        let omits = matches!(&self.omission, Some(Omission::Disk(omitted)) if *omitted == site);
        self.sites.lock().unwrap().insert(site);
        omits
    }

    /// Whether files are written to their places directly, because it is this rename that is left out.
    fn in_place(&self, path: &Path) -> bool {
        let is_new = path.extension().is_some_and(|end| end == "tmp");
        let place = places::place(path);
        is_new
            && matches!(&self.omission, Some(Omission::Disk(site))
                if site.operation == "rename" && site.place == place)
    }

    fn written_at(&self, path: &Path) -> PathBuf {
        if self.in_place(path) {
            return path.with_extension("");
        }
        path.to_owned()
    }

    /// Notes what a file holds from now on; nothing when that is not certain.
    fn promise(&self, path: &Path, bytes: Option<Vec<u8>>) {
        let place = places::place(path);
        if matches!(place, "journal" | "lock") || path.extension().is_some_and(|end| end == "tmp") {
            return;
        }
        let mut promised = self.promised.lock().unwrap();
        if place == "stage record" {
            promised.checkpoint = bytes.clone().map(|bytes| {
                let files = promised.files.iter();
                let backups = files.filter(|(path, _)| places::place(path) == "backup");
                let backups = backups.map(|(path, bytes)| (path.clone(), bytes.clone()));
                (bytes, backups.collect())
            });
        }
        match bytes {
            Some(bytes) => promised.files.insert(path.to_owned(), bytes),
            None => promised.files.remove(path),
        };
    }

    fn forget(&self, path: &Path) {
        let mut promised = self.promised.lock().unwrap();
        promised.files.retain(|other, _| !other.starts_with(path));
        if let Some((_, backups)) = &mut promised.checkpoint {
            backups.retain(|other, _| !other.starts_with(path));
        }
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
        self.watched.changed("append", &self.path);
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
        self.watched.changed("sync", &self.path);
        let file = &mut self.file;
        self.watched.call(|| file.sync())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let omits = self.watched.omits("truncate", &self.path);
        self.watched.changed("truncate", &self.path);
        if omits {
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
        if let Some(Omission::Fence(work)) = &self.omission
            && *work == *self.at_work.lock().unwrap()
            && path.extension().is_some_and(|end| end == "lock")
            && let Some(own) = self.own_lock.lock().unwrap().as_ref()
        {
            return Ok(own.clone());
        }
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
        let omits = self.omits("create whole", path);
        self.changed("create", path);
        self.call(|| {
            if omits {
                return self.disk.write(path, bytes);
            }
            self.disk.create_exclusive(path, bytes)
        })?;
        self.promise(path, Some(bytes.to_vec()));
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if places::place(path) == "lock" {
            *self.own_lock.lock().unwrap() = Some(bytes.to_vec());
        }
        self.changed("write", path);
        self.promise(path, None);
        let at = &self.written_at(path);
        self.call_with(
            || self.disk.write(at, bytes),
            || self.disk.write(at, half(bytes)),
        )?;
        self.promise(path, Some(bytes.to_vec()));
        Ok(())
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
        let omits = self.omits("sync", path);
        self.changed("sync", path);
        if omits {
            return Ok(());
        }
        let path = &self.written_at(path);
        self.call(|| self.disk.sync_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let omits = self.omits("sync folder", path);
        self.changed("sync folder", path);
        if omits {
            return Ok(());
        }
        self.call(|| self.disk.sync_dir(path))
    }

    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        let kept = |operation: &'static str, paths: &[PathBuf]| -> Vec<PathBuf> {
            let within = || "the records of a checkpoint".to_owned();
            let kept = paths
                .iter()
                .filter(|path| !self.omits_after(operation, path, within()));
            kept.map(|path| self.written_at(path)).collect()
        };
        let (files, folders) = (kept("sync", files), kept("sync folder", folders));
        self.changed("sync tree", root);
        self.call(|| self.disk.sync_tree(root, &files, &folders))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // One place of a file, one rename, whatever comes before it.
        let omits = self.omits_after("rename", to, "write".to_owned());
        self.changed("rename", to);
        if omits {
            self.promise(to, self.disk.read(to).ok());
            return Ok(());
        }
        self.promise(to, None);
        self.call(|| self.disk.rename(from, to))?;
        self.promise(to, self.disk.read(to).ok());
        self.note("rename", to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.changed("remove", path);
        self.forget(path);
        self.call(|| self.disk.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.changed("remove", path);
        self.forget(path);
        self.call(|| self.disk.remove_dir_all(path))
    }

    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>> {
        let number = self.guards.fetch_add(1, Ordering::SeqCst);
        let interlude = self
            .interlude
            .lock()
            .unwrap()
            .take_if(|interlude| interlude.guard == number);
        if let Some(interlude) = interlude {
            (interlude.act)();
        }
        self.call(|| self.disk.guard(path, patience))
    }
}
