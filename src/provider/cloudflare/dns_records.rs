//! `cloudflare::DnsRecords`: DNS records of a zone, declared together and changed in one call.

mod all;
mod look;
mod text;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json, json};

use super::{
    client::{Call, Client, encode},
    props,
    zones::{ZoneName, domain_of, is_within, zone_of, zone_props},
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Difference, Existing, Found, Observation, OperationContext,
        PropError, Provider, ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::DnsRecords";
/// Records on one page of the list.
const PER_PAGE: usize = 1000;
/// Types of which one name may have several, told apart by their content.
const MANY: [&str; 7] = ["A", "AAAA", "MX", "NS", "TXT", "SRV", "CAA"];

const TYPES: PropType = PropType::OneOf(&[
    "A",
    "AAAA",
    "CAA",
    "CERT",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "LOC",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "SMIMEA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
]);

/// The kind.
#[derive(Debug)]
pub struct DnsRecords {
    client: Arc<Client>,
    schema: KindSchema,
}

/// A record that the script wants, as the API takes it, with its full name.
type Wanted = JsonMap<String, Json>;

impl DnsRecords {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    async fn zone(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<ZoneName, ProviderError> {
        let first = given(props).first().and_then(Value::as_map);
        let host = first.and_then(|record| text_prop(record, "name"));
        zone_of(&self.client, context, props, host.unwrap_or_default()).await
    }

    async fn wanted(
        &self,
        context: &OperationContext,
        props: &Map,
        zone: &ZoneName,
    ) -> Result<Vec<Wanted>, ProviderError> {
        let domain = domain_of(&self.client, context, zone).await?;
        given(props)
            .iter()
            .filter_map(Value::as_map)
            .map(|record| wanted(record, &domain))
            .collect()
    }

    /// The records of a zone; none where there is no such zone.
    async fn in_zone(
        &self,
        context: &OperationContext,
        zone: &str,
    ) -> Result<Option<Vec<Json>>, ProviderError> {
        let call = Call::get(path(zone));
        let mut all = Vec::new();
        let read = self
            .client
            .find_in_pages(context, &call, PER_PAGE, |item| {
                all.push(item.clone());
                None::<()>
            })
            .await;
        match read {
            Ok(_) => Ok(Some(all)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one batch; answers nothing because the list says more.
    async fn batch(
        &self,
        context: &OperationContext,
        zone: &str,
        body: JsonMap<String, Json>,
    ) -> Result<Json, ProviderError> {
        let call = Call::post(format!("{}/batch", path(zone))).json(&Json::Object(body));
        Ok(self.client.call(context, &call).await?.result)
    }
}

fn path(zone: &str) -> String {
    format!("zones/{}/dns_records", encode(zone))
}

fn schema() -> KindSchema {
    let [zone_id, zone] = zone_props();
    let record = vec![
        Prop::new("type", TYPES, "the type").required(),
        Prop::new(
            "name",
            PropType::String,
            "the name, whole or below the zone; `@` for the zone itself",
        )
        .required(),
        Prop::new("content", PropType::String, "what the name stands for"),
        Prop::new(
            "data",
            PropType::Any,
            "the content in parts, for types such as SRV and CAA",
        ),
        Prop::new(
            "ttl",
            PropType::Integer {
                min: 1,
                max: 86_400,
            },
            "seconds that others keep the answer; 1, the default, leaves it to Cloudflare",
        ),
        Prop::new(
            "proxied",
            PropType::Bool,
            "whether traffic goes through Cloudflare",
        ),
        Prop::new(
            "priority",
            PropType::Integer {
                min: 0,
                max: 65_535,
            },
            "which of several comes first, for MX and URI",
        ),
        Prop::new("comment", PropType::String, "a remark"),
        Prop::new(
            "tags",
            PropType::List(Box::new(PropType::String)),
            "tags to find it by",
        ),
    ];
    KindSchema {
        kind: KIND.into(),
        doc: "DNS records of a zone.".to_owned(),
        props: vec![
            Prop::new(
                "records",
                PropType::List(Box::new(PropType::Object(record))),
                "the records",
            )
            .required(),
            zone_id,
            zone,
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("zoneId", "the id of the zone"),
            Attribute::new("records", "the records with their ids"),
            Attribute::new("type", "`dns_records`"),
        ],
        open_attributes: false,
        // The same records cannot be there twice.
        replace: ReplaceOrder::DeleteFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 1024,
    }
}

fn given(props: &Map) -> &[Value] {
    let records = props.get("records").and_then(Value::as_array);
    records.unwrap_or_default()
}

/// One record as the API takes it.
fn wanted(record: &Map, domain: &str) -> Result<Wanted, ProviderError> {
    let mut out = JsonMap::new();
    for key in record.keys() {
        if let Some(value) = props::json_prop(record, key)? {
            out.insert(key.clone(), value);
        }
    }
    let name = text_prop(record, "name").unwrap_or_default();
    out.insert("name".to_owned(), json!(full_name(name, domain)));
    out.entry("ttl").or_insert(json!(1));
    Ok(out)
}

/// A name with the zone at its end, as the API answers it.
fn full_name(name: &str, domain: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.as_str() {
        "@" | "" => domain.to_owned(),
        name if is_within(name, domain) => name.to_owned(),
        name => format!("{name}.{domain}"),
    }
}

/// Whether a record that is there is the one that is wanted, perhaps with other values.
fn same_name(there: &Json, wanted: &Wanted) -> bool {
    let text = |field: &str| wanted.get(field).and_then(Json::as_str);
    props::text(there, "type") == text("type") && props::text(there, "name") == text("name")
}

/// Whether a record that is there has the content that is wanted.
fn same_content(there: &Json, wanted: &Wanted) -> bool {
    let content = wanted.get("content");
    match (
        props::text(there, "content"),
        content.and_then(Json::as_str),
    ) {
        (Some(is), Some(wanted_text)) if wanted.get("type") == Some(&json!("TXT")) => {
            text::said(is) == text::said(wanted_text)
        }
        _ => content.is_some() && there.get("content") == content,
    }
}

/// Whether a record that is there has everything that is wanted.
fn fits(there: &Json, wanted: &Wanted) -> bool {
    wanted.iter().all(|(field, value)| match there.get(field) {
        Some(is) if is == value => true,
        Some(_) if field == "content" => same_content(there, wanted),
        // Numbers come back with a fraction now and then.
        Some(is) => is.as_f64().is_some() && is.as_f64() == value.as_f64(),
        None => false,
    })
}

/// Whether a record that is there may be taken for one that is wanted.
type Round<'a> = dyn Fn(&Json, &Wanted) -> bool + 'a;

/// The records that are there for those that are wanted, by position. Each is taken once: the one that fits whole, else the
/// one with the same content, else, where a name has only one, the one of the name; `ours` are preferred and, where a name
/// may have several, the only ones that are taken with another content.
fn matched<'a>(there: &'a [Json], wanted: &[Wanted], ours: &[&str]) -> Vec<Option<&'a Json>> {
    let mut taken: Vec<&str> = Vec::new();
    let mut found: Vec<Option<&Json>> = vec![None; wanted.len()];
    let is_ours = |item: &Json| props::text(item, "id").is_some_and(|id| ours.contains(&id));
    let rounds: [&Round<'_>; 3] = [
        &|item, wanted| fits(item, wanted),
        &same_content,
        &|item, wanted| {
            let kind = wanted.get("type").and_then(Json::as_str);
            is_ours(item) || !kind.is_some_and(|kind| MANY.contains(&kind))
        },
    ];
    for round in rounds {
        for (slot, wanted) in found.iter_mut().zip(wanted) {
            if slot.is_some() {
                continue;
            }
            let mut fitting: Vec<(&Json, &str)> = there
                .iter()
                .filter(|item| same_name(item, wanted) && round(item, wanted))
                .filter_map(|item| Some((item, props::text(item, "id")?)))
                .filter(|(_, id)| !taken.contains(id))
                .collect();
            fitting.sort_by_key(|(item, _)| !is_ours(item));
            if let Some((item, id)) = fitting.first() {
                taken.push(id);
                *slot = Some(item);
            }
        }
    }
    found
}

/// A record of the zone's answer as it stands in the outputs.
fn output(record: &Json) -> Map {
    let mut out = Map::new();
    let fields = [
        ("id", "id"),
        ("type", "type"),
        ("name", "name"),
        ("content", "content"),
        ("ttl", "ttl"),
        ("proxied", "proxied"),
        ("priority", "priority"),
        ("comment", "comment"),
    ];
    props::copy(&mut out, record, &fields);
    out
}

fn outputs(zone: &str, records: &[&Json]) -> Map {
    let records = records.iter().map(|record| Value::Map(output(record)));
    Map::from([
        ("zoneId".to_owned(), Value::from(zone)),
        ("type".to_owned(), Value::from("dns_records")),
        ("records".to_owned(), Value::Array(records.collect())),
    ])
}

/// The ids of the records that state knows.
fn known_ids(outputs: &Map) -> Vec<&str> {
    let records = outputs.get("records").and_then(Value::as_array);
    records
        .unwrap_or_default()
        .iter()
        .filter_map(|record| text_prop(record.as_map()?, "id"))
        .collect()
}

#[async_trait]
impl Provider for DnsRecords {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        for (index, record) in given(&props).iter().enumerate() {
            let Some(record) = record.as_map() else {
                continue;
            };
            if record.contains_key("content") == record.contains_key("data") {
                let index = index.to_string();
                let path = ["records", index.as_str()];
                let message = "a record has either `content` or `data`";
                errors.push(props::mistake(&path, message, None));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Checked {
            known: Map::from([("type".to_owned(), Value::from("dns_records"))]),
            props,
            physical_name: context.id.clone(),
            explicit_name: false,
            identity: None,
        })
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let zone = props::known_output(&existing.outputs, "zoneId", context.fqn.as_str())?;
        let Some(there) = self.in_zone(context, zone).await? else {
            return Ok(None);
        };
        let ids = known_ids(&existing.outputs);
        let left: Vec<&Json> = ids
            .iter()
            .filter_map(|id| {
                there
                    .iter()
                    .find(|item| props::text(item, "id") == Some(id))
            })
            .collect();
        if left.is_empty() && !ids.is_empty() {
            return Ok(None);
        }
        Ok(Some(outputs(zone, &left)))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let zone = self.zone(context, props).await?;
        let wanted = self.wanted(context, props, &zone).await?;
        if wanted.is_empty() {
            return Ok(outputs(&zone.id, &[]));
        }
        let body = JsonMap::from_iter([("posts".to_owned(), json!(wanted))]);
        let result = self.batch(context, &zone.id, body).await?;
        let posted = result.get("posts").and_then(Json::as_array);
        let posted: Vec<&Json> = posted.into_iter().flatten().collect();
        Ok(outputs(&zone.id, &posted))
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let id = props::known_output(&existing.outputs, "zoneId", context.fqn.as_str())?;
        let zone = match self.zone(context, props).await? {
            zone if zone.id == id => zone,
            _ => ZoneName {
                id: id.to_owned(),
                domain: None,
            },
        };
        let wanted = self.wanted(context, props, &zone).await?;
        let there = self.in_zone(context, id).await?.unwrap_or_default();
        let ours = known_ids(&existing.outputs);
        let matched = matched(&there, &wanted, &ours);
        let kept: Vec<&str> = matched
            .iter()
            .flatten()
            .filter_map(|item| props::text(item, "id"))
            .collect();
        let deletes: Vec<Json> = there
            .iter()
            .filter_map(|item| props::text(item, "id"))
            .filter(|id| ours.contains(id) && !kept.contains(id))
            .map(|id| json!({ "id": id }))
            .collect();
        let (mut puts, mut posts) = (Vec::new(), Vec::new());
        for (wanted, item) in wanted.iter().zip(&matched) {
            match item {
                Some(item) if fits(item, wanted) && only_says(item, wanted) => {}
                Some(item) => {
                    let mut put = wanted.clone();
                    put.insert("id".to_owned(), item["id"].clone());
                    puts.push(Json::Object(put));
                }
                None => posts.push(Json::Object(wanted.clone())),
            }
        }
        let changes = [("deletes", deletes), ("puts", puts), ("posts", posts)];
        let body: JsonMap<String, Json> = changes
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name.to_owned(), json!(list)))
            .collect();
        if body.is_empty() {
            let same: Vec<&Json> = matched.into_iter().flatten().collect();
            return Ok(outputs(id, &same));
        }
        let result = self.batch(context, id, body).await?;
        let part = |name: &str| result.get(name).and_then(Json::as_array);
        let mut put = part("puts").into_iter().flatten();
        let mut posted = part("posts").into_iter().flatten();
        let records: Vec<&Json> = wanted
            .iter()
            .zip(&matched)
            .filter_map(|(wanted, item)| match item {
                Some(item) if fits(item, wanted) && only_says(item, wanted) => Some(*item),
                Some(_) => put.next(),
                None => posted.next(),
            })
            .collect();
        Ok(outputs(id, &records))
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let zone = props::known_output(&existing.outputs, "zoneId", context.fqn.as_str())?;
        let Some(there) = self.in_zone(context, zone).await? else {
            return Ok(());
        };
        let ours = known_ids(&existing.outputs);
        let deletes: Vec<Json> = there
            .iter()
            .filter_map(|item| props::text(item, "id"))
            .filter(|id| ours.contains(id))
            .map(|id| json!({ "id": id }))
            .collect();
        if deletes.is_empty() {
            return Ok(());
        }
        let body = JsonMap::from_iter([("deletes".to_owned(), json!(deletes))]);
        self.batch(context, zone, body).await.map(drop)
    }

    fn object_id(&self, physical_name: &str, outputs: &Map) -> String {
        look::object_id(physical_name, outputs)
    }

    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        match known {
            [] => self.in_zones(context, None).await.map(Some),
            known => self.observed(context, known).await,
        }
    }

    async fn candidates(
        &self,
        context: &OperationContext,
        wanted: &str,
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        self.in_zones(context, Some(wanted)).await.map(Some)
    }

    fn leave_unknown(&self, known: &[&Map], seen: &mut Observation) -> bool {
        all::leave_unknown(known, seen)
    }

    fn declarable(&self, seen: &Observation) -> Map {
        all::declarable(seen)
    }

    fn name_prop(&self) -> Option<&'static str> {
        None
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        look::compare(existing, seen)
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let zone = self.zone(context, props).await?;
        let wanted = self.wanted(context, props, &zone).await?;
        let there = self.in_zone(context, &zone.id).await?.unwrap_or_default();
        let found: Vec<&Json> = matched(&there, &wanted, &[])
            .into_iter()
            .flatten()
            .collect();
        if found.is_empty() {
            return Ok(None);
        }
        let oldest: Option<Timestamp> = found
            .iter()
            .filter_map(|item| props::moment(item, "created_on"))
            .min();
        Ok(Some(Found {
            outputs: outputs(&zone.id, &found),
            created_at: oldest,
            ours: None,
        }))
    }
}

/// Whether a record says nothing beside what is wanted, in the fields that are optional.
fn only_says(there: &Json, wanted: &Wanted) -> bool {
    ["comment", "tags", "proxied", "priority"]
        .iter()
        .all(|field| {
            wanted.contains_key(*field)
                || match there.get(*field) {
                    None | Some(Json::Null | Json::Bool(false)) => true,
                    Some(Json::Array(items)) => items.is_empty(),
                    Some(Json::String(text)) => text.is_empty(),
                    Some(_) => false,
                }
        })
}

#[cfg(test)]
mod tests;
