//! Routes of a zone: patterns of URLs and the Workers that answer them.

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, hex_id, now},
        envelope::{ApiResult, ok},
        error::ApiError,
        workers,
    },
    is_within, require,
};
use crate::local::{
    Cloud,
    objects::{self, Object},
};

pub(super) const KIND: &str = "route";
const INVALID: u32 = 10026;
const NOT_FOUND: u32 = 10009;
const NO_SCRIPT: u32 = 10019;
const EXISTS: u32 = 10020;
const BAD_PATTERN: u32 = 10022;

fn value(route: &Object) -> Value {
    json!({
        "id": route.id,
        "pattern": route.name,
        "script": route.body.get("script").cloned().unwrap_or_default(),
        "request_limit_fail_open": false,
    })
}

/// The host part of a pattern: up to the first `/`, without a scheme.
pub(super) fn host_of(pattern: &str) -> &str {
    let plain = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    plain.split('/').next().unwrap_or_default()
}

/// What the body of a request wants; a field that is not given stays as `before` has it.
fn wanted(
    connection: &Connection,
    zone: &Object,
    body: &Map<String, Value>,
) -> Result<(String, Map<String, Value>), ApiError> {
    let pattern = body
        .get("pattern")
        .and_then(Value::as_str)
        .map(str::to_ascii_lowercase)
        .unwrap_or_default();
    let host = host_of(&pattern);
    // `*` stands at the beginning of the host and at the end of the path only.
    let plain = host.trim_start_matches("*.").trim_start_matches('*');
    let path = &pattern[pattern.find(host).unwrap_or(0) + host.len()..];
    let stars = plain.contains('*') || path.trim_end_matches('*').contains('*');
    if stars || !is_within(plain, &zone.name) || pattern.contains('?') {
        return Err(ApiError::bad_request(
            BAD_PATTERN,
            format!("`{pattern}` is no route pattern of the zone {}", zone.name),
        ));
    }
    let mut fields = Map::new();
    match body.get("script") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if workers::exists(connection, name)? => {
            fields.insert("script".to_owned(), json!(name));
        }
        Some(other) => {
            return Err(ApiError::bad_request(
                NO_SCRIPT,
                format!("The script of the route does not exist: {other}"),
            ));
        }
    }
    Ok((pattern, fields))
}

fn duplicate(pattern: &str) -> ApiError {
    ApiError::conflict(
        EXISTS,
        format!("A route with the same pattern already exists: {pattern}"),
    )
}

fn find(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    let zone = require(connection, call)?;
    objects::get(connection, KIND, call.parameter("route"))?
        .filter(|route| route.parent == zone.id)
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Route not found"))
}

pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let route = cloud.control.write(|transaction| {
        let zone = require(transaction, call)?;
        let (pattern, fields) = wanted(transaction, &zone, &body)?;
        let route = Object::new(hex_id(), zone.id, pattern, fields, now());
        if objects::insert(transaction, KIND, &route)? {
            Ok(route)
        } else {
            Err(duplicate(&route.name))
        }
    })?;
    ok(&value(&route))
}

pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let routes = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        Ok::<_, ApiError>(objects::below(connection, KIND, &zone.id)?)
    })?;
    ok(&routes.iter().map(value).collect())
}

pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let route = cloud.control.run(|connection| find(connection, call))?;
    ok(&value(&route))
}

pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let route = cloud.control.write(|transaction| {
        let mut route = find(transaction, call)?;
        let zone = require(transaction, call)?;
        (route.name, route.body) = wanted(transaction, &zone, &body)?;
        route.modified_at = now();
        if objects::update(transaction, &route)? {
            Ok(route)
        } else {
            Err(duplicate(&route.name))
        }
    })?;
    ok(&value(&route))
}

pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = cloud.control.write(|transaction| {
        let route = find(transaction, call)?;
        objects::remove(transaction, KIND, &route.id)?;
        Ok::<_, ApiError>(route.id)
    })?;
    ok(&json!({"id": id}))
}
