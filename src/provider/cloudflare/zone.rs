//! `cloudflare::Zone`: a domain and its settings.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    object::{Listing, Shape},
    props,
    zones::in_account,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, OperationContext, PropError, ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::Zone";
const PATH: &str = "zones";
const PER_PAGE: usize = 50;

const SWITCH: PropType = PropType::OneOf(&["on", "off"]);

/// The settings: prop, name in the API, values, the value of a new zone, what it is.
type Setting = (
    &'static str,
    &'static str,
    PropType,
    &'static str,
    &'static str,
);
const SETTINGS: [Setting; 21] = [
    (
        "ssl",
        "ssl",
        PropType::OneOf(&["off", "flexible", "full", "strict"]),
        "full",
        "how Cloudflare speaks to the origin",
    ),
    (
        "alwaysUseHttps",
        "always_use_https",
        SWITCH,
        "off",
        "whether http is redirected to https",
    ),
    (
        "automaticHttpsRewrites",
        "automatic_https_rewrites",
        SWITCH,
        "on",
        "whether links in pages are made https",
    ),
    (
        "minTlsVersion",
        "min_tls_version",
        PropType::OneOf(&["1.0", "1.1", "1.2", "1.3"]),
        "1.0",
        "the oldest TLS that is answered",
    ),
    (
        "tls13",
        "tls_1_3",
        PropType::OneOf(&["on", "off", "zrt"]),
        "on",
        "TLS 1.3",
    ),
    ("http2", "http2", SWITCH, "on", "HTTP/2"),
    ("http3", "http3", SWITCH, "on", "HTTP/3"),
    (
        "zeroRtt",
        "0rtt",
        SWITCH,
        "off",
        "answers in the first round trip",
    ),
    ("ipv6", "ipv6", SWITCH, "on", "IPv6"),
    ("websockets", "websockets", SWITCH, "on", "WebSockets"),
    ("brotli", "brotli", SWITCH, "on", "Brotli compression"),
    (
        "earlyHints",
        "early_hints",
        SWITCH,
        "off",
        "103 answers before the page",
    ),
    (
        "developmentMode",
        "development_mode",
        SWITCH,
        "off",
        "whether the cache is passed by for three hours",
    ),
    (
        "cacheLevel",
        "cache_level",
        PropType::OneOf(&["aggressive", "basic", "simplified"]),
        "aggressive",
        "how much is cached",
    ),
    (
        "securityLevel",
        "security_level",
        PropType::OneOf(&[
            "off",
            "essentially_off",
            "low",
            "medium",
            "high",
            "under_attack",
        ]),
        "medium",
        "how suspicious visitors are challenged",
    ),
    (
        "browserCheck",
        "browser_check",
        SWITCH,
        "on",
        "whether odd browsers are challenged",
    ),
    (
        "emailObfuscation",
        "email_obfuscation",
        SWITCH,
        "on",
        "whether e-mail addresses are hidden from robots",
    ),
    (
        "hotlinkProtection",
        "hotlink_protection",
        SWITCH,
        "off",
        "whether other sites may not embed images",
    ),
    (
        "opportunisticEncryption",
        "opportunistic_encryption",
        SWITCH,
        "on",
        "encryption of http addresses",
    ),
    (
        "alwaysOnline",
        "always_online",
        SWITCH,
        "off",
        "whether archived pages stand in for an origin that is down",
    ),
    (
        "rocketLoader",
        "rocket_loader",
        SWITCH,
        "off",
        "whether scripts of pages are loaded late",
    ),
];
/// The one setting that is a number: seconds, and those of a new zone.
const BROWSER_CACHE: (&str, &str, i64) = ("browserCacheTtl", "browser_cache_ttl", 14_400);

/// What is special about zones.
#[derive(Debug)]
pub(super) struct Zone;

fn settings_schema() -> Vec<Prop> {
    let mut settings: Vec<Prop> = SETTINGS
        .into_iter()
        .map(|(prop, _, ty, _, doc)| Prop::new(prop, ty, doc))
        .collect();
    let year = PropType::Integer {
        min: 0,
        max: 31_536_000,
    };
    settings.push(Prop::new(
        BROWSER_CACHE.0,
        year,
        "seconds that browsers keep files; 0 leaves it to the origin",
    ));
    settings
}

/// Whether `name` is a domain of at least two labels.
pub(super) fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

/// The prop of a setting of the API.
fn prop_of(name: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|(prop, field, ..)| (*prop, *field))
        .chain([(BROWSER_CACHE.0, BROWSER_CACHE.1)])
        .find_map(|(prop, field)| (field == name).then_some(prop))
}

/// The settings to send: those that are given, and those that were and go back to what a new zone has.
fn wanted(props: &Map, before: Option<&Map>) -> Result<Vec<(&'static str, Json)>, ProviderError> {
    let now = props::map_prop(props, "settings");
    let old = before.and_then(|before| props::map_prop(before, "settings"));
    let texts = SETTINGS.map(|(prop, name, _, default, _)| (prop, name, json!(default)));
    let all = texts
        .into_iter()
        .chain([(BROWSER_CACHE.0, BROWSER_CACHE.1, json!(BROWSER_CACHE.2))]);
    let mut wanted = Vec::new();
    for (prop, name, default) in all {
        let given = now
            .map(|now| props::json_prop(now, prop))
            .transpose()?
            .flatten();
        match given {
            Some(value) => wanted.push((name, value)),
            None if old.is_some_and(|old| old.contains_key(prop)) => wanted.push((name, default)),
            None => {}
        }
    }
    Ok(wanted)
}

#[async_trait]
impl Shape for Zone {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        KindSchema {
            kind: KIND.into(),
            doc: "A domain whose DNS is at Cloudflare.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the domain; the id of the resource when it is not given",
                )
                .replaces(),
                Prop::new(
                    "type",
                    PropType::OneOf(&["full", "partial", "secondary", "internal"]),
                    "`full` when Cloudflare answers for the whole domain, which is the default",
                ),
                Prop::new(
                    "paused",
                    PropType::Bool,
                    "whether Cloudflare answers DNS only and lets traffic pass",
                ),
                Prop::new("settings", PropType::Object(settings_schema()), "settings"),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the zone"),
                Attribute::identity("name", "the domain"),
                Attribute::new("type", "`full`, `partial`, `secondary` or `internal`"),
                Attribute::new(
                    "status",
                    "`pending` until the name servers are set, then `active`",
                ),
                Attribute::new("nameServers", "the name servers to set at the registrar"),
                Attribute::new("paused", "whether traffic passes by"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::HoldsData,
            name_limit: 253,
        }
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let given = props::known_text(&props, "name").map_err(|error| vec![error])?;
        let name = given.unwrap_or(&context.id).to_ascii_lowercase();
        if !is_domain(&name) {
            let message = format!("`{name}` is no domain");
            let help = "give `name` or the id as `example.com`".to_owned();
            return Err(vec![props::mistake(&["name"], message, help)]);
        }
        Ok(Checked {
            known: Map::from([("name".to_owned(), Value::from(name.as_str()))]),
            identity: Some(format!("{KIND}:{name}")),
            props,
            physical_name: name,
            explicit_name: true,
        })
    }

    fn body(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        Ok(json!({
            "name": context.physical_name,
            "account": { "id": client.account() },
            "type": text_prop(props, "type").unwrap_or("full"),
        }))
    }

    fn change(
        &self,
        _context: &OperationContext,
        item: String,
        props: &Map,
        existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        // The API takes one property at a time; `paused` comes with the settings.
        let kind = text_prop(props, "type").unwrap_or("full");
        if text_prop(&existing.outputs, "type") == Some(kind) {
            return Ok(None);
        }
        Ok(Some(Call::patch(item).json(&json!({ "type": kind }))))
    }

    fn outputs(&self, result: &Json, _collection: &str, call: &str) -> Result<Map, ProviderError> {
        let mut outputs = Map::from([
            (
                "id".to_owned(),
                Value::from(props::needed_text(result, "id", call)?),
            ),
            (
                "name".to_owned(),
                Value::from(props::needed_text(result, "name", call)?),
            ),
        ]);
        props::copy(
            &mut outputs,
            result,
            &[
                ("type", "type"),
                ("status", "status"),
                ("name_servers", "nameServers"),
                ("paused", "paused"),
                ("created_on", "createdAt"),
            ],
        );
        Ok(outputs)
    }

    async fn finish(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
        before: Option<&Existing>,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let id = props::known_output(outputs, "id", context.fqn.as_str())?.to_owned();
        let path = format!("{PATH}/{}", encode(&id));
        let new = before.is_none();
        let paused = props.get("paused").and_then(Value::as_bool) == Some(true);
        let unsure = before.is_some_and(|before| before.attempted.contains_key("paused"));
        if unsure || paused != (outputs.get("paused").and_then(Value::as_bool) == Some(true)) {
            let call = Call::patch(path.as_str())
                .json(&json!({ "paused": paused }))
                .visible_late(new);
            client.call(context, &call).await?;
            outputs.insert("paused".to_owned(), Value::Bool(paused));
        }
        for (name, value) in wanted(props, before.map(|before| &before.props))? {
            let call = Call::patch(format!("{path}/settings/{name}"))
                .json(&json!({ "value": value }))
                .visible_late(new);
            client.call(context, &call).await?;
        }
        Ok(())
    }

    async fn shown(
        &self,
        client: &Client,
        context: &OperationContext,
        item: &Json,
        known: &Existing,
    ) -> Result<Map, ProviderError> {
        let mut shown = Map::new();
        props::copy(&mut shown, item, &[("paused", "paused"), ("type", "type")]);
        let declared = props::map_prop(&known.props, "settings");
        if declared.is_none_or(Map::is_empty) {
            return Ok(shown);
        }
        let id = props::known_output(&known.outputs, "id", context.fqn.as_str())?;
        let call = Call::get(format!("{PATH}/{}/settings", encode(id)));
        let answer = client.look(context, &call).await?;
        let list = answer.as_ref().and_then(|answer| answer.result.as_array());
        let mut settings = Map::new();
        for setting in list.into_iter().flatten() {
            let (Some(name), Some(value)) = (props::text(setting, "id"), setting.get("value"))
            else {
                continue;
            };
            if let Some(prop) = prop_of(name) {
                settings.insert(prop.to_owned(), Value::from_plain_json(value.clone()));
            }
        }
        shown.insert("settings".to_owned(), Value::Map(settings));
        Ok(shown)
    }

    fn is_here(&self, client: &Client, item: &Json) -> bool {
        in_account(client, item)
    }

    fn listed(&self, item: &Json, _outputs: &Map) -> Result<Map, ProviderError> {
        let mut props = Map::new();
        props::copy(&mut props, item, &[("paused", "paused"), ("type", "type")]);
        props.retain(|prop, value| match prop.as_str() {
            "paused" => *value == Value::Bool(true),
            _ => value.as_str() != Some("full"),
        });
        Ok(props)
    }

    async fn declared(
        &self,
        client: &Client,
        context: &OperationContext,
        item: &Json,
        outputs: &Map,
    ) -> Result<Map, ProviderError> {
        let own: Map = SETTINGS
            .map(|(prop, _, _, default, _)| (prop.to_owned(), Value::from(default)))
            .into_iter()
            .chain([(
                BROWSER_CACHE.0.to_owned(),
                Value::from_plain_json(json!(BROWSER_CACHE.2)),
            )])
            .collect();
        let asking = Existing {
            props: Map::from([("settings".to_owned(), Value::Map(own.clone()))]),
            outputs: outputs.clone(),
            physical_name: context.physical_name.clone(),
            settled: false,
            attempted: Map::new(),
        };
        let mut props = self.shown(client, context, item, &asking).await?;
        if let Some(Value::Map(settings)) = props.get_mut("settings") {
            settings.retain(|prop, value| own.get(prop) != Some(value));
        }
        let settings = props.remove("settings");
        let settings = settings.filter(|settings| *settings != Value::Map(Map::new()));
        let mut props = self.listed(item, outputs)?;
        props.extend(settings.map(|settings| ("settings".to_owned(), settings)));
        Ok(props)
    }

    fn listing(&self) -> Listing {
        Listing::Pages(PER_PAGE)
    }

    fn name_filter(&self) -> Option<&'static str> {
        Some("name")
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "name") == Some(name)
    }
}
