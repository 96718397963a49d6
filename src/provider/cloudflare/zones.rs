//! Which zone a host name belongs to: named by the script, by the environment, or looked up.

use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use super::{
    client::{Call, Client, encode},
    props,
};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{FailureKind, OperationContext, ProviderError, text_prop},
};

/// Zones on one page of the list, the most that the API gives.
const PER_PAGE: usize = 50;

/// A zone as far as others need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ZoneName {
    pub(super) id: String,
    /// The domain; not known where the script gave only the id.
    pub(super) domain: Option<String>,
}

/// What a client knows of the zones of its account.
#[derive(Debug, Default)]
pub(super) struct KnownZones {
    /// The id of the zone that is meant where none is named.
    pub(super) preset: Option<String>,
    /// Those that were there when it was first asked.
    listed: OnceCell<Vec<ZoneName>>,
}

/// The props that name a zone.
pub(super) fn zone_props() -> [Prop; 2] {
    [
        Prop::new("zoneId", PropType::String, "the id of the zone").replaces(),
        Prop::new(
            "zone",
            PropType::Either(vec![
                PropType::Resource(&["cloudflare::Zone"]),
                PropType::String,
            ]),
            "the zone, or its domain; looked up when neither it nor `zoneId` is given",
        )
        .replaces(),
    ]
}

/// Whether `host` is the domain or lies below it.
pub(super) fn is_within(host: &str, domain: &str) -> bool {
    host == domain
        || host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// The zone that `props` name, or else the one that `host` lies in.
pub(super) async fn zone_of(
    client: &Client,
    context: &OperationContext,
    props: &Map,
    host: &str,
) -> Result<ZoneName, ProviderError> {
    match props.get("zone") {
        Some(Value::Resource(view)) => {
            let output = |key: &str| props::known_output(&view.outputs, key, view.fqn.as_str());
            return Ok(ZoneName {
                id: output("id")?.to_owned(),
                domain: Some(output("name")?.to_owned()),
            });
        }
        Some(Value::String(domain)) => return look_up(client, context, domain).await,
        _ => {}
    }
    let given = props.get("zoneId").and_then(Value::as_str);
    match given.or(client.zones.preset.as_deref()) {
        // Scripts name zones of the real account; the local cloud has others in their place.
        Some(id) if !client.is_local() || is_there(client, context, id).await? => Ok(ZoneName {
            id: id.to_owned(),
            domain: None,
        }),
        _ => look_up(client, context, host).await,
    }
}

/// The id of the zone that [`zone_of`] would answer, where it is there: none is made.
pub(super) async fn zone_there(
    client: &Client,
    context: &OperationContext,
    props: &Map,
    host: &str,
) -> Result<Option<String>, ProviderError> {
    let host = match props.get("zone") {
        Some(Value::Resource(view)) => {
            return Ok(text_prop(&view.outputs, "id").map(str::to_owned));
        }
        Some(Value::String(domain)) => domain.as_str(),
        _ => {
            let given = text_prop(props, "zoneId").or(client.zones.preset.as_deref());
            match given {
                Some(id) if !client.is_local() || is_there(client, context, id).await? => {
                    return Ok(Some(id.to_owned()));
                }
                _ => host,
            }
        }
    };
    let host = host.to_ascii_lowercase();
    let listed = client
        .zones
        .listed
        .get_or_try_init(|| list(client, context))
        .await?;
    Ok(longest(listed, host.trim_end_matches('.')).map(|zone| zone.id.clone()))
}

/// The zone that holds `host`: the longest domain of those it lies in.
fn longest<'a>(zones: &'a [ZoneName], host: &str) -> Option<&'a ZoneName> {
    let holds = |zone: &&ZoneName| {
        let domain = zone.domain.as_deref();
        domain.is_some_and(|domain| is_within(host, domain))
    };
    zones
        .iter()
        .filter(holds)
        .max_by_key(|zone| zone.domain.as_ref().map(String::len))
}

async fn is_there(
    client: &Client,
    context: &OperationContext,
    id: &str,
) -> Result<bool, ProviderError> {
    let call = Call::get(format!("zones/{}", encode(id)));
    Ok(client.look(context, &call).await?.is_some())
}

/// The domain of a zone.
pub(super) async fn domain_of(
    client: &Client,
    context: &OperationContext,
    zone: &ZoneName,
) -> Result<String, ProviderError> {
    if let Some(domain) = &zone.domain {
        return Ok(domain.clone());
    }
    let call = Call::get(format!("zones/{}", encode(&zone.id)));
    let answer = client.call(context, &call).await?;
    props::needed_text(&answer.result, "name", &call.describe())
}

/// The zone that holds `host`: the longest domain of those it lies in.
async fn look_up(
    client: &Client,
    context: &OperationContext,
    host: &str,
) -> Result<ZoneName, ProviderError> {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let listed = client
        .zones
        .listed
        .get_or_try_init(|| list(client, context))
        .await?;
    if let Some(zone) = longest(listed, host) {
        return Ok(zone.clone());
    }
    // It may have been made since the list was read.
    let labels: Vec<&str> = host.split('.').collect();
    for from in 0..labels.len().saturating_sub(1) {
        let call = Call::get("zones").query("name", labels[from..].join("."));
        let answer = client.call(context, &call).await?;
        if let Some(zone) = answer.result.get(0).and_then(zone_name) {
            return Ok(zone);
        }
    }
    if client.is_local() && labels.len() >= 2 {
        return assume(client, context, &labels[labels.len() - 2..].join(".")).await;
    }
    Err(ProviderError::new(
        FailureKind::Refused,
        format!("no zone of the account holds `{host}`"),
    )
    .with_help("declare the zone with `Zone(..)` and pass it as `zone`, or name it with `zoneId`"))
}

/// Whether a zone of the list is in the client's account: a token may see those of others.
pub(super) fn in_account(client: &Client, item: &Json) -> bool {
    client.is_local() || props::text(&item["account"], "id").is_none_or(|id| id == client.account())
}

/// Every zone of the account, with its domain, as they were when it was first asked.
pub(super) async fn all<'a>(
    client: &'a Client,
    context: &OperationContext,
) -> Result<&'a [ZoneName], ProviderError> {
    let listed = &client.zones.listed;
    let listed = listed.get_or_try_init(|| list(client, context)).await?;
    Ok(listed)
}

async fn list(client: &Client, context: &OperationContext) -> Result<Vec<ZoneName>, ProviderError> {
    let mut zones = Vec::new();
    let all = Call::get("zones");
    // Nothing is picked: every page is read.
    client
        .find_in_pages(context, &all, PER_PAGE, |item| {
            zones.extend(zone_name(item).filter(|_| in_account(client, item)));
            None::<()>
        })
        .await?;
    Ok(zones)
}

fn zone_name(item: &Json) -> Option<ZoneName> {
    Some(ZoneName {
        id: props::text(item, "id")?.to_owned(),
        domain: Some(props::text(item, "name")?.to_owned()),
    })
}

/// Makes the zone of a domain in a local cloud, where every domain is the user's. A zone that the script declares itself
/// takes its place.
async fn assume(
    client: &Client,
    context: &OperationContext,
    domain: &str,
) -> Result<ZoneName, ProviderError> {
    let body = json!({ "name": domain, "account": { "id": client.account() }, "type": "full" });
    let call = Call::post("zones")
        .header("alch-implied", "true")
        .json(&body);
    let made = match client.call(context, &call).await {
        Ok(answer) => zone_name(&answer.result),
        // Somebody else assumed it at the same time.
        Err(error) if error.has_code(1061) => {
            let call = Call::get("zones").query("name", domain);
            let answer = client.call(context, &call).await?;
            answer.result.get(0).and_then(zone_name)
        }
        Err(error) => return Err(error.into()),
    };
    made.ok_or_else(|| {
        let message = format!("the local cloud did not say which zone holds `{domain}`");
        ProviderError::new(FailureKind::Refused, message)
    })
}
