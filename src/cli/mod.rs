//! The command line: arguments, settings, exit codes, and one file a command.
//!
//! Commands put the parts together and run them; how things look is [`crate::ui`]'s business, and which store, providers
//! and script host stand behind the seams is decided in `wiring` alone.

pub mod args;
mod commands;
mod deploy;
mod draft;
pub mod env_file;
pub mod environment;
pub mod error;
pub mod exit;
mod grants;
mod inventory;
mod kinds;
mod logging;
mod packages;
mod select;
pub mod settings;
mod settle;
mod signals;
mod stores;
mod wiring;
mod workers;

use std::{ffi::OsString, io, process::ExitCode, sync::Arc};

use clap::{
    CommandFactory as _, Parser as _,
    error::{ContextKind, ContextValue, ErrorKind},
};
use serde_json::json;

use crate::{
    engine::Cancel,
    model::{Diagnostic, diagnostic::codes},
    secret::Redactor,
    ui::{Detail, Ending, Ui, UiOptions, Unwritten, Verbosity, panics},
    util::{clock::SystemClock, text},
};

use args::{Cli, Command, Globals, ProfileCommand};
use environment::Environment;
use error::CliError;
use exit::Exit;

/// What every command works with.
struct Context {
    environment: Environment,
    ui: Arc<Ui>,
    redactor: Redactor,
    /// The command line for locks and records.
    command_line: String,
    /// How the user stops the command, where it watches for that.
    cancel: Cancel,
}

/// Runs the program of this process.
#[must_use]
pub fn main() -> ExitCode {
    let redactor = Redactor::default();
    panics::install(redactor.clone());
    let environment = Environment::of_process();
    run_redacted(std::env::args_os(), environment, &redactor).into()
}

/// Runs one command line.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: Environment) -> Exit {
    run_redacted(arguments, environment, &Redactor::default())
}

fn run_redacted(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
    redactor: &Redactor,
) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (cli, refused) = match Cli::try_parse_from(&arguments) {
        Ok(cli) => (Some(cli), None),
        Err(error) => (None, Some(with_near_command(error))),
    };
    let globals = match &cli {
        Some(cli) => cli.globals.clone(),
        // A program that asked for NDJSON gets it for its mistakes, too.
        None => Globals {
            json: arguments.iter().any(|word| word == "--json"),
            ..Globals::default()
        },
    };
    let detail = cli.as_ref().map_or(Detail::Normal, detail);
    let ui = match start_ui(&globals, detail, redactor, &environment) {
        Ok(ui) => ui,
        Err(error) => return without_ui(error, redactor, &environment),
    };
    logging::start(&environment, &ui);
    let told = environment.clone();
    let json = globals.json;
    let exit = match (cli, refused) {
        (Some(cli), _) => {
            let context = Context {
                environment,
                ui: Arc::clone(&ui),
                redactor: redactor.clone(),
                command_line: command_line(&arguments),
                cancel: Cancel::default(),
            };
            let exit = dispatch(&context, cli.command);
            provoke_panic(&told);
            exit
        }
        (None, Some(error)) => {
            let text = error.render().ansi().to_string();
            let text = text.trim_end();
            if error.use_stderr() {
                if json {
                    ui.diagnostic(mistake(&error));
                } else {
                    ui.note(text);
                }
                Exit::Usage
            } else if json {
                let plain = error.render().to_string();
                ui.result("help", json!({ "text": plain.trim_end() }), text);
                Exit::Success
            } else {
                ui.raw(text);
                Exit::Success
            }
        }
        (None, None) => Exit::Usage,
    };
    let told_of = |exit: Exit| (exit.code(), exit.class());
    // Results that nobody received are no success.
    let unless_told = match exit {
        Exit::Success => Exit::Error,
        _ => exit,
    };
    let ending = (json || globals.json_into.is_some()).then(|| Ending {
        exit: told_of(exit),
        unwritten: told_of(unless_told),
    });
    let unwritten = ui.finish(ending);
    if unwritten.is_empty() {
        return exit;
    }
    for Unwritten { what, error } in unwritten {
        let error = CliError::new(codes::STATE_IO, format!("cannot write {what}: {error}"))
            .with_note("what the command did is done; what it had to say is lost in part");
        without_ui(error, redactor, &told);
    }
    unless_told
}

/// Panics with what `ALCH_DEBUG_PANIC` says, on a thread of its own and then on this one, once all secrets of the command are known:
/// so that a test sees what a panic shows. Not in release builds.
#[cfg(debug_assertions)]
fn provoke_panic(environment: &Environment) {
    if let Some(text) = environment.get("ALCH_DEBUG_PANIC").map(str::to_owned) {
        let also = text.clone();
        let thread = std::thread::spawn(move || panic!("{also}"));
        assert!(thread.join().is_ok(), "{text:?}");
    }
}

#[cfg(not(debug_assertions))]
fn provoke_panic(_: &Environment) {}

/// A mistyped command gets the suggestions that ids and props get; clap's own measure misses `rnu`.
fn with_near_command(mut error: clap::Error) -> clap::Error {
    let typed = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(typed))) => typed.clone(),
        _ => return error,
    };
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let commands = Cli::command();
    let names = commands.get_subcommands().map(clap::Command::get_name);
    let near: Vec<String> = text::suggestions(&typed, names, 2)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !near.is_empty() {
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(near),
        );
    }
    error
}

/// A mistake in the command line as data.
fn mistake(error: &clap::Error) -> Diagnostic {
    let text = error.render().to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let mut diagnostic = Diagnostic::error(codes::USAGE, message);
    for tip in lines.filter_map(|line| line.trim().strip_prefix("tip: ")) {
        diagnostic.help.push(tip.to_owned());
    }
    diagnostic
}

fn dispatch(context: &Context, command: Command) -> Exit {
    let result = match command {
        Command::Run(args) => commands::run::run(context, &args),
        Command::Plan(args) => commands::plan::run(context, &args),
        Command::Destroy(args) => commands::destroy::run(context, &args),
        Command::Drift(args) => commands::drift::run(context, &args),
        Command::Import(args) => commands::import::run(context, &args),
        Command::Scan(args) => commands::scan::run(context, &args),
        Command::Login(args) => commands::login::login(context, &args),
        Command::Logout(args) => commands::login::logout(context, &args),
        Command::Configure(args) => commands::login::configure(context, &args),
        Command::Profile(ProfileCommand::List) => commands::login::list(context),
        Command::Read(args) => commands::read::run(context, &args),
        Command::Stages(args) => commands::stages::run(context, &args),
        Command::State(command) => commands::state::run(context, &command),
        Command::Scope(command) => commands::scope::run(context, &command),
        Command::Secrets(command) => commands::secrets::run(context, &command),
        Command::Logs(args) => commands::logs::run(context, &args),
        Command::Local(command) => commands::local::run(context, &command),
        Command::Trust(args) => commands::trust::run(context, &args),
        Command::Check(args) => commands::check::run(context, &args),
        Command::Explain(args) => commands::explain::run(context, &args),
        Command::Completions(args) => Ok(commands::completions::run(context, &args)),
        Command::ExitCodes => {
            context
                .ui
                .result("exit_codes", exit::as_json(), exit::table());
            Ok(Exit::Success)
        }
    };
    match result {
        Ok(exit) => exit,
        Err(error) => context.report(error),
    }
}

impl Context {
    /// Shows an error and answers the exit that it leads to.
    fn report(&self, error: CliError) -> Exit {
        for diagnostic in error.diagnostics {
            self.ui.diagnostic(diagnostic);
        }
        error.exit
    }
}

fn detail(cli: &Cli) -> Detail {
    match &cli.command {
        Command::Plan(args) if args.brief => Detail::Brief,
        Command::Plan(args) if args.full => Detail::Full,
        _ => Detail::Normal,
    }
}

fn start_ui(
    globals: &Globals,
    detail: Detail,
    redactor: &Redactor,
    environment: &Environment,
) -> Result<Arc<Ui>, CliError> {
    let verbosity = match (globals.quiet, globals.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let plain_terminal = environment.get("NO_COLOR").is_some()
        || environment.get("CI").is_some()
        || environment.get("TERM") == Some("dumb");
    Ok(Ui::start(UiOptions {
        json: globals.json,
        json_into: globals
            .json_into
            .as_ref()
            .map(|path| environment.folder.join(path)),
        verbosity,
        detail,
        width: width(environment),
        live: !plain_terminal && verbosity != Verbosity::Quiet,
        redactor: redactor.clone(),
        explain: wiring::explain(environment),
        clock: Arc::new(SystemClock),
    })?)
}

/// `$COLUMNS`, or the width of the terminal on stderr.
fn width(environment: &Environment) -> Option<usize> {
    let columns = environment
        .get("COLUMNS")
        .and_then(|text| text.parse::<usize>().ok());
    columns
        .or_else(|| {
            let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
            Some(usize::from(size.ws_col))
        })
        .filter(|width| *width >= 20)
}

/// The face could not be started as asked for: starts the plain one to say so.
fn without_ui(error: CliError, redactor: &Redactor, environment: &Environment) -> Exit {
    let exit = error.exit;
    if let Ok(ui) = start_ui(&Globals::default(), Detail::Normal, redactor, environment) {
        for diagnostic in error.diagnostics {
            ui.diagnostic(diagnostic);
        }
        ui.finish(None);
    }
    exit
}

/// The command line for locks and records; what follows `--` is the script's own and may be secret.
fn command_line(arguments: &[OsString]) -> String {
    let mut words = vec!["alch".to_owned()];
    words.extend(
        arguments
            .iter()
            .skip(1)
            .take_while(|word| *word != "--")
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_script_stay_out_of_the_command_line() {
        let words = ["/usr/bin/alch", "run", "--stage", "prod", "--", "hunter2"];
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(command_line(&words), "alch run --stage prod");
    }
}
