//! `alch destroy`: deletes everything of a stage from state alone. The script is looked at only for kinds that it defines
//! itself.

use std::sync::Arc;

use crate::{
    cli::{
        Context,
        args::{DestroyArgs, ScriptArgs},
        commands::state::consent,
        deploy::{Request, deploy_stage},
        error::CliError,
        exit::Exit,
        select::Project,
        settings::{Settings, Target},
        settle::settle,
        signals::Signals,
        wiring::{self, Host, Start},
    },
    engine::{Phase, Run, RunError},
    model::{StagePath, diagnostic::codes},
    secret::VaultError,
    state::{Record, StageState},
    util::text::plural,
};

pub(in crate::cli) fn run(context: &Context, args: &DestroyArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let settings = Settings::resolve(&context.environment, &args.flags, Some(&project.folder))?;
    let stage = StagePath::new(project.app(args.app.as_deref())?, settings.stage(None)?);
    // As runs do: what an older copy lists may be somebody else's by now.
    let (_, chosen) = project
        .runtime
        .block_on(project.stores.for_run(&stage, None))?;
    let state = project.load(&stage)?;
    ask(context, args, &stage, &state)?;

    let target = match (settings.target_flag, &state.header.target) {
        (None, Some(name)) => Target::parse(name, "the stage's state")?,
        _ => settings.target(None)?,
    };
    let host = Host::new(context, &settings, &project.folder, Vec::new());
    let client = host.use_target(&settings, target)?;
    let unknown: Vec<&str> = state
        .records
        .values()
        .map(|record| record.kind.as_ref())
        .filter(|kind| host.registry.get(kind).is_none())
        .collect();
    if !unknown.is_empty() {
        return with_script(context, args, &project, &state, &unknown);
    }

    context.ui.keep_logs(wiring::logs(&project.folder));
    let signals = Signals::watch(&project.runtime, &host.cancel, &context.ui)?;
    let start = Start {
        phase: Phase::Destroy,
        concurrency: args.concurrency,
        delete_adopted: args.delete_adopted,
        script: state.header.script.clone(),
        ..Start::default()
    };
    let options = host.run_options(context, &settings, target, start);
    let summary = project.runtime.block_on(async {
        let world = host.world(Arc::clone(&project.store));
        let run = Run::start(world, stage, settings.key(None), options)
            .await
            .map_err(without_script)?;
        chosen.remember()?;
        run.destroy().await.map_err(without_script)
    });
    let summary = summary.map_err(|error| signals.stopped(error))?;
    settle(
        context,
        &project.runtime,
        &client,
        &host.cancel,
        Some(&summary),
        None,
    );
    Ok(signals.exit().unwrap_or_else(|| Exit::of_summary(&summary)))
}

/// This command does not see the password that the script passes.
fn without_script(error: RunError) -> CliError {
    let missing = matches!(&error, RunError::Vault(VaultError::MissingPassword { .. }));
    let mut error = CliError::from(error);
    if missing {
        for diagnostic in &mut error.diagnostics {
            diagnostic.help = vec![
                "set `ALCHEMY_PASSWORD`, or let the script give it: `alch run --destroy`"
                    .to_owned(),
            ];
        }
    }
    error
}

fn ask(
    context: &Context,
    args: &DestroyArgs,
    stage: &StagePath,
    state: &StageState,
) -> Result<(), CliError> {
    let target = state.header.target.as_deref().unwrap_or("local");
    let count = |test: &dyn Fn(&Record) -> bool| {
        let records = state.records.values();
        records.filter(|record| test(record.as_ref())).count()
    };
    let retained = count(&|record| record.retain);
    let adopted = match args.delete_adopted {
        true => 0,
        false => count(&|record| record.adopted && !record.retain),
    };
    let mut question = format!(
        "delete {} of stage {stage} on target {target}?",
        plural(state.records.len() - retained - adopted, "resource")
    );
    if adopted > 0 {
        question.push_str(&format!(
            " Kept: {} (`--delete-adopted` deletes them too).",
            plural(adopted, "adopted object")
        ));
    }
    if retained > 0 {
        question.push_str(&format!(
            " Kept: {} with `delete: false`.",
            plural(retained, "object")
        ));
    }
    let mut command = format!(
        "alch destroy --app {} --stage {} --yes",
        stage.app, stage.stage
    );
    if args.delete_adopted {
        command.push_str(" --delete-adopted");
    }
    consent(context, args.yes, &question, stage.stage.as_str(), &command)
}

/// Kinds that the script defines can only be deleted by it: runs it in phase `destroy`.
fn with_script(
    context: &Context,
    args: &DestroyArgs,
    project: &Project,
    state: &StageState,
    unknown: &[&str],
) -> Result<Exit, CliError> {
    let kinds = unknown.join("`, `");
    let Some(script) = &state.header.script else {
        return Err(CliError::new(
            codes::UNKNOWN_KIND,
            format!("nothing here can delete `{kinds}`"),
        )
        .with_note("nothing was changed")
        .with_help("run the script that defines it with `alch run FILE --destroy`"));
    };
    let file = project.folder.join(script);
    if !file.is_file() {
        return Err(CliError::new(
            codes::UNKNOWN_KIND,
            format!("`{kinds}` is defined by `{script}`, which is not there"),
        )
        .with_note("nothing was changed")
        .with_help("bring the script back, or forget the resource with `alch state rm`"));
    }
    let script = ScriptArgs {
        file,
        arguments: Vec::new(),
    };
    let request = Request {
        phase: Some(Phase::Destroy),
        concurrency: args.concurrency,
        ..Request::default()
    };
    let mut flags = args.flags.clone();
    if flags.target.is_none()
        && let Some(name) = &state.header.target
    {
        flags.target = Some(Target::parse(name, "the stage's state")?);
    }
    Ok(deploy_stage(context, &script, &flags, request, args.delete_adopted)?.exit)
}
