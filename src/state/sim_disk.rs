//! A disk in memory with crash points, for tests.
//!
//! It tells apart what was written from what would survive a power failure: the content of a file is durable from its sync on,
//! names from the sync of their folder on. Every change and every sync is a numbered *effect*; a [`Fault`] strikes at one of
//! them. After a crash the disk answers nothing but errors until [`SimDisk::reboot`], which decides by [`Loss`] what is left.
//! This file is the disk as the store sees it; what it is made of is in `machine`, what a crash takes away in `loss`.

mod loss;
mod machine;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

pub use self::loss::Loss;
use self::machine::{
    Change, Content, Inode, Machine, Node, Share, down, half, not_found, parent_of,
};
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

/// A disk in memory; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    clock: Arc<dyn Clock>,
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

    /// Another disk that holds the same, and goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            machine: Arc::new(Mutex::new(self.machine().clone())),
            clock: Arc::clone(&self.clock),
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

    /// How many changes of names and contents are not synced: what [`Loss::Subset`] chooses from.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.machine().unsynced()
    }

    /// Ends every open file and guard, takes away what `loss` says, and goes on without a fault.
    pub fn reboot(&self, loss: Loss) {
        self.machine().reboot(loss);
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
            let node = Node::File(machine.file(from)?);
            // A rename is done or not, also when the power fails.
            if share == Share::All {
                machine.change(Change::Rename(from.to_owned(), to.to_owned(), node));
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
mod tests;
