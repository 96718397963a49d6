//! Runs a script against a stage: what `run`, `plan` and `read` share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    cli::{
        Context,
        args::{DEFAULT_SCRIPT, RunFlags, ScriptArgs},
        error::CliError,
        exit::Exit,
        settings::Settings,
        settle::settle,
        signals::Signals,
        wiring::{self, Host, RunLauncher, Start},
    },
    engine::{Phase, Plan, Run, Summary},
    model::{Diagnostic, diagnostic::codes},
    util::fs,
};

/// How long a run that is to stop at once waits for what threads of it cannot be told to leave.
const PARTING: Duration = Duration::from_millis(200);

/// A script on disk.
pub(super) struct Script {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// As the user named it.
    pub(super) name: String,
    /// Its folder: the project.
    pub(super) folder: PathBuf,
    /// Its name within the project.
    pub(super) within: String,
}

/// A first script, for somebody who has none.
const FIRST_SCRIPT: &str = r#"or begin with this one: `alch run` deploys it, `alch local serve` runs it
let app = alchemy("hello");
let site = Worker("site", #{
    script: "export default { fetch() { return new Response('hello') } }",
});
print(site.url);
"#;

impl Script {
    /// Finds the script that is named; a folder stands for the script in it.
    pub(super) fn find(context: &Context, file: &Path) -> Result<Self, CliError> {
        let mut name = file.to_owned();
        let mut path = context.environment.folder.join(file);
        if path.is_dir() {
            name.push(DEFAULT_SCRIPT);
            path.push(DEFAULT_SCRIPT);
        }
        let shown = name.display().to_string();
        let (Some(folder), Some(within)) = (path.parent(), path.file_name()) else {
            return Err(CliError::new(
                codes::NO_SCRIPT,
                format!("`{shown}` is no file"),
            ));
        };
        if !path.exists() {
            let error = CliError::new(codes::NO_SCRIPT, format!("there is no script `{shown}`"));
            return Err(if name == Path::new(DEFAULT_SCRIPT) {
                first_steps(error, folder)
            } else if file == Path::new(DEFAULT_SCRIPT) {
                error.with_help("name one: `alch run FILE`, or go to the folder that holds it")
            } else {
                error.with_help("look for a typo in the path; it is relative to the working folder")
            });
        }
        Ok(Self {
            folder: folder.to_owned(),
            within: within.to_string_lossy().into_owned(),
            name: shown,
            path,
        })
    }
}

/// What to do where no script has the usual name: run one that is there, or write the first one.
fn first_steps(error: CliError, folder: &Path) -> CliError {
    // A folder that cannot be read holds none that could be run.
    let mut scripts: Vec<String> = fs::list(folder)
        .unwrap_or_default()
        .iter()
        .filter(|path| path.extension().is_some_and(|found| found == "rhai"))
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    scripts.sort();
    let Some(script) = scripts.first() else {
        return error
            .with_help("go to the folder that holds it")
            .with_help(FIRST_SCRIPT.trim_end());
    };
    error.with_help(format!(
        "name one: `alch run {script}`, or go to the folder that holds it"
    ))
}

/// What a run is asked for on the command line.
#[derive(Clone, Default)]
pub(super) struct Request {
    /// What for; the script's own when `None`.
    pub(super) phase: Option<Phase>,
    /// Take over objects that are there already.
    pub(super) adopt: bool,
    /// Update resources even when nothing changed.
    pub(super) force: bool,
    /// Look at what the providers have first.
    pub(super) refresh: bool,
    /// Record the objects of declared resources that state does not know, and do nothing else.
    pub(super) rebuild: bool,
    /// Operations at once.
    pub(super) concurrency: Option<u16>,
    /// Consent to replacements that lose data.
    pub(super) allow_data_loss: bool,
    /// A saved plan to keep to.
    pub(super) plan: Option<Arc<Plan>>,
}

/// How it ended.
pub(super) struct Deployed {
    /// The exit code.
    pub(super) exit: Exit,
    /// The run, if it came to one.
    pub(super) run: Option<Arc<Run>>,
}

/// Runs a script.
pub(super) fn deploy(
    context: &Context,
    script: &ScriptArgs,
    flags: &RunFlags,
    request: Request,
) -> Result<Deployed, CliError> {
    deploy_stage(context, script, flags, request, false)
}

/// Runs a script; `delete_adopted` says what phase `destroy` does with adopted objects.
pub(super) fn deploy_stage(
    context: &Context,
    args: &ScriptArgs,
    flags: &RunFlags,
    request: Request,
    delete_adopted: bool,
) -> Result<Deployed, CliError> {
    let script = Script::find(context, &args.file)?;
    let settings = Settings::resolve(&context.environment, flags, Some(&script.folder))?;
    let host = Host::new(context, &settings, &script.folder, args.arguments.clone());
    let program = host.load(&script.path)?;
    let runtime = wiring::runtime()?;
    let signals = Signals::watch(&runtime, &host.cancel, &context.ui)?;
    let start = Start {
        phase: request.phase.unwrap_or(Phase::Up),
        fixed_phase: request.phase.is_some(),
        adopt: request.adopt,
        force: request.force,
        refresh: request.refresh,
        rebuild: request.rebuild,
        concurrency: request.concurrency,
        allow_data_loss: request.allow_data_loss,
        delete_adopted,
        script: Some(script.within.clone()),
        plan: request.plan,
    };
    let launcher = Arc::new(RunLauncher::new(
        context,
        &host,
        settings,
        start,
        &script.folder,
        runtime.handle().clone(),
    )?);
    let result = host.run(&program, Arc::clone(&launcher), &runtime);
    let exit = signals
        .exit()
        .unwrap_or_else(|| exit(result.error.as_ref(), result.summary.as_ref()));
    settle(
        context,
        &runtime,
        &launcher.client(),
        &host.cancel,
        result.summary.as_ref(),
        launcher.started().as_deref(),
    );
    if result.summary.is_some() {
        // The run is over and the process ends soon: taking ten thousand records apart would be a tenth of its time.
        std::mem::forget(launcher.started());
    }
    if let Some(error) = result.error {
        context.ui.diagnostic(error);
    }
    if signals.exit().is_some() {
        // A name that is still being looked up would be waited for.
        runtime.shutdown_timeout(PARTING);
    }
    Ok(Deployed {
        exit,
        run: launcher.started(),
    })
}

fn exit(error: Option<&Diagnostic>, summary: Option<&Summary>) -> Exit {
    let of_summary = summary.map_or(Exit::Success, Exit::of_summary);
    // A mistake in the script makes any run incomplete; what failed or was stopped besides says more.
    let resources_failed = summary
        .is_some_and(|summary| summary.failed.len() + summary.skipped.len() > summary.handled);
    match error {
        Some(_) if resources_failed || of_summary == Exit::Cancelled => of_summary,
        Some(error) => Exit::of_diagnostic(error),
        None => of_summary,
    }
}
