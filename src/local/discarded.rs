//! Data whose object is gone: what lies where, until it is removed.
//!
//! The row of an object goes in a transaction, its files cannot. So the same transaction notes them here, and whoever
//! comes next removes what a crash left: data that nothing names would otherwise stay for ever.
//!
//! Invariant: only paths that never come back are noted (they hold a random id), because another process may remove them
//! at any later time.

use std::path::{Component, Path};

use rusqlite::Connection;

use super::{control::ControlError, data};
use crate::util::fs;

/// The table.
pub(super) const MIGRATION: &str = "CREATE TABLE discarded(path TEXT PRIMARY KEY) STRICT;";

/// Notes, in the transaction that removes an object, that `path` is to go: a SQLite file, or a folder with all in it.
pub(super) fn note(
    transaction: &Connection,
    folder: &Path,
    path: &Path,
) -> Result<(), rusqlite::Error> {
    // A folder of data is made by the local cloud itself, from names that are plain.
    let relative = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
    transaction
        .prepare_cached("INSERT OR IGNORE INTO discarded(path) VALUES(?1)")?
        .execute([relative])
        .map(drop)
}

/// Removes all that is noted.
pub(super) fn sweep(connection: &Connection, folder: &Path) -> Result<(), ControlError> {
    let paths = connection
        .prepare_cached("SELECT path FROM discarded")?
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for path in paths {
        remove(folder, Path::new(&path))?;
        connection.execute("DELETE FROM discarded WHERE path = ?1", [path])?;
    }
    Ok(())
}

fn remove(folder: &Path, relative: &Path) -> fs::FsResult<()> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !relative.components().all(plain) {
        return Ok(());
    }
    let path = folder.join(relative);
    match relative.extension().is_some_and(|end| end == "sqlite") {
        true => data::remove(&path),
        false => fs::remove_dir_all(&path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::control::Control;

    #[test]
    fn what_a_crash_left_goes_when_the_cloud_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let control = || Control::new(at("control.sqlite"));
        let first = control();
        let noted = first.write::<_, ControlError>(|transaction| {
            note(transaction, folder.path(), &at("d1/a.sqlite"))?;
            note(transaction, folder.path(), &at("kv/b"))?;
            note(transaction, folder.path(), Path::new("../outside"))?;
            Ok(())
        });
        noted.unwrap();
        for file in [
            "d1/a.sqlite",
            "d1/a.sqlite-wal",
            "d1/c.sqlite",
            "kv/b/blobs/1",
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write_atomic(&at(file), b"data").unwrap();
        }
        drop(first);
        let left = control().run::<u32, ControlError>(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM discarded", [], |row| row.get(0))?)
        });
        assert_eq!(left.unwrap(), 0);
        for gone in ["d1/a.sqlite", "d1/a.sqlite-wal", "kv/b"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        assert!(at("d1/c.sqlite").exists());
    }
}
