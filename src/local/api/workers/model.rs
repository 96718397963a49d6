//! Scripts and versions as the control database holds them, and how they are read. Storing and pruning is in `store`.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};

use super::super::{call::Call, error::ApiError};
const NOT_FOUND: u32 = 10007;

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
    /// The tag of the last Durable Object migration.
    pub(super) migration_tag: Option<String>,
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
    /// Its name in the database.
    pub(super) fn as_str(self) -> &'static str {
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
    pub(super) size: i64,
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
    "SELECT name, tag, created_at, modified_at, settings, subdomain, previews, migration_tag
     FROM scripts";
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
        migration_tag: row.get(7)?,
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
    let versions = deployed_versions(connection, script)?;
    Ok(versions.into_iter().next().map(|(version, _)| version))
}

/// The versions that requests go to, with their shares in per cent, the biggest first.
pub(super) fn deployed_versions(
    connection: &Connection,
    script: &str,
) -> Result<Vec<(Version, f64)>, ApiError> {
    let deployed: Option<String> = connection
        .prepare_cached(
            "SELECT versions FROM deployments WHERE script = ?1 ORDER BY number DESC LIMIT 1",
        )?
        .query_row([script], |row| row.get(0))
        .optional()?;
    let Some(text) = deployed else {
        return Ok(Vec::new());
    };
    let shares: Vec<Value> = serde_json::from_str(&text).map_err(ApiError::internal)?;
    let mut versions = Vec::with_capacity(shares.len());
    for share in &shares {
        let id = share["version_id"].as_str().unwrap_or_default();
        if let Some(version) = version(connection, script, id)? {
            versions.push((version, share["percentage"].as_f64().unwrap_or(0.0)));
        }
    }
    // The newest of equals.
    versions.sort_by(|(a, share), (b, other)| {
        other.total_cmp(share).then_with(|| b.number.cmp(&a.number))
    });
    Ok(versions)
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

/// Whether there is a script of that name.
pub(in crate::local::api) fn exists(
    connection: &Connection,
    name: &str,
) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM scripts WHERE name = ?1")?
        .exists([name])
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
