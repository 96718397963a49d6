//! Static assets: upload sessions, the files by their hash, and which files a version has.
//!
//! A session takes a manifest of paths and hashes and asks for the files that are not stored yet. Its token, and the token
//! that says that all of them are there, are signed with the key of the local cloud: a client carries them, and can make
//! neither.

mod token;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};

use self::token::{LIFETIME, Step, Token};
use super::{
    super::{
        call::{Call, Part, hex_id, is_hex_id, now_millis},
        envelope::{ApiResult, json_response, ok},
        error::ApiError,
    },
    INVALID, REFUSED,
    scripts::valid_name,
};
use crate::{
    local::{Cloud, control::seal_key, layout},
    util::fs,
};

/// Most files of one version.
const FILES_LIMIT: usize = 100_000;
/// The largest file.
const SIZE_LIMIT: u64 = 25 * 1024 * 1024;
/// The longest path of a file.
const PATH_LIMIT: usize = 1024;
/// Most files of one upload.
const BUCKET_FILES: usize = 400;
/// Most bytes of one upload, before they become base64.
const BUCKET_BYTES: u64 = 32 * 1024 * 1024;

/// The content type of a file that has none.
const NO_TYPE: &str = "application/null";

/// The assets of a version.
#[derive(Debug, Clone)]
pub(super) struct Assets {
    /// How they are served, as the upload said.
    pub(super) config: Map<String, Value>,
    /// The hash of each path.
    pub(super) files: BTreeMap<String, String>,
}

/// The files of a session, by path.
type Manifest = BTreeMap<String, File>;

/// One file of a manifest.
struct File {
    hash: String,
    size: u64,
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(REFUSED, message)
}

/// `POST …/scripts/{script}/assets-upload-session`.
pub(super) fn open_session(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = call.parameter("script");
    if !valid_name(script) {
        return Err(refused(format!("invalid script name `{script}`")));
    }
    let body = call.object(INVALID)?;
    let manifest = manifest(&body)?;
    let session = hex_id();
    let (tokens, missing) = cloud.control.write(|transaction| {
        let now = now_millis();
        transaction.execute(
            "DELETE FROM asset_sessions WHERE created_at < ?1",
            [now - LIFETIME * 1000],
        )?;
        let stored: BTreeMap<&str, Value> = manifest
            .iter()
            .map(|(path, file)| (path.as_str(), json!([file.hash, file.size])))
            .collect();
        transaction.execute(
            "INSERT INTO asset_sessions(id, script, manifest, created_at) VALUES(?1, ?2, ?3, ?4)",
            params![session, script, json!(stored).to_string(), now],
        )?;
        let missing = missing(transaction, &manifest)?;
        let key = seal_key(transaction)?;
        let sign = |step| Token::new(step, &session).sign(&key);
        Ok::<_, ApiError>(((sign(Step::Upload), sign(Step::Complete)), missing))
    })?;
    let (upload, complete) = tokens;
    let buckets = buckets(&missing);
    let token = if buckets.is_empty() { complete } else { upload };
    ok(&json!({"jwt": token, "buckets": buckets}))
}

/// `POST …/workers/assets/upload`, which is let in by the token of the session and no other.
pub(super) fn upload(cloud: &Cloud, call: &Call) -> ApiResult {
    let unauthorised = || ApiError::new(StatusCode::UNAUTHORIZED, 10000, "Authentication error");
    let token = call
        .header(header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(unauthorised)?;
    let key = cloud.control.run(seal_key)?;
    let token = Token::read(token, &key)
        .filter(|token| token.step == Step::Upload)
        .ok_or_else(unauthorised)?;
    if !call.flag("base64") {
        return Err(refused("the query `base64=true` is required"));
    }
    let parts = call
        .parts
        .as_deref()
        .ok_or_else(|| refused("the body must be multipart/form-data"))?;
    let complete = cloud.control.write(|transaction| {
        let (_, manifest) = session(transaction, &token)?.ok_or_else(unauthorised)?;
        let wanted: BTreeMap<&str, u64> = manifest
            .values()
            .map(|file| (file.hash.as_str(), file.size))
            .collect();
        let folder = layout::assets_folder(&cloud.folder);
        fs::create_dir_all(&folder)?;
        for part in parts {
            let size = wanted
                .get(part.name.as_str())
                .ok_or_else(|| refused(format!("no file has the hash `{}`", part.name)))?;
            store(transaction, &folder, part, *size)?;
        }
        Ok::<_, ApiError>(missing(transaction, &manifest)?.is_empty())
    })?;
    let (status, token) = if complete {
        let token = Token::new(Step::Complete, &token.session).sign(&key);
        (StatusCode::CREATED, json!(token))
    } else {
        (StatusCode::ACCEPTED, Value::Null)
    };
    Ok(json_response(
        status,
        &json!({"success": true, "errors": [], "messages": [], "result": {"jwt": token}}),
    ))
}

fn store(
    connection: &Connection,
    folder: &std::path::Path,
    part: &Part,
    size: u64,
) -> Result<(), ApiError> {
    let content = STANDARD
        .decode(&part.bytes)
        .map_err(|_| refused(format!("the file `{}` is not base64", part.name)))?;
    if content.len() as u64 != size {
        return Err(refused(format!(
            "the file `{}` has {} bytes and not {size}, as the manifest says",
            part.name,
            content.len()
        )));
    }
    let content_type = part
        .content_type
        .as_deref()
        .filter(|name| *name != NO_TYPE && !name.contains(['"', '\\', '\r', '\n']));
    fs::write_atomic(&folder.join(&part.name), &content)?;
    connection.execute(
        "INSERT OR REPLACE INTO asset_files(hash, content_type) VALUES(?1, ?2)",
        params![part.name, content_type],
    )?;
    Ok(())
}

/// The assets that an upload brings: by the token of a finished session, or those of the version before.
pub(super) fn of_upload(
    connection: &Connection,
    script: &str,
    metadata: &Map<String, Value>,
    previous: Option<&str>,
) -> Result<Option<Assets>, ApiError> {
    let given = metadata.get("assets").filter(|value| !value.is_null());
    let config = given
        .and_then(|assets| assets.get("config"))
        .and_then(Value::as_object)
        .cloned();
    check_config(config.as_ref())?;
    let token = given
        .and_then(|assets| assets.get("jwt"))
        .filter(|token| !token.is_null());
    if let Some(token) = token {
        let key = seal_key(connection)?;
        let token = token
            .as_str()
            .and_then(|token| Token::read(token, &key))
            .filter(|token| token.step == Step::Complete);
        let found = match &token {
            Some(token) => session(connection, token)?,
            None => None,
        };
        let (_, manifest) = found
            .filter(|(owner, _)| owner == script)
            .ok_or_else(|| refused("the assets' `jwt` is not one of a finished upload"))?;
        return Ok(Some(Assets {
            config: config.unwrap_or_default(),
            files: manifest
                .into_iter()
                .map(|(path, file)| (path, file.hash))
                .collect(),
        }));
    }
    if metadata.get("keep_assets") != Some(&Value::Bool(true)) {
        return match given {
            Some(_) => Err(refused(
                "`assets` has no `jwt`, and `keep_assets` is not set",
            )),
            None => Ok(None),
        };
    }
    let kept = match previous {
        Some(version) => of_version(connection, version)?,
        None => None,
    };
    Ok(kept.map(|kept| Assets {
        config: config.unwrap_or(kept.config),
        files: kept.files,
    }))
}

fn check_config(config: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    for (name, value) in config.into_iter().flatten() {
        let fits = match (name.as_str(), value) {
            (_, Value::Null) => true,
            ("html_handling", Value::String(value)) => matches!(
                value.as_str(),
                "auto-trailing-slash" | "force-trailing-slash" | "drop-trailing-slash" | "none"
            ),
            ("not_found_handling", Value::String(value)) => {
                matches!(
                    value.as_str(),
                    "none" | "404-page" | "single-page-application"
                )
            }
            ("run_worker_first", Value::Bool(_)) => true,
            ("run_worker_first", Value::Array(rules)) => {
                rules.len() <= 100 && rules.iter().all(Value::is_string)
            }
            ("_headers" | "_redirects", Value::String(text)) => text.len() <= 1024 * 1024,
            (
                "html_handling" | "not_found_handling" | "run_worker_first" | "_headers"
                | "_redirects",
                _,
            ) => false,
            _ => true,
        };
        if !fits {
            return Err(refused(format!("the assets' `{name}` cannot be {value}")));
        }
    }
    Ok(())
}

/// The assets of a version; none when it has none.
pub(super) fn of_version(
    connection: &Connection,
    version: &str,
) -> Result<Option<Assets>, ApiError> {
    let found: Option<(String, String)> = connection
        .prepare_cached(
            "SELECT config, manifest FROM version_assets JOIN asset_manifests ON hash = files WHERE version = ?1",
        )?
        .query_row([version], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((config, files)) = found else {
        return Ok(None);
    };
    Ok(Some(Assets {
        config: serde_json::from_str(&config).map_err(ApiError::internal)?,
        files: serde_json::from_str(&files).map_err(ApiError::internal)?,
    }))
}

/// Whether a version has assets.
pub(super) fn has(connection: &Connection, version: &str) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM version_assets WHERE version = ?1")?
        .exists([version])
}

/// Stores which files a version has.
pub(super) fn attach(
    connection: &Connection,
    version: &str,
    assets: &Assets,
) -> Result<(), ApiError> {
    let files = json!(assets.files).to_string();
    let hash = blake3::hash(files.as_bytes()).to_hex().to_string();
    connection.execute(
        "INSERT OR IGNORE INTO asset_manifests(hash, manifest) VALUES(?1, ?2)",
        [&hash, &files],
    )?;
    connection.execute(
        "INSERT INTO version_assets(version, files, config) VALUES(?1, ?2, ?3)",
        params![version, hash, json!(assets.config).to_string()],
    )?;
    Ok(())
}

/// The content types of all files, by hash.
pub(super) fn content_types(
    connection: &Connection,
) -> Result<BTreeMap<String, Option<String>>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT hash, content_type FROM asset_files")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Removes the files that no version and no session names.
pub(super) fn sweep(cloud: &Cloud) -> Result<(), ApiError> {
    let folder = layout::assets_folder(&cloud.folder);
    cloud.control.write(|transaction| {
        transaction.execute(
            "DELETE FROM asset_manifests WHERE hash NOT IN (SELECT files FROM version_assets)",
            [],
        )?;
        transaction.execute(
            "DELETE FROM asset_sessions WHERE created_at < ?1",
            [now_millis() - LIFETIME * 1000],
        )?;
        let mut statement = transaction.prepare(
            "SELECT hash FROM asset_files
             WHERE hash NOT IN (SELECT files.value FROM asset_manifests, json_each(manifest) AS files)
               AND hash NOT IN (SELECT json_extract(files.value, '$[0]')
                                FROM asset_sessions, json_each(manifest) AS files)",
        )?;
        let unused = statement
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        for hash in unused {
            transaction.execute("DELETE FROM asset_files WHERE hash = ?1", [&hash])?;
            fs::remove_file(&folder.join(&hash))?;
        }
        Ok(())
    })
}

fn manifest(body: &Map<String, Value>) -> Result<Manifest, ApiError> {
    let Some(Value::Object(manifest)) = body.get("manifest") else {
        return Err(refused("`manifest` must be an object"));
    };
    if manifest.len() > FILES_LIMIT {
        return Err(refused(format!("more than {FILES_LIMIT} files")));
    }
    manifest
        .iter()
        .map(|(path, entry)| {
            let wrong = |what: &str| refused(format!("manifest, `{path:.200}`: {what}"));
            if !path.starts_with('/') || path.len() > PATH_LIMIT || path.contains('\0') {
                return Err(wrong(
                    "a path begins with / and is not longer than 1024 bytes",
                ));
            }
            let hash = entry["hash"]
                .as_str()
                .filter(|hash| is_hex_id(hash))
                .ok_or_else(|| wrong("`hash` must be 32 hexadecimal digits"))?;
            let size = entry["size"]
                .as_u64()
                .filter(|size| *size <= SIZE_LIMIT)
                .ok_or_else(|| wrong("`size` must be a number of bytes, at most 25 MiB"))?;
            let hash = hash.to_owned();
            Ok((path.clone(), File { hash, size }))
        })
        .collect()
}

/// Hash and size of the files that are not stored yet.
fn missing(
    connection: &Connection,
    manifest: &Manifest,
) -> Result<Vec<(String, u64)>, rusqlite::Error> {
    let mut stored = connection.prepare_cached("SELECT 1 FROM asset_files WHERE hash = ?1")?;
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for file in manifest.values() {
        if seen.insert(&file.hash) && !stored.exists([&file.hash])? {
            out.push((file.hash.clone(), file.size));
        }
    }
    Ok(out)
}

fn buckets(files: &[(String, u64)]) -> Vec<Vec<&str>> {
    let mut out: Vec<Vec<&str>> = Vec::new();
    let mut bytes = 0;
    for (hash, size) in files {
        let full = out
            .last()
            .is_none_or(|bucket| bucket.len() == BUCKET_FILES || bytes + size > BUCKET_BYTES);
        if full {
            out.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(bucket) = out.last_mut() {
            bucket.push(hash);
        }
    }
    out
}

/// The script and the manifest of the session of a token.
fn session(connection: &Connection, token: &Token) -> Result<Option<(String, Manifest)>, ApiError> {
    let found: Option<(String, String)> = connection
        .query_row(
            "SELECT script, manifest FROM asset_sessions WHERE id = ?1",
            [&token.session],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((script, text)) = found else {
        return Ok(None);
    };
    let files: BTreeMap<String, (String, u64)> =
        serde_json::from_str(&text).map_err(ApiError::internal)?;
    let files = files
        .into_iter()
        .map(|(path, (hash, size))| (path, File { hash, size }))
        .collect();
    Ok(Some((script, files)))
}

#[cfg(test)]
mod tests;
