//! The file store: state under the `.alchemy` folder, as DESIGN section 6 draws it.
//!
//! A stage is a checkpoint (stage record and one file a resource) and a journal of what happened since. What is durable is
//! decided in `writer` and `checkpoint`, what is believed when reading in `recover`, who may write in `lock`.

mod backup;
mod checkpoint;
mod cleanup;
pub(super) mod envelope;
mod files;
mod journal;
mod layout;
mod lock;
mod process;
mod recover;
mod removal;
mod repair;
mod session;
mod store;
mod validate;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod repair_tests;

pub use lock::DEFAULT_TTL;
pub use process::{Process, Processes, SystemProcesses};
pub use store::FileStore;

/// Where the log of a deployment lies under the folder of a store.
#[must_use]
pub fn log_path(
    root: &std::path::Path,
    stage: &crate::model::StagePath,
    deployment: &str,
) -> std::path::PathBuf {
    layout::StageLayout::new(root, stage).log(deployment)
}
