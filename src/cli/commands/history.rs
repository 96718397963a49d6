//! What was done to a stage: `alch state history` and `alch scope logs`.
//!
//! A record that cannot be read hides no other: it is listed as what it is, and told with what mends it.

use serde_json::json;

use crate::{
    cli::{Context, args::StageArgs, error::CliError, exit::Exit, select::Project, wiring},
    model::{StagePath, diagnostic::codes},
    state::{Deployment, StateError},
    ui::table,
    util::{fs, text::suggestions},
};

/// Deployments among which a log is looked for.
const SEARCHED: usize = 1_000;

/// The record of a finished run.
pub(super) enum Entry {
    Whole(Box<Deployment>),
    /// One that cannot be read, by the id in its name.
    Unreadable(String),
}

impl Entry {
    fn id(&self) -> &str {
        match self {
            Self::Whole(deployment) => &deployment.id,
            Self::Unreadable(id) => id,
        }
    }

    fn row(&self) -> [String; 6] {
        let deployment = match self {
            Self::Whole(deployment) => deployment,
            Self::Unreadable(id) => {
                let nothing = String::new;
                let told = "unreadable".to_owned();
                return [id.clone(), nothing(), nothing(), nothing(), told, nothing()];
            }
        };
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
    }

    /// As `--json` prints it.
    fn item(&self) -> serde_json::Value {
        match self {
            Self::Whole(deployment) => json!(deployment),
            Self::Unreadable(id) => json!({ "id": id, "damaged": true }),
        }
    }
}

/// The history of a stage, newest first. What cannot be read of it is told at once; then the exit says so too.
pub(super) fn read(
    context: &Context,
    project: &Project,
    stage: &StagePath,
    limit: usize,
) -> Result<(Vec<Entry>, Exit), CliError> {
    let found = project
        .runtime
        .block_on(project.store.history(stage, limit))?;
    let mut exit = Exit::Success;
    let mut entries = Vec::with_capacity(found.len());
    for record in found {
        entries.push(match record {
            Ok(deployment) => Entry::Whole(Box::new(deployment)),
            Err(error) => {
                let id = id_in(&error);
                exit = context.report(error.into());
                Entry::Unreadable(id)
            }
        });
    }
    Ok((entries, exit))
}

/// The id in the name of a record.
fn id_in(error: &StateError) -> String {
    let (StateError::Corrupt { place, .. }
    | StateError::TooNew { place, .. }
    | StateError::Io { place, .. }
    | StateError::Bucket { place, .. }) = error
    else {
        return String::new();
    };
    let name = place.rsplit('/').next().unwrap_or(place);
    name.strip_suffix(".json").unwrap_or(name).to_owned()
}

/// The entries of a history as `--json` prints them.
pub(super) fn items(entries: &[Entry]) -> Vec<serde_json::Value> {
    entries.iter().map(Entry::item).collect()
}

pub(super) fn list(context: &Context, args: &StageArgs, limit: usize) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    let (found, exit) = read(context, &project, &stage, limit)?;
    if found.is_empty() {
        project.require_known(&stage)?;
    }
    let rows: Vec<[String; 6]> = found.iter().map(Entry::row).collect();
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
        json!({ "stage": stage.to_string(), "deployments": items(&found) }),
        text,
    );
    Ok(exit)
}

pub(super) fn log(
    context: &Context,
    args: &StageArgs,
    wanted: Option<&str>,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (stage, _) = project.stage(context, args)?;
    // The log is a file of its own: that of a run whose record is damaged may be whole.
    let (known, exit) = read(context, &project, &stage, SEARCHED)?;
    let path_of = wiring::logs(&project.folder);
    let with_log = |id: &str| path_of(&stage, id).exists();
    let mut ids = known.iter().map(Entry::id);
    let id = match wanted {
        Some(id) => ids.find(|known| *known == id),
        None => ids.find(|id| with_log(id)),
    };
    let Some(id) = id.filter(|id| with_log(id)) else {
        let missing = match wanted {
            Some(id) => format!("{stage} has no log of deployment `{id}`"),
            None => format!("{stage} has no log"),
        };
        let near = suggestions(wanted.unwrap_or_default(), known.iter().map(Entry::id), 3);
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
    Ok(exit)
}
