//! The arguments of `alch state push|pull|migrate-store`.

use clap::Args;

use super::StageArgs;

/// `alch state push`.
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// The other store: `s3://bucket/prefix?endpoint=URL`, `r2://bucket/prefix`, or `local`.
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Also when the other store has another history of the stage, or a newer one.
    #[arg(long)]
    pub force: bool,
}

/// `alch state pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// The stage.
    #[command(flatten)]
    pub stage: StageArgs,
    /// The other store: `s3://bucket/prefix?endpoint=URL`, `r2://bucket/prefix`, or `local`.
    #[arg(long, value_name = "STORE")]
    pub from: String,
    /// Also when the store in use has another history of the stage, or a newer one.
    #[arg(long)]
    pub force: bool,
}

/// `alch state migrate-store`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// The application; needed when the project has several.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Where state is to be: `s3://bucket/prefix?endpoint=URL`, `r2://bucket/prefix`, or `local`.
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// How long to wait for another run of a stage; before `$ALCHEMY_LOCK_TIMEOUT`.
    #[arg(long, value_name = "MILLISECONDS")]
    pub lock_timeout: Option<u64>,
    /// Also when the other store has another history of a stage, or a newer one.
    #[arg(long)]
    pub force: bool,
}
