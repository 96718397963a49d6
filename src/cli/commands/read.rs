//! `alch read`: the script with the outputs that state knows.

use crate::{
    cli::{
        Context,
        args::ReadArgs,
        deploy::{Request, deploy},
        error::CliError,
        exit::Exit,
    },
    engine::Phase,
};

pub(in crate::cli) fn run(context: &Context, args: &ReadArgs) -> Result<Exit, CliError> {
    let request = Request {
        phase: Some(Phase::Read),
        ..Request::default()
    };
    Ok(deploy(context, &args.script, &args.flags, request)?.exit)
}
