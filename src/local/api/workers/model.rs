//! Scripts and versions as the control database holds them: reading, storing, pruning.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value, json};

use super::super::{
    call::{Call, hex_id, now},
    error::ApiError,
};
use crate::{
    local::{Cloud, layout},
    util::fs,
};

const NOT_FOUND: u32 = 10007;
/// How many of its newest versions a script keeps; older ones go unless they are deployed.
const VERSIONS_KEPT: usize = 100;
/// How many of its newest deployments a script keeps.
const DEPLOYMENTS_KEPT: usize = 10;

/// A script as the control plane knows it: what all its versions share.
#[derive(Debug)]
pub(in crate::local) struct Script {
    pub(super) name: String,
    /// Its id for life, whatever its name is.
    pub(super) tag: String,
    pub(super) created_at: String,
    pub(super) modified_at: String,
    /// `tags`, `logpush`, `observability`, `tail_consumers`.
    pub(super) settings: Map<String, Value>,
    pub(super) subdomain: bool,
    pub(super) previews: bool,
}

/// One immutable version of a script.
#[derive(Debug)]
pub(in crate::local) struct Version {
    pub(super) id: String,
    pub(super) number: i64,
    pub(super) created_at: String,
    pub(super) source: String,
    pub(super) etag: String,
    /// The module that is run first.
    pub(super) entry: String,
    pub(super) format: Format,
    /// With secrets sealed (see `bindings`).
    pub(in crate::local) bindings: Vec<Value>,
    /// `compatibility_date`, `compatibility_flags`, `limits`, `placement`, `usage_model` ..
    pub(super) settings: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
}

/// How the code of a version is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// ES modules (or Python).
    Modules,
    /// One script that registers event listeners.
    Script,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Modules => "modules",
            Self::Script => "script",
        }
    }
}

/// One module of a version; its content lies in the modules folder.
#[derive(Debug, Clone)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) hash: String,
    size: i64,
}

impl Module {
    /// Describes a module by its content.
    pub(super) fn of(name: &str, content_type: &str, content: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            content_type: content_type.to_owned(),
            hash: blake3::hash(content).to_hex().to_string(),
            size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        }
    }
}

/// A version that is about to be stored.
pub(super) struct Draft {
    pub(super) source: &'static str,
    pub(super) entry: String,
    pub(super) format: Format,
    pub(super) modules: Vec<Module>,
    pub(super) bindings: Vec<Value>,
    pub(super) settings: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
}

impl Draft {
    /// The same version once more, to be changed.
    pub(super) fn from(connection: &Connection, version: &Version) -> Result<Self, ApiError> {
        Ok(Self {
            source: "api",
            entry: version.entry.clone(),
            format: version.format,
            modules: modules(connection, &version.id)?,
            bindings: version.bindings.clone(),
            settings: version.settings.clone(),
            annotations: Map::new(),
        })
    }
}

const SCRIPT: &str =
    "SELECT name, tag, created_at, modified_at, settings, subdomain, previews FROM scripts";
const VERSION: &str =
    "SELECT id, number, created_at, source, etag, entry, format, bindings, settings, annotations
     FROM versions";

fn script_of(row: &Row<'_>) -> Result<Script, rusqlite::Error> {
    Ok(Script {
        name: row.get(0)?,
        tag: row.get(1)?,
        created_at: row.get(2)?,
        modified_at: row.get(3)?,
        settings: stored(row, 4)?,
        subdomain: row.get(5)?,
        previews: row.get(6)?,
    })
}

fn version_of(row: &Row<'_>) -> Result<Version, rusqlite::Error> {
    let format: String = row.get(6)?;
    Ok(Version {
        id: row.get(0)?,
        number: row.get(1)?,
        created_at: row.get(2)?,
        source: row.get(3)?,
        etag: row.get(4)?,
        entry: row.get(5)?,
        format: if format == Format::Script.as_str() {
            Format::Script
        } else {
            Format::Modules
        },
        bindings: stored(row, 7)?,
        settings: stored(row, 8)?,
        annotations: stored(row, 9)?,
    })
}

fn stored<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> Result<T, rusqlite::Error> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

fn text(map: &Map<String, Value>) -> String {
    Value::Object(map.clone()).to_string()
}

/// The answer to a script that is not there.
pub(super) fn not_found() -> ApiError {
    ApiError::not_found(NOT_FOUND, "This Worker does not exist on your account.")
}

/// A script by name.
pub(in crate::local) fn script(
    connection: &Connection,
    name: &str,
) -> Result<Option<Script>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("{SCRIPT} WHERE name = ?1"))?
        .query_row([name], script_of)
        .optional()
}

/// A script that must exist.
pub(in crate::local::api) fn require(
    connection: &Connection,
    name: &str,
) -> Result<Script, ApiError> {
    script(connection, name)?.ok_or_else(not_found)
}

/// The script of the path, which must exist.
pub(super) fn require_called(connection: &Connection, call: &Call) -> Result<Script, ApiError> {
    require(connection, call.parameter("script"))
}

/// All scripts, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<Script>, ApiError> {
    let mut statement = connection.prepare_cached(&format!("{SCRIPT} ORDER BY name"))?;
    let scripts = statement.query_map([], script_of)?;
    Ok(scripts.collect::<Result<Vec<_>, _>>()?)
}

/// The newest version of a script, which is what changes start from.
pub(in crate::local) fn latest_version(
    connection: &Connection,
    script: &str,
) -> Result<Option<Version>, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "{VERSION} WHERE script = ?1 ORDER BY number DESC LIMIT 1"
        ))?
        .query_row([script], version_of)
        .optional()
}

/// The newest version of a script that must have one.
pub(super) fn require_latest(connection: &Connection, script: &str) -> Result<Version, ApiError> {
    latest_version(connection, script)?.ok_or_else(not_found)
}

/// The version that most requests go to.
pub(super) fn active_version(
    connection: &Connection,
    script: &str,
) -> Result<Option<Version>, ApiError> {
    let deployed: Option<String> = connection
        .prepare_cached(
            "SELECT versions FROM deployments WHERE script = ?1 ORDER BY number DESC LIMIT 1",
        )?
        .query_row([script], |row| row.get(0))
        .optional()?;
    let shares: Vec<Value> = match deployed {
        Some(text) => serde_json::from_str(&text).map_err(ApiError::internal)?,
        None => return Ok(None),
    };
    let biggest = shares.iter().max_by(|a, b| {
        let share = |entry: &Value| entry["percentage"].as_f64().unwrap_or(0.0);
        share(a).total_cmp(&share(b))
    });
    match biggest.and_then(|entry| entry["version_id"].as_str()) {
        Some(id) => version(connection, script, id),
        None => Ok(None),
    }
}

/// A version of a script by id, with or without hyphens.
pub(super) fn version(
    connection: &Connection,
    script: &str,
    id: &str,
) -> Result<Option<Version>, ApiError> {
    Ok(connection
        .prepare_cached(&format!(
            "{VERSION} WHERE script = ?1 AND (id = ?2 OR replace(id, '-', '') = ?2)"
        ))?
        .query_row([script, id], version_of)
        .optional()?)
}

/// Versions, newest first, and how many there are.
pub(super) fn versions(
    connection: &Connection,
    script: &str,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Version>, i64), ApiError> {
    let total = connection.query_row(
        "SELECT count(*) FROM versions WHERE script = ?1",
        [script],
        |row| row.get(0),
    )?;
    let mut statement = connection.prepare_cached(&format!(
        "{VERSION} WHERE script = ?1 ORDER BY number DESC LIMIT ?2 OFFSET ?3"
    ))?;
    let rows = statement.query_map(params![script, limit, offset], version_of)?;
    Ok((rows.collect::<Result<Vec<_>, _>>()?, total))
}

/// The modules of a version, in the order of the upload.
pub(super) fn modules(connection: &Connection, version: &str) -> Result<Vec<Module>, ApiError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, content_type, hash, size FROM version_modules WHERE version = ?1 ORDER BY position",
    )?;
    let rows = statement.query_map([version], |row| {
        Ok(Module {
            name: row.get(0)?,
            content_type: row.get(1)?,
            hash: row.get(2)?,
            size: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

/// The names of the Workers whose active version sends to a queue.
pub(in crate::local::api) fn producers(
    connection: &Connection,
    queue: &str,
) -> Result<Vec<String>, ApiError> {
    bound(connection, "queue", "queue_name", queue)
}

/// The names of the Workers whose active version has a binding of `kind` whose `field` is `target`.
pub(super) fn bound(
    connection: &Connection,
    kind: &str,
    field: &str,
    target: &str,
) -> Result<Vec<String>, ApiError> {
    // Only few versions hold the name of the target at all; those are looked at closely.
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT script FROM versions WHERE instr(bindings, json_quote(?1)) > 0 ORDER BY script",
    )?;
    let candidates = statement
        .query_map([target], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut names = Vec::new();
    for name in candidates {
        let Some(version) = active_version(connection, &name)? else {
            continue;
        };
        let bound = version
            .bindings
            .iter()
            .any(|binding| binding["type"] == kind && binding[field] == target);
        if bound {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes the script if it is new, and sets what its versions share.
pub(super) fn store_script(
    connection: &Connection,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<(), ApiError> {
    connection.execute(
        "INSERT INTO scripts(name, tag, created_at, modified_at, settings) VALUES(?1, ?2, ?3, ?3, ?4)
         ON CONFLICT(name) DO UPDATE SET modified_at = excluded.modified_at, settings = excluded.settings",
        params![name, hex_id(), now(), text(settings)],
    )?;
    Ok(())
}

/// Stores the contents of modules. To be called in the transaction that stores the version, so that [`sweep`] cannot take
/// a file between its writing and its first use.
pub(super) fn store_contents(cloud: &Cloud, contents: &[(Module, Bytes)]) -> Result<(), ApiError> {
    let folder = layout::modules_folder(&cloud.folder);
    fs::create_dir_all(&folder)?;
    for (module, content) in contents {
        let path = folder.join(&module.hash);
        if !path.exists() {
            fs::write_atomic(&path, content)?;
        }
    }
    Ok(())
}

/// Stores a version under the next number.
pub(super) fn store_version(
    connection: &Connection,
    script: &str,
    draft: &Draft,
) -> Result<Version, ApiError> {
    let number: i64 = connection.query_row(
        "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE script = ?1",
        [script],
        |row| row.get(0),
    )?;
    let mut hasher = blake3::Hasher::new();
    for module in &draft.modules {
        for field in [&module.name, &module.content_type, &module.hash] {
            hasher.update(field.as_bytes());
            hasher.update(&[0]);
        }
    }
    hasher.update(draft.entry.as_bytes());
    let version = Version {
        id: uuid::Uuid::new_v4().to_string(),
        number,
        created_at: now(),
        source: draft.source.to_owned(),
        etag: hasher.finalize().to_hex().to_string(),
        entry: draft.entry.clone(),
        format: draft.format,
        bindings: draft.bindings.clone(),
        settings: draft.settings.clone(),
        annotations: draft.annotations.clone(),
    };
    connection.execute(
        "INSERT INTO versions(id, script, number, created_at, source, etag, entry, format, bindings, settings, annotations)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            version.id,
            script,
            version.number,
            version.created_at,
            version.source,
            version.etag,
            version.entry,
            version.format.as_str(),
            Value::Array(version.bindings.clone()).to_string(),
            text(&version.settings),
            text(&version.annotations)
        ],
    )?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO version_modules(version, position, name, content_type, hash, size)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (position, module) in (0_i64..).zip(&draft.modules) {
        insert.execute(params![
            version.id,
            position,
            module.name,
            module.content_type,
            module.hash,
            module.size
        ])?;
    }
    Ok(version)
}

/// Records a deployment; answers its id.
pub(super) fn store_deployment(
    connection: &Connection,
    script: &str,
    source: &str,
    versions: &Value,
    annotations: &Map<String, Value>,
) -> Result<String, ApiError> {
    let id = uuid::Uuid::new_v4().to_string();
    connection.execute(
        "INSERT INTO deployments(id, script, created_at, source, versions, annotations)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            id,
            script,
            now(),
            source,
            versions.to_string(),
            text(annotations)
        ],
    )?;
    connection.execute(
        "UPDATE scripts SET modified_at = ?2 WHERE name = ?1",
        [script, &now()],
    )?;
    Ok(id)
}

/// Stores a version and sends all requests to it.
pub(super) fn publish(
    connection: &Connection,
    script: &str,
    draft: &Draft,
    trigger: &str,
) -> Result<Version, ApiError> {
    let version = store_version(connection, script, draft)?;
    let mut annotations = version.annotations.clone();
    annotations.insert("workers/triggered_by".to_owned(), json!(trigger));
    store_deployment(
        connection,
        script,
        draft.source,
        &json!([{"version_id": version.id, "percentage": 100}]),
        &annotations,
    )?;
    Ok(version)
}

/// Drops old deployments and versions; answers the hashes of modules that may be unused now.
pub(super) fn prune(connection: &Connection, script: &str) -> Result<Vec<String>, ApiError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, versions FROM deployments WHERE script = ?1 ORDER BY number DESC",
    )?;
    let deployments = statement
        .query_map([script], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut deployed = HashSet::new();
    for (index, (number, versions)) in deployments.iter().enumerate() {
        if index >= DEPLOYMENTS_KEPT {
            connection.execute("DELETE FROM deployments WHERE number = ?1", [number])?;
            continue;
        }
        let versions: Vec<Value> = serde_json::from_str(versions).map_err(ApiError::internal)?;
        deployed.extend(
            versions
                .iter()
                .filter_map(|entry| entry["version_id"].as_str().map(str::to_owned)),
        );
    }
    let mut statement = connection.prepare_cached(
        "SELECT id FROM versions WHERE script = ?1 ORDER BY number DESC LIMIT -1 OFFSET ?2",
    )?;
    let kept = i64::try_from(VERSIONS_KEPT).unwrap_or(i64::MAX);
    let old = statement
        .query_map(params![script, kept], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut hashes = Vec::new();
    for id in old.iter().filter(|id| !deployed.contains(*id)) {
        hashes.extend(
            modules(connection, id)?
                .into_iter()
                .map(|module| module.hash),
        );
        connection.execute("DELETE FROM versions WHERE id = ?1", [id])?;
    }
    Ok(hashes)
}

/// Removes the contents among `hashes` that no version uses. Its own transaction, after the one that dropped the versions:
/// a crash between the two leaves a spare file, never a version without its code.
pub(super) fn sweep(cloud: &Cloud, hashes: &[String]) -> Result<(), ApiError> {
    if hashes.is_empty() {
        return Ok(());
    }
    let folder = layout::modules_folder(&cloud.folder);
    cloud.control.write(|transaction| {
        let mut used =
            transaction.prepare("SELECT 1 FROM version_modules WHERE hash = ?1 LIMIT 1")?;
        for hash in hashes {
            if !used.exists([hash])? {
                fs::remove_file(&folder.join(hash))?;
            }
        }
        Ok(())
    })
}
