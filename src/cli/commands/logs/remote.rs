//! `alch logs -f` of a Worker at Cloudflare.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Filter, print};
use crate::{
    cli::{
        Context, args::LogsArgs, error::CliError, exit::Exit, inventory, select::Project,
        settings::Settings, wiring,
    },
    local::logs::Record,
    model::diagnostic::codes,
    provider::{
        FailureKind, Meter, ProviderError,
        cloudflare::{
            Client,
            tail::{self, Pace, Told},
        },
    },
};

pub(super) fn run(
    context: &Context,
    project: &Project,
    settings: &Settings,
    args: &LogsArgs,
    filter: &Filter,
) -> Result<Exit, CliError> {
    let Some(worker) = filter.worker.clone() else {
        return Err(
            CliError::usage("the logs of Cloudflare are those of one Worker")
                .with_help("name it: `alch logs WORKER -f --target cloudflare`"),
        );
    };
    if !args.follow || args.since.is_some() {
        let typed = args.worker.as_deref().unwrap_or(&worker);
        return Err(CliError::usage(format!(
            "the Worker `{worker}` is at Cloudflare, which keeps no logs for later"
        ))
        .with_help(format!(
            "`alch logs {typed} -f` without `--since` shows what happens from now on"
        )));
    }
    let client = wiring::account_client(&context.redactor, settings)?;
    project
        .runtime
        .block_on(follow(context, project, &client, &worker, filter))
}

async fn follow(
    context: &Context,
    project: &Project,
    client: &Client,
    worker: &str,
    filter: &Filter,
) -> Result<Exit, CliError> {
    let refused = |error: std::io::Error| {
        CliError::new(codes::USAGE, "cannot watch for signals").with_note(error.to_string())
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
    let operation =
        inventory::operation(context, &project.folder, Meter::default(), cancel.clone())?;
    let ui = Arc::clone(&context.ui);
    let mut told = |told: Told| match told {
        Told::Connected => ui.note(format!("following the Worker `{worker}`; Ctrl-C ends it")),
        Told::Event(item) => {
            let record = record(worker, item);
            if filter.passes(&record) {
                print(&ui, &record);
                ui.flush();
            }
        }
        Told::Lost(reason) => ui.note(format!(
            "{reason}; connecting again, what happens meanwhile is not shown"
        )),
        Told::Left(reason) => ui.note(format!(
            "a tail of the Worker `{worker}` could not be removed and ends by itself: {reason}"
        )),
    };
    let pace = Pace::default();
    let following = tail::follow(client, &operation, worker, &pace, &stop, &mut told);
    // The first signal lets the tail be removed, the second stops that, too.
    let signals = async {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match stop.is_cancelled() {
                false => stop.cancel(),
                true => cancel.cancel(),
            }
        }
    };
    tokio::select! {
        ended = following => ended.map_err(|error| unfollowed(worker, &error))?,
        () = signals => {}
    }
    Ok(Exit::Success)
}

/// An event of a tail in the form in which the local cloud keeps them.
fn record(worker: &str, item: Value) -> Record {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Record {
        time: item["eventTimestamp"]
            .as_i64()
            .unwrap_or_else(|| Timestamp::now().as_millisecond()),
        worker: worker.to_owned(),
        version: text(&item["scriptVersion"]["id"]).unwrap_or_default(),
        item,
    }
}

fn unfollowed(worker: &str, error: &ProviderError) -> CliError {
    let code = match error.kind {
        FailureKind::Authentication => codes::AUTHENTICATION,
        _ => codes::PROVIDER,
    };
    let mut out = CliError::new(
        code,
        format!(
            "the Worker `{worker}` cannot be followed: {}",
            error.message
        ),
    );
    if let Some(call) = &error.call {
        out = out.with_note(format!("the call was {call}"));
    }
    match &error.help {
        Some(help) => out.with_help(help.clone()),
        None if error.kind == FailureKind::NotFound => out.with_help(
            "look for a typo; it is the id in the script, or the name it was deployed with",
        ),
        None => out,
    }
}
