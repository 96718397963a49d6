//! `alch completions`.

use clap::CommandFactory as _;

use crate::cli::{
    Context,
    args::{Cli, CompletionsArgs},
    exit::Exit,
};

pub(in crate::cli) fn run(context: &Context, args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "alch", &mut script);
    context.ui.raw(String::from_utf8_lossy(&script).trim_end());
    Exit::Success
}
