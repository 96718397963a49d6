//! `alch run`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    cli::{
        Context,
        args::{DEFAULT_SCRIPT, PhaseName, RunArgs},
        deploy::{Request, deploy},
        error::CliError,
        exit::Exit,
        settings::Target,
    },
    engine::{Phase, Plan},
    model::diagnostic::codes,
    util::fs,
};

pub(in crate::cli) fn run(context: &Context, args: &RunArgs) -> Result<Exit, CliError> {
    let phase = match (args.phase, args.read, args.destroy) {
        (Some(PhaseName::Read), ..) | (_, true, _) => Some(Phase::Read),
        (Some(PhaseName::Destroy), ..) | (_, _, true) => Some(Phase::Destroy),
        (Some(PhaseName::Up), ..) => Some(Phase::Up),
        (None, false, false) => None,
    };
    let mut flags = args.flags.clone();
    let mut request = Request {
        phase,
        adopt: args.adopt,
        force: args.force,
        refresh: args.refresh,
        rebuild: false,
        concurrency: args.concurrency,
        allow_data_loss: args.allow_data_loss,
        plan: None,
    };
    let mut script = args.script.clone();
    if let Some(file) = &args.plan {
        let plan = read_plan(context, file)?;
        let stage = plan.stage.stage.as_str();
        if let Some(other) = flags.stage.as_deref().filter(|other| *other != stage) {
            return Err(CliError::usage(format!(
                "`{}` is a plan for stage `{stage}`, not for `{other}`",
                file.display()
            )));
        }
        flags.stage = Some(stage.to_owned());
        if flags.target.is_none() {
            flags.target = Some(Target::parse(&plan.target, "the plan")?);
        }
        script.file = planned_script(&plan, file, script.file)?;
        request.phase = Some(Phase::Up);
        request.adopt |= plan.adopt;
        request.force |= plan.force;
        request.refresh |= plan.refresh;
        request.allow_data_loss |= plan.allow_data_loss;
        request.plan = Some(Arc::new(plan));
    }
    Ok(deploy(context, &script, &flags, request)?.exit)
}

/// The script that a plan was made from; naming another one is a mistake.
fn planned_script(plan: &Plan, file: &Path, named: PathBuf) -> Result<PathBuf, CliError> {
    if named == Path::new(DEFAULT_SCRIPT) {
        return Ok(plan.file.as_ref().map_or(named, PathBuf::from));
    }
    let Some(script) = &plan.script else {
        return Ok(named);
    };
    // A folder stands for the script in it.
    let name = match named.file_name() {
        Some(name) if name == script.as_str() || named.extension().is_none() => None,
        name => name,
    };
    match name {
        None => Ok(named),
        Some(other) => Err(CliError::usage(format!(
            "`{}` is a plan for `{script}`, not for `{}`",
            file.display(),
            other.display()
        ))),
    }
}

fn read_plan(context: &Context, file: &Path) -> Result<Plan, CliError> {
    let bytes = fs::read(&context.environment.folder.join(file)).map_err(|error| {
        CliError::usage(format!("cannot read the plan `{}`", file.display()))
            .with_note(error.source.to_string())
            .with_help(format!("make it with `alch plan --out {}`", file.display()))
    })?;
    Plan::from_file(&bytes).map_err(|problem| {
        let out = match Plan::is_file(&bytes) {
            true => file.display().to_string(),
            false => "plan.json".to_owned(),
        };
        CliError::new(
            codes::STALE_PLAN,
            format!("`{}` is not a usable plan: {problem}", file.display()),
        )
        .with_help(format!("make a new one with `alch plan --out {out}`"))
    })
}
