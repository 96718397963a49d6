//! `alch stages`: the stages that have state.

use serde_json::json;

use crate::{
    cli::{Context, args::StagesArgs, error::CliError, exit::Exit, select::Project},
    ui::table,
    util::text::plural,
};

pub(in crate::cli) fn run(context: &Context, args: &StagesArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let mut exit = Exit::Success;
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for stage in project.stages()? {
        if args
            .app
            .as_deref()
            .is_some_and(|app| app != stage.app.as_str())
        {
            continue;
        }
        let state = match project.runtime.block_on(project.store.load(&stage)) {
            Ok(Some(state)) => state,
            Ok(None) => continue,
            Err(error) => {
                // One damaged stage must not hide the others.
                exit = context.report(error.into());
                objects.push(json!({
                    "app": stage.app.as_str(),
                    "stage": stage.stage.as_str(),
                    "damaged": true,
                }));
                rows.push([
                    stage.app.to_string(),
                    stage.stage.to_string(),
                    String::new(),
                    "unreadable".to_owned(),
                ]);
                continue;
            }
        };
        let target = state.header.target.clone().unwrap_or_default();
        objects.push(json!({
            "app": stage.app.as_str(),
            "stage": stage.stage.as_str(),
            "target": target,
            "resources": state.records.len(),
            "open_intents": state.open_intents.len(),
        }));
        let mut resources = state.records.len().to_string();
        if !state.open_intents.is_empty() {
            let open = plural(state.open_intents.len(), "operation");
            resources.push_str(&format!(" ({open} unresolved)"));
        }
        rows.push([
            stage.app.to_string(),
            stage.stage.to_string(),
            target,
            resources,
        ]);
    }
    let text = if rows.is_empty() {
        "no stage has state here".to_owned()
    } else {
        table::render(["APP", "STAGE", "TARGET", "RESOURCES"], &rows)
    };
    context
        .ui
        .result("stages", json!({ "stages": objects }), text);
    Ok(exit)
}
