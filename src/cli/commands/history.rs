//! What was done to a stage: `alch state history` and `alch scope logs`.

use serde_json::json;

use crate::{
    cli::{Context, args::StageArgs, error::CliError, exit::Exit, select::Project, wiring},
    model::diagnostic::codes,
    ui::table,
    util::{fs, text::suggestions},
};

/// Deployments among which a log is looked for.
const SEARCHED: usize = 1_000;

pub(super) fn list(context: &Context, args: &StageArgs, limit: usize) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let found = project
        .runtime
        .block_on(project.store.deployments(&stage, limit))?;
    if found.is_empty() {
        project.require_known(&stage)?;
    }
    let rows: Vec<[String; 6]> = found
        .iter()
        .map(|deployment| {
            let counts: Vec<String> = deployment
                .counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            [
                deployment.id.clone(),
                format!("{:.0}", deployment.finished_at),
                format!("{}@{}", deployment.actor, deployment.host),
                deployment.command.clone(),
                deployment.result.clone(),
                counts.join(", "),
            ]
        })
        .collect();
    let text = if rows.is_empty() {
        format!("{stage} has no history")
    } else {
        table::render(
            ["DEPLOYMENT", "AT", "BY", "COMMAND", "RESULT", "COUNTS"],
            &rows,
        )
    };
    context.ui.result(
        "history",
        json!({ "stage": stage.to_string(), "deployments": found }),
        text,
    );
    Ok(Exit::Success)
}

pub(super) fn log(
    context: &Context,
    args: &StageArgs,
    wanted: Option<&str>,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let known = project
        .runtime
        .block_on(project.store.deployments(&stage, SEARCHED))?;
    let path_of = wiring::logs(&project.folder);
    let with_log = |id: &str| path_of(&stage, id).exists();
    let id = match wanted {
        Some(id) => known
            .iter()
            .map(|deployment| deployment.id.as_str())
            .find(|known| *known == id),
        None => known
            .iter()
            .map(|deployment| deployment.id.as_str())
            .find(|id| with_log(id)),
    };
    let Some(id) = id.filter(|id| with_log(id)) else {
        let missing = match wanted {
            Some(id) => format!("{stage} has no log of deployment `{id}`"),
            None => format!("{stage} has no log"),
        };
        let names = known.iter().map(|deployment| deployment.id.as_str());
        let near = suggestions(wanted.unwrap_or_default(), names, 3);
        let error = CliError::new(codes::NO_OBJECT, missing);
        return Err(match near.as_slice() {
            [] => error.with_help(
                "`alch state history` lists the deployments; a run that changes nothing has no log",
            ),
            near => error.with_help(format!("did you mean `{}`?", near.join("`, `"))),
        });
    };
    let text = fs::read_to_string(&path_of(&stage, id))?;
    let events: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    context.ui.result(
        "log",
        json!({ "stage": stage.to_string(), "deployment": id, "events": events }),
        text.trim_end(),
    );
    Ok(Exit::Success)
}
