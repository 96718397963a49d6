//! `cloudflare::KVNamespace`: a key-value namespace and the values that the script puts into it.

mod values;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value as Json, json};

use super::{
    by_id,
    client::{Call, Client, encode},
    error::after_creation,
    names::{NameRule, Naming, naming_prop},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Difference, Existing, Found, Observation, OperationContext,
        PropError, Provider, ProviderError,
    },
};

pub(super) const KIND: &str = "cloudflare::KVNamespace";
const PATH: &str = "storage/kv/namespaces";
/// Pairs in one bulk write; the API takes ten times as many, but 100 MB in all.
const BATCH: usize = 1000;
/// Namespaces whose values are read at once.
const AT_ONCE: usize = 4;

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 512,
    underscores: true,
    free: true,
    words: "have 1 to 512 characters and no control characters",
};

/// The kind.
#[derive(Debug)]
pub struct KvNamespace {
    client: Arc<Client>,
    schema: KindSchema,
}

impl KvNamespace {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    async fn write_values(
        &self,
        context: &OperationContext,
        id: &str,
        props: &Map,
        new: bool,
    ) -> Result<(), ProviderError> {
        let Some(Json::Array(values)) = props::json_prop(props, "values")? else {
            return Ok(());
        };
        let pairs: Vec<Json> = values.into_iter().map(pair).collect();
        for batch in pairs.chunks(BATCH) {
            let call = Call::put(format!("{PATH}/{}/bulk", encode(id)))
                .json(&json!(batch))
                .visible_late(new);
            let answer = self.client.call(context, &call).await?;
            let failed = answer.result.get("unsuccessful_keys");
            if let Some(keys) = failed.and_then(Json::as_array)
                && !keys.is_empty()
            {
                return Err(ProviderError::new(
                    crate::provider::FailureKind::Ambiguous,
                    format!("{} of {} values were not written", keys.len(), batch.len()),
                )
                .with_help("run again"));
            }
        }
        Ok(())
    }

    async fn find_by_title(
        &self,
        context: &OperationContext,
        title: &str,
    ) -> Result<Option<Json>, ProviderError> {
        let found = self
            .client
            .find_in_pages(context, &Call::get(PATH), 100, |item| {
                (props::text(item, "title") == Some(title)).then(|| item.clone())
            })
            .await?;
        Ok(found)
    }
}

fn schema() -> KindSchema {
    let value = vec![
        Prop::new("key", PropType::String, "the key, at most 512 bytes").required(),
        Prop::new(
            "value",
            PropType::Any,
            "text, or data that is written as JSON",
        )
        .required()
        .secret(),
        Prop::new(
            "expiration",
            PropType::Integer {
                min: 0,
                max: i64::MAX,
            },
            "when the value goes, in seconds since 1970",
        ),
        Prop::new(
            "expirationTtl",
            PropType::Integer {
                min: 60,
                max: i64::MAX,
            },
            "after how many seconds the value goes",
        ),
        Prop::new("metadata", PropType::Any, "data kept beside the value"),
    ];
    KindSchema {
        kind: KIND.into(),
        doc: "A Workers KV namespace.".to_owned(),
        props: vec![
            Prop::new(
                "name",
                PropType::String,
                "the title of the namespace, used exactly as written; a change renames it",
            ),
            Prop::new("title", PropType::String, "another word for `name`"),
            Prop::new(
                "values",
                PropType::List(Box::new(PropType::Object(value))),
                "values to write; one that is taken out of the list stays in the namespace",
            )
            .secret(),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the id of the namespace"),
            Attribute::identity("namespaceId", "the id of the namespace"),
            Attribute::new("name", "the title"),
            Attribute::new("title", "the title"),
            Attribute::new("type", "`kv_namespace`"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::HoldsData,
        name_limit: NAMES.limit,
    }
}

/// One value as the bulk call takes it. Data that is no text is written as JSON text.
fn pair(value: Json) -> Json {
    let Json::Object(mut map) = value else {
        return value;
    };
    if let Some(content) = map.get_mut("value")
        && !content.is_string()
    {
        *content = Json::String(content.to_string());
    }
    if let Some(ttl) = map.remove("expirationTtl") {
        map.insert("expiration_ttl".to_owned(), ttl);
    }
    Json::Object(map)
}

fn outputs(result: &Json, call: &str) -> Result<Map, ProviderError> {
    let id = props::needed_text(result, "id", call)?;
    let title = props::needed_text(result, "title", call)?;
    Ok(outputs_of(&id, &title))
}

fn outputs_of(id: &str, title: &str) -> Map {
    Map::from([
        ("id".to_owned(), Value::from(id)),
        ("namespaceId".to_owned(), Value::from(id)),
        ("name".to_owned(), Value::from(title)),
        ("title".to_owned(), Value::from(title)),
        ("type".to_owned(), Value::from("kv_namespace")),
    ])
}

#[async_trait]
impl Provider for KvNamespace {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        props::merge_alias(&mut props, "name", "title").map_err(|error| vec![error])?;
        let name = NAMES
            .resolve(context, &mut props, "name")
            .map_err(|error| vec![error])?;
        Ok(name.checked(KIND, "kv_namespace", &["name", "title"], props))
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        by_id::read(&self.client, PATH, context, existing, outputs).await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let title = &context.physical_name;
        let call = Call::post(PATH).json(&json!({ "title": title }));
        let answer = self.client.call(context, &call).await?;
        let outputs = outputs(&answer.result, &call.describe())?;
        let id = props::known_output(&outputs, "id", context.fqn.as_str())?;
        self.write_values(context, id, props, true)
            .await
            .map_err(|error| after_creation(&format!("the KV namespace `{title}`"), error))?;
        Ok(outputs)
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        let title = props
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or(&context.physical_name);
        // An update that was cut short may have renamed it to what the script does not ask for any more.
        let known = existing.outputs.get("title").and_then(Value::as_str);
        if !existing.settled || known != Some(title) {
            let call = Call::put(format!("{PATH}/{}", encode(id))).json(&json!({ "title": title }));
            self.client.call(context, &call).await?;
        }
        // Written even when they look unchanged: an update that failed half-way may have written others.
        self.write_values(context, id, props, false).await?;
        Ok(outputs_of(id, title))
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
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let call = Call::get(PATH);
        let items = self.client.all_in_pages(context, &call, 100).await?;
        let listed = items.iter().map(|item| {
            Ok(Observation {
                id: props::needed_text(item, "id", &call.describe())?,
                physical_name: props::needed_text(item, "title", &call.describe())?,
                outputs: outputs(item, &call.describe())?,
                props: Map::new(),
            })
        });
        let listed = listed.collect::<Result<Vec<_>, ProviderError>>()?;
        let known: HashMap<String, &Existing> = known
            .iter()
            .map(|known| (self.object_id(&known.physical_name, &known.outputs), known))
            .collect();
        let known = &known;
        stream::iter(listed)
            .map(|mut seen| async move {
                let there = match known.get(&seen.id) {
                    Some(known) => self.complete(context, known, &mut seen).await?,
                    None => true,
                };
                Ok(there.then_some(seen))
            })
            .buffered(AT_ONCE)
            .try_filter_map(|seen| async move { Ok(seen) })
            .try_collect()
            .await
            .map(Some)
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        values::compare(existing, seen)
    }

    fn unseen(&self) -> &'static [&'static str] {
        &[values::PROP]
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let Some(item) = self.find_by_title(context, &context.physical_name).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            outputs: outputs(&item, &Call::get(PATH).describe())?,
            created_at: None,
            ours: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{
        FailureKind,
        cloudflare::testing::{Scripted, checked, context, existing, map, no, ok, raw},
    };

    #[tokio::test]
    async fn create_makes_the_namespace_and_writes_its_values() {
        let (transport, client) = Scripted::new(vec![
            ok(json!({ "id": "n1", "title": "app-thing-dev" })),
            ok(json!({ "successful_key_count": 2, "unsuccessful_keys": [] })),
        ]);
        let kind = KvNamespace::new(client);
        let checked = checked(
            &kind,
            json!({ "values": [{ "key": "a", "value": "1" }, { "key": "b", "value": { "x": 1 }, "expirationTtl": 60 }] }),
        );
        assert_eq!(checked.physical_name, "app-thing-dev");
        let context = context(&checked.physical_name);
        let outputs = kind.create(&context, &checked.props).await.unwrap();
        assert_eq!(outputs, outputs_of("n1", "app-thing-dev"));
        assert_eq!(
            transport.requests(),
            [
                r#"POST storage/kv/namespaces {"title":"app-thing-dev"}"#,
                r#"PUT storage/kv/namespaces/n1/bulk [{"key":"a","value":"1"},{"expiration_ttl":60,"key":"b","value":"{\"x\":1}"}]"#,
            ]
        );
        assert_eq!(context.meter.total(), 2);
        assert_eq!(
            transport.header(0, "authorization").as_deref(),
            Some("Bearer token-1")
        );
    }

    #[tokio::test]
    async fn a_taken_title_is_a_conflict_and_is_found_on_a_later_page() {
        let page = |items: Json| {
            raw(
                200,
                &json!({ "success": true, "result": items, "result_info": { "page": 1 } })
                    .to_string(),
            )
        };
        let (transport, client) = Scripted::new(vec![
            no(400, 10014, "title exists"),
            page(json!([{ "id": "n1", "title": "cache-2" }])),
            page(json!([{ "id": "n2", "title": "cache" }])),
        ]);
        let kind = KvNamespace::new(client);
        let context = context("cache");
        let error = kind.create(&context, &Map::new()).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict);
        assert_eq!(error.code.as_deref(), Some("10014"));
        assert_eq!(
            error.call.as_deref(),
            Some("POST /accounts/../storage/kv/namespaces, answered with HTTP 400")
        );
        let found = kind.find(&context, &Map::new()).await.unwrap().unwrap();
        assert_eq!(found.outputs, outputs_of("n2", "cache"));
        assert_eq!(
            transport.requests()[1..],
            [
                "GET storage/kv/namespaces?page=1&per_page=100",
                "GET storage/kv/namespaces?page=2&per_page=100",
            ]
        );
    }

    #[tokio::test]
    async fn a_new_title_renames_in_place_and_a_missing_namespace_counts_as_deleted() {
        let (transport, client) = Scripted::new(vec![
            ok(json!({ "id": "n1", "title": "new" })),
            no(404, 10013, "namespace not found"),
            no(404, 10013, "namespace not found"),
            no(404, 10013, "namespace not found"),
        ]);
        let kind = KvNamespace::new(client);
        let checked = checked(&kind, json!({ "title": "new" }));
        assert!(checked.explicit_name);
        let existing = existing("old", json!({}), json!({ "id": "n1", "title": "old" }));
        let context = context("new");
        let outputs = kind
            .update(&context, &checked.props, &existing)
            .await
            .unwrap();
        assert_eq!(outputs, outputs_of("n1", "new"));
        assert_eq!(kind.read(&context, &existing).await.unwrap(), None);
        kind.delete(&context, &existing).await.unwrap();
        let values = map(json!({ "name": "old", "values": [{ "key": "a", "value": "b" }] }));
        let error = kind.update(&context, &values, &existing).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::NotFound);
        assert_eq!(
            transport.requests(),
            [
                r#"PUT storage/kv/namespaces/n1 {"title":"new"}"#,
                "GET storage/kv/namespaces/n1",
                "DELETE storage/kv/namespaces/n1",
                r#"PUT storage/kv/namespaces/n1/bulk [{"key":"a","value":"b"}]"#,
            ]
        );
    }
}
