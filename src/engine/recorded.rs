//! Recorded props with what they refer to put in, as far as state alone tells it: what a look compares objects with.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use crate::{
    model::{Fqn, Map, Reference, ResourceView, TemplatePart, Value},
    state::{Record, Status},
};

/// The records of a stage by name.
pub(super) type Records = BTreeMap<Fqn, Arc<Record>>;

/// The props of `record` with the recorded outputs of others in the place of references. What state does not tell, and text made
/// of a secret, stays a reference.
pub(super) fn resolved(record: &Record, records: &Records) -> Map {
    put_into(&record.props, records)
}

/// The same of any props of a record.
pub(super) fn put_into(props: &Map, records: &Records) -> Map {
    let put_in = |value: &Value| {
        let changed = value.try_map_leaves::<Infallible>(&mut Vec::new(), &mut |_, leaf| {
            Ok(match leaf {
                Value::Ref(reference) => value_of(reference, records),
                Value::Template(parts) => text_of(parts, records),
                _ => None,
            }
            .unwrap_or_else(|| leaf.clone()))
        });
        match changed {
            Ok(value) => value,
            Err(never) => match never {},
        }
    };
    props
        .iter()
        .map(|(key, value)| (key.clone(), put_in(value)))
        .collect()
}

fn value_of(reference: &Reference, records: &Records) -> Option<Value> {
    let record = records.get(&reference.fqn)?;
    if !matches!(record.status, Status::Ready | Status::Updating) {
        return None;
    }
    let Some((first, rest)) = reference.path.split_first() else {
        return Some(Value::Resource(Arc::new(ResourceView {
            fqn: record.fqn.clone(),
            kind: Arc::clone(&record.kind),
            physical_name: record.physical_name.clone(),
            outputs: record.outputs.clone(),
        })));
    };
    match (record.outputs.get(first), first.as_str()) {
        (Some(output), _) => output.at(rest).cloned(),
        (None, "name") => Some(Value::from(record.physical_name.as_str())),
        _ => None,
    }
}

fn text_of(parts: &[TemplatePart], records: &Records) -> Option<Value> {
    let mut out = String::new();
    for part in parts {
        match part {
            TemplatePart::Text(text) => out.push_str(text),
            TemplatePart::Ref(reference) => match value_of(reference, records)? {
                Value::String(text) => out.push_str(&text),
                Value::Int(number) => out.push_str(&number.to_string()),
                _ => return None,
            },
        }
    }
    Some(Value::String(out))
}
