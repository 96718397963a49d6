//! `cloudflare::SecretsStore` and `cloudflare::Secret`: secrets of the account that several Workers share.

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
        CheckContext, Checked, Existing, FailureKind, Observation, OperationContext, PropError,
        ProviderError, text_prop,
    },
};

pub(super) const STORE: &str = "cloudflare::SecretsStore";
pub(super) const SECRET: &str = "cloudflare::Secret";
const PATH: &str = "secrets_store/stores";
const PER_PAGE: usize = 50;

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 255,
    underscores: true,
    free: true,
    words: "have 1 to 255 characters and no control characters",
};

/// What is special about stores.
#[derive(Debug)]
pub(super) struct SecretsStore;

/// What is special about the secrets in them.
#[derive(Debug)]
pub(super) struct Secret;

fn named(
    kind: &str,
    word: &str,
    context: &CheckContext,
    mut props: Map,
) -> Result<Checked, Vec<PropError>> {
    let name = NAMES
        .resolve(context, &mut props, "name")
        .map_err(|error| vec![error])?;
    Ok(Checked {
        props,
        known: Map::from([
            ("name".to_owned(), Value::from(name.physical.as_str())),
            ("type".to_owned(), Value::from(word)),
        ]),
        identity: Some(format!("{kind}:{}", name.physical)),
        physical_name: name.physical,
        explicit_name: name.explicit,
    })
}

fn outputs(result: &Json, word: &str, call: &str) -> Result<Map, ProviderError> {
    let mut outputs = Map::from([
        (
            "id".to_owned(),
            Value::from(props::needed_text(result, "id", call)?),
        ),
        (
            "name".to_owned(),
            Value::from(props::needed_text(result, "name", call)?),
        ),
        ("type".to_owned(), Value::from(word)),
    ]);
    props::copy(&mut outputs, result, &[("created", "createdAt")]);
    Ok(outputs)
}

#[async_trait]
impl Shape for SecretsStore {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        KindSchema {
            kind: STORE.into(),
            doc: "The store of the account's secrets.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written",
                )
                .replaces(),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the store"),
                Attribute::identity("name", "the name"),
                Attribute::new("type", "`secrets_store`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            // An account has one store.
            replace: ReplaceOrder::DeleteFirst,
            delete: DeletePolicy::HoldsData,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        named(STORE, "secrets_store", context, props)
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Json, ProviderError> {
        Ok(json!({ "name": context.physical_name }))
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
        outputs(result, "secrets_store", call)
    }

    fn listing(&self) -> Listing {
        Listing::Pages(PER_PAGE)
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "name") == Some(name)
    }

    fn created_field(&self) -> &'static str {
        "created"
    }
}

fn store(props: &Map) -> Result<&str, ProviderError> {
    match props.get("store") {
        Some(Value::Resource(view)) => props::known_output(&view.outputs, "id", view.fqn.as_str()),
        other => other
            .and_then(Value::as_str)
            .ok_or_else(|| ProviderError::new(FailureKind::Refused, "prop `store` names no store")),
    }
}

/// What may be said of a secret again and again.
fn fields(props: &Map) -> Result<Json, ProviderError> {
    let value = props::json_prop(props, "value")?.unwrap_or_default();
    let scopes = props::json_prop(props, "scopes")?.unwrap_or_else(|| json!(["workers"]));
    let comment = text_prop(props, "comment").unwrap_or_default();
    Ok(json!({ "value": value, "scopes": scopes, "comment": comment }))
}

#[async_trait]
impl Shape for Secret {
    fn schema() -> KindSchema {
        let store = PropType::Resource(&[STORE]);
        KindSchema {
            kind: SECRET.into(),
            doc: "A secret of a store.".to_owned(),
            props: vec![
                Prop::new(
                    "store",
                    PropType::Either(vec![store, PropType::String]),
                    "the store, or its id",
                )
                .required()
                .replaces(),
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written",
                )
                .replaces(),
                Prop::new("value", PropType::String, "the secret")
                    .required()
                    .secret(),
                Prop::new(
                    "scopes",
                    PropType::List(Box::new(PropType::String)),
                    "the products that may read it; `workers` when none are given",
                ),
                Prop::new("comment", PropType::String, "a remark"),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the secret"),
                Attribute::identity("name", "the name"),
                Attribute::identity("storeId", "the id of the store"),
                Attribute::new("type", "`secrets_store_secret`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        named(SECRET, "secrets_store_secret", context, props)
    }

    async fn collection(
        &self,
        _client: &Client,
        _context: &OperationContext,
        props: &Map,
    ) -> Result<String, ProviderError> {
        Ok(format!("{PATH}/{}/secrets", encode(store(props)?)))
    }

    fn item(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<String, ProviderError> {
        let output = |key| props::known_output(&existing.outputs, key, context.fqn.as_str());
        let (store, id) = (encode(output("storeId")?), encode(output("id")?));
        Ok(format!("{PATH}/{store}/secrets/{id}"))
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        let mut secret = fields(props)?;
        secret["name"] = json!(context.physical_name);
        Ok(json!([secret]))
    }

    fn created(&self, result: Json) -> Json {
        match result {
            Json::Array(items) => items.into_iter().next().unwrap_or_default(),
            other => other,
        }
    }

    fn change(
        &self,
        _context: &OperationContext,
        item: String,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        Ok(Some(Call::patch(item).json(&fields(props)?)))
    }

    fn outputs(&self, result: &Json, collection: &str, call: &str) -> Result<Map, ProviderError> {
        let mut outputs = outputs(result, "secrets_store_secret", call)?;
        let store = props::text(result, "store_id").or_else(|| collection.split('/').nth(2));
        if let Some(store) = store {
            outputs.insert("storeId".to_owned(), Value::from(store));
        }
        Ok(outputs)
    }

    async fn collections(
        &self,
        client: &Client,
        context: &OperationContext,
    ) -> Result<Vec<String>, ProviderError> {
        let call = Call::get(PATH);
        let stores = client.all_in_pages(context, &call, PER_PAGE).await?;
        let ids = stores.iter().filter_map(|store| props::text(store, "id"));
        Ok(ids
            .map(|id| format!("{PATH}/{}/secrets", encode(id)))
            .collect())
    }

    /// A secret as `STORE/NAME`, its store by name or by id.
    async fn id_of(
        &self,
        client: &Client,
        context: &OperationContext,
        wanted: &str,
    ) -> Result<Option<String>, ProviderError> {
        let Some((place, name)) = wanted.split_once('/') else {
            return Ok(None);
        };
        let called = |item: &Json, word: &str| {
            let by = |key: &str| props::text(item, key) == Some(word);
            by("id") || by("name")
        };
        let pages = Call::get(PATH);
        let stores = client.all_in_pages(context, &pages, PER_PAGE).await?;
        let store = stores.iter().find(|store| called(store, place));
        let Some(store) = store.and_then(|store| props::text(store, "id")) else {
            return Ok(None);
        };
        let pages = Call::get(format!("{PATH}/{}/secrets", encode(store)));
        let secrets = client.all_in_pages(context, &pages, PER_PAGE).await?;
        let secret = secrets.iter().find(|secret| called(secret, name));
        Ok(secret
            .and_then(|secret| props::text(secret, "id"))
            .map(str::to_owned))
    }

    fn listed(&self, item: &Json, outputs: &Map) -> Result<Map, ProviderError> {
        let mut props = Map::new();
        props::copy(
            &mut props,
            item,
            &[("comment", "comment"), ("scopes", "scopes")],
        );
        let own = Value::from_plain_json(json!(["workers"]));
        props.retain(|_, value| value.as_str() != Some("") && *value != own);
        let store = outputs.get("storeId").cloned();
        props.extend(store.map(|store| ("store".to_owned(), store)));
        Ok(props)
    }

    fn hidden(&self, _seen: &Observation) -> Vec<&'static [&'static str]> {
        vec![&["value"]]
    }

    fn listing(&self) -> Listing {
        Listing::Pages(PER_PAGE)
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "name") == Some(name)
    }

    fn created_field(&self) -> &'static str {
        "created"
    }
}
