//! Consumers of queues: Workers, or clients that pull over HTTP. A queue has at most one.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, hex_id, now},
    envelope::{ApiResult, ok},
    error::ApiError,
    queues::{INVALID, Queue, require},
    workers,
};
use crate::local::{Cloud, control::is_conflict};

const NO_HANDLER: u32 = 11001;
const EXISTS: u32 = 11004;
const NOT_FOUND: u32 = 11006;
const BAD_SETTINGS: u32 = 100_127;
const QUERY: &str = "SELECT c.id, c.type, c.script, c.environment, c.dead_letter_queue, c.settings, c.created_at, q.name
                     FROM queue_consumers c JOIN queues q ON q.id = c.queue";

/// The largest value of each setting.
const LIMITS: [(&str, i64); 6] = [
    ("batch_size", 100),
    ("max_concurrency", 250),
    ("max_retries", 100),
    ("max_wait_time_ms", 60_000),
    ("retry_delay", 86_400),
    ("visibility_timeout_ms", 43_200_000),
];

struct Consumer {
    id: String,
    kind: String,
    script: Option<String>,
    environment: Option<String>,
    dead_letter_queue: Option<String>,
    settings: Map<String, Value>,
    created_at: String,
    queue_name: String,
}

impl Consumer {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let settings: String = row.get(5)?;
        Ok(Self {
            id: row.get(0)?,
            kind: row.get(1)?,
            script: row.get(2)?,
            environment: row.get(3)?,
            dead_letter_queue: row.get(4)?,
            settings: serde_json::from_str(&settings).unwrap_or_default(),
            created_at: row.get(6)?,
            queue_name: row.get(7)?,
        })
    }

    fn value(&self) -> Value {
        let mut value = json!({
            "consumer_id": self.id,
            "queue_name": self.queue_name,
            "type": self.kind,
            "settings": self.settings,
            "created_on": self.created_at,
        });
        if let Some(script) = &self.script {
            // Clients read one or the other.
            value["script"] = json!(script);
            value["script_name"] = json!(script);
            value["environment"] = json!(self.environment.as_deref().unwrap_or("production"));
        }
        if let Some(queue) = &self.dead_letter_queue {
            value["dead_letter_queue"] = json!(queue);
        }
        value
    }
}

/// The answers about the consumers of a queue.
pub(super) fn of_queue(connection: &Connection, queue: &str) -> Result<Vec<Value>, ApiError> {
    select(connection, "c.queue = ?1", queue)
}

/// The answers about the consumers that a Worker is.
pub(super) fn of_script(connection: &Connection, script: &str) -> Result<Vec<Value>, ApiError> {
    select(connection, "c.script = ?1", script)
}

fn select(connection: &Connection, filter: &str, value: &str) -> Result<Vec<Value>, ApiError> {
    let mut statement =
        connection.prepare_cached(&format!("{QUERY} WHERE {filter} ORDER BY c.created_at"))?;
    let consumers = statement
        .query_map([value], Consumer::of)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(consumers.iter().map(Consumer::value).collect())
}

fn find(connection: &Connection, call: &Call, queue: &Queue) -> Result<Consumer, ApiError> {
    connection
        .query_row(
            &format!("{QUERY} WHERE c.queue = ?1 AND c.id = ?2"),
            [queue.id.as_str(), call.parameter("consumer")],
            Consumer::of,
        )
        .optional()?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Queue consumer does not exist."))
}

/// Lays a body over a consumer and checks the whole.
fn merge(
    cloud: &Cloud,
    connection: &Connection,
    consumer: &mut Consumer,
    body: &Map<String, Value>,
) -> Result<(), ApiError> {
    let text = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(format!("`{name}` must be a string"))),
    };
    if let Some(kind) = text("type")? {
        consumer.kind = kind;
    }
    if let Some(script) = text("script_name")?.or(text("script")?) {
        consumer.script = Some(script);
    }
    if let Some(environment) = text("environment_name")?.or(text("environment")?) {
        consumer.environment = Some(environment);
    }
    if let Some(queue) = text("dead_letter_queue")? {
        consumer.dead_letter_queue = Some(queue).filter(|name| !name.is_empty());
    }
    match (consumer.kind.as_str(), &consumer.script) {
        ("worker", Some(script)) => {
            workers::require(connection, script)?;
            if workers::lacks(cloud, connection, script, "queue")? {
                let message = format!("The Worker '{script}' has no queue() handler.");
                return Err(ApiError::bad_request(NO_HANDLER, message));
            }
        }
        ("worker", None) => {
            return Err(invalid("a consumer of type worker needs `script_name`"));
        }
        ("http_pull", _) => consumer.script = None,
        (other, _) => {
            return Err(invalid(format!(
                "`type` must be worker or http_pull, not `{other}`"
            )));
        }
    }
    merge_settings(body, &mut consumer.settings)
}

fn merge_settings(
    body: &Map<String, Value>,
    settings: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let bad = |message: String| ApiError::bad_request(BAD_SETTINGS, message);
    let given = match body.get("settings") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(bad("`settings` must be an object".to_owned())),
    };
    for (name, value) in given {
        let Some((_, limit)) = LIMITS.iter().find(|(known, _)| known == name) else {
            return Err(bad(format!("unknown setting `{name}`")));
        };
        let fits = match value {
            // No bound on concurrency: Cloudflare scales by itself.
            Value::Null => true,
            other => other
                .as_i64()
                .is_some_and(|number| (0..=*limit).contains(&number)),
        };
        if !fits {
            return Err(bad(format!("setting `{name}` cannot be {value}")));
        }
        settings.insert(name.clone(), value.clone());
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn default_settings(kind: &str) -> Map<String, Value> {
    let defaults: &[(&str, Value)] = if kind == "http_pull" {
        &[
            ("batch_size", json!(5)),
            ("max_retries", json!(3)),
            ("visibility_timeout_ms", json!(30_000)),
        ]
    } else {
        &[
            ("batch_size", json!(10)),
            ("max_retries", json!(3)),
            ("max_wait_time_ms", json!(5000)),
            ("max_concurrency", Value::Null),
            ("retry_delay", json!(0)),
        ]
    };
    defaults
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// `GET …/consumers`.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        let queue = require(connection, call)?;
        of_queue(connection, &queue.id)
    })?;
    ok(&Value::Array(items))
}

/// `POST …/consumers`.
pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let kind = body.get("type").and_then(Value::as_str).unwrap_or("worker");
    let consumer = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let mut consumer = Consumer {
            id: hex_id(),
            kind: kind.to_owned(),
            script: None,
            environment: None,
            dead_letter_queue: None,
            settings: default_settings(kind),
            created_at: now(),
            queue_name: queue.name.clone(),
        };
        merge(cloud, transaction, &mut consumer, &body)?;
        let inserted = transaction.execute(
            "INSERT INTO queue_consumers(id, queue, type, script, environment, dead_letter_queue, settings, created_at)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                consumer.id,
                queue.id,
                consumer.kind,
                consumer.script,
                consumer.environment,
                consumer.dead_letter_queue,
                Value::Object(consumer.settings.clone()).to_string(),
                consumer.created_at
            ],
        );
        match inserted {
            Err(error) if is_conflict(&error) => Err(ApiError::bad_request(
                EXISTS,
                format!("Queue '{}' already has a consumer.", queue.name),
            )),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(consumer),
        }
    })?;
    ok(&consumer.value())
}

/// `GET …/consumers/{id}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let consumer = cloud.control.run(|connection| {
        let queue = require(connection, call)?;
        find(connection, call, &queue)
    })?;
    ok(&consumer.value())
}

/// `PUT …/consumers/{id}`.
pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let consumer = cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let mut consumer = find(transaction, call, &queue)?;
        if body.get("type").is_some_and(|kind| *kind != json!(consumer.kind)) {
            return Err(invalid("the type of a consumer cannot change"));
        }
        // A body says the whole of it; clients leave out the queue that there is to be no more.
        consumer.dead_letter_queue = None;
        merge(cloud, transaction, &mut consumer, &body)?;
        transaction.execute(
            "UPDATE queue_consumers SET script = ?2, environment = ?3, dead_letter_queue = ?4, settings = ?5
             WHERE id = ?1",
            params![
                consumer.id,
                consumer.script,
                consumer.environment,
                consumer.dead_letter_queue,
                Value::Object(consumer.settings.clone()).to_string()
            ],
        )?;
        Ok(consumer)
    })?;
    ok(&consumer.value())
}

/// `DELETE …/consumers/{id}`.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        let consumer = find(transaction, call, &queue)?;
        transaction.execute("DELETE FROM queue_consumers WHERE id = ?1", [&consumer.id])?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::{Client, upload};

    #[tokio::test]
    async fn a_queue_has_one_consumer() {
        let client = Client::new();
        let path = "/accounts/local/queues";
        let created = client
            .ok("POST", path, Some(json!({"queue_name": "jobs"})))
            .await;
        let path = format!(
            "{path}/{}/consumers",
            created["result"]["queue_id"].as_str().unwrap()
        );
        let body = json!({"type": "worker", "script_name": "api", "settings": {"batch_size": 5}});
        assert_eq!(
            client.fails("POST", &path, Some(body.clone())).await,
            (404, 10007)
        );
        upload(&client, "api", json!({})).await;
        let consumer = client.ok("POST", &path, Some(body.clone())).await;
        assert_eq!(consumer["result"]["script_name"], "api");
        assert_eq!(consumer["result"]["settings"]["batch_size"], 5);
        assert_eq!(client.fails("POST", &path, Some(body)).await, (400, 11004));
        let one = format!(
            "{path}/{}",
            consumer["result"]["consumer_id"].as_str().unwrap()
        );
        let changed = client
            .ok(
                "PUT",
                &one,
                Some(json!({"settings": {"max_retries": 1}, "dead_letter_queue": "dead"})),
            )
            .await;
        assert_eq!(changed["result"]["settings"]["batch_size"], 5);
        assert_eq!(changed["result"]["dead_letter_queue"], "dead");
        for body in [
            json!({"settings": {"batch_size": 101}}),
            json!({"settings": {"x": 1}}),
        ] {
            assert_eq!(client.fails("PUT", &one, Some(body)).await, (400, 100_127));
        }
        assert_eq!(
            client.ok("GET", &path, None).await["result"][0]["type"],
            "worker"
        );
        let script = "/accounts/local/workers/scripts/api";
        let listed = client
            .ok("GET", &format!("{script}/queue-consumers"), None)
            .await;
        assert_eq!(listed["result"][0]["queue_name"], "jobs");
        assert_eq!(client.fails("DELETE", script, None).await, (400, 10064));
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 11006));
        client.ok("DELETE", script, None).await;
    }
}
