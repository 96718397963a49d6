//! `alch secrets rotate`: the secrets of a stage under another password.

use std::{io, path::PathBuf, sync::Arc};

use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        Context,
        args::{RunFlags, SecretsCommand, StageArgs},
        error::CliError,
        exit::Exit,
        select::Project,
        settings::Settings,
    },
    engine::rotate,
    model::{AppName, StagePath, diagnostic::codes},
    secret::{KeyMaterial, Keyring, VaultError},
    state::{
        JournalEntry, KeyCheck, LockRequest, Session, Snapshot, StageState, StateError, Store,
        record::KeySource,
    },
    ui::prompt,
    util::{ids::SystemIds, text::plural},
};

/// The variable that names the new password.
const NEW_PASSWORD: &str = "ALCHEMY_NEW_PASSWORD";

pub(in crate::cli) fn run(context: &Context, command: &SecretsCommand) -> Result<Exit, CliError> {
    match command {
        SecretsCommand::Rotate {
            app,
            stage,
            lock_timeout,
            env_file,
            to_key_file,
            prune_backups,
        } => {
            let context = &with_env_files(context, env_file)?;
            let stage = StageArgs {
                app: app.clone(),
                stage: stage.clone(),
                lock_timeout: *lock_timeout,
            };
            rotate_all(context, &stage, *to_key_file, *prune_backups)
        }
    }
}

/// The command with the variables of files: passwords, and what opens a bucket.
fn with_env_files(context: &Context, files: &[PathBuf]) -> Result<Context, CliError> {
    let flags = RunFlags {
        env_file: files.to_vec(),
        ..RunFlags::default()
    };
    Ok(Context {
        environment: Settings::resolve(&context.environment, &flags, None)?.environment,
        ui: Arc::clone(&context.ui),
        redactor: context.redactor.clone(),
        command_line: context.command_line.clone(),
        cancel: context.cancel.clone(),
    })
}

/// What became of a stage's present state.
enum Rotated {
    /// So many values were sealed anew.
    Values(usize),
    /// It had the new key already: an earlier rotation was stopped before its end.
    Already,
    /// It has no secrets.
    None,
}

/// What became of all that there is of a stage.
struct Outcome {
    rotated: Rotated,
    has_resources: bool,
    backups: rotate::Backups,
    /// What repairs had set aside and stays as it was.
    set_aside: Vec<String>,
    /// How many backups, and copies that repairs had set aside, were removed.
    removed: usize,
}

impl Outcome {
    /// Whether the stage was removed, and left nothing that has secrets.
    fn is_nothing(&self) -> bool {
        !self.has_resources
            && matches!(self.rotated, Rotated::None)
            && self.backups == rotate::Backups::default()
            && self.set_aside.is_empty()
            && self.removed == 0
    }
}

fn rotate_all(
    context: &Context,
    args: &StageArgs,
    to_key_file: bool,
    prune: bool,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (named, settings) = match args.stage {
        Some(_) => {
            let (stage, settings) = project.stage(context, args)?;
            project.load(&stage)?;
            (Some(stage), settings)
        }
        None => (None, project.settings(context, args)?),
    };
    let mut stages = project.all_stages()?;
    if let Some(app) = &args.app {
        stages.retain(|stage| stage.app.as_str() == app);
    }
    if let Some(named) = &named {
        // Its tests have the same password.
        let of = |stage: &StagePath| match stage.stage.test_parts() {
            Some((_, of)) => of == named.stage.as_str(),
            None => stage.stage == named.stage,
        };
        stages.retain(|stage| stage.app == named.app && of(stage));
    }
    if stages.is_empty() {
        return Err(CliError::new(codes::NO_STAGE, "no stage has state here"));
    }
    let new = new_material(context, &settings, to_key_file)?;
    let mut left = Vec::new();
    for stage in &stages {
        let outcome = rotate_stage(context, &project, &settings, stage, &new, prune)?;
        if outcome.is_nothing() {
            continue;
        }
        let (values, mut text) = match outcome.rotated {
            Rotated::Values(values) => {
                let values_text = plural(values, "secret");
                (
                    values,
                    format!("{stage}: {values_text} sealed with the new key"),
                )
            }
            Rotated::Already => (0, format!("{stage}: sealed with the new key already")),
            Rotated::None => (0, format!("{stage}: no secrets")),
        };
        if outcome.backups.resealed > 0 {
            text.push_str(&format!(
                ", and those of {}",
                plural(outcome.backups.resealed, "backup")
            ));
        }
        if outcome.removed > 0 {
            text.push_str(&format!(
                "; {} removed",
                plural(outcome.removed, "earlier state")
            ));
        }
        context.ui.result(
            "secrets_rotated",
            json!({
                "stage": stage.to_string(),
                "values": values,
                "already": matches!(outcome.rotated, Rotated::Already),
                "backups": outcome.backups.resealed,
                "backups_left": outcome.backups.left,
                "set_aside": outcome.set_aside,
                "removed": outcome.removed,
            }),
            text,
        );
        if outcome.backups.left > 0 {
            left.push(format!(
                "{} of {stage}",
                plural(outcome.backups.left, "backup")
            ));
        }
        left.extend(outcome.set_aside.iter().map(|place| format!("`{place}`")));
    }
    for app in project.runtime.block_on(project.store.apps())? {
        if args.stage.is_none() && args.app.as_ref().is_none_or(|named| *named == app.as_str()) {
            left.extend(old_copies(&project, &settings, context, &app, prune)?);
        }
    }
    if !left.is_empty() {
        context.ui.note(format!(
            "sealed as before, as it is damaged or has another key: {}\n  `alch secrets rotate --prune-backups` removes all earlier states",
            left.join(", ")
        ));
    }
    Ok(Exit::Success)
}

/// The copies that `migrate-store` left in the project's folder: removed with `prune`, else named.
fn old_copies(
    project: &Project,
    settings: &Settings,
    context: &Context,
    app: &AppName,
    prune: bool,
) -> Result<Vec<String>, CliError> {
    let files = project.stores.files();
    project.runtime.block_on(async {
        let mut left = Vec::new();
        for stage in files.stages(app).await? {
            let Err(StateError::Moved { .. }) = files.load(&stage).await else {
                continue;
            };
            if !prune {
                left.push(format!("the old copy of {stage} in `.alchemy`"));
                continue;
            }
            let request = LockRequest {
                wait: settings.lock_wait,
                command: context.command_line.clone(),
            };
            let nothing = Snapshot::of(&stage, &StageState::default());
            let (session, _) = files.set_aside(&stage, &nothing, request).await?;
            let removed = forget(session.as_ref(), nothing).await;
            session.release().await?;
            removed?;
            context.ui.note(format!("removed the old copy of {stage}"));
        }
        Ok(left)
    })
}

/// Removes a stage that was set aside, with all that is kept of it but its history.
async fn forget(session: &dyn Session, nothing: Snapshot) -> Result<(), StateError> {
    let header = nothing.header.clone();
    session
        .append(vec![JournalEntry::Replaced(Arc::new(nothing))])
        .await?;
    session.checkpoint(header).await?;
    // The stage itself goes on in another store.
    session.forget_stage().await
}

/// What the stages are to be sealed with.
fn new_material(
    context: &Context,
    settings: &Settings,
    to_key_file: bool,
) -> Result<KeyMaterial, CliError> {
    if to_key_file {
        return Ok(settings.key_file());
    }
    let password = match settings.environment.get(NEW_PASSWORD) {
        Some(password) => Zeroizing::new(password.to_owned()),
        None if prompt::interactive() => {
            let first = ask(context, "new password (it is not shown as you type):")?;
            let second = ask(context, "the same once more:")?;
            if first != second {
                return Err(
                    CliError::usage("the two passwords differ").with_note("nothing was changed")
                );
            }
            first
        }
        None => {
            return Err(
                CliError::usage("no new password is given").with_help(format!(
                    "set `{NEW_PASSWORD}` in the environment or in an `--env-file`, or pass `--to-key-file` to do without a password"
                )),
            );
        }
    };
    if password.is_empty() {
        return Err(CliError::usage("the new password is empty"));
    }
    context.redactor.add(&password);
    Ok(KeyMaterial::Password(password))
}

fn ask(context: &Context, question: &str) -> Result<Zeroizing<String>, CliError> {
    prompt::hidden(&context.ui, question).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => {
            CliError::new(codes::CANCELLED, "stopped").with_note("nothing was changed")
        }
        _ => CliError::usage("no password was read").with_note(error.to_string()),
    })
}

fn rotate_stage(
    context: &Context,
    project: &Project,
    settings: &Settings,
    stage: &StagePath,
    new: &KeyMaterial,
    prune: bool,
) -> Result<Outcome, CliError> {
    let request = LockRequest {
        wait: settings.lock_wait,
        command: context.command_line.clone(),
    };
    project.runtime.block_on(async {
        let session = project.store.open(stage, request.clone()).await?;
        let work = Work {
            store: project.store.as_ref(),
            session: session.as_ref(),
            settings,
            stage,
            new,
        };
        let result = work.rotate(prune).await;
        let released = session.release().await;
        let outcome = result?;
        released?;
        // What crashes left behind is sealed with the old key, too.
        match project.store.clean_up(stage, false, request).await {
            // A run that has begun meanwhile works with the new key, and cleans up itself what it meets.
            Ok(_) | Err(StateError::Locked { .. }) => Ok(outcome),
            Err(error) => Err(error.into()),
        }
    })
}

/// The rotation of one stage that is held.
struct Work<'a> {
    store: &'a dyn Store,
    session: &'a dyn Session,
    settings: &'a Settings,
    stage: &'a StagePath,
    new: &'a KeyMaterial,
}

impl Work<'_> {
    fn keyring(&self, check: Option<&KeyCheck>, material: &KeyMaterial) -> Keyring {
        Keyring::new(
            self.stage.clone(),
            check.cloned(),
            material.clone(),
            Arc::new(SystemIds),
        )
    }

    /// The keyring for what was sealed with the key of `check`, by the password or the key file in use.
    fn old(&self, check: &KeyCheck) -> Keyring {
        let material = match check.source {
            KeySource::File => self.settings.key_file(),
            KeySource::Password => self.settings.key(None),
        };
        self.keyring(Some(check), &material)
    }

    async fn rotate(&self, prune: bool) -> Result<Outcome, CliError> {
        let state = self.session.take_state();
        let has_resources = !state.is_empty();
        let (rotated, new) = self.present(state).await?;
        let mut removed = 0;
        if prune {
            let (backups, set_aside) = self.session.drop_backups().await?;
            removed = backups + set_aside;
        }
        // The present state first: from then on, what is cut short is gone on with by the next rotation.
        let old = |check: &KeyCheck| {
            let keyring = self.old(check);
            match keyring.vault() {
                Ok(_) => Some(keyring),
                // Of a rotation to the same password that began anew.
                Err(_) => {
                    let keyring = self.keyring(Some(check), self.new);
                    keyring.vault().is_ok().then_some(keyring)
                }
            }
        };
        let backups = rotate::backups(self.store, self.stage, self.session, &old, &new).await?;
        Ok(Outcome {
            rotated,
            has_resources,
            backups,
            set_aside: self.session.set_aside().await?,
            removed,
        })
    }

    /// The present state; answers the keyring that it has now.
    async fn present(&self, state: StageState) -> Result<(Rotated, Keyring), CliError> {
        let Some(check) = &state.header.key else {
            // Nothing is derived unless a backup needs it.
            return Ok((Rotated::None, self.keyring(None, self.new)));
        };
        let old = self.old(check);
        if let Err(error) = old.vault() {
            let is_other = matches!(
                error,
                VaultError::WrongPassword { .. } | VaultError::MissingPassword { .. }
            );
            let new = self.keyring(Some(check), self.new);
            if is_other && new.vault().is_ok() {
                // The old key may be in what a journal that has the new one stands for.
                self.session.checkpoint(state.header.clone()).await?;
                return Ok((Rotated::Already, new));
            }
            return Err(error.into());
        }
        let new = self.keyring(None, self.new);
        let rotation = rotate::rotate(Snapshot::of(self.stage, &state), &old, &new)?;
        let values = rotation.values;
        rotate::write(self.session, rotation).await?;
        Ok((Rotated::Values(values), new))
    }
}
