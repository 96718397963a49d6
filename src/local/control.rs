//! The control-plane database: which databases, buckets, queues, Workers .. exist, and their settings.
//!
//! One SQLite file for all processes on the folder. Writers run in an immediate transaction; conflicts of names are decided
//! by unique constraints. The data of D1, KV and R2 is not here (see `data`).

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior, config::DbConfig, params};

use super::{discarded, objects, seal};
use crate::util::fs::{self, FsError};

/// How long one process waits for another one's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The steps from an empty file to the present schema; `user_version` counts those done. Append only.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE migrations(version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT;
    CREATE TABLE secrets(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE account(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE d1_databases(
        uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
        jurisdiction TEXT, location TEXT, replication TEXT NOT NULL
    ) STRICT;
    CREATE TABLE kv_namespaces(
        id TEXT PRIMARY KEY, title TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE r2_buckets(
        jurisdiction TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
        location TEXT NOT NULL, storage_class TEXT NOT NULL, public INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY(jurisdiction, name)
    ) STRICT;
    CREATE TABLE r2_settings(
        bucket TEXT NOT NULL REFERENCES r2_buckets(id) ON DELETE CASCADE, kind TEXT NOT NULL,
        body TEXT NOT NULL, PRIMARY KEY(bucket, kind)
    ) STRICT;
    CREATE TABLE queues(
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
        modified_at TEXT NOT NULL, settings TEXT NOT NULL
    ) STRICT;
    CREATE TABLE queue_consumers(
        id TEXT PRIMARY KEY, queue TEXT NOT NULL UNIQUE REFERENCES queues(id) ON DELETE CASCADE,
        type TEXT NOT NULL, script TEXT, environment TEXT, dead_letter_queue TEXT,
        settings TEXT NOT NULL, created_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE queue_messages(
        id TEXT PRIMARY KEY, queue TEXT NOT NULL REFERENCES queues(id) ON DELETE CASCADE,
        body TEXT NOT NULL, content_type TEXT NOT NULL, created INTEGER NOT NULL,
        visible INTEGER NOT NULL, expires INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, lease TEXT UNIQUE
    ) STRICT;
    CREATE INDEX queue_messages_visible ON queue_messages(queue, visible);
    CREATE TABLE scripts(
        name TEXT PRIMARY KEY, tag TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
        modified_at TEXT NOT NULL, settings TEXT NOT NULL, schedules TEXT NOT NULL DEFAULT '[]',
        subdomain INTEGER NOT NULL DEFAULT 0, previews INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE versions(
        id TEXT PRIMARY KEY, script TEXT NOT NULL REFERENCES scripts(name) ON DELETE CASCADE,
        number INTEGER NOT NULL, created_at TEXT NOT NULL, source TEXT NOT NULL, etag TEXT NOT NULL,
        entry TEXT NOT NULL, format TEXT NOT NULL, bindings TEXT NOT NULL, settings TEXT NOT NULL,
        annotations TEXT NOT NULL, UNIQUE(script, number)
    ) STRICT;
    CREATE TABLE version_modules(
        version TEXT NOT NULL REFERENCES versions(id) ON DELETE CASCADE, position INTEGER NOT NULL,
        name TEXT NOT NULL, content_type TEXT NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY(version, position)
    ) STRICT;
    CREATE INDEX version_modules_hash ON version_modules(hash);
    CREATE TABLE deployments(
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        script TEXT NOT NULL REFERENCES scripts(name) ON DELETE CASCADE,
        created_at TEXT NOT NULL, source TEXT NOT NULL, versions TEXT NOT NULL, annotations TEXT NOT NULL
    ) STRICT;
    CREATE INDEX deployments_script ON deployments(script, number);
", "
    CREATE TABLE asset_files(hash TEXT PRIMARY KEY, content_type TEXT) STRICT;
    CREATE TABLE asset_sessions(
        id TEXT PRIMARY KEY, script TEXT NOT NULL, manifest TEXT NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE asset_manifests(hash TEXT PRIMARY KEY, manifest TEXT NOT NULL) STRICT;
    CREATE TABLE version_assets(
        version TEXT PRIMARY KEY REFERENCES versions(id) ON DELETE CASCADE,
        files TEXT NOT NULL REFERENCES asset_manifests(hash), config TEXT NOT NULL
    ) STRICT;
", objects::MIGRATION, "
    ALTER TABLE scripts ADD COLUMN migration_tag TEXT;
    CREATE TABLE durable_object_namespaces(
        id TEXT PRIMARY KEY, script TEXT NOT NULL REFERENCES scripts(name) ON DELETE CASCADE,
        class TEXT NOT NULL, sqlite INTEGER NOT NULL, created_at TEXT NOT NULL, UNIQUE(script, class)
    ) STRICT;
", "
    CREATE TABLE workflows(
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, modified_at TEXT NOT NULL,
        script TEXT NOT NULL, class TEXT NOT NULL
    ) STRICT;
    CREATE TABLE workflow_versions(
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        workflow TEXT NOT NULL REFERENCES workflows(id) ON DELETE CASCADE,
        class TEXT NOT NULL, limits TEXT NOT NULL, created_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX workflow_versions_workflow ON workflow_versions(workflow, number);
", discarded::MIGRATION];

/// Why the control database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The folder cannot be made.
    #[error(transparent)]
    File(#[from] FsError),
    /// The file was written by a newer program.
    #[error(
        "`{}` was written by a newer version of alch (schema {found}, this program knows {known}); use that version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema version found.
        found: u32,
        /// The newest schema version this program knows.
        known: u32,
    },
    /// A stored secret cannot be decrypted.
    #[error(
        "a secret of the Worker `{script}` cannot be decrypted; deploy the Worker again with its secrets"
    )]
    Sealed {
        /// The Worker.
        script: String,
    },
    /// What is stored makes no sense.
    #[error("the local cloud's database cannot be used: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
    /// SQLite failed.
    #[error("the local cloud's database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The control database, opened at its first use.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    in_memory: bool,
    connection: Mutex<Option<Connection>>,
}

impl Control {
    /// Names the file; does not open it.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            in_memory: false,
            connection: Mutex::new(None),
        }
    }

    /// A database that is in no file, and empty.
    pub(super) fn in_memory() -> Self {
        Self {
            in_memory: true,
            ..Self::new(PathBuf::new())
        }
    }

    /// Whether the file was made.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Runs `work` outside a transaction: for single statements.
    pub(super) fn run<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic in `work` leaves at worst an open transaction behind, which the drop of `Transaction` has rolled back.
        let mut guard = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *guard {
            Some(connection) => connection,
            empty => empty.insert(self.connect()?),
        };
        work(connection)
    }

    /// Runs `work` in a transaction that excludes every other writer, and commits when it succeeds.
    pub(super) fn write<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(|connection| {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
                    .map_err(ControlError::from)?;
            let value = work(&transaction)?;
            transaction.commit().map_err(ControlError::from)?;
            Ok(value)
        })
    }

    /// The folder of the local cloud.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Removes the files of the objects that are gone.
    pub(super) fn sweep(&self) -> Result<(), ControlError> {
        self.run(|connection| discarded::sweep(connection, self.folder()))
    }

    fn connect(&self) -> Result<Connection, ControlError> {
        if self.in_memory {
            let connection = Connection::open_in_memory()?;
            connection.pragma_update(None, "foreign_keys", true)?;
            self.migrate(&connection)?;
            return Ok(connection);
        }
        fs::create_dir_all(self.folder())?;
        let connection = Connection::open(&self.path)?;
        if version(&connection)? == 0 {
            make_private(&self.path)?;
        }
        prepare(&connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        self.migrate(&connection)?;
        discarded::sweep(&connection, self.folder())?;
        Ok(connection)
    }

    fn migrate(&self, connection: &Connection) -> Result<(), ControlError> {
        let known = u32::try_from(MIGRATIONS.len()).expect("there are few migrations");
        if version(connection)? == known {
            return Ok(());
        }
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        // Read again: another process may have migrated while this one waited for the lock.
        let found = version(&transaction)?;
        if found > known {
            return Err(ControlError::Newer {
                path: self.path.clone(),
                found,
                known,
            });
        }
        for (number, sql) in (1_u32..).zip(MIGRATIONS) {
            if number <= found {
                continue;
            }
            transaction.execute_batch(sql)?;
            transaction.execute(
                "INSERT INTO migrations(version, applied_at) VALUES(?1, ?2)",
                params![number, jiff::Timestamp::now().to_string()],
            )?;
        }
        transaction.execute(
            "INSERT OR IGNORE INTO secrets(name, value) VALUES('key', ?1)",
            [seal::new_key()],
        )?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Takes the file from everybody but its owner: it holds the key of the Workers' secrets. SQLite gives its log the same
/// rights. By path and not through a handle, because closing a handle would drop this process's locks on the file.
fn make_private(path: &Path) -> Result<(), FsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|source| FsError::new("restrict", path, source))?;
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The key that seals Worker secrets.
pub(super) fn seal_key(connection: &Connection) -> Result<[u8; seal::KEY_BYTES], ControlError> {
    Ok(
        connection.query_row("SELECT value FROM secrets WHERE name = 'key'", [], |row| {
            row.get(0)
        })?,
    )
}

/// Sets what every connection of the local cloud has in common: waiting for other processes, and write-ahead logging.
pub(super) fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Making a file a write-ahead one would cost fsyncs, at every new database.
    connection.pragma_update(None, "synchronous", "OFF")?;
    // SQLite does not wait for a busy file when it changes the journal mode, so the first openers of a new file race.
    let mut attempts = 0;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
            row.get::<_, String>(0)
        });
        match mode {
            Err(error) if is_busy(&error) && attempts < 500 => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // Enough for a crash of the program, which is what the local cloud must survive; no fsync at every commit.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // A connection lives for one request: folding the log back at each close would cost two fsyncs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Whether another connection held the lock for too long.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

/// Whether a unique or primary key constraint refused the statement: the name is taken.
pub(super) fn is_conflict(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error(),
        Some(failure) if matches!(
            failure.extended_code,
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_made_once_and_newer_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/control.sqlite");
        let key = |control: &Control| control.run(seal_key);
        let first = key(&Control::new(path.clone())).unwrap();
        assert_eq!(key(&Control::new(path.clone())).unwrap(), first);
        let connection = Connection::open(&path).unwrap();
        let migrations: u32 = connection
            .query_row("SELECT count(*) FROM migrations", [], |row| row.get(0))
            .unwrap();
        assert_eq!(migrations, version(&connection).unwrap());
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            key(&Control::new(path)),
            Err(ControlError::Newer { found: 99, .. })
        ));
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::new(folder.path().join("control.sqlite"));
        let failed: Result<(), ControlError> = control.write(|transaction| {
            transaction.execute("INSERT INTO account(name, value) VALUES('a', 'b')", [])?;
            transaction.execute("INSERT INTO missing VALUES(1)", [])?;
            Ok(())
        });
        assert!(failed.is_err());
        let rows = control.run::<i64, ControlError>(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?)
        });
        assert_eq!(rows.unwrap(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sqlite");
        Control::new(path.clone()).run(seal_key).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
