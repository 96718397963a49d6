//! `alch drift`: what is gone or changed at the providers, from state alone, and back to what state says with `--repair`.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Context,
        args::DriftArgs,
        error::CliError,
        exit::Exit,
        select::Project,
        settings::{Settings, Target},
        settle::settle,
        signals::Signals,
        wiring::{self, Host, Start},
    },
    engine::{Drift, Finding, Look, Phase, Run},
    model::{StagePath, Value},
    util::text::plural,
};

/// Longest value that is shown of a property.
const SHORT_VALUE: usize = 80;

pub(in crate::cli) fn run(context: &Context, args: &DriftArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let settings = Settings::resolve(&context.environment, &args.flags, Some(&project.folder))?;
    let stage = StagePath::new(project.app(args.app.as_deref())?, settings.stage(None)?);
    if args.repair {
        // As runs do: an older copy must not say what objects are to be.
        project
            .runtime
            .block_on(project.stores.for_run(&stage, None))?;
    }
    let state = project.load(&stage)?;
    let target = match (settings.target_flag, &state.header.target) {
        (None, Some(name)) => Target::parse(name, "the stage's state")?,
        _ => settings.target(None)?,
    };
    let host = Host::new(context, &settings, &project.folder, Vec::new());
    let client = host.use_target(&settings, target)?;
    if args.repair {
        context.ui.keep_logs(wiring::logs(&project.folder));
    }
    let signals = Signals::watch(&project.runtime, &host.cancel, &context.ui)?;
    let start = Start {
        phase: match args.repair {
            true => Phase::Repair,
            false => Phase::Drift,
        },
        concurrency: args.concurrency,
        script: state.header.script,
        ..Start::default()
    };
    let options = host.run_options(context, &settings, target, start);
    let ended = project.runtime.block_on(async {
        let world = host.world(Arc::clone(&project.store));
        let meter = world.meter.clone();
        let run = Run::start(world, stage.clone(), settings.key(None), options).await?;
        let look = run.seen();
        tell(context, &stage, &look, meter.total(), args.repair);
        let summary = match args.repair {
            true => Some(run.repair().await?),
            false => None,
        };
        Ok::<_, CliError>((look, summary))
    });
    let (look, summary) = ended.map_err(|error| signals.stopped(error))?;
    if let Some(exit) = signals.exit() {
        return Ok(exit);
    }
    settle(
        context,
        &project.runtime,
        &client,
        &host.cancel,
        summary.as_ref(),
        None,
    );
    Ok(match summary {
        Some(summary) => Exit::of_summary(&summary),
        None if look.findings.is_empty() => Exit::Success,
        None => Exit::Drift,
    })
}

fn tell(context: &Context, stage: &StagePath, look: &Look, calls: u64, repairs: bool) {
    let mut text = String::new();
    for finding in &look.findings {
        text.push_str(&line(finding));
    }
    let objects = plural(look.looked, "object");
    let calls_text = plural(usize::try_from(calls).unwrap_or(usize::MAX), "API call");
    match look.findings.len() {
        0 => text.push_str(&format!("no drift: {objects} as in state ({calls_text})")),
        count => text.push_str(&format!("{count} of {objects} drifted ({calls_text})")),
    }
    let passed_over: Vec<&str> = look
        .passed_over
        .iter()
        .map(|fqn| fqn.within_stage())
        .collect();
    let findings: Vec<Json> = look
        .findings
        .iter()
        .map(|finding| fields(finding))
        .collect();
    context.ui.result(
        "drift",
        json!({
            "stage": stage.to_string(),
            "looked": look.looked,
            "calls": calls,
            "drifted": findings,
            "not_compared": passed_over,
        }),
        text,
    );
    if !passed_over.is_empty() {
        context.ui.note(format!(
            "not compared: {} (kinds that the script defines, or operations that did not end; `alch run` settles these)",
            passed_over.join(", ")
        ));
    }
    if !look.findings.is_empty() && !repairs {
        context.ui.note(format!(
            "`alch drift --repair --app {} --stage {}` brings them back to what state says, `alch run --refresh` to what the script says",
            stage.app, stage.stage
        ));
    }
}

fn line(finding: &Finding) -> String {
    let what = match finding.drift {
        Drift::Vanished => "vanished",
        Drift::Changed { .. } => "changed",
    };
    let mut out = format!(
        "{what:<9} {} ({})  {}\n",
        finding.fqn.within_stage(),
        finding.kind,
        finding.physical_name
    );
    if let Drift::Changed { differences, .. } = &finding.drift {
        for difference in differences {
            out.push_str(&format!(
                "            {}: state has {}, the provider {}\n",
                difference.path.join("."),
                show(&difference.state),
                show(&difference.found)
            ));
        }
    }
    out
}

fn show(value: &Value) -> String {
    let text = value.to_display_json().to_string();
    if text.chars().count() <= SHORT_VALUE {
        return text;
    }
    let mut short: String = text.chars().take(SHORT_VALUE).collect();
    short.push_str(" ..");
    short
}

fn fields(finding: &Finding) -> Json {
    let (what, changes) = match &finding.drift {
        Drift::Vanished => ("vanished", Vec::new()),
        Drift::Changed { differences, .. } => (
            "changed",
            differences
                .iter()
                .map(|difference| {
                    json!({
                        "path": difference.path,
                        "state": difference.state.to_display_json(),
                        "found": difference.found.to_display_json(),
                    })
                })
                .collect(),
        ),
    };
    json!({
        "fqn": finding.fqn,
        "kind": finding.kind,
        "physical_name": finding.physical_name,
        "drift": what,
        "changes": changes,
    })
}
