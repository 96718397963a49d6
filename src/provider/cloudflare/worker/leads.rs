//! What leads to Workers and is no part of them: routes, custom domains, queues and workflows. One list a zone, and one each of all
//! domains, queues and workflows say where they lead, however many Workers there are; none is read that no Worker declares.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{
    super::{
        client::{Call, Client, encode},
        custom_domain, props, queue_consumer, route,
        zones::zone_there,
    },
    consumers, domains, routes, workflows,
};
use crate::{
    model::{Map, Value},
    provider::{Difference, Existing, Observation, OperationContext, ProviderError},
};

const PER_PAGE: usize = 100;

/// What leads where.
#[derive(Debug, Default)]
pub(super) struct Leads {
    /// Worker by pattern.
    routes: BTreeMap<String, String>,
    /// Worker by host name.
    domains: BTreeMap<String, String>,
    /// Consumer by the id of the queue.
    consumers: BTreeMap<String, Json>,
    /// Workflow by name.
    workflows: BTreeMap<String, Json>,
}

impl Leads {
    /// Reads the lists that something in `known` stands in.
    pub(super) async fn read(
        client: &Client,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Self, ProviderError> {
        let mut out = Self::default();
        let mut zones = BTreeSet::new();
        for (pattern, item) in known.iter().flat_map(|known| routes::items(&known.props)) {
            zones.extend(zone_there(client, context, item, route::host_of(pattern)).await?);
        }
        for zone in zones {
            let call = Call::get(format!("zones/{}/workers/routes", encode(&zone)));
            let answer = client.look(context, &call).await?;
            for item in items(answer.as_ref().map(|answer| &answer.result)) {
                if let (Some(pattern), Some(script)) =
                    (props::text(item, "pattern"), props::text(item, "script"))
                {
                    out.routes.insert(pattern.to_owned(), script.to_owned());
                }
            }
        }
        if known
            .iter()
            .any(|known| domains::items(&known.props).next().is_some())
        {
            let call = Call::get(custom_domain::PATH);
            let answer = client.call(context, &call).await?;
            for item in items(Some(&answer.result)) {
                if let (Some(host), Some(worker)) =
                    (props::text(item, "hostname"), props::text(item, "service"))
                {
                    out.domains.insert(host.to_owned(), worker.to_owned());
                }
            }
        }
        if known
            .iter()
            .any(|known| !consumers::sources(&known.props).is_empty())
        {
            let call = Call::get("queues");
            for queue in client.all_in_pages(context, &call, PER_PAGE).await? {
                let consumer = items(queue.get("consumers")).first();
                if let (Some(id), Some(consumer)) = (props::text(&queue, "queue_id"), consumer) {
                    out.consumers.insert(id.to_owned(), consumer.clone());
                }
            }
        }
        if known.iter().any(|known| !made(known).is_empty()) {
            let call = Call::get("workflows");
            for workflow in client.all_in_pages(context, &call, PER_PAGE).await? {
                if let Some(name) = props::text(&workflow, "name") {
                    out.workflows.insert(name.to_owned(), workflow);
                }
            }
        }
        Ok(out)
    }

    /// Puts into `seen` where that leads which `known` declares, by position.
    pub(super) fn show(&self, known: &Existing, seen: &mut Observation) {
        let found = |key: &str, name: &str, to: &str, there: Option<&String>| match there {
            None => Value::Null,
            Some(worker) => Value::Map(Map::from([
                (key.to_owned(), Value::from(name)),
                (to.to_owned(), Value::from(worker.as_str())),
            ])),
        };
        let patterns = routes::items(&known.props).map(|(pattern, _)| {
            let there = self.routes.get(&pattern.to_ascii_lowercase());
            found("pattern", pattern, "script", there)
        });
        seen.props.insert("routes".to_owned(), patterns.collect());
        let hosts = domains::items(&known.props)
            .map(|(host, _)| found("name", &host, "worker", self.domains.get(&host)));
        seen.props.insert("domains".to_owned(), hosts.collect());
        let queues = consumers::sources(&known.props).into_iter().map(|value| {
            let queue = consumers::source(value).ok().map(|(queue, _)| queue);
            let consumer = queue.and_then(|queue| self.consumers.get(queue));
            consumer.map_or(Value::Null, |consumer| {
                Value::from_plain_json(consumer.clone())
            })
        });
        seen.props
            .insert("eventSources".to_owned(), queues.collect());
        let workflows = made(known).into_iter().map(|(name, _)| {
            let there = self.workflows.get(name).map_or(Value::Null, |there| {
                Value::from_plain_json(of_workflow(there))
            });
            (name.to_owned(), there)
        });
        let workflows = Value::Map(workflows.collect());
        seen.props.insert(workflows::OUTPUT.to_owned(), workflows);
    }
}

/// The workflows that state says the Worker has made, each with its class.
fn made(known: &Existing) -> Vec<(&str, &str)> {
    let made = known.outputs.get(workflows::OUTPUT);
    let made = made.and_then(Value::as_array).unwrap_or_default();
    workflows::own(&known.physical_name, &known.props)
        .into_iter()
        .filter_map(|view| {
            let output = |key: &str| view.outputs.get(key).and_then(Value::as_str);
            let name = output("name")?;
            let is_made = made.iter().any(|made| made.as_str() == Some(name));
            is_made.then_some((name, output("className")?))
        })
        .collect()
}

fn of_workflow(workflow: &Json) -> Json {
    let field = |key: &str| props::text(workflow, key);
    json!({ "script_name": field("script_name"), "class_name": field("class_name") })
}

fn items(list: Option<&Json>) -> &[Json] {
    list.and_then(Json::as_array).map_or(&[][..], Vec::as_slice)
}

/// What should lead to the Worker and does not, or not as declared.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let name = existing.physical_name.as_str();
    let mut out = Vec::new();
    let patterns = routes::items(&existing.props)
        .map(|(pattern, _)| json!({ "pattern": pattern, "script": name }))
        .collect();
    out.extend(lost(seen, "routes", "script", patterns));
    let hosts = domains::items(&existing.props)
        .map(|(host, _)| json!({ "name": host, "worker": name }))
        .collect();
    out.extend(lost(seen, "domains", "worker", hosts));
    let found = shown(seen, "eventSources");
    for (index, value) in consumers::sources(&existing.props).into_iter().enumerate() {
        let (Ok((_, settings)), Some(found)) = (consumers::source(value), found.get(index)) else {
            continue;
        };
        let Ok(wanted) = queue_consumer::body(name, settings) else {
            continue;
        };
        out.extend(of_consumer(index, &wanted, found));
    }
    let none = Map::new();
    let found = props::map_prop(&seen.props, workflows::OUTPUT).unwrap_or(&none);
    for (workflow, class) in made(existing) {
        let state = json!({ "script_name": name, "class_name": class });
        let state = Value::from_plain_json(state);
        if let Some(found) = found.get(workflow).filter(|found| **found != state) {
            out.push(Difference {
                path: vec![workflows::OUTPUT.to_owned(), workflow.to_owned()],
                state,
                found: found.clone(),
            });
        }
    }
    out
}

fn shown<'a>(seen: &'a Observation, prop: &str) -> &'a [Value] {
    let list = seen.props.get(prop).and_then(Value::as_array);
    list.unwrap_or_default()
}

/// Items that are gone or lead to another Worker.
fn lost(seen: &Observation, prop: &str, to: &str, wanted: Vec<Json>) -> Vec<Difference> {
    let found = shown(seen, prop).iter();
    found
        .zip(wanted)
        .enumerate()
        .filter_map(|(index, (found, wanted))| {
            let wanted = Value::from_plain_json(wanted);
            let to = [to.to_owned()];
            (found.at(&to) != wanted.at(&to)).then(|| Difference {
                path: vec![prop.to_owned(), index.to_string()],
                state: wanted,
                found: found.clone(),
            })
        })
        .collect()
}

/// How the consumer of a queue differs from what is wanted, in what both say.
fn of_consumer(index: usize, wanted: &Json, found: &Value) -> Option<Difference> {
    let there = found.to_plain_json().unwrap_or_default();
    let script = queue_consumer::script_of(&there);
    let mut state = Map::new();
    let mut other = Map::new();
    let mut differ = |key: &str, wanted: &Json, found: &Json| {
        state.insert(key.to_owned(), Value::from_plain_json(wanted.clone()));
        other.insert(key.to_owned(), Value::from_plain_json(found.clone()));
    };
    if script != props::text(wanted, "script_name") {
        differ("script", &wanted["script_name"], &json!(script));
    } else {
        if let (Some(wanted), Some(found)) = (wanted.get("settings"), there.get("settings")) {
            for (field, wanted) in wanted.as_object().into_iter().flatten() {
                if let Some(found) = found.get(field).filter(|found| *found != wanted) {
                    differ(field, wanted, found);
                }
            }
        }
        let dead = |json: &Json| {
            let name = props::text(json, "dead_letter_queue");
            json!(name.filter(|name| !name.is_empty()))
        };
        if dead(wanted) != dead(&there) {
            differ("dead_letter_queue", &dead(wanted), &dead(&there));
        }
    }
    (!state.is_empty()).then(|| Difference {
        path: vec!["eventSources".to_owned(), index.to_string()],
        state: Value::Map(state),
        found: Value::Map(other),
    })
}
