//! `POST /graphql`: what clients ask of Cloudflare's analytics, as far as there is something to tell.
//!
//! The local cloud measures nothing. It knows how much a bucket holds at present; every other data set is empty, as it is
//! for an account in which nothing has happened. A query is not evaluated: the names of the data sets are looked for in it.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::post};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, now, run},
    envelope::{ApiResult, json_response},
    error::ApiError,
    r2, r2_objects,
};
use crate::local::{Cloud, layout};

/// The data set with the size of buckets.
const BUCKETS: &str = "r2StorageAdaptiveGroups";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    Router::new().route("/client/v4/graphql", post(run(query)))
}

fn query(cloud: &Cloud, call: &Call) -> ApiResult {
    // Errors have GraphQL's shape and not the envelope of the other endpoints.
    let refused = |message: &str| {
        let body = json!({"data": null, "errors": [{"message": message}]});
        Ok(json_response(StatusCode::BAD_REQUEST, &body))
    };
    let Ok(Value::Object(body)) = serde_json::from_slice(&call.body) else {
        return refused("the request body must be a JSON object");
    };
    let Some(query) = body.get("query").and_then(Value::as_str) else {
        return refused("query is required and must be a string");
    };
    if !query.contains("viewer") {
        return refused("only `viewer` can be asked");
    }
    let mut account = Map::new();
    for name in query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|name| name.ends_with("Groups"))
    {
        let rows = if name == BUCKETS {
            stored(cloud, &body)?
        } else {
            Vec::new()
        };
        account.insert(name.to_owned(), Value::Array(rows));
    }
    let data = json!({"viewer": {"accounts": [account]}});
    Ok(json_response(
        StatusCode::OK,
        &json!({"data": data, "errors": null}),
    ))
}

/// What the bucket holds that the filter names; nothing when there is none.
fn stored(cloud: &Cloud, body: &Map<String, Value>) -> Result<Vec<Value>, ApiError> {
    let bucket = &body.get("variables").unwrap_or(&Value::Null)["filter"]["bucketName"];
    let Some(full) = bucket.as_str() else {
        return Ok(Vec::new());
    };
    // A name holds no underscore: what stands before one is the jurisdiction.
    let (jurisdiction, name) = full.split_once('_').unwrap_or(("default", full));
    let there = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(r2::exists(connection, jurisdiction, name)?))?;
    if !there {
        return Ok(Vec::new());
    }
    let key = layout::bucket_key(jurisdiction, name);
    let (objects, bytes) = r2_objects::totals(&layout::r2_file(&cloud.folder, &key))?;
    Ok(vec![json!({
        "max": {"objectCount": objects, "payloadSize": bytes, "metadataSize": 0},
        "dimensions": {"datetime": now()},
    })])
}
