//! Files with the path and the operation in every error, and writes that are whole or not there at all.
//!
//! The rest of the program reads and writes files through here; `state` has its own seam over these for simulation.

#![expect(
    clippy::disallowed_methods,
    reason = "this module is the one door to std::fs"
)]

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

/// An I/O error that says what was done to which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct FsError {
    /// What was tried, as a verb: `read`, `write`, `rename` ..
    pub operation: &'static str,
    /// The path.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// Wraps an I/O error.
    #[must_use]
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The result of a file operation.
pub type FsResult<T> = Result<T, FsError>;

fn wrap<T>(operation: &'static str, path: &Path, result: io::Result<T>) -> FsResult<T> {
    result.map_err(|source| FsError::new(operation, path, source))
}

/// Reads a whole file.
///
/// # Errors
/// [`FsError`] when it cannot be opened or read.
pub fn read(path: &Path) -> FsResult<Vec<u8>> {
    wrap("read", path, fs::read(path))
}

/// Opens a file for reading, for what is too large to be read at once.
///
/// # Errors
/// [`FsError`] when it cannot be opened.
pub fn open(path: &Path) -> FsResult<fs::File> {
    wrap("open", path, fs::File::open(path))
}

/// Hands a file on in pieces of at most 64 KiB; answers its length in bytes.
///
/// # Errors
/// [`FsError`] with the path.
pub fn read_in_pieces(path: &Path, mut take: impl FnMut(&[u8])) -> FsResult<u64> {
    let mut file = open(path)?;
    let mut piece = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let length = match file.read(&mut piece) {
            Ok(0) => return Ok(size),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FsError::new("read", path, error)),
        };
        take(&piece[..length]);
        size += length as u64;
    }
}

/// Reads a whole UTF-8 file.
///
/// # Errors
/// [`FsError`] when it cannot be read or is not UTF-8 (`InvalidData`).
pub fn read_to_string(path: &Path) -> FsResult<String> {
    wrap("read", path, fs::read_to_string(path))
}

/// Reads a file if it is there.
///
/// # Errors
/// [`FsError`] for everything but a missing file.
pub fn read_if_present(path: &Path) -> FsResult<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a folder and its parents.
///
/// # Errors
/// [`FsError`] when that is not possible.
pub fn create_dir_all(path: &Path) -> FsResult<()> {
    wrap("create folder", path, fs::create_dir_all(path))
}

/// Writes a file so that readers see the old or the new content, never a part: temporary file, fsync, rename, fsync of
/// the folder.
///
/// # Errors
/// [`FsError`] with the step that failed; the old content is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> FsResult<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = wrap("write", path, tempfile::NamedTempFile::new_in(folder))?;
    wrap("write", path, file.write_all(bytes))?;
    wrap("sync", path, file.as_file().sync_all())?;
    wrap(
        "rename",
        path,
        file.persist(path).map_err(|error| error.error),
    )?;
    sync_dir(folder)
}

/// Like [`write_atomic`], with these permission bits whatever the umask.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_with_mode(path: &Path, bytes: &[u8], mode: u32) -> FsResult<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = wrap("write", path, tempfile::NamedTempFile::new_in(folder))?;
    wrap("write", path, file.write_all(bytes))?;
    let permissions = fs::Permissions::from_mode(mode);
    wrap(
        "set the permissions of",
        path,
        file.as_file().set_permissions(permissions),
    )?;
    wrap("sync", path, file.as_file().sync_all())?;
    wrap(
        "rename",
        path,
        file.persist(path).map_err(|error| error.error),
    )?;
    sync_dir(folder)
}

/// Like [`write_atomic`], readable by the owner only.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> FsResult<()> {
    // NamedTempFile makes files with mode 0600, and rename keeps it.
    write_atomic(path, bytes)
}

/// Makes a finished rename or creation in `folder` durable.
///
/// # Errors
/// [`FsError`] when the folder cannot be opened or synced.
pub fn sync_dir(folder: &Path) -> FsResult<()> {
    let handle = wrap("open", folder, fs::File::open(folder))?;
    wrap("sync", folder, handle.sync_all())
}

/// Moves a file or folder within one file system.
///
/// # Errors
/// [`FsError`] when that is not possible; a folder that is there and not empty is never replaced.
pub fn rename(from: &Path, to: &Path) -> FsResult<()> {
    wrap("move", from, fs::rename(from, to))
}

/// Removes a file; a missing one is fine.
///
/// # Errors
/// [`FsError`] for everything but a missing file.
pub fn remove_file(path: &Path) -> FsResult<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => wrap("remove", path, other),
    }
}

/// Removes a folder and all in it; a missing one is fine.
///
/// # Errors
/// [`FsError`] for everything but a missing folder.
pub fn remove_dir_all(path: &Path) -> FsResult<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => wrap("remove", path, other),
    }
}

/// The entries of a folder, sorted by name; a missing folder has none.
///
/// # Errors
/// [`FsError`] when it is there and cannot be read.
pub fn list(path: &Path) -> FsResult<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => wrap("list", path, other)?,
    };
    let mut out = Vec::new();
    for entry in entries {
        out.push(wrap("list", path, entry)?.path());
    }
    out.sort();
    Ok(out)
}

/// Length and time of change of a file, as a text that is another one after every ordinary change.
///
/// # Errors
/// [`FsError`] when it is not there.
pub fn stamp(path: &Path) -> FsResult<String> {
    let metadata = wrap("look at", path, fs::metadata(path))?;
    let changed = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_nanos());
    Ok(format!("{} {changed}", metadata.len()))
}
