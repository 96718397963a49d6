//! The custom domains of a Worker that stand in its own props.

use serde_json::Value as Json;

use super::{
    super::{
        client::{Call, Client, encode},
        custom_domain::{self, PATH},
        props,
        zone::is_domain,
        zones::{zone_of, zone_props},
    },
    handover,
};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{Claim, OperationContext, PropError, ProviderError, text_prop},
};

pub(super) const PROP: &str = "domains";

/// The prop.
pub(super) fn prop() -> Prop {
    let [zone_id, zone] = zone_props();
    let domain = vec![
        Prop::new("name", PropType::String, "the host name").required(),
        Prop {
            replaces: false,
            ..zone_id
        },
        Prop {
            replaces: false,
            ..zone
        },
    ];
    let one = PropType::Either(vec![PropType::String, PropType::Object(domain)]);
    Prop::new(
        PROP,
        PropType::List(Box::new(one)),
        "host names that it answers",
    )
}

/// Brings plain names to the long form.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let Some(Value::Array(domains)) = props.get_mut("domains") else {
        return;
    };
    for (index, item) in domains.iter_mut().enumerate() {
        if let Value::String(name) = item {
            let name = ("name".to_owned(), Value::from(name.as_str()));
            *item = Value::Map(Map::from([name]));
        }
        let problem = match item.as_map().and_then(|map| map.get("name")) {
            Some(Value::String(name)) if is_domain(name) => continue,
            Some(Value::String(name)) => format!("`{name}` is no host name"),
            None => continue,
            Some(_) => "it must be known before the run".to_owned(),
        };
        let path = ["domains", &index.to_string()];
        let help = "write it as `api.example.com`".to_owned();
        errors.push(props::mistake(&path, problem, help));
    }
}

/// The host names that are declared, by position.
pub(super) fn items(props: &Map) -> impl Iterator<Item = (String, &Map)> {
    let domains = props.get("domains").and_then(Value::as_array);
    domains
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|item| Some((text_prop(item, "name")?.to_ascii_lowercase(), item)))
}

/// The domains, each as only one Worker can have it.
pub(super) fn claims(props: &Map) -> impl Iterator<Item = Claim> {
    items(props).map(|(host, _)| custom_domain::claim(&host))
}

/// Refuses domains that `now` adds to those of `before` and that lead to a Worker which does not give them up: asked before
/// anything of Worker `name` changes.
pub(super) async fn refuse_taken(
    client: &Client,
    context: &OperationContext,
    name: &str,
    now: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    let old: Vec<String> = before
        .into_iter()
        .flat_map(items)
        .map(|(host, _)| host)
        .collect();
    let added: Vec<String> = items(now)
        .map(|(host, _)| host)
        .filter(|host| !old.contains(host))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let answer = client.call(context, &Call::get(PATH)).await?;
    let there = answer.result.as_array().map_or(&[][..], Vec::as_slice);
    for host in added {
        let is_it = |item: &&Json| props::text(item, "hostname") == Some(&host);
        if let Some(item) = there.iter().find(is_it) {
            let holder = props::text(item, "service");
            if holder != Some(name) && !handover::may_take(client, context, holder).await? {
                return Err(custom_domain::taken(&host, item));
            }
        }
    }
    Ok(())
}

/// Brings the domains of Worker `name` from what `before` says to what `now` says. One that leads to another Worker is left
/// alone; one that is wanted is a conflict, unless it is of a Worker of the same stage, which no longer declares it.
pub(super) async fn apply(
    client: &Client,
    context: &OperationContext,
    name: &str,
    now: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    let wanted: Vec<(String, &Map)> = items(now).collect();
    let old: Vec<String> = before
        .into_iter()
        .flat_map(items)
        .map(|(host, _)| host)
        .collect();
    // Those that a look has shown to lead elsewhere: whoever asked for them to be brought back has seen where they lead.
    let lost: Vec<String> = before
        .into_iter()
        .flat_map(items)
        .filter(|(_, item)| item.contains_key("worker"))
        .map(|(host, _)| host)
        .collect();
    if wanted.is_empty() && old.is_empty() {
        return Ok(());
    }
    let answer = client.call(context, &Call::get(PATH)).await?;
    let there = answer.result.as_array().map_or(&[][..], Vec::as_slice);
    let find = |host: &str| {
        there
            .iter()
            .find(|item| props::text(item, "hostname") == Some(host))
    };
    let is_ours = |item: &Json| props::text(item, "service") == Some(name);
    for (host, item) in &wanted {
        match find(host) {
            Some(there) if is_ours(there) && handover::stays(before, old.contains(host)) => {}
            other => {
                if let Some(there) = other {
                    let holder = props::text(there, "service");
                    if !is_ours(there)
                        && !lost.contains(host)
                        && !handover::may_take(client, context, holder).await?
                    {
                        return Err(custom_domain::taken(host, there));
                    }
                    remove(client, context, there).await?;
                }
                let zone = zone_of(client, context, item, host).await?;
                custom_domain::attach(client, context, host, name, &zone.id).await?;
            }
        }
    }
    for host in old {
        if !wanted.iter().any(|(wanted, _)| *wanted == host)
            && let Some(item) = find(&host).filter(|item| is_ours(item))
        {
            remove(client, context, item).await?;
        }
    }
    Ok(())
}

async fn remove(
    client: &Client,
    context: &OperationContext,
    item: &Json,
) -> Result<(), ProviderError> {
    if let Some(id) = props::text(item, "id") {
        let call = Call::delete(format!("{PATH}/{}", encode(id)));
        client.look(context, &call).await?;
    }
    Ok(())
}
