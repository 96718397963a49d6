//! Zones: the domains of the account, their settings, DNS records and routes to Workers.
//!
//! Nothing is asked of the public DNS: a zone is active as soon as it is there.

mod dns;
mod domains;
mod routes;
mod settings;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post, put},
};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account::ACCOUNT_NAME,
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

pub(super) use self::domains::forget_script;
pub(in crate::local) use self::{domains::HostRule, domains::host_rules};

const KIND: &str = "zone";
const INVALID: u32 = 1001;
const BAD_NAME: u32 = 1002;
const EXISTS: u32 = 1061;
const NOT_FOUND: u32 = 9109;
const NAME_LIMIT: usize = 253;
const TYPES: [&str; 4] = ["full", "partial", "secondary", "internal"];
/// The header of a client that needs a zone which nobody declared: one that is declared later takes its place.
const IMPLIED: &str = "alch-implied";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = "/client/v4/zones";
    let one = "/client/v4/zones/{zone}";
    let domains = account_path("workers/domains");
    Router::new()
        .route(all, get(run(list)).post(run(create)))
        .route(one, get(run(read)).patch(run(update)).delete(run(delete)))
        .route(
            &format!("{one}/activation_check"),
            put(run(activation_check)),
        )
        .route(&format!("{one}/settings"), get(run(settings::list)))
        .route(
            &format!("{one}/settings/{{setting}}"),
            get(run(settings::read)).patch(run(settings::update)),
        )
        .route(
            &format!("{one}/dns_records"),
            get(run(dns::list)).post(run(dns::create)),
        )
        .route(&format!("{one}/dns_records/batch"), post(run(dns::batch)))
        .route(&format!("{one}/dns_records/export"), get(run(dns::export)))
        .route(&format!("{one}/dns_records/usage"), get(run(dns::usage)))
        .route(
            &format!("{one}/dns_records/{{record}}"),
            get(run(dns::read))
                .put(run(dns::replace))
                .patch(run(dns::update))
                .delete(run(dns::delete)),
        )
        .route(
            &format!("{one}/workers/routes"),
            get(run(routes::list)).post(run(routes::create)),
        )
        .route(
            &format!("{one}/workers/routes/{{route}}"),
            get(run(routes::read))
                .put(run(routes::update))
                .delete(run(routes::delete)),
        )
        .route(&domains, get(run(domains::list)).put(run(domains::write)))
        .route(
            &format!("{domains}/{{domain}}"),
            get(run(domains::read)).delete(run(domains::delete)),
        )
}

/// Whether `name` is a domain of at least two labels.
pub(super) fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= NAME_LIMIT && name.contains('.') && name.split('.').all(label)
}

/// Whether `host` is the domain `zone` or lies below it.
pub(super) fn is_within(host: &str, zone: &str) -> bool {
    host == zone
        || host
            .strip_suffix(zone)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// The zone that a host belongs to: the longest of those it lies in.
fn zone_of(connection: &Connection, host: &str) -> Result<Option<Object>, rusqlite::Error> {
    let zones = objects::below(connection, KIND, "")?;
    Ok(zones
        .into_iter()
        .filter(|zone| is_within(host, &zone.name))
        .max_by_key(|zone| zone.name.len()))
}

/// The zone of the path, which must exist.
/// The domain of a zone.
pub(super) fn name_of(
    connection: &Connection,
    id: &str,
) -> Result<Option<String>, rusqlite::Error> {
    Ok(objects::get(connection, KIND, id)?.map(|zone| zone.name))
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::get(connection, KIND, call.parameter("zone"))?.ok_or_else(no_zone)
}

fn no_zone() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, NOT_FOUND, "Invalid zone identifier")
}

fn value(cloud: &Cloud, zone: &Object) -> Value {
    let field = |name: &str| zone.body.get(name).cloned().unwrap_or_default();
    json!({
        "id": zone.id,
        "name": zone.name,
        "status": "active",
        "paused": field("paused"),
        "type": field("type"),
        "development_mode": 0,
        "name_servers": ["ada.ns.localhost", "bob.ns.localhost"],
        "vanity_name_servers": field("vanity_name_servers"),
        "original_name_servers": null,
        "original_registrar": null,
        "original_dnshost": null,
        "created_on": zone.created_at,
        "modified_on": zone.modified_at,
        "activated_on": zone.created_at,
        "meta": {
            "step": 2, "custom_certificate_quota": 0, "page_rule_quota": 3,
            "phishing_detected": false, "cdn_only": false, "dns_only": false, "foundation_dns": false,
        },
        "owner": {"id": null, "type": "user", "email": null},
        "account": {"id": cloud.account(), "name": ACCOUNT_NAME},
        "tenant": {"id": null, "name": null},
        "tenant_unit": {"id": null},
        "permissions": ["#zone:read", "#zone:edit", "#dns_records:edit", "#worker:edit"],
        "plan": {
            "id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Free Website", "price": 0, "currency": "USD",
            "frequency": "", "is_subscribed": false, "can_subscribe": false, "legacy_id": "free",
            "legacy_discount": false, "externally_managed": false,
        },
    })
}

/// Lays the fields of a body that can be changed over those of a zone.
fn merge(body: &Map<String, Value>, zone: &mut Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in body {
        let fits = match name.as_str() {
            "paused" => value.is_boolean(),
            "type" => value.as_str().is_some_and(|kind| TYPES.contains(&kind)),
            "vanity_name_servers" => value
                .as_array()
                .is_some_and(|servers| servers.iter().all(Value::is_string)),
            _ => continue,
        };
        if !fits {
            return Err(ApiError::bad_request(
                INVALID,
                format!("`{name}` cannot be {value}"),
            ));
        }
        zone.insert(name.clone(), value.clone());
    }
    Ok(())
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let account = body
        .get("account")
        .and_then(|account| account["id"].as_str());
    if account.is_some_and(|id| id != cloud.account()) {
        return Err(ApiError::foreign_account());
    }
    let name = body
        .get("name")
        .and_then(Value::as_str)
        .map(str::to_ascii_lowercase)
        .filter(|name| is_domain(name))
        .ok_or_else(|| {
            ApiError::bad_request(BAD_NAME, "Invalid domain: `name` must be a domain name")
        })?;
    let mut fields = Map::new();
    fields.insert("paused".to_owned(), json!(false));
    fields.insert("type".to_owned(), json!("full"));
    fields.insert("vanity_name_servers".to_owned(), json!([]));
    merge(&body, &mut fields)?;
    let implied = call.header(IMPLIED).is_some();
    if implied {
        fields.insert(IMPLIED.to_owned(), json!(true));
    }
    let mut zone = Object::new(hex_id(), "", name, fields, now());
    let zone = cloud.control.write(|transaction| {
        if objects::insert(transaction, KIND, &zone)? {
            return Ok(zone);
        }
        // What a client only assumed becomes the zone that somebody declares.
        match objects::named(transaction, KIND, "", &zone.name)? {
            Some(there) if !implied && there.body.contains_key(IMPLIED) => {
                zone.id = there.id;
                objects::update(transaction, &zone)?;
                Ok(zone)
            }
            _ => Err(ApiError::bad_request(
                EXISTS,
                format!("{} already exists", zone.name),
            )),
        }
    })?;
    ok(&value(cloud, &zone))
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 20, 50, INVALID)?;
    let name = call.query("name").map(str::to_ascii_lowercase);
    let zones: Vec<Value> = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, KIND, "")?))?
        .iter()
        .filter(|zone| name.as_ref().is_none_or(|name| *name == zone.name))
        .filter(|_| {
            call.query("account.id")
                .is_none_or(|id| id == cloud.account())
        })
        .filter(|_| call.query("status").is_none_or(|status| status == "active"))
        .map(|zone| value(cloud, zone))
        .collect();
    let (items, info) = page.cut(zones);
    ok_with_info(&Value::Array(items), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let zone = cloud.control.run(|connection| require(connection, call))?;
    ok(&value(cloud, &zone))
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let zone = cloud.control.write(|transaction| {
        let mut zone = require(transaction, call)?;
        merge(&body, &mut zone.body)?;
        zone.modified_at = now();
        objects::update(transaction, &zone)?;
        Ok::<_, ApiError>(zone)
    })?;
    ok(&value(cloud, &zone))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = cloud.control.write(|transaction| {
        let zone = require(transaction, call)?;
        objects::remove(transaction, KIND, &zone.id)?;
        Ok::<_, ApiError>(zone.id)
    })?;
    ok(&json!({"id": id}))
}

fn activation_check(cloud: &Cloud, call: &Call) -> ApiResult {
    let zone = cloud.control.run(|connection| require(connection, call))?;
    ok(&json!({"id": zone.id}))
}

#[cfg(test)]
mod tests;
