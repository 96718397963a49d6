//! DNS records as they are now, by one list a zone. They are compared with what the zone answered when they were last written, so
//! that it does not matter how the script spells names and contents.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{super::props, DnsRecords, known_ids, output, outputs};
use crate::{
    model::{Map, Value},
    provider::{Difference, Existing, Observation, OperationContext, ProviderError, text_prop},
};

/// What tells the records of one resource from those of another: no other has one of their ids.
pub(super) fn object_id(physical_name: &str, outputs: &Map) -> String {
    let zone = text_prop(outputs, "zoneId").unwrap_or_default();
    match known_ids(outputs).first() {
        Some(first) => format!("{zone}/{first}"),
        None => format!("{zone}/{physical_name}"),
    }
}

impl DnsRecords {
    /// What is left of each known one; nothing where no record of it is.
    pub(super) async fn observed(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let mut zones: BTreeMap<&str, Vec<&Existing>> = BTreeMap::new();
        for existing in known {
            let zone = props::known_output(&existing.outputs, "zoneId", context.fqn.as_str())?;
            zones.entry(zone).or_default().push(existing);
        }
        if zones.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::new();
        for (zone, known) in zones {
            let Some(there) = self.in_zone(context, zone).await? else {
                continue;
            };
            let there: BTreeMap<&str, &Json> = there
                .iter()
                .filter_map(|item| Some((props::text(item, "id")?, item)))
                .collect();
            out.extend(
                known
                    .into_iter()
                    .filter_map(|known| left(zone, known, &there)),
            );
        }
        Ok(Some(out))
    }
}

/// A record as it is compared: as in the outputs, with its tags.
pub(super) fn shown(item: &Json) -> Map {
    let mut record = output(item);
    props::copy(&mut record, item, &[("tags", "tags")]);
    record
}

/// What is left of `known`: its records by position, those that are gone as nothing.
fn left(zone: &str, known: &Existing, there: &BTreeMap<&str, &Json>) -> Option<Observation> {
    let ids = known_ids(&known.outputs);
    let found: Vec<Option<&Json>> = ids.iter().map(|id| there.get(id).copied()).collect();
    let left: Vec<&Json> = found.iter().copied().flatten().collect();
    if left.is_empty() && !ids.is_empty() {
        return None;
    }
    let shown = found.into_iter().map(|item| match item {
        None => Value::Null,
        Some(item) => Value::Map(shown(item)),
    });
    Some(Observation {
        id: object_id(&known.physical_name, &known.outputs),
        physical_name: known.physical_name.clone(),
        props: Map::from([("records".to_owned(), shown.collect())]),
        outputs: outputs(zone, &left),
    })
}

/// What of a record is compared.
const FIELDS: [&str; 7] = [
    "type", "name", "content", "ttl", "proxied", "priority", "comment",
];

pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let list = |map: &Map| {
        let list = map.get("records").and_then(Value::as_array);
        list.unwrap_or_default().to_vec()
    };
    let (state, found) = (list(&existing.outputs), list(&seen.props));
    let declared = list(&existing.props);
    let mut out = Vec::new();
    for (index, (state, found)) in state.iter().zip(&found).enumerate() {
        let path = |field: Option<&str>| {
            let first = ["records".to_owned(), index.to_string()].into_iter();
            first.chain(field.map(str::to_owned)).collect()
        };
        if *found == Value::Null {
            out.push(Difference {
                path: path(None),
                state: in_short(state),
                found: Value::Null,
            });
            continue;
        }
        for field in FIELDS {
            let key = [field.to_owned()];
            let (state, found) = (state.at(&key), found.at(&key));
            if said(state) != said(found) {
                out.push(Difference {
                    path: path(Some(field)),
                    state: state.cloned().unwrap_or_default(),
                    found: found.cloned().unwrap_or_default(),
                });
            }
        }
        // The zone's answer to a change does not stand in the outputs, so that only what is declared can be compared.
        let tags = ["tags".to_owned()];
        let wanted = declared.get(index).and_then(|record| record.at(&tags));
        if let (Some(wanted), Some(found)) = (wanted, found.at(&tags))
            && wanted != found
        {
            out.push(Difference {
                path: path(Some("tags")),
                state: wanted.clone(),
                found: found.clone(),
            });
        }
    }
    out
}

/// A value as far as it says something: numbers come back with a fraction now and then.
fn said(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Bool(false)) => Value::Null,
        Some(Value::String(text)) if text.is_empty() => Value::Null,
        Some(Value::Float(number)) if number.fract() == 0.0 => Value::Int(*number as i64),
        Some(value) => value.clone(),
    }
}

/// A record without what only the zone needs.
fn in_short(record: &Value) -> Value {
    let Some(record) = record.as_map() else {
        return record.clone();
    };
    let told = record.iter().filter(|(key, value)| {
        ["type", "name", "content"].contains(&key.as_str()) && **value != Value::Null
    });
    Value::Map(
        told.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}
