//! What one server has for itself before it starts: the port, and the folder, which two runtimes cannot share because they
//! would not see each other's writes to one storage object.
//!
//! The lock file goes with the data when somebody removes that under a running server. So the project's folder is locked
//! too: a second server must not begin on new data while the first still runs on the old.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::start::RuntimeOptions;
use crate::{
    local::{CloudError, Port},
    util::fs::{self, FsError},
};

/// What a runtime starts on.
#[derive(Debug)]
pub struct Reserved {
    pub(super) listener: TcpListener,
    /// Where Workers will answer.
    pub(super) address: SocketAddr,
    pub(super) locks: Locks,
}

/// Held for as long as a runtime lives.
#[derive(Debug)]
pub(super) struct Locks {
    data: File,
    /// None where the file system cannot lock a folder.
    _project: Option<File>,
}

/// Takes folder and port.
///
/// # Errors
/// [`CloudError::Served`] when another process has the folder, [`CloudError::Listen`] when the port cannot be had.
pub fn reserve(options: &RuntimeOptions) -> Result<Reserved, CloudError> {
    let project = match &options.project {
        Some(project) => lock_project(project, &options.folder)?,
        None => None,
    };
    let data = lock(&options.folder)?;
    let port = options.port;
    let refused = |source| CloudError::Listen {
        port,
        whose: Port::Workers,
        source,
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Reserved {
        listener,
        address,
        locks: Locks {
            data,
            _project: project,
        },
    })
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("runtime").join("lock")
}

/// Takes the data folder for this process.
pub(in crate::local) fn lock(folder: &Path) -> Result<File, CloudError> {
    let path = lock_path(folder);
    fs::create_dir_all(&folder.join("runtime"))?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|source| FsError::new("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(served(folder)),
        Err(error) => Err(FsError::new("lock", &path, error.into()).into()),
    }
}

/// Takes the project's folder; none where its file system knows no locks of folders.
fn lock_project(project: &Path, folder: &Path) -> Result<Option<File>, CloudError> {
    let file = File::open(project).map_err(|source| FsError::new("open", project, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Err(served(folder)),
        Err(error) => {
            tracing::debug!("`{}` cannot be locked: {error}", project.display());
            Ok(None)
        }
    }
}

fn served(folder: &Path) -> CloudError {
    CloudError::Served {
        folder: folder.to_owned(),
    }
}

/// A file, told apart from another one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file of this name now; none when there is none, or it cannot be looked at.
    pub(super) fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|found| Self::of(&found))
    }

    fn of(found: &std::fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }

    /// Whether this is the lock file of the folder.
    pub(super) fn locks(self, folder: &Path) -> bool {
        Self::at(&lock_path(folder)) == Some(self)
    }
}

impl Locks {
    /// The lock file. Its number goes to no other file while it is held.
    pub(super) fn watched(&self) -> Result<Identity, CloudError> {
        let found = self.data.metadata();
        let found = found.map_err(|source| CloudError::Serve { source })?;
        Ok(Identity::of(&found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{local::runtime::packages::Places, util::npm::Shelf};

    fn options(project: &Path) -> RuntimeOptions {
        RuntimeOptions {
            folder: project.join(".alchemy/local"),
            project: Some(project.to_owned()),
            port: 0,
            places: Places {
                workerd: None,
                simulators: None,
                shelf: Shelf {
                    project: project.to_owned(),
                    cache: project.join("cache"),
                },
            },
        }
    }

    #[test]
    fn data_that_was_removed_frees_the_project_for_nobody() {
        let project = tempfile::tempdir().unwrap();
        let options = options(project.path());
        let first = reserve(&options).unwrap();
        let watched = first.locks.watched().unwrap();
        assert!(watched.locks(&options.folder));
        assert!(matches!(reserve(&options), Err(CloudError::Served { .. })));
        fs::remove_dir_all(&project.path().join(".alchemy")).unwrap();
        assert!(!watched.locks(&options.folder));
        assert!(matches!(reserve(&options), Err(CloudError::Served { .. })));
        drop(first);
        let second = reserve(&options).unwrap();
        assert!(second.locks.watched().unwrap().locks(&options.folder));
    }

    #[test]
    fn a_port_that_is_taken_is_that_of_the_workers() {
        let project = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let options = RuntimeOptions {
            port: taken.local_addr().unwrap().port(),
            ..options(project.path())
        };
        let refused = reserve(&options).unwrap_err();
        let CloudError::Listen { port, whose, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!((port, whose), (options.port, Port::Workers));
    }
}
