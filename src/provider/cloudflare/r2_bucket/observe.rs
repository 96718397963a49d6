//! Buckets as they are now. The list of an account's buckets tells name and storage class; each further setting is a call of its
//! own, which is made for buckets whose scripts declare it, and for all settings of a bucket that is imported.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::Value as Json;

use super::{
    super::client::{Call, encode},
    PATH, R2Bucket, domains, notifications, within,
};
use crate::{
    model::{Map, Value},
    provider::{Difference, Existing, Observation, OperationContext, ProviderError, observe},
};

/// Lists of rules that are set as a whole, each the last part of a path as well.
const RULES: [&str; 3] = ["cors", "lifecycle", "lock"];
const DEV_DOMAIN: &str = "devDomain";
/// The rule that every bucket has by itself.
const OWN_RULE: &str = "Default Multipart Abort Rule";

impl R2Bucket {
    /// Adds to `seen` those settings that `wanted` names.
    pub(super) async fn complete(
        &self,
        context: &OperationContext,
        place: Option<&str>,
        wanted: impl Fn(&str) -> bool,
        seen: &mut Observation,
    ) -> Result<(), ProviderError> {
        let bucket = seen.physical_name.clone();
        let path = |what: &str| format!("{PATH}/{}/{what}", encode(&bucket));
        // A setting that is not there is answered like a bucket that is not: either way there is none.
        let read = async |path: String| {
            let call = within(Call::get(path), place);
            let answer = self.client.look(context, &call).await?;
            Ok::<_, ProviderError>(answer.map(|answer| answer.result).unwrap_or_default())
        };
        for rules in RULES.into_iter().filter(|rules| wanted(rules)) {
            let answer = read(path(rules)).await?;
            let list = answer.get("rules").and_then(Json::as_array);
            let list = list.into_iter().flatten().cloned();
            let list = list.map(Value::from_plain_json).collect();
            seen.props.insert(rules.to_owned(), list);
        }
        if wanted(DEV_DOMAIN) {
            let answer = read(path("domains/managed")).await?;
            let enabled = answer.get("enabled").and_then(Json::as_bool) == Some(true);
            if enabled {
                self.address(&answer, &mut seen.outputs);
            }
            seen.props.insert(DEV_DOMAIN.to_owned(), enabled.into());
        }
        if wanted(domains::PROP) {
            let found = domains::found(&read(domains::path(&bucket)).await?);
            seen.props.insert(domains::PROP.to_owned(), found);
        }
        if wanted(notifications::PROP) {
            let there = notifications::there(&self.client, context, &bucket, place).await?;
            let found = notifications::found(there);
            seen.props.insert(notifications::PROP.to_owned(), found);
        }
        Ok(())
    }
}

/// Whether props declare a setting.
pub(super) fn declares(props: &Map, setting: &str) -> bool {
    props
        .get(setting)
        .is_some_and(|value| *value != Value::Null)
}

/// As the default, but rules are compared whole: what was added to them counts as well as what is missing.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut plain = existing.props.clone();
    for apart in RULES
        .into_iter()
        .chain([domains::PROP, notifications::PROP])
    {
        plain.remove(apart);
    }
    let mut out = observe::compare(&existing.physical_name, &plain, seen);
    for rules in RULES {
        let list = |props: &Map| Some(props.get(rules)?.as_array()?.to_vec());
        if let (Some(declared), Some(found)) = (list(&existing.props), list(&seen.props)) {
            let found = ordered_as(&declared, found);
            let both = (Value::Array(declared), Value::Array(found));
            compare_rules(&mut vec![rules.to_owned()], &both.0, &both.1, &mut out);
        }
    }
    out.extend(domains::compare(existing, seen));
    out.extend(notifications::compare(existing, seen));
    out
}

/// The props that say what a bucket has by itself, taken out.
pub(super) fn without_own(props: &mut Map) {
    if let Some(Value::Array(rules)) = props.get_mut("lifecycle") {
        let own = |rule: &Value| rule.at(&["id".to_owned()]) == Some(&Value::from(OWN_RULE));
        // With other rules beside it, it has to be declared: the list is set as a whole.
        if rules.iter().all(own) {
            rules.clear();
        }
    }
    props.retain(|key, value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Bool(false) => key != DEV_DOMAIN,
        _ => true,
    });
}

/// Rules with names stand in any order: those that both sides have in that of the declared ones, then the others.
fn ordered_as(declared: &[Value], mut found: Vec<Value>) -> Vec<Value> {
    let id = |rule: &Value| {
        let id = rule.as_map()?.get("id")?.as_str()?;
        Some(id.to_owned())
    };
    let ids: Vec<Option<String>> = declared.iter().map(id).collect();
    if ids.iter().any(Option::is_none) {
        return found;
    }
    found.sort_by_key(|rule| {
        let id = id(rule);
        ids.iter()
            .position(|other| *other == id)
            .unwrap_or(usize::MAX)
    });
    found
}

fn compare_rules(
    path: &mut Vec<String>,
    declared: &Value,
    found: &Value,
    out: &mut Vec<Difference>,
) {
    match (declared, found) {
        (Value::Map(declared), Value::Map(found)) => {
            let keys: BTreeSet<&String> = declared.keys().chain(found.keys()).collect();
            for key in keys {
                let (here, there) = (declared.get(key), found.get(key));
                // A rule that was given no name may have been given one.
                if key == "id" && here.is_none() {
                    continue;
                }
                let none = &Value::Null;
                path.push(key.clone());
                compare_rules(path, here.unwrap_or(none), there.unwrap_or(none), out);
                path.pop();
            }
        }
        (Value::Array(declared), Value::Array(found)) if declared.len() == found.len() => {
            for (index, (declared, found)) in declared.iter().zip(found).enumerate() {
                path.push(index.to_string());
                compare_rules(path, declared, found, out);
                path.pop();
            }
        }
        (Value::Ref(_) | Value::Template(_) | Value::Secret(_) | Value::Resource(_), _) => {}
        _ if same(declared, found) => {}
        _ => out.push(Difference {
            path: path.clone(),
            state: declared.clone(),
            found: found.clone(),
        }),
    }
}

/// Whether two values say the same: nothing may be spelled in several ways, and so may numbers and moments.
fn same(one: &Value, other: &Value) -> bool {
    let moment = |value: &Value| {
        let text = value.as_str()?;
        let day = || {
            text.parse::<civil::Date>()
                .ok()?
                .to_zoned(TimeZone::UTC)
                .ok()
        };
        let at = text.parse::<Timestamp>().ok();
        at.or_else(|| Some(day()?.timestamp()))
    };
    match (one, other) {
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            *int as f64 == *float
        }
        _ if is_nothing(one) && is_nothing(other) => true,
        _ => one == other || moment(one).is_some_and(|at| moment(other) == Some(at)),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Map(map) => map.values().all(is_nothing),
        _ => false,
    }
}
