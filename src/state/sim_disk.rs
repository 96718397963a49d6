//! A disk in memory with crash points, for tests.
//!
//! It tells apart what was written from what would survive a power failure: the content of a file is durable from its sync on,
//! names from the sync of their folder on. Every change and every sync is a numbered *effect*; a [`Fault`] strikes at one of
//! them. After a crash the disk answers nothing but errors until [`SimDisk::reboot`], which decides by [`Loss`] what is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::disk::{AppendFile, Disk, Entry, Guard};
use crate::util::clock::Clock;

/// What goes wrong at an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power fails before it.
    CrashBefore,
    /// The power fails in the middle: of bytes the first half is written, of several things the first half is done.
    CrashTorn,
    /// The power fails right after it.
    CrashAfter,
    /// It fails with this error, once, and has done nothing.
    Error(ErrorKind),
    /// It fails with this error, once, after the first half was done.
    Short(ErrorKind),
}

/// What a crash takes away of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process died, the machine did not.
    Nothing,
    /// Everything.
    Everything,
    /// Some of it, by this seed: a part of each folder's changes from the first on, and of each file's new bytes any sectors.
    Some(u64),
}

type Inode = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(Inode),
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    modified: Timestamp,
}

/// A change of the names in a folder.
#[derive(Debug, Clone)]
enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

#[derive(Default)]
struct Machine {
    tree: Tree,
    durable: Tree,
    /// Changes of each folder that are not durable, in order.
    pending: BTreeMap<PathBuf, Vec<Change>>,
    contents: BTreeMap<Inode, Content>,
    next_inode: Inode,
    guards: BTreeSet<PathBuf>,
    effects: u64,
    trace: Vec<String>,
    fault: Option<(u64, Fault)>,
    is_down: bool,
    /// Counts reboots: open files of an earlier life are dead.
    life: u64,
}

/// A disk in memory; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    clock: Arc<dyn Clock>,
}

/// How much of an effect is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    All,
    Half,
}

fn down() -> io::Error {
    io::Error::other("the simulated machine is down")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        ErrorKind::NotFound,
        format!("no such file in the simulation: {}", path.display()),
    )
}

fn apply(tree: &mut Tree, change: &Change) {
    match change {
        Change::Put(path, node) => {
            tree.insert(path.clone(), *node);
        }
        Change::Remove(path) => tree.retain(|other, _| !other.starts_with(path)),
        Change::Rename(from, to) => {
            if let Some(node) = tree.remove(from) {
                tree.insert(to.clone(), node);
            }
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Machine {
    /// Counts an effect and does it, or what the fault leaves of it.
    fn effect(
        &mut self,
        name: &str,
        path: &Path,
        work: impl FnOnce(&mut Self, Share) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_down {
            return Err(down());
        }
        self.effects += 1;
        self.trace.push(format!("{name} {}", path.display()));
        let fault = match self.fault {
            Some((at, fault)) if at == self.effects => Some(fault),
            _ => None,
        };
        match fault {
            None => work(self, Share::All),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(kind)) => {
                work(self, Share::Half)?;
                Err(kind.into())
            }
            Some(fault) => {
                let result = match fault {
                    Fault::CrashTorn => work(self, Share::Half),
                    Fault::CrashAfter => work(self, Share::All),
                    _ => Ok(()),
                };
                self.is_down = true;
                result.and(Err(down()))
            }
        }
    }

    fn change(&mut self, change: Change) {
        let folder = match &change {
            Change::Put(path, _) | Change::Remove(path) | Change::Rename(_, path) => {
                parent_of(path)
            }
        };
        apply(&mut self.tree, &change);
        self.pending
            .entry(folder.to_owned())
            .or_default()
            .push(change);
    }

    fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.tree.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    fn new_file(&mut self, path: &Path) -> io::Result<Inode> {
        let folder = parent_of(path);
        if !folder.as_os_str().is_empty() && self.tree.get(folder) != Some(&Node::Folder) {
            return Err(not_found(folder));
        }
        self.next_inode += 1;
        self.contents.insert(self.next_inode, Content::default());
        self.change(Change::Put(path.to_owned(), Node::File(self.next_inode)));
        Ok(self.next_inode)
    }

    fn content(&mut self, inode: Inode) -> &mut Content {
        self.contents.entry(inode).or_default()
    }

    fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.file(path)?;
        let content = self.content(inode);
        content.durable = content.bytes.clone();
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        // The folder that relative paths begin in.
        let path = if path == Path::new(".") {
            Path::new("")
        } else {
            path
        };
        if !path.as_os_str().is_empty() && !self.tree.contains_key(path) {
            return Err(not_found(path));
        }
        for change in self.pending.remove(path).unwrap_or_default() {
            apply(&mut self.durable, &change);
        }
        Ok(())
    }
}

fn half(bytes: &[u8], share: Share) -> &[u8] {
    match share {
        Share::All => bytes,
        Share::Half => &bytes[..bytes.len() / 2],
    }
}

impl SimDisk {
    /// An empty disk whose files are dated by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            machine: Arc::default(),
            clock,
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many effects there were.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.machine().effects
    }

    /// What every effect was, in order.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.machine().trace.clone()
    }

    /// Lets `fault` strike at the effect `after` effects from now (1 is the next one).
    pub fn strike(&self, after: u64, fault: Fault) {
        let mut machine = self.machine();
        machine.fault = Some((machine.effects + after, fault));
    }

    /// Whether a crash came and no reboot yet.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.machine().is_down
    }

    /// The whole content of the disk as it can be read now.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let machine = self.machine();
        let files = machine.tree.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => {
                let content = machine.contents.get(inode)?;
                Some((path.clone(), content.bytes.clone()))
            }
            Node::Folder => None,
        });
        files.collect()
    }

    /// Ends every open file and guard, takes away what `loss` says, and goes on without a fault.
    pub fn reboot(&self, loss: Loss) {
        let mut machine = self.machine();
        let machine = &mut *machine;
        if loss != Loss::Nothing {
            let mut random = Random(match loss {
                Loss::Some(seed) => seed.wrapping_mul(2).wrapping_add(1),
                _ => 0,
            });
            let keeps_some = matches!(loss, Loss::Some(_));
            let mut tree = std::mem::take(&mut machine.durable);
            for changes in std::mem::take(&mut machine.pending).values() {
                let kept = if keeps_some {
                    random.below(changes.len() + 1)
                } else {
                    0
                };
                for change in &changes[..kept] {
                    apply(&mut tree, change);
                }
            }
            let folders: Tree = tree.clone();
            tree.retain(|path, _| {
                path.ancestors()
                    .skip(1)
                    .filter(|folder| !folder.as_os_str().is_empty() && folder.parent().is_some())
                    .all(|folder| folders.get(folder) == Some(&Node::Folder))
            });
            machine.tree = tree;
            for content in machine.contents.values_mut() {
                content.bytes = if keeps_some {
                    survivors(&content.durable, &content.bytes, &mut random)
                } else {
                    content.durable.clone()
                };
            }
        }
        machine.durable = machine.tree.clone();
        machine.pending.clear();
        for content in machine.contents.values_mut() {
            content.durable = content.bytes.clone();
        }
        machine.guards.clear();
        machine.fault = None;
        machine.is_down = false;
        machine.life += 1;
    }
}

const SECTOR: usize = 512;

/// Of the bytes that were not synced, any sectors; those between that were not written are zero.
fn survivors(durable: &[u8], bytes: &[u8], random: &mut Random) -> Vec<u8> {
    if durable == bytes {
        return bytes.to_vec();
    }
    if !bytes.starts_with(durable) {
        // Rewritten in place: all or nothing is enough of a test, for nothing that matters is written so.
        return if random.below(2) == 0 {
            durable.to_vec()
        } else {
            bytes.to_vec()
        };
    }
    let mut out = bytes[..durable.len() + random.below(bytes.len() - durable.len() + 1)].to_vec();
    let mut begin = durable.len();
    while begin < out.len() {
        let end = ((begin / SECTOR + 1) * SECTOR).min(out.len());
        if random.below(8) == 0 {
            out[begin..end].fill(0);
        }
        begin = end;
    }
    out
}

/// A small generator (SplitMix64): equal seeds, equal losses.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        usize::try_from(value % (limit as u64)).unwrap_or(0)
    }
}

impl Disk for SimDisk {
    fn is_blocking(&self) -> bool {
        false
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let machine = self.machine();
        if machine.is_down {
            return Err(down());
        }
        let inode = machine.file(path)?;
        Ok(machine
            .contents
            .get(&inode)
            .map(|content| content.bytes.clone())
            .unwrap_or_default())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let machine = self.machine();
        if machine.is_down {
            return Err(down());
        }
        Ok(machine.tree.contains_key(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let machine = self.machine();
        if machine.is_down {
            return Err(down());
        }
        let mut out: Vec<Entry> = machine
            .tree
            .iter()
            .filter(|(other, _)| other.parent() == Some(path))
            .filter_map(|(other, node)| {
                Some(Entry {
                    name: other.file_name()?.to_owned(),
                    is_folder: *node == Node::Folder,
                })
            })
            .collect();
        out.sort();
        Ok(out)
    }

    fn modified(&self, path: &Path) -> io::Result<Timestamp> {
        let mut machine = self.machine();
        let inode = machine.file(path)?;
        Ok(machine.content(inode).modified)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        if machine.tree.get(path) == Some(&Node::Folder) && !machine.is_down {
            return Ok(());
        }
        machine.effect("mkdir", path, |machine, share| {
            let mut missing: Vec<&Path> = path
                .ancestors()
                .filter(|folder| !folder.as_os_str().is_empty())
                .filter(|folder| !machine.tree.contains_key(*folder))
                .collect();
            missing.reverse();
            if share == Share::Half {
                missing.truncate(missing.len() / 2);
            }
            for folder in missing {
                machine.change(Change::Put(folder.to_owned(), Node::Folder));
            }
            Ok(())
        })
    }

    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let now = self.clock.now();
        let mut machine = self.machine();
        if machine.tree.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        machine.effect("create", path, |machine, share| {
            // Whole or not there at all: a torn one has no name yet.
            if share == Share::All {
                let inode = machine.new_file(path)?;
                *machine.content(inode) = Content {
                    bytes: bytes.to_vec(),
                    durable: bytes.to_vec(),
                    modified: now,
                };
            }
            Ok(())
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let now = self.clock.now();
        self.machine().effect("write", path, |machine, share| {
            let inode = match machine.file(path) {
                Ok(inode) => inode,
                Err(error) if error.kind() == ErrorKind::NotFound => machine.new_file(path)?,
                Err(error) => return Err(error),
            };
            let content = machine.content(inode);
            content.bytes = half(bytes, share).to_vec();
            content.modified = now;
            Ok(())
        })
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let machine = self.machine();
        if machine.is_down {
            return Err(down());
        }
        Ok(Box::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            inode: machine.file(path)?,
            life: machine.life,
        }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.machine().effect("sync", path, |machine, share| {
            if share == Share::All {
                machine.sync_file(path)?;
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.machine()
            .effect("sync folder", path, |machine, share| {
                if share == Share::All {
                    machine.sync_dir(path)?;
                }
                Ok(())
            })
    }

    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        self.machine().effect("sync tree", root, |machine, share| {
            let count = files.len() + folders.len();
            let done = if share == Share::All {
                count
            } else {
                count / 2
            };
            for (index, path) in files.iter().chain(folders).take(done).enumerate() {
                if index < files.len() {
                    machine.sync_file(path)?;
                } else {
                    machine.sync_dir(path)?;
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.machine().effect("rename", to, |machine, share| {
            machine.file(from)?;
            // A rename is done or not, also when the power fails.
            if share == Share::All {
                machine.change(Change::Rename(from.to_owned(), to.to_owned()));
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        if !machine.is_down && !machine.tree.contains_key(path) {
            return Ok(());
        }
        machine.effect("remove", path, |machine, share| {
            if share == Share::All {
                machine.change(Change::Remove(path.to_owned()));
            }
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        if !machine.is_down && !machine.tree.contains_key(path) {
            return Ok(());
        }
        machine.effect("remove folder", path, |machine, share| {
            if share == Share::All {
                machine.change(Change::Remove(path.to_owned()));
                return Ok(());
            }
            let inside: Vec<PathBuf> = machine
                .tree
                .keys()
                .filter(|other| other.starts_with(path) && *other != path)
                .cloned()
                .collect();
            for other in inside.iter().rev().take(inside.len() / 2) {
                machine.change(Change::Remove(other.clone()));
            }
            Ok(())
        })
    }

    fn guard(&self, path: &Path, _patience: Duration) -> io::Result<Box<dyn Guard>> {
        let mut machine = self.machine();
        if machine.is_down {
            return Err(down());
        }
        if machine.tree.get(parent_of(path)) != Some(&Node::Folder) {
            return Err(not_found(path));
        }
        // Nobody can let go of it while this thread waits, so there is no use in waiting.
        if !machine.guards.insert(path.to_owned()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimGuard {
            disk: self.clone(),
            path: path.to_owned(),
            life: machine.life,
        }))
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: Inode,
    life: u64,
}

impl SimFile {
    fn effect(
        &self,
        name: &str,
        work: impl FnOnce(&mut Content, Share) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut machine = self.disk.machine();
        if machine.life != self.life {
            return Err(down());
        }
        let now = self.disk.clock.now();
        machine.effect(name, &self.path, |machine, share| {
            let content = machine.content(self.inode);
            content.modified = now;
            work(content, share)
        })
    }
}

impl AppendFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.effect("append", |content, share| {
            content.bytes.extend_from_slice(half(bytes, share));
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.effect("sync", |content, share| {
            if share == Share::All {
                content.durable = content.bytes.clone();
            }
            Ok(())
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.effect("truncate", |content, share| {
            if share == Share::All {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                content.bytes.truncate(length);
            }
            Ok(())
        })
    }
}

struct SimGuard {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Guard for SimGuard {}

impl Drop for SimGuard {
    fn drop(&mut self) {
        let mut machine = self.disk.machine();
        if machine.life == self.life {
            machine.guards.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::clock::SystemClock;

    fn disk() -> SimDisk {
        SimDisk::new(Arc::new(SystemClock))
    }

    #[test]
    fn only_what_was_synced_outlives_a_power_failure() {
        let disk = disk();
        let path = Path::new("a/b");
        disk.create_dir_all(Path::new("a")).unwrap();
        disk.write(path, b"one").unwrap();
        disk.sync_file(path).unwrap();
        disk.reboot(Loss::Everything);
        assert!(!disk.exists(path).unwrap(), "its name was not synced");

        disk.create_dir_all(Path::new("a")).unwrap();
        disk.write(path, b"one").unwrap();
        disk.sync_file(path).unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        disk.reboot(Loss::Everything);
        assert!(!disk.exists(path).unwrap(), "that of its folder was not");

        disk.create_dir_all(Path::new("a")).unwrap();
        disk.write(path, b"one").unwrap();
        disk.sync_file(path).unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.open_append(path).unwrap().append(b"two").unwrap();
        disk.reboot(Loss::Everything);
        assert_eq!(disk.read(path).unwrap(), b"one");
    }

    #[test]
    fn faults_strike_where_they_were_asked_to() {
        let disk = disk();
        disk.strike(2, Fault::Short(ErrorKind::StorageFull));
        disk.write(Path::new("a"), b"1234").unwrap();
        let error = disk.write(Path::new("b"), b"1234").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(disk.read(Path::new("b")).unwrap(), b"12");
        disk.strike(1, Fault::CrashAfter);
        assert!(disk.write(Path::new("b"), b"1234").is_err());
        assert!(disk.is_down() && disk.read(Path::new("b")).is_err());
        disk.reboot(Loss::Nothing);
        assert_eq!(disk.read(Path::new("b")).unwrap(), b"1234");
        assert_eq!(disk.trace(), ["write a", "write b", "write b"]);
    }
}
