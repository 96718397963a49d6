//! DNS records of a zone.

use std::net::{Ipv4Addr, Ipv6Addr};

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, hex_id, now},
        envelope::{ApiResult, bytes, ok, ok_with_info},
        error::ApiError,
        page::Page,
    },
    is_within, require,
};
use crate::local::{
    Cloud,
    objects::{self, Object},
};

const KIND: &str = "dns_record";
const INVALID: u32 = 9207;
const BAD_RECORD: u32 = 1004;
const NOT_FOUND: u32 = 81_044;
const CLASH: u32 = 81_053;
const IDENTICAL: u32 = 81_058;
const PER_PAGE: i64 = 100;
const MOST_PER_PAGE: i64 = 5_000_000;
const TYPES: [&str; 21] = [
    "A",
    "AAAA",
    "CAA",
    "CERT",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "LOC",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "SMIMEA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];
const PROXIABLE: [&str; 3] = ["A", "AAAA", "CNAME"];
/// The order in which the parts of structured records stand in their content.
const PARTS: [&str; 9] = [
    "flags",
    "tag",
    "priority",
    "weight",
    "port",
    "target",
    "value",
    "type",
    "fingerprint",
];
/// What a client may say of a record.
const FIELDS: [&str; 11] = [
    "type",
    "name",
    "content",
    "data",
    "ttl",
    "proxied",
    "priority",
    "comment",
    "tags",
    "settings",
    "private_routing",
];

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(BAD_RECORD, message)
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}

fn value(zone: &Object, record: &Object) -> Value {
    let mut out = record.body.clone();
    let kind = text(&out, "type").unwrap_or_default().to_owned();
    out.insert("id".to_owned(), json!(record.id));
    out.insert("zone_id".to_owned(), json!(zone.id));
    out.insert("zone_name".to_owned(), json!(zone.name));
    let proxiable = PROXIABLE.contains(&kind.as_str());
    out.insert("proxiable".to_owned(), json!(proxiable));
    out.insert("meta".to_owned(), json!({}));
    out.insert("created_on".to_owned(), json!(record.created_at));
    out.insert("modified_on".to_owned(), json!(record.modified_at));
    Value::Object(out)
}

/// A name as answers give it: with the zone at its end.
fn full_name(name: &str, zone: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.as_str() {
        "@" | "" => zone.to_owned(),
        name if is_within(name, zone) => name.to_owned(),
        name => format!("{name}.{zone}"),
    }
}

/// The content of a record that is given in parts.
fn content_of(data: &Map<String, Value>) -> String {
    let known = PARTS.iter().filter_map(|part| data.get(*part));
    let others = data
        .iter()
        .filter(|(name, _)| !PARTS.contains(&name.as_str()))
        .map(|(_, value)| value);
    let words = known.chain(others).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Checks the fields of a record and fills in what is not given.
fn checked(zone: &Object, body: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut out: Map<String, Value> = body
        .iter()
        .filter(|(name, value)| FIELDS.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let kind = text(&out, "type").unwrap_or_default().to_owned();
    if !TYPES.contains(&kind.as_str()) {
        return Err(invalid(format!("DNS record type `{kind}` is invalid.")));
    }
    let name = text(&out, "name").ok_or_else(|| invalid("DNS name is invalid."))?;
    let name = full_name(name, &zone.name);
    out.insert("name".to_owned(), json!(name));
    if let Some(Value::Object(data)) = out.get("data") {
        let content = content_of(data);
        out.insert("content".to_owned(), json!(content));
    }
    let content = text(&out, "content").unwrap_or_default();
    let problem = match kind.as_str() {
        _ if content.is_empty() => Some("Content is required."),
        "A" if content.parse::<Ipv4Addr>().is_err() => {
            Some("Content for A record must be a valid IPv4 address.")
        }
        "AAAA" if content.parse::<Ipv6Addr>().is_err() => {
            Some("Content for AAAA record must be a valid IPv6 address.")
        }
        "MX" if out.get("priority").and_then(Value::as_u64).is_none() => {
            Some("Priority is required for MX records.")
        }
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(invalid(problem));
    }
    let ttl = out.entry("ttl").or_insert(json!(1)).as_f64();
    if !ttl.is_some_and(|ttl| ttl == 1.0 || (30.0..=86_400.0).contains(&ttl)) {
        return Err(invalid(
            "TTL must be between 60 and 86400 seconds, or 1 for Automatic.",
        ));
    }
    let proxied = out.entry("proxied").or_insert(json!(false)).clone();
    if proxied == json!(true) && !PROXIABLE.contains(&kind.as_str()) {
        return Err(invalid("This record type cannot be proxied."));
    }
    out.entry("tags").or_insert(json!([]));
    out.entry("settings").or_insert(json!({}));
    out.entry("comment").or_insert(Value::Null);
    Ok(out)
}

/// What makes two records identical.
fn key(body: &Map<String, Value>) -> String {
    let field = |name| text(body, name).unwrap_or_default();
    format!("{} {} {}", field("type"), field("name"), field("content"))
}

fn refuse_clash(
    connection: &Connection,
    zone: &Object,
    own: Option<&str>,
    body: &Map<String, Value>,
) -> Result<(), ApiError> {
    if !text(body, "type").is_some_and(|kind| PROXIABLE.contains(&kind)) {
        return Ok(());
    }
    let clashes = |other: &Object| {
        let kinds = [text(body, "type"), text(&other.body, "type")];
        other.id != own.unwrap_or_default()
            && text(&other.body, "name") == text(body, "name")
            && kinds.contains(&Some("CNAME"))
            && text(&other.body, "type").is_some_and(|kind| PROXIABLE.contains(&kind))
            && key(&other.body) != key(body)
    };
    if objects::below(connection, KIND, &zone.id)?
        .iter()
        .any(clashes)
    {
        return Err(ApiError::bad_request(
            CLASH,
            "An A, AAAA, or CNAME record with that host already exists.",
        ));
    }
    Ok(())
}

fn identical() -> ApiError {
    ApiError::bad_request(IDENTICAL, "An identical record already exists.")
}

fn add(
    connection: &Connection,
    zone: &Object,
    body: &Map<String, Value>,
) -> Result<Object, ApiError> {
    let body = checked(zone, body)?;
    refuse_clash(connection, zone, None, &body)?;
    let record = Object::new(hex_id(), zone.id.clone(), key(&body), body, now());
    if objects::insert(connection, KIND, &record)? {
        Ok(record)
    } else {
        Err(identical())
    }
}

/// Changes a record; `whole` forgets what the body does not say.
fn change(
    connection: &Connection,
    zone: &Object,
    id: &str,
    body: &Map<String, Value>,
    whole: bool,
) -> Result<Object, ApiError> {
    let mut record = require_record(connection, zone, id)?;
    let mut fields = if whole { Map::new() } else { record.body };
    if body.contains_key("content") && !body.contains_key("data") {
        fields.remove("data");
    }
    fields.extend(body.clone());
    record.body = checked(zone, &fields)?;
    refuse_clash(connection, zone, Some(id), &record.body)?;
    record.name = key(&record.body);
    record.modified_at = now();
    if objects::update(connection, &record)? {
        Ok(record)
    } else {
        Err(identical())
    }
}

fn take(connection: &Connection, zone: &Object, id: &str) -> Result<Object, ApiError> {
    let record = require_record(connection, zone, id)?;
    objects::remove(connection, KIND, &record.id)?;
    Ok(record)
}

fn require_record(connection: &Connection, zone: &Object, id: &str) -> Result<Object, ApiError> {
    objects::get(connection, KIND, id)?
        .filter(|record| record.parent == zone.id)
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Record does not exist."))
}

/// Does something in a transaction and answers the record that comes of it.
fn with_zone(
    cloud: &Cloud,
    call: &Call,
    work: impl FnOnce(&Connection, &Object) -> Result<Object, ApiError>,
) -> Result<Value, ApiError> {
    cloud.control.write(|transaction| {
        let zone = require(transaction, call)?;
        let record = work(transaction, &zone)?;
        Ok(value(&zone, &record))
    })
}

pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    ok(&with_zone(cloud, call, |connection, zone| {
        add(connection, zone, &body)
    })?)
}

pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        let record = require_record(connection, &zone, call.parameter("record"))?;
        Ok::<_, ApiError>(value(&zone, &record))
    })?;
    ok(&value)
}

pub(super) fn replace(cloud: &Cloud, call: &Call) -> ApiResult {
    modify(cloud, call, true)
}

pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    modify(cloud, call, false)
}

fn modify(cloud: &Cloud, call: &Call, whole: bool) -> ApiResult {
    let body = call.object(INVALID)?;
    let id = call.parameter("record");
    ok(&with_zone(cloud, call, |connection, zone| {
        change(connection, zone, id, &body, whole)
    })?)
}

pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = call.parameter("record");
    with_zone(cloud, call, |connection, zone| take(connection, zone, id))?;
    ok(&json!({"id": id}))
}

pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, PER_PAGE, MOST_PER_PAGE, INVALID)?;
    let items: Vec<Value> = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        let records = objects::below(connection, KIND, &zone.id)?;
        Ok::<_, ApiError>(records.iter().map(|record| value(&zone, record)).collect())
    })?;
    let fits = |item: &Value| {
        ["type", "name", "content"].iter().all(|field| {
            let exact = format!("{field}.exact");
            let wanted = call.query(field).or_else(|| call.query(&exact));
            wanted.is_none_or(|wanted| item[field] == wanted)
        })
    };
    let (items, info) = page.cut(items.into_iter().filter(fits).collect());
    ok_with_info(&Value::Array(items), &info)
}

/// `GET …/dns_records/export`: the records as a BIND zone file.
pub(super) fn export(cloud: &Cloud, call: &Call) -> ApiResult {
    let text = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        let records = objects::below(connection, KIND, &zone.id)?;
        let lines = records.iter().map(|record| {
            let field = |name: &str| text(&record.body, name).unwrap_or_default();
            let ttl = record.body.get("ttl").cloned().unwrap_or(json!(1));
            let priority = record.body.get("priority");
            let priority = priority.map_or(String::new(), |priority| format!("{priority} "));
            let content = match field("type") {
                "TXT" => format!("{:?}", field("content")),
                _ => field("content").to_owned(),
            };
            format!(
                "{}.\t{ttl}\tIN\t{}\t{priority}{content}\n",
                field("name"),
                field("type")
            )
        });
        Ok::<_, ApiError>(lines.collect::<String>())
    })?;
    Ok(bytes("text/plain; charset=utf-8", text.into_bytes()))
}

/// `GET …/dns_records/usage`.
pub(super) fn usage(cloud: &Cloud, call: &Call) -> ApiResult {
    let count = cloud.control.run(|connection| {
        let zone = require(connection, call)?;
        Ok::<_, ApiError>(objects::below(connection, KIND, &zone.id)?.len())
    })?;
    ok(&json!({"record_quota": 200, "record_usage": count}))
}

/// `POST …/dns_records/batch`: deletes, patches, puts and posts in this order, all or none.
pub(super) fn batch(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let part = |name: &str| -> Result<Vec<Map<String, Value>>, ApiError> {
        let items = match body.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let message = format!("`{name}` must be an array");
                return Err(ApiError::bad_request(INVALID, message));
            }
        };
        items
            .iter()
            .map(|item| {
                item.as_object().cloned().ok_or_else(|| {
                    ApiError::bad_request(INVALID, format!("`{name}` must hold objects"))
                })
            })
            .collect()
    };
    let (deletes, patches, puts, posts) = (
        part("deletes")?,
        part("patches")?,
        part("puts")?,
        part("posts")?,
    );
    let result = cloud.control.write(|transaction| {
        let zone = require(transaction, call)?;
        let id = |item: &Map<String, Value>| text(item, "id").unwrap_or_default().to_owned();
        let deleted = deletes
            .iter()
            .map(|item| take(transaction, &zone, &id(item)));
        let deleted = shown(&zone, deleted)?;
        let patched = patches
            .iter()
            .map(|item| change(transaction, &zone, &id(item), item, false));
        let patched = shown(&zone, patched)?;
        let put = puts
            .iter()
            .map(|item| change(transaction, &zone, &id(item), item, true));
        let put = shown(&zone, put)?;
        let posted = posts.iter().map(|item| add(transaction, &zone, item));
        let posted = shown(&zone, posted)?;
        Ok::<_, ApiError>(
            json!({"deletes": deleted, "patches": patched, "puts": put, "posts": posted}),
        )
    })?;
    ok(&result)
}

fn shown(
    zone: &Object,
    records: impl Iterator<Item = Result<Object, ApiError>>,
) -> Result<Vec<Value>, ApiError> {
    records
        .map(|record| record.map(|record| value(zone, &record)))
        .collect()
}
