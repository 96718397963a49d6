//! Keys, values and metadata of KV namespaces, one by one; `kv_bulk` does many at once.
//!
//! The entries are rows of the namespace's SQLite file, the values blobs beside it. A new value is a new blob: the row is
//! switched over in a transaction, and only then the old blob goes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, now_millis, parse_json},
    envelope::{self, ApiResult, ok, ok_with_info},
    error::ApiError,
    kv::{INVALID, require},
    page::number,
};
use crate::local::{
    Cloud,
    control::ControlError,
    data::{self, Blobs},
    layout,
};

const KEY_NOT_FOUND: u32 = 10009;
const BAD_EXPIRATION: u32 = 10034;
const KEY_LIMIT: usize = 512;
const VALUE_LIMIT: usize = 25 * 1024 * 1024;
const METADATA_LIMIT: usize = 1024;
const LIST_LIMIT: i64 = 1000;
/// The shortest time to live, in seconds.
const SHORTEST: i64 = 60;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS _mf_entries(
        key TEXT PRIMARY KEY, blob_id TEXT NOT NULL, expiration INTEGER, metadata TEXT);
    CREATE INDEX IF NOT EXISTS _mf_entries_expiration_idx ON _mf_entries(expiration);";

/// The data of one namespace.
pub(super) struct Store {
    connection: Connection,
    blobs: Blobs,
}

/// A pair that is to be written.
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// Milliseconds since 1970.
    pub(super) expiration: Option<i64>,
    pub(super) metadata: Option<String>,
}

pub(super) struct Entry {
    pub(super) value: Vec<u8>,
    pub(super) expiration: Option<i64>,
    pub(super) metadata: Option<Value>,
}

pub(super) fn open(cloud: &Cloud, call: &Call) -> Result<Store, ApiError> {
    let id = require(cloud, call)?;
    let connection = data::open(&layout::kv_file(&cloud.folder, id))?;
    connection.execute_batch(SCHEMA)?;
    Ok(Store {
        connection,
        blobs: Blobs::in_folder(&layout::kv_folder(&cloud.folder, id)),
    })
}

impl Store {
    pub(super) fn write(&self, pairs: &[Pair]) -> Result<(), ApiError> {
        let ids = pairs
            .iter()
            .map(|pair| self.blobs.put(&pair.value))
            .collect::<Result<Vec<_>, _>>()?;
        let mut replaced = Vec::new();
        let transaction = immediate(&self.connection)?;
        {
            let mut old = transaction.prepare("SELECT blob_id FROM _mf_entries WHERE key = ?1")?;
            let mut write = transaction.prepare(
                "INSERT OR REPLACE INTO _mf_entries(key, blob_id, expiration, metadata) VALUES(?1, ?2, ?3, ?4)",
            )?;
            for (pair, id) in pairs.iter().zip(&ids) {
                let blob: Option<String> =
                    old.query_row([&pair.key], |row| row.get(0)).optional()?;
                replaced.extend(blob);
                write.execute(params![pair.key, id, pair.expiration, pair.metadata])?;
            }
        }
        transaction.commit()?;
        self.remove_blobs(&replaced)
    }

    pub(super) fn delete<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
        let mut removed = Vec::new();
        let transaction = immediate(&self.connection)?;
        {
            let mut delete =
                transaction.prepare("DELETE FROM _mf_entries WHERE key = ?1 RETURNING blob_id")?;
            for key in keys {
                let blob: Option<String> = delete.query_row([key], |row| row.get(0)).optional()?;
                removed.extend(blob);
            }
        }
        transaction.commit()?;
        self.remove_blobs(&removed)
    }

    fn remove_blobs(&self, ids: &[String]) -> Result<(), ApiError> {
        for id in ids {
            self.blobs.remove(id)?;
        }
        Ok(())
    }

    pub(super) fn read(&self, key: &str) -> Result<Option<Entry>, ApiError> {
        // The blob can be replaced between the two reads; then the row says where the new one is.
        for _ in 0..8 {
            let row = self
                .connection
                .query_row(
                    "SELECT blob_id, expiration, metadata FROM _mf_entries
                     WHERE key = ?1 AND (expiration IS NULL OR expiration > ?2)",
                    params![key, now_millis()],
                    |row| {
                        Ok((
                            row.get::<_, String>(0)?,
                            row.get::<_, Option<i64>>(1)?,
                            row.get::<_, Option<String>>(2)?,
                        ))
                    },
                )
                .optional()?;
            let Some((blob, expiration, metadata)) = row else {
                return Ok(None);
            };
            if let Some(value) = self.blobs.get(&blob)? {
                return Ok(Some(Entry {
                    value,
                    expiration,
                    metadata: metadata.and_then(|text| serde_json::from_str(&text).ok()),
                }));
            }
        }
        Ok(None)
    }
}

fn immediate(connection: &Connection) -> Result<Transaction<'_>, ControlError> {
    Ok(Transaction::new_unchecked(
        connection,
        TransactionBehavior::Immediate,
    )?)
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn key_not_found() -> ApiError {
    ApiError::not_found(KEY_NOT_FOUND, "get: 'key not found'")
}

pub(super) fn check_key(key: &str) -> Result<&str, ApiError> {
    if key.is_empty() || key == "." || key == ".." || key.len() > KEY_LIMIT {
        return Err(invalid(format!(
            "a key must have 1 to {KEY_LIMIT} bytes and not be `.` or `..`"
        )));
    }
    Ok(key)
}

pub(super) fn expiration(at: Option<i64>, ttl: Option<i64>) -> Result<Option<i64>, ApiError> {
    let now = now_millis();
    let at = match (at, ttl) {
        (_, Some(ttl)) if ttl < SHORTEST => {
            return Err(ApiError::bad_request(
                BAD_EXPIRATION,
                format!(
                    "Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {SHORTEST}."
                ),
            ));
        }
        (_, Some(ttl)) => Some(ttl.saturating_mul(1000).saturating_add(now)),
        (Some(at), None) => Some(at.saturating_mul(1000)),
        (None, None) => None,
    };
    match at {
        Some(at) if at < now.saturating_add(SHORTEST * 1000 - 1000) => Err(ApiError::bad_request(
            BAD_EXPIRATION,
            format!("Invalid expiration. It must be at least {SHORTEST} seconds in the future."),
        )),
        at => Ok(at),
    }
}

pub(super) fn metadata_text(value: Option<&Value>) -> Result<Option<String>, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let text = value.to_string();
            if text.len() > METADATA_LIMIT {
                return Err(invalid(format!(
                    "metadata must have at most {METADATA_LIMIT} bytes"
                )));
            }
            Ok(Some(text))
        }
    }
}

pub(super) fn check_value(value: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    if value.len() > VALUE_LIMIT {
        return Err(ApiError::too_large(format!(
            "a value must have at most {VALUE_LIMIT} bytes"
        )));
    }
    Ok(value)
}

/// `GET …/values/{key}`: the bytes as they are.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let store = open(cloud, call)?;
    let entry = store
        .read(check_key(call.parameter("key"))?)?
        .ok_or_else(key_not_found)?;
    let mut response = envelope::bytes("application/octet-stream", entry.value);
    if let Some(at) = entry.expiration {
        response
            .headers_mut()
            .insert("expiration", (at / 1000).into());
    }
    Ok(response)
}

/// `GET …/metadata/{key}`.
pub(super) fn metadata(cloud: &Cloud, call: &Call) -> ApiResult {
    let store = open(cloud, call)?;
    let entry = store
        .read(check_key(call.parameter("key"))?)?
        .ok_or_else(key_not_found)?;
    ok(&entry.metadata.unwrap_or(Value::Null))
}

/// `PUT …/values/{key}`: the body, or the parts `value` and `metadata`.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    let (value, metadata) = if call.parts.is_some() {
        let value = call
            .part("value")
            .ok_or_else(|| invalid("the multipart body must have a part `value`"))?;
        let metadata = match call.part("metadata") {
            Some(part) if !part.bytes.is_empty() => Some(parse_json(&part.bytes, INVALID)?),
            _ => None,
        };
        (value.bytes.to_vec(), metadata)
    } else {
        (call.body.to_vec(), None)
    };
    let query = |name| {
        call.query(name)
            .map(|text| {
                text.parse::<i64>().map_err(|_| {
                    ApiError::bad_request(BAD_EXPIRATION, format!("Invalid {name} of `{text}`."))
                })
            })
            .transpose()
    };
    let pair = Pair {
        key: check_key(call.parameter("key"))?.to_owned(),
        value: check_value(value)?,
        expiration: expiration(query("expiration")?, query("expiration_ttl")?)?,
        metadata: metadata_text(metadata.as_ref())?,
    };
    open(cloud, call)?.write(&[pair])?;
    ok(&Value::Null)
}

/// `DELETE …/values/{key}`; a missing key is fine.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let key = check_key(call.parameter("key"))?;
    open(cloud, call)?.delete(std::iter::once(key))?;
    ok(&Value::Null)
}

/// `GET …/keys`: by prefix, in the order of their bytes, with a cursor.
pub(super) fn keys(cloud: &Cloud, call: &Call) -> ApiResult {
    let store = open(cloud, call)?;
    let limit = number(call, "limit", LIST_LIMIT, INVALID)?.min(LIST_LIMIT);
    let prefix = call.query("prefix").unwrap_or_default();
    let after = match call.query("cursor") {
        None | Some("") => None,
        Some(cursor) => Some(read_cursor(cursor)?),
    };
    let mut statement = store.connection.prepare(
        "SELECT key, expiration, metadata FROM _mf_entries
         WHERE key >= ?1 AND substr(CAST(key AS BLOB), 1, length(CAST(?1 AS BLOB))) = CAST(?1 AS BLOB)
           AND (?2 IS NULL OR key > ?2) AND (expiration IS NULL OR expiration > ?3)
         ORDER BY key LIMIT ?4",
    )?;
    let mut names = statement
        .query_map(params![prefix, after, now_millis(), limit + 1], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = names.len() > page;
    names.truncate(page);
    let cursor = match names.last() {
        Some((key, ..)) if more => URL_SAFE_NO_PAD.encode(key),
        _ => String::new(),
    };
    let items: Vec<Value> = names
        .into_iter()
        .map(|(name, expiration, metadata)| {
            let mut item = Map::new();
            item.insert("name".to_owned(), json!(name));
            if let Some(at) = expiration {
                item.insert("expiration".to_owned(), json!(at / 1000));
            }
            if let Some(metadata) = metadata.and_then(|text| serde_json::from_str(&text).ok()) {
                item.insert("metadata".to_owned(), metadata);
            }
            Value::Object(item)
        })
        .collect();
    let info = json!({"count": items.len(), "cursor": cursor});
    ok_with_info(&Value::Array(items), &info)
}

fn read_cursor(cursor: &str) -> Result<String, ApiError> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| invalid("invalid cursor"))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use crate::local::{
        layout,
        testing::{Client, code, multipart},
    };

    async fn namespace() -> (Client, String, String) {
        let client = Client::new();
        let path = "/accounts/local/storage/kv/namespaces";
        let created = client.ok("POST", path, Some(json!({"title": "n"}))).await;
        let id = created["result"]["id"].as_str().unwrap().to_owned();
        (client, format!("{path}/{id}"), id)
    }

    async fn put(client: &Client, path: &str, value: &str) {
        let (status, body) = client
            .send("PUT", path, &[], value.as_bytes().to_vec())
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    fn blobs(client: &Client, id: &str) -> usize {
        let folder = layout::kv_folder(client.folder.path(), id).join("blobs");
        crate::util::fs::list(&folder).unwrap().len()
    }

    #[tokio::test]
    async fn a_value_is_written_read_replaced_and_deleted() {
        let (client, path, id) = namespace().await;
        for key in ["plain", "with%2Fslash", "with/slash/es", "%C3%BC%20%3F"] {
            let value = format!("{path}/values/{key}");
            put(&client, &value, "\"one\"").await;
            put(&client, &value, "two").await;
            let (_, got) = client.send("GET", &value, &[], Vec::new()).await;
            assert_eq!(got, "two");
        }
        assert_eq!(blobs(&client, &id), 4);
        client
            .ok("DELETE", &format!("{path}/values/plain"), None)
            .await;
        client
            .ok("DELETE", &format!("{path}/values/plain"), None)
            .await;
        assert_eq!(blobs(&client, &id), 3);
        assert_eq!(
            client
                .fails("GET", &format!("{path}/values/plain"), None)
                .await,
            (404, 10009)
        );
        let list = client.ok("GET", &format!("{path}/keys"), None).await;
        let names: Vec<&Value> = list["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| &item["name"])
            .collect();
        assert_eq!(names, ["with/slash", "with/slash/es", "ü ?"]);
    }

    #[tokio::test]
    async fn the_layout_on_disk_is_that_of_miniflare() {
        let (client, path, id) = namespace().await;
        let (content_type, body) = multipart(&[
            ("value", "application/octet-stream", b"\x00\xff"),
            ("metadata", "", br#"{"a":1}"#),
        ]);
        let at = jiff::Timestamp::now().as_second() + 1000;
        let value = format!("{path}/values/k?expiration={at}");
        let (status, _) = client
            .send("PUT", &value, &[("content-type", &content_type)], body)
            .await;
        assert_eq!(status, StatusCode::OK);
        let file = layout::kv_file(client.folder.path(), &id);
        let connection = rusqlite::Connection::open(file).unwrap();
        let (key, blob, expiration, metadata): (String, String, i64, String) = connection
            .query_row(
                "SELECT key, blob_id, expiration, metadata FROM _mf_entries",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap();
        assert_eq!(
            (key.as_str(), expiration, metadata.as_str()),
            ("k", at * 1000, r#"{"a":1}"#)
        );
        let blob = client.folder.path().join(format!("kv/{id}/blobs/{blob}"));
        assert_eq!(crate::util::fs::read(&blob).unwrap(), b"\x00\xff");
        let metadata = client.ok("GET", &format!("{path}/metadata/k"), None).await;
        assert_eq!(metadata["result"], json!({"a": 1}));
        // What has expired is not there any more.
        connection
            .execute("UPDATE _mf_entries SET expiration = 1", [])
            .unwrap();
        assert_eq!(
            client.fails("GET", &format!("{path}/values/k"), None).await,
            (404, 10009)
        );
        client.ok("DELETE", &path, None).await;
        assert!(!client.folder.path().join(format!("kv/{id}")).exists());
    }

    #[tokio::test]
    async fn bad_input_is_refused() {
        let (client, path, _) = namespace().await;
        for (method, rest, body, expected) in [
            (
                "PUT",
                "values/k?expiration_ttl=59",
                json!("x"),
                (400, 10034),
            ),
            ("PUT", "values/k?expiration=1", json!("x"), (400, 10034)),
            ("PUT", "values/k?expiration=x", json!("x"), (400, 10034)),
            ("PUT", "bulk", json!({}), (400, 10012)),
            ("PUT", "bulk", json!([{"key": "a"}]), (400, 10012)),
            (
                "PUT",
                "bulk",
                json!([{"key": "", "value": ""}]),
                (400, 10012),
            ),
            ("POST", "bulk/get", json!({"keys": []}), (400, 10029)),
            ("POST", "bulk/delete", json!([1]), (400, 10012)),
            ("GET", "keys?cursor=*", json!(null), (400, 10012)),
        ] {
            let path = format!("{path}/{rest}");
            assert_eq!(
                client.fails(method, &path, Some(body)).await,
                expected,
                "{path}"
            );
        }
        let long = format!("{path}/values/{}", "k".repeat(513));
        assert_eq!(client.fails("PUT", &long, None).await, (400, 10012));
        let missing = "/accounts/local/storage/kv/namespaces/00000000000000000000000000000000";
        let (status, body) = client.call("GET", &format!("{missing}/keys"), None).await;
        assert_eq!((status.as_u16(), code(&body)), (404, 10013));
    }
}
