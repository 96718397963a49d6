//! AI gateways: the control plane. No requests go through them in the local cloud.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
};
use crate::local::{
    Cloud,
    objects::{self, Object},
};

const KIND: &str = "ai_gateway";
/// Both a body that does not fit and a name that is taken.
const INVALID: u32 = 7001;
const NOT_FOUND: u32 = 7002;
const NAME_LIMIT: usize = 64;
const LOGS: std::ops::RangeInclusive<u64> = 10_000..=10_000_000;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("ai-gateway/gateways");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(
            &format!("{all}/{{gateway}}"),
            get(run(read)).put(run(replace)).delete(run(delete)),
        )
}

fn value(cloud: &Cloud, gateway: &Object) -> Value {
    let mut out = gateway.body.clone();
    for (field, value) in [
        ("id", json!(gateway.name)),
        ("internal_id", json!(gateway.id)),
        ("account_id", json!(cloud.account())),
        ("created_at", json!(gateway.created_at)),
        ("modified_at", json!(gateway.modified_at)),
    ] {
        out.insert(field.to_owned(), value);
    }
    Value::Object(out)
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::named(connection, KIND, "", call.parameter("gateway"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Not Found"))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

/// The settings of a body. What the account must say is checked, what it may leave out gets its usual value.
fn settings(body: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut out = Map::new();
    for (field, needed) in [
        ("cache_invalidate_on_update", true),
        ("collect_logs", true),
        ("authentication", false),
        ("logpush", false),
        ("zdr", false),
    ] {
        let switch = match body.get(field) {
            Some(Value::Bool(switch)) => *switch,
            None if !needed => false,
            _ => return Err(invalid(format!("`{field}` must be a boolean"))),
        };
        out.insert(field.to_owned(), json!(switch));
    }
    for field in ["cache_ttl", "rate_limiting_interval", "rate_limiting_limit"] {
        match body.get(field) {
            Some(number) if number.is_null() || number.is_u64() => {
                out.insert(field.to_owned(), number.clone());
            }
            _ => return Err(invalid(format!("`{field}` must be a number from 0"))),
        }
    }
    for (field, words) in [
        ("rate_limiting_technique", ["fixed", "sliding"]),
        (
            "log_management_strategy",
            ["STOP_INSERTING", "DELETE_OLDEST"],
        ),
    ] {
        let word = body.get(field).unwrap_or(&Value::Null);
        if !word.is_null() && !word.as_str().is_some_and(|word| words.contains(&word)) {
            return Err(invalid(format!("`{field}` must be one of {words:?}")));
        }
        out.insert(field.to_owned(), word.clone());
    }
    let logs = body.get("log_management").unwrap_or(&Value::Null);
    if !logs.is_null() && !logs.as_u64().is_some_and(|logs| LOGS.contains(&logs)) {
        return Err(invalid("`log_management` must be from 10000 to 10000000"));
    }
    out.insert("log_management".to_owned(), logs.clone());
    let key = body.get("logpush_public_key").unwrap_or(&Value::Null);
    if !key.is_null() && !key.is_string() {
        return Err(invalid("`logpush_public_key` must be a string"));
    }
    out.insert("logpush_public_key".to_owned(), key.clone());
    Ok(out)
}

fn valid_name(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=NAME_LIMIT).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| plain(byte) || matches!(byte, b'-' | b'_'))
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let name = body
        .get("id")
        .and_then(Value::as_str)
        .filter(|name| valid_name(name))
        .ok_or_else(|| invalid("`id` must have 1 to 64 characters of `a-z`, `0-9`, `-` and `_`"))?;
    let gateway = Object::new(hex_id(), "", name, settings(&body)?, now());
    cloud.control.write(|transaction| {
        if !objects::insert(transaction, KIND, &gateway)? {
            return Err(invalid("Gateway already exists"));
        }
        Ok(())
    })?;
    ok(&value(cloud, &gateway))
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 20, 100, INVALID)?;
    let search = call.query("search").unwrap_or_default();
    let gateways = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, KIND, "")?))?;
    let matching = gateways
        .iter()
        .filter(|gateway| gateway.name.contains(search));
    let (items, info) = page.cut(matching.map(|gateway| value(cloud, gateway)).collect());
    ok_with_info(&Value::Array(items), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let gateway = cloud.control.run(|connection| require(connection, call))?;
    ok(&value(cloud, &gateway))
}

fn replace(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let gateway = cloud.control.write(|transaction| {
        let mut gateway = require(transaction, call)?;
        gateway.body = settings(&body)?;
        gateway.modified_at = now();
        objects::update(transaction, &gateway)?;
        Ok::<_, ApiError>(gateway)
    })?;
    ok(&value(cloud, &gateway))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let gateway = cloud.control.write(|transaction| {
        let gateway = require(transaction, call)?;
        objects::remove(transaction, KIND, &gateway.id)?;
        Ok::<_, ApiError>(gateway)
    })?;
    ok(&value(cloud, &gateway))
}
