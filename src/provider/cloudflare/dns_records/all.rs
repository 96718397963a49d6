//! Records that are there, whoever made them: what a scan drafts and an import takes. They are taken by zone, or by one name of
//! a zone.

use serde_json::Value as Json;

use super::{
    super::{
        props,
        zones::{self, ZoneName, is_within},
    },
    DnsRecords, known_ids, look, outputs,
};
use crate::{
    model::{Map, Value},
    provider::{Observation, OperationContext, ProviderError},
};

/// Types whose content the API takes in parts.
const IN_PARTS: [&str; 12] = [
    "CAA", "CERT", "DNSKEY", "DS", "HTTPS", "LOC", "NAPTR", "SMIMEA", "SRV", "SSHFP", "SVCB",
    "TLSA",
];
/// Types that have a priority of their own; in the others it is a part of the content.
const WITH_PRIORITY: [&str; 2] = ["MX", "URI"];

impl DnsRecords {
    /// The records of every zone, each zone's together; with `wanted`, those of the zone of that id or domain, or of the one
    /// name within a zone.
    pub(super) async fn in_zones(
        &self,
        context: &OperationContext,
        wanted: Option<&str>,
    ) -> Result<Vec<Observation>, ProviderError> {
        let mut all: Vec<&ZoneName> = zones::all(&self.client, context).await?.iter().collect();
        let mut host = None;
        if let Some(wanted) = wanted {
            let name = wanted.trim_end_matches('.').to_ascii_lowercase();
            all.retain(|zone| {
                let domain = zone.domain.as_deref();
                zone.id == wanted || domain.is_some_and(|domain| is_within(&name, domain))
            });
            // The zone that is nearest to the name.
            let nearest = all
                .into_iter()
                .max_by_key(|zone| zone.domain.as_ref().map(String::len));
            all = nearest.into_iter().collect();
            let whole =
                |zone: &&ZoneName| zone.id == wanted || zone.domain.as_deref() == Some(&name);
            if !all.iter().any(whole) {
                host = Some(name);
            }
        }
        let mut out = Vec::new();
        for zone in all {
            let mut there = self.in_zone(context, &zone.id).await?.unwrap_or_default();
            there.retain(|item| {
                let its = host.is_none() || props::text(item, "name") == host.as_deref();
                its && is_free(item)
            });
            // The list has no order.
            let place = |item: &Json| {
                ["name", "type", "content"].map(|field| props::text(item, field).map(str::to_owned))
            };
            there.sort_by_cached_key(place);
            if !there.is_empty() {
                let name = host.as_deref().or(zone.domain.as_deref());
                let name = name.unwrap_or(&zone.id);
                out.push(together(&zone.id, name, wanted.unwrap_or(name), &there));
            }
        }
        Ok(out)
    }
}

/// Whether a record is anybody's to declare: those of custom domains and the like come and go with what they are for.
fn is_free(item: &Json) -> bool {
    item["meta"]["read_only"].as_bool() != Some(true)
}

/// Records as one object. Its id is what an import takes: the zone, or the name in it.
fn together(zone: &str, name: &str, id: &str, there: &[Json]) -> Observation {
    let items: Vec<&Json> = there.iter().collect();
    let records = there.iter().map(|item| {
        let mut record = look::shown(item);
        props::copy(&mut record, item, &[("data", "data")]);
        Value::Map(record)
    });
    Observation {
        id: id.to_owned(),
        physical_name: name.to_owned(),
        outputs: outputs(zone, &items),
        props: Map::from([
            ("records".to_owned(), records.collect()),
            ("zoneId".to_owned(), Value::from(zone)),
        ]),
    }
}

/// Takes out the records that resources of state have.
pub(super) fn leave_unknown(known: &[&Map], seen: &mut Observation) -> bool {
    let ids: Vec<&str> = known
        .iter()
        .flat_map(|outputs| known_ids(outputs))
        .collect();
    let unknown = |record: &Value| {
        let id = record.at(&["id".to_owned()]).and_then(Value::as_str);
        id.is_none_or(|id| !ids.contains(&id))
    };
    let mut left = false;
    for map in [&mut seen.props, &mut seen.outputs] {
        if let Some(Value::Array(records)) = map.get_mut("records") {
            records.retain(unknown);
            left |= !records.is_empty();
        }
    }
    left
}

/// What a script says of the records: without ids and what a record has by itself.
pub(super) fn declarable(seen: &Observation) -> Map {
    let mut props = seen.props.clone();
    if let Some(Value::Array(records)) = props.get_mut("records") {
        for record in records {
            if let Value::Map(record) = record {
                reduce(record);
            }
        }
    }
    props
}

fn reduce(record: &mut Map) {
    let kind = record
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let with_priority = WITH_PRIORITY.contains(&kind);
    let in_parts = IN_PARTS.contains(&kind) || kind == "URI";
    let in_parts = in_parts && record.contains_key("data");
    record.remove("id");
    record.remove(if in_parts { "content" } else { "data" });
    record.retain(|field, value| match field.as_str() {
        // Numbers come back with a fraction now and then.
        "ttl" => !matches!(value, Value::Int(1)) && *value != Value::Float(1.0),
        "priority" => with_priority,
        "proxied" => *value == Value::Bool(true),
        "comment" => value.as_str() != Some(""),
        "tags" => value.as_array().is_some_and(|tags| !tags.is_empty()),
        _ => true,
    });
    for field in ["ttl", "priority"] {
        if let Some(Value::Float(number)) = record.get(field) {
            let whole = Value::Int(*number as i64);
            record.insert(field.to_owned(), whole);
        }
    }
}
