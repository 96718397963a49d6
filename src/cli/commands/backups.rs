//! States besides the present one: `alch scope backups|restore`, `alch state diff|export|import`.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Context,
        args::{NOW, PutArgs, RestoreArgs, StageArgs},
        commands::put::{self, Present, Put},
        error::CliError,
        exit::Exit,
        select::Project,
    },
    model::{StagePath, diagnostic::codes},
    state::{Snapshot, SnapshotError, StageState, StateError, difference::differences},
    ui::table,
    util::{
        fs,
        text::{plural, suggestions},
    },
};

pub(super) fn list(context: &Context, args: &StageArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let found = project.runtime.block_on(project.store.backups(&stage))?;
    if found.is_empty() {
        project.require_known(&stage)?;
    }
    let mut rows: Vec<[String; 4]> = Vec::new();
    let mut objects: Vec<Json> = Vec::new();
    for backup in &found {
        let read = project
            .runtime
            .block_on(project.store.backup(&stage, &backup.name));
        let (serial, resources) = match &read {
            Ok(snapshot) => (
                snapshot.serial.to_string(),
                snapshot.records.len().to_string(),
            ),
            Err(_) => ("?".to_owned(), "unreadable".to_owned()),
        };
        objects.push(json!({
            "name": backup.name,
            "bytes": backup.bytes,
            "serial": read.as_ref().ok().map(|snapshot| snapshot.serial),
            "resources": read.as_ref().ok().map(|snapshot| snapshot.records.len()),
            "damaged": read.is_err(),
        }));
        rows.push([
            backup.name.clone(),
            serial,
            resources,
            backup.bytes.to_string(),
        ]);
    }
    let text = if rows.is_empty() {
        format!(
            "{stage} has no backup: one is made of every checkpoint before the next replaces it"
        )
    } else {
        table::render(["BACKUP", "SERIAL", "RESOURCES", "BYTES"], &rows)
    };
    context.ui.result(
        "backups",
        json!({ "stage": stage.to_string(), "backups": objects }),
        text,
    );
    Ok(Exit::Success)
}

/// Reads a backup by its name, or an exported file.
fn named(
    context: &Context,
    project: &Project,
    stage: &StagePath,
    name: &str,
) -> Result<Snapshot, CliError> {
    let backups = project.runtime.block_on(project.store.backups(stage))?;
    if backups.iter().any(|backup| backup.name == name) {
        return Ok(project
            .runtime
            .block_on(project.store.backup(stage, name))?);
    }
    let path = context.environment.folder.join(name);
    if !path.exists() {
        let names = backups.iter().map(|backup| backup.name.as_str());
        let near = suggestions(name, names, 3);
        let error = CliError::new(
            codes::NO_OBJECT,
            format!("`{name}` is neither a backup of {stage} nor a file"),
        );
        return Err(match near.as_slice() {
            [] => error.with_help(format!(
                "`alch scope backups --stage {}` lists them",
                stage.stage
            )),
            near => error.with_help(format!("did you mean `{}`?", near.join("`, `"))),
        });
    }
    file(&path, name)
}

/// Reads a file that `alch state export` wrote.
fn file(path: &Path, shown: &str) -> Result<Snapshot, CliError> {
    let bytes = fs::read(path)?;
    Snapshot::from_file(&bytes).map_err(|error| {
        let code = match error {
            SnapshotError::TooNew(_) => codes::TOO_NEW,
            SnapshotError::Damaged(_) => codes::CORRUPT,
        };
        CliError::new(
            code,
            format!("`{shown}` cannot be read as a state: {error}"),
        )
        .with_note("nothing was changed")
        .with_help("take a file that `alch state export` wrote, or a backup")
    })
}

/// The newest backup that can be read.
pub(super) fn newest(
    project: &Project,
    stage: &StagePath,
) -> Result<Option<(String, Snapshot)>, CliError> {
    for backup in project.runtime.block_on(project.store.backups(stage))? {
        match project
            .runtime
            .block_on(project.store.backup(stage, &backup.name))
        {
            Ok(snapshot) => return Ok(Some((backup.name, snapshot))),
            Err(StateError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

pub(super) fn restore(context: &Context, args: &RestoreArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, settings) = project.stage(context, &args.stage)?;
    let (name, snapshot) = match &args.backup {
        Some(name) => (name.clone(), named(context, &project, &stage, name)?),
        None => newest(&project, &stage)?.ok_or_else(|| {
            CliError::new(
                codes::NO_OBJECT,
                format!("{stage} has no backup that can be read"),
            )
            .with_help(format!(
                "`alch scope rebuild --stage {}` takes what is whole, and asks the provider for the rest",
                stage.stage
            ))
        })?,
    };
    let present = Present::look(&project, &stage)?;
    belongs(&project, &stage, &snapshot, &name, args.force)?;
    let put = Put {
        snapshot,
        origin: format!("`{name}`"),
        command: "restore",
        with_consent: format!(
            "alch scope restore --stage {} --backup {name} --yes",
            stage.stage
        ),
        yes: args.yes,
    };
    let placed = put::put(context, &project, &stage, &settings, &present, put)?;
    put::tell(
        context,
        "restored",
        &stage,
        &format!("what `{name}` says"),
        &placed,
    );
    Ok(Exit::Success)
}

pub(super) fn import(context: &Context, args: &PutArgs, path: &Path) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let shown = path.display().to_string();
    let snapshot = file(&context.environment.folder.join(path), &shown)?;
    let mut selected = args.stage.clone();
    // The file says which application it is of, also where there is no state yet.
    selected
        .app
        .get_or_insert_with(|| snapshot.stage.app.to_string());
    let (stage, settings) = project.stage(context, &selected)?;
    let present = Present::look(&project, &stage)?;
    belongs(&project, &stage, &snapshot, &shown, args.force)?;
    let later = match &present {
        Present::Whole(state) => Some((state.serial, "is at")),
        Present::Absent => {
            let removed = project.runtime.block_on(project.store.removed(&stage))?;
            removed.map(|removed| (removed.serial, "was removed at"))
        }
        Present::Damaged(_) => None,
    };
    if let Some((serial, how)) = later.filter(|(serial, _)| snapshot.serial < *serial)
        && !args.force
    {
        return Err(CliError::new(
            codes::STALE_PLAN,
            format!(
                "`{shown}` is state {} of {stage}, which {how} {serial}",
                snapshot.serial
            ),
        )
        .with_note("nothing was changed")
        .with_help("to go back to it all the same, add `--force`"));
    }
    let put = Put {
        snapshot,
        origin: format!("`{shown}`"),
        command: "import state",
        with_consent: format!("alch state import {shown} --stage {} --yes", stage.stage),
        yes: args.yes,
    };
    let placed = put::put(context, &project, &stage, &settings, &present, put)?;
    put::tell(
        context,
        "state_imported",
        &stage,
        &format!("what `{shown}` says"),
        &placed,
    );
    Ok(Exit::Success)
}

/// Refuses the state of another stage, and, unless forced, that of another project.
fn belongs(
    project: &Project,
    stage: &StagePath,
    snapshot: &Snapshot,
    shown: &str,
    force: bool,
) -> Result<(), CliError> {
    if snapshot.stage != *stage {
        return Err(CliError::usage(format!(
            "`{shown}` is the state of {}, not of {stage}",
            snapshot.stage
        ))
        .with_note("names of objects and the encryption of secrets hold for one stage only")
        .with_help(format!(
            "choose that stage: `--app {} --stage {}`",
            snapshot.stage.app, snapshot.stage.stage
        )));
    }
    let known = project
        .runtime
        .block_on(project.store.salvage(stage))?
        .lineage;
    match known {
        Some(lineage) if lineage != snapshot.lineage && !force => Err(CliError::new(
            codes::CORRUPT,
            format!(
                "`{shown}` belongs to lineage {}, this project's state to {lineage}",
                snapshot.lineage
            ),
        )
        .with_note("nothing was changed: it may describe the objects of another project")
        .with_help("if you are sure that it is about these objects, add `--force`")),
        _ => Ok(()),
    }
}

pub(super) fn export(
    context: &Context,
    args: &StageArgs,
    out: Option<&Path>,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let state = project.load(&stage)?;
    let snapshot = Snapshot::of(&stage, &state);
    let bytes = snapshot.to_file().map_err(|error| {
        CliError::new(
            codes::STATE_IO,
            format!("cannot write the state down: {error}"),
        )
    })?;
    let Some(path) = out else {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let document: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
        context.ui.result("state", document, text.trim_end());
        return Ok(Exit::Success);
    };
    fs::write_atomic(&context.environment.folder.join(path), &bytes)?;
    let shown = path.display().to_string();
    context.ui.result(
        "exported",
        json!({ "stage": stage.to_string(), "file": shown, "serial": state.serial }),
        format!(
            "wrote {} of {stage} to `{shown}`",
            plural(state.records.len(), "resource")
        ),
    );
    Ok(Exit::Success)
}

pub(super) fn diff(
    context: &Context,
    args: &StageArgs,
    from: Option<&str>,
    to: &str,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let read = |name: &str| -> Result<StageState, CliError> {
        if name == NOW {
            return project.load(&stage);
        }
        Ok(named(context, &project, &stage, name)?.into_state())
    };
    let after = read(to)?;
    let (from, before) = match from {
        Some(name) => (name.to_owned(), read(name)?),
        None => match newest(&project, &stage)? {
            Some((name, snapshot)) => (name, snapshot.into_state()),
            None => {
                return Err(CliError::new(
                    codes::NO_OBJECT,
                    format!("{stage} has no backup to compare with"),
                )
                .with_help("name two states: `alch state diff before.json now`"));
            }
        },
    };
    let differences = differences(&before, &after);
    let mut text = format!("{from} -> {to}\n");
    if differences.is_empty() {
        text.push_str("no resource differs");
    }
    text.push_str(&put::lines(&differences).join("\n"));
    context.ui.result(
        "state_diff",
        json!({ "stage": stage.to_string(), "from": from, "to": to, "differences": differences }),
        text,
    );
    Ok(Exit::Success)
}
