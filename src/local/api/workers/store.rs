//! Changes to what the control database holds of Workers: storing versions and deployments, pruning old ones, and the
//! contents of modules beside it. What is stored is described and read in `model`.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{hex_id, now},
        error::ApiError,
    },
    assets,
    model::{Draft, Module, Version, modules},
};
use crate::{
    local::{Cloud, layout},
    util::fs,
};

/// How many of its newest versions a script keeps; older ones go unless they are deployed.
const VERSIONS_KEPT: usize = 100;
/// How many of its newest deployments a script keeps.
const DEPLOYMENTS_KEPT: usize = 10;

/// Makes the script if it is new, and sets what its versions share.
pub(super) fn script(
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
pub(super) fn contents(cloud: &Cloud, contents: &[(Module, Bytes)]) -> Result<(), ApiError> {
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
pub(super) fn version(
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
    if let Some(assets) = &draft.assets {
        assets::attach(connection, &version.id, assets)?;
    }
    Ok(version)
}

/// Records a deployment; answers its id.
pub(super) fn deployment(
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
    let version = version(connection, script, draft)?;
    let mut annotations = version.annotations.clone();
    annotations.insert("workers/triggered_by".to_owned(), json!(trigger));
    deployment(
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

fn text(map: &Map<String, Value>) -> String {
    Value::Object(map.clone()).to_string()
}
