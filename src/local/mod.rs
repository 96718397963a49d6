//! The embedded local cloud: Cloudflare's REST API over SQLite files, inside this program.
//!
//! [`router`] is the API as a tower service: `alch` calls it in process, [`serve()`] offers it on loopback. Control state
//! (what exists) is one SQLite file; data (D1, KV, R2) is laid out as Miniflare lays it out, so that a running Worker and
//! the API see the same bytes. Only `util` is used from the rest of the crate; nothing here knows of scripts, plans or
//! providers.
//!
//! Invariants: a name conflict is decided by a unique constraint, never by looking first, because several processes share
//! one folder; a request either takes effect as a whole or not at all; no input makes it panic.

pub mod api;
pub mod layout;
pub mod logs;
pub mod runtime;

mod account;
mod control;
mod data;
mod discarded;
mod guard;
mod objects;
mod seal;
mod serve;
#[cfg(test)]
mod testing;
mod workers_port;
mod zone;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

pub use self::{
    account::{DEFAULT_ACCOUNT, account, is_account, set_account},
    api::{RouterOptions, SETTLED, router},
    control::ControlError,
    serve::{ServeOptions, Server, serve},
    workers_port::{DEFAULT_WORKERS_PORT, note_workers_port, workers_port},
    zone::ensure_zone,
};
use crate::util::fs::FsError;

/// Why the local cloud cannot be opened or served.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The path of the data folder is something else.
    #[error("the local cloud's data folder `{}` is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The loopback port cannot be had.
    #[error("the port {port} for the {whose} cannot be had")]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// What it was asked for.
        whose: Port,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process runs the Workers of the folder.
    #[error("another `alch local serve` runs the Workers of `{}`", folder.display())]
    Served {
        /// The data folder.
        folder: PathBuf,
    },
    /// The server stopped with an error.
    #[error("the local cloud's server stopped")]
    Serve {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FsError),
    /// The control database cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Requests to Workers.
    Workers,
    /// Requests of Cloudflare clients.
    Api,
}

impl std::fmt::Display for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Workers => "Workers",
            Self::Api => "API",
        })
    }
}

/// The local cloud of one folder. Cheap to make: nothing is opened before the first request.
#[derive(Debug)]
pub struct Cloud {
    folder: PathBuf,
    account: String,
    control: control::Control,
    /// Bounds the requests in work, and with them memory: each may hold a body.
    permits: tokio::sync::Semaphore,
    tails: api::Tails,
}

/// The schedules of a Worker of the local cloud in `folder`; none where there is no such Worker.
///
/// # Errors
/// [`ControlError`] when the control database cannot be read.
pub fn crons(folder: &Path, worker: &str) -> Result<Vec<String>, ControlError> {
    let control = control::Control::new(folder.join("control.sqlite"));
    if !folder.join("control.sqlite").exists() {
        return Ok(Vec::new());
    }
    let all = control.run(api::schedules)?;
    let own = all.into_iter().filter(|(name, _)| name == worker);
    Ok(own.map(|(_, cron)| cron).collect())
}

/// How many requests are in work at once; more wait.
const REQUESTS_AT_ONCE: usize = 64;

impl Cloud {
    /// Names the folder that holds (or will hold) the data. Nothing is made, and nothing read but the id
    /// of the account.
    ///
    /// # Errors
    /// [`CloudError::NotAFolder`] when the path exists and is no folder, [`CloudError::File`] when it cannot be read.
    pub fn open(folder: &Path) -> Result<Arc<Self>, CloudError> {
        if folder.exists() && !folder.is_dir() {
            return Err(CloudError::NotAFolder {
                path: folder.to_owned(),
            });
        }
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            account: account(folder)?,
            control: control::Control::new(folder.join("control.sqlite")),
            permits: tokio::sync::Semaphore::new(REQUESTS_AT_ONCE),
            tails: api::Tails::default(),
        }))
    }

    /// Whether anything was ever made in it.
    fn has_data(&self) -> bool {
        self.control.is_there()
    }

    /// An empty cloud of the same account that is gone with the process.
    fn in_memory(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            account: self.account.clone(),
            control: control::Control::in_memory(),
            permits: tokio::sync::Semaphore::new(REQUESTS_AT_ONCE),
            tails: api::Tails::default(),
        }
    }

    /// The folder that holds the data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of its one account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The bindings of a Worker's newest version with their secrets, for the runtime; none when there is no such Worker.
    ///
    /// # Errors
    /// [`ControlError`] when the control database cannot be read.
    pub fn worker_bindings(&self, name: &str) -> Result<Option<Vec<Value>>, ControlError> {
        self.control.run(|connection| {
            let Some(version) = api::latest_version(connection, name)? else {
                return Ok(None);
            };
            let key = control::seal_key(connection)?;
            let bindings = version
                .bindings
                .iter()
                .map(|binding| api::revealed(&key, binding))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| ControlError::Sealed {
                    script: name.to_owned(),
                })?;
            Ok(Some(bindings))
        })
    }
}
