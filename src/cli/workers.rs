//! Workers as people type them: by the name they were deployed with, or by the id that the script gives them.

use crate::{
    cli::{
        Context,
        args::RunFlags,
        error::CliError,
        select::Project,
        settings::{Settings, Target},
    },
    model::{StagePath, diagnostic::codes},
};

/// The kind of a Worker in state.
pub(super) const KIND: &str = "cloudflare::Worker";

/// A Worker that was typed.
pub(super) struct Found {
    /// The name it was deployed with; what was typed where state knows nothing of the kind.
    pub(super) name: String,
    /// The stage that has it and the target of that stage, where state knows it.
    pub(super) known: Option<(StagePath, Target)>,
}

/// Looks for what was typed: the resource with this id in the stage, of the target that a flag names.
pub(super) fn find(project: &Project, settings: &Settings, typed: &str) -> Result<Found, CliError> {
    let stage = settings.stage(None)?;
    for path in project.stages()? {
        if path.stage != stage {
            continue;
        }
        let state = project.load(&path)?;
        let target = match &state.header.target {
            Some(name) => Target::parse(name, "the stage's state")?,
            None => Target::Local,
        };
        if settings.target_flag.is_some_and(|wanted| wanted != target) {
            continue;
        }
        let found = state.records.values().find(|record| {
            let within = record.fqn.within_stage();
            &*record.kind == KIND && (within == typed || within.rsplit('/').next() == Some(typed))
        });
        if let Some(record) = found {
            return Ok(Found {
                name: record.physical_name.clone(),
                known: Some((path, target)),
            });
        }
    }
    Ok(Found {
        name: typed.to_owned(),
        known: None,
    })
}

/// The deployed name of a Worker of the local cloud.
pub(super) fn name(
    context: &Context,
    project: &Project,
    stage: &Option<String>,
    typed: &str,
) -> Result<String, CliError> {
    let flags = RunFlags {
        stage: stage.clone(),
        ..RunFlags::default()
    };
    let settings = Settings::resolve(&context.environment, &flags, None)?;
    let Found { name, known } = find(project, &settings, typed)?;
    match known {
        Some((path, target)) if target != Target::Local => Err(CliError::new(
            codes::OTHER_TARGET,
            format!("the Worker `{name}` of {path} is not in the local cloud"),
        )
        .with_help("choose a stage of the local cloud with `--stage NAME`")),
        _ => Ok(name),
    }
}
