//! The custom domains of R2 buckets: the control plane. `r2_public` serves buckets under them.

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    call::Call,
    envelope::{ApiResult, ok},
    error::ApiError,
    r2::{INVALID, require},
    r2_settings as settings, zones,
};
use crate::local::Cloud;

const KIND: &str = "domains";
const NOT_FOUND: u32 = 10053;
const IN_USE: u32 = 10054;
const VERSIONS: [&str; 4] = ["1.0", "1.1", "1.2", "1.3"];

/// The domains of a bucket by their host names.
fn load(connection: &Connection, bucket: &str) -> Result<Map<String, Value>, ApiError> {
    settings::load_items(connection, bucket, KIND)
}

fn store(connection: &Connection, bucket: &str, all: Map<String, Value>) -> Result<(), ApiError> {
    settings::store(connection, bucket, KIND, &Value::Object(all))
}

/// The host names under which a bucket can be read now.
pub(super) fn enabled(connection: &Connection, bucket: &str) -> Result<Vec<String>, ApiError> {
    let domains = load(connection, bucket)?;
    let enabled = domains
        .into_iter()
        .filter(|(_, domain)| domain["enabled"] == true);
    Ok(enabled.map(|(host, _)| host).collect())
}

fn no_domain() -> ApiError {
    ApiError::not_found(NOT_FOUND, "The specified custom domain does not exist.")
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

/// Lays what a body says over a domain.
fn merge(domain: &mut Value, body: &Map<String, Value>) -> Result<(), ApiError> {
    for (field, fits) in [
        ("enabled", Value::is_boolean as fn(&Value) -> bool),
        ("minTLS", |value| {
            value.as_str().is_some_and(|text| VERSIONS.contains(&text))
        }),
        ("ciphers", |value| {
            let texts = value.as_array();
            texts.is_some_and(|texts| texts.iter().all(Value::is_string))
        }),
    ] {
        match body.get(field) {
            None => {}
            Some(value) if fits(value) => domain[field] = value.clone(),
            Some(value) => return Err(invalid(format!("`{field}` cannot be {value}"))),
        }
    }
    Ok(())
}

/// `GET …/domains/custom`.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let domains = cloud
        .control
        .run(|connection| load(connection, &require(connection, call)?.id))?;
    ok(&json!({ "domains": domains.values().collect::<Vec<_>>() }))
}

/// `POST …/domains/custom`.
pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let host = text("domain").to_ascii_lowercase();
    if !zones::is_domain(&host) {
        return Err(invalid("`domain` must be a host name"));
    }
    if !body.get("enabled").is_some_and(Value::is_boolean) {
        return Err(invalid("`enabled` is required"));
    }
    let domain = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let zone = zones::name_of(transaction, text("zoneId"))?
            .filter(|zone| zones::is_within(&host, zone))
            .ok_or_else(|| invalid(format!("`zoneId` is no zone that holds {host}")))?;
        if settings::any_has(transaction, KIND, &host)? {
            let message = "The domain is already in use by a bucket.";
            return Err(ApiError::conflict(IN_USE, message));
        }
        let mut domain = json!({
            "domain": host,
            "zoneId": text("zoneId"),
            "zoneName": zone,
            "minTLS": "1.0",
            "status": {"ownership": "active", "ssl": "active"},
        });
        merge(&mut domain, &body)?;
        let mut domains = load(transaction, &bucket.id)?;
        domains.insert(host.clone(), domain.clone());
        store(transaction, &bucket.id, domains)?;
        Ok(domain)
    })?;
    ok(&domain)
}

/// `GET …/domains/custom/{domain}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let domain = cloud.control.run(|connection| {
        load(connection, &require(connection, call)?.id)?
            .remove(call.parameter("domain"))
            .ok_or_else(no_domain)
    })?;
    ok(&domain)
}

/// `PUT …/domains/custom/{domain}`.
pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let domain = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let mut domains = load(transaction, &bucket.id)?;
        let domain = domains
            .get_mut(call.parameter("domain"))
            .ok_or_else(no_domain)?;
        merge(domain, &body)?;
        let domain = domain.clone();
        store(transaction, &bucket.id, domains)?;
        Ok::<_, ApiError>(domain)
    })?;
    ok(&domain)
}

/// `DELETE …/domains/custom/{domain}`.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let host = call.parameter("domain");
    cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let mut domains = load(transaction, &bucket.id)?;
        domains.remove(host).ok_or_else(no_domain)?;
        store(transaction, &bucket.id, domains)
    })?;
    ok(&json!({ "domain": host }))
}
