//! `alch scope ..`: stages and scopes as a whole, and their locks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Context,
        args::{ScopeCommand, StageArgs},
        commands::{
            backups, cleanup,
            history::{self, Entry},
            rebuild,
            state::{display, records_of},
        },
        error::CliError,
        exit::Exit,
        select::Project,
    },
    engine::diagnose::Damage,
    model::{Diagnostic, ResourceId, StageName, StagePath},
    state::{LockStatus, StateError},
    ui::table,
    util::{
        clock::{Clock as _, SystemClock},
        text::{duration, plural},
    },
};

/// Deployments that `inspect` shows.
const RECENT: usize = 5;

pub(in crate::cli) fn run(context: &Context, command: &ScopeCommand) -> Result<Exit, CliError> {
    match command {
        ScopeCommand::List { app } => list(context, app.as_deref()),
        ScopeCommand::Inspect { stage } => inspect(context, stage),
        ScopeCommand::State { stage, scope } => state(context, stage, scope.as_deref()),
        ScopeCommand::Validate { stage, all } => validate(context, stage, *all),
        ScopeCommand::Locks { app, stage } => locks(context, app.as_deref(), stage.as_deref()),
        ScopeCommand::Unlock { stage, test, force } => {
            unlock(context, stage, test.as_deref(), *force)
        }
        ScopeCommand::Backups { stage } => backups::list(context, stage),
        ScopeCommand::Restore(args) => backups::restore(context, args),
        ScopeCommand::Rebuild(args) => rebuild::run(context, args),
        ScopeCommand::Reset(args) => cleanup::reset(context, args),
        ScopeCommand::Cleanup(args) => cleanup::run(context, args),
        ScopeCommand::Logs { stage, deployment } => {
            history::log(context, stage, deployment.as_deref())
        }
    }
}

fn list(context: &Context, app: Option<&str>) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let mut exit = Exit::Success;
    let mut scopes: Vec<(String, Option<usize>)> = Vec::new();
    for stage in project.stages()? {
        if app.is_some_and(|app| app != stage.app.as_str()) {
            continue;
        }
        let state = match project.runtime.block_on(project.store.load(&stage)) {
            Ok(Some(state)) => state,
            Ok(None) => continue,
            Err(error) => {
                // One damaged stage must not hide the others.
                exit = context.report(error.into());
                scopes.push((stage.to_string(), None));
                continue;
            }
        };
        let mut counts: BTreeMap<String, usize> = BTreeMap::from([(stage.to_string(), 0)]);
        for fqn in state.records.keys() {
            let Some((scope, _)) = fqn.as_str().rsplit_once('/') else {
                continue;
            };
            *counts.entry(scope.to_owned()).or_default() += 1;
        }
        scopes.extend(
            counts
                .into_iter()
                .map(|(scope, count)| (scope, Some(count))),
        );
    }
    let rows: Vec<[String; 2]> = scopes
        .iter()
        .map(|(scope, count)| {
            let count = count.map_or("unreadable".to_owned(), |count| count.to_string());
            [scope.clone(), count]
        })
        .collect();
    let objects: Vec<Json> = scopes
        .iter()
        .map(|(scope, count)| match count {
            Some(count) => json!({ "scope": scope, "resources": count }),
            None => json!({ "scope": scope, "damaged": true }),
        })
        .collect();
    let text = if rows.is_empty() {
        "no scope has state here".to_owned()
    } else {
        table::render(["SCOPE", "RESOURCES"], &rows)
    };
    context
        .ui
        .result("scopes", json!({ "scopes": objects }), text);
    Ok(exit)
}

fn inspect(context: &Context, args: &StageArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let (recent, exit) = history::read(context, &project, &stage, RECENT)?;
    let key = state
        .header
        .key
        .as_ref()
        .map(|key| json!({ "source": key.source, "id": key.key_id }));
    let fields = json!({
        "stage": stage.to_string(),
        "target": state.header.target,
        "script": state.header.script,
        "lineage": state.lineage,
        "serial": state.serial,
        "epoch": state.epoch,
        "key": key,
        "resources": state.records.len(),
        "unresolved": state.open_intents.values().map(|intent| json!({
            "fqn": intent.fqn,
            "operation": intent.operation,
            "physical_name": intent.physical_name,
            "at": intent.at.to_string(),
        })).collect::<Vec<_>>(),
        "deployments": history::items(&recent),
    });
    let mut text = format!("stage       {stage}\n");
    for (name, value) in [
        ("target", state.header.target.clone().unwrap_or_default()),
        ("script", state.header.script.clone().unwrap_or_default()),
        ("resources", state.records.len().to_string()),
        ("serial", state.serial.to_string()),
        ("epoch", state.epoch.to_string()),
        ("lineage", state.lineage.clone()),
    ] {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    if let Some(key) = &state.header.key {
        let source = match key.source {
            crate::state::record::KeySource::Password => "password",
            crate::state::record::KeySource::File => "key file",
        };
        text.push_str(&format!("secrets     {source} (key {})\n", key.key_id));
    }
    for intent in state.open_intents.values() {
        text.push_str(&format!(
            "unresolved  {} since {}; the next run resolves it\n",
            intent.fqn.within_stage(),
            intent.at
        ));
    }
    for entry in &recent {
        let deployment = match entry {
            Entry::Whole(deployment) => deployment,
            Entry::Unreadable(id) => {
                text.push_str(&format!("deployment  {id} is unreadable\n"));
                continue;
            }
        };
        text.push_str(&format!(
            "deployment  {} {} by {}@{}, {}\n",
            deployment.finished_at,
            deployment.command,
            deployment.actor,
            deployment.host,
            deployment.result
        ));
    }
    context.ui.result("stage", fields, text.trim_end());
    Ok(exit)
}

fn state(context: &Context, args: &StageArgs, scope: Option<&str>) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let records: Vec<Json> = records_of(&state, &stage, scope)?
        .into_iter()
        .map(display)
        .collect();
    let fields =
        json!({ "stage": stage.to_string(), "serial": state.serial, "resources": records });
    let text = format!("{fields:#}");
    context.ui.result("scope_state", fields, text);
    Ok(Exit::Success)
}

fn validate(context: &Context, args: &StageArgs, all: bool) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let stages = if all {
        project.stages()?
    } else {
        let stage = project.stage(context, args)?.0;
        // A damaged stage may not be in the list, but then something is found in it.
        let whole = project
            .runtime
            .block_on(project.store.validate(&stage))?
            .is_empty();
        if whole && !project.stages()?.contains(&stage) {
            return Err(project.no_stage(&stage)?);
        }
        vec![stage]
    };
    let mut damaged = 0;
    let mut kinds = BTreeSet::new();
    for stage in &stages {
        let problems = project.runtime.block_on(project.store.validate(stage))?;
        damaged += problems.len();
        kinds.extend(problems.iter().map(|problem| match problem {
            StateError::Corrupt { stage, place, .. } => Damage::of(stage, place),
            _ => Damage::State,
        }));
        report(context, stage, problems);
    }
    if damaged == 0 {
        return Ok(Exit::Success);
    }
    for kind in kinds {
        context.ui.note(match kind {
            Damage::State => {
                "to repair: `alch scope rebuild` takes what is whole, and looks for the rest; `alch scope restore` goes back \
                 to a backup"
            }
            Damage::History => {
                "to repair: `alch scope cleanup` sets damaged backups and records of finished runs aside; the state does \
                 not need them"
            }
            Damage::Lock => {
                "to repair: `alch scope unlock --force` makes a damaged lock anew, where nothing runs any more"
            }
        });
    }
    Ok(Exit::Corrupt)
}

fn report(context: &Context, stage: &StagePath, problems: Vec<StateError>) {
    if problems.is_empty() {
        context.ui.result(
            "valid",
            json!({ "stage": stage.to_string() }),
            format!("{stage}: no damage found"),
        );
    }
    for problem in problems {
        for diagnostic in CliError::from(problem).diagnostics {
            // The next step stands once at the end and not with every file.
            context.ui.diagnostic(Diagnostic {
                help: Vec::new(),
                ..diagnostic
            });
        }
    }
}

fn locks(context: &Context, app: Option<&str>, stage: Option<&str>) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let apps = match app {
        Some(_) => vec![project.app(app)?],
        None => project.runtime.block_on(project.store.apps())?,
    };
    let mut found: Vec<LockStatus> = Vec::new();
    for app in &apps {
        found.extend(project.runtime.block_on(project.store.locks(app))?);
    }
    found.retain(|lock| {
        stage.is_none_or(|stage| {
            let of = lock.stage.stage.test_parts().map(|(_, of)| of);
            stage == of.unwrap_or(lock.stage.stage.as_str())
        })
    });
    let now = SystemClock.now();
    let held = |lock: &LockStatus| {
        // Clocks of two machines may disagree; nobody holds a lock for less than no time.
        let held = now.duration_since(lock.holder.acquired_at);
        Duration::try_from(held).unwrap_or_default()
    };
    let rows: Vec<[String; 5]> = found
        .iter()
        .map(|lock| {
            let alive = match lock.alive {
                Some(true) => "alive",
                Some(false) => "dead",
                None => "unknown",
            };
            [
                lock.stage.to_string(),
                alive.to_owned(),
                duration(held(lock)),
                duration(Duration::from_millis(lock.heartbeat_age_ms)),
                lock.holder.to_string(),
            ]
        })
        .collect();
    let text = if rows.is_empty() {
        "no locks".to_owned()
    } else {
        table::render(
            ["STAGE", "HOLDER IS", "HELD FOR", "LAST SIGN", "HELD BY"],
            &rows,
        )
    };
    let locks: Vec<Json> = found
        .iter()
        .map(|lock| {
            json!({
                "stage": lock.stage,
                "holder": lock.holder,
                "alive": lock.alive,
                "held_ms": u64::try_from(held(lock).as_millis()).unwrap_or(u64::MAX),
                "heartbeat_age_ms": lock.heartbeat_age_ms,
            })
        })
        .collect();
    context.ui.result("locks", json!({ "locks": locks }), text);
    Ok(Exit::Success)
}

fn unlock(
    context: &Context,
    args: &StageArgs,
    test: Option<&str>,
    force: bool,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (mut stage, _) = project.stage(context, args)?;
    if let Some(id) = test {
        let id = ResourceId::new(id)?;
        stage.stage = StageName::test(&id, &stage.stage)
            .ok_or_else(|| CliError::usage(format!("`{stage}` is the stage of a test itself")))?;
    }
    let removed = project
        .runtime
        .block_on(project.store.unlock(&stage, force))
        .map_err(|error| {
            let is_locked = matches!(error, StateError::Locked { .. });
            let mut error = CliError::from(error);
            if !is_locked {
                return error;
            }
            // Waiting is advice for a run.
            for diagnostic in &mut error.diagnostics {
                diagnostic.help.clear();
            }
            let named = match stage.stage.test_parts() {
                Some((id, of)) => format!("--stage {of} --test {id}"),
                None => format!("--stage {}", stage.stage),
            };
            error.with_help(format!(
                "if you are sure that it does no more: `alch scope unlock --app {} {named} --force`",
                stage.app
            ))
        })?;
    if !removed && test.is_none() {
        project.require_known(&stage)?;
    }
    let text = if removed {
        format!("removed the lock of {stage}")
    } else {
        format!("{stage} was not locked{}", plural_hint(&project)?)
    };
    context.ui.result(
        "unlocked",
        json!({ "stage": stage.to_string(), "removed": removed }),
        text,
    );
    Ok(Exit::Success)
}

/// Says how many stages are locked, for the one who named the wrong one.
fn plural_hint(project: &Project) -> Result<String, CliError> {
    let mut count = 0;
    for app in project.runtime.block_on(project.store.apps())? {
        count += project.runtime.block_on(project.store.locks(&app))?.len();
    }
    Ok(match count {
        0 => String::new(),
        count => format!("; `alch scope locks` lists {}", plural(count, "lock")),
    })
}
