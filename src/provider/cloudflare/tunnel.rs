//! `cloudflare::Tunnel`: a way from Cloudflare into a network that `cloudflared` opens from the inside.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    names::{NameRule, Naming, naming_prop},
    object::{Listing, Shape},
    props::{self, mistake},
};
use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, OperationContext, PropError, ProviderError,
        text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::Tunnel";
const PATH: &str = "cfd_tunnel";
const PER_PAGE: usize = 100;
/// The domain below which DNS records point at a tunnel by its id.
const DOMAIN: &str = "cfargotunnel.com";
/// What answers where no rule is given.
const NOTHING: &str = "http_status:404";

/// Props that make up the configuration, and their fields in it.
const CONFIGURATION: [(&str, &str); 3] = [
    ("ingress", "ingress"),
    ("originRequest", "originRequest"),
    ("warpRouting", "warp-routing"),
];

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 100,
    underscores: true,
    free: true,
    words: "have 1 to 100 characters and no control characters",
};

/// What is special about tunnels.
#[derive(Debug)]
pub(super) struct Tunnel;

fn is_local(props: &Map) -> bool {
    text_prop(props, "configSrc") == Some("local")
}

/// The configuration that `props` ask for; none when they ask for nothing and `before` did not either.
fn configuration(props: &Map, before: Option<&Map>) -> Result<Option<Json>, ProviderError> {
    let mut config = json!({});
    let mut any = false;
    for (prop, field) in CONFIGURATION {
        any |= before.is_some_and(|before| before.contains_key(prop));
        if let Some(value) = props::json_prop(props, prop)? {
            config[field] = value;
            any = true;
        }
    }
    if config.get("ingress").is_none() {
        config["ingress"] = json!([{ "service": NOTHING }]);
    }
    Ok(any.then(|| json!({ "config": config })))
}

/// The configuration that a tunnel has, as props.
async fn configured(
    client: &Client,
    context: &OperationContext,
    outputs: &Map,
) -> Result<Map, ProviderError> {
    let id = encode(props::known_output(outputs, "id", context.fqn.as_str())?);
    let call = Call::get(format!("{PATH}/{id}/configurations"));
    let answer = client.look(context, &call).await?;
    let mut shown = Map::new();
    if let Some(config) = answer
        .as_ref()
        .and_then(|answer| answer.result.get("config"))
    {
        for (prop, field) in CONFIGURATION {
            props::copy(&mut shown, config, &[(field, prop)]);
        }
    }
    Ok(shown)
}

/// What is wrong with the rules, whose last one has to fit every request.
fn problem(props: &Map) -> Option<PropError> {
    let rules = props.get("ingress")?.as_array()?;
    let everything = |rule: &Value| {
        rule.as_map()
            .is_none_or(|rule| !rule.contains_key("hostname") && !rule.contains_key("path"))
    };
    if rules.last().is_some_and(everything) {
        return None;
    }
    let message = "the last rule must fit every request: it has neither `hostname` nor `path`";
    let help = format!("add `#{{ service: \"{NOTHING}\" }}` at the end");
    Some(mistake(&["ingress"], message, help))
}

/// The part of a request that the secret is.
fn put_secret(body: &mut Json, props: &Map) -> Result<(), ProviderError> {
    if let Some(secret) = props::json_prop(props, "tunnelSecret")? {
        body["tunnel_secret"] = secret;
    }
    Ok(())
}

#[async_trait]
impl Shape for Tunnel {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        let rule = vec![
            Prop::new(
                "hostname",
                PropType::String,
                "the host of requests that it fits",
            ),
            Prop::new("path", PropType::String, "a regular expression for paths"),
            Prop::new(
                "service",
                PropType::String,
                "where they go, as in `http://localhost:8080` or `http_status:404`",
            )
            .required(),
            Prop::new(
                "originRequest",
                PropType::Any,
                "how they are sent on, as Cloudflare's API takes it",
            ),
        ];
        let routing = vec![
            Prop::new(
                "enabled",
                PropType::Bool,
                "whether private networks are reached",
            )
            .required(),
        ];
        KindSchema {
            kind: KIND.into(),
            doc: "A tunnel of `cloudflared`.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written; a change renames it",
                ),
                Prop::new(
                    "tunnelSecret",
                    PropType::String,
                    "the secret of the tunnel, 32 bytes or more in base64; made by Cloudflare when it is not given",
                )
                .secret(),
                Prop::new(
                    "configSrc",
                    PropType::OneOf(&["cloudflare", "local"]),
                    "where the configuration is: with Cloudflare, or in a file beside `cloudflared`",
                )
                .replaces(),
                Prop::new(
                    "ingress",
                    PropType::List(Box::new(PropType::Object(rule))),
                    "rules that say where requests go; the first that fits counts",
                ),
                Prop::new(
                    "originRequest",
                    PropType::Any,
                    "how requests are sent on, as Cloudflare's API takes it",
                ),
                Prop::new(
                    "warpRouting",
                    PropType::Object(routing),
                    "whether WARP clients reach private networks through it",
                ),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the tunnel"),
                Attribute::new("name", "the name"),
                Attribute::new("token", "what `cloudflared tunnel run --token` takes, a secret"),
                Attribute::identity("domain", "what a CNAME record of a host in `ingress` points at"),
                Attribute::new("type", "`tunnel`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors: Vec<PropError> = problem(&props).into_iter().collect();
        if is_local(&props) {
            let given = CONFIGURATION
                .iter()
                .find(|(prop, _)| props.contains_key(*prop));
            errors.extend(given.map(|(prop, _)| {
                let message = "a tunnel with `configSrc: \"local\"` is configured by a file";
                let help = format!("leave out `{prop}` or `configSrc`");
                mistake(&[prop], message, help)
            }));
        }
        let name = match NAMES.resolve(context, &mut props, "name") {
            Ok(name) if errors.is_empty() => name,
            Ok(_) => return Err(errors),
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        Ok(name.checked(KIND, "tunnel", &["name"], props))
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        let source = if is_local(props) {
            "local"
        } else {
            "cloudflare"
        };
        let mut body = json!({ "name": context.physical_name, "config_src": source });
        put_secret(&mut body, props)?;
        Ok(body)
    }

    fn change(
        &self,
        context: &OperationContext,
        item: String,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        let name = text_prop(props, "name").unwrap_or(&context.physical_name);
        let mut body = json!({ "name": name });
        put_secret(&mut body, props)?;
        Ok(Some(Call::patch(item).json(&body)))
    }

    fn outputs(&self, result: &Json, _collection: &str, call: &str) -> Result<Map, ProviderError> {
        let id = props::needed_text(result, "id", call)?;
        let mut outputs = Map::from([
            (
                "domain".to_owned(),
                Value::from(format!("{id}.{DOMAIN}").as_str()),
            ),
            ("id".to_owned(), Value::from(id)),
            (
                "name".to_owned(),
                Value::from(props::needed_text(result, "name", call)?),
            ),
            ("type".to_owned(), Value::from("tunnel")),
        ]);
        props::copy(&mut outputs, result, &[("created_at", "createdAt")]);
        Ok(outputs)
    }

    async fn complete(
        &self,
        client: &Client,
        context: &OperationContext,
        outputs: &mut Map,
        new: bool,
    ) -> Result<(), ProviderError> {
        let id = encode(props::known_output(outputs, "id", context.fqn.as_str())?);
        let call = Call::get(format!("{PATH}/{id}/token")).visible_late(new);
        let answer = client.call(context, &call).await?;
        let token = answer.result.as_str().ok_or_else(|| {
            ProviderError::new(FailureKind::Refused, "the answer holds no token")
                .with_help("run again")
        })?;
        let token = Value::Secret(Secret::plain(token));
        outputs.insert("token".to_owned(), token);
        Ok(())
    }

    async fn finish(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
        before: Option<&Existing>,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        if !is_local(props)
            && let Some(body) = configuration(props, before.map(|before| &before.props))?
        {
            let id = encode(props::known_output(outputs, "id", context.fqn.as_str())?);
            let call = Call::put(format!("{PATH}/{id}/configurations"))
                .json(&body)
                .visible_late(before.is_none());
            client.call(context, &call).await?;
        }
        Ok(())
    }

    async fn shown(
        &self,
        client: &Client,
        context: &OperationContext,
        _item: &Json,
        known: &Existing,
    ) -> Result<Map, ProviderError> {
        let declared = |(prop, _): &(&str, &str)| known.props.contains_key(*prop);
        if !CONFIGURATION.iter().any(declared) {
            return Ok(Map::new());
        }
        configured(client, context, &known.outputs).await
    }

    fn listed(&self, item: &Json, _outputs: &Map) -> Result<Map, ProviderError> {
        let local = props::text(item, "config_src") == Some("local");
        let source = local.then(|| ("configSrc".to_owned(), Value::from("local")));
        Ok(source.into_iter().collect())
    }

    async fn declared(
        &self,
        client: &Client,
        context: &OperationContext,
        item: &Json,
        outputs: &Map,
    ) -> Result<Map, ProviderError> {
        let local = self.listed(item, outputs)?;
        if is_local(&local) {
            return Ok(local);
        }
        let mut props = configured(client, context, outputs).await?;
        let nothing = Value::from_plain_json(json!([{ "service": NOTHING }]));
        props.retain(|_, value| *value != nothing && *value != Value::Map(Map::new()));
        Ok(props)
    }

    fn unseen(&self) -> &'static [&'static str] {
        &["tunnelSecret"]
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

    /// A tunnel that was deleted is still shown.
    fn is_gone(&self, item: &Json) -> bool {
        props::text(item, "deleted_at").is_some()
    }

    fn created_field(&self) -> &'static str {
        "created_at"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::provider::{
        Provider as _,
        cloudflare::{
            object::Object,
            testing::{Scripted, check_context, context, existing, map, ok},
        },
    };

    #[test]
    fn the_last_rule_has_to_fit_everything() {
        let (_, client) = Scripted::new(Vec::new());
        let kind = Object::new(Arc::clone(&client), Tunnel);
        let problems = |props: Json| -> Vec<String> {
            let checked = kind.check(&check_context("app/dev", "thing"), map(props));
            let errors = checked.err().unwrap_or_default();
            errors.into_iter().map(|error| error.message).collect()
        };
        let last = "the last rule must fit every request: it has neither `hostname` nor `path`";
        let host = json!({ "hostname": "a.example.com", "service": "http://localhost" });
        assert_eq!(problems(json!({ "ingress": [] })), [last]);
        assert_eq!(problems(json!({ "ingress": [host] })), [last]);
        assert!(problems(json!({ "ingress": [host, { "service": NOTHING }] })).is_empty());
        assert_eq!(
            problems(json!({ "configSrc": "local", "originRequest": {} })),
            ["a tunnel with `configSrc: \"local\"` is configured by a file"]
        );
    }

    #[tokio::test]
    async fn a_tunnel_that_is_only_shown_is_gone() {
        let gone = json!({ "id": "t1", "name": "a", "deleted_at": "2026-01-01T00:00:00Z" });
        let (transport, client) = Scripted::new(vec![
            ok(gone.clone()),
            ok(json!([gone, { "id": "t2", "name": "a", "deleted_at": null }])),
            ok(json!("token-2")),
        ]);
        let kind = Object::new(client, Tunnel);
        let context = context("a");
        let known = existing("a", json!({}), json!({ "id": "t1", "name": "a" }));
        assert_eq!(kind.read(&context, &known).await.unwrap(), None);
        let found = kind.find(&context, &Map::new()).await.unwrap().unwrap();
        assert_eq!(found.outputs["id"], Value::from("t2"));
        assert_eq!(
            found.outputs["token"],
            Value::Secret(Secret::plain("token-2"))
        );
        assert_eq!(
            transport.requests(),
            [
                "GET cfd_tunnel/t1",
                "GET cfd_tunnel?name=a&page=1&per_page=100",
                "GET cfd_tunnel/t2/token",
            ]
        );
    }
}
