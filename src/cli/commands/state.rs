//! `alch state ls|show|mv|rm`: single resources as state knows them.

use std::io;

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Context,
        args::{StageArgs, StateCommand},
        commands::{backups, history, transfer},
        error::CliError,
        exit::Exit,
        select::{Project, fqn, known},
        settings::Settings,
    },
    engine::rename::rename,
    model::{Fqn, StagePath, Value},
    secret::Keyring,
    state::{JournalEntry, LockRequest, Record, Session, StageState},
    ui::{prompt, table},
    util::{ids::SystemIds, text::plural},
};

pub(in crate::cli) fn run(context: &Context, command: &StateCommand) -> Result<Exit, CliError> {
    match command {
        StateCommand::Ls { stage, scope } => list(context, stage, scope.as_deref()),
        StateCommand::Show { stage, resource } => show(context, stage, resource),
        StateCommand::Mv { stage, from, to } => rename_in_state(context, stage, from, to),
        StateCommand::History { stage, limit } => history::list(context, stage, *limit),
        StateCommand::Diff { stage, from, to } => {
            backups::diff(context, stage, from.as_deref(), to)
        }
        StateCommand::Export { stage, out } => backups::export(context, stage, out.as_deref()),
        StateCommand::Import { put, file } => backups::import(context, put, file),
        StateCommand::Rm {
            stage,
            resource,
            yes,
        } => forget(context, stage, resource, *yes),
        StateCommand::Push(args) => transfer::push(context, args),
        StateCommand::Pull(args) => transfer::pull(context, args),
        StateCommand::MigrateStore(args) => transfer::migrate(context, args),
    }
}

fn list(context: &Context, args: &StageArgs, scope: Option<&str>) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let records: Vec<&Record> = records_of(&state, &stage, scope)?;
    let rows: Vec<[String; 4]> = records
        .iter()
        .map(|record| {
            let mut status = record.status.to_string();
            if record.adopted {
                status.push_str(", adopted");
            }
            if record.protect {
                status.push_str(", protected");
            }
            [
                record.fqn.to_string(),
                record.kind.to_string(),
                record.physical_name.clone(),
                status,
            ]
        })
        .collect();
    let objects: Vec<Json> = records
        .iter()
        .map(|record| {
            json!({
                "fqn": record.fqn,
                "kind": record.kind,
                "physical_name": record.physical_name,
                "status": record.status,
                "adopted": record.adopted,
                "protect": record.protect,
            })
        })
        .collect();
    let text = table::render(["FQN", "KIND", "PHYSICAL NAME", "STATUS"], &rows);
    context
        .ui
        .result("resources", json!({ "resources": objects }), text);
    Ok(Exit::Success)
}

/// The records of a stage or of one scope in it, in declaration order.
pub(super) fn records_of<'a>(
    state: &'a StageState,
    stage: &StagePath,
    scope: Option<&str>,
) -> Result<Vec<&'a Record>, CliError> {
    let prefix = match scope {
        Some(scope) => format!("{}/", fqn(stage, scope)?),
        None => format!("{stage}/"),
    };
    let mut order = state.deletion_order();
    order.reverse();
    let records: Vec<&Record> = order
        .iter()
        .filter(|name| name.as_str().starts_with(&prefix))
        .filter_map(|name| state.records.get(name))
        .map(std::convert::AsRef::as_ref)
        .collect();
    match scope {
        Some(scope) if records.is_empty() => Err(CliError::new(
            crate::model::diagnostic::codes::NO_STAGE,
            format!("scope `{scope}` of {stage} has no state"),
        )
        .with_help("`alch scope list` lists the scopes")),
        _ => Ok(records),
    }
}

/// A record for people and programs: secrets masked.
pub(super) fn display(record: &Record) -> Json {
    json!({
        "fqn": record.fqn,
        "kind": record.kind,
        "status": record.status,
        "physical_name": record.physical_name,
        "props": Value::Map(record.props.clone()).to_display_json(),
        "outputs": Value::Map(record.outputs.clone()).to_display_json(),
        "depends_on": record.depends_on,
        "adopted": record.adopted,
        "protect": record.protect,
        "retain": record.retain,
        "old_objects": record.old_objects.iter().map(|old| &old.physical_name).collect::<Vec<_>>(),
        "position": record.position.as_ref().map(ToString::to_string),
        "created_at": record.created_at.to_string(),
        "updated_at": record.updated_at.to_string(),
    })
}

fn show(context: &Context, args: &StageArgs, resource: &str) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let name = known(&state, &stage, resource)?;
    let record = &state.records[&name];
    let fields = display(record);
    let text = format!("{fields:#}");
    context.ui.result("resource", fields, text);
    Ok(Exit::Success)
}

/// Opens a stage for writing, lets `change` make journal entries, and writes them.
fn edit(
    context: &Context,
    project: &Project,
    stage: &StagePath,
    settings: &Settings,
    change: impl FnOnce(&mut StageState) -> Result<Vec<JournalEntry>, CliError>,
) -> Result<(), CliError> {
    // Taking the lock would make the stage, so one that is not there is found out before.
    project.load(stage)?;
    let request = LockRequest {
        wait: settings.lock_wait,
        command: context.command_line.clone(),
    };
    project.runtime.block_on(async {
        let session = project.store.open(stage, request).await?;
        let mut state = session.take_state();
        let result = match change(&mut state) {
            Ok(entries) => write(session.as_ref(), &state, entries).await,
            Err(error) => Err(error),
        };
        let released = session.release().await;
        result?;
        Ok(released?)
    })
}

async fn write(
    session: &dyn Session,
    state: &StageState,
    entries: Vec<JournalEntry>,
) -> Result<(), CliError> {
    session.append(entries).await?;
    Ok(session.checkpoint(state.header.clone()).await?)
}

fn rename_in_state(
    context: &Context,
    args: &StageArgs,
    from: &str,
    to: &str,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, settings) = project.stage(context, args)?;
    let (from, to) = (fqn(&stage, from)?, fqn(&stage, to)?);
    let mut count = 0;
    edit(context, &project, &stage, &settings, |state| {
        let keyring = Keyring::new(
            stage.clone(),
            state.header.key.clone(),
            settings.key(None),
            std::sync::Arc::new(SystemIds),
        );
        let entries = rename(state, &keyring, &from, &to)?;
        let mut renamed: Vec<(Fqn, Fqn)> = Vec::new();
        for entry in &entries {
            if let JournalEntry::Renamed { from, record } = entry {
                renamed.push((from.clone(), record.fqn.clone()));
            }
        }
        for name in &mut state.header.order {
            if let Some((_, new)) = renamed.iter().find(|(old, _)| old == name) {
                *name = new.clone();
            }
        }
        count = renamed.len();
        Ok(entries)
    })?;
    context.ui.result(
        "renamed",
        json!({ "from": from, "to": to, "resources": count }),
        format!(
            "renamed {} to {} ({}); rename it in the script as well",
            from.within_stage(),
            to.within_stage(),
            plural(count, "resource")
        ),
    );
    Ok(Exit::Success)
}

fn forget(
    context: &Context,
    args: &StageArgs,
    resource: &str,
    yes: bool,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, settings) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let name = known(&state, &stage, resource)?;
    let record = &state.records[&name];
    let dependents: Vec<&str> = state
        .records
        .values()
        .filter(|other| other.depends_on.contains(&name))
        .map(|other| other.fqn.within_stage())
        .collect();
    let mut question = format!(
        "forget {} ({}, `{}`)? The object itself stays and nothing will manage it.",
        name.within_stage(),
        record.kind,
        record.physical_name
    );
    if !dependents.is_empty() {
        question.push_str(&format!(" These depend on it: {}.", dependents.join(", ")));
    }
    consent(
        context,
        yes,
        &question,
        name.id(),
        &format!(
            "alch state rm {} --stage {} --yes",
            name.within_stage(),
            stage.stage
        ),
    )?;
    edit(context, &project, &stage, &settings, |state| {
        state.header.order.retain(|other| *other != name);
        Ok(vec![JournalEntry::Removed { fqn: name.clone() }])
    })?;
    context.ui.result(
        "forgotten",
        json!({ "fqn": name }),
        format!("forgot {}", name.within_stage()),
    );
    Ok(Exit::Success)
}

/// Goes on only with the user's word; without a terminal that is `--yes`.
pub(super) fn consent(
    context: &Context,
    yes: bool,
    question: &str,
    answer: &str,
    command: &str,
) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !prompt::interactive() {
        return Err(
            CliError::usage("this needs consent, and there is no terminal to ask on")
                .with_note(question.to_owned())
                .with_help(format!("`{command}`")),
        );
    }
    let consented = prompt::confirm(&context.ui, question, answer)
        .map_err(|error: io::Error| CliError::usage(format!("no answer: {error}")))?;
    if consented {
        return Ok(());
    }
    Err(
        CliError::new(crate::model::diagnostic::codes::CANCELLED, "not confirmed")
            .with_note("nothing was changed"),
    )
}
