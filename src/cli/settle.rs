//! After a run into a local cloud that is being served: waits until its Workers are those of the run, and says which are not.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{runtime::Runtime, time::sleep};

use crate::{
    cli::{Context, workers::KIND},
    engine::{Cancel, Run, Summary},
    local::runtime::{PATIENCE, Settled},
    model::{Diagnostic, diagnostic::codes},
    provider::{cloudflare::Client, text_prop},
    state::Record,
};

/// The command that serves it.
const SERVE: &str = "alch local serve";
/// Most addresses that are said.
const SHOWN: usize = 3;
/// After this time a sign of life is given.
const SIGN: Duration = Duration::from_secs(2);

/// Waits for what a run changed, when it changed anything. The first signal ends the waiting.
pub(super) fn settle(
    context: &Context,
    runtime: &Runtime,
    client: &Client,
    cancel: &Cancel,
    summary: Option<&Summary>,
    run: Option<&Run>,
) {
    let changed = summary.is_some_and(|summary| summary.phase.writes() && summary.changed());
    if !client.is_local() || !changed {
        return;
    }
    let answer = runtime.block_on(async {
        let answer = client.settled();
        tokio::pin!(answer);
        let mut told = false;
        loop {
            tokio::select! {
                () = cancel.soft.cancelled() => return None,
                answer = &mut answer => return Some(answer),
                () = sleep(SIGN), if !told => {
                    told = true;
                    context.ui.note("waiting until `alch local serve` runs what was deployed");
                }
            }
        }
    });
    let settled = match answer {
        // Nobody wants to wait, or nobody serves.
        None | Some(Ok(None)) => return,
        Some(Ok(Some(answer))) => serde_json::from_value(answer).unwrap_or_default(),
        Some(Err(error)) => {
            tracing::debug!("the local cloud does not say what it runs: {error}");
            Settled::Late
        }
    };
    if let (Settled::NotServed, Some(run)) = (&settled, run)
        && context.ui.wants_hints()
    {
        hint(context, &run.changed_of(KIND));
    }
    for warning in warnings(settled) {
        context.ui.diagnostic(warning);
    }
}

/// Says how the Workers of a run are reached while nobody serves them, where it changed any.
fn hint(context: &Context, workers: &[Arc<Record>]) {
    if workers.is_empty() {
        return;
    }
    let urls: Vec<&str> = workers
        .iter()
        .filter_map(|worker| text_prop(&worker.outputs, "url"))
        .collect();
    if context.ui.is_json() {
        let fields = json!({ "command": SERVE, "urls": urls });
        context.ui.result("not_served", fields, "");
        return;
    }
    let mut places = urls[..urls.len().min(SHOWN)].join(", ");
    if urls.len() > SHOWN {
        places.push_str(&format!(" and {} more", urls.len() - SHOWN));
    }
    context.ui.note(match places.is_empty() {
        true => format!("nobody serves the local cloud: `{SERVE}` runs what was deployed"),
        false => format!("nobody serves the local cloud: with `{SERVE}`, {places} answers"),
    });
}

fn warnings(settled: Settled) -> Vec<Diagnostic> {
    let warning = |message: String| Diagnostic::warning(codes::LOCAL_RUNTIME, message);
    match settled {
        Settled::NotServed => Vec::new(),
        Settled::Serving { broken } => broken
            .into_iter()
            .map(|broken| {
                let text = format!("the Worker `{}` is deployed, but cannot start", broken.worker);
                warning(text)
                    .with_note(broken.reason)
                    .with_help("correct it and deploy again; until then each request to it is answered with an error page")
            })
            .collect(),
        Settled::Failed { reason } => vec![
            warning("what was deployed does not run".to_owned())
                .with_note(reason)
                .with_help("`alch local serve` tries it again and says what it meets"),
        ],
        Settled::Late => vec![
            warning(format!(
                "what was deployed does not answer requests after {} s",
                PATIENCE.as_secs()
            ))
            .with_help("`alch local serve` says what it waits for"),
        ],
    }
}
