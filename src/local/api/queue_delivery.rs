//! Queues as the runtime uses them: what Workers send, and the batches that Workers get.
//!
//! The messages lie in the same table that the HTTP side (`queue_messages`) writes and reads, so that a message may come in
//! on one side and go out on the other. A batch is leased while a Worker has it, as for a client that pulls; leases of
//! Workers begin with [`LEASE`], so that those of a program that was killed can be taken back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde_json::{Value, json};

use super::{
    call::{hex_id, now_millis},
    queue_messages::LONGEST_DELAY,
};
use crate::local::control::ControlError;

/// What the lease of a Worker begins with.
const LEASE: &str = "w-";
/// How long a Worker may work on a batch: Cloudflare ends it after 15 minutes; a little more, so that only one ends it.
const LEASE_MILLIS: i64 = 16 * 60 * 1000;
/// The wait when there was no Worker to take a batch.
const ABSENT_MILLIS: i64 = 1000;

/// A message that a Worker sends.
#[derive(Debug)]
pub(in crate::local) struct Sent {
    pub(in crate::local) body: Vec<u8>,
    /// `text`, `json`, `bytes` or `v8`.
    pub(in crate::local) content_type: String,
    /// In seconds; the queue's own delay when none is given.
    pub(in crate::local) delay: Option<i64>,
}

/// A consumer with something to do, now or later.
#[derive(Debug, Clone)]
pub(in crate::local) struct Consumer {
    pub(in crate::local) queue_id: String,
    pub(in crate::local) queue: String,
    pub(in crate::local) script: String,
    pub(in crate::local) max_concurrency: usize,
    batch_size: i64,
    max_retries: i64,
    retry_delay: i64,
    dead_letter_queue: Option<String>,
    /// When the next batch can go, in milliseconds since 1970.
    pub(in crate::local) due: i64,
}

/// The messages that a Worker gets at once.
#[derive(Debug)]
pub(in crate::local) struct Batch {
    pub(in crate::local) consumer: Consumer,
    pub(in crate::local) messages: Vec<Message>,
}

/// One of them.
#[derive(Debug)]
pub(in crate::local) struct Message {
    pub(in crate::local) id: String,
    /// When it was sent, in milliseconds since 1970.
    pub(in crate::local) timestamp: i64,
    /// This time included.
    pub(in crate::local) attempts: i64,
    pub(in crate::local) content_type: String,
    /// Text, or base64 of `bytes` and `v8`.
    pub(in crate::local) body: String,
    lease: String,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Outcome {
    Done,
    /// After so many seconds, or the consumer's own delay.
    Retry(Option<i64>),
    /// No Worker had it: it is tried again and that does not count.
    Untouched,
}

/// Messages that are not tried again.
#[derive(Debug, Default)]
pub(in crate::local) struct GivenUp {
    pub(in crate::local) dropped: usize,
    /// And the queue they went to.
    pub(in crate::local) dead: Option<(usize, String)>,
}

/// Keeps what a Worker sends to a queue; answers the queue's figures, none when there is no such queue.
pub(in crate::local) fn send(
    transaction: &Transaction<'_>,
    queue: &str,
    messages: &[Sent],
) -> Result<Option<Value>, ControlError> {
    let Some((id, delay, retention)) = queue_of(transaction, queue)? else {
        return Ok(None);
    };
    let now = now_millis();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO queue_messages(id, queue, body, content_type, created, visible, expires)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for message in messages {
        let body = if matches!(message.content_type.as_str(), "text" | "json") {
            String::from_utf8_lossy(&message.body).into_owned()
        } else {
            STANDARD.encode(&message.body)
        };
        let delay = message.delay.unwrap_or(delay).clamp(0, LONGEST_DELAY);
        insert.execute(params![
            hex_id(),
            id,
            body,
            message.content_type,
            now,
            now + delay * 1000,
            now + retention * 1000
        ])?;
    }
    metrics(transaction, queue)
}

/// Id, delay and retention of a queue.
fn queue_of(
    connection: &Connection,
    name: &str,
) -> Result<Option<(String, i64, i64)>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT id, coalesce(json_extract(settings, '$.delivery_delay'), 0),
                    coalesce(json_extract(settings, '$.message_retention_period'), 345600)
             FROM queues WHERE name = ?1",
        )?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// The figures of a queue as Workers see them.
pub(in crate::local) fn metrics(
    connection: &Connection,
    queue: &str,
) -> Result<Option<Value>, ControlError> {
    Ok(connection
        .prepare_cached(
            "SELECT count(m.id), coalesce(sum(length(CAST(m.body AS BLOB))), 0), coalesce(min(m.created), 0)
             FROM queues q LEFT JOIN queue_messages m ON m.queue = q.id WHERE q.name = ?1 GROUP BY q.id",
        )?
        .query_row([queue], |row| {
            Ok(json!({
                "backlogCount": row.get::<_, i64>(0)?,
                "backlogBytes": row.get::<_, i64>(1)?,
                "oldestMessageTimestamp": row.get::<_, i64>(2)?,
            }))
        })
        .optional()?)
}

/// Gives back what a program that is no more had leased for Workers.
pub(in crate::local) fn release(transaction: &Transaction<'_>) -> Result<(), ControlError> {
    transaction.execute(
        "UPDATE queue_messages SET lease = NULL, visible = ?1 WHERE lease LIKE ?2 || '%'",
        params![now_millis(), LEASE],
    )?;
    Ok(())
}

/// The Workers that consume a queue with messages.
pub(in crate::local) fn waiting(connection: &Connection) -> Result<Vec<Consumer>, ControlError> {
    let now = now_millis();
    let mut statement = connection.prepare_cached(
        "SELECT q.id, q.name, c.script, c.dead_letter_queue, c.settings
         FROM queue_consumers c JOIN queues q ON q.id = c.queue
         WHERE c.type = 'worker' AND c.script IS NOT NULL AND NOT coalesce(json_extract(q.settings, '$.delivery_paused'), 0)",
    )?;
    let all = statement
        .query_map([], consumer)?
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for (mut consumer, wait) in all {
        if let Some(due) = due(connection, &consumer, wait, now)? {
            consumer.due = due;
            out.push(consumer);
        }
    }
    Ok(out)
}

/// A consumer, not yet asked for its messages, and how long its batches wait.
fn consumer(row: &Row<'_>) -> Result<(Consumer, i64), rusqlite::Error> {
    let settings: String = row.get(4)?;
    let settings: Value = serde_json::from_str(&settings).unwrap_or_default();
    let setting = |name: &str, default| settings[name].as_i64().unwrap_or(default);
    // One batch at once unless the script asks for more: what happens in which order is easier to follow.
    let concurrency = usize::try_from(setting("max_concurrency", 1)).unwrap_or(1);
    let consumer = Consumer {
        queue_id: row.get(0)?,
        queue: row.get(1)?,
        script: row.get(2)?,
        dead_letter_queue: row.get(3)?,
        max_concurrency: concurrency.clamp(1, 250),
        batch_size: setting("batch_size", 10).max(1),
        max_retries: setting("max_retries", 3),
        retry_delay: setting("retry_delay", 0),
        due: 0,
    };
    Ok((consumer, setting("max_wait_time_ms", 5000)))
}

/// When the next batch of a queue can go: at once when it is full, else when its oldest message has waited long enough.
fn due(
    connection: &Connection,
    consumer: &Consumer,
    wait: i64,
    now: i64,
) -> Result<Option<i64>, rusqlite::Error> {
    let (count, oldest): (i64, Option<i64>) = connection
        .prepare_cached(
            "SELECT count(*), min(visible) FROM
               (SELECT visible FROM queue_messages WHERE queue = ?1 AND visible <= ?2 ORDER BY visible LIMIT ?3)",
        )?
        .query_row(params![consumer.queue_id, now, consumer.batch_size], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if count >= consumer.batch_size {
        return Ok(Some(now));
    }
    let next: Option<i64> = connection
        .prepare_cached(
            "SELECT min(visible) FROM queue_messages WHERE queue = ?1 AND visible > ?2",
        )?
        .query_row(params![consumer.queue_id, now], |row| row.get(0))?;
    Ok(match (oldest, next) {
        // A message that comes before that may fill the batch.
        (Some(oldest), Some(next)) => Some((oldest + wait).min(next)),
        (Some(oldest), None) => Some(oldest + wait),
        (None, next) => next,
    })
}

/// Leases the next batch of a queue; none when there is nothing to deliver any more.
pub(in crate::local) fn take(
    transaction: &Transaction<'_>,
    consumer: &Consumer,
) -> Result<Option<Batch>, ControlError> {
    let now = now_millis();
    transaction.execute(
        "DELETE FROM queue_messages WHERE queue = ?1 AND expires <= ?2",
        params![consumer.queue_id, now],
    )?;
    let mut statement = transaction.prepare_cached(
        "UPDATE queue_messages SET lease = ?5 || lower(hex(randomblob(16))), visible = ?2 + ?3, attempts = attempts + 1
         WHERE id IN (SELECT id FROM queue_messages WHERE queue = ?1 AND visible <= ?2 ORDER BY created, rowid LIMIT ?4)
         RETURNING id, created, attempts, content_type, body, lease",
    )?;
    let mut messages = statement
        .query_map(
            params![
                consumer.queue_id,
                now,
                LEASE_MILLIS,
                consumer.batch_size,
                LEASE
            ],
            |row| {
                Ok(Message {
                    id: row.get(0)?,
                    timestamp: row.get(1)?,
                    attempts: row.get(2)?,
                    content_type: row.get(3)?,
                    body: row.get(4)?,
                    lease: row.get(5)?,
                })
            },
        )?
        .collect::<Result<Vec<_>, _>>()?;
    messages.sort_by_key(|message| message.timestamp);
    Ok((!messages.is_empty()).then(|| Batch {
        consumer: consumer.clone(),
        messages,
    }))
}

/// Writes down what became of the messages of a batch. A message that was purged or has outlived its lease is left alone.
pub(in crate::local) fn settle(
    transaction: &Transaction<'_>,
    batch: &Batch,
    outcome: impl Fn(&Message) -> Outcome,
) -> Result<GivenUp, ControlError> {
    let now = now_millis();
    let consumer = &batch.consumer;
    let dead = match &consumer.dead_letter_queue {
        Some(name) => queue_of(transaction, name)?.map(|queue| (name, queue)),
        None => None,
    };
    let mut given_up = GivenUp::default();
    let remove = |message: &Message| {
        transaction.execute(
            "DELETE FROM queue_messages WHERE lease = ?1",
            [&message.lease],
        )
    };
    for message in &batch.messages {
        match (outcome(message), &dead) {
            (Outcome::Done, _) => {
                remove(message)?;
            }
            (Outcome::Untouched, _) => {
                transaction.execute(
                    "UPDATE queue_messages SET lease = NULL, attempts = attempts - 1, visible = ?2 WHERE lease = ?1",
                    params![message.lease, now + ABSENT_MILLIS],
                )?;
            }
            (Outcome::Retry(delay), _) if message.attempts <= consumer.max_retries => {
                let delay = delay
                    .unwrap_or(consumer.retry_delay)
                    .clamp(0, LONGEST_DELAY);
                transaction.execute(
                    "UPDATE queue_messages SET lease = NULL, visible = ?2 WHERE lease = ?1",
                    params![message.lease, now + delay * 1000],
                )?;
            }
            (Outcome::Retry(_), Some((name, (id, delay, retention)))) => {
                let moved = transaction.execute(
                    "UPDATE queue_messages SET queue = ?2, lease = NULL, attempts = 0, visible = ?3, expires = ?4
                     WHERE lease = ?1",
                    params![message.lease, id, now + delay * 1000, now + retention * 1000],
                )?;
                let before = given_up.dead.map_or(0, |(count, _)| count);
                given_up.dead = Some((before + moved, (*name).clone()));
            }
            (Outcome::Retry(_), None) => given_up.dropped += remove(message)?,
        }
    }
    Ok(given_up)
}
