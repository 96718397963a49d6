//! What the runtime asks about Workers besides what is deployed: when they are called, and where their code comes from.

use rusqlite::Connection;
use serde_json::Value;

use super::model;
use crate::local::control::ControlError;

/// The content type of a source map.
const SOURCE_MAP: &str = "application/source-map";

/// Every schedule: the Worker and the expression.
pub(in crate::local) fn schedules(
    connection: &Connection,
) -> Result<Vec<(String, String)>, ControlError> {
    let mut statement =
        connection.prepare_cached("SELECT name, schedules FROM scripts WHERE schedules != '[]'")?;
    let stored = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(String, String)>, _>>()?;
    Ok(stored
        .into_iter()
        .flat_map(|(name, text)| {
            let crons: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
            crons
                .into_iter()
                .filter_map(move |item| Some((name.clone(), item["cron"].as_str()?.to_owned())))
        })
        .collect())
}

/// The source maps of a version: the name of the module, and that of its file in the modules folder.
pub(in crate::local) fn source_maps(
    connection: &Connection,
    version: &str,
) -> Result<Vec<(String, String)>, ControlError> {
    let modules = model::modules(connection, version)?;
    Ok(modules
        .into_iter()
        .filter(|module| module.content_type.starts_with(SOURCE_MAP))
        .map(|module| (module.name, module.hash))
        .collect())
}
