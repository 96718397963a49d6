//! `alch completions`.

use clap::CommandFactory as _;
use serde_json::json;

use crate::cli::{
    Context,
    args::{Cli, CompletionsArgs},
    exit::Exit,
};

pub(in crate::cli) fn run(context: &Context, args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "alch", &mut script);
    let script = String::from_utf8_lossy(&script);
    let script = script.trim_end();
    let fields = json!({ "shell": args.shell.to_string(), "script": script });
    context.ui.result("completions", fields, script);
    Exit::Success
}
