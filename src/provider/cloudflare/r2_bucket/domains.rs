//! The custom domains of a bucket: host names of a zone under which everybody can read it.

use serde_json::{Value as Json, json};

use super::super::{
    client::{Call, Client, encode},
    props,
    zone::is_domain,
    zones::{zone_of, zone_props},
};
use super::{PATH, within};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{
        Difference, Existing, FailureKind, Observation, OperationContext, PropError, ProviderError,
        text_prop,
    },
};

pub(super) const PROP: &str = "domains";
/// What is spoken where nobody says otherwise.
const OLDEST_TLS: &str = "1.0";

/// The prop.
pub(super) fn prop() -> Prop {
    let [zone_id, zone] = zone_props();
    let domain = vec![
        Prop::new("domain", PropType::String, "the host name").required(),
        Prop {
            replaces: false,
            ..zone_id
        },
        Prop {
            replaces: false,
            ..zone
        },
        Prop::new(
            "enabled",
            PropType::Bool,
            "whether the bucket can be read there; yes when it is not given",
        ),
        Prop::new(
            "minTls",
            PropType::OneOf(&["1.0", "1.1", "1.2", "1.3"]),
            "the oldest version of TLS that is spoken; 1.0 when it is not given",
        ),
        Prop::new(
            "ciphers",
            PropType::List(Box::new(PropType::String)),
            "the ciphers that are spoken, as BoringSSL names them; those that were set stay when it is not given",
        ),
    ];
    let one = PropType::Either(vec![PropType::String, PropType::Object(domain)]);
    Prop::new(
        PROP,
        PropType::List(Box::new(one)),
        "host names under which everybody can read the bucket",
    )
}

/// Brings plain names to the long form and to small letters.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let Some(Value::Array(domains)) = props.get_mut(PROP) else {
        return;
    };
    for (index, item) in domains.iter_mut().enumerate() {
        if let Value::String(name) = item {
            let name = ("domain".to_owned(), Value::from(name.as_str()));
            *item = Value::Map(Map::from([name]));
        }
        let Value::Map(map) = item else {
            continue;
        };
        let problem = match map.get_mut("domain") {
            Some(Value::String(name)) if is_domain(name) => {
                *name = name.to_ascii_lowercase();
                continue;
            }
            Some(Value::String(name)) => format!("`{name}` is no host name"),
            None => continue,
            Some(_) => "it must be known before the run".to_owned(),
        };
        let path = [PROP, &index.to_string()];
        let help = "write it as `files.example.com`".to_owned();
        errors.push(props::mistake(&path, problem, help));
    }
}

fn items(props: &Map) -> impl Iterator<Item = (&str, &Map)> {
    let domains = props.get(PROP).and_then(Value::as_array);
    domains
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|item| Some((text_prop(item, "domain")?, item)))
}

/// What can be changed of a domain. What is not given goes back to what it is by itself.
fn settings(item: &Map) -> Result<Json, ProviderError> {
    let mut body = json!({
        "enabled": item.get("enabled").and_then(Value::as_bool).unwrap_or(true),
        "minTLS": text_prop(item, "minTls").unwrap_or(OLDEST_TLS),
    });
    if let Some(ciphers) = props::json_prop(item, "ciphers")? {
        body["ciphers"] = ciphers;
    }
    Ok(body)
}

pub(super) fn path(bucket: &str) -> String {
    format!("{PATH}/{}/domains/custom", encode(bucket))
}

/// Brings the domains of a bucket from what `before` says to what `props` say; `None` for a new bucket.
pub(super) async fn apply(
    client: &Client,
    context: &OperationContext,
    bucket: &str,
    place: Option<&str>,
    props: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    let path = path(bucket);
    if items(props).next().is_none() && before.is_none_or(|before| items(before).next().is_none()) {
        return Ok(());
    }
    let answer = match before {
        // A new bucket has none.
        None => None,
        Some(_) => {
            let call = within(Call::get(path.as_str()), place);
            Some(client.call(context, &call).await?.result)
        }
    };
    let there = answer
        .as_ref()
        .and_then(|result| result.get("domains")?.as_array());
    let has = |host: &str| {
        there
            .into_iter()
            .flatten()
            .any(|item| props::text(item, "domain") == Some(host))
    };
    for (host, item) in items(props) {
        let mut body = settings(item)?;
        if has(host) {
            let call = Call::put(format!("{path}/{}", encode(host))).json(&body);
            client.call(context, &within(call, place)).await?;
            continue;
        }
        let zone = zone_of(client, context, item, host).await?;
        body["domain"] = json!(host);
        body["zoneId"] = json!(zone.id);
        let call = Call::post(path.as_str())
            .json(&body)
            .visible_late(before.is_none());
        let added = client.call(context, &within(call, place)).await;
        added.map_err(|error| taken(host, error.into()))?;
    }
    for (host, _) in before.into_iter().flat_map(items) {
        if has(host) && !items(props).any(|(wanted, _)| wanted == host) {
            let call = Call::delete(format!("{path}/{}", encode(host)));
            client.look(context, &within(call, place)).await?;
        }
    }
    Ok(())
}

/// A host name that something else has is no conflict of the bucket, which is there.
fn taken(host: &str, error: ProviderError) -> ProviderError {
    if error.kind != FailureKind::Conflict {
        return error;
    }
    ProviderError {
        kind: FailureKind::Refused,
        message: format!("`{host}` is in use: {}", error.message),
        help: Some("remove it from what has it, or choose another host name".to_owned()),
        ..error
    }
}

/// Removes the domains of a bucket that is about to go.
pub(super) async fn remove(
    client: &Client,
    context: &OperationContext,
    bucket: &str,
    place: Option<&str>,
    props: &Map,
) -> Result<(), ProviderError> {
    for (host, _) in items(props) {
        let call = Call::delete(format!("{}/{}", path(bucket), encode(host)));
        client.look(context, &within(call, place)).await?;
    }
    Ok(())
}

/// The domains of an answer, as they would be declared.
pub(super) fn found(answer: &Json) -> Value {
    let domains = answer.get(PROP).and_then(Json::as_array);
    let one = |domain: &Json| {
        let mut out = Map::new();
        let fields = [
            ("domain", "domain"),
            ("zoneId", "zoneId"),
            ("enabled", "enabled"),
        ];
        props::copy(&mut out, domain, &fields);
        let tls = [("minTLS", "minTls"), ("ciphers", "ciphers")];
        props::copy(&mut out, domain, &tls);
        Value::Map(out)
    };
    domains.into_iter().flatten().map(one).collect()
}

/// What is not as declared of those domains that are; others are not the script's business.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut out = Vec::new();
    if !seen.props.contains_key(PROP) {
        return out;
    }
    for (index, (host, item)) in items(&existing.props).enumerate() {
        let path = vec![PROP.to_owned(), index.to_string()];
        let Some((_, found)) = items(&seen.props).find(|(other, _)| *other == host) else {
            out.push(Difference {
                path,
                state: Value::Map(item.clone()),
                found: Value::Null,
            });
            continue;
        };
        let mut differ = |field: &str, state: Option<Value>, found: Option<Value>| {
            if let Some(state) = state
                && found.as_ref() != Some(&state)
            {
                let found = found.unwrap_or(Value::Null);
                let path = [path.clone(), vec![field.to_owned()]].concat();
                out.push(Difference { path, state, found });
            }
        };
        let enabled = |item: &Map| item.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        differ(
            "enabled",
            Some(enabled(item).into()),
            Some(enabled(found).into()),
        );
        let tls = |item: &Map| Some(text_prop(item, "minTls").unwrap_or(OLDEST_TLS).into());
        differ("minTls", tls(item), tls(found));
        let ciphers = |item: &Map| {
            let list = item.get("ciphers")?.as_array()?;
            (!list.is_empty()).then(|| Value::Array(list.to_vec()))
        };
        differ("ciphers", ciphers(item), ciphers(found));
    }
    out
}
