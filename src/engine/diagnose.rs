//! Failures as diagnostics: the id, the frame of the declaration, what was and was not changed, the next step.

use std::sync::Arc;

use crate::{
    model::{Diagnostic, Label, Position, SourceFile, diagnostic::codes},
    provider::{FailureKind, ProviderError},
    secret::VaultError,
    state::{BucketFault, StateError},
};

use super::{
    event::Action,
    failure::{Failure, FailureCause, RunError},
    rename::RenameError,
    renamed::moved_help,
};

/// Finds the text of a file by the name that positions carry.
pub type SourceLookup<'a> = &'a dyn Fn(&str) -> Option<Arc<SourceFile>>;

/// A label at a position, if its file can be found.
#[must_use]
pub fn label(
    position: Option<&Position>,
    sources: SourceLookup<'_>,
    text: &str,
    primary: bool,
) -> Option<Label> {
    let position = position?;
    Some(Label {
        source: sources(&position.file)?,
        line: position.line,
        column: position.column,
        length: 0,
        text: text.to_owned(),
        primary,
    })
}

impl Failure {
    /// The failure with the frame of the resource's declaration.
    #[must_use]
    pub fn diagnostic(&self, sources: SourceLookup<'_>) -> Diagnostic {
        let what = format!("`{}` ({})", self.fqn.within_stage(), self.kind);
        let mut diagnostic = match &self.cause {
            FailureCause::Provider(error) => {
                provider_diagnostic(error, &format!("{what}: {} failed", self.action.verb()))
            }
            FailureCause::Dependency(fqn) => Diagnostic::error(
                codes::DEPENDENCY,
                format!(
                    "{what} was not tried: `{}` failed, on which it depends",
                    fqn.within_stage()
                ),
            ),
            FailureCause::Protected => Diagnostic::error(
                codes::PROTECTED,
                format!("{what} is protected: it would be {}d", self.action.verb()),
            )
            .with_help("remove `protect: true` from the resource, run, and try again"),
            FailureCause::DataLoss(reasons) => Diagnostic::error(
                codes::DATA_LOSS,
                format!(
                    "{what} would be replaced and lose its data ({} changed)",
                    reasons.join(", ")
                ),
            )
            .with_note("nothing was changed")
            .with_help("to replace it all the same, run again with `--allow-data-loss`"),
            FailureCause::Losses(losses) => Diagnostic::error(
                codes::DATA_LOSS,
                format!(
                    "{what} would be {}d and lose {}",
                    self.action.verb(),
                    losses.join(" and ")
                ),
            )
            .with_note("nothing was changed")
            .with_help(
                "to lose it, run again with `--allow-data-loss`; to keep it, declare it as before",
            ),
            FailureCause::Orphan { losses, heir } => {
                let told = Diagnostic::error(
                    codes::DATA_LOSS,
                    format!("{what} would be deleted and lose {}", losses.join(" and ")),
                )
                .with_note("it was left as it is, and nothing was deleted");
                match heir {
                    Some(heir) => told.with_help(moved_help(
                        self.fqn.within_stage(),
                        heir.within_stage(),
                    )),
                    None => told,
                }
                .with_help("to keep it as it is, declare it again; to lose it, run again with `--allow-data-loss`")
            }
            FailureCause::Renamed { from, losses } => {
                let (from, to) = (from.within_stage(), self.fqn.within_stage());
                Diagnostic::error(
                    codes::DATA_LOSS,
                    format!(
                        "{what} looks like `{from}` under a new id, and without `{from}` {} would be lost",
                        losses.join(" and ")
                    ),
                )
                .with_note("it was not created")
                .with_help(moved_help(from, to))
                .with_help(format!(
                    "to have both, declare `{from}` before it; to lose that one, run again with `--allow-data-loss`"
                ))
            }
            FailureCause::State(error) => state_diagnostic(error),
            FailureCause::MissingOutput(name) => Diagnostic::error(
                codes::PROVIDER,
                format!("{what} refers to `{name}`, which has no value"),
            ),
            FailureCause::Vault(error) => vault_diagnostic(error),
            FailureCause::Cancelled => {
                Diagnostic::error(codes::CANCELLED, format!("{what}: cancelled"))
            }
            FailureCause::CleanedUp => Diagnostic::error(
                codes::DEPENDENCY,
                format!("{what} was removed again because its scope failed"),
            ),
            FailureCause::NotThere(name) => Diagnostic::error(
                codes::NO_OBJECT,
                format!("{what} was not found: there is no `{name}`"),
            )
            .with_help("`alch run` makes it"),
            FailureCause::StalePlan(reason) => stale(reason),
        };
        if let Some(label) = label(self.position.as_ref(), sources, "declared here", true)
            && (self.action != Action::Delete || self.stands_at(&label))
        {
            diagnostic.labels.insert(0, label);
        }
        diagnostic
    }

    /// Whether the line still names the resource. What is deleted was declared in the script as it was then, not as it is now.
    fn stands_at(&self, label: &Label) -> bool {
        let id = self
            .fqn
            .within_stage()
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let line = label
            .source
            .text
            .lines()
            .nth(label.line.saturating_sub(1) as usize);
        line.is_some_and(|line| line.contains(&format!("\"{id}\"")))
    }
}

fn provider_diagnostic(error: &ProviderError, what: &str) -> Diagnostic {
    let code = match error.kind {
        FailureKind::Conflict => codes::CONFLICT,
        FailureKind::Authentication => codes::AUTHENTICATION,
        FailureKind::Timeout => codes::TIMEOUT,
        FailureKind::Cancelled => codes::CANCELLED,
        FailureKind::Refused | FailureKind::NotFound | FailureKind::Ambiguous => codes::PROVIDER,
    };
    let said = match &error.code {
        Some(code) => format!("{} [{code}]", error.message),
        None => error.message.clone(),
    };
    let mut diagnostic = Diagnostic::error(code, format!("{what}: {said}"));
    if let Some(call) = &error.call {
        diagnostic.notes.push(format!("the call was {call}"));
    }
    match (&error.help, error.kind) {
        (Some(help), _) => diagnostic.help.push(help.clone()),
        (None, FailureKind::Conflict) => diagnostic.help.push(
            "pass `adopt: true` (or run with `--adopt`) to take it over, or choose another name"
                .to_owned(),
        ),
        (None, FailureKind::Ambiguous | FailureKind::Timeout) => diagnostic
            .help
            .push("run again: alch looks for the object before it makes another".to_owned()),
        _ => {}
    }
    diagnostic
}

fn stale(reason: &str) -> Diagnostic {
    Diagnostic::error(codes::STALE_PLAN, format!("the plan is stale: {reason}"))
        .with_help("make a new one with `alch plan --out FILE`")
}

/// A state error with its next step.
#[must_use]
pub fn state_diagnostic(error: &StateError) -> Diagnostic {
    match error {
        StateError::Locked {
            stage,
            holder,
            alive,
        } => {
            let unlock = format!("alch scope unlock --app {} --stage {}", stage.app, stage.stage);
            let out = Diagnostic::error(codes::LOCKED, error.to_string())
                .with_note("nothing was changed")
                .with_help(format!(
                    "wait for it with `--lock-timeout 60000`, or look with `alch scope locks --app {} --stage {}`",
                    stage.app, stage.stage
                ));
            match alive {
                Some(true) => out,
                Some(false) => out.with_help(format!("that process is gone: `{unlock}`")),
                None => out.with_help(format!(
                    "if you are sure that nothing runs on `{}` any more: `{unlock} --force`",
                    holder.host
                )),
            }
        }
        StateError::Corrupt { stage, place, .. } => {
            let told = Diagnostic::error(codes::CORRUPT, error.to_string())
                .with_note("nothing was changed; alch never takes damaged state for no state");
            let of = match stage.split_once('/') {
                Some((app, stage)) => format!(" --app {app} --stage {stage}"),
                None => String::new(),
            };
            match Damage::of(stage, place) {
                Damage::Lock => told.with_help(format!(
                    "if you are sure that nothing runs there any more: `alch scope unlock{of} --force` makes the lock anew"
                )),
                Damage::History => told.with_help(format!(
                    "`alch scope cleanup{of}` sets it aside; the state itself does not need it"
                )),
                Damage::State => told
                    .with_help(format!("`alch scope rebuild{of}` puts it together again"))
                    .with_help("`alch scope validate` lists all damage, and `alch scope restore` goes back to a backup"),
            }
        }
        StateError::Fenced { .. } => Diagnostic::error(codes::FENCED, error.to_string())
            .with_help("look at the stage with `alch scope locks` and run again"),
        StateError::Lapsed { .. } => Diagnostic::error(codes::FENCED, error.to_string())
            .with_note("nothing more was started; the next run resolves what was in flight")
            .with_help("see to it that `.alchemy` can be written, then run again"),
        StateError::Moved { to, .. } => Diagnostic::error(codes::MOVED, error.to_string())
            .with_note("nothing was changed")
            .with_help(match to.as_str() {
                "local" => "go on there: take `stateStore` out of the script, and `ALCHEMY_STATE_STORE` out of the environment, in the project whose folder it is".to_owned(),
                to => format!("go on there: declare it as `stateStore` in the script, or set `ALCHEMY_STATE_STORE=\"{to}\"`"),
            }),
        StateError::OtherStore(stores) => {
            Diagnostic::error(codes::OTHER_STORE, error.to_string())
                .with_note("nothing was changed")
                .with_help(format!(
                    "to go on where the state is: take `{}` out of the environment, or set it to \"{}\"",
                    stores.variable, stores.place_url
                ))
                .with_help(format!(
                    "to bring the state over: `alch state migrate-store --app {} --to \"{}\"`",
                    stores.app, stores.named_url
                ))
        }
        StateError::TooNew { .. } => Diagnostic::error(codes::TOO_NEW, error.to_string())
            .with_help("use the newer alch"),
        StateError::Bucket { fault, .. } => bucket_diagnostic(error, *fault),
        StateError::Io { source, .. } => {
            Diagnostic::error(codes::STATE_IO, format!("{error}: {source}"))
                .with_note("what was recorded before stays valid; nothing more was started")
                .with_help("make room or fix the permissions of `.alchemy`, then run again")
        }
    }
}

/// What a damaged file or object is for, as far as that decides what mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// The state itself.
    State,
    /// A backup, or the record of a finished run.
    History,
    /// The lock, in a bucket.
    Lock,
}

impl Damage {
    /// Tells it by where it is: `stage` and `place` as [`StateError::Corrupt`] has them.
    #[must_use]
    pub fn of(stage: &str, place: &str) -> Self {
        const HISTORY: [&str; 2] = ["backups", "deployments"];
        let app = stage.split_once('/').map_or(stage, |(app, _)| app);
        let mut parts = place.rsplit('/');
        let mut next = || parts.next().unwrap_or_default();
        let (name, folder, above, top) = (next(), next(), next(), next());
        if place.starts_with("s3://") {
            // `<app>/locks/<stage>.json`, `<app>/backups/<stage>/<name>`
            return match () {
                () if folder == "locks" && above == app => Self::Lock,
                () if HISTORY.contains(&above) && top == app => Self::History,
                () => Self::State,
            };
        }
        // `<app>/<stage>/backups/<name>`; an application or a stage may have the name of such a folder.
        match name {
            "app.json" | "state.json" | "journal.wal" => Self::State,
            // What is left of a stage that was removed.
            "removed.json" => Self::History,
            _ if HISTORY.contains(&folder) => Self::History,
            _ => Self::State,
        }
    }
}

fn bucket_diagnostic(error: &StateError, fault: BucketFault) -> Diagnostic {
    let told = Diagnostic::error(codes::BUCKET, error.to_string());
    match fault {
        BucketFault::Credentials => told
            .with_note("nothing was changed")
            .with_help("check `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (`R2_..` for R2): they must be those of this bucket, and may read, write, list and delete in it"),
        BucketFault::NoBucket => told
            .with_note("nothing was changed")
            .with_help("make the bucket, or correct its name or endpoint where the store is declared"),
        BucketFault::NoConditionalWrites => told
            .with_note("without conditional writes two runs would overwrite each other's state, so nothing was changed")
            .with_help("use a server that has them, such as Amazon S3, Cloudflare R2 or a recent MinIO"),
        BucketFault::Unreachable | BucketFault::Stopped => told
            .with_note("nothing more was started after that")
            .with_help("run again when the bucket can be reached; what was begun is finished or looked up then"),
        BucketFault::Refused => told.with_help("look at the bucket's settings, then run again"),
    }
}

/// A secret error with its next step.
#[must_use]
pub fn vault_diagnostic(error: &VaultError) -> Diagnostic {
    match error {
        VaultError::MissingPassword { .. } => {
            Diagnostic::error(codes::MISSING_PASSWORD, error.to_string())
                .with_note("nothing was changed")
                .with_help("set `ALCHEMY_PASSWORD`, or pass `password:` to `alchemy(..)`")
        }
        VaultError::WrongPassword { .. } => {
            Diagnostic::error(codes::WRONG_PASSWORD, error.to_string())
                .with_note("nothing was changed")
                .with_help("check `ALCHEMY_PASSWORD` for this stage")
        }
        _ => Diagnostic::error(codes::WRONG_PASSWORD, error.to_string())
            .with_note("nothing was changed")
            .with_help("use the password or key file that the stage was written with"),
    }
}

/// A rename that is refused, with its next step.
#[must_use]
pub fn rename_diagnostic(error: &RenameError) -> Diagnostic {
    let refused =
        |code| Diagnostic::error(code, error.to_string()).with_note("nothing was changed");
    match error {
        RenameError::Vault(error) => vault_diagnostic(error),
        RenameError::Missing(_) => {
            refused(codes::NOT_IN_STATE).with_help("`alch state ls` lists what is in state")
        }
        RenameError::Spelling(..) => {
            refused(codes::BAD_ID).with_help("rename it in two steps, over a name of its own")
        }
        RenameError::Taken(taken) => refused(codes::BAD_ID)
            .with_help(format!(
                "to give up the other `{0}`: declare the old name in its place, run (this deletes the object of `{0}`), and rename then",
                taken.within_stage()
            ))
            .with_help("or choose a name that is free; `alch state ls` lists what is in state"),
        RenameError::InTheWay { .. } | RenameError::OtherStage { .. } => {
            refused(codes::BAD_ID)
                .with_help("choose a name that is free; `alch state ls` lists what is in state")
        }
    }
}

impl RunError {
    /// The error with its next step.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::State(error) => state_diagnostic(error),
            Self::Journal(error) => state_diagnostic(error),
            Self::Vault(error) => vault_diagnostic(error),
            Self::OtherTarget { deployed, .. } => {
                Diagnostic::error(codes::OTHER_TARGET, self.to_string())
                    .with_note("nothing was changed")
                    .with_help(format!("go on with `--target {deployed}`"))
                    .with_help(
                        "or use another `--stage`, or destroy this one on its own target first",
                    )
            }
            Self::SameSpelling { other, .. } => {
                Diagnostic::error(codes::SAME_OBJECT, self.to_string())
                    .with_note("names hold small letters, digits and `-`; what else a stage's name holds becomes `-` in them")
                    .with_note("nothing was changed")
                    .with_help(format!(
                        "choose another `--stage`, or go on with `--stage \"{}\"`",
                        other.stage
                    ))
            }
            Self::NoSuchStage { others, .. } => {
                let stages: Vec<String> =
                    others.iter().map(|stage| stage.stage.to_string()).collect();
                let help = if stages.is_empty() {
                    "no stage of this application has state here; deploy one with `alch run`"
                        .to_owned()
                } else {
                    format!("stages with state: {}", stages.join(", "))
                };
                Diagnostic::error(codes::NO_STAGE, self.to_string()).with_help(help)
            }
            Self::Name(_) => Diagnostic::error(codes::BAD_ID, self.to_string())
                .with_help("names are `id` or `scope/id`, within the scope or the stage"),
            Self::Rename(error) => rename_diagnostic(error),
            Self::MovedLate { declared, first } => {
                let mut out = Diagnostic::error(codes::DUPLICATE_ID, self.to_string());
                if let Some(first) = first {
                    out.notes.push(format!(
                        "`{}` is declared at {}:{}:{}",
                        declared.within_stage(),
                        first.file,
                        first.line,
                        first.column
                    ));
                }
                out.with_help("put `moved(..)` at the top, right behind `alchemy(..)`")
            }
            Self::Look { kind, error } => provider_diagnostic(
                error,
                &format!("cannot see what there is of `{kind}`"),
            )
            .with_note("nothing was changed"),
            Self::LookVault(error) => vault_diagnostic(error),
            Self::Cancelled => Diagnostic::error(codes::CANCELLED, "cancelled"),
            Self::StalePlan { reason } => stale(reason),
        }
    }
}
