//! The settings of an R2 bucket: CORS, lifecycle, lock, public access; and how all settings are kept, custom domains and event
//! notifications as well. The buckets themselves are in `r2`.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};

use super::{
    call::Call,
    envelope::{ApiResult, ok},
    error::ApiError,
    r2::{Bucket, INVALID, find, require},
};
use crate::local::Cloud;

const NO_CORS: u32 = 10059;

/// A setting of the bucket with this id; none where it was never set.
fn load(connection: &Connection, bucket: &str, kind: &str) -> Result<Option<Value>, ApiError> {
    let body: Option<String> = connection
        .query_row(
            "SELECT body FROM r2_settings WHERE bucket = ?1 AND kind = ?2",
            [bucket, kind],
            |row| row.get(0),
        )
        .optional()?;
    body.map(|body| serde_json::from_str(&body).map_err(ApiError::internal))
        .transpose()
}

/// Sets a setting as a whole.
pub(super) fn store(
    connection: &Connection,
    bucket: &str,
    kind: &str,
    body: &Value,
) -> Result<(), ApiError> {
    connection.execute(
        "INSERT OR REPLACE INTO r2_settings(bucket, kind, body) VALUES(?1, ?2, ?3)",
        [bucket, kind, &body.to_string()],
    )?;
    Ok(())
}

/// A setting that is items by key; empty where it was never set.
pub(super) fn load_items(
    connection: &Connection,
    bucket: &str,
    kind: &str,
) -> Result<Map<String, Value>, ApiError> {
    Ok(match load(connection, bucket, kind)? {
        Some(Value::Object(items)) => items,
        _ => Map::new(),
    })
}

/// Whether any bucket has an item of that key.
pub(super) fn any_has(connection: &Connection, kind: &str, key: &str) -> Result<bool, ApiError> {
    let mut statement =
        connection.prepare_cached("SELECT bucket FROM r2_settings WHERE kind = ?1")?;
    let buckets: Vec<String> = statement
        .query_map([kind], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for bucket in buckets {
        if load_items(connection, &bucket, kind)?.contains_key(key) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn setting(cloud: &Cloud, call: &Call, kind: &str) -> Result<Option<Value>, ApiError> {
    cloud
        .control
        .run(|connection| load(connection, &require(connection, call)?.id, kind))
}

fn write_setting(cloud: &Cloud, call: &Call, kind: &str, required: &[&str]) -> ApiResult {
    let body = call.object(INVALID)?;
    let rules = match body.get("rules") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(rules)) => rules,
        Some(_) => {
            return Err(ApiError::bad_request(INVALID, "`rules` must be an array"));
        }
    };
    for (index, rule) in rules.iter().enumerate() {
        for field in required {
            if rule.get(field).is_none_or(Value::is_null) {
                return Err(ApiError::bad_request(
                    INVALID,
                    format!("rule {index} has no `{field}`"),
                ));
            }
        }
    }
    let body = json!({"rules": rules});
    cloud
        .control
        .write(|transaction| store(transaction, &require(transaction, call)?.id, kind, &body))?;
    ok(&json!({}))
}

pub(super) fn read_cors(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = setting(cloud, call, "cors")?
        .ok_or_else(|| ApiError::not_found(NO_CORS, "The CORS configuration does not exist."))?;
    ok(&body)
}

pub(super) fn write_cors(cloud: &Cloud, call: &Call) -> ApiResult {
    write_setting(cloud, call, "cors", &["allowed"])
}

pub(super) fn delete_cors(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        transaction.execute(
            "DELETE FROM r2_settings WHERE bucket = ?1 AND kind = 'cors'",
            [&bucket.id],
        )?;
        Ok::<_, ApiError>(())
    })?;
    ok(&json!({}))
}

pub(super) fn read_lifecycle(cloud: &Cloud, call: &Call) -> ApiResult {
    // What every new bucket has until somebody says otherwise.
    let default = json!({"rules": [{
        "id": "Default Multipart Abort Rule",
        "enabled": true,
        "conditions": {"prefix": ""},
        "abortMultipartUploadsTransition": {"condition": {"type": "Age", "maxAge": 604_800}},
    }]});
    ok(&setting(cloud, call, "lifecycle")?.unwrap_or(default))
}

pub(super) fn write_lifecycle(cloud: &Cloud, call: &Call) -> ApiResult {
    write_setting(cloud, call, "lifecycle", &["id", "enabled", "conditions"])
}

pub(super) fn read_lock(cloud: &Cloud, call: &Call) -> ApiResult {
    ok(&setting(cloud, call, "lock")?.unwrap_or(json!({"rules": []})))
}

pub(super) fn write_lock(cloud: &Cloud, call: &Call) -> ApiResult {
    write_setting(cloud, call, "lock", &["id", "enabled", "condition"])
}

fn public_value(bucket: &Bucket) -> Value {
    json!({
        "bucketId": bucket.id,
        "domain": format!("pub-{}.r2.dev", bucket.id),
        "enabled": bucket.public,
    })
}

pub(super) fn read_public(cloud: &Cloud, call: &Call) -> ApiResult {
    ok(&public_value(&find(cloud, call)?))
}

pub(super) fn write_public(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let enabled = body
        .get("enabled")
        .and_then(Value::as_bool)
        .ok_or_else(|| ApiError::bad_request(INVALID, "`enabled` must be true or false"))?;
    let bucket = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        transaction.execute(
            "UPDATE r2_buckets SET public = ?2 WHERE id = ?1",
            params![bucket.id, enabled],
        )?;
        require(transaction, call)
    })?;
    ok(&public_value(&bucket))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::Client;

    const PATH: &str = "/accounts/local/r2/buckets";

    #[tokio::test]
    async fn settings_replace_and_end_with_the_bucket() {
        let client = Client::new();
        client
            .ok("POST", PATH, Some(json!({"name": "files"})))
            .await;
        let one = format!("{PATH}/files");
        let cors = format!("{one}/cors");
        assert_eq!(client.fails("GET", &cors, None).await, (404, 10059));
        let rules = json!({"rules": [{"allowed": {"origins": ["*"], "methods": ["GET"]}}]});
        client.ok("PUT", &cors, Some(rules.clone())).await;
        assert_eq!(client.ok("GET", &cors, None).await["result"], rules);
        assert_eq!(
            client
                .fails("PUT", &cors, Some(json!({"rules": [{}]})))
                .await,
            (400, 10040)
        );
        client.ok("DELETE", &cors, None).await;
        assert_eq!(client.fails("GET", &cors, None).await, (404, 10059));
        let lifecycle = client.ok("GET", &format!("{one}/lifecycle"), None).await;
        assert_eq!(lifecycle["result"]["rules"][0]["enabled"], true);
        client
            .ok("PUT", &format!("{one}/lock"), Some(json!({"rules": []})))
            .await;
        let public = client
            .ok(
                "PUT",
                &format!("{one}/domains/managed"),
                Some(json!({"enabled": true})),
            )
            .await;
        assert_eq!(public["result"]["enabled"], true);
        let (status, patched) = client
            .send(
                "PATCH",
                &one,
                &[("cf-r2-storage-class", "InfrequentAccess")],
                Vec::new(),
            )
            .await;
        assert_eq!(status.as_u16(), 200);
        assert_eq!(patched["result"]["storage_class"], "InfrequentAccess");
        client.ok("DELETE", &one, None).await;
        client
            .ok("POST", PATH, Some(json!({"name": "files"})))
            .await;
        let public = client
            .ok("GET", &format!("{one}/domains/managed"), None)
            .await;
        assert_eq!(public["result"]["enabled"], false);
    }
}
