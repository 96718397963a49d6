//! The face: the only code that prints, and the only one that touches the standard streams.
//!
//! Engine, script host and commands hand over [`crate::engine::Event`]s, diagnostics and finished texts; each format is a
//! fold over them. Nothing here decides anything about a run.

pub mod diff;
pub mod frame;
pub mod ndjson;
pub mod panics;
pub mod plain;
pub mod printer;
pub mod prompt;
pub mod run_log;
pub mod style;
pub mod summary;
pub mod table;

pub use diff::Detail;
pub use plain::Verbosity;
pub use printer::{Ending, Ui, UiOptions, Unwritten};
pub use run_log::LogPath;
