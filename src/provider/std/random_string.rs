//! `std::RandomString`: a secret that is made once and stays.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;

use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, Found, OperationContext, PropError, Provider,
        ProviderError, text_prop,
    },
    util::ids::Ids,
};

const LENGTH: i64 = 32;
const ENCODING: &str = "hex";

/// The kind.
pub struct RandomString {
    ids: Arc<dyn Ids>,
    schema: KindSchema,
}

impl RandomString {
    /// The kind with this source of randomness.
    #[must_use]
    pub fn new(ids: Arc<dyn Ids>) -> Self {
        Self {
            ids,
            schema: schema(),
        }
    }
}

fn schema() -> KindSchema {
    KindSchema {
        kind: "std::RandomString".into(),
        doc: "A random secret that is made once and stays.".to_owned(),
        props: vec![
            Prop {
                default: Some(Value::Int(LENGTH)),
                ..Prop::new(
                    "length",
                    PropType::Integer { min: 1, max: 4096 },
                    "how many random bytes there are, before they are encoded",
                )
                .replaces()
            },
            Prop {
                default: Some(Value::from(ENCODING)),
                ..Prop::new(
                    "encoding",
                    PropType::OneOf(&["hex", "base64", "base64url"]),
                    "how the bytes are written",
                )
                .replaces()
            },
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("value", "the text, a secret"),
            Attribute::new("length", "how many random bytes there are"),
            Attribute::new("encoding", "how the bytes are written"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 255,
    }
}

#[async_trait]
impl Provider for RandomString {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, _context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        props
            .entry("length".to_owned())
            .or_insert(Value::Int(LENGTH));
        props
            .entry("encoding".to_owned())
            .or_insert_with(|| Value::from(ENCODING));
        Ok(Checked {
            known: props.clone(),
            props,
            // Not made from the id, so that a renamed resource keeps its value.
            physical_name: "random-string".to_owned(),
            explicit_name: false,
            identity: None,
        })
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, _context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let length = props.get("length").and_then(Value::as_int);
        let length = usize::try_from(length.unwrap_or(LENGTH)).unwrap_or(LENGTH as usize);
        let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
        self.ids.fill(&mut bytes);
        let text = match text_prop(props, "encoding").unwrap_or(ENCODING) {
            "base64" => base64::engine::general_purpose::STANDARD.encode(&*bytes),
            "base64url" => base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&*bytes),
            _ => hex::encode(&*bytes),
        };
        let mut outputs = props.clone();
        outputs.insert("value".to_owned(), Value::Secret(Secret::plain(text)));
        Ok(outputs)
    }

    async fn update(
        &self,
        _context: &OperationContext,
        _props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        Ok(existing.outputs.clone())
    }

    async fn delete(
        &self,
        _context: &OperationContext,
        _existing: &Existing,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "its value stands in state alone",
            "take a value that is there from the environment, as `secret(env(\"NAME\"))`, or declare a new one",
        ])
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        provider::{
            Change,
            cloudflare::testing::{checked, context, existing},
        },
        util::ids::SystemIds,
    };

    fn plain(outputs: &Map) -> String {
        match &outputs["value"] {
            Value::Secret(Secret::Plain(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_value_is_random_secret_and_of_the_length_asked_for() {
        let kind = RandomString::new(Arc::new(SystemIds));
        let make = async |props| {
            let checked = checked(&kind, props);
            plain(&kind.create(&context("x"), &checked.props).await.unwrap())
        };
        assert_eq!(make(json!({})).await.len(), 64);
        assert_ne!(make(json!({})).await, make(json!({})).await);
        assert_eq!(
            make(json!({ "length": 3, "encoding": "base64" }))
                .await
                .len(),
            4
        );
        let url = make(json!({ "length": 512, "encoding": "base64url" })).await;
        assert!(!url.contains(['+', '/', '=']));
    }

    #[tokio::test]
    async fn it_stays_until_its_shape_changes() {
        let kind = RandomString::new(Arc::new(SystemIds));
        let before = checked(&kind, json!({})).props;
        assert_eq!(kind.diff(&before, &before), Change::None);
        assert_eq!(
            kind.diff(&before, &checked(&kind, json!({ "length": 8 })).props),
            Change::Replace(vec!["length".to_owned()])
        );
        let existing = existing("x", json!({}), json!({ "value": "kept" }));
        let outputs = kind.update(&context("x"), &before, &existing).await;
        assert_eq!(outputs.unwrap()["value"], Value::from("kept"));
    }
}
