//! `alch scope cleanup` and `alch scope reset`.

use serde_json::json;

use crate::{
    cli::{
        Context,
        args::{CleanupArgs, ResetArgs},
        commands::put::{self, Present, Put},
        error::CliError,
        exit::Exit,
        select::Project,
    },
    model::StagePath,
    state::{LockRequest, Snapshot, StageHeader, StageState, StateError},
    util::text::plural,
};

pub(super) fn run(context: &Context, args: &CleanupArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (selected, settings) = match args.all {
        // Any stage tells the settings that hold for all.
        true => (None, project.settings(context, &args.stage)?),
        false => {
            let (stage, settings) = project.stage(context, &args.stage)?;
            (Some(stage), settings)
        }
    };
    let stages = match selected {
        Some(stage) => {
            project.require_known(&stage)?;
            vec![stage]
        }
        None => everywhere(&project)?,
    };
    let mut removed: Vec<String> = Vec::new();
    let mut exit = Exit::Success;
    for stage in &stages {
        let request = LockRequest {
            wait: settings.lock_wait,
            command: context.command_line.clone(),
        };
        match clean(&project, stage, args.force, request) {
            Ok(files) => removed.extend(files),
            // A stage that is busy must not keep the others from being cleaned.
            Err(error) if args.all => exit = context.report(error),
            Err(error) => return Err(error),
        }
    }
    let mut text = match removed.len() {
        0 if exit != Exit::Success => "nothing was removed".to_owned(),
        0 => "nothing to clean up".to_owned(),
        count => format!("removed {}:", plural(count, "thing")),
    };
    for name in &removed {
        text.push_str(&format!("\n  {name}"));
    }
    context
        .ui
        .result("cleaned", json!({ "removed": removed }), text);
    Ok(exit)
}

/// Every stage with state, and those of which there is only a lock.
fn everywhere(project: &Project) -> Result<Vec<StagePath>, CliError> {
    let mut stages = project.stages()?;
    for app in project.runtime.block_on(project.store.apps())? {
        let locks = project.runtime.block_on(project.store.locks(&app))?;
        stages.extend(locks.into_iter().map(|lock| lock.stage));
    }
    stages.sort();
    stages.dedup();
    Ok(stages)
}

fn clean(
    project: &Project,
    stage: &StagePath,
    force: bool,
    request: LockRequest,
) -> Result<Vec<String>, CliError> {
    let store = &project.store;
    project.runtime.block_on(async {
        let mut removed = store.clean_up(stage, force, request.clone()).await?;
        let was_removed = match store.removed(stage).await {
            Ok(found) => found.is_some(),
            Err(StateError::Corrupt { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let is_empty = match store.load(stage).await {
            Ok(state) => state.is_some_and(|state| state.is_empty()),
            Err(StateError::Corrupt { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if force && was_removed {
            let session = store.open(stage, request.clone()).await?;
            let result = session.forget_stage().await;
            session.release().await?;
            result?;
            removed.push(format!("{stage} (that it was removed)"));
        }
        if force && is_empty {
            let session = store.open(stage, request).await?;
            let result = session.remove_stage().await;
            session.release().await?;
            result?;
            removed.push(format!("{stage} (a stage without resources)"));
        }
        Ok(removed)
    })
}

pub(super) fn reset(context: &Context, args: &ResetArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, settings) = project.stage(context, &args.stage)?;
    let present = Present::look(&project, &stage)?;
    let (lineage, header) = match &present {
        Present::Absent => return Err(project.no_stage(&stage)?),
        Present::Whole(state) => (state.lineage.clone(), state.header.clone()),
        Present::Damaged(_) => {
            let salvage = project.runtime.block_on(project.store.salvage(&stage))?;
            (salvage.lineage.unwrap_or_default(), salvage.snapshot.header)
        }
    };
    let empty = StageState {
        lineage,
        header: StageHeader {
            order: Vec::new(),
            ..header
        },
        ..StageState::default()
    };
    let put = Put {
        snapshot: Snapshot::of(&stage, &empty),
        origin: "nothing".to_owned(),
        command: "reset",
        with_consent: format!("alch scope reset --stage {} --yes", stage.stage),
        yes: args.yes,
    };
    let placed = put::put(context, &project, &stage, &settings, &present, put)?;
    put::tell(context, "reset", &stage, "empty", &placed);
    context.ui.note(format!(
        "`alch scope restore --stage {}` undoes it",
        stage.stage
    ));
    Ok(Exit::Success)
}
