//! The event notifications of R2 buckets: the rules. `r2_events` sends the messages.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok},
    error::ApiError,
    queues,
    r2::{self, Bucket},
    r2_events as events, r2_settings as settings,
};
use crate::local::{Cloud, control::ControlError, layout};

const KIND: &str = "notifications";
const NO_BUCKET: u32 = 10085;
const NO_RULES: u32 = 11011;
const INVALID: u32 = 11014;
const NO_CONFIGURATION: u32 = 11015;
const OVERLAP: u32 = 11020;
const ACTIONS: [&str; 5] = [
    "PutObject",
    "CopyObject",
    "DeleteObject",
    "CompleteMultipartUpload",
    "LifecycleDeletion",
];

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("event_notifications/r2/{bucket}/configuration");
    Router::new().route(&all, get(run(list))).route(
        &format!("{all}/queues/{{queue}}"),
        get(run(read)).put(run(add)).delete(run(delete)),
    )
}

/// Whether any bucket sends messages to a queue.
pub(super) fn uses(connection: &Connection, queue: &str) -> Result<bool, ApiError> {
    settings::any_has(connection, KIND, queue)
}

/// The rules of a bucket, for what happens to its objects.
pub(super) struct Rules {
    /// The name of the bucket.
    pub(super) bucket: String,
    pub(super) bucket_id: String,
    /// By the id of their queue.
    by_queue: Map<String, Value>,
}

impl Rules {
    /// The ids of the queues that are told of an action on an object.
    pub(super) fn queues<'a>(
        &'a self,
        action: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let fits = move |rule: &Value| {
            let text = |field: &str| rule[field].as_str().unwrap_or_default();
            let actions = rule["actions"].as_array();
            let named = actions.is_some_and(|actions| actions.iter().any(|named| named == action));
            named && key.starts_with(text("prefix")) && key.ends_with(text("suffix"))
        };
        self.by_queue.iter().filter_map(move |(queue, rules)| {
            let told = rules.as_array().is_some_and(|rules| rules.iter().any(fits));
            told.then_some(queue.as_str())
        })
    }
}

/// The rules of the bucket whose data has this name; none where it has none.
pub(super) fn of_bucket(connection: &Connection, key: &str) -> Result<Option<Rules>, ControlError> {
    let found = all(connection)?;
    Ok(found
        .into_iter()
        .find_map(|(other, rules)| (other == key).then_some(rules)))
}

/// The names of the data of all buckets with rules.
pub(super) fn watched(connection: &Connection) -> Result<Vec<String>, ControlError> {
    Ok(all(connection)?.into_iter().map(|(key, _)| key).collect())
}

fn all(connection: &Connection) -> Result<Vec<(String, Rules)>, ControlError> {
    let mut statement = connection.prepare_cached(
        "SELECT b.jurisdiction, b.name, b.id, s.body
         FROM r2_settings s JOIN r2_buckets b ON b.id = s.bucket WHERE s.kind = ?1",
    )?;
    let rows = statement.query_map([KIND], |row| {
        let (jurisdiction, bucket): (String, String) = (row.get(0)?, row.get(1)?);
        let body: String = row.get(3)?;
        let rules = Rules {
            bucket_id: row.get(2)?,
            // Written by this program: what is no JSON names no queue.
            by_queue: serde_json::from_str(&body).unwrap_or_default(),
            bucket: bucket.clone(),
        };
        Ok((layout::bucket_key(&jurisdiction, &bucket), rules))
    })?;
    let all = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(all
        .into_iter()
        .filter(|(_, rules)| !rules.by_queue.is_empty())
        .collect())
}

/// The rules of a bucket by the id of their queue.
fn load(connection: &Connection, bucket: &str) -> Result<Map<String, Value>, ApiError> {
    settings::load_items(connection, bucket, KIND)
}

fn store(connection: &Connection, bucket: &str, all: Map<String, Value>) -> Result<(), ApiError> {
    settings::store(connection, bucket, KIND, &Value::Object(all))
}

/// The bucket of the path, whose absence has a code of its own here.
fn require(connection: &Connection, call: &Call) -> Result<Bucket, ApiError> {
    if r2::exists(
        connection,
        r2::jurisdiction(call)?,
        call.parameter("bucket"),
    )? {
        return r2::require(connection, call);
    }
    Err(ApiError::not_found(
        NO_BUCKET,
        "The specified bucket does not exist.",
    ))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

/// Whether some object would be told of twice.
fn overlap(one: &Value, other: &Value) -> bool {
    let actions = |rule: &Value| rule["actions"].as_array().cloned().unwrap_or_default();
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
    let (prefix, other_prefix) = (text(one, "prefix"), text(other, "prefix"));
    let (suffix, other_suffix) = (text(one, "suffix"), text(other, "suffix"));
    let prefixes = prefix.starts_with(&other_prefix) || other_prefix.starts_with(&prefix);
    let suffixes = suffix.ends_with(&other_suffix) || other_suffix.ends_with(&suffix);
    let others = actions(other);
    prefixes && suffixes && actions(one).iter().any(|action| others.contains(action))
}

/// A rule as it is stored.
fn rule(given: &Value) -> Result<Value, ApiError> {
    let actions = given["actions"].as_array().filter(|actions| {
        let known = |action: &Value| action.as_str().is_some_and(|text| ACTIONS.contains(&text));
        !actions.is_empty() && actions.iter().all(known)
    });
    let actions = actions.ok_or_else(|| invalid("`actions` must name actions"))?;
    let mut rule = json!({ "ruleId": hex_id(), "createdAt": now(), "actions": actions });
    for field in ["prefix", "suffix", "description"] {
        match &given[field] {
            Value::Null => {}
            text @ Value::String(_) => rule[field] = text.clone(),
            _ => return Err(invalid(format!("`{field}` must be text"))),
        }
    }
    Ok(rule)
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let queues = cloud.control.run(|connection| {
        let bucket = require(connection, call)?;
        let mut out = Vec::new();
        for (queue, rules) in load(connection, &bucket.id)? {
            let name = queues::name_of(connection, &queue)?;
            out.push(json!({ "queueId": queue, "queueName": name, "rules": rules }));
        }
        Ok::<_, ApiError>(out)
    })?;
    if queues.is_empty() {
        let message = "The bucket has no event notifications.";
        return Err(ApiError::not_found(NO_CONFIGURATION, message));
    }
    ok(&json!({ "bucketName": call.parameter("bucket"), "queues": queues }))
}

fn no_rules() -> ApiError {
    ApiError::not_found(NO_RULES, "The bucket sends the queue no notifications.")
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud.control.run(|connection| {
        let bucket = require(connection, call)?;
        let queue = queues::require(connection, call)?;
        let rules = load(connection, &bucket.id)?.remove(&queue.id);
        let rules = rules.ok_or_else(no_rules)?;
        let name = queues::name_of(connection, &queue.id)?;
        Ok::<_, ApiError>(json!({ "queueId": queue.id, "queueName": name, "rules": rules }))
    })?;
    ok(&value)
}

/// `PUT …/queues/{queue}`: adds rules to those that are there.
fn add(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let given = body
        .get("rules")
        .and_then(Value::as_array)
        .ok_or_else(|| invalid("`rules` must be an array"))?;
    let added = given.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let queue = queues::require(transaction, call)?;
        let mut rules = load(transaction, &bucket.id)?;
        let mut all: Vec<Value> = rules
            .values()
            .filter_map(Value::as_array)
            .flatten()
            .cloned()
            .collect();
        for rule in &added {
            if all.iter().any(|other| overlap(rule, other)) {
                let message = "The rule overlaps another rule of the bucket.";
                return Err(ApiError::conflict(OVERLAP, message));
            }
            all.push(rule.clone());
        }
        let mut own = match rules.remove(&queue.id) {
            Some(Value::Array(own)) => own,
            _ => Vec::new(),
        };
        own.extend(added);
        rules.insert(queue.id, Value::Array(own));
        events::watch(cloud, &bucket.key())?;
        store(transaction, &bucket.id, rules)
    })?;
    ok(&json!({}))
}

/// `DELETE …/queues/{queue}`: removes the rules of these `ruleIds`, or all.
fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let ids = match call.body.is_empty() {
        true => None,
        false => call.object(INVALID)?.remove("ruleIds"),
    };
    if ids.as_ref().is_some_and(|ids| !ids.is_array()) {
        return Err(invalid("`ruleIds` must be an array"));
    }
    let ids = ids.as_ref().and_then(Value::as_array);
    let named = |rule: &Value| ids.is_none_or(|ids| ids.contains(&rule["ruleId"]));
    cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let queue = queues::require(transaction, call)?;
        let mut rules = load(transaction, &bucket.id)?;
        let Some(Value::Array(mut own)) = rules.remove(&queue.id) else {
            return Err(no_rules());
        };
        own.retain(|rule| !named(rule));
        if !own.is_empty() {
            rules.insert(queue.id, Value::Array(own));
        }
        if rules.is_empty() {
            events::ignore(cloud, &bucket.key())?;
        }
        store(transaction, &bucket.id, rules)
    })?;
    ok(&json!({}))
}
