//! Single steps on the disk of a store, with what failed and where in their errors.

use std::{io, path::Path};

use serde::Serialize;

use super::{
    envelope::{Checksum, io_error, seal},
    layout::temporary,
};
use crate::state::{StateError, disk::Disk};

pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(super) fn sealed(
    path: &Path,
    record: &impl Serialize,
) -> Result<(Vec<u8>, Checksum), StateError> {
    seal(record).map_err(|error| io_error("serialise", path, io::Error::other(error)))
}

pub(super) fn create_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StateError> {
    disk.create_dir_all(folder)
        .map_err(|error| io_error("create folder", folder, error))
}

pub(super) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StateError> {
    disk.sync_dir(folder)
        .map_err(|error| io_error("sync", folder, error))
}

pub(super) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    disk.write(path, bytes)
        .map_err(|error| io_error("write", path, error))
}

pub(super) fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StateError> {
    disk.rename(from, to)
        .map_err(|error| io_error("rename", to, error))
}

/// Replaces a file so that after any crash the old or the new one is there, and the new one when this returns.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let temporary = temporary(path);
    write_file(disk, &temporary, bytes)?;
    disk.sync_file(&temporary)
        .map_err(|error| io_error("sync", &temporary, error))?;
    rename(disk, &temporary, path)?;
    sync_folder(disk, parent_of(path))
}
