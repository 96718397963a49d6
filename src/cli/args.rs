//! The command line as it is typed. Parsing touches nothing; the doc comments are the help texts, and the examples below
//! them stand in `help`.

mod help;
mod repair;
mod transfer;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use transfer::{MigrateArgs, PullArgs, PushArgs};

use crate::cli::{exit, settings::Target};

pub use repair::{CleanupArgs, NOW, PutArgs, RebuildArgs, ResetArgs, RestoreArgs};

/// The script that is run when none is named.
pub const DEFAULT_SCRIPT: &str = "alchemy.run.rhai";

/// Infrastructure as an ordinary script.
#[derive(Debug, Parser)]
#[command(name = "alch", version, after_help = help::EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct Globals {
    /// Print NDJSON events on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Write NDJSON events into a file, besides the text.
    #[arg(long, global = true, value_name = "FILE")]
    pub json_into: Option<PathBuf>,
    /// Say only results and problems.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also name what does not change.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a script: create, update and delete until the stage is what it says.
    #[command(visible_alias = "deploy", after_help = help::RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Show what a run would do, and change nothing.
    #[command(after_help = help::PLAN_EXAMPLES)]
    Plan(Box<PlanArgs>),
    /// Delete everything of a stage, from state alone.
    #[command(after_help = help::DESTROY_EXAMPLES)]
    Destroy(Box<DestroyArgs>),
    /// Compare what state knows with what the providers have, and bring it back with --repair.
    #[command(after_help = help::DRIFT_HELP)]
    Drift(Box<DriftArgs>),
    /// Take an object that is there into state, and print the script lines for it.
    #[command(after_help = help::IMPORT_HELP)]
    Import(Box<ImportArgs>),
    /// Draft a script of what the account holds and no state knows.
    #[command(after_help = help::SCAN_HELP)]
    Scan(Box<ScanArgs>),
    /// Run a script with the outputs that state knows, and change nothing.
    #[command(after_help = help::READ_EXAMPLES)]
    Read(Box<ReadArgs>),
    /// List the stages that have state.
    #[command(after_help = help::STAGES_EXAMPLES)]
    Stages(StagesArgs),
    /// Look at and edit what state knows of single resources.
    #[command(subcommand)]
    State(StateCommand),
    /// Look at stages and scopes as a whole, and at their locks.
    #[command(subcommand)]
    Scope(ScopeCommand),
    /// Change what the secrets in state are encrypted with.
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Show what Workers printed and threw.
    #[command(after_help = help::LOGS_HELP)]
    Logs(LogsArgs),
    /// The embedded local cloud and the runtime of its Workers.
    #[command(subcommand)]
    Local(LocalCommand),
    /// Give a project the permissions that its alch.toml asks for, until that file changes.
    #[command(after_help = help::TRUST_HELP)]
    Trust(TrustArgs),
    /// Check a script without running it.
    #[command(after_help = help::CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Keep an API token of Cloudflare as a profile.
    #[command(after_help = help::LOGIN_HELP)]
    Login(LoginArgs),
    /// Remove the token of a profile.
    #[command(after_help = help::LOGOUT_EXAMPLES)]
    Logout(LogoutArgs),
    /// Show or change the settings of a profile.
    #[command(after_help = help::CONFIGURE_EXAMPLES)]
    Configure(ConfigureArgs),
    /// Look at profiles.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Explain an error id such as E0114 or a resource kind such as Worker, or list the ids.
    #[command(after_help = help::EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Print a completion script for a shell.
    #[command(after_help = help::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// List the exit codes.
    #[command(long_about = exit::table())]
    ExitCodes,
}

/// Where and as what a script runs.
#[derive(Debug, Clone, Default, Args)]
pub struct RunFlags {
    /// The stage; before the script's own, `$ALCHEMY_STAGE`, `$STAGE` and `dev`.
    #[arg(short, long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Where resources go; before the script's own, the profile's and `local`.
    #[arg(long, value_enum, value_name = "TARGET")]
    pub target: Option<Target>,
    /// Credentials and defaults from ~/.alchemy; before `$ALCHEMY_PROFILE`.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// A file of KEY=VALUE lines; variables of the process win over it.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// How long to wait for another run of the stage; before `$ALCHEMY_LOCK_TIMEOUT`.
    #[arg(long, value_name = "MILLISECONDS")]
    pub lock_timeout: Option<u64>,
    /// Let the script start programs: these, or any when none is named. A shell command needs `sh`.
    #[arg(
        long,
        value_name = "PROGRAM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        value_delimiter = ',',
        help_heading = "Permissions"
    )]
    pub allow_exec: Vec<String>,
    /// Let the script reach a host: `example.com`, `*.example.com`, `localhost:8080`, or `*` for any.
    #[arg(
        long,
        value_name = "HOST",
        value_delimiter = ',',
        help_heading = "Permissions"
    )]
    pub allow_net: Vec<String>,
    /// Let the script read below a path outside its folder.
    #[arg(
        long,
        value_name = "PATH",
        value_delimiter = ',',
        help_heading = "Permissions"
    )]
    pub allow_read: Vec<PathBuf>,
    /// Let the script write below a path outside its folder.
    #[arg(
        long,
        value_name = "PATH",
        value_delimiter = ',',
        help_heading = "Permissions"
    )]
    pub allow_write: Vec<PathBuf>,
    /// Give what the project's alch.toml asks for, this time; `alch trust` does so until it changes.
    #[arg(long, help_heading = "Permissions")]
    pub trust: bool,
}

/// The script and what it is given.
#[derive(Debug, Clone, Args)]
pub struct ScriptArgs {
    /// The script.
    #[arg(value_name = "FILE", default_value = DEFAULT_SCRIPT)]
    pub file: PathBuf,
    /// Arguments of the script, after `--`.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// What `--phase` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PhaseName {
    /// Create, update and delete.
    Up,
    /// Delete everything.
    Destroy,
    /// Change nothing.
    Read,
}

/// `alch run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The script.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
    /// What to do; before the script's own.
    #[arg(long, value_enum, value_name = "PHASE")]
    pub phase: Option<PhaseName>,
    /// Change nothing: the same as `--phase read`.
    #[arg(long, conflicts_with_all = ["phase", "destroy"])]
    pub read: bool,
    /// Delete everything: the same as `--phase destroy`.
    #[arg(long, conflicts_with = "phase")]
    pub destroy: bool,
    /// Take over objects that are there already.
    #[arg(long)]
    pub adopt: bool,
    /// Update resources even when nothing changed.
    #[arg(long)]
    pub force: bool,
    /// Look at what the providers have first: vanished objects are made again, changed ones updated.
    #[arg(long)]
    pub refresh: bool,
    /// Operations at once; before the script's own and 10.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
    /// Consent to replacements, deletions and removed Durable Object classes that lose data.
    #[arg(long)]
    pub allow_data_loss: bool,
    /// Do only what a saved plan says; whatever else the script asks for is refused (exit code 11).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["phase", "read", "destroy"])]
    pub plan: Option<PathBuf>,
}

/// `alch plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The script.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Save the plan for `alch run --plan`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with 2 when there are changes.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// One line a resource.
    #[arg(long, conflicts_with = "full")]
    pub brief: bool,
    /// Everything, unchanged resources and long values too.
    #[arg(long)]
    pub full: bool,
    /// Look for what state does not know, and plan to take over what is there already.
    #[arg(long)]
    pub adopt: bool,
    /// Plan updates even where nothing changed.
    #[arg(long)]
    pub force: bool,
    /// Look at what the providers have first: plan for vanished and changed objects, too.
    #[arg(long)]
    pub refresh: bool,
    /// Consent to replacements, deletions and removed Durable Object classes that lose data.
    #[arg(long)]
    pub allow_data_loss: bool,
}

/// `alch destroy`.
#[derive(Debug, Clone, Args)]
pub struct DestroyArgs {
    /// The application; needed when the project has several.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Delete adopted objects too.
    #[arg(long)]
    pub delete_adopted: bool,
    /// Operations at once; before the script's own and 10.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
}

/// `alch drift`.
#[derive(Debug, Clone, Args)]
pub struct DriftArgs {
    /// The application; needed when the project has several.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Make vanished objects again and update changed ones, so that all is as state says.
    #[arg(long)]
    pub repair: bool,
    /// Operations at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
}

/// `alch import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The kind: `KVNamespace`, `cloudflare::KVNamespace`, or a block such as `KV`.
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// The object: its id at the provider, or its name there.
    #[arg(value_name = "ID")]
    pub id: String,
    /// What to call the resource: `cache` or `storage/cache`; after the object when not given.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The application; needed when the project has none yet, or several.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `alch scan`.
#[derive(Debug, Clone, Args)]
pub struct ScanArgs {
    /// The application of the draft.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `alch login`.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// The profile; before `$ALCHEMY_PROFILE` and `default`.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Read the token from stdin.
    #[arg(long)]
    pub token_stdin: bool,
    /// The account, by id or name; needed when the token is for several.
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Another server of Cloudflare's API, such as `alch local serve`.
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
}

/// `alch logout`.
#[derive(Debug, Clone, Args)]
pub struct LogoutArgs {
    /// The profile; before `$ALCHEMY_PROFILE` and `default`.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
}

/// `alch configure`.
#[derive(Debug, Clone, Args)]
pub struct ConfigureArgs {
    /// The profile; before `$ALCHEMY_PROFILE` and `default`.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Where resources go when nothing else says so.
    #[arg(long, value_enum, value_name = "TARGET")]
    pub target: Option<Target>,
    /// The id of the account.
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
    /// Another server of Cloudflare's API; an empty one for Cloudflare's own.
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
}

/// `alch profile ..`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles, where they go, and which one is in use; never a secret.
    #[command(visible_alias = "ls")]
    List,
}

/// `alch read`.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// The script.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Where and as what.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `alch explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The id that stands in the brackets of `error[E0114]`, or a kind of resources.
    #[arg(value_name = "ID|KIND")]
    pub code: Option<String>,
}

/// `alch stages`.
#[derive(Debug, Clone, Args)]
pub struct StagesArgs {
    /// Only this application.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
}

/// Which stage a command looks at.
#[derive(Debug, Clone, Default, Args)]
pub struct StageArgs {
    /// The application; needed when the project has several.
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// The stage; before `$ALCHEMY_STAGE`, `$STAGE` and `dev`.
    #[arg(short, long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// How long to wait for another run of the stage; before `$ALCHEMY_LOCK_TIMEOUT`.
    #[arg(long, value_name = "MILLISECONDS")]
    pub lock_timeout: Option<u64>,
}

/// `alch state ..`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List resources: name, kind, physical name, status.
    #[command(visible_alias = "list", after_help = help::LS_EXAMPLES)]
    Ls {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// Only resources of this scope.
        #[arg(value_name = "SCOPE")]
        scope: Option<String>,
    },
    /// Show all that state knows of a resource; secrets are masked.
    #[command(after_help = help::SHOW_EXAMPLES)]
    Show {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The resource: `database/main-db` or the whole `app/stage/database/main-db`.
        #[arg(value_name = "RESOURCE")]
        resource: String,
    },
    /// Rename a resource or a scope in state; the object itself is not touched.
    #[command(after_help = help::MV_EXAMPLES)]
    Mv {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The resource or scope as it is called now.
        #[arg(value_name = "FROM")]
        from: String,
        /// What it will be called.
        #[arg(value_name = "TO")]
        to: String,
    },
    /// List the deployments of a stage: when, who, what, how it ended.
    #[command(after_help = help::HISTORY_EXAMPLES)]
    History {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// How many, newest first.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
        limit: usize,
    },
    /// Show what differs between two states: backups, exports, or the present.
    #[command(after_help = help::STATE_DIFF_HELP)]
    Diff {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// A backup, a file, or `now`; the newest backup unless given.
        #[arg(value_name = "FROM")]
        from: Option<String>,
        /// The same.
        #[arg(value_name = "TO", default_value = NOW)]
        to: String,
    },
    /// Write the state of a stage as one file; secrets stay encrypted.
    #[command(after_help = help::EXPORT_HELP)]
    Export {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// Where to; stdout unless given.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Put an exported state in the place of a stage's.
    #[command(after_help = help::STATE_IMPORT_HELP)]
    Import {
        /// How it goes about it.
        #[command(flatten)]
        put: PutArgs,
        /// The file that `alch state export` wrote.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Forget a resource; the object itself stays.
    #[command(after_help = help::RM_EXAMPLES)]
    Rm {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The resource.
        #[arg(value_name = "RESOURCE")]
        resource: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Copy a stage from the store in use to another one.
    #[command(after_help = help::PUSH_HELP)]
    Push(PushArgs),
    /// Copy a stage from another store to the one in use.
    #[command(after_help = help::PULL_HELP)]
    Pull(PullArgs),
    /// Move all stages of an application to another store, and use that from now on.
    #[command(after_help = help::MIGRATE_HELP)]
    MigrateStore(MigrateArgs),
}

/// `alch scope ..`.
#[derive(Debug, Subcommand)]
pub enum ScopeCommand {
    /// List scopes with the number of their resources.
    #[command(visible_alias = "ls", after_help = help::SCOPE_LIST_EXAMPLES)]
    List {
        /// Only this application.
        #[arg(long, value_name = "APP")]
        app: Option<String>,
    },
    /// Show the record of a stage: target, serial, key, last deployments, what a crashed run left.
    #[command(after_help = help::INSPECT_EXAMPLES)]
    Inspect {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
    },
    /// Print the records of a stage or scope as JSON; secrets are masked.
    #[command(after_help = help::SCOPE_STATE_EXAMPLES)]
    State {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The scope.
        #[arg(value_name = "SCOPE")]
        scope: Option<String>,
    },
    /// Check the state files of a stage, or of all of them.
    #[command(after_help = help::VALIDATE_EXAMPLES)]
    Validate {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// Check every stage.
        #[arg(long, conflicts_with = "stage")]
        all: bool,
    },
    /// List the locks.
    #[command(visible_alias = "list-locks", after_help = help::LOCKS_EXAMPLES)]
    Locks {
        /// Only this application.
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Only this stage.
        #[arg(short, long, value_name = "STAGE")]
        stage: Option<String>,
    },
    /// List the backups of a stage, newest first.
    #[command(after_help = help::BACKUPS_HELP)]
    Backups {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
    },
    /// Put a backup in the place of a stage's state, whole or damaged; objects are not touched.
    #[command(after_help = help::RESTORE_HELP)]
    Restore(RestoreArgs),
    /// Recreate the state of a stage from what is whole of it, its backups, and what the provider has.
    #[command(after_help = help::REBUILD_HELP)]
    Rebuild(RebuildArgs),
    /// Forget every resource of a stage; the objects stay, and so does a backup.
    #[command(after_help = help::RESET_HELP)]
    Reset(ResetArgs),
    /// Remove what crashes left behind: dead locks, unfinished files, records that nothing lists.
    #[command(after_help = help::CLEANUP_HELP)]
    Cleanup(CleanupArgs),
    /// Print the log of a deployment, the last one unless told otherwise.
    #[command(after_help = help::SCOPE_LOGS_HELP)]
    Logs {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The deployment, as `alch state history` lists it.
        #[arg(value_name = "DEPLOYMENT")]
        deployment: Option<String>,
    },
    /// Remove the lock of a stage.
    #[command(after_help = help::UNLOCK_EXAMPLES)]
    Unlock {
        /// The stage.
        #[command(flatten)]
        stage: StageArgs,
        /// The test of the stage, where it is the lock of one.
        #[arg(long, value_name = "ID")]
        test: Option<String>,
        /// Also when its holder is alive.
        #[arg(long)]
        force: bool,
    },
}

/// `alch secrets ..`.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Seal every secret of a stage, or of all stages, with a new password.
    #[command(after_help = help::ROTATE_HELP)]
    Rotate {
        /// Only this application.
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Only this stage; all of them when none is named.
        #[arg(short, long, value_name = "STAGE")]
        stage: Option<String>,
        /// How long to wait for another run of a stage; before `$ALCHEMY_LOCK_TIMEOUT`.
        #[arg(long, value_name = "MILLISECONDS")]
        lock_timeout: Option<u64>,
        /// A file of KEY=VALUE lines; variables of the process win over it.
        #[arg(long, value_name = "FILE")]
        env_file: Vec<PathBuf>,
        /// Use the key file (~/.alchemy/state.key) instead of a password.
        #[arg(long)]
        to_key_file: bool,
        /// Remove backups, and what repairs set aside, instead of sealing backups anew.
        #[arg(long)]
        prune_backups: bool,
    },
}

/// `alch check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The script.
    #[arg(value_name = "FILE", default_value = DEFAULT_SCRIPT)]
    pub file: PathBuf,
}

/// `alch local`.
#[derive(Debug, Clone, Subcommand)]
pub enum LocalCommand {
    /// Serve the local cloud of this project: Cloudflare's API, and every Worker that is deployed.
    #[command(after_help = help::SERVE_HELP)]
    Serve(LocalServeArgs),
    /// Obtain what runs Workers, without starting anything: for images and machines that will be offline.
    #[command(after_help = help::PREPARE_HELP)]
    Prepare,
    /// Call the `scheduled` of a Worker now, through the server that runs.
    #[command(after_help = help::TRIGGER_HELP)]
    Trigger(LocalTriggerArgs),
}

/// `alch local trigger`.
#[derive(Debug, Clone, Args)]
pub struct LocalTriggerArgs {
    /// The Worker: its id in the script, or the name it was deployed with.
    #[arg(value_name = "WORKER")]
    pub worker: String,
    /// The schedule that the Worker is told; its own when it has exactly one.
    #[arg(long, value_name = "SCHEDULE")]
    pub cron: Option<String>,
    /// The stage of the Worker; before `$ALCHEMY_STAGE`, `$STAGE` and `dev`.
    #[arg(short, long, value_name = "STAGE")]
    pub stage: Option<String>,
}

/// `alch logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Only this Worker: its id in the script, or the name it was deployed with.
    #[arg(value_name = "WORKER")]
    pub worker: Option<String>,
    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Leave out what is older: `10m`, `2h`, or a time such as `2026-07-30T12:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only events that ended like this.
    #[arg(long, value_enum, value_name = "STATUS")]
    pub status: Option<EventStatus>,
    /// Only events that say this text: in the request, in the console output or in an exception.
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// The stage of the Worker; before `$ALCHEMY_STAGE`, `$STAGE` and `dev`.
    #[arg(short, long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Where the Worker is, when state does not know it; before the profile's and `local`.
    #[arg(long, value_enum, value_name = "TARGET")]
    pub target: Option<Target>,
    /// Credentials and defaults from ~/.alchemy; before `$ALCHEMY_PROFILE`.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
}

/// How an event of a Worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventStatus {
    /// It ended well.
    Ok,
    /// It threw, or used too much of something.
    Error,
    /// Its client went away.
    Canceled,
}

/// `alch local serve`.
#[derive(Debug, Clone, Args)]
pub struct LocalServeArgs {
    /// The port of the Workers; 0 takes any free one.
    #[arg(short, long, value_name = "PORT", default_value_t = 8787)]
    pub port: u16,
    /// The port of the API; the one after `--port` when not given, or any free one.
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// The token that clients of the API must send; a random one when not given.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "ALCH_LOCAL_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// The id of the account that clients name, for all of this local cloud from now on; `local` when it never had another.
    #[arg(long, value_name = "ID", value_parser = account)]
    pub account: Option<String>,
    /// A zone that there is to be, so that routes and custom domains below it can be deployed.
    #[arg(long, value_name = "DOMAIN")]
    pub zone: Vec<String>,
}

/// The id of an account, as the local cloud takes it.
fn account(text: &str) -> Result<String, String> {
    match crate::local::is_account(text) {
        true => Ok(text.to_owned()),
        false => Err("an account is 1 to 32 letters, digits, `-` and `_`".to_owned()),
    }
}

/// `alch trust`.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// The folder that holds alch.toml.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
    /// Take the permissions back.
    #[arg(long)]
    pub revoke: bool,
}

/// `alch completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
