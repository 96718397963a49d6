//! The event notifications of a bucket: which changes of objects become messages of which queues.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::super::{
    client::{Call, Client, encode},
    error::{ApiError, missing},
    props, queue,
};
use super::within;
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{
        Difference, Existing, FailureKind, Observation, OperationContext, PropError, ProviderError,
    },
};

pub(super) const PROP: &str = "notifications";
/// The codes of a bucket that is not there.
const NO_BUCKET: [&str; 2] = ["10006", "10085"];
const ACTIONS: [&str; 5] = [
    "PutObject",
    "CopyObject",
    "DeleteObject",
    "CompleteMultipartUpload",
    "LifecycleDeletion",
];

/// The prop.
pub(super) fn prop() -> Prop {
    let rule = vec![
        Prop::new(
            "queue",
            PropType::Either(vec![PropType::Resource(&[queue::KIND]), PropType::String]),
            "the queue that gets the messages, or its id",
        )
        .required(),
        Prop::new(
            "actions",
            PropType::List(Box::new(PropType::OneOf(&ACTIONS))),
            "what is told",
        )
        .required(),
        Prop::new(
            "prefix",
            PropType::String,
            "only of objects whose keys begin with it",
        ),
        Prop::new(
            "suffix",
            PropType::String,
            "only of objects whose keys end with it",
        ),
        Prop::new("description", PropType::String, "a remark"),
    ];
    Prop::new(
        PROP,
        PropType::List(Box::new(PropType::Object(rule))),
        "all rules that send messages about objects to queues",
    )
}

/// Refuses rules that tell nothing.
pub(super) fn check(props: &Map, errors: &mut Vec<PropError>) {
    let rules = props.get(PROP).and_then(Value::as_array);
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let actions = rule.as_map().and_then(|rule| rule.get("actions"));
        if actions
            .and_then(Value::as_array)
            .is_some_and(<[Value]>::is_empty)
        {
            errors.push(props::mistake(
                &[PROP, &index.to_string(), "actions"],
                "a rule tells of one action at least",
                format!("name some of {}, or take the rule out", ACTIONS.join(", ")),
            ));
        }
    }
}

/// The rules by the id of their queue.
fn wanted(props: &Map) -> Result<BTreeMap<String, Vec<Json>>, ProviderError> {
    let mut wanted: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    let rules = props.get(PROP).and_then(Value::as_array);
    for rule in rules.unwrap_or_default() {
        let Some(rule) = rule.as_map() else {
            continue;
        };
        let queue = match rule.get("queue") {
            Some(Value::Resource(view)) => {
                props::known_output(&view.outputs, "id", view.fqn.as_str())?
            }
            Some(Value::String(id)) => id.as_str(),
            _ => {
                return Err(ProviderError::new(
                    FailureKind::Refused,
                    "prop `notifications`: `queue` is neither an id nor a queue",
                ));
            }
        };
        let mut body = json!({});
        for field in ["actions", "prefix", "suffix", "description"] {
            if let Some(value) = props::json_prop(rule, field)? {
                body[field] = value;
            }
        }
        wanted.entry(queue.to_owned()).or_default().push(body);
    }
    Ok(wanted)
}

/// The rules of a queue that are there, as they would be asked for.
fn plain(rules: &Json) -> Vec<Json> {
    let fields = ["actions", "prefix", "suffix", "description"];
    let plain = |rule: &Json| {
        let given = fields.iter().filter_map(|field| {
            let value = rule
                .get(*field)
                .filter(|value| !value.is_null() && value.as_str() != Some(""))?;
            Some(((*field).to_owned(), value.clone()))
        });
        Json::Object(given.collect())
    };
    let rules = rules.as_array().map_or(&[][..], Vec::as_slice);
    rules.iter().map(plain).collect()
}

fn path(bucket: &str) -> String {
    format!("event_notifications/r2/{}/configuration", encode(bucket))
}

fn queue_path(bucket: &str, queue: &str) -> String {
    format!("{}/queues/{}", path(bucket), encode(queue))
}

/// The rules that are there, by the id of their queue.
pub(super) async fn there(
    client: &Client,
    context: &OperationContext,
    bucket: &str,
    place: Option<&str>,
) -> Result<BTreeMap<String, Vec<Json>>, ProviderError> {
    let call = within(Call::get(path(bucket)), place);
    let answer = client.look(context, &call).await?;
    let queues = answer
        .as_ref()
        .and_then(|answer| answer.result.get("queues")?.as_array());
    Ok(queues
        .into_iter()
        .flatten()
        .filter_map(|queue| {
            let id = props::text(queue, "queueId")?;
            Some((id.to_owned(), plain(queue.get("rules")?)))
        })
        .collect())
}

/// Brings the rules of a bucket to what `props` say, whatever they were, where these say something or `before` did; `None`
/// for a new bucket.
pub(super) async fn apply(
    client: &Client,
    context: &OperationContext,
    bucket: &str,
    place: Option<&str>,
    props: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    let had = before.is_some_and(|before| before.contains_key(PROP));
    if !props.contains_key(PROP) && !had {
        return Ok(());
    }
    let wanted = wanted(props)?;
    let new = before.is_none();
    let there = match before {
        None => BTreeMap::new(),
        Some(_) => there(client, context, bucket, place).await?,
    };
    for (queue, rules) in &there {
        // New rules are added to those that are there, and may not overlap them.
        if wanted.get(queue) != Some(rules) {
            let call = Call::delete(queue_path(bucket, queue));
            client.look(context, &within(call, place)).await?;
        }
    }
    for (queue, rules) in &wanted {
        if there.get(queue) != Some(rules) {
            let call = Call::put(queue_path(bucket, queue)).json(&json!({ "rules": rules }));
            // Neither the bucket nor the queue may be visible yet, where this run made them.
            let passes: fn(&ApiError) -> bool = match (new, context.made.has(queue)) {
                (true, true) => ApiError::is_not_found,
                (true, false) => |error| error.is_not_found() && !queue::is_missing_there(error),
                (false, true) => queue::is_missing_there,
                (false, false) => |_| false,
            };
            let call = within(call, place).settling(passes);
            let put = client.call(context, &call).await;
            put.map_err(|error| no_queue(given(props, queue), error.into()))?;
        }
    }
    Ok(())
}

/// Refuses texts that no queue has for an id.
pub(super) fn normalise(props: &Map, errors: &mut Vec<PropError>) {
    let rules = props.get(PROP).and_then(Value::as_array);
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let queue = rule.as_map().and_then(|rule| rule.get("queue"));
        if let Some((problem, help)) = queue.and_then(queue::id_problem) {
            let path = [PROP, &index.to_string(), "queue"];
            errors.push(props::mistake(&path, problem, help));
        }
    }
}

/// The value by which a rule names the queue of that id.
fn given<'a>(props: &'a Map, id: &str) -> Option<&'a Value> {
    let rules = props.get(PROP).and_then(Value::as_array)?;
    let queues = rules.iter().filter_map(|rule| rule.as_map()?.get("queue"));
    let is_it = |queue: &&Value| match queue {
        Value::Resource(view) => view.outputs.get("id").and_then(Value::as_str) == Some(id),
        other => other.as_str() == Some(id),
    };
    queues.into_iter().find(is_it)
}

/// A queue that is missing does not mean that the bucket is.
fn no_queue(given: Option<&Value>, error: ProviderError) -> ProviderError {
    let code = error.code.as_deref().unwrap_or_default();
    let of_bucket = NO_BUCKET.contains(&code);
    match queue::is_missing(&error) || error.kind == FailureKind::NotFound && !of_bucket {
        true => missing("queue", given, error),
        false => error,
    }
}

/// Removes the rules of a bucket that is about to go: a queue cannot be deleted while it has any.
pub(super) async fn remove(
    client: &Client,
    context: &OperationContext,
    bucket: &str,
    place: Option<&str>,
    props: &Map,
) -> Result<(), ProviderError> {
    if !props.contains_key(PROP) {
        return Ok(());
    }
    for queue in there(client, context, bucket, place).await?.keys() {
        let call = Call::delete(queue_path(bucket, queue));
        client.look(context, &within(call, place)).await?;
    }
    Ok(())
}

/// The rules that are there, as they would be declared.
pub(super) fn found(there: BTreeMap<String, Vec<Json>>) -> Value {
    let rules = there.into_iter().flat_map(|(queue, rules)| {
        rules.into_iter().map(move |rule| {
            let mut rule = match Value::from_plain_json(rule) {
                Value::Map(rule) => rule,
                _ => Map::new(),
            };
            rule.insert("queue".to_owned(), Value::from(queue.as_str()));
            Value::Map(rule)
        })
    });
    rules.collect()
}

/// The queues whose rules are not as declared.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    // A queue that state does not know cannot be told from the others.
    let (Some(_), Ok(declared), Ok(found)) = (
        seen.props.get(PROP),
        wanted(&existing.props),
        wanted(&seen.props),
    ) else {
        return Vec::new();
    };
    if !existing.props.contains_key(PROP) {
        return Vec::new();
    }
    let none = &Vec::new();
    let queues: BTreeSet<&String> = declared.keys().chain(found.keys()).collect();
    let pairs = queues.into_iter().map(|queue| {
        let declared = declared.get(queue).unwrap_or(none);
        (queue, declared, found.get(queue).unwrap_or(none))
    });
    pairs
        .filter(|(_, declared, found)| !are_same(declared, found))
        .map(|(queue, declared, found)| Difference {
            path: vec![PROP.to_owned(), queue.clone()],
            state: Value::from_plain_json(json!(declared)),
            found: Value::from_plain_json(json!(found)),
        })
        .collect()
}

/// Whether two sets of rules send the same messages. Not every answer has the remarks.
fn are_same(declared: &[Json], found: &[Json]) -> bool {
    let told = found.iter().any(|rule| rule.get("description").is_some());
    let rules = |rules: &[Json]| -> BTreeSet<String> {
        let text = |rule: &Json| {
            let mut rule = rule.clone();
            if let (Some(rule), false) = (rule.as_object_mut(), told) {
                rule.remove("description");
            }
            if let Some(Json::Array(actions)) = rule.get_mut("actions") {
                actions.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
            }
            rule.to_string()
        };
        plain(&json!(rules)).iter().map(text).collect()
    };
    rules(declared) == rules(found)
}
