//! `cloudflare::Route`: a pattern of URLs of a zone that a Worker answers.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    object::{Listing, Shape},
    props,
    zones::{self, ZoneName, zone_of, zone_props},
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Claim, Difference, Existing, FailureKind, Observation,
        OperationContext, PropError, ProviderError, observe,
    },
};

pub(super) const KIND: &str = "cloudflare::Route";

/// What is special about routes.
#[derive(Debug)]
pub(super) struct Route;

/// The host part of a pattern, without a scheme, path or `*`.
pub(super) fn host_of(pattern: &str) -> &str {
    let plain = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let host = plain.split('/').next().unwrap_or_default();
    host.trim_start_matches('*').trim_start_matches('.')
}

/// What is wrong with a pattern.
pub(super) fn problem(pattern: &str) -> Option<&'static str> {
    let host = host_of(pattern);
    let path = &pattern[pattern.find(host).unwrap_or(0) + host.len()..];
    if !host.contains('.') {
        Some("a pattern begins with a host name of the zone")
    } else if host.contains('*') {
        Some("`*` stands at the beginning of the host only")
    } else if path.trim_end_matches('*').contains('*') {
        Some("`*` stands at the end of the path only")
    } else if pattern.contains('?') {
        Some("a pattern has no query")
    } else {
        None
    }
}

/// What only one resource can have.
pub(super) fn claim(pattern: &str) -> Claim {
    Claim::new(format!("the route `{}`", pattern.to_ascii_lowercase()))
}

/// The example in help texts.
pub(super) const EXAMPLE: &str = "write it as `api.example.com/*`";

/// The prop of a Worker that is given as a handle or by its name.
pub(super) fn worker_prop(name: &'static str, doc: &'static str) -> Prop {
    let worker = PropType::Resource(&[super::worker::KIND]);
    Prop::new(name, PropType::Either(vec![worker, PropType::String]), doc)
}

/// The name of the Worker that a prop gives.
pub(super) fn worker_name<'a>(props: &'a Map, key: &str) -> Result<Option<&'a str>, ProviderError> {
    match props.get(key) {
        Some(Value::Resource(view)) => {
            props::known_output(&view.outputs, "name", view.fqn.as_str()).map(Some)
        }
        other => Ok(other.and_then(Value::as_str)),
    }
}

fn body(props: &Map) -> Result<Json, ProviderError> {
    let pattern = props.get("pattern").and_then(Value::as_str);
    let mut body = json!({ "pattern": pattern.unwrap_or_default() });
    if let Some(script) = worker_name(props, "script")? {
        body["script"] = json!(script);
    }
    Ok(body)
}

#[async_trait]
impl Shape for Route {
    fn schema() -> KindSchema {
        let [zone_id, zone] = zone_props();
        KindSchema {
            kind: KIND.into(),
            doc: "A route to a Worker.".to_owned(),
            props: vec![
                Prop::new(
                    "pattern",
                    PropType::String,
                    "host and path, as in `api.example.com/*`",
                )
                .required(),
                worker_prop(
                    "script",
                    "the Worker, or its name; without it no Worker answers the pattern",
                ),
                zone_id,
                zone,
                super::names::naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the route"),
                Attribute::new("pattern", "the pattern"),
                Attribute::new("script", "the name of the Worker"),
                Attribute::identity("zoneId", "the id of the zone"),
                Attribute::new("type", "`route`"),
            ],
            open_attributes: false,
            // A pattern cannot be there twice.
            replace: ReplaceOrder::DeleteFirst,
            delete: DeletePolicy::Disposable,
            name_limit: 1024,
        }
    }

    fn check(&self, _context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        // A pattern is never made from the stage.
        props.remove("naming");
        let given = props::known_text(&props, "pattern").map_err(|error| vec![error])?;
        let pattern = given.unwrap_or_default().to_ascii_lowercase();
        if let Some(problem) = problem(&pattern) {
            let message = format!("`{pattern}` is no pattern: {problem}");
            return Err(vec![props::mistake(
                &["pattern"],
                message,
                EXAMPLE.to_owned(),
            )]);
        }
        props.insert("pattern".to_owned(), Value::from(pattern.as_str()));
        Ok(Checked {
            props,
            known: Map::from([
                ("pattern".to_owned(), Value::from(pattern.as_str())),
                ("type".to_owned(), Value::from("route")),
            ]),
            identity: Some(format!("{KIND}:{pattern}")),
            physical_name: pattern,
            explicit_name: true,
        })
    }

    fn claims(&self, checked: &Checked) -> Vec<Claim> {
        vec![claim(&checked.physical_name)]
    }

    async fn collection(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<String, ProviderError> {
        let zone = zone_of(client, context, props, host_of(&context.physical_name)).await?;
        Ok(format!("zones/{}/workers/routes", encode(&zone.id)))
    }

    fn item(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<String, ProviderError> {
        let output = |key| props::known_output(&existing.outputs, key, context.fqn.as_str());
        let (zone, id) = (encode(output("zoneId")?), encode(output("id")?));
        Ok(format!("zones/{zone}/workers/routes/{id}"))
    }

    fn body(
        &self,
        _client: &Client,
        _context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        body(props)
    }

    fn change(
        &self,
        _context: &OperationContext,
        item: String,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        Ok(Some(Call::put(item).json(&body(props)?)))
    }

    fn outputs(&self, result: &Json, collection: &str, call: &str) -> Result<Map, ProviderError> {
        let zone = collection.split('/').nth(1).ok_or_else(|| {
            ProviderError::new(
                FailureKind::Refused,
                format!("`{collection}` names no zone"),
            )
        })?;
        let mut outputs = Map::from([
            (
                "id".to_owned(),
                Value::from(props::needed_text(result, "id", call)?),
            ),
            ("zoneId".to_owned(), Value::from(zone)),
            ("type".to_owned(), Value::from("route")),
        ]);
        props::copy(
            &mut outputs,
            result,
            &[("pattern", "pattern"), ("script", "script")],
        );
        Ok(outputs)
    }

    async fn collections(
        &self,
        client: &Client,
        context: &OperationContext,
    ) -> Result<Vec<String>, ProviderError> {
        let zones = zones::all(client, context).await?;
        let path = |zone: &ZoneName| format!("zones/{}/workers/routes", encode(&zone.id));
        Ok(zones.iter().map(path).collect())
    }

    fn listed(&self, _item: &Json, outputs: &Map) -> Result<Map, ProviderError> {
        let declared = ["pattern", "script", "zoneId"];
        let given = |prop: &str| Some((prop.to_owned(), outputs.get(prop)?.clone()));
        Ok(declared.into_iter().filter_map(given).collect())
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        let mut out = observe::compare(&existing.physical_name, &existing.props, seen);
        // No script at all keeps Workers from the pattern.
        let script = |outputs: &Map| outputs.get("script").cloned().unwrap_or_default();
        let (state, found) = (script(&existing.outputs), script(&seen.outputs));
        if state != found {
            let path = vec!["script".to_owned()];
            out.push(Difference { path, state, found });
        }
        out
    }

    fn listing(&self) -> Listing {
        Listing::Whole
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "pattern") == Some(name)
    }
}
