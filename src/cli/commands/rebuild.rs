//! `alch scope rebuild`: the state of a stage from what is whole of it, from its backups, and from what the provider has.
//!
//! First the files: whole records, and records that only a backup has, as far as their object is still there. Then the
//! script: what it declares and state still lacks is looked for at the provider by name and mark.

use std::sync::Arc;

use serde_json::json;

use crate::{
    cli::{
        Context,
        args::{DEFAULT_SCRIPT, RebuildArgs, ScriptArgs},
        commands::{
            backups,
            put::{self, Present, Put},
        },
        deploy::{Request, deploy},
        error::CliError,
        exit::Exit,
        select::Project,
        settings::{Settings, Target},
        wiring::Host,
    },
    engine::Phase,
    model::{AppName, Fqn, StagePath, diagnostic::codes},
    provider::Existing,
    secret::Keyring,
    state::{Record, Salvage, Snapshot, StageState, Status},
    util::{ids::SystemIds, text::plural},
};

pub(super) fn run(context: &Context, args: &RebuildArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let settings = Settings::resolve(&context.environment, &args.flags, Some(&project.folder))?;
    let stage = StagePath::new(app(&project, args)?, settings.stage(None)?);
    let present = Present::look(&project, &stage)?;
    let salvage = project.runtime.block_on(project.store.salvage(&stage))?;
    if !matches!(present, Present::Whole(_)) {
        from_files(
            context, args, &project, &stage, &settings, &present, salvage,
        )?;
    }
    if args.offline {
        return Ok(Exit::Success);
    }
    let script = context.environment.folder.join(&args.file);
    if !script.exists() && args.file.as_os_str() == DEFAULT_SCRIPT {
        context.ui.note(format!(
            "there is no `{DEFAULT_SCRIPT}` here, so the provider was not asked for resources that no file names"
        ));
        return Ok(Exit::Success);
    }
    let mut flags = args.flags.clone();
    flags.stage = Some(stage.stage.as_str().to_owned());
    let request = Request {
        phase: Some(Phase::Up),
        rebuild: true,
        // Nothing is replaced, so there is nothing to consent to.
        allow_data_loss: true,
        ..Request::default()
    };
    let script = ScriptArgs {
        file: args.file.clone(),
        arguments: Vec::new(),
    };
    let exit = deploy(context, &script, &flags, request)?.exit;
    context.ui.note(format!(
        "no object was changed; `alch plan --stage {}` shows what the next run would do",
        stage.stage
    ));
    Ok(exit)
}

fn app(project: &Project, args: &RebuildArgs) -> Result<AppName, CliError> {
    project.app(args.app.as_deref()).map_err(|error| {
        if args.app.is_some() {
            return error;
        }
        error.with_help("name the application of the script: `--app NAME`")
    })
}

/// Puts what the files give in the place of a stage that cannot be read or is not there.
fn from_files(
    context: &Context,
    args: &RebuildArgs,
    project: &Project,
    stage: &StagePath,
    settings: &Settings,
    present: &Present,
    salvage: Salvage,
) -> Result<(), CliError> {
    let mut state = salvage.snapshot.into_state();
    let saved = state.records.len();
    let mut origin = vec![format!("{} from its own files", plural(saved, "resource"))];
    let mut gone: Vec<Fqn> = Vec::new();
    let mut taken: Vec<Fqn> = Vec::new();
    if let Some((name, backup)) = backups::newest(project, stage)? {
        if !salvage.has_index {
            state.header.clone_from(&backup.header);
        }
        let candidates: Vec<Arc<Record>> = backup
            .records
            .iter()
            .filter(|(fqn, _)| !state.records.contains_key(*fqn))
            // Where it is known what there was, what the backup has besides was deleted since.
            .filter(|(fqn, _)| !salvage.has_index || salvage.lost.contains(fqn))
            .map(|(_, record)| Arc::clone(record))
            .collect();
        if state.lineage.is_empty() {
            state.lineage.clone_from(&backup.lineage);
        }
        let checked = match args.offline {
            true => candidates,
            false => still_there(
                context, project, settings, stage, &state, candidates, &mut gone,
            )?,
        };
        taken.extend(checked.iter().map(|record| record.fqn.clone()));
        for record in checked {
            let mut record = Record::clone(&record);
            // The backup is older than the object may be: the next run sets it to what the script says.
            if record.status == Status::Ready {
                record.status = Status::Updating;
            }
            state.records.insert(record.fqn.clone(), Arc::new(record));
        }
        if !taken.is_empty() {
            origin.push(format!("{} from `{name}`", taken.len()));
        }
    }
    if matches!(present, Present::Absent) && state.is_empty() {
        return Ok(());
    }
    state
        .header
        .order
        .retain(|fqn| state.records.contains_key(fqn));
    let put = Put {
        snapshot: Snapshot::of(stage, &state),
        origin: origin.join(" and "),
        command: "rebuild",
        with_consent: format!(
            "alch scope rebuild --app {} --stage {} --yes",
            stage.app, stage.stage
        ),
        yes: args.yes,
    };
    let placed = put::put(context, project, stage, settings, present, put)?;
    let lost: Vec<&Fqn> = salvage
        .lost
        .iter()
        .filter(|fqn| !state.records.contains_key(*fqn))
        .collect();
    context.ui.result(
        "rebuilt",
        json!({
            "stage": stage.to_string(),
            "from_files": saved,
            "from_backup": taken,
            "gone": gone,
            "lost": lost,
            "set_aside": placed.aside,
        }),
        format!("{stage}: {}", origin.join(", ")),
    );
    for fqn in &taken {
        context.ui.note(format!(
            "{}: taken from a backup; when the script does not declare it, the next run deletes its object (`alch state rm` forgets it instead)",
            fqn.within_stage()
        ));
    }
    for fqn in &gone {
        context.ui.note(format!(
            "{}: only a backup has it, and its object is gone; left out",
            fqn.within_stage()
        ));
    }
    for fqn in lost.iter().filter(|fqn| !gone.contains(**fqn)) {
        context.ui.note(format!(
            "{}: its record is lost; if the script declares it, its object is looked for now",
            fqn.within_stage()
        ));
    }
    if let Some(aside) = &placed.aside {
        context
            .ui
            .note(format!("the files that were there are in `{aside}`"));
    }
    Ok(())
}

/// Of records that only a backup has, those whose object the provider still has.
fn still_there(
    context: &Context,
    project: &Project,
    settings: &Settings,
    stage: &StagePath,
    state: &StageState,
    candidates: Vec<Arc<Record>>,
    gone: &mut Vec<Fqn>,
) -> Result<Vec<Arc<Record>>, CliError> {
    if candidates.is_empty() {
        return Ok(candidates);
    }
    let target = match (settings.target_flag, state.header.target.as_deref()) {
        (None, Some(name)) => Target::parse(name, "the stage's state")?,
        _ => settings.target(None)?,
    };
    let host = Host::new(context, settings, &project.folder, Vec::new());
    host.use_target(settings, target)?;
    let operation = host.operation(context)?;
    let keyring = Keyring::new(
        stage.clone(),
        state.header.key.clone(),
        settings.key(None),
        Arc::new(SystemIds),
    );
    project.runtime.block_on(async {
        let mut there = Vec::new();
        for record in candidates {
            // A kind that the script defines has its functions there; without them it is believed.
            let Some(provider) = host.registry.get(&record.kind) else {
                there.push(record);
                continue;
            };
            let existing = Existing {
                props: keyring.open_map(&record.props)?,
                outputs: keyring.open_map(&record.outputs)?,
                physical_name: record.physical_name.clone(),
                settled: false,
                attempted: crate::model::Map::new(),
            };
            match provider.read(&operation, &existing).await {
                Ok(Some(_)) => there.push(record),
                Ok(None) => gone.push(record.fqn.clone()),
                Err(error) => {
                    return Err(CliError::new(
                        codes::PROVIDER,
                        format!(
                            "cannot see whether `{}` is still there: {}",
                            record.physical_name, error.message
                        ),
                    )
                    .with_note("nothing was changed")
                    .with_help(
                        "try again, or believe the backup: `alch scope rebuild --offline`",
                    ));
                }
            }
        }
        Ok(there)
    })
}
