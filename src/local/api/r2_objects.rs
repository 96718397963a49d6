//! Objects of R2 buckets: list, read, write, delete.
//!
//! A row of the bucket's SQLite file describes the object, a blob beside it holds the content. Writers hold the lock of the
//! control database, so that a bucket cannot be deleted (and its name taken again) under them.

use std::path::Path;

use axum::http::{HeaderValue, header};
use md5::{Digest as _, Md5};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, hex_id, now_millis},
    envelope::{self, ApiResult, ok, ok_with_info},
    error::ApiError,
    page::number,
    r2::{INVALID, require},
    r2_events as events,
};
use crate::local::{
    Cloud,
    control::ControlError,
    data::{self, Blobs},
    layout,
};

const NOT_FOUND: u32 = 10007;
const KEY_LIMIT: usize = 1024;
const KEYS_LIMIT: usize = 1000;
const LIST_LIMIT: i64 = 1000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS _mf_objects(
        key TEXT PRIMARY KEY, blob_id TEXT, version TEXT NOT NULL, size INTEGER NOT NULL,
        etag TEXT NOT NULL, uploaded INTEGER NOT NULL, checksums TEXT NOT NULL,
        http_metadata TEXT NOT NULL, custom_metadata TEXT NOT NULL);";

/// The headers that are stored with an object, and their names in its metadata.
const HTTP_METADATA: [(header::HeaderName, &str); 5] = [
    (header::CONTENT_TYPE, "contentType"),
    (header::CONTENT_LANGUAGE, "contentLanguage"),
    (header::CONTENT_DISPOSITION, "contentDisposition"),
    (header::CONTENT_ENCODING, "contentEncoding"),
    (header::CACHE_CONTROL, "cacheControl"),
];

/// Whether a bucket's file holds any object.
pub(super) fn any(file: &Path) -> Result<bool, ApiError> {
    let connection = open(file)?;
    Ok(
        connection.query_row("SELECT EXISTS(SELECT 1 FROM _mf_objects)", [], |row| {
            row.get(0)
        })?,
    )
}

/// How many objects a bucket's file holds, and their bytes.
pub(super) fn totals(file: &Path) -> Result<(i64, i64), ApiError> {
    let connection = open(file)?;
    Ok(connection.query_row(
        "SELECT count(*), coalesce(sum(size), 0) FROM _mf_objects",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// Opens the file of a bucket.
pub(super) fn open(file: &Path) -> Result<Connection, ControlError> {
    let connection = data::open(file)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn no_key() -> ApiError {
    ApiError::not_found(NOT_FOUND, "The specified key does not exist.")
}

fn check_key(key: &str) -> Result<&str, ApiError> {
    if key.is_empty() || key.len() > KEY_LIMIT {
        return Err(invalid(format!("a key must have 1 to {KEY_LIMIT} bytes")));
    }
    Ok(key)
}

/// `PUT …/objects/{key}`.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    if call.parts.is_some() {
        return Err(invalid(
            "send the content as it is, not as multipart/form-data",
        ));
    }
    let key = check_key(call.parameter("key"))?;
    let bucket = cloud.control.run(|connection| require(connection, call))?;
    let blobs = Blobs::in_folder(&layout::r2_folder(&cloud.folder, &bucket.key()));
    let etag = hex::encode(Md5::digest(&call.body));
    let version = hex_id();
    let uploaded = now_millis();
    let metadata: Map<String, Value> = HTTP_METADATA
        .iter()
        .filter_map(|(name, field)| Some(((*field).to_owned(), json!(call.header(name.as_str())?))))
        .collect();
    let replaced = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let blob = blobs.put(&call.body)?;
        let connection = open(&layout::r2_file(&cloud.folder, &bucket.key()))?;
        let old: Option<Option<String>> = connection
            .query_row("SELECT blob_id FROM _mf_objects WHERE key = ?1", [key], |row| row.get(0))
            .optional()?;
        connection.execute(
            "INSERT OR REPLACE INTO _mf_objects(key, blob_id, version, size, etag, uploaded, checksums,
                                                http_metadata, custom_metadata)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '{}')",
            params![
                key,
                blob,
                version,
                i64::try_from(call.body.len()).unwrap_or(i64::MAX),
                etag,
                uploaded,
                json!({"md5": etag}).to_string(),
                Value::Object(metadata).to_string()
            ],
        )?;
        Ok::<_, ApiError>(old.flatten())
    })?;
    if let Some(blob) = replaced {
        blobs.remove(&blob)?;
    }
    tell(cloud, &bucket.key());
    ok(&json!({
        "key": key,
        "etag": etag,
        "size": call.body.len().to_string(),
        "version": version,
        "uploaded": time(uploaded),
        "storage_class": bucket.storage_class,
    }))
}

fn time(milliseconds: i64) -> Option<String> {
    let timestamp = jiff::Timestamp::from_millisecond(milliseconds).ok()?;
    Some(timestamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// `GET …/objects/{key}`: the bytes as they are.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let key = check_key(call.parameter("key"))?;
    let bucket = cloud.control.run(|connection| require(connection, call))?;
    let blobs = Blobs::in_folder(&layout::r2_folder(&cloud.folder, &bucket.key()));
    let connection = open(&layout::r2_file(&cloud.folder, &bucket.key()))?;
    // The blob can be replaced between the two reads; then the row says where the new one is.
    for _ in 0..8 {
        let row = connection
            .query_row(
                "SELECT blob_id, etag, http_metadata, uploaded FROM _mf_objects WHERE key = ?1",
                [key],
                |row| {
                    Ok((
                        row.get::<_, Option<String>>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, i64>(3)?,
                    ))
                },
            )
            .optional()?;
        let Some((blob, etag, metadata, uploaded)) = row else {
            return Err(no_key());
        };
        let Some(blob) = blob else {
            return Err(invalid(
                "the object was uploaded in parts by a running Worker; read it there",
            ));
        };
        if let Some(content) = blobs.get(&blob)? {
            return Ok(object_response(content, &etag, &metadata, uploaded));
        }
    }
    Err(no_key())
}

fn object_response(
    content: Vec<u8>,
    etag: &str,
    metadata: &str,
    uploaded: i64,
) -> axum::response::Response {
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let mut response = envelope::bytes("application/octet-stream", content);
    let headers = response.headers_mut();
    for (name, field) in HTTP_METADATA {
        if let Some(value) = metadata[field]
            .as_str()
            .and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.insert(name, value);
        }
    }
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        headers.insert(header::ETAG, etag);
    }
    let modified = jiff::Timestamp::from_millisecond(uploaded)
        .map(|time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if let Some(modified) = modified
        .ok()
        .and_then(|text| HeaderValue::from_str(&text).ok())
    {
        headers.insert(header::LAST_MODIFIED, modified);
    }
    response
}

/// Tells queues of what was written. That is done and noted, so an error here is none of the writer's: what is noted goes
/// with the next write.
fn tell(cloud: &Cloud, key: &str) {
    if let Err(error) = events::deliver(cloud, key) {
        tracing::warn!("the notifications of the bucket `{key}` wait: {error}");
    }
}

fn remove(cloud: &Cloud, call: &Call, keys: &[&str]) -> Result<(), ApiError> {
    let (key, removed) = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let connection = open(&layout::r2_file(&cloud.folder, &bucket.key()))?;
        let batch = connection.unchecked_transaction()?;
        let mut removed = Vec::new();
        {
            let mut delete =
                batch.prepare("DELETE FROM _mf_objects WHERE key = ?1 RETURNING blob_id")?;
            for key in keys {
                let blob: Option<Option<String>> =
                    delete.query_row([key], |row| row.get(0)).optional()?;
                removed.extend(blob.flatten());
            }
        }
        batch.commit()?;
        Ok::<_, ApiError>((bucket.key(), removed))
    })?;
    let blobs = Blobs::in_folder(&layout::r2_folder(&cloud.folder, &key));
    for blob in removed {
        blobs.remove(&blob)?;
    }
    tell(cloud, &key);
    Ok(())
}

/// `DELETE …/objects/{key}`; a missing object is fine.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let key = check_key(call.parameter("key"))?;
    remove(cloud, call, &[key])?;
    ok(&json!({"key": key}))
}

/// `DELETE …/objects` with an array of keys.
pub(super) fn delete_many(cloud: &Cloud, call: &Call) -> ApiResult {
    let Value::Array(items) = call.json(INVALID)? else {
        return Err(invalid("request body must be an array of keys"));
    };
    if items.len() > KEYS_LIMIT {
        return Err(invalid(format!("at most {KEYS_LIMIT} keys at once")));
    }
    let keys = items
        .iter()
        .map(|item| {
            item.as_str()
                .ok_or_else(|| invalid("keys must be strings"))
                .and_then(check_key)
        })
        .collect::<Result<Vec<_>, _>>()?;
    remove(cloud, call, &keys)?;
    let keys: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
    ok(&Value::Array(keys))
}

/// `GET …/objects`: by prefix and delimiter, in the order of key bytes, with a cursor.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let limit = number(call, "per_page", LIST_LIMIT, INVALID)?.min(LIST_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let prefix = call.query("prefix").unwrap_or_default();
    let delimiter = call.query("delimiter").filter(|text| !text.is_empty());
    let after = call
        .query("cursor")
        .filter(|cursor| !cursor.is_empty())
        .or(call.query("start_after"))
        .map(str::to_owned);
    let bucket = cloud.control.run(|connection| require(connection, call))?;
    let connection = open(&layout::r2_file(&cloud.folder, &bucket.key()))?;
    call.interrupt.watch(&connection);
    let mut statement = connection.prepare(
        "SELECT key, size, etag, uploaded, http_metadata, custom_metadata FROM _mf_objects
         WHERE key >= ?1 AND (?2 IS NULL OR key > ?2)
           AND substr(CAST(key AS BLOB), 1, length(CAST(?1 AS BLOB))) = CAST(?1 AS BLOB)
         ORDER BY key",
    )?;
    let mut rows = statement.query(params![prefix, after])?;
    let mut items = Vec::new();
    let mut groups: Vec<String> = Vec::new();
    let mut last: Option<String> = None;
    let mut truncated = false;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let group = delimiter.and_then(|delimiter| {
            let rest = key.get(prefix.len()..)?;
            let end = prefix.len() + rest.find(delimiter)? + delimiter.len();
            Some(key[..end].to_owned())
        });
        // A group counts once; on a later page its remaining keys lie after the cursor, so the group of the cursor is known.
        let known = group.as_ref().is_some_and(|group| {
            groups.last() == Some(group)
                || after
                    .as_ref()
                    .is_some_and(|after| after.starts_with(group.as_str()))
        });
        if !known && items.len() + groups.len() == limit {
            truncated = true;
            break;
        }
        match group {
            Some(group) if !known => groups.push(group),
            Some(_) => {}
            None => items.push(json!({
                "key": key,
                "size": row.get::<_, i64>(1)?,
                "etag": row.get::<_, String>(2)?,
                "last_modified": time(row.get(3)?),
                "http_metadata": stored_json(&row.get::<_, String>(4)?),
                "custom_metadata": stored_json(&row.get::<_, String>(5)?),
                "storage_class": bucket.storage_class,
            })),
        }
        last = Some(key);
    }
    let info = json!({
        "count": items.len(),
        "per_page": limit,
        "cursor": last.filter(|_| truncated).unwrap_or_default(),
        "is_truncated": truncated,
        "delimited": groups,
    });
    ok_with_info(&Value::Array(items), &info)
}

/// Metadata that others wrote may be anything.
fn stored_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::StatusCode};
    use serde_json::json;

    use crate::local::{layout, testing::Client};

    const BUCKETS: &str = "/accounts/local/r2/buckets";

    async fn bucket() -> (Client, String) {
        let client = Client::new();
        client
            .ok("POST", BUCKETS, Some(json!({"name": "files"})))
            .await;
        (client, format!("{BUCKETS}/files/objects"))
    }

    #[tokio::test]
    async fn an_object_keeps_its_bytes_and_headers() {
        let (client, path) = bucket().await;
        let one = format!("{path}/a/b%20c.txt");
        let (status, put) = client
            .send(
                "PUT",
                &one,
                &[("content-type", "text/css")],
                b"body".to_vec(),
            )
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(put["result"]["etag"], "841a2d689ad86bd1611447453c22c6fc");
        assert_eq!(put["result"]["size"], "4");
        let got = client.raw("GET", &one, &[], Vec::new()).await;
        assert_eq!(got.headers()["content-type"], "text/css");
        assert_eq!(
            got.headers()["etag"],
            "\"841a2d689ad86bd1611447453c22c6fc\""
        );
        let bytes = to_bytes(got.into_body(), 100).await.unwrap();
        assert_eq!(&bytes[..], b"body");
        let file = layout::r2_file(client.folder.path(), "files");
        let connection = rusqlite::Connection::open(file).unwrap();
        let key: String = connection
            .query_row("SELECT key FROM _mf_objects", [], |row| row.get(0))
            .unwrap();
        assert_eq!(key, "a/b c.txt");
        assert_eq!(
            client
                .fails("DELETE", &format!("{BUCKETS}/files"), None)
                .await,
            (409, 10008)
        );
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 10007));
        client.ok("DELETE", &format!("{BUCKETS}/files"), None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 10006));
    }

    #[tokio::test]
    async fn lists_group_and_follow_cursors() {
        let (client, path) = bucket().await;
        for key in ["a", "dir/1", "dir/2", "dir2/1", "z"] {
            let (status, _) = client
                .send("PUT", &format!("{path}/{key}"), &[], Vec::new())
                .await;
            assert_eq!(status, StatusCode::OK);
        }
        let all = client
            .ok("GET", &format!("{path}?prefix=dir%2F"), None)
            .await;
        assert_eq!(all["result_info"]["count"], 2);
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let query = format!("{path}?delimiter=%2F&per_page=2&cursor={cursor}");
            let page = client.ok("GET", &query, None).await;
            let info = &page["result_info"];
            seen.extend(
                page["result"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|item| item["key"].clone()),
            );
            seen.extend(info["delimited"].as_array().unwrap().clone());
            cursor = info["cursor"].as_str().unwrap().replace('/', "%2F");
            if info["is_truncated"] == false {
                break;
            }
        }
        assert_eq!(json!(seen), json!(["a", "dir/", "z", "dir2/"]));
        let deleted = client
            .ok("DELETE", &path, Some(json!(["a", "dir/1", "missing"])))
            .await;
        assert_eq!(deleted["result"][0]["key"], "a");
        let rest = client.ok("GET", &path, None).await;
        assert_eq!(rest["result_info"]["count"], 3);
    }
}
