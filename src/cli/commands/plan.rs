//! `alch plan`.

use crate::{
    cli::{
        Context,
        args::PlanArgs,
        deploy::{Request, deploy},
        error::CliError,
        exit::Exit,
    },
    engine::Phase,
    util::fs,
};

pub(in crate::cli) fn run(context: &Context, args: &PlanArgs) -> Result<Exit, CliError> {
    let request = Request {
        phase: Some(Phase::Plan),
        adopt: args.adopt,
        force: args.force,
        concurrency: None,
        allow_data_loss: args.allow_data_loss,
        plan: None,
    };
    let deployed = deploy(context, &args.script, &args.flags, request)?;
    let Some(run) = deployed.run.filter(|_| deployed.exit == Exit::Success) else {
        return Ok(deployed.exit);
    };
    let plan = run.plan();
    if let Some(file) = &args.out {
        let path = context.environment.folder.join(file);
        fs::write_atomic(&path, plan.to_file().as_bytes()).map_err(|error| {
            CliError::usage(format!("cannot save the plan as `{}`", file.display()))
                .with_note(error.source.to_string())
        })?;
        context.ui.note(format!(
            "saved; `alch run --plan {}` does exactly this",
            file.display()
        ));
    }
    if args.detailed_exitcode && !plan.is_empty() {
        return Ok(Exit::Changes);
    }
    Ok(Exit::Success)
}
