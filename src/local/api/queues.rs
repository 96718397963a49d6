//! Queues: create, list, read, settings, delete. Consumers and messages have files of their own.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, is_hex_id, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
    queue_consumers as consumers, queue_messages as messages, r2_notifications,
    workers::producers,
};
use crate::local::{Cloud, control::is_conflict};

/// The code for a body that is wrong.
pub(super) const INVALID: u32 = 10026;
/// A queue that buckets send event notifications to cannot be deleted.
const NOTIFIED: u32 = 11017;
const NOT_FOUND: u32 = 11000;
const BAD_NAME: u32 = 11003;
const EXISTS: u32 = 11009;
const BAD_SETTINGS: u32 = 100_127;
const LONGEST_DELAY: i64 = 86_400;
const RETENTION: std::ops::RangeInclusive<i64> = 60..=1_209_600;
const DEFAULT_RETENTION: i64 = 345_600;
const COLUMNS: &str = "id, name, created_at, modified_at, settings";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("queues");
    let one = format!("{all}/{{queue}}");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(
            &one,
            get(run(read))
                .put(run(update))
                .patch(run(update))
                .delete(run(delete)),
        )
        .route(
            &format!("{one}/consumers"),
            get(run(consumers::list)).post(run(consumers::create)),
        )
        .route(
            &format!("{one}/consumers/{{consumer}}"),
            get(run(consumers::read))
                .put(run(consumers::update))
                .delete(run(consumers::delete)),
        )
        .route(&format!("{one}/messages"), post(run(messages::push)))
        .route(
            &format!("{one}/messages/batch"),
            post(run(messages::push_batch)),
        )
        .route(&format!("{one}/messages/pull"), post(run(messages::pull)))
        .route(&format!("{one}/messages/ack"), post(run(messages::ack)))
        .route(&format!("{one}/purge"), post(run(messages::purge)))
        .route(&format!("{one}/metrics"), get(run(messages::metrics)))
}

/// A queue as the control plane knows it.
pub(super) struct Queue {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    created_at: String,
    modified_at: String,
    /// `delivery_delay`, `delivery_paused` and `message_retention_period`, all set.
    pub(super) settings: Map<String, Value>,
}

impl Queue {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let settings: String = row.get(4)?;
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            created_at: row.get(2)?,
            modified_at: row.get(3)?,
            settings: serde_json::from_str(&settings).unwrap_or_default(),
        })
    }

    /// A setting in seconds.
    pub(super) fn seconds(&self, name: &str) -> i64 {
        self.settings.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The answer about it.
    pub(super) fn value(&self, connection: &Connection) -> Result<Value, ApiError> {
        let consumers = consumers::of_queue(connection, &self.id)?;
        let producers: Vec<Value> = producers(connection, &self.name)?
            .into_iter()
            .map(|script| json!({"type": "worker", "script": script}))
            .collect();
        Ok(json!({
            "queue_id": self.id,
            "queue_name": self.name,
            "created_on": self.created_at,
            "modified_on": self.modified_at,
            "settings": self.settings,
            "producers_total_count": producers.len(),
            "producers": producers,
            "consumers_total_count": consumers.len(),
            "consumers": consumers,
        }))
    }
}

/// Whether a queue with this name exists.
pub(super) fn exists(connection: &Connection, name: &str) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM queues WHERE name = ?1")?
        .exists([name])
}

/// The name of a queue.
pub(super) fn name_of(
    connection: &Connection,
    id: &str,
) -> Result<Option<String>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT name FROM queues WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// The queue of the path, which must exist.
pub(super) fn require(connection: &Connection, call: &Call) -> Result<Queue, ApiError> {
    let id = call.parameter("queue");
    if !is_hex_id(id) {
        return Err(call.no_route());
    }
    connection
        .query_row(
            &format!("SELECT {COLUMNS} FROM queues WHERE id = ?1"),
            [id],
            Queue::of,
        )
        .optional()?
        .ok_or_else(|| {
            ApiError::not_found(NOT_FOUND, format!("Queue does not exist. Queue ID: {id}"))
        })
}

fn valid_name(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

fn name(body: &Map<String, Value>) -> Result<Option<&str>, ApiError> {
    match body.get("queue_name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if valid_name(name) => Ok(Some(name)),
        Some(other) => Err(ApiError::bad_request(
            BAD_NAME,
            format!("invalid queue name {other}: 1 to 63 of a-z, 0-9 and -"),
        )),
    }
}

/// Lays the settings of a body over `settings`.
fn merge_settings(
    body: &Map<String, Value>,
    settings: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let given = match body.get("settings") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(bad_settings("`settings` must be an object")),
    };
    for (name, value) in given {
        let fits = match (name.as_str(), value) {
            (_, Value::Null) => continue,
            ("delivery_delay", value) => value
                .as_i64()
                .is_some_and(|delay| (0..=LONGEST_DELAY).contains(&delay)),
            ("message_retention_period", value) => value
                .as_i64()
                .is_some_and(|period| RETENTION.contains(&period)),
            ("delivery_paused", value) => value.is_boolean(),
            _ => return Err(bad_settings(format!("unknown setting `{name}`"))),
        };
        if !fits {
            return Err(bad_settings(format!("setting `{name}` cannot be {value}")));
        }
        settings.insert(name.clone(), value.clone());
    }
    Ok(())
}

fn bad_settings(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(BAD_SETTINGS, message)
}

fn taken(name: &str) -> ApiError {
    ApiError::conflict(
        EXISTS,
        format!("Queue name '{name}' is already taken. Please use a different name and try again."),
    )
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let name =
        name(&body)?.ok_or_else(|| ApiError::bad_request(BAD_NAME, "queue_name is required"))?;
    let mut settings = Map::new();
    settings.insert("delivery_delay".to_owned(), json!(0));
    settings.insert("delivery_paused".to_owned(), json!(false));
    settings.insert(
        "message_retention_period".to_owned(),
        json!(DEFAULT_RETENTION),
    );
    merge_settings(&body, &mut settings)?;
    let now = now();
    let queue = Queue {
        id: hex_id(),
        name: name.to_owned(),
        created_at: now.clone(),
        modified_at: now,
        settings,
    };
    let value = cloud.control.write(|transaction| {
        let inserted = transaction.execute(
            &format!("INSERT INTO queues({COLUMNS}) VALUES(?1, ?2, ?3, ?4, ?5)"),
            params![
                queue.id,
                queue.name,
                queue.created_at,
                queue.modified_at,
                Value::Object(queue.settings.clone()).to_string()
            ],
        );
        match inserted {
            Err(error) if is_conflict(&error) => Err(taken(name)),
            Err(error) => Err(error.into()),
            Ok(_) => queue.value(transaction),
        }
    })?;
    ok(&value)
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 100, 1000, INVALID)?;
    let names: Vec<&str> = call.query_all("name").collect();
    let names = (!names.is_empty()).then(|| json!(names).to_string());
    let (items, total) = cloud.control.run(|connection| {
        let filter = "(?1 IS NULL OR name IN (SELECT value FROM json_each(?1)))";
        let total: i64 = connection.query_row(
            &format!("SELECT count(*) FROM queues WHERE {filter}"),
            [&names],
            |row| row.get(0),
        )?;
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM queues WHERE {filter} ORDER BY created_at, name LIMIT ?2 OFFSET ?3"
        ))?;
        let queues = statement
            .query_map(params![names, page.limit(), page.offset()], Queue::of)?
            .collect::<Result<Vec<_>, _>>()?;
        let items = queues
            .iter()
            .map(|queue| queue.value(connection))
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((items, total))
    })?;
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud
        .control
        .run(|connection| require(connection, call)?.value(connection))?;
    ok(&value)
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let new_name = name(&body)?;
    let value = cloud.control.write(|transaction| {
        let mut queue = require(transaction, call)?;
        if let Some(name) = new_name {
            name.clone_into(&mut queue.name);
        }
        merge_settings(&body, &mut queue.settings)?;
        queue.modified_at = now();
        let updated = transaction.execute(
            "UPDATE queues SET name = ?2, settings = ?3, modified_at = ?4 WHERE id = ?1",
            params![
                queue.id,
                queue.name,
                Value::Object(queue.settings.clone()).to_string(),
                queue.modified_at
            ],
        );
        match updated {
            Err(error) if is_conflict(&error) => Err(taken(&queue.name)),
            Err(error) => Err(error.into()),
            Ok(_) => queue.value(transaction),
        }
    })?;
    ok(&value)
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let queue = require(transaction, call)?;
        if r2_notifications::uses(transaction, &queue.id)? {
            let message = "The queue gets event notifications of a bucket; remove them first.";
            return Err(ApiError::bad_request(NOTIFIED, message));
        }
        transaction.execute("DELETE FROM queues WHERE id = ?1", [&queue.id])?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::Client;

    const PATH: &str = "/accounts/local/queues";

    #[tokio::test]
    async fn a_queue_is_found_by_name_and_settled() {
        let client = Client::new();
        let body = json!({"queue_name": "jobs", "settings": {"delivery_delay": 5}});
        let created = client.ok("POST", PATH, Some(body.clone())).await;
        let id = created["result"]["queue_id"].as_str().unwrap();
        assert_eq!(
            created["result"]["settings"],
            json!({"delivery_delay": 5, "delivery_paused": false, "message_retention_period": 345_600})
        );
        client
            .ok("POST", PATH, Some(json!({"queue_name": "more"})))
            .await;
        assert_eq!(client.fails("POST", PATH, Some(body)).await, (409, 11009));
        for (query, count) in [
            ("name=jobs", 1),
            ("name=jobs&name=more", 2),
            ("name=x", 0),
            ("page=2", 0),
        ] {
            let list = client.ok("GET", &format!("{PATH}?{query}"), None).await;
            assert_eq!(list["result_info"]["count"], count, "{query}");
        }
        let one = format!("{PATH}/{id}");
        let patched = client
            .ok(
                "PATCH",
                &one,
                Some(json!({"settings": {"delivery_paused": true}})),
            )
            .await;
        assert_eq!(patched["result"]["settings"]["delivery_delay"], 5);
        assert_eq!(patched["result"]["settings"]["delivery_paused"], true);
        assert_eq!(
            client
                .fails("PUT", &one, Some(json!({"queue_name": "more"})))
                .await,
            (409, 11009)
        );
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 11000));
        assert_eq!(client.fails("DELETE", &one, None).await, (404, 11000));
    }

    #[tokio::test]
    async fn bad_input_is_refused() {
        let client = Client::new();
        for (body, code) in [
            (json!({}), 11003),
            (json!({"queue_name": "Bad"}), 11003),
            (
                json!({"queue_name": "a", "settings": {"delivery_delay": -1}}),
                100_127,
            ),
            (
                json!({"queue_name": "a", "settings": {"message_retention_period": 1}}),
                100_127,
            ),
            (
                json!({"queue_name": "a", "settings": {"delay": 1}}),
                100_127,
            ),
            (json!([]), 10026),
        ] {
            assert_eq!(client.fails("POST", PATH, Some(body)).await, (400, code));
        }
        assert_eq!(
            client.fails("GET", &format!("{PATH}/x"), None).await,
            (404, 7003)
        );
    }
}
