//! `alch secrets rotate`: the secrets of a stage under another password.

use std::{io, sync::Arc};

use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        Context,
        args::{SecretsCommand, StageArgs},
        error::CliError,
        exit::Exit,
        select::Project,
        settings::Settings,
    },
    engine::rotate,
    model::{StagePath, diagnostic::codes},
    secret::{KeyMaterial, Keyring, VaultError},
    state::{KeyCheck, LockRequest, Session, Snapshot, record::KeySource},
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
            to_key_file,
        } => {
            let stage = StageArgs {
                app: app.clone(),
                stage: stage.clone(),
                lock_timeout: *lock_timeout,
            };
            rotate_all(context, &stage, *to_key_file)
        }
    }
}

/// What became of a stage.
enum Rotated {
    /// So many values were sealed anew.
    Values(usize),
    /// It had the new key already: an earlier rotation was stopped between two stages.
    Already,
    /// It has no secrets.
    None,
}

fn rotate_all(context: &Context, args: &StageArgs, to_key_file: bool) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (named, settings) = match args.stage {
        Some(_) => {
            let (stage, settings) = project.stage(context, args)?;
            project.load(&stage)?;
            (Some(stage), settings)
        }
        None => (None, project.settings(context, args)?),
    };
    let stages = match named {
        Some(stage) => vec![stage],
        None => {
            let mut stages = project.stages()?;
            if let Some(app) = &args.app {
                stages.retain(|stage| stage.app.as_str() == app);
            }
            stages
        }
    };
    if stages.is_empty() {
        return Err(CliError::new(codes::NO_STAGE, "no stage has state here"));
    }
    let new = new_material(context, &settings, to_key_file)?;
    let mut backups = 0;
    for stage in &stages {
        let rotated = rotate_stage(context, &project, &settings, stage, &new)?;
        let (values, text) = match rotated {
            Rotated::Values(values) => {
                backups += project
                    .runtime
                    .block_on(project.store.backups(stage))?
                    .len();
                let values_text = plural(values, "secret");
                (
                    values,
                    format!("{stage}: {values_text} sealed with the new key"),
                )
            }
            Rotated::Already => (0, format!("{stage}: sealed with the new key already")),
            Rotated::None => (0, format!("{stage}: no secrets")),
        };
        context.ui.result(
            "secrets_rotated",
            json!({
                "stage": stage.to_string(),
                "values": values,
                "already": matches!(rotated, Rotated::Already),
            }),
            text,
        );
    }
    if backups > 0 {
        context.ui.note(format!(
            "{} made before this can be read with the old key only: keep it for as long as you may restore one",
            plural(backups, "backup")
        ));
    }
    Ok(Exit::Success)
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
                    "set `{NEW_PASSWORD}`, or pass `--to-key-file` to do without a password"
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
) -> Result<Rotated, CliError> {
    let request = LockRequest {
        wait: settings.lock_wait,
        command: context.command_line.clone(),
    };
    project.runtime.block_on(async {
        let session = project.store.open(stage, request).await?;
        let result = rotate_session(session.as_ref(), settings, stage, new).await;
        let released = session.release().await;
        let rotated = result?;
        released?;
        Ok(rotated)
    })
}

async fn rotate_session(
    session: &dyn Session,
    settings: &Settings,
    stage: &StagePath,
    new: &KeyMaterial,
) -> Result<Rotated, CliError> {
    let state = session.take_state();
    let Some(check) = &state.header.key else {
        return Ok(Rotated::None);
    };
    let keyring = |check: Option<&KeyCheck>, material: &KeyMaterial| {
        Keyring::new(
            stage.clone(),
            check.cloned(),
            material.clone(),
            Arc::new(SystemIds),
        )
    };
    let old = match check.source {
        KeySource::File => settings.key_file(),
        KeySource::Password => settings.key(None),
    };
    let old = keyring(Some(check), &old);
    if let Err(error) = old.vault() {
        let is_other = matches!(
            error,
            VaultError::WrongPassword { .. } | VaultError::MissingPassword { .. }
        );
        if is_other && keyring(Some(check), new).vault().is_ok() {
            return Ok(Rotated::Already);
        }
        return Err(error.into());
    }
    let new = keyring(None, new);
    let rotation = rotate::rotate(Snapshot::of(stage, &state), &old, &new)?;
    let values = rotation.values;
    rotate::write(session, rotation).await?;
    Ok(Rotated::Values(values))
}
