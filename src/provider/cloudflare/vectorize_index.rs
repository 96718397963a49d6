//! `cloudflare::VectorizeIndex`: an index of vectors and the metadata that it can be filtered by.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    names::{NameRule, Naming, naming_prop},
    object::{Listing, Shape},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, OperationContext, PropError, ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::VectorizeIndex";
const PATH: &str = "vectorize/v2/indexes";

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 2,
    limit: 64,
    underscores: true,
    free: false,
    words: "have 2 to 64 characters of `a-z`, `0-9`, `-` and `_`, begin with a letter and end with a letter or digit",
};

/// What is special about indexes.
#[derive(Debug)]
pub(super) struct VectorizeIndex;

/// The metadata indexes that props want: property and type.
fn metadata(props: &Map) -> Vec<(&str, &str)> {
    let list = props.get("metadataIndexes").and_then(Value::as_array);
    list.unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|item| {
            Some((
                text_prop(item, "propertyName")?,
                text_prop(item, "indexType")?,
            ))
        })
        .collect()
}

#[async_trait]
impl Shape for VectorizeIndex {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        let metadata = vec![
            Prop::new(
                "propertyName",
                PropType::String,
                "the name of the property, with dots for nested ones",
            )
            .required(),
            Prop::new(
                "indexType",
                PropType::OneOf(&["string", "number", "boolean"]),
                "the type of its values",
            )
            .required(),
        ];
        KindSchema {
            kind: KIND.into(),
            doc: "A Vectorize index.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written",
                )
                .replaces(),
                Prop::new(
                    "dimensions",
                    PropType::Integer { min: 1, max: 1536 },
                    "numbers in a vector",
                )
                .replaces(),
                Prop::new(
                    "metric",
                    PropType::OneOf(&["cosine", "euclidean", "dot-product"]),
                    "how near vectors are measured; `cosine` when it is not given",
                )
                .replaces(),
                Prop::new(
                    "preset",
                    PropType::OneOf(&[
                        "@cf/baai/bge-small-en-v1.5",
                        "@cf/baai/bge-base-en-v1.5",
                        "@cf/baai/bge-large-en-v1.5",
                        "openai/text-embedding-ada-002",
                        "cohere/embed-multilingual-v2.0",
                    ]),
                    "the model whose vectors it takes, instead of `dimensions` and `metric`",
                )
                .replaces(),
                Prop::new("description", PropType::String, "a remark").replaces(),
                Prop::new(
                    "metadataIndexes",
                    PropType::List(Box::new(PropType::Object(metadata))),
                    "properties that queries can filter by",
                ),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the name"),
                Attribute::identity("name", "the name"),
                Attribute::new("dimensions", "numbers in a vector"),
                Attribute::new("metric", "how near vectors are measured"),
                Attribute::new("type", "`vectorize`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::HoldsData,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        let given = |key: &str| props.contains_key(key);
        if given("preset") && (given("dimensions") || given("metric")) {
            let message = "a preset says dimensions and metric already";
            errors.push(props::mistake(&["preset"], message, None));
        } else if !given("preset") && !given("dimensions") {
            let message = "`dimensions` is missing";
            let help = "add `dimensions: 768`, or name the model with `preset`".to_owned();
            errors.push(props::mistake(&[], message, help));
        }
        match NAMES.resolve(context, &mut props, "name") {
            Ok(name) if !name.physical.starts_with(|c: char| c.is_ascii_lowercase()) => {
                let message = format!(
                    "`{}` is no valid name: it must begin with a letter",
                    name.physical
                );
                let help = "give another `name`, or another id".to_owned();
                errors.push(props::mistake(&["name"], message, help));
            }
            Ok(name) if errors.is_empty() => {
                return Ok(name.checked(KIND, "vectorize", &["id", "name"], props));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        Err(errors)
    }

    fn item(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<String, ProviderError> {
        Ok(format!("{PATH}/{}", encode(&existing.physical_name)))
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        let config = match text_prop(props, "preset") {
            Some(preset) => json!({ "preset": preset }),
            None => json!({
                "dimensions": props::json_prop(props, "dimensions")?,
                "metric": text_prop(props, "metric").unwrap_or("cosine"),
            }),
        };
        let mut body = json!({ "name": context.physical_name, "config": config });
        if let Some(description) = text_prop(props, "description") {
            body["description"] = json!(description);
        }
        Ok(body)
    }

    fn change(
        &self,
        _context: &OperationContext,
        _item: String,
        _props: &Map,
        _existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        Ok(None)
    }

    fn outputs(&self, result: &Json, _collection: &str, call: &str) -> Result<Map, ProviderError> {
        let name = props::needed_text(result, "name", call)?;
        let mut outputs = Map::from([
            ("id".to_owned(), Value::from(name.as_str())),
            ("name".to_owned(), Value::from(name)),
            ("type".to_owned(), Value::from("vectorize")),
        ]);
        props::copy(&mut outputs, result, &[("created_on", "createdAt")]);
        props::copy(
            &mut outputs,
            &result["config"],
            &[("dimensions", "dimensions"), ("metric", "metric")],
        );
        Ok(outputs)
    }

    async fn finish(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
        before: Option<&Existing>,
        _outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let wanted = metadata(props);
        let old = before.map_or_else(Vec::new, |before| metadata(&before.props));
        if wanted.is_empty() && old.is_empty() {
            return Ok(());
        }
        let name = before.map_or(&context.physical_name, |before| &before.physical_name);
        let path = format!("{PATH}/{}/metadata_index", encode(name));
        let mut there = Vec::new();
        if before.is_some() {
            let answer = client
                .call(context, &Call::get(format!("{path}/list")))
                .await?;
            let list = answer.result["metadataIndexes"].as_array().cloned();
            there = list.unwrap_or_default();
        }
        let find = |property: &str| {
            there
                .iter()
                .find(|item| props::text(item, "propertyName") == Some(property))
        };
        let drop = async |property: &str| {
            let call = Call::post(format!("{path}/delete"))
                .json(&json!({ "propertyName": property }))
                .idempotent();
            client.look(context, &call).await
        };
        for (property, _) in &old {
            if !wanted.iter().any(|(wanted, _)| wanted == property) && find(property).is_some() {
                drop(property).await?;
            }
        }
        for (property, kind) in wanted {
            if let Some(item) = find(property) {
                // Types come back in another case now and then.
                let same =
                    props::text(item, "indexType").is_some_and(|is| is.eq_ignore_ascii_case(kind));
                if same {
                    continue;
                }
                drop(property).await?;
            }
            let call = Call::post(format!("{path}/create"))
                .json(&json!({ "propertyName": property, "indexType": kind }))
                .visible_late(before.is_none());
            client.call(context, &call).await?;
        }
        Ok(())
    }

    fn listed(&self, item: &Json, outputs: &Map) -> Result<Map, ProviderError> {
        let mut props = Map::new();
        props::copy(&mut props, item, &[("description", "description")]);
        props.retain(|_, value| value.as_str() != Some(""));
        for prop in ["dimensions", "metric"] {
            let value = outputs.get(prop).cloned();
            props.extend(value.map(|value| (prop.to_owned(), value)));
        }
        Ok(props)
    }

    async fn declared(
        &self,
        client: &Client,
        context: &OperationContext,
        item: &Json,
        outputs: &Map,
    ) -> Result<Map, ProviderError> {
        let mut props = self.listed(item, outputs)?;
        let name = props::known_output(outputs, "name", context.fqn.as_str())?;
        let call = Call::get(format!("{PATH}/{}/metadata_index/list", encode(name)));
        let answer = client.look(context, &call).await?;
        let list = answer
            .as_ref()
            .map(|answer| &answer.result["metadataIndexes"]);
        let items = list.and_then(Json::as_array).into_iter().flatten();
        let indexes: Vec<Value> = items
            .filter_map(|item| {
                // Types come back in another case now and then.
                let kind = props::text(item, "indexType")?.to_ascii_lowercase();
                let property = props::text(item, "propertyName")?;
                let index = Map::from([
                    ("indexType".to_owned(), Value::from(kind)),
                    ("propertyName".to_owned(), Value::from(property)),
                ]);
                Some(Value::Map(index))
            })
            .collect();
        if !indexes.is_empty() {
            props.insert("metadataIndexes".to_owned(), Value::Array(indexes));
        }
        Ok(props)
    }

    fn listing(&self) -> Listing {
        Listing::Whole
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "name") == Some(name)
    }
}
