//! What the environment says: files of `--env-file` under the variables of the process, numbers and switches in variables,
//! and the `ALCHEMY_DESTROY_*` group.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    cli::{env_file, environment::Environment, error::CliError},
    engine::{DeleteOptions, DeleteStrategy},
    state::file::DEFAULT_TTL,
    util::fs,
};

pub(super) fn with_env_files(
    environment: &Environment,
    files: &[PathBuf],
) -> Result<Environment, CliError> {
    if files.is_empty() {
        return Ok(environment.clone());
    }
    let mut variables = BTreeMap::new();
    for file in files {
        let path = environment.folder.join(file);
        let text = fs::read_to_string(&path).map_err(|error| {
            CliError::usage(format!("cannot read the env file `{}`", file.display()))
                .with_note(error.source.to_string())
                .with_help("`--env-file` names a file of `KEY=VALUE` lines")
        })?;
        let read = env_file::parse(&text).map_err(|error| {
            CliError::usage(format!(
                "`{}` is not an env file: {}",
                file.display(),
                error.problem
            ))
            .at(
                file.display().to_string(),
                redacted(&text),
                error.line,
                error.column,
            )
        })?;
        variables.extend(read);
    }
    for (name, value) in environment.variables.iter() {
        variables.insert(name.clone(), value.clone());
    }
    Ok(Environment {
        variables: Arc::new(variables),
        folder: environment.folder.clone(),
    })
}

/// The text of an environment file for a code frame: what stands after `=` is likely secret.
fn redacted(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once('=') {
            Some((name, _)) => format!("{name}=..\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

pub(super) fn number(environment: &Environment, name: &str) -> Result<Option<u64>, CliError> {
    environment
        .get(name)
        .map(|text| {
            text.trim().parse().map_err(|_| {
                CliError::usage(format!("`${name}` is `{text}`, expected a whole number"))
            })
        })
        .transpose()
}

/// The shortest lease: a heartbeat, a sixth of it, must come through on a busy machine.
const MIN_LOCK_TTL: u64 = 1_000;

/// How long a lock lasts without a heartbeat: `$ALCHEMY_LOCK_TTL` in milliseconds, else a minute.
pub(in crate::cli) fn lock_ttl(environment: &Environment) -> Result<Duration, CliError> {
    match number(environment, "ALCHEMY_LOCK_TTL")? {
        None => Ok(DEFAULT_TTL),
        Some(millis) if millis >= MIN_LOCK_TTL => Ok(Duration::from_millis(millis)),
        Some(millis) => Err(CliError::usage(format!(
            "`$ALCHEMY_LOCK_TTL` is `{millis}`, expected at least {MIN_LOCK_TTL} milliseconds"
        ))),
    }
}

fn flag(environment: &Environment, name: &str) -> Result<Option<bool>, CliError> {
    environment
        .get(name)
        .map(|text| match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(CliError::usage(format!(
                "`${name}` is `{text}`, expected `true` or `false`"
            ))),
        })
        .transpose()
}

/// The `ALCHEMY_DESTROY_*` variables.
pub(super) fn delete_options(environment: &Environment) -> Result<DeleteOptions, CliError> {
    let mut out = DeleteOptions::default();
    let batch = number(environment, "ALCHEMY_DESTROY_BATCH_SIZE")?;
    if batch == Some(0) {
        return Err(CliError::usage(
            "`$ALCHEMY_DESTROY_BATCH_SIZE` is 0, expected at least 1",
        ));
    }
    let batch = batch.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if let Some(name) = environment.get("ALCHEMY_DESTROY_STRATEGY") {
        out.strategy = match name {
            "sequential" => DeleteStrategy::Sequential,
            "parallel" => DeleteStrategy::Parallel,
            "batched" => DeleteStrategy::Batched(batch.unwrap_or(10)),
            other => {
                return Err(
                    CliError::usage(format!("`$ALCHEMY_DESTROY_STRATEGY` is `{other}`"))
                        .with_help("strategies are `sequential`, `parallel` and `batched`"),
                );
            }
        };
    } else if let Some(size) = batch {
        out.strategy = DeleteStrategy::Batched(size);
    }
    if let Some(retries) = number(environment, "ALCHEMY_DESTROY_MAX_RETRIES")? {
        out.max_retries = u32::try_from(retries).unwrap_or(u32::MAX);
    }
    if let Some(delay) = number(environment, "ALCHEMY_DESTROY_RETRY_DELAY")? {
        out.retry_delay = Duration::from_millis(delay);
    }
    if let Some(timeout) = number(environment, "ALCHEMY_DESTROY_TIMEOUT")? {
        out.timeout = Some(Duration::from_millis(timeout));
    }
    if let Some(dry_run) = flag(environment, "ALCHEMY_DESTROY_DRY_RUN")? {
        out.dry_run = dry_run;
    }
    if let Some(go_on) = flag(environment, "ALCHEMY_DESTROY_CONTINUE_ON_ERROR")? {
        out.continue_on_error = go_on;
    }
    Ok(out)
}
