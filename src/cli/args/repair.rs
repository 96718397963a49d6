//! The arguments of commands that put another state in the place of a stage's, or clean up after crashes.

use std::path::PathBuf;

use clap::Args;

use super::{DEFAULT_SCRIPT, RunFlags, StageArgs};

/// What `alch state diff` calls the state as it is.
pub const NOW: &str = "now";

/// How a state is put in the place of another.
#[derive(Debug, Clone, Args)]
pub struct PutArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// Also when it comes from another project, or is older than what it replaces.
    #[arg(long)]
    pub force: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// `alch scope restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// Also when it comes from another project; a backup may always be older than what it replaces.
    #[arg(long)]
    pub force: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// A backup as `alch scope backups` lists it, or an exported file; the newest readable backup unless given.
    #[arg(long, value_name = "BACKUP")]
    pub backup: Option<String>,
}

/// `alch scope rebuild`.
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// The script, whose resources are looked for at the provider.
    #[arg(value_name = "FILE", default_value = DEFAULT_SCRIPT)]
    pub file: PathBuf,
    /// The application; needed when it cannot be told from the project's state.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Stage, profile, target and permissions, as for a run.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Use only the files of the stage and its backups; ask no provider.
    #[arg(long)]
    pub offline: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// `alch scope reset`.
#[derive(Debug, Clone, Args)]
pub struct ResetArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// `alch scope cleanup`.
#[derive(Debug, Clone, Args)]
pub struct CleanupArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// Every stage.
    #[arg(long, conflicts_with = "stage")]
    pub all: bool,
    /// Also what may still be of use: damaged files that were set aside, backups but the newest, histories beyond the
    /// last 50 deployments, stages without resources, and that a stage was removed, where it is named.
    #[arg(long)]
    pub force: bool,
}
