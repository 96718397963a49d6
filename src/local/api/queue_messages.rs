//! Messages of queues over HTTP: push, pull, acknowledge, purge.
//!
//! They lie in the control database. What Workers send and get goes through `queue_delivery`, over the same table.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, hex_id, into_object, now_millis},
    envelope::{ApiResult, ok},
    error::ApiError,
    queues::{INVALID, Queue, require},
};
use crate::local::Cloud;

const BAD_MESSAGE: u32 = 10207;
const MESSAGE_LIMIT: usize = 128 * 1024;
const BATCH_LIMIT: usize = 100;
const ACKS_LIMIT: usize = 1000;
/// The longest delay of a message, in seconds.
pub(super) const LONGEST_DELAY: i64 = 86_400;
const LONGEST_LEASE: i64 = 43_200_000;
const DEFAULT_LEASE: i64 = 30_000;
const DEFAULT_BATCH: i64 = 5;
const DEFAULT_RETRIES: i64 = 3;

fn bad_message(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(BAD_MESSAGE, message)
}

fn whole(
    body: &Map<String, Value>,
    name: &str,
    default: i64,
    maximum: i64,
) -> Result<i64, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_i64()
            .filter(|number| (0..=maximum).contains(number))
            .ok_or_else(|| {
                ApiError::bad_request(INVALID, format!("`{name}` must be 0 to {maximum}"))
            }),
    }
}

struct Message {
    body: String,
    content_type: &'static str,
    delay: i64,
}

fn message(body: &Map<String, Value>, default_delay: i64) -> Result<Message, ApiError> {
    let content = body
        .get("body")
        .ok_or_else(|| bad_message("a message needs a `body`"))?;
    let content_type = match body.get("content_type").and_then(Value::as_str) {
        None if content.is_string() => "text",
        Some("text") => "text",
        None | Some("json") => "json",
        Some("bytes") => "bytes",
        Some(other) => {
            return Err(bad_message(format!(
                "`content_type` must be text, json or bytes, not `{other}`"
            )));
        }
    };
    let text = match (content_type, content) {
        ("json", content) => content.to_string(),
        (_, Value::String(text)) => text.clone(),
        _ => {
            return Err(bad_message(format!(
                "the body of a {content_type} message must be a string"
            )));
        }
    };
    if text.len() > MESSAGE_LIMIT {
        return Err(bad_message(format!(
            "a message must have at most {MESSAGE_LIMIT} bytes"
        )));
    }
    if content_type == "bytes" && STANDARD.decode(&text).is_err() {
        return Err(bad_message("the body of a bytes message must be base64"));
    }
    Ok(Message {
        body: text,
        content_type,
        delay: whole(body, "delay_seconds", default_delay, LONGEST_DELAY)?,
    })
}

fn insert(connection: &Connection, queue: &Queue, message: &Message) -> Result<(), ApiError> {
    let now = now_millis();
    connection.execute(
        "INSERT INTO queue_messages(id, queue, body, content_type, created, visible, expires)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            hex_id(),
            queue.id,
            message.body,
            message.content_type,
            now,
            now + message.delay * 1000,
            now + queue.seconds("message_retention_period") * 1000
        ],
    )?;
    Ok(())
}

/// Drops what has outlived the queue's retention.
fn expire(connection: &Connection, queue: &Queue) -> Result<(), ApiError> {
    connection.execute(
        "DELETE FROM queue_messages WHERE queue = ?1 AND expires <= ?2",
        params![queue.id, now_millis()],
    )?;
    Ok(())
}

fn backlog(connection: &Connection, queue: &Queue) -> Result<Value, ApiError> {
    Ok(connection.query_row(
        "SELECT count(*), coalesce(sum(length(CAST(body AS BLOB))), 0), coalesce(min(created), 0)
         FROM queue_messages WHERE queue = ?1",
        [&queue.id],
        |row| {
            Ok(json!({
                "backlog_count": row.get::<_, i64>(0)?,
                "backlog_bytes": row.get::<_, i64>(1)?,
                "oldest_message_timestamp_ms": row.get::<_, i64>(2)?,
            }))
        },
    )?)
}

/// `POST …/messages`.
pub(super) fn push(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(BAD_MESSAGE)?;
    let metrics = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let message = message(&body, queue.seconds("delivery_delay"))?;
        insert(transaction, &queue, &message)?;
        backlog(transaction, &queue)
    })?;
    ok(&json!({"metadata": {"metrics": metrics}}))
}

/// `POST …/messages/batch`.
pub(super) fn push_batch(cloud: &Cloud, call: &Call) -> ApiResult {
    let mut body = call.object(BAD_MESSAGE)?;
    let Some(Value::Array(items)) = body.remove("messages") else {
        return Err(bad_message("`messages` must be an array"));
    };
    if items.is_empty() || items.len() > BATCH_LIMIT {
        return Err(bad_message(format!(
            "a batch must hold 1 to {BATCH_LIMIT} messages"
        )));
    }
    let metrics = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let delay = whole(
            &body,
            "delay_seconds",
            queue.seconds("delivery_delay"),
            LONGEST_DELAY,
        )?;
        for item in items {
            let message = message(&into_object(item, BAD_MESSAGE)?, delay)?;
            insert(transaction, &queue, &message)?;
        }
        backlog(transaction, &queue)
    })?;
    ok(&json!({"metadata": {"metrics": metrics}}))
}

/// The setting of the queue's pulling consumer, if it has one.
fn consumer_setting(
    connection: &Connection,
    queue: &Queue,
    name: &str,
) -> Result<Option<i64>, ApiError> {
    let value: Option<Option<i64>> = connection
        .query_row(
            "SELECT json_extract(settings, '$.' || ?2) FROM queue_consumers
             WHERE queue = ?1 AND type = 'http_pull'",
            [queue.id.as_str(), name],
            |row| row.get(0),
        )
        .optional()?;
    Ok(value.flatten())
}

/// `POST …/messages/pull`: leases messages for the visibility timeout.
pub(super) fn pull(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = if call.body.is_empty() {
        Map::new()
    } else {
        call.object(INVALID)?
    };
    let result = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        expire(transaction, &queue)?;
        let setting = |name| consumer_setting(transaction, &queue, name);
        let size = setting("batch_size")?.unwrap_or(DEFAULT_BATCH);
        let size = whole(&body, "batch_size", size, 100)?;
        let lease = setting("visibility_timeout_ms")?.unwrap_or(DEFAULT_LEASE);
        let lease = whole(&body, "visibility_timeout_ms", lease, LONGEST_LEASE)?;
        let retries = setting("max_retries")?.unwrap_or(DEFAULT_RETRIES);
        let now = now_millis();
        transaction.execute(
            "DELETE FROM queue_messages WHERE queue = ?1 AND visible <= ?2 AND attempts > ?3",
            params![queue.id, now, retries],
        )?;
        let mut statement = transaction.prepare(
            "UPDATE queue_messages SET lease = lower(hex(randomblob(16))), visible = ?2 + ?3, attempts = attempts + 1
             WHERE id IN (SELECT id FROM queue_messages WHERE queue = ?1 AND visible <= ?2
                          ORDER BY created, rowid LIMIT ?4)
             RETURNING id, body, content_type, created, attempts, lease",
        )?;
        let mut messages = statement
            .query_map(params![queue.id, now, lease, size], |row| {
                let body: String = row.get(1)?;
                let content_type: String = row.get(2)?;
                let body = if content_type == "json" {
                    STANDARD.encode(body)
                } else {
                    body
                };
                Ok(json!({
                    "id": row.get::<_, String>(0)?,
                    "body": body,
                    "timestamp_ms": row.get::<_, i64>(3)?,
                    "attempts": row.get::<_, i64>(4)?,
                    "lease_id": row.get::<_, String>(5)?,
                    "metadata": {"CF-Content-Type": content_type},
                }))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        messages.sort_by_key(|message| message["timestamp_ms"].as_i64());
        let metrics = backlog(transaction, &queue)?;
        Ok::<_, ApiError>(json!({
            "message_backlog_count": metrics["backlog_count"],
            "messages": messages,
            "metadata": {"metrics": metrics},
        }))
    })?;
    ok(&result)
}

/// `POST …/messages/ack`: deletes what was worked on, gives back what is to be tried again.
pub(super) fn ack(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let leases = |name: &str| -> Result<Vec<(String, i64)>, ApiError> {
        let items = match body.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() <= ACKS_LIMIT => items,
            Some(_) => {
                return Err(ApiError::bad_request(
                    INVALID,
                    format!("`{name}` must be an array of at most {ACKS_LIMIT}"),
                ));
            }
        };
        items
            .iter()
            .map(|item| {
                let item = into_object(item.clone(), INVALID)?;
                let delay = whole(&item, "delay_seconds", 0, LONGEST_DELAY)?;
                match item.get("lease_id") {
                    Some(Value::String(lease)) => Ok((lease.clone(), delay)),
                    _ => Err(ApiError::bad_request(INVALID, "`lease_id` is required")),
                }
            })
            .collect()
    };
    let acks = leases("acks")?;
    let retries = leases("retries")?;
    let result = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let now = now_millis();
        let mut warnings = Map::new();
        let mut acked = 0;
        let mut retried = 0;
        for (lease, _) in &acks {
            let done = transaction.execute(
                "DELETE FROM queue_messages WHERE queue = ?1 AND lease = ?2",
                [&queue.id, lease],
            )?;
            acked += done;
            if done == 0 {
                warnings.insert(lease.clone(), json!("lease not found or expired"));
            }
        }
        for (lease, delay) in &retries {
            let done = transaction.execute(
                "UPDATE queue_messages SET lease = NULL, visible = ?3 WHERE queue = ?1 AND lease = ?2",
                params![queue.id, lease, now + delay * 1000],
            )?;
            retried += done;
            if done == 0 {
                warnings.insert(lease.clone(), json!("lease not found or expired"));
            }
        }
        Ok::<_, ApiError>(
            json!({"ackCount": acked, "retryCount": retried, "warnings": warnings}),
        )
    })?;
    ok(&result)
}

/// `POST …/purge`.
pub(super) fn purge(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    if body.get("delete_messages_permanently") != Some(&Value::Bool(true)) {
        return Err(ApiError::bad_request(
            INVALID,
            "`delete_messages_permanently` must be true",
        ));
    }
    let value = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        transaction.execute("DELETE FROM queue_messages WHERE queue = ?1", [&queue.id])?;
        queue.value(transaction)
    })?;
    ok(&value)
}

/// `GET …/metrics`.
pub(super) fn metrics(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud.control.run(|connection| {
        let queue = require(connection, call)?;
        backlog(connection, &queue)
    })?;
    ok(&value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::Client;

    #[tokio::test]
    async fn messages_are_pulled_acknowledged_and_purged() {
        let client = Client::new();
        let path = "/accounts/local/queues";
        let created = client
            .ok("POST", path, Some(json!({"queue_name": "jobs"})))
            .await;
        let path = format!("{path}/{}", created["result"]["queue_id"].as_str().unwrap());
        let messages = format!("{path}/messages");
        client
            .ok("POST", &messages, Some(json!({"body": {"n": 1}})))
            .await;
        let batch = json!({"messages": [{"body": "a"}, {"body": "later", "delay_seconds": 60}]});
        client
            .ok("POST", &format!("{messages}/batch"), Some(batch))
            .await;
        let pull = format!("{messages}/pull");
        let pulled = client
            .ok("POST", &pull, Some(json!({"batch_size": 10})))
            .await;
        let got = pulled["result"]["messages"].as_array().unwrap();
        assert_eq!(got.len(), 2);
        assert_eq!(pulled["result"]["message_backlog_count"], 3);
        assert!(got.iter().any(|message| message["body"] == "eyJuIjoxfQ=="));
        let again = client.ok("POST", &pull, None).await;
        assert_eq!(again["result"]["messages"], json!([]));
        let acks = json!({
            "acks": [{"lease_id": got[0]["lease_id"]}, {"lease_id": "x"}],
            "retries": [{"lease_id": got[1]["lease_id"]}],
        });
        let acked = client
            .ok("POST", &format!("{messages}/ack"), Some(acks))
            .await;
        assert_eq!(acked["result"]["ackCount"], 1);
        assert_eq!(acked["result"]["retryCount"], 1);
        assert!(acked["result"]["warnings"]["x"].is_string());
        let again = client.ok("POST", &pull, None).await;
        assert_eq!(again["result"]["messages"][0]["attempts"], 2);
        let purge = json!({"delete_messages_permanently": true});
        client
            .ok("POST", &format!("{path}/purge"), Some(purge))
            .await;
        let metrics = client.ok("GET", &format!("{path}/metrics"), None).await;
        assert_eq!(metrics["result"]["backlog_count"], 0);
        for body in [
            json!({}),
            json!({"body": 1, "content_type": "text"}),
            json!([]),
        ] {
            assert_eq!(
                client.fails("POST", &messages, Some(body)).await,
                (400, 10207)
            );
        }
    }
}
