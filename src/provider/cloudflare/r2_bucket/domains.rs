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
    provider::{FailureKind, OperationContext, PropError, ProviderError, text_prop},
};

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
        "domains",
        PropType::List(Box::new(one)),
        "host names under which everybody can read the bucket",
    )
}

/// Brings plain names to the long form and to small letters.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let Some(Value::Array(domains)) = props.get_mut("domains") else {
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
        let path = ["domains", &index.to_string()];
        let help = "write it as `files.example.com`".to_owned();
        errors.push(props::mistake(&path, problem, help));
    }
}

fn items(props: &Map) -> impl Iterator<Item = (&str, &Map)> {
    let domains = props.get("domains").and_then(Value::as_array);
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
        "minTLS": text_prop(item, "minTls").unwrap_or("1.0"),
    });
    if let Some(ciphers) = props::json_prop(item, "ciphers")? {
        body["ciphers"] = ciphers;
    }
    Ok(body)
}

fn path(bucket: &str) -> String {
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
