//! Vectorize indexes and their metadata indexes: the control plane. There are no vectors in the local cloud.

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok},
    error::ApiError,
};
use crate::local::{
    Cloud,
    objects::{self, Object},
};

const KIND: &str = "vectorize";
const METADATA: &str = "vectorize_metadata";
const NOT_FOUND: u32 = 3000;
const BAD_NAME: u32 = 3001;
const EXISTS: u32 = 3002;
const BAD_CONFIG: u32 = 3003;
const METADATA_EXISTS: u32 = 40_004;
const NO_METADATA: u32 = 40_005;
const BAD_METADATA: u32 = 40_026;
const METRICS: [&str; 3] = ["cosine", "euclidean", "dot-product"];
/// What the presets stand for.
const PRESETS: [(&str, u64); 5] = [
    ("@cf/baai/bge-small-en-v1.5", 384),
    ("@cf/baai/bge-base-en-v1.5", 768),
    ("@cf/baai/bge-large-en-v1.5", 1024),
    ("openai/text-embedding-ada-002", 1536),
    ("cohere/embed-multilingual-v2.0", 768),
];

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("vectorize/v2/indexes");
    let one = format!("{all}/{{index}}");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(&one, get(run(read)).delete(run(delete)))
        .route(&format!("{one}/info"), get(run(info)))
        .route(
            &format!("{one}/metadata_index/create"),
            post(run(create_metadata)),
        )
        .route(
            &format!("{one}/metadata_index/delete"),
            post(run(delete_metadata)),
        )
        .route(
            &format!("{one}/metadata_index/list"),
            get(run(list_metadata)),
        )
}

/// Whether there is an index of that name.
pub(super) fn exists(connection: &Connection, name: &str) -> Result<bool, rusqlite::Error> {
    Ok(objects::named(connection, KIND, "", name)?.is_some())
}

fn value(index: &Object) -> Value {
    json!({
        "name": index.name,
        "description": index.body.get("description").cloned().unwrap_or_default(),
        "config": index.body.get("config").cloned().unwrap_or_default(),
        "created_on": index.created_at,
        "modified_on": index.modified_at,
    })
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::named(connection, KIND, "", call.parameter("index"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "vectorize.index.not_found"))
}

fn valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (2..=64).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(plain)
        && bytes
            .iter()
            .all(|byte| plain(byte) || matches!(byte, b'-' | b'_'))
}

fn config(body: &Map<String, Value>) -> Option<Value> {
    let given = body.get("config")?;
    if let Some(preset) = given.get("preset").and_then(Value::as_str) {
        let (_, dimensions) = PRESETS.iter().find(|(name, _)| *name == preset)?;
        return Some(json!({"dimensions": dimensions, "metric": "cosine"}));
    }
    let dimensions = given["dimensions"].as_u64()?;
    let metric = given["metric"].as_str()?;
    ((1..=1536).contains(&dimensions) && METRICS.contains(&metric))
        .then(|| json!({"dimensions": dimensions, "metric": metric}))
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(BAD_CONFIG)?;
    let name = body
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| valid_name(name))
        .ok_or_else(|| ApiError::bad_request(BAD_NAME, "vectorize.index.invalid_name"))?;
    let config = config(&body)
        .ok_or_else(|| ApiError::bad_request(BAD_CONFIG, "vectorize.index.invalid_config"))?;
    let mut fields = Map::from_iter([("config".to_owned(), config)]);
    let description = body.get("description").and_then(Value::as_str);
    fields.insert(
        "description".to_owned(),
        json!(description.unwrap_or_default()),
    );
    let index = Object::new(hex_id(), "", name, fields, now());
    cloud.control.write(|transaction| {
        if objects::insert(transaction, KIND, &index)? {
            Ok(())
        } else {
            Err(ApiError::conflict(EXISTS, "vectorize.index.duplicate_name"))
        }
    })?;
    ok(&value(&index))
}

fn list(cloud: &Cloud, _: &Call) -> ApiResult {
    let indexes = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, KIND, "")?))?;
    ok(&indexes.iter().map(value).collect())
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let index = cloud.control.run(|connection| require(connection, call))?;
    ok(&value(&index))
}

fn info(cloud: &Cloud, call: &Call) -> ApiResult {
    let index = cloud.control.run(|connection| require(connection, call))?;
    ok(&json!({
        "dimensions": index.body.get("config").map(|config| config["dimensions"].clone()),
        "vectorCount": 0,
        "processedUpToDatetime": null,
        "processedUpToMutation": null,
    }))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let index = require(transaction, call)?;
        objects::remove(transaction, KIND, &index.id)?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

fn mutation() -> ApiResult {
    ok(&json!({"mutationId": uuid::Uuid::new_v4().to_string()}))
}

fn property(body: &Map<String, Value>) -> Result<&str, ApiError> {
    body.get("propertyName")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| ApiError::bad_request(BAD_METADATA, "`propertyName` is required"))
}

fn create_metadata(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(BAD_METADATA)?;
    cloud.control.write(|transaction| {
        let index = require(transaction, call)?;
        let kind = body.get("indexType").and_then(Value::as_str);
        let kind = kind
            .filter(|kind| ["string", "number", "boolean"].contains(kind))
            .ok_or_else(|| ApiError::bad_request(BAD_METADATA, "invalid metadata index type"))?;
        let fields = Map::from_iter([("indexType".to_owned(), json!(kind))]);
        let made = Object::new(hex_id(), index.id, property(&body)?, fields, now());
        if objects::insert(transaction, METADATA, &made)? {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::CONFLICT,
            METADATA_EXISTS,
            "metadata index already exists",
        ))
    })?;
    mutation()
}

fn delete_metadata(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(BAD_METADATA)?;
    cloud.control.write(|transaction| {
        let index = require(transaction, call)?;
        let found = objects::named(transaction, METADATA, &index.id, property(&body)?)?;
        let found =
            found.ok_or_else(|| ApiError::not_found(NO_METADATA, "metadata index not found"))?;
        objects::remove(transaction, METADATA, &found.id)?;
        Ok::<_, ApiError>(())
    })?;
    mutation()
}

fn list_metadata(cloud: &Cloud, call: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        let index = require(connection, call)?;
        Ok::<_, ApiError>(objects::below(connection, METADATA, &index.id)?)
    })?;
    let items: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({
                "propertyName": item.name,
                "indexType": item.body.get("indexType").cloned().unwrap_or_default(),
            })
        })
        .collect();
    ok(&json!({"metadataIndexes": items}))
}
