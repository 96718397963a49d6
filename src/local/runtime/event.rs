//! What the runtime tells its user: what runs, what does not, and why.

use std::path::PathBuf;

use crate::util::npm::PackageError;
use crate::{local::control::ControlError, util::fs::FsError};

/// What the runtime has to say.
#[derive(Debug)]
pub enum Event {
    /// These Workers answer now.
    Running(Vec<Running>),
    /// This Worker cannot run.
    Broken {
        /// The Worker.
        worker: String,
        /// What `workerd` said.
        reason: String,
    },
    /// Something that takes time, or is different from Cloudflare.
    Notice(String),
    /// A Worker or `workerd` printed something.
    Printed {
        /// `log`, `warn`, `error` ..
        level: String,
        /// The text.
        message: String,
    },
    /// Nothing runs, and why; it is tried again when something changes or after a while.
    Failed(RuntimeError),
}

/// Why Workers cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The packages are missing.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// What is deployed cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FsError),
    /// The binary cannot be started.
    #[error("`{}` cannot be started: {reason}", path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The process ended by itself.
    #[error("workerd ended unexpectedly ({how})")]
    Ended {
        /// Its exit status or signal.
        how: String,
    },
}

/// A Worker that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Where it answers.
    pub url: String,
}
