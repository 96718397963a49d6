//! `alch check`: everything that can be said of a script without running it.

use serde_json::json;

use crate::cli::{
    Context,
    args::{CheckArgs, RunFlags},
    deploy::Script,
    error::CliError,
    exit::Exit,
    settings::Settings,
    wiring::Host,
};

pub(in crate::cli) fn run(context: &Context, args: &CheckArgs) -> Result<Exit, CliError> {
    let script = Script::find(context, &args.file)?;
    let settings = Settings::resolve(
        &context.environment,
        &RunFlags::default(),
        Some(&script.folder),
    )?;
    let host = Host::new(context, &settings, &script.folder, Vec::new());
    host.load(&script.path)?;
    context.ui.result(
        "checked",
        json!({ "file": script.name }),
        format!("{}: no mistakes found", script.name),
    );
    Ok(Exit::Success)
}
