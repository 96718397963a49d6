//! The port at which the Workers of a local cloud are reached, a small file in its folder: addresses in outputs name it, also
//! while nobody serves.

use std::path::{Path, PathBuf};

use crate::util::fs::{self, FsResult};

/// The port of a local cloud that was never served at another one.
pub const DEFAULT_WORKERS_PORT: u16 = 8787;

fn path(folder: &Path) -> PathBuf {
    folder.join("workers-port")
}

/// The port at which the local cloud in `folder` is served, or was last.
///
/// # Errors
/// [`crate::util::fs::FsError`] when the file cannot be read.
pub fn workers_port(folder: &Path) -> FsResult<u16> {
    let bytes = fs::read_if_present(&path(folder))?.unwrap_or_default();
    let port = String::from_utf8_lossy(&bytes).trim().parse().ok();
    Ok(port
        .filter(|port| *port != 0)
        .unwrap_or(DEFAULT_WORKERS_PORT))
}

/// Notes the port at which the local cloud in `folder` is served now.
///
/// # Errors
/// [`crate::util::fs::FsError`] when the file cannot be written.
pub fn note_workers_port(folder: &Path, port: u16) -> FsResult<()> {
    if workers_port(folder)? == port {
        return Ok(());
    }
    fs::write_atomic(&path(folder), port.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_port_is_kept_and_what_is_none_is_the_usual_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(workers_port(folder.path()).unwrap(), DEFAULT_WORKERS_PORT);
        note_workers_port(folder.path(), 9000).unwrap();
        assert_eq!(workers_port(folder.path()).unwrap(), 9000);
        for torn in ["", "0", "99999", "x"] {
            fs::write_atomic(&path(folder.path()), torn.as_bytes()).unwrap();
            assert_eq!(workers_port(folder.path()).unwrap(), DEFAULT_WORKERS_PORT);
        }
    }
}
