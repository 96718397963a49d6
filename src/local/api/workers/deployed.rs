//! What is deployed, for the runtime: of each Worker the versions that get requests, whole and with their secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Map, Value};

use super::{
    super::{
        error::ApiError,
        hyperdrive, r2_public, secrets_store,
        workflows::{self, DeployedWorkflow},
        zones::{HostRule, host_rules},
    },
    assets, bindings,
    migrations::{self, Namespace},
    model::{self, Format, Version},
};
use crate::local::{control, seal::KEY_BYTES};

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
    pub(in crate::local) assets: Option<DeployedAssets>,
    /// Ids of bound things that a new thing of the same name does not share.
    pub(in crate::local) incarnations: Vec<String>,
    /// Its own classes of Durable Objects.
    pub(in crate::local) namespaces: Vec<Namespace>,
    /// The workflows that run in it.
    pub(in crate::local) workflows: Vec<DeployedWorkflow>,
    /// The Workers that are told what happens in it, by name.
    pub(in crate::local) tail_consumers: Vec<String>,
    /// Which hosts lead to which Worker; the same for all of them.
    pub(in crate::local) hosts: Arc<[HostRule]>,
    /// Its part of the requests, in per cent.
    pub(in crate::local) share: f64,
    /// The versions beside it that get smaller parts.
    pub(in crate::local) others: Vec<DeployedWorker>,
}

impl DeployedWorker {
    /// All its versions, each with a name for its service: that with the biggest part has the name of the Worker.
    pub(in crate::local) fn versions(&self) -> impl Iterator<Item = (String, &Self)> {
        let others = self.others.iter();
        std::iter::once((self.name.clone(), self))
            .chain(others.map(|other| (format!("{}@{}", other.name, other.version), other)))
    }
}

/// The static assets of a Worker.
#[derive(Debug)]
pub(in crate::local) struct DeployedAssets {
    /// How they are served.
    pub(in crate::local) config: serde_json::Map<String, Value>,
    /// Hash and content type of each path; the hash is the name of the file in the assets folder.
    pub(in crate::local) files: BTreeMap<String, (String, Option<String>)>,
}

/// A module of a Worker.
#[derive(Debug)]
pub(in crate::local) struct DeployedModule {
    pub(in crate::local) name: String,
    pub(in crate::local) content_type: String,
    /// The name of its file in the modules folder.
    pub(in crate::local) hash: String,
    /// The content itself, of a module that lies in no file.
    pub(in crate::local) text: Option<&'static str>,
}

/// All Workers that are deployed, by name.
pub(in crate::local) fn deployed(
    connection: &Connection,
) -> Result<Vec<DeployedWorker>, control::ControlError> {
    Ok(read(connection)?)
}

fn read(connection: &Connection) -> Result<Vec<DeployedWorker>, ApiError> {
    let key = control::seal_key(connection)?;
    let open = r2_public::all(connection)?;
    let of_buckets = open.iter().flat_map(r2_public::Open::host_rules);
    let hosts: Arc<[HostRule]> = host_rules(connection)?
        .into_iter()
        .chain(of_buckets)
        .collect();
    let types = assets::content_types(connection)?;
    let mut workers = Vec::new();
    for script in model::all(connection)? {
        let mut versions = Vec::new();
        for (version, share) in model::deployed_versions(connection, &script.name)? {
            let mut version = worker(connection, &key, &hosts, &script.name, version, share)?;
            version.assets = with_types(connection, &version.version, &types)?;
            version.tail_consumers = tail_consumers(&script.name, &script.settings);
            versions.push(version);
        }
        let mut versions = versions.into_iter();
        if let Some(mut first) = versions.next() {
            first.others = versions.collect();
            // In one place, so that all versions share the objects.
            first.namespaces = migrations::namespaces(connection, &script.name)?;
            first.workflows = workflows::of_script(connection, &script.name)?;
            workers.push(first);
        }
    }
    workers.extend(open.iter().map(|bucket| bucket.worker(&hosts)));
    Ok(workers)
}

/// The Workers that hear what happens in a script, each once; itself would hear of its hearing for ever.
fn tail_consumers(script: &str, settings: &Map<String, Value>) -> Vec<String> {
    let items = settings.get("tail_consumers").and_then(Value::as_array);
    let names = items.into_iter().flatten();
    let names = names.filter_map(|item| item["service"].as_str());
    let names: BTreeSet<&str> = names.filter(|name| *name != script).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// A binding with what the runtime needs of the object that it names.
fn with_target(connection: &Connection, mut binding: Value) -> Result<Value, ApiError> {
    let field = |name: &str| binding[name].as_str().unwrap_or_default();
    match field("type") {
        "secrets_store_secret" => {
            let value = secrets_store::reveal(connection, field("store_id"), field("secret_name"))?;
            binding["value"] = value.into();
        }
        "r2_bucket" => {
            let class: Option<String> = connection
                .query_row(
                    "SELECT storage_class FROM r2_buckets WHERE jurisdiction = ?1 AND name = ?2",
                    [jurisdiction(&binding), field("bucket_name")],
                    |row| row.get(0),
                )
                .optional()?;
            binding["storage_class"] = class.into();
        }
        "hyperdrive" => {
            binding["origin"] = hyperdrive::origin(connection, field("id"))?.unwrap_or_default();
        }
        _ => {}
    }
    Ok(binding)
}

/// One version of a script as the runtime needs it.
fn worker(
    connection: &Connection,
    key: &[u8; KEY_BYTES],
    hosts: &Arc<[HostRule]>,
    script: &str,
    version: Version,
    share: f64,
) -> Result<DeployedWorker, ApiError> {
    let bindings = version
        .bindings
        .iter()
        .map(|binding| bindings::revealed(key, binding))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| control::ControlError::Sealed {
            script: script.to_owned(),
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
    Ok(DeployedWorker {
        name: script.to_owned(),
        entry: version.entry,
        service_syntax: version.format == Format::Script,
        modules: modules
            .into_iter()
            .map(|module| DeployedModule {
                name: module.name,
                content_type: module.content_type,
                hash: module.hash,
                text: None,
            })
            .collect(),
        bindings,
        assets: None,
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
        incarnations: incarnations.into_iter().flatten().collect(),
        version: version.id,
        created_at: version.created_at,
        namespaces: Vec::new(),
        workflows: Vec::new(),
        tail_consumers: Vec::new(),
        hosts: Arc::clone(hosts),
        share,
        others: Vec::new(),
    })
}

/// The assets of a version, with what their files are.
fn with_types(
    connection: &Connection,
    version: &str,
    types: &BTreeMap<String, Option<String>>,
) -> Result<Option<DeployedAssets>, ApiError> {
    let found = assets::of_version(connection, version)?;
    let file = |hash: String| {
        let content_type = types.get(&hash).cloned().flatten();
        (hash, content_type)
    };
    Ok(found.map(|found| DeployedAssets {
        config: found.config,
        files: found
            .files
            .into_iter()
            .map(|(path, hash)| (path, file(hash)))
            .collect(),
    }))
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
