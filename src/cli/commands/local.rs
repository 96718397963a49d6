//! `alch local`: the embedded local cloud as a server, and the runtime that its Workers need.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    bundle::package,
    cli::{
        Context,
        args::{LocalCommand, LocalServeArgs, LocalTriggerArgs},
        error::CliError,
        exit::Exit,
        packages as programs,
        select::Project,
        wiring, workers,
    },
    local::{
        self, Cloud, CloudError, Port, ServeOptions,
        runtime::{
            self, Event, RuntimeError, RuntimeOptions, TriggerError,
            packages::{self, Packages, Places},
        },
    },
    model::{Diagnostic, diagnostic::codes},
    ui::Ui,
    util::{cron::Schedule, fs::FsError, npm::PackageError},
};

pub(in crate::cli) fn run(context: &Context, command: &LocalCommand) -> Result<Exit, CliError> {
    match command {
        LocalCommand::Serve(args) => serve(context, args),
        LocalCommand::Prepare => prepare(context),
        LocalCommand::Trigger(args) => trigger(context, args),
    }
}

/// `alch local serve`.
fn serve(context: &Context, args: &LocalServeArgs) -> Result<Exit, CliError> {
    if args.port != 0 && args.api_port == Some(args.port) {
        return Err(
            CliError::usage(format!("`--port` and `--api-port` are both {}", args.port))
                .with_help("Workers and the API need a port each; 0 takes any free one"),
        );
    }
    let project = Project::find(context)?;
    let options = RuntimeOptions {
        folder: absolute(&wiring::local_folder(&project.folder))?,
        project: Some(absolute(&project.folder)?),
        port: args.port,
        places: programs::runtime(&context.environment, &project.folder),
    };
    project
        .runtime
        .block_on(until_stopped(context, args, options))
}

async fn until_stopped(
    context: &Context,
    args: &LocalServeArgs,
    options: RuntimeOptions,
) -> Result<Exit, CliError> {
    let refused = |error: std::io::Error| {
        CliError::new(codes::LOCAL_RUNTIME, "cannot watch for signals").with_note(error.to_string())
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    if let Some(account) = &args.account {
        local::set_account(&options.folder, account).map_err(|error| unserved(&error))?;
    }
    // First of all: whether another server is in the way, and the port that the user knows of.
    let reserved = runtime::reserve(&options).map_err(|error| unserved(&error))?;
    let cloud = Cloud::open(&options.folder).map_err(|error| unserved(&error))?;
    let account = cloud.account().to_owned();
    for zone in &args.zone {
        local::ensure_zone(&cloud, zone)
            .await
            .map_err(|reason| unzoned(zone, &reason))?;
    }
    let api_port = args.api_port.unwrap_or_else(|| {
        args.port
            .checked_add(1)
            .filter(|_| args.port != 0)
            .unwrap_or(0)
    });
    let server = local::serve(
        cloud,
        ServeOptions {
            port: api_port,
            token: args.token.clone(),
            latency: Duration::ZERO,
        },
    )
    .await
    .map_err(|error| unserved(&error))?;
    let ui = Arc::clone(&context.ui);
    let folder = options.folder.clone();
    let runtime = runtime::start_on(reserved, options, move |event| show(&ui, event))
        .map_err(|error| unserved(&error))?;
    local::note_workers_port(&folder, runtime.address.port())?;
    let text = format!(
        "API      {}\ntoken    {}\naccount  {account}\nWorkers  {}",
        server.base_url(),
        server.token,
        runtime.url("NAME")
    );
    context.ui.result(
        "local_serve",
        json!({
            "api": server.base_url(),
            "token": server.token,
            "account": account,
            "workers": runtime.url("NAME"),
        }),
        text,
    );
    let removed = tokio::select! {
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
        () = runtime.removed() => true,
    };
    runtime.shutdown().await;
    server.shutdown().await.map_err(|error| unserved(&error))?;
    match removed {
        true => Err(vanished(&folder)),
        false => Ok(Exit::Success),
    }
}

/// The data went under the server.
fn vanished(folder: &Path) -> CliError {
    CliError::new(
        codes::LOCAL_RUNTIME,
        format!(
            "the data of this server, `{}`, was removed or replaced: it has stopped",
            folder.display()
        ),
    )
    .with_help("`alch run` deploys the project anew, and `alch local serve` runs it")
}

/// `alch local trigger`.
fn trigger(context: &Context, args: &LocalTriggerArgs) -> Result<Exit, CliError> {
    if let Some(cron) = &args.cron {
        Schedule::parse(cron).map_err(|error| {
            CliError::usage(error.to_string())
                .with_help("write it as in `0 2 * * *`; `alch help local trigger` says more")
        })?;
    }
    let project = Project::find(context)?;
    let worker = workers::name(context, &project, &args.stage, &args.worker)?;
    let folder = wiring::local_folder(&project.folder);
    let cron = match &args.cron {
        Some(cron) => cron.clone(),
        None => only_cron(&folder, &worker)?,
    };
    let triggered = runtime::trigger(&folder, &worker, &cron);
    project
        .runtime
        .block_on(triggered)
        .map_err(|error| untriggered(&error))?;
    context.ui.result(
        "local_trigger",
        json!({ "worker": worker, "cron": cron }),
        format!("`scheduled` of the Worker `{worker}` is done"),
    );
    Ok(Exit::Success)
}

/// The schedule of a Worker that has exactly one.
fn only_cron(folder: &Path, worker: &str) -> Result<String, CliError> {
    let crons = local::crons(folder, worker).map_err(|error| {
        CliError::new(codes::LOCAL_RUNTIME, "the schedules cannot be read")
            .with_note(error.to_string())
    })?;
    match crons.as_slice() {
        [cron] => Ok(cron.clone()),
        [] => Err(CliError::usage(format!(
            "the Worker `{worker}` has no schedule in the local cloud"
        ))
        .with_help("say which one it is told: `--cron \"0 2 * * *\"`")),
        several => Err(CliError::usage(format!(
            "the Worker `{worker}` has several schedules: `{}`",
            several.join("`, `")
        ))
        .with_help(format!("choose one: `--cron \"{}\"`", several[0]))),
    }
}

fn untriggered(error: &TriggerError) -> CliError {
    let text = error.to_string();
    let (message, stack) = text.split_once('\n').unwrap_or((&text, ""));
    let mut shown = CliError::new(codes::LOCAL_RUNTIME, message);
    if !stack.is_empty() {
        shown = shown.with_note(stack);
    }
    match error {
        TriggerError::NotServed => shown.with_help("start `alch local serve` in another terminal"),
        TriggerError::Absent(_) => {
            shown.with_help("deploy it with `alch run`; the server lists what it runs")
        }
        TriggerError::NoHandler(_) => shown
            .with_help("export it: `export default { async scheduled(event, env, ctx) { .. } }`"),
        TriggerError::Failed { .. } => shown.with_help("`alch logs` shows what it printed"),
        TriggerError::Answer(_) | TriggerError::File(_) => shown,
    }
}

/// Shows what the runtime says.
fn show(ui: &Ui, event: Event) {
    match event {
        Event::Running(workers) => {
            let text: Vec<String> = workers
                .iter()
                .map(|worker| format!("running  {}", worker.url))
                .collect();
            let items: Vec<_> = workers
                .iter()
                .map(|worker| json!({ "name": worker.name, "url": worker.url }))
                .collect();
            ui.result(
                "local_workers",
                json!({ "workers": items }),
                text.join("\n"),
            );
        }
        Event::Broken { worker, reason } => {
            ui.diagnostic(Diagnostic::error(
                codes::LOCAL_RUNTIME,
                format!("the Worker `{worker}` cannot start: {reason}"),
            ));
        }
        Event::Notice(text) => ui.note(text),
        Event::Printed { level, message } => ui.note(format!("{level}: {message}")),
        Event::Failed(error) => {
            for diagnostic in failed(&error).diagnostics {
                ui.diagnostic(diagnostic);
            }
        }
    }
}

fn failed(error: &RuntimeError) -> CliError {
    match error {
        RuntimeError::Package(error) => missing(error),
        other => CliError::new(codes::LOCAL_RUNTIME, other.to_string())
            .with_help("it is tried again; a new deployment or Ctrl-C ends the waiting"),
    }
}

fn unserved(error: &CloudError) -> CliError {
    let mut shown = CliError::new(codes::LOCAL_RUNTIME, error.to_string());
    if let Some(cause) = error.source() {
        shown = shown.with_note(cause.to_string());
    }
    match error {
        CloudError::Served { .. } => {
            shown.with_help("stop it first, or use it: it serves this project")
        }
        CloudError::Listen { whose, .. } => {
            let option = match whose {
                Port::Workers => "--port",
                Port::Api => "--api-port",
            };
            shown.with_help(format!(
                "choose another one with `{option} N`, or any free one with `{option} 0`"
            ))
        }
        _ => shown,
    }
}

fn unzoned(zone: &str, reason: &str) -> CliError {
    CliError::new(
        codes::LOCAL_RUNTIME,
        format!("the zone `{zone}` cannot be made: {reason}"),
    )
    .with_help("write a domain such as `--zone example.com`")
}

/// The runtime is told absolute paths only.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| FsError::new("find", path, error).into())
}

/// `alch local prepare`.
fn prepare(context: &Context) -> Result<Exit, CliError> {
    let folder = Project::find(context)?.folder;
    let places = programs::runtime(&context.environment, &folder);
    let bundler = programs::esbuild(&context.environment, &folder);
    let runtime = wiring::runtime()?;
    let packages = runtime.block_on(obtain(&places, &context.ui))?;
    let note = |line| context.ui.note(line);
    let esbuild = runtime.block_on(package::obtain(&bundler, false, &note));
    let bundler = esbuild.as_ref().ok().map(|path| path.display().to_string());
    let text = format!(
        "workerd     {}\nsimulators  {}\nesbuild     {}",
        packages.workerd.display(),
        packages.simulators.display(),
        bundler.as_deref().unwrap_or("none")
    );
    context.ui.result(
        "local_runtime",
        json!({
            "workerd": packages.workerd.display().to_string(),
            "simulators": packages.simulators.display().to_string(),
            "esbuild": bundler,
        }),
        text,
    );
    // Told last: the runtime alone is of use.
    esbuild.map_err(|error| missing(&error))?;
    Ok(Exit::Success)
}

async fn obtain(places: &Places, ui: &Ui) -> Result<Packages, CliError> {
    packages::obtain(places, &|line| ui.note(line))
        .await
        .map_err(|error| missing(&error))
}

fn missing(error: &PackageError) -> CliError {
    let diagnostic = CliError::new(codes::LOCAL_RUNTIME, error.to_string());
    let by_hand = format!(
        "or set `{}`, `{}` and `{}`; `alch help local prepare` says what they name",
        packages::WORKERD_VARIABLE,
        packages::SIMULATORS_VARIABLE,
        package::ESBUILD_VARIABLE
    );
    match error {
        PackageError::NoNpm { source, .. } => diagnostic
            .with_note(source.to_string())
            .with_help("install Node.js, whose npm obtains it once; running needs no Node")
            .with_help(by_hand),
        PackageError::Npm { .. } => diagnostic
            .with_help(
                "check the network and npm's configuration, then `alch local prepare` tries again",
            )
            .with_help(by_hand),
        PackageError::Integrity { .. } => diagnostic.with_help(
            "the registry that npm is configured for answers with something else: ask who runs it",
        ),
        PackageError::File(error) => diagnostic.with_note(error.source.to_string()),
        PackageError::Named { variable, .. } => {
            diagnostic.with_help(format!("correct `{variable}` or unset it"))
        }
        PackageError::Machine { .. } => {
            diagnostic.with_help("the API of the local cloud works without it")
        }
        PackageError::Archive { .. } => diagnostic.with_help("`alch local prepare` tries again"),
    }
}
