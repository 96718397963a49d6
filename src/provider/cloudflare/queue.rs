//! `cloudflare::Queue`: a message queue.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map as JsonMap, Value as Json, json};

use super::{
    by_id,
    client::{Call, Client, encode},
    error::ApiError,
    names::{NameRule, Naming, naming_prop},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, Found, Observation, OperationContext, PropError, Provider,
        ProviderError,
    },
};

pub(super) const KIND: &str = "cloudflare::Queue";
const PATH: &str = "queues";
/// The code of a queue that is not there.
const NO_QUEUE: i64 = 11_000;

const NAMES: NameRule = NameRule {
    naming: Naming::Stage,
    least: 1,
    limit: 63,
    underscores: false,
    free: false,
    words: "have 1 to 63 characters of `a-z`, `0-9` and `-`, and neither begin nor end with `-`",
};

/// The settings: prop, field of the API, value that Cloudflare uses when none is given.
fn settings() -> [(&'static str, &'static str, Json); 3] {
    [
        ("deliveryDelay", "delivery_delay", json!(0)),
        ("deliveryPaused", "delivery_paused", json!(false)),
        (
            "messageRetentionPeriod",
            "message_retention_period",
            json!(345_600),
        ),
    ]
}

/// The kind.
#[derive(Debug)]
pub struct Queue {
    client: Arc<Client>,
    schema: KindSchema,
}

impl Queue {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }
}

/// Whether an answer says that the queue of the path is not there.
pub(super) fn is_missing(error: &ProviderError) -> bool {
    error.code.as_deref() == Some(NO_QUEUE.to_string().as_str())
}

/// The same of an answer that is still open.
pub(super) fn is_missing_there(error: &ApiError) -> bool {
    error.code == Some(NO_QUEUE)
}

/// Why a text cannot be the id of a queue.
pub(super) fn id_problem(given: &Value) -> Option<(String, String)> {
    let id = given.as_str()?;
    let fits = id.len() == 32 && id.chars().all(|letter| letter.is_ascii_hexdigit());
    (!fits).then(|| {
        (
            format!("`{id}` is no id of a queue"),
            "give a queue of the script, or the 32 hexadecimal digits of its id".to_owned(),
        )
    })
}

fn schema() -> KindSchema {
    let settings = vec![
        Prop::new(
            "deliveryDelay",
            PropType::Integer {
                min: 0,
                max: 86_400,
            },
            "seconds that a message waits before it can be delivered",
        ),
        Prop::new(
            "deliveryPaused",
            PropType::Bool,
            "whether messages are kept and not delivered",
        ),
        Prop::new(
            "messageRetentionPeriod",
            PropType::Integer {
                min: 60,
                max: 1_209_600,
            },
            "seconds that a message is kept",
        ),
    ];
    KindSchema {
        kind: KIND.into(),
        doc: "A queue of messages.".to_owned(),
        props: vec![
            Prop::new(
                "name",
                PropType::String,
                "the name, used exactly as written",
            )
            .replaces(),
            Prop::new(
                "settings",
                PropType::Object(settings),
                "how messages are kept and delivered",
            ),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the id of the queue"),
            Attribute::identity("name", "the name"),
            Attribute::new("type", "`queue`"),
            Attribute::new("createdOn", "when it was made"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::HoldsData,
        name_limit: NAMES.limit,
    }
}

fn given_settings(props: &Map) -> Result<JsonMap<String, Json>, ProviderError> {
    let mut out = JsonMap::new();
    let Some(map) = props::map_prop(props, "settings") else {
        return Ok(out);
    };
    for (prop, field, _) in settings() {
        if let Some(value) = props::json_prop(map, prop)? {
            out.insert(field.to_owned(), value);
        }
    }
    Ok(out)
}

fn outputs(result: &Json, call: &str) -> Result<Map, ProviderError> {
    let mut outputs = Map::from([
        (
            "id".to_owned(),
            Value::from(props::needed_text(result, "queue_id", call)?),
        ),
        (
            "name".to_owned(),
            Value::from(props::needed_text(result, "queue_name", call)?),
        ),
        ("type".to_owned(), Value::from("queue")),
    ]);
    props::copy(&mut outputs, result, &[("created_on", "createdOn")]);
    Ok(outputs)
}

#[async_trait]
impl Provider for Queue {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let name = NAMES
            .resolve(context, &mut props, "name")
            .map_err(|error| vec![error])?;
        Ok(name.checked(KIND, "queue", &["name"], props))
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        by_id::read(&self.client, PATH, context, existing, outputs).await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let mut body = json!({ "queue_name": context.physical_name });
        let settings = given_settings(props)?;
        if !settings.is_empty() {
            body["settings"] = Json::Object(settings);
        }
        let call = Call::post(PATH).json(&body);
        let answer = self.client.call(context, &call).await?;
        outputs(&answer.result, &call.describe())
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        // A setting that is no longer given goes back to what Cloudflare uses by itself.
        let mut settings_now = given_settings(props)?;
        let before = existing.widest();
        let before = props::map_prop(&before, "settings");
        for (prop, field, default) in settings() {
            if before.is_some_and(|map| map.contains_key(prop)) {
                settings_now.entry(field).or_insert(default);
            }
        }
        if !settings_now.is_empty() {
            let call = Call::patch(format!("{PATH}/{}", encode(id)))
                .json(&json!({ "settings": settings_now }));
            self.client.call(context, &call).await?;
        }
        Ok(existing.outputs.clone())
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        by_id::delete(&self.client, PATH, context, existing).await
    }

    fn lists_all(&self) -> bool {
        true
    }

    async fn list(
        &self,
        context: &OperationContext,
        _known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let call = Call::get(PATH);
        let items = self.client.all_in_pages(context, &call, 100).await?;
        items
            .iter()
            .map(|item| {
                let mut seen = Map::new();
                let fields = settings().map(|(prop, field, _)| (field, prop));
                if let Some(found) = item.get("settings") {
                    props::copy(&mut seen, found, &fields);
                }
                Ok(Observation {
                    id: props::needed_text(item, "queue_id", &call.describe())?,
                    physical_name: props::needed_text(item, "queue_name", &call.describe())?,
                    outputs: outputs(item, &call.describe())?,
                    props: Map::from([("settings".to_owned(), Value::Map(seen))]),
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    fn declarable(&self, seen: &Observation) -> Map {
        let mut given = Map::new();
        for (prop, _, default) in settings() {
            let found = props::map_prop(&seen.props, "settings").and_then(|map| map.get(prop));
            if let Some(found) = found
                && *found != Value::from_plain_json(default)
            {
                given.insert(prop.to_owned(), found.clone());
            }
        }
        if given.is_empty() {
            return Map::new();
        }
        Map::from([("settings".to_owned(), Value::Map(given))])
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let name = context.physical_name.as_str();
        let call = Call::get(PATH).query("name", name);
        let found = self
            .client
            .find_in_pages(context, &call, 100, |item| {
                (props::text(item, "queue_name") == Some(name)).then(|| item.clone())
            })
            .await?;
        found
            .map(|item| {
                Ok(Found {
                    outputs: outputs(&item, &call.describe())?,
                    created_at: props::moment(&item, "created_on"),
                    ours: None,
                })
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cloudflare::testing::{Scripted, checked, context, existing, no, ok};

    #[tokio::test]
    async fn settings_are_sent_and_go_back_to_the_default_when_taken_away() {
        let made = json!({ "queue_id": "q1", "queue_name": "thing-dev", "created_on": "2026-01-02T03:04:05Z" });
        let (transport, client) = Scripted::new(vec![ok(made.clone()), ok(made)]);
        let kind = Queue::new(client);
        let checked = checked(&kind, json!({ "settings": { "delivery_delay": 5 } }));
        assert_eq!(checked.physical_name, "thing-dev");
        let context = context(&checked.physical_name);
        let outputs = kind.create(&context, &checked.props).await.unwrap();
        let existing = Existing {
            props: checked.props,
            outputs,
            physical_name: checked.physical_name,
            settled: true,
            attempted: Map::new(),
        };
        kind.update(&context, &Map::new(), &existing).await.unwrap();
        assert_eq!(
            transport.requests(),
            [
                r#"POST queues {"queue_name":"thing-dev","settings":{"delivery_delay":5}}"#,
                r#"PATCH queues/q1 {"settings":{"delivery_delay":0}}"#,
            ]
        );
    }

    #[tokio::test]
    async fn a_queue_is_found_by_its_exact_name_and_may_be_gone() {
        let (transport, client) = Scripted::new(vec![
            ok(
                json!([{ "queue_id": "q1", "queue_name": "jobs-2" }, { "queue_id": "q2", "queue_name": "jobs", "created_on": "2026-01-02T03:04:05Z" }]),
            ),
            ok(json!([])),
            no(404, 11000, "queue not found"),
        ]);
        let kind = Queue::new(client);
        let context = context("jobs");
        let found = kind.find(&context, &Map::new()).await.unwrap().unwrap();
        assert_eq!(found.outputs["id"], Value::from("q2"));
        assert!(found.created_at.is_some());
        assert!(kind.find(&context, &Map::new()).await.unwrap().is_none());
        let gone = existing("jobs", json!({}), json!({ "id": "q2" }));
        kind.delete(&context, &gone).await.unwrap();
        assert_eq!(
            transport.requests()[0],
            "GET queues?name=jobs&page=1&per_page=100"
        );
    }
}
