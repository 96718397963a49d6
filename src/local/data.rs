//! The data plane on disk: SQLite files and the blobs beside them, as Miniflare lays them out.
//!
//! A connection is opened for one request and closed after it, so that nothing here outlives the deletion of a file by
//! another process, and a running workerd shares the files freely.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::control;
use crate::util::{
    fs::{self, FsError, FsResult},
    ids::{Ids as _, SystemIds},
};

/// Opens (and makes, when missing) a SQLite file.
pub(super) fn open(path: &Path) -> Result<Connection, control::ControlError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let connection = Connection::open(path)?;
    control::prepare(&connection)?;
    Ok(connection)
}

/// Removes a SQLite file with its log and its shared-memory file.
pub(super) fn remove(path: &Path) -> FsResult<()> {
    // The log first: a database without its log is whole, a log without its database would be replayed into a new one.
    for suffix in ["-wal", "-shm", ""] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        fs::remove_file(Path::new(&file))?;
    }
    Ok(())
}

/// The ids of the objects whose SQLite files lie in a folder; none where there is no such folder.
pub(super) fn object_ids(folder: &Path) -> FsResult<Vec<String>> {
    let id = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".sqlite")?;
        // Beside them lies a file of the runtime's own.
        let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| name.to_owned())
    };
    Ok(fs::list(folder)?.into_iter().filter_map(id).collect())
}

/// The blobs of one namespace or bucket: write-once files with random names.
pub(super) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// The blobs in the data folder of a namespace or bucket.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.join("blobs"),
        }
    }

    /// Stores `bytes` and answers the id to read them by.
    pub(super) fn put(&self, bytes: &[u8]) -> FsResult<String> {
        let mut id = [0_u8; 40];
        SystemIds.fill(&mut id);
        let id = hex::encode(id);
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(&id);
        // Nothing names the file before it is complete, so it needs neither a rename nor an fsync (see `prepare`).
        File::create_new(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| FsError::new("write", &path, source))?;
        Ok(id)
    }

    /// The bytes of a blob; none when it has been replaced or deleted since its id was read.
    pub(super) fn get(&self, id: &str) -> FsResult<Option<Vec<u8>>> {
        match self.path(id) {
            Some(path) => fs::read_if_present(&path),
            None => Ok(None),
        }
    }

    /// Removes a blob that no row names any more.
    pub(super) fn remove(&self, id: &str) -> FsResult<()> {
        self.path(id).map_or(Ok(()), |path| fs::remove_file(&path))
    }

    /// Ids come out of files that others write too: one that is not plain must not lead out of the folder.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| self.folder.join(id))
    }
}
