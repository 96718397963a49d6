//! What leads to a Worker that is imported: its routes, custom domains and queues, out of the lists of all there are.

use serde_json::Value as Json;

use super::{
    super::{
        client::{Call, encode},
        custom_domain, props, queue_consumer,
    },
    Worker, consumers, domains, routes,
};
use crate::{
    model::{Map, Value},
    provider::{FailureKind, Observation, OperationContext, ProviderError},
};

const PER_PAGE: usize = 50;

impl Worker {
    /// Adds to `seen` what leads to it. Answers what could not be looked at: a token for Workers alone does not see zones and
    /// queues.
    pub(super) async fn led(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<Vec<String>, ProviderError> {
        let worker = seen.physical_name.clone();
        let mut hidden = Vec::new();
        for (prop, found) in [
            (domains::PROP, self.own_domains(context, &worker).await),
            (routes::PROP, self.own_routes(context, &worker).await),
            (consumers::PROP, self.own_queues(context, &worker).await),
        ] {
            match found {
                Ok(found) => drop(seen.props.insert(prop.to_owned(), Value::Array(found))),
                Err(error) if error.kind == FailureKind::Authentication => {
                    hidden.push(format!("not looked at: `{prop}`: {}", error.message));
                }
                Err(error) => return Err(error),
            }
        }
        let ids = consumers::ids(&seen.props);
        if !ids.is_empty() {
            seen.outputs
                .insert(consumers::PROP.to_owned(), Value::Array(ids));
        }
        Ok(hidden)
    }

    async fn own_domains(
        &self,
        context: &OperationContext,
        worker: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let call = Call::get(custom_domain::PATH);
        let answer = self.client.call(context, &call).await?;
        let items = answer.result.as_array().map_or(&[][..], Vec::as_slice);
        Ok(lead(
            items,
            ("hostname", "name"),
            ("service", "worker"),
            worker,
        ))
    }

    async fn own_routes(
        &self,
        context: &OperationContext,
        worker: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let mut out = Vec::new();
        let zones = Call::get("zones");
        for zone in self.client.all_in_pages(context, &zones, PER_PAGE).await? {
            let id = props::needed_text(&zone, "id", &zones.describe())?;
            let call = Call::get(format!("zones/{}/workers/routes", encode(&id)));
            let answer = self.client.look(context, &call).await?;
            let result = answer.map(|answer| answer.result).unwrap_or_default();
            let items = result.as_array().map_or(&[][..], Vec::as_slice);
            out.extend(lead(
                items,
                ("pattern", "pattern"),
                ("script", "script"),
                worker,
            ));
        }
        Ok(out)
    }

    /// The consumers, each with the id of its queue.
    async fn own_queues(
        &self,
        context: &OperationContext,
        worker: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let mut out = Vec::new();
        let call = Call::get("queues");
        for queue in self.client.all_in_pages(context, &call, PER_PAGE).await? {
            let consumer = queue.get("consumers").and_then(|list| list.get(0));
            if let Some(consumer) = consumer
                && queue_consumer::script_of(consumer) == Some(worker)
                && let Value::Map(mut consumer) = Value::from_plain_json(consumer.clone())
            {
                let id = props::needed_text(&queue, "queue_id", &call.describe())?;
                consumer.insert("queue".to_owned(), id.into());
                out.push(Value::Map(consumer));
            }
        }
        Ok(out)
    }
}

/// The items that lead to `worker`, each with what leads there, and the Worker, under the names of props.
fn lead(
    items: &[Json],
    (from, name): (&str, &str),
    (to, holder): (&str, &str),
    worker: &str,
) -> Vec<Value> {
    let its = items
        .iter()
        .filter(|item| props::text(item, to) == Some(worker));
    let its = its.filter_map(|item| props::text(item, from));
    its.map(|what| {
        Value::Map(Map::from([
            (name.to_owned(), what.into()),
            (holder.to_owned(), worker.into()),
        ]))
    })
    .collect()
}

/// What leads there as a script writes it.
pub(super) fn declarable(props: &mut Map) {
    for (prop, name) in [(domains::PROP, "name"), (routes::PROP, "pattern")] {
        if let Some(Value::Array(items)) = props.get_mut(prop) {
            for item in items {
                if let Some(what) = item.as_map().and_then(|item| item.get(name)) {
                    *item = what.clone();
                }
            }
        }
    }
    if let Some(Value::Array(sources)) = props.get_mut(consumers::PROP) {
        for source in sources {
            let Some(queue) = source.as_map().and_then(|source| source.get("queue")) else {
                continue;
            };
            let settings = queue_consumer::declarable(&source.to_plain_json().unwrap_or_default());
            let queue = queue.clone();
            *source = match settings.is_empty() {
                true => queue,
                false => Value::Map(Map::from([
                    ("queue".to_owned(), queue),
                    ("settings".to_owned(), Value::Map(settings)),
                ])),
            };
        }
    }
}
