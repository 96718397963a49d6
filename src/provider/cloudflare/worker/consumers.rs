//! `eventSources`: the queues whose messages a Worker gets. They are set after the upload, because Cloudflare wants the
//! Worker first, and taken away before the Worker goes.

use serde_json::{Value as Json, json};

use super::{
    super::{
        client::{Call, Client, encode},
        error::{ApiError, missing},
        props, queue, queue_consumer,
    },
    Worker, handover,
};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{Claim, Existing, FailureKind, OperationContext, PropError, ProviderError},
};

pub(super) const PROP: &str = "eventSources";

/// The output that names the queues this resource has made the Worker a consumer of.
pub(super) const OUTPUT: &str = PROP;

/// The output that says how they were set, as a hash.
const HASH: &str = "eventSourcesHash";

/// The prop.
pub(super) fn prop() -> Prop {
    let handle = || PropType::Resource(&[queue::KIND]);
    let queue = PropType::Either(vec![handle(), PropType::String]);
    Prop::new(
        PROP,
        PropType::List(Box::new(PropType::Either(vec![
            handle(),
            PropType::String,
            PropType::Object(vec![
                Prop::new("queue", queue, "the queue, or its id").required(),
                Prop::new(
                    "settings",
                    queue_consumer::settings_type(),
                    "how messages are batched and tried again",
                ),
            ]),
        ]))),
        "queues whose messages go to the Worker's `queue`",
    )
}

/// Refuses a queue that stands there twice.
pub(super) fn normalise(props: &Map, errors: &mut Vec<PropError>) {
    let mut seen = Vec::new();
    for (index, source) in sources(props).iter().enumerate() {
        let queue = source
            .as_map()
            .map_or(Some(*source), |map| map.get("queue"));
        let Some(queue) = queue else {
            continue;
        };
        if let Some((problem, help)) = queue::id_problem(queue) {
            errors.push(props::mistake(&[PROP, &index.to_string()], problem, help));
        }
        if seen.contains(&queue) {
            errors.push(props::mistake(
                &["eventSources", &index.to_string()],
                "this queue stands here twice",
                "keep one of the two".to_owned(),
            ));
        }
        seen.push(queue);
    }
}

/// The queues, each as only one Worker can have it.
pub(super) fn claims(props: &Map) -> impl Iterator<Item = Claim> {
    sources(props).into_iter().filter_map(|source| {
        let queue = match source {
            Value::Map(map) => map.get("queue"),
            other => Some(other),
        };
        queue_consumer::claim(queue?)
    })
}

/// The queues that are declared, by position.
pub(super) fn sources(props: &Map) -> Vec<&Value> {
    let list = props.get("eventSources").and_then(Value::as_array);
    list.unwrap_or_default().iter().collect()
}

/// The queue of a source, and its settings.
pub(super) fn source(value: &Value) -> Result<(&str, Option<&Map>), ProviderError> {
    let (queue, settings) = match value {
        Value::Map(map) => (map.get("queue"), props::map_prop(map, "settings")),
        other => (Some(other), None),
    };
    match queue {
        Some(Value::Resource(view)) => Ok((
            props::known_output(&view.outputs, "id", view.fqn.as_str())?,
            settings,
        )),
        Some(Value::String(id)) => Ok((id, settings)),
        _ => Err(ProviderError::new(
            FailureKind::Refused,
            "prop `eventSources`: an event source must be a queue",
        )),
    }
}

/// The queues that the last run made this Worker a consumer of, and those of which one that was cut short may have.
fn before(existing: Option<&Existing>) -> Vec<&str> {
    let Some(existing) = existing else {
        return Vec::new();
    };
    let list = existing.outputs.get(OUTPUT).and_then(Value::as_array);
    let list = list.unwrap_or_default().iter().filter_map(Value::as_str);
    let attempted = sources(&existing.attempted).into_iter();
    let attempted = attempted.filter_map(|value| Some(source(value).ok()?.0));
    list.chain(attempted).collect()
}

/// The ids of the queues of `props`, as far as they are known.
pub(super) fn ids(props: &Map) -> Vec<Value> {
    let known = |value| Some(Value::from(source(value).ok()?.0));
    sources(props).into_iter().filter_map(known).collect()
}

/// Keeps in mind, over a look at the Worker, what only this program knows.
pub(super) fn keep(prior: &Map, outputs: &mut Map) {
    if let Some(queues) = prior.get(OUTPUT) {
        outputs.insert(OUTPUT.to_owned(), queues.clone());
    }
}

impl Worker {
    /// Makes the Worker the consumer of the queues of `props`, and of those of `prior` no more. `outputs` gets what the
    /// next run must know.
    pub(super) async fn consume(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        existing: Option<&Existing>,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let none = Map::new();
        let prior = existing.map_or(&none, |existing| &existing.outputs);
        let mut wanted = Vec::new();
        for value in sources(props) {
            let (queue, settings) = source(value)?;
            wanted.push((queue, queue_consumer::body(name, settings)?));
        }
        let hash = blake3::hash(json!(wanted).to_string().as_bytes());
        let hash = Value::from(hash.to_hex().to_string());
        if existing.is_some_and(|existing| existing.settled) && prior.get(HASH) == Some(&hash) {
            for key in [OUTPUT, HASH] {
                let value = prior.get(key).cloned();
                outputs.extend(value.map(|value| (key.to_owned(), value)));
            }
            return Ok(());
        }
        let mut queues = Vec::new();
        for (value, (queue, body)) in sources(props).into_iter().zip(wanted) {
            let had = before(existing).contains(&queue);
            let set = set(&self.client, context, queue, name, &body, had).await;
            set.map_err(|error| no_queue(value, error))?;
            queues.push(Value::from(queue));
        }
        for queue in before(existing) {
            if !queues.contains(&Value::from(queue)) {
                remove(&self.client, context, queue, name).await?;
            }
        }
        if !queues.is_empty() {
            outputs.insert(OUTPUT.to_owned(), Value::Array(queues));
            outputs.insert(HASH.to_owned(), hash);
        } else {
            outputs.remove(OUTPUT);
            outputs.remove(HASH);
        }
        Ok(())
    }

    /// Takes the Worker away from its queues, before it goes itself.
    pub(super) async fn consume_no_more(
        &self,
        context: &OperationContext,
        name: &str,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        for queue in before(Some(existing)) {
            remove(&self.client, context, queue, name).await?;
        }
        Ok(())
    }
}

/// A queue that is missing is told by its name.
fn no_queue(source: &Value, error: ProviderError) -> ProviderError {
    let queue = source.as_map().map_or(Some(source), |map| map.get("queue"));
    match queue::is_missing(&error) {
        true => missing("queue", queue, error),
        false => error,
    }
}

async fn set(
    client: &Client,
    context: &OperationContext,
    queue: &str,
    name: &str,
    body: &Json,
    had: bool,
) -> Result<(), ProviderError> {
    // The Worker may not be visible yet, and neither may a queue that this run made.
    let passes: fn(&ApiError) -> bool = match context.made.has(queue) {
        true => |error| error.status == 404,
        false => |error| error.status == 404 && !queue::is_missing_there(error),
    };
    let create = Call::post(queue_consumer::path(queue))
        .json(body)
        .settling(passes);
    if !had {
        match client.call(context, &create).await {
            Ok(_) => return Ok(()),
            Err(error) if queue_consumer::is_taken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match queue_consumer::find(client, context, queue, name).await? {
        Err(other) => {
            let holder = queue_consumer::script_of(&other);
            if !handover::may_take(client, context, holder).await? {
                return Err(queue_consumer::taken(&create.describe(), &other));
            }
            delete(client, context, queue, &other).await?;
            client.call(context, &create).await?;
            Ok(())
        }
        // A resource of its own may have made it, and is deleted after this.
        Ok(Some(consumer)) if !had => {
            delete(client, context, queue, &consumer).await?;
            client.call(context, &create).await?;
            Ok(())
        }
        Ok(Some(consumer)) => {
            let id = props::needed_text(&consumer, "consumer_id", &create.describe())?;
            let path = format!("{}/{}", queue_consumer::path(queue), encode(&id));
            let update = Call::put(path).json(body);
            client.call(context, &update).await?;
            Ok(())
        }
        // Somebody took it away since.
        Ok(None) => {
            client.call(context, &create).await?;
            Ok(())
        }
    }
}

async fn remove(
    client: &Client,
    context: &OperationContext,
    queue: &str,
    name: &str,
) -> Result<(), ProviderError> {
    let Ok(Some(consumer)) = queue_consumer::find(client, context, queue, name).await? else {
        return Ok(());
    };
    delete(client, context, queue, &consumer).await
}

async fn delete(
    client: &Client,
    context: &OperationContext,
    queue: &str,
    consumer: &Json,
) -> Result<(), ProviderError> {
    let path = queue_consumer::path(queue);
    let id = props::needed_text(consumer, "consumer_id", &format!("GET {path}"))?;
    let call = Call::delete(format!("{path}/{}", encode(&id)));
    client.look(context, &call).await.map(drop)
}
