//! Custom domains of Workers, and what they and the routes mean to the runtime.

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, hex_id, now},
        envelope::{ApiResult, ok},
        error::ApiError,
        workers,
    },
    KIND as ZONE, is_domain, is_within, routes, zone_of,
};
use crate::local::{
    Cloud,
    control::ControlError,
    objects::{self, Object},
};

const KIND: &str = "worker_domain";
const INVALID: u32 = 10026;
const NO_SCRIPT: u32 = 10007;
const NOT_FOUND: u32 = 100_114;
const IN_USE: u32 = 100_116;
const NO_ZONE: u32 = 100_117;

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    map.get(field).and_then(Value::as_str)
}

fn value(connection: &Connection, domain: &Object) -> Result<Value, ApiError> {
    let zone = objects::get(connection, ZONE, &domain.parent)?;
    let field = |name: &str| domain.body.get(name).cloned().unwrap_or_default();
    Ok(json!({
        "id": domain.id,
        "hostname": domain.name,
        "service": field("service"),
        "environment": field("environment"),
        "cert_id": field("cert_id"),
        "zone_id": domain.parent,
        "zone_name": zone.map(|zone| zone.name),
    }))
}

fn find(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::get(connection, KIND, call.parameter("domain"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "The requested domain was not found."))
}

/// The zone that a body means, which must hold the host.
fn zone(
    connection: &Connection,
    body: &Map<String, Value>,
    host: &str,
) -> Result<Object, ApiError> {
    let found = match (text(body, "zone_id"), text(body, "zone_name")) {
        (Some(id), _) => objects::get(connection, ZONE, id)?,
        (None, Some(name)) => objects::named(connection, ZONE, "", name)?,
        (None, None) => zone_of(connection, host)?,
    };
    found
        .filter(|zone| is_within(host, &zone.name))
        .ok_or_else(|| {
            ApiError::bad_request(NO_ZONE, format!("No zone of the account holds {host}."))
        })
}

/// `PUT …/domains`: attaches a host name to a Worker, wherever it was before.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let host = text(&body, "hostname")
        .map(str::to_ascii_lowercase)
        .filter(|host| is_domain(host))
        .ok_or_else(|| ApiError::bad_request(INVALID, "`hostname` must be a domain name"))?;
    let service = text(&body, "service").unwrap_or_default().to_owned();
    let value = cloud.control.write(|transaction| {
        if !workers::exists(transaction, &service)? {
            return Err(ApiError::not_found(
                NO_SCRIPT,
                format!("The Worker `{service}` does not exist on your account."),
            ));
        }
        let zone = zone(transaction, &body, &host)?;
        let mut fields = Map::new();
        let environment = text(&body, "environment").unwrap_or("production");
        fields.insert("service".to_owned(), json!(service));
        fields.insert("environment".to_owned(), json!(environment));
        let domain = match objects::named(transaction, KIND, &zone.id, &host)? {
            Some(mut domain) => {
                fields.insert(
                    "cert_id".to_owned(),
                    domain.body.remove("cert_id").unwrap_or_default(),
                );
                domain.body = fields;
                domain.modified_at = now();
                objects::update(transaction, &domain)?;
                domain
            }
            None => {
                fields.insert("cert_id".to_owned(), json!(hex_id()));
                let domain = Object::new(hex_id(), zone.id, host, fields, now());
                if !objects::insert(transaction, KIND, &domain)? {
                    return Err(ApiError::conflict(IN_USE, "Hostname is already in use."));
                }
                domain
            }
        };
        value(transaction, &domain)
    })?;
    ok(&value)
}

pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        objects::all(connection, KIND)?
            .iter()
            .map(|domain| value(connection, domain))
            .collect::<Result<Vec<_>, ApiError>>()
    })?;
    let wanted = ["hostname", "service", "environment", "zone_id", "zone_name"];
    let fits = |item: &Value| {
        wanted
            .iter()
            .all(|field| call.query(field).is_none_or(|value| item[field] == value))
    };
    ok(&items.into_iter().filter(fits).collect())
}

pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud.control.run(|connection| {
        let domain = find(connection, call)?;
        value(connection, &domain)
    })?;
    ok(&value)
}

pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let domain = find(transaction, call)?;
        objects::remove(transaction, KIND, &domain.id)?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

/// Takes the domains and routes of a Worker that goes away.
pub(in crate::local::api) fn forget_script(
    connection: &Connection,
    name: &str,
) -> Result<(), rusqlite::Error> {
    for (kind, field) in [(KIND, "service"), (routes::KIND, "script")] {
        for object in objects::all(connection, kind)? {
            if text(&object.body, field) == Some(name) {
                objects::remove(connection, kind, &object.id)?;
            }
        }
    }
    Ok(())
}

/// Which Worker answers to requests of some host names and paths.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(in crate::local) struct HostRule {
    /// The host, perhaps with `*` at its beginning.
    pub(in crate::local) host: String,
    /// The path, perhaps with `*` at its end.
    pub(in crate::local) path: String,
    /// The Worker; none where a route says that no Worker answers.
    pub(in crate::local) worker: Option<String>,
}

/// The rules in the order in which they are tried: routes from the most special to the most general, then domains.
pub(in crate::local) fn host_rules(connection: &Connection) -> Result<Vec<HostRule>, ControlError> {
    let mut rules: Vec<HostRule> = objects::all(connection, routes::KIND)?
        .iter()
        .map(|route| {
            let host = routes::host_of(&route.name);
            let rest = route.name.split_once(host).map_or("", |(_, path)| path);
            HostRule {
                host: host.to_owned(),
                path: if rest.is_empty() { "/" } else { rest }.to_owned(),
                worker: text(&route.body, "script").map(str::to_owned),
            }
        })
        .collect();
    rules.sort_by_key(|rule| {
        let stars = rule.host.starts_with('*');
        (stars, std::cmp::Reverse((rule.host.len(), rule.path.len())))
    });
    for domain in objects::all(connection, KIND)? {
        rules.push(HostRule {
            worker: text(&domain.body, "service").map(str::to_owned),
            host: domain.name,
            path: "/*".to_owned(),
        });
    }
    Ok(rules)
}
