//! The settings of a zone: single values by name.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    super::{
        call::{Call, now},
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    require,
};
use crate::local::{
    Cloud,
    objects::{self, Object},
};

const KIND: &str = "zone_setting";
const UNKNOWN: u32 = 1006;
const BAD_VALUE: u32 = 1007;

/// Settings that are `on` or `off`, with what a new zone has.
const SWITCHES: [(&str, &str); 18] = [
    ("0rtt", "off"),
    ("always_online", "off"),
    ("always_use_https", "off"),
    ("automatic_https_rewrites", "on"),
    ("brotli", "on"),
    ("browser_check", "on"),
    ("development_mode", "off"),
    ("early_hints", "off"),
    ("email_obfuscation", "on"),
    ("hotlink_protection", "off"),
    ("http2", "on"),
    ("http3", "on"),
    ("ip_geolocation", "on"),
    ("ipv6", "on"),
    ("opportunistic_encryption", "on"),
    ("opportunistic_onion", "on"),
    ("rocket_loader", "off"),
    ("websockets", "on"),
];

/// Settings with a few values, the first of which a new zone has.
const CHOICES: [(&str, &[&str]); 5] = [
    ("cache_level", &["aggressive", "basic", "simplified"]),
    ("min_tls_version", &["1.0", "1.1", "1.2", "1.3"]),
    (
        "security_level",
        &[
            "medium",
            "off",
            "essentially_off",
            "low",
            "high",
            "under_attack",
        ],
    ),
    ("ssl", &["full", "off", "flexible", "strict"]),
    ("tls_1_3", &["on", "off", "zrt"]),
];

/// Settings that are a number of seconds, with what a new zone has.
const NUMBERS: [(&str, i64); 1] = [("browser_cache_ttl", 14_400)];

/// What a new zone has for a setting; none for one that is not known.
fn default(name: &str) -> Option<Value> {
    let switch = SWITCHES.iter().find(|(known, _)| *known == name);
    let choice = CHOICES.iter().find(|(known, _)| *known == name);
    let number = NUMBERS.iter().find(|(known, _)| *known == name);
    switch
        .map(|(_, value)| json!(value))
        .or_else(|| choice.and_then(|(_, values)| Some(json!(values.first()?))))
        .or_else(|| number.map(|(_, value)| json!(value)))
}

fn fits(name: &str, value: &Value) -> bool {
    if let Some((_, values)) = CHOICES.iter().find(|(known, _)| *known == name) {
        return value.as_str().is_some_and(|text| values.contains(&text));
    }
    if NUMBERS.iter().any(|(known, _)| *known == name) {
        return value.as_i64().is_some_and(|seconds| seconds >= 0);
    }
    matches!(value.as_str(), Some("on" | "off"))
}

fn shown(connection: &Connection, zone: &Object, name: &str) -> Result<Option<Value>, ApiError> {
    let Some(default) = default(name) else {
        return Ok(None);
    };
    let stored = objects::named(connection, KIND, &zone.id, name)?;
    let (value, modified) = match stored {
        Some(mut stored) => (
            stored.body.remove("value").unwrap_or(default),
            Some(stored.modified_at),
        ),
        None => (default, None),
    };
    Ok(Some(json!({
        "id": name, "value": value, "editable": true, "modified_on": modified,
    })))
}

fn unknown(name: &str) -> ApiError {
    ApiError::bad_request(UNKNOWN, format!("Undefined zone setting: {name}"))
}

pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let switches = SWITCHES.iter().map(|(name, _)| *name);
    let choices = CHOICES.iter().map(|(name, _)| *name);
    let names = switches.chain(choices).chain(NUMBERS.map(|(name, _)| name));
    let items = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        names
            .filter_map(|name| shown(connection, &zone, name).transpose())
            .collect::<Result<Vec<_>, ApiError>>()
    })?;
    ok(&Value::Array(items))
}

pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let name = call.parameter("setting");
    let value = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        shown(connection, &zone, name)?.ok_or_else(|| unknown(name))
    })?;
    ok(&value)
}

pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(BAD_VALUE)?;
    let name = call.parameter("setting");
    let value = cloud.control.write(|transaction| {
        let zone = require(transaction, call)?;
        if default(name).is_none() {
            return Err(unknown(name));
        }
        let value = body.get("value").cloned().unwrap_or_default();
        if !fits(name, &value) {
            return Err(ApiError::bad_request(
                BAD_VALUE,
                format!("Invalid value for zone setting {name}: {value}"),
            ));
        }
        let fields = serde_json::Map::from_iter([("value".to_owned(), value)]);
        let id = format!("{}:{name}", zone.id);
        let setting = Object::new(id, zone.id.clone(), name, fields, now());
        if !objects::insert(transaction, KIND, &setting)? {
            objects::update(transaction, &setting)?;
        }
        shown(transaction, &zone, name)?.ok_or_else(|| unknown(name))
    })?;
    ok(&value)
}
