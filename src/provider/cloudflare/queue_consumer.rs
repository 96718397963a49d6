//! `cloudflare::QueueConsumer`: a Worker that a queue hands its messages to. A queue has at most one.
//!
//! What is said about a consumer (settings, request bodies) is here for the `eventSources` of a Worker as well.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    error::{CallError, missing},
    props, queue, worker,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Claim, Declared, Difference, Existing, FailureKind, Found,
        Observation, OperationContext, PropError, Provider, ProviderError, observe,
    },
};

pub(super) const KIND: &str = "cloudflare::QueueConsumer";
/// The code of Cloudflare for a queue that has a consumer.
const EXISTS: i64 = 11004;
/// The codes of Cloudflare for a Worker that is not there.
const NO_WORKER: [&str; 3] = ["10007", "10090", "10092"];
/// Queues on one page of the list.
const PER_PAGE: usize = 50;
/// Longest name of a resource that stands for a consumer, which has no name of its own.
const NAME_LIMIT: usize = 255;

/// The settings: prop, field of the API, value that Cloudflare uses when none is given.
fn settings() -> [(&'static str, &'static str, Json); 5] {
    [
        ("batchSize", "batch_size", json!(10)),
        // Cloudflare scales by itself.
        ("maxConcurrency", "max_concurrency", Json::Null),
        ("maxRetries", "max_retries", json!(3)),
        ("maxWaitTimeMs", "max_wait_time_ms", json!(5000)),
        ("retryDelay", "retry_delay", json!(0)),
    ]
}

/// The type of `settings`.
pub(super) fn settings_type() -> PropType {
    let whole = |min, name, max, doc| Prop::new(name, PropType::Integer { min, max }, doc);
    PropType::Object(vec![
        whole(1, "batchSize", 100, "most messages in one call"),
        whole(1, "maxConcurrency", 250, "most calls at once"),
        whole(
            0,
            "maxRetries",
            100,
            "how often a message is tried again before it is dropped or goes to the dead letter queue",
        ),
        whole(
            0,
            "maxWaitTimeMs",
            60_000,
            "milliseconds that a batch may wait to be full",
        ),
        whole(
            0,
            "retryDelay",
            86_400,
            "seconds before a message is tried again",
        ),
        Prop::new(
            "deadLetterQueue",
            PropType::Either(vec![PropType::Resource(&[queue::KIND]), PropType::String]),
            "the queue, or its name, for messages that failed too often",
        ),
    ])
}

/// The body that says everything about the consumer `script` of a queue: what is not given goes back to its default.
pub(super) fn body(script: &str, given: Option<&Map>) -> Result<Json, ProviderError> {
    let empty = Map::new();
    let given = given.unwrap_or(&empty);
    let mut all = serde_json::Map::new();
    for (prop, field, default) in settings() {
        all.insert(
            field.to_owned(),
            props::json_prop(given, prop)?.unwrap_or(default),
        );
    }
    let dead = match given.get("deadLetterQueue") {
        Some(Value::Resource(view)) => {
            props::known_output(&view.outputs, "name", view.fqn.as_str())?
        }
        other => other.and_then(Value::as_str).unwrap_or_default(),
    };
    let mut body = json!({ "type": "worker", "script_name": script, "settings": all });
    if !dead.is_empty() {
        body["dead_letter_queue"] = json!(dead);
    }
    Ok(body)
}

/// The settings that a consumer of the API's answer has, as props.
fn shown(consumer: &Json) -> Map {
    let mut shown = Map::new();
    if let Some(found) = consumer.get("settings") {
        props::copy(
            &mut shown,
            found,
            &settings().map(|(prop, field, _)| (field, prop)),
        );
    }
    props::copy(
        &mut shown,
        consumer,
        &[("dead_letter_queue", "deadLetterQueue")],
    );
    shown
}

/// The settings of a consumer of the API's answer without those that it has by itself.
pub(super) fn declarable(consumer: &Json) -> Map {
    let mut shown = shown(consumer);
    for (prop, _, default) in settings() {
        if shown.get(prop) == Some(&Value::from_plain_json(default)) {
            shown.remove(prop);
        }
    }
    shown.retain(|_, value| *value != Value::Null && value.as_str() != Some(""));
    shown
}

/// What only one resource can have: the messages of a queue, given as a handle or by its id.
pub(super) fn claim(queue: &Value) -> Option<Claim> {
    let queue = match queue {
        Value::Ref(reference) => reference.fqn.within_stage(),
        other => other.as_str()?,
    };
    Some(Claim::new(format!("the messages of the queue `{queue}`")))
}

/// The path of the consumers of a queue.
pub(super) fn path(queue: &str) -> String {
    format!("queues/{}/consumers", encode(queue))
}

/// The script that a consumer of the API's answer is, whichever way it is called there.
pub(super) fn script_of(consumer: &Json) -> Option<&str> {
    props::text(consumer, "script_name").or_else(|| props::text(consumer, "script"))
}

/// The consumer of `queue` that `script` is; `Err` holds who else is.
pub(super) async fn find(
    client: &Client,
    context: &OperationContext,
    queue: &str,
    script: &str,
) -> Result<Result<Option<Json>, Json>, ProviderError> {
    let call = Call::get(path(queue));
    let Some(answer) = client.look(context, &call).await? else {
        return Ok(Ok(None));
    };
    let Some(consumer) = answer.result.as_array().and_then(|all| all.first()) else {
        return Ok(Ok(None));
    };
    Ok(match script_of(consumer) {
        Some(other) if other == script => Ok(Some(consumer.clone())),
        _ => Err(consumer.clone()),
    })
}

/// The error for a queue whose consumer is somebody else.
pub(super) fn taken(call: &str, consumer: &Json) -> ProviderError {
    let who = match script_of(consumer) {
        Some(other) => format!("the Worker `{other}`"),
        None => "clients that pull over HTTP".to_owned(),
    };
    let mut error = ProviderError::new(
        FailureKind::Conflict,
        format!("the queue has a consumer already: {who}"),
    )
    .with_help("a queue has one consumer: remove the other one, or use another queue");
    error.call = Some(call.to_owned());
    error
}

/// The kind.
#[derive(Debug)]
pub struct QueueConsumer {
    client: Arc<Client>,
    schema: KindSchema,
}

impl QueueConsumer {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    /// The Workers that consume queues. One is called as its queue is, having no name.
    async fn all(&self, context: &OperationContext) -> Result<Vec<Observation>, ProviderError> {
        let call = Call::get("queues");
        let described = call.describe();
        let mut out = Vec::new();
        for queue in self.client.all_in_pages(context, &call, PER_PAGE).await? {
            let id = props::needed_text(&queue, "queue_id", &described)?;
            let consumers = queue.get("consumers").and_then(Json::as_array);
            for item in consumers.into_iter().flatten() {
                let Some(script) = script_of(item) else {
                    continue;
                };
                let mut declared = Map::from([
                    ("queue".to_owned(), Value::from(id.as_str())),
                    ("scriptName".to_owned(), Value::from(script)),
                ]);
                let settings = declarable(item);
                if !settings.is_empty() {
                    declared.insert("settings".to_owned(), Value::Map(settings));
                }
                let outputs = outputs(&id, item, &described)?;
                out.push(Observation {
                    id: observe::object_id("", &outputs),
                    physical_name: props::needed_text(&queue, "queue_name", &described)?,
                    props: declared,
                    outputs,
                });
            }
        }
        Ok(out)
    }
}

fn schema() -> KindSchema {
    KindSchema {
        kind: KIND.into(),
        doc: "A Worker that a queue hands its messages to.".to_owned(),
        props: vec![
            Prop::new(
                "queue",
                PropType::Either(vec![PropType::Resource(&[queue::KIND]), PropType::String]),
                "the queue, or its id",
            )
            .required()
            .replaces(),
            Prop::new(
                "scriptName",
                PropType::Either(vec![PropType::Resource(&[worker::KIND]), PropType::String]),
                "the Worker, or its name",
            )
            .required(),
            Prop::new(
                "settings",
                settings_type(),
                "how messages are batched and tried again",
            ),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the id of the consumer"),
            Attribute::identity("queueId", "the id of the queue"),
            Attribute::new("scriptName", "the name of the Worker"),
            Attribute::new("type", "`worker`"),
            Attribute::new("createdOn", "when it was made"),
        ],
        open_attributes: false,
        // The new one may be for the queue that the old one holds.
        replace: ReplaceOrder::DeleteFirst,
        delete: DeletePolicy::Disposable,
        name_limit: NAME_LIMIT,
    }
}

/// A prop that is a handle or text: the output of the handle that the text stands for.
fn named(props: &Map, prop: &str, output: &str) -> Result<String, ProviderError> {
    match props.get(prop) {
        Some(Value::Resource(view)) => {
            props::known_output(&view.outputs, output, view.fqn.as_str()).map(str::to_owned)
        }
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(ProviderError::new(
            FailureKind::Refused,
            format!("prop `{prop}` is neither text nor a resource"),
        )),
    }
}

fn outputs(queue: &str, result: &Json, call: &str) -> Result<Map, ProviderError> {
    let mut outputs = Map::from([
        (
            "id".to_owned(),
            Value::from(props::needed_text(result, "consumer_id", call)?),
        ),
        ("queueId".to_owned(), Value::from(queue)),
        ("type".to_owned(), Value::from("worker")),
    ]);
    if let Some(script) = script_of(result) {
        outputs.insert("scriptName".to_owned(), Value::from(script));
    }
    props::copy(&mut outputs, result, &[("created_on", "createdOn")]);
    Ok(outputs)
}

#[async_trait]
impl Provider for QueueConsumer {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        if let Some((problem, help)) = props.get("queue").and_then(queue::id_problem) {
            return Err(vec![props::mistake(&["queue"], problem, help)]);
        }
        // A consumer has no name: the resource's own stands in its place.
        Ok(Checked {
            props,
            known: Map::from([("type".to_owned(), Value::from("worker"))]),
            identity: None,
            physical_name: context.id.clone(),
            explicit_name: false,
        })
    }

    fn claims<'a>(&self, checked: &Checked, _declared: &Declared<'a>) -> Vec<Claim> {
        let queue = checked.props.get("queue");
        queue.and_then(claim).into_iter().collect()
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let queue = props::known_output(&existing.outputs, "queueId", context.fqn.as_str())?;
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        let call = Call::get(format!("{}/{}", path(queue), encode(id)));
        let answer = self.client.look(context, &call).await?;
        answer
            .map(|answer| outputs(queue, &answer.result, &call.describe()))
            .transpose()
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let queue = named(props, "queue", "id")?;
        let script = named(props, "scriptName", "name")?;
        let body = body(&script, props::map_prop(props, "settings"))?;
        let call = Call::post(path(&queue))
            .json(&body)
            .visible_late(context.made.has(&queue) || context.made.has(&script));
        let answer = match self.client.call(context, &call).await {
            Ok(answer) => answer,
            Err(error) if is_taken(&error) => {
                return Err(match find(&self.client, context, &queue, &script).await? {
                    Err(who) => taken(&call.describe(), &who),
                    Ok(_) => {
                        let mut error = ProviderError::new(
                            FailureKind::Conflict,
                            format!("the Worker `{script}` consumes the queue already"),
                        )
                        .with_help("take it over with `adopt: true` (or `--adopt`)");
                        error.call = Some(call.describe());
                        error
                    }
                });
            }
            Err(error) => return Err(not_there(props, error.into())),
        };
        outputs(&queue, &answer.result, &call.describe())
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let queue = props::known_output(&existing.outputs, "queueId", context.fqn.as_str())?;
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        let script = named(props, "scriptName", "name")?;
        let body = body(&script, props::map_prop(props, "settings"))?;
        let call = Call::put(format!("{}/{}", path(queue), encode(id))).json(&body);
        let answer = self.client.call(context, &call).await;
        let answer = answer.map_err(|error| not_there(props, error.into()))?;
        outputs(queue, &answer.result, &call.describe())
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let queue = props::known_output(&existing.outputs, "queueId", context.fqn.as_str())?;
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        let call = Call::delete(format!("{}/{}", path(queue), encode(id)));
        self.client.look(context, &call).await.map(drop)
    }

    fn name_prop(&self) -> Option<&'static str> {
        None
    }

    /// The consumers of the queues that known ones are of; where none is known, of all queues, whose list shows them.
    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let mut queues: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
        for existing in known {
            let queue = props::known_output(&existing.outputs, "queueId", context.fqn.as_str())?;
            let id = self.object_id(&existing.physical_name, &existing.outputs);
            let names = queues.entry(queue).or_default();
            names.insert(id, &existing.physical_name);
        }
        if queues.is_empty() {
            return self.all(context).await.map(Some);
        }
        let mut out = Vec::new();
        for (queue, names) in queues {
            let call = Call::get(path(queue));
            // With the queue its consumer is gone.
            let Some(answer) = self.client.look(context, &call).await? else {
                continue;
            };
            for item in answer.result.as_array().map_or(&[][..], Vec::as_slice) {
                let outputs = outputs(queue, item, &call.describe())?;
                let id = observe::object_id("", &outputs);
                out.push(Observation {
                    physical_name: names.get(&id).map_or(id.as_str(), |name| *name).to_owned(),
                    id,
                    props: Map::from([("settings".to_owned(), Value::Map(shown(item)))]),
                    outputs,
                });
            }
        }
        Ok(Some(out))
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        let mut out = observe::compare(&existing.physical_name, &existing.props, seen);
        out.extend(observe::compare_output(
            "scriptName",
            &existing.outputs,
            seen,
        ));
        out
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let queue = named(props, "queue", "id")?;
        let script = named(props, "scriptName", "name")?;
        let Ok(Some(consumer)) = find(&self.client, context, &queue, &script).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            outputs: outputs(&queue, &consumer, &path(&queue))?,
            created_at: props::moment(&consumer, "created_on"),
            ours: None,
        }))
    }
}

/// Tells which of the two is missing, where one is: a consumer that is not there itself is another matter.
fn not_there(props: &Map, error: ProviderError) -> ProviderError {
    let no_worker = |code: &str| NO_WORKER.contains(&code);
    if queue::is_missing(&error) {
        missing("queue", props.get("queue"), error)
    } else if error.code.as_deref().is_some_and(no_worker) {
        missing("Worker", props.get("scriptName"), error)
    } else {
        error
    }
}

/// Whether the queue has a consumer already.
pub(super) fn is_taken(error: &CallError) -> bool {
    error.has_code(EXISTS)
        || matches!(error, CallError::Api(error) if error.status == 400
            && error.message.contains("already has a consumer"))
}
