//! The simulated machine: names and contents, what of both is durable, and the counting of effects that faults strike at.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::Fault;

pub(super) type Inode = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(Inode),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) modified: Timestamp,
}

/// A change of the names in a folder.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    /// From, to, and what was renamed: it may be durable under its new name though it never was under the old one.
    Rename(PathBuf, PathBuf, Node),
}

pub(super) type Tree = BTreeMap<PathBuf, Node>;

#[derive(Default, Clone)]
pub(super) struct Machine {
    pub(super) tree: Tree,
    pub(super) durable: Tree,
    /// Changes of each folder that are not durable, in order.
    pub(super) pending: BTreeMap<PathBuf, Vec<Change>>,
    pub(super) contents: BTreeMap<Inode, Content>,
    pub(super) next_inode: Inode,
    pub(super) guards: BTreeSet<PathBuf>,
    pub(super) effects: u64,
    pub(super) trace: Vec<String>,
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) is_down: bool,
    /// Counts reboots: open files of an earlier life are dead.
    pub(super) life: u64,
}

/// How much of an effect is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    All,
    Half,
}

pub(super) fn down() -> io::Error {
    io::Error::other("the simulated machine is down")
}

pub(super) fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        ErrorKind::NotFound,
        format!("no such file in the simulation: {}", path.display()),
    )
}

pub(super) fn apply(tree: &mut Tree, change: &Change) {
    match change {
        Change::Put(path, node) => {
            tree.insert(path.clone(), *node);
        }
        Change::Remove(path) => tree.retain(|other, _| !other.starts_with(path)),
        Change::Rename(from, to, node) => {
            tree.remove(from);
            tree.insert(to.clone(), *node);
        }
    }
}

pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Machine {
    /// Counts an effect and does it, or what the fault leaves of it.
    pub(super) fn effect(
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

    pub(super) fn change(&mut self, change: Change) {
        let folder = match &change {
            Change::Put(path, _) | Change::Remove(path) | Change::Rename(_, path, _) => {
                parent_of(path)
            }
        };
        apply(&mut self.tree, &change);
        self.pending
            .entry(folder.to_owned())
            .or_default()
            .push(change);
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.tree.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    pub(super) fn new_file(&mut self, path: &Path) -> io::Result<Inode> {
        let folder = parent_of(path);
        if !folder.as_os_str().is_empty() && self.tree.get(folder) != Some(&Node::Folder) {
            return Err(not_found(folder));
        }
        self.next_inode += 1;
        self.contents.insert(self.next_inode, Content::default());
        self.change(Change::Put(path.to_owned(), Node::File(self.next_inode)));
        Ok(self.next_inode)
    }

    pub(super) fn content(&mut self, inode: Inode) -> &mut Content {
        self.contents.entry(inode).or_default()
    }

    pub(super) fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.file(path)?;
        let content = self.content(inode);
        content.durable = content.bytes.clone();
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
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

/// As much of `bytes` as is to be written.
pub(super) fn half(bytes: &[u8], share: Share) -> &[u8] {
    match share {
        Share::All => bytes,
        Share::Half => &bytes[..bytes.len() / 2],
    }
}
