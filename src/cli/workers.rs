//! Workers as people type them: by the name they were deployed with, or by the id that the script gives them.

use crate::{
    cli::{Context, args::RunFlags, error::CliError, select::Project, settings::Settings},
    model::{StageName, diagnostic::codes},
};

/// The kind of a Worker in state.
const KIND: &str = "cloudflare::Worker";

/// The deployed name of what was typed: that of the resource with this id in the stage; what was typed where there is none.
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
    let stage: StageName = Settings::resolve(&context.environment, &flags, None)?.stage(None)?;
    for path in project.stages()? {
        if path.stage != stage {
            continue;
        }
        let state = project.load(&path)?;
        let found = state.records.values().find(|record| {
            let within = record.fqn.within_stage();
            &*record.kind == KIND && (within == typed || within.rsplit('/').next() == Some(typed))
        });
        if let Some(record) = found {
            let target = state.header.target.as_deref();
            if target.is_some_and(|target| target != "local") {
                let name = &record.physical_name;
                return Err(CliError::new(
                    codes::OTHER_TARGET,
                    format!("the Worker `{name}` of {path} is not in the local cloud"),
                )
                .with_help(format!(
                    "at Cloudflare, `wrangler tail {name}` shows its logs"
                )));
            }
            return Ok(record.physical_name.clone());
        }
    }
    Ok(typed.to_owned())
}
