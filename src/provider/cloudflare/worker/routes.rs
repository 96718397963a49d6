//! The routes of a Worker that stand in its own props.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    super::{
        client::{Call, Client, encode},
        props, route,
        zones::{zone_of, zone_props},
    },
    handover,
};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{Claim, FailureKind, OperationContext, PropError, ProviderError, text_prop},
};

pub(super) const PROP: &str = "routes";

/// The prop.
pub(super) fn prop() -> Prop {
    let [zone_id, zone] = zone_props();
    let route = vec![
        Prop::new(
            "pattern",
            PropType::String,
            "host and path, as in `api.example.com/*`",
        )
        .required(),
        Prop {
            replaces: false,
            ..zone_id
        },
        Prop {
            replaces: false,
            ..zone
        },
    ];
    let one = PropType::Either(vec![PropType::String, PropType::Object(route)]);
    Prop::new(
        PROP,
        PropType::List(Box::new(one)),
        "patterns of URLs that it answers",
    )
}

/// Brings plain patterns to the long form.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let Some(Value::Array(routes)) = props.get_mut("routes") else {
        return;
    };
    for (index, item) in routes.iter_mut().enumerate() {
        if let Value::String(pattern) = item {
            let pattern = ("pattern".to_owned(), Value::from(pattern.as_str()));
            *item = Value::Map(Map::from([pattern]));
        }
        let Some(pattern) = item.as_map().and_then(|map| map.get("pattern")) else {
            continue;
        };
        let problem = match pattern {
            Value::String(pattern) => route::problem(pattern),
            _ => Some("it must be known before the run"),
        };
        if let Some(problem) = problem {
            let path = ["routes", &index.to_string()];
            errors.push(props::mistake(&path, problem, route::EXAMPLE.to_owned()));
        }
    }
}

/// The patterns that are declared, by position.
pub(super) fn items(props: &Map) -> impl Iterator<Item = (&str, &Map)> {
    let routes = props.get("routes").and_then(Value::as_array);
    routes
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|item| Some((text_prop(item, "pattern")?, item)))
}

/// The routes, each as only one Worker can have it.
pub(super) fn claims(props: &Map) -> impl Iterator<Item = Claim> {
    items(props).map(|(pattern, _)| route::claim(pattern))
}

/// Refuses routes that `now` adds to those of `before` and that lead to a Worker which does not give them up: asked before
/// anything of Worker `name` changes.
pub(super) async fn refuse_taken(
    client: &Client,
    context: &OperationContext,
    name: &str,
    now: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    let old: Vec<&str> = before
        .into_iter()
        .flat_map(items)
        .map(|(pattern, _)| pattern)
        .collect();
    let mut zones: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (pattern, item) in items(now).filter(|(pattern, _)| !old.contains(pattern)) {
        let zone = zone_of(client, context, item, route::host_of(pattern)).await?;
        zones.entry(zone.id).or_default().push(pattern);
    }
    for (zone, patterns) in zones {
        let path = format!("zones/{}/workers/routes", encode(&zone));
        let answer = client.call(context, &Call::get(path)).await?;
        let there = answer.result.as_array().map_or(&[][..], Vec::as_slice);
        for pattern in patterns {
            if let Some(item) = find(there, pattern) {
                let holder = props::text(item, "script");
                if holder != Some(name) && !handover::may_take(client, context, holder).await? {
                    return Err(taken(pattern, item));
                }
            }
        }
    }
    Ok(())
}

/// The route of a pattern.
fn find<'a>(there: &'a [Json], pattern: &str) -> Option<&'a Json> {
    let pattern = pattern.to_ascii_lowercase();
    there
        .iter()
        .find(|item| props::text(item, "pattern") == Some(&pattern))
}

/// Brings the routes of Worker `name` from what `before` says to what `now` says. A route that leads to another Worker is
/// left alone; one that is wanted is a conflict, unless it is of a Worker of the same stage, which no longer declares it.
pub(super) async fn apply(
    client: &Client,
    context: &OperationContext,
    name: &str,
    now: &Map,
    before: Option<&Map>,
) -> Result<(), ProviderError> {
    // By zone: the patterns that are wanted, and those that were.
    let mut zones: BTreeMap<String, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for (pattern, item) in items(now) {
        let zone = zone_of(client, context, item, route::host_of(pattern)).await?;
        zones.entry(zone.id).or_default().0.push(pattern);
    }
    // Those that a look has shown to lead elsewhere: whoever asked for them to be brought back has seen where they lead.
    let mut lost: Vec<&str> = Vec::new();
    for (pattern, item) in before.into_iter().flat_map(items) {
        lost.extend(item.contains_key("script").then_some(pattern));
        let zone = zone_of(client, context, item, route::host_of(pattern)).await?;
        zones.entry(zone.id).or_default().1.push(pattern);
    }
    for (zone, (wanted, old)) in zones {
        let path = format!("zones/{}/workers/routes", encode(&zone));
        let answer = client.call(context, &Call::get(path.as_str())).await?;
        let there = answer.result.as_array().map_or(&[][..], Vec::as_slice);
        for pattern in &wanted {
            match find(there, pattern) {
                Some(item)
                    if props::text(item, "script") == Some(name)
                        && handover::stays(before, old.contains(pattern)) => {}
                Some(item) => {
                    let holder = props::text(item, "script");
                    if holder != Some(name)
                        && !lost.contains(pattern)
                        && !handover::may_take(client, context, holder).await?
                    {
                        return Err(taken(pattern, item));
                    }
                    remove(client, context, &path, item).await?;
                    add(client, context, &path, pattern, name).await?;
                }
                None => add(client, context, &path, pattern, name).await?,
            }
        }
        for pattern in old.iter().filter(|pattern| !wanted.contains(pattern)) {
            if let Some(item) = find(there, pattern)
                && props::text(item, "script") == Some(name)
            {
                remove(client, context, &path, item).await?;
            }
        }
    }
    Ok(())
}

async fn add(
    client: &Client,
    context: &OperationContext,
    path: &str,
    pattern: &str,
    name: &str,
) -> Result<(), ProviderError> {
    let body = json!({ "pattern": pattern, "script": name });
    // The script may not be visible everywhere yet.
    let call = Call::post(path)
        .json(&body)
        .settling(|error| error.code == Some(10019));
    client.call(context, &call).await?;
    Ok(())
}

async fn remove(
    client: &Client,
    context: &OperationContext,
    path: &str,
    item: &Json,
) -> Result<(), ProviderError> {
    if let Some(id) = props::text(item, "id") {
        let call = Call::delete(format!("{path}/{}", encode(id)));
        client.look(context, &call).await?;
    }
    Ok(())
}

fn taken(pattern: &str, there: &Json) -> ProviderError {
    let owner = match props::text(there, "script") {
        Some(script) => format!("leads to the Worker `{script}`"),
        None => "is kept free of Workers".to_owned(),
    };
    ProviderError::new(
        FailureKind::Conflict,
        format!("the route `{pattern}` is there already and {owner}"),
    )
    .with_help("take it over with `Route(..)` and `adopt: true`, or choose another pattern")
}
