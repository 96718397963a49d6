//! What happens to the objects of buckets, told to the queues that rules of [`super::r2_notifications`] name.
//!
//! Triggers in the SQLite file of the bucket note each write, whoever makes it: the API of any process, or the simulator
//! that a Worker's binding ends in. A note lies in the very transaction that it is about, so none is lost and none is
//! premature. Whoever wrote then calls [`deliver`], which turns notes into messages; what a crash leaves behind goes with the
//! next call. Source of the messages' form: Cloudflare's documentation of event notifications.
//!
//! Delivery is at least once, as at Cloudflare. Objects are not copied and do not expire here, so `CopyObject` and
//! `LifecycleDeletion` never happen.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::{Value, json};

use super::{call::now_millis, r2_notifications as rules};
use crate::local::{Cloud, control::ControlError, layout};

/// How many notes become messages in one transaction.
const BATCH: i64 = 200;

/// Upserts of the simulator are `INSERT OR REPLACE`, which fires no trigger for what it replaces. An object that was
/// uploaded in parts has no blob of its own. The times are in milliseconds since 1970.
const TRIGGERS: &str = "
    CREATE TABLE IF NOT EXISTS _alch_events(
        id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, action TEXT NOT NULL, key TEXT NOT NULL,
        size INTEGER, etag TEXT);
    CREATE TRIGGER IF NOT EXISTS _alch_object_created AFTER INSERT ON _mf_objects BEGIN
        INSERT INTO _alch_events(time, action, key, size, etag)
        VALUES(new.uploaded, CASE WHEN new.blob_id IS NULL THEN 'CompleteMultipartUpload' ELSE 'PutObject' END,
               new.key, new.size, new.etag);
    END;
    CREATE TRIGGER IF NOT EXISTS _alch_object_deleted AFTER DELETE ON _mf_objects BEGIN
        INSERT INTO _alch_events(time, action, key)
        VALUES(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'DeleteObject', old.key);
    END;";

const NO_TRIGGERS: &str = "
    DROP TRIGGER IF EXISTS _alch_object_created;
    DROP TRIGGER IF EXISTS _alch_object_deleted;
    DROP TABLE IF EXISTS _alch_events;";

/// Notes what happens to the objects of a bucket from now on. `key` names its data (see [`layout::bucket_key`]).
pub(super) fn watch(cloud: &Cloud, key: &str) -> Result<(), ControlError> {
    open(cloud, key).map(drop)
}

/// Ends that.
pub(super) fn ignore(cloud: &Cloud, key: &str) -> Result<(), ControlError> {
    let connection = super::r2_objects::open(&layout::r2_file(&cloud.folder, key))?;
    Ok(connection.execute_batch(NO_TRIGGERS)?)
}

fn open(cloud: &Cloud, key: &str) -> Result<Connection, ControlError> {
    let connection = super::r2_objects::open(&layout::r2_file(&cloud.folder, key))?;
    connection.execute_batch(TRIGGERS)?;
    Ok(connection)
}

/// Sends what happened in every bucket that has rules; answers the number of messages.
pub(in crate::local) fn deliver_all(cloud: &Cloud) -> Result<usize, ControlError> {
    let keys = cloud.control.run(rules::watched)?;
    keys.iter().map(|key| deliver(cloud, key)).sum()
}

/// Sends what happened in a bucket to the queues that its rules name; answers the number of messages. A bucket without
/// rules costs one look at the control database.
pub(in crate::local) fn deliver(cloud: &Cloud, key: &str) -> Result<usize, ControlError> {
    let has_rules = |connection: &Connection| rules::of_bucket(connection, key);
    if cloud.control.run(has_rules)?.is_none() {
        return Ok(0);
    }
    let bucket = open(cloud, key)?;
    let mut sent = 0;
    loop {
        // All under the lock of the control database, so that no other process takes the same notes meanwhile.
        let (last, messages) = cloud.control.write(|transaction| {
            let Some(rules) = rules::of_bucket(transaction, key)? else {
                return Ok::<_, ControlError>((None, 0));
            };
            let events = read(&bucket)?;
            let mut messages = 0;
            for event in &events {
                for queue in rules.queues(&event.action, &event.key) {
                    messages += send((transaction, cloud.account()), queue, &rules, event)?;
                }
            }
            Ok((events.last().map(|event| event.id), messages))
        })?;
        sent += messages;
        let Some(last) = last else {
            return Ok(sent);
        };
        // After the messages are durable. A crash in between sends them once more, unless they are still waiting.
        bucket.execute("DELETE FROM _alch_events WHERE id <= ?1", [last])?;
    }
}

struct Event {
    id: i64,
    time: i64,
    action: String,
    key: String,
    size: Option<i64>,
    etag: Option<String>,
}

fn read(bucket: &Connection) -> Result<Vec<Event>, ControlError> {
    let mut statement = bucket.prepare_cached(
        "SELECT id, time, action, key, size, etag FROM _alch_events ORDER BY id LIMIT ?1",
    )?;
    let rows = statement.query_map([BATCH], |row| {
        Ok(Event {
            id: row.get(0)?,
            time: row.get(1)?,
            action: row.get(2)?,
            key: row.get(3)?,
            size: row.get(4)?,
            etag: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The message of an event.
fn message(account: &str, bucket: &str, event: &Event) -> Value {
    let mut object = json!({ "key": event.key });
    if let (Some(size), Some(etag)) = (event.size, &event.etag) {
        object["size"] = json!(size);
        object["eTag"] = json!(etag);
    }
    let time = jiff::Timestamp::from_millisecond(event.time)
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    json!({
        "account": account,
        "action": event.action,
        "bucket": bucket,
        "object": object,
        "eventTime": time.unwrap_or_default(),
    })
}

/// Puts the message of an event into a queue, once; answers how many were put there.
fn send(
    (transaction, account): (&Transaction<'_>, &str),
    queue: &str,
    rules: &rules::Rules,
    event: &Event,
) -> Result<usize, ControlError> {
    let settings: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT coalesce(json_extract(settings, '$.delivery_delay'), 0),
                    coalesce(json_extract(settings, '$.message_retention_period'), 345600)
             FROM queues WHERE id = ?1",
        )?
        .query_row([queue], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((delay, retention)) = settings else {
        return Ok(0);
    };
    let now = now_millis();
    // The same note makes the same id.
    let source = format!("{} {queue} {} {}", rules.bucket_id, event.id, event.time);
    let id = hex::encode(&blake3::hash(source.as_bytes()).as_bytes()[..16]);
    let sent = transaction.execute(
        "INSERT OR IGNORE INTO queue_messages(id, queue, body, content_type, created, visible, expires)
         VALUES(?1, ?2, ?3, 'json', ?4, ?5, ?6)",
        params![
            id,
            queue,
            message(account, &rules.bucket, event).to_string(),
            now,
            now + delay * 1000,
            now + retention * 1000
        ],
    )?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    use crate::local::testing::Client;

    const BUCKETS: &str = "/accounts/local/r2/buckets";
    const RULES: &str = "/accounts/local/event_notifications/r2/files/configuration/queues";

    /// A bucket `files` and a queue that is told of `rules`; answers the path of the queue.
    async fn told(client: &Client, rules: Value) -> String {
        let body = json!({"name": "files"});
        client.ok("POST", BUCKETS, Some(body)).await;
        let queues = "/accounts/local/queues";
        let body = json!({"queue_name": "news"});
        let made = client.ok("POST", queues, Some(body)).await;
        let id = made["result"]["queue_id"].as_str().unwrap().to_owned();
        let body = json!({ "rules": rules });
        client.ok("PUT", &format!("{RULES}/{id}"), Some(body)).await;
        format!("{queues}/{id}")
    }

    /// The messages of a queue, oldest first, with the times taken out.
    async fn messages(client: &Client, queue: &str) -> Vec<Value> {
        let consumer = json!({"type": "http_pull"});
        let (_, _) = client
            .send(
                "POST",
                &format!("{queue}/consumers"),
                &[("content-type", "application/json")],
                consumer.to_string().into_bytes(),
            )
            .await;
        let body = json!({"batch_size": 100});
        let pulled = client
            .ok("POST", &format!("{queue}/messages/pull"), Some(body))
            .await;
        let messages = pulled["result"]["messages"].as_array().unwrap();
        let body = |message: &Value| {
            let mut body = body_of(message);
            let time: jiff::Timestamp = body["eventTime"].as_str().unwrap().parse().unwrap();
            assert!(jiff::Timestamp::now().duration_since(time).as_secs().abs() < 60);
            body["eventTime"] = Value::Null;
            body
        };
        messages.iter().map(body).collect()
    }

    fn body_of(message: &Value) -> Value {
        let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    async fn put(client: &Client, key: &str, content: &str) {
        let path = format!("{BUCKETS}/files/objects/{key}");
        let (status, _) = client.send("PUT", &path, &[], content.into()).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn writes_over_the_api_become_messages_by_the_rules() {
        let client = Client::new();
        let queue = told(
            &client,
            json!([
                {"actions": ["PutObject", "CopyObject"], "prefix": "in/", "suffix": ".txt"},
                {"actions": ["DeleteObject"]},
            ]),
        )
        .await;
        put(&client, "in/a.txt", "body").await;
        put(&client, "in/a.png", "no").await;
        put(&client, "out/a.txt", "no").await;
        let expected = json!({
            "account": crate::local::DEFAULT_ACCOUNT,
            "action": "PutObject",
            "bucket": "files",
            "object": {"key": "in/a.txt", "size": 4, "eTag": "841a2d689ad86bd1611447453c22c6fc"},
            "eventTime": null,
        });
        assert_eq!(messages(&client, &queue).await, [expected]);
        // Writing over an object deletes none.
        put(&client, "in/a.txt", "more").await;
        assert_eq!(messages(&client, &queue).await.len(), 1);
        let objects = format!("{BUCKETS}/files/objects");
        client
            .ok("DELETE", &format!("{objects}/in/a.txt"), None)
            .await;
        let many = json!(["in/a.png", "missing"]);
        client.ok("DELETE", &objects, Some(many)).await;
        let told = messages(&client, &queue).await;
        let mut keys: Vec<&Value> = told.iter().map(|told| &told["object"]).collect();
        keys.sort_by_key(|key| key.to_string());
        assert_eq!(
            keys,
            [&json!({"key": "in/a.png"}), &json!({"key": "in/a.txt"})]
        );
        assert!(told.iter().all(|told| told["action"] == "DeleteObject"));
    }

    #[tokio::test]
    async fn nothing_is_told_without_rules_or_from_before() {
        let client = Client::new();
        let queue = told(&client, json!([{"actions": ["PutObject"]}])).await;
        let id = queue.rsplit('/').next().unwrap();
        let rule = format!("{RULES}/{id}");
        client.ok("DELETE", &rule, None).await;
        put(&client, "between", "1").await;
        let body = json!({"rules": [{"actions": ["PutObject"]}]});
        client.ok("PUT", &rule, Some(body)).await;
        put(&client, "after", "1").await;
        let told = messages(&client, &queue).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["object"]["key"], "after");
    }

    #[tokio::test]
    async fn what_a_crash_leaves_behind_is_told_once() {
        let client = Client::new();
        let queue = told(&client, json!([{"actions": ["CompleteMultipartUpload"]}])).await;
        let file = crate::local::layout::r2_file(client.folder.path(), "files");
        let bucket = rusqlite::Connection::open(file).unwrap();
        let write = "INSERT OR REPLACE INTO _mf_objects VALUES('k', NULL, 'v', 1, 'e', 1, '{}', '{}', '{}')";
        bucket.execute(write, []).unwrap();
        let note = "INSERT INTO _alch_events SELECT * FROM kept";
        bucket
            .execute("CREATE TEMP TABLE kept AS SELECT * FROM _alch_events", [])
            .unwrap();
        let cloud = crate::local::Cloud::open(client.folder.path()).unwrap();
        assert_eq!(super::deliver_all(&cloud).unwrap(), 1);
        // As if the program had ended before the note was taken away.
        bucket.execute(note, []).unwrap();
        assert_eq!(super::deliver_all(&cloud).unwrap(), 0);
        let pull = format!("{queue}/messages/pull");
        let consumer = json!({"type": "http_pull"});
        client
            .ok("POST", &format!("{queue}/consumers"), Some(consumer))
            .await;
        let pulled = client.ok("POST", &pull, Some(json!({}))).await;
        let messages = pulled["result"]["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!(body_of(&messages[0])["action"], "CompleteMultipartUpload");
    }
}
