//! `alch plan`.

use std::path::Path;

use crate::{
    cli::{
        Context,
        args::PlanArgs,
        deploy::{Request, deploy},
        error::CliError,
        exit::Exit,
    },
    engine::{Phase, Plan},
    model::diagnostic::codes,
    util::fs,
};

pub(in crate::cli) fn run(context: &Context, args: &PlanArgs) -> Result<Exit, CliError> {
    if let Some(file) = &args.out {
        may_overwrite(context, file)?;
    }
    let request = Request {
        phase: Some(Phase::Plan),
        adopt: args.adopt,
        force: args.force,
        refresh: args.refresh,
        rebuild: false,
        concurrency: None,
        allow_data_loss: args.allow_data_loss,
        plan: None,
    };
    let deployed = deploy(context, &args.script, &args.flags, request)?;
    let Some(run) = deployed.run.filter(|_| deployed.exit == Exit::Success) else {
        return Ok(deployed.exit);
    };
    let plan = Plan {
        file: Some(args.script.file.display().to_string()),
        ..run.plan()
    };
    if let Some(file) = &args.out {
        if run.is_partial() {
            return Err(CliError::new(
                codes::FORCED_UNKNOWN,
                format!(
                    "`{}` was not written: the plan could not follow the script to its end",
                    file.display()
                ),
            )
            .with_note("a saved plan is kept to exactly, and this one leaves open what comes")
            .with_help("`alch run` without a saved plan decides as it goes"));
        }
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
    // What a plan could not follow may hold changes.
    if args.detailed_exitcode && (!plan.is_empty() || run.is_partial()) {
        return Ok(Exit::Changes);
    }
    Ok(Exit::Success)
}

/// A slip in the name must not cost the script: only a plan, or an empty file, is written over.
fn may_overwrite(context: &Context, file: &Path) -> Result<(), CliError> {
    match fs::read_if_present(&context.environment.folder.join(file))? {
        Some(bytes) if !bytes.is_empty() && !Plan::is_file(&bytes) => Err(CliError::usage(
            format!("`{}` is there already and is no plan", file.display()),
        )
        .with_note("nothing was changed")
        .with_help("choose another name: `alch plan --out plan.json`")),
        _ => Ok(()),
    }
}
