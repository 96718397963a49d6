//! What is deployed, for the runtime: of each Worker the version that gets most requests, whole and with its secrets.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use super::{
    super::{
        error::ApiError,
        hyperdrive, secrets_store,
        zones::{HostRule, host_rules},
    },
    bindings,
    model::{self, Format},
};
use crate::local::control;

/// A Worker as the runtime needs it.
#[derive(Debug)]
pub(in crate::local) struct DeployedWorker {
    pub(in crate::local) name: String,
    /// The id of the version.
    pub(in crate::local) version: String,
    pub(in crate::local) created_at: String,
    /// The module that is run first.
    pub(in crate::local) entry: String,
    /// Whether it is one script that registers event listeners, and not ES modules.
    pub(in crate::local) service_syntax: bool,
    pub(in crate::local) modules: Vec<DeployedModule>,
    /// With their secrets.
    pub(in crate::local) bindings: Vec<Value>,
    pub(in crate::local) compatibility_date: Option<String>,
    pub(in crate::local) compatibility_flags: Vec<String>,
    /// Ids of bound things that a new thing of the same name does not share.
    pub(in crate::local) incarnations: Vec<String>,
    /// Which hosts lead to which Worker; the same for all of them.
    pub(in crate::local) hosts: Arc<[HostRule]>,
}

/// A module of a Worker.
#[derive(Debug)]
pub(in crate::local) struct DeployedModule {
    pub(in crate::local) name: String,
    pub(in crate::local) content_type: String,
    /// The name of its file in the modules folder.
    pub(in crate::local) hash: String,
}

/// All Workers that are deployed, by name.
pub(in crate::local) fn deployed(
    connection: &Connection,
) -> Result<Vec<DeployedWorker>, control::ControlError> {
    Ok(read(connection)?)
}

fn read(connection: &Connection) -> Result<Vec<DeployedWorker>, ApiError> {
    let key = control::seal_key(connection)?;
    let hosts: Arc<[HostRule]> = host_rules(connection)?.into();
    let mut workers = Vec::new();
    for script in model::all(connection)? {
        let Some(version) = model::active_version(connection, &script.name)? else {
            continue;
        };
        let bindings = version
            .bindings
            .iter()
            .map(|binding| bindings::revealed(&key, binding))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| control::ControlError::Sealed {
                script: script.name.clone(),
            })?
            .into_iter()
            .map(|binding| with_target(connection, binding))
            .collect::<Result<Vec<_>, _>>()?;
        let incarnations = bindings
            .iter()
            .map(|binding| incarnation(connection, binding))
            .collect::<Result<Vec<_>, _>>()?;
        let modules = model::modules(connection, &version.id)?;
        let flags = version.settings.get("compatibility_flags");
        workers.push(DeployedWorker {
            name: script.name,
            entry: version.entry,
            service_syntax: version.format == Format::Script,
            modules: modules
                .into_iter()
                .map(|module| DeployedModule {
                    name: module.name,
                    content_type: module.content_type,
                    hash: module.hash,
                })
                .collect(),
            bindings,
            compatibility_date: version
                .settings
                .get("compatibility_date")
                .and_then(Value::as_str)
                .map(str::to_owned),
            compatibility_flags: flags
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|flag| flag.as_str().map(str::to_owned))
                .collect(),
            hosts: Arc::clone(&hosts),
            incarnations: incarnations.into_iter().flatten().collect(),
            version: version.id,
            created_at: version.created_at,
        });
    }
    Ok(workers)
}

/// A binding with what the runtime needs of the object that it names.
fn with_target(connection: &Connection, mut binding: Value) -> Result<Value, ApiError> {
    let field = |name: &str| binding[name].as_str().unwrap_or_default();
    match field("type") {
        "secrets_store_secret" => {
            let value = secrets_store::reveal(connection, field("store_id"), field("secret_name"))?;
            binding["value"] = value.into();
        }
        "hyperdrive" => {
            binding["origin"] = hyperdrive::origin(connection, field("id"))?.unwrap_or_default();
        }
        _ => {}
    }
    Ok(binding)
}

/// Buckets and queues are bound by name. The id tells a new one from a deleted one, whose files the runtime has open.
fn incarnation(connection: &Connection, binding: &Value) -> Result<Option<String>, ApiError> {
    let field = |name: &str| binding[name].as_str().unwrap_or_default();
    let found = match field("type") {
        "r2_bucket" => connection
            .query_row(
                "SELECT id FROM r2_buckets WHERE jurisdiction = ?1 AND name = ?2",
                [jurisdiction(binding), field("bucket_name")],
                |row| row.get(0),
            )
            .optional()?,
        "queue" => connection
            .query_row(
                "SELECT id FROM queues WHERE name = ?1",
                [field("queue_name")],
                |row| row.get(0),
            )
            .optional()?,
        _ => None,
    };
    Ok(found)
}

/// The jurisdiction of a bucket's binding.
pub(in crate::local) fn jurisdiction(binding: &Value) -> &str {
    binding["jurisdiction"]
        .as_str()
        .filter(|name| !name.is_empty())
        .unwrap_or("default")
}
