//! `cloudflare::AiGateway`: what stands between Workers and the providers of models: a cache, logs, limits.

use async_trait::async_trait;
use serde_json::{Map as JsonMap, Value as Json, json};

use super::{
    client::{Call, Client},
    names::{NameRule, Naming, naming_prop},
    object::{Listing, Shape},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{CheckContext, Checked, Existing, OperationContext, PropError, ProviderError},
};

pub(super) const KIND: &str = "cloudflare::AiGateway";
const PATH: &str = "ai-gateway/gateways";
const PER_PAGE: usize = 50;

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 64,
    underscores: true,
    free: false,
    words: "have 1 to 64 characters of `a-z`, `0-9`, `-` and `_`, and begin and end with a letter or a digit",
};

/// Fields that every request has to have, and the props that give them.
const NEEDED: [(&str, &str); 5] = [
    ("cacheInvalidateOnUpdate", "cache_invalidate_on_update"),
    ("cacheTtl", "cache_ttl"),
    ("collectLogs", "collect_logs"),
    ("rateLimitingInterval", "rate_limiting_interval"),
    ("rateLimitingLimit", "rate_limiting_limit"),
];

/// Fields that are left out unless they are given.
const OTHERS: [(&str, &str); 6] = [
    ("authentication", "authentication"),
    ("logManagement", "log_management"),
    ("logManagementStrategy", "log_management_strategy"),
    ("logpush", "logpush"),
    ("logpushPublicKey", "logpush_public_key"),
    ("rateLimitingTechnique", "rate_limiting_technique"),
];

/// What is special about AI gateways.
#[derive(Debug)]
pub(super) struct AiGateway;

/// The settings that `props` ask for. `before` is what was asked for last time.
fn settings(props: &Map, before: Option<&Map>) -> Result<JsonMap<String, Json>, ProviderError> {
    let mut settings = JsonMap::new();
    for (prop, field) in NEEDED {
        let value = match props::json_prop(props, prop)? {
            Some(value) => value,
            None if matches!(
                prop,
                "cacheTtl" | "rateLimitingInterval" | "rateLimitingLimit"
            ) =>
            {
                json!(0)
            }
            None => json!(true),
        };
        settings.insert(field.to_owned(), value);
    }
    for (prop, field) in OTHERS {
        let given = props::json_prop(props, prop)?;
        let had = before.is_some_and(|before| before.contains_key(prop));
        let value = match (given, prop) {
            (Some(value), _) => value,
            (None, _) if !had => continue,
            (None, "authentication" | "logpush") => json!(false),
            (None, "rateLimitingTechnique") => json!("fixed"),
            (None, _) => Json::Null,
        };
        settings.insert(field.to_owned(), value);
    }
    Ok(settings)
}

/// The settings that an answer shows.
fn shown(item: &Json) -> Map {
    let mut shown = Map::new();
    for (prop, field) in NEEDED.into_iter().chain(OTHERS) {
        props::copy(&mut shown, item, &[(field, prop)]);
    }
    shown
}

#[async_trait]
impl Shape for AiGateway {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        let number = |name, min, max, doc| Prop::new(name, PropType::Integer { min, max }, doc);
        let switch = |name, doc| Prop::new(name, PropType::Bool, doc);
        KindSchema {
            kind: KIND.into(),
            doc: "An AI gateway.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written",
                )
                .replaces(),
                Prop::new("gatewayName", PropType::String, "another word for `name`").replaces(),
                number(
                    "cacheTtl",
                    0,
                    i64::MAX,
                    "how many seconds answers are kept; 0 for none",
                ),
                switch(
                    "cacheInvalidateOnUpdate",
                    "whether a change of the gateway empties the cache; yes when it is not given",
                ),
                switch(
                    "collectLogs",
                    "whether requests are logged; yes when it is not given",
                ),
                number(
                    "rateLimitingInterval",
                    0,
                    i64::MAX,
                    "the seconds that `rateLimitingLimit` is for; 0 for no limit",
                ),
                number(
                    "rateLimitingLimit",
                    0,
                    i64::MAX,
                    "most requests in `rateLimitingInterval`; 0 for no limit",
                ),
                Prop::new(
                    "rateLimitingTechnique",
                    PropType::OneOf(&["fixed", "sliding"]),
                    "how the interval goes; `fixed` when it is not given",
                ),
                switch(
                    "authentication",
                    "whether requests need a token of the account",
                ),
                number(
                    "logManagement",
                    10_000,
                    10_000_000,
                    "most log entries that are kept",
                ),
                Prop::new(
                    "logManagementStrategy",
                    PropType::OneOf(&["STOP_INSERTING", "DELETE_OLDEST"]),
                    "what happens when there are that many",
                ),
                switch("logpush", "whether logs are pushed to a Logpush job"),
                Prop::new(
                    "logpushPublicKey",
                    PropType::String,
                    "the public key that pushed logs are encrypted with",
                ),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the name, which is the id of a gateway"),
                Attribute::identity("name", "the name"),
                Attribute::new("type", "`ai_gateway`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        props::merge_alias(&mut props, "name", "gatewayName").map_err(|error| vec![error])?;
        let name = NAMES
            .resolve(context, &mut props, "name")
            .map_err(|error| vec![error])?;
        Ok(name.checked(KIND, "ai_gateway", &["id", "name"], props))
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        let mut body = settings(props, None)?;
        body.insert("id".to_owned(), json!(context.physical_name));
        Ok(Json::Object(body))
    }

    fn change(
        &self,
        _context: &OperationContext,
        item: String,
        props: &Map,
        existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        let body = settings(props, Some(&existing.props))?;
        Ok(Some(Call::put(item).json(&Json::Object(body))))
    }

    fn outputs(&self, result: &Json, _collection: &str, call: &str) -> Result<Map, ProviderError> {
        let id = props::needed_text(result, "id", call)?;
        let mut outputs = Map::from([
            ("id".to_owned(), Value::from(id.as_str())),
            ("name".to_owned(), Value::from(id)),
            ("type".to_owned(), Value::from("ai_gateway")),
        ]);
        props::copy(&mut outputs, result, &[("created_at", "createdAt")]);
        Ok(outputs)
    }

    async fn shown(
        &self,
        _client: &Client,
        _context: &OperationContext,
        item: &Json,
        _known: &Existing,
    ) -> Result<Map, ProviderError> {
        Ok(shown(item))
    }

    fn listed(&self, item: &Json, _outputs: &Map) -> Result<Map, ProviderError> {
        let mut props = shown(item);
        let own = shown(&Json::Object(settings(&Map::new(), None)?));
        props.retain(|prop, value| match prop.as_str() {
            "authentication" | "logpush" => *value == Value::Bool(true),
            "rateLimitingTechnique" => value.as_str() != Some("fixed"),
            _ => own.get(prop) != Some(value),
        });
        Ok(props)
    }

    fn listing(&self) -> Listing {
        Listing::Pages(PER_PAGE)
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "id") == Some(name)
    }

    fn created_field(&self) -> &'static str {
        "created_at"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cloudflare::testing::map;

    #[test]
    fn what_is_taken_out_goes_back_to_what_it_is_by_itself() {
        let plain = json!({
            "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
            "rate_limiting_interval": 0, "rate_limiting_limit": 0,
        });
        let of = |props: Json, before: Option<Json>| {
            let before = before.map(map);
            Json::Object(settings(&map(props), before.as_ref()).unwrap())
        };
        assert_eq!(of(json!({}), None), plain);
        let full = json!({
            "cacheTtl": 60, "collectLogs": false, "authentication": true, "logManagement": 10000,
            "rateLimitingTechnique": "sliding",
        });
        assert_eq!(
            of(full.clone(), None),
            json!({
                "cache_invalidate_on_update": true, "cache_ttl": 60, "collect_logs": false,
                "rate_limiting_interval": 0, "rate_limiting_limit": 0, "authentication": true,
                "log_management": 10000, "rate_limiting_technique": "sliding",
            })
        );
        let mut reset = plain;
        reset["authentication"] = json!(false);
        reset["log_management"] = Json::Null;
        reset["rate_limiting_technique"] = json!("fixed");
        assert_eq!(of(json!({}), Some(full)), reset);
    }
}
