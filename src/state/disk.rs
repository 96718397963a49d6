//! The disk seam: every durable effect of the file store goes through [`Disk`], in an order that does not depend on chance.
//!
//! The real disk is [`RealDisk`]; tests put [`super::sim_disk::SimDisk`] in its place, which loses what was not synced.
//! Operations are synchronous; [`on_disk`] moves a sequence of them off the async threads.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::StateError;

/// An open file that only grows at its end, or is cut.
pub trait AppendFile: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the operating system says; a part may have been written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// What the operating system says; what is durable is unknown then.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// Keeps other processes out while it lives; see [`Disk::guard`].
pub trait Guard: Send {}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Whether it is a folder.
    pub is_folder: bool,
}

impl Entry {
    /// The name, where it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.name.to_str()
    }
}

/// What the file store asks of a file system.
pub trait Disk: Send + Sync {
    /// Whether operations block the thread, so that async code must move them elsewhere.
    fn is_blocking(&self) -> bool;

    /// Reads a whole file.
    ///
    /// # Errors
    /// `NotFound` when there is none, and whatever else the operating system says; so for all that follow.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether a file or folder is there.
    ///
    /// # Errors
    /// When that cannot be told.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The entries of a folder, sorted by name; none when there is no such folder.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// When a file was last written.
    ///
    /// # Errors
    /// `NotFound` and others.
    fn modified(&self, path: &Path) -> io::Result<Timestamp>;

    /// Makes a folder and its parents.
    ///
    /// # Errors
    /// When that is not possible.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes a file with all of `bytes`, or no file at all; durable in content, not yet in name.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one.
    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Writes a file, making or emptying it first. Neither atomic nor durable.
    ///
    /// # Errors
    /// When that is not possible; a part may have been written then.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Opens a file for appending.
    ///
    /// # Errors
    /// `NotFound` when there is none: a journal that vanished must not come back without its header.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// When it cannot be synced.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When it cannot be synced.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes `files` and the names in `folders`, all below `root`, durable: for many at once.
    ///
    /// # Errors
    /// When one cannot be synced.
    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()>;

    /// Renames a file, replacing the target.
    ///
    /// # Errors
    /// When that is not possible.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; a missing one is fine.
    ///
    /// # Errors
    /// For everything but a missing file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all in it; a missing one is fine.
    ///
    /// # Errors
    /// For everything but a missing folder.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Waits for the exclusive guard at `path` and holds it until the answer is dropped. For short sections only; the
    /// operating system gives it back when the process dies. The folder must be there.
    ///
    /// # Errors
    /// `WouldBlock` when another process keeps it for longer than `patience`.
    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>>;
}

/// Runs `work` on `disk`: on a thread for blocking work, or in place when the disk does not block, so that a simulation stays
/// on its one thread.
///
/// # Errors
/// What `work` answers, or [`StateError::Io`] when the runtime is going down.
pub async fn on_disk<T: Send + 'static>(
    disk: &Arc<dyn Disk>,
    work: impl FnOnce(&dyn Disk) -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    if !disk.is_blocking() {
        return work(disk.as_ref());
    }
    let disk = Arc::clone(disk);
    match tokio::task::spawn_blocking(move || work(disk.as_ref())).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StateError::Io {
            operation: "finish",
            place: "work on state files".to_owned(),
            source: io::Error::other(error),
        }),
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// From this many files on, one `syncfs` is cheaper than an fsync of each.
#[cfg(target_os = "linux")]
const SYNC_FILES_SINGLY: usize = 16;

/// How far apart a guard that another process holds is tried.
const GUARD_PAUSE: Duration = Duration::from_millis(2);

#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam between state and std::fs; errors get their paths in the file store"
)]
impl Disk for RealDisk {
    fn is_blocking(&self) -> bool {
        true
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        std::fs::exists(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let entries = match std::fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry?;
            out.push(Entry {
                name: entry.file_name(),
                is_folder: entry.file_type()?.is_dir(),
            });
        }
        out.sort();
        Ok(out)
    }

    fn modified(&self, path: &Path) -> io::Result<Timestamp> {
        Timestamp::try_from(std::fs::metadata(path)?.modified()?).map_err(io::Error::other)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = File::options().append(true).open(path)?;
        Ok(Box::new(file))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Windows has no such thing: names are durable with the file there.
        if cfg!(windows) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if files.len() + folders.len() > SYNC_FILES_SINGLY {
            return Ok(rustix::fs::syncfs(File::open(root)?)?);
        }
        #[cfg(not(target_os = "linux"))]
        let _unused_elsewhere = root;
        for file in files {
            self.sync_file(file)?;
        }
        for folder in folders {
            self.sync_dir(folder)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        ignore_missing(std::fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        ignore_missing(std::fs::remove_dir_all(path))
    }

    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>> {
        let begin = Instant::now();
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(FileGuard { _file: file })),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if begin.elapsed() < patience => {
                    std::thread::sleep(GUARD_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        "another process keeps it; is one stopped in the middle of a write?",
                    ));
                }
            }
        }
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl AppendFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// An open file whose lock goes with it.
struct FileGuard {
    _file: File,
}

impl Guard for FileGuard {}
