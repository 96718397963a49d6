//! `cloudflare::CustomDomain`: a host name of a zone that a Worker answers.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    by_id,
    client::{Call, Client},
    names::naming_prop,
    props,
    route::{worker_name, worker_prop},
    zone::is_domain,
    zones::{zone_of, zone_props},
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Claim, Declared, Difference, Existing, FailureKind, Found,
        Observation, OperationContext, PropError, Provider, ProviderError, observe, text_prop,
    },
    util::text,
};

pub(super) const KIND: &str = "cloudflare::CustomDomain";
pub(super) const PATH: &str = "workers/domains";
/// The stage whose domain has no prefix.
const PRODUCTION: &str = "prod";

/// The kind.
#[derive(Debug)]
pub struct CustomDomain {
    client: Arc<Client>,
    schema: KindSchema,
}

impl CustomDomain {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    async fn attach(
        &self,
        context: &OperationContext,
        props: &Map,
        host: &str,
    ) -> Result<Map, ProviderError> {
        let zone = zone_of(&self.client, context, props, host).await?;
        let worker = worker_name(props, "worker")?.unwrap_or_default();
        attach(&self.client, context, host, worker, &zone.id)
            .await
            .and_then(|(result, call)| outputs(&result, &call))
    }
}

/// What only one resource can have.
pub(super) fn claim(host: &str) -> Claim {
    Claim::new(format!("the custom domain `{host}`"))
}

/// Attaches a host to a Worker, wherever it was before; answers the result and the call.
pub(super) async fn attach(
    client: &Client,
    context: &OperationContext,
    host: &str,
    worker: &str,
    zone: &str,
) -> Result<(Json, String), ProviderError> {
    let body = json!({
        "hostname": host,
        "service": worker,
        "environment": "production",
        "zone_id": zone,
    });
    let call = Call::put(PATH).json(&body);
    let answer = client.call(context, &call).await?;
    Ok((answer.result, call.describe()))
}

/// What is there for a host name.
async fn look(
    client: &Client,
    context: &OperationContext,
    host: &str,
) -> Result<Option<Json>, ProviderError> {
    let call = Call::get(PATH).query("hostname", host);
    let answer = client.call(context, &call).await?;
    let items = answer.result.as_array().map_or(&[][..], Vec::as_slice);
    let found = items
        .iter()
        .find(|item| props::text(item, "hostname") == Some(host));
    Ok(found.cloned())
}

fn schema() -> KindSchema {
    let [zone_id, zone] = zone_props();
    KindSchema {
        kind: KIND.into(),
        doc: "A host name that a Worker answers.".to_owned(),
        props: vec![
            Prop::new(
                "name",
                PropType::String,
                "the host name; the id of the resource when it is not given",
            )
            .replaces(),
            worker_prop("worker", "the Worker that answers, or its name").required(),
            zone_id,
            zone,
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the id of the attachment"),
            Attribute::identity("name", "the host name"),
            Attribute::new("type", "`custom_domain`"),
            Attribute::new("worker", "the name of the Worker"),
            Attribute::new("zoneId", "the id of the zone"),
            Attribute::new("zoneName", "the domain of the zone"),
            Attribute::new("url", "the address"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 253,
    }
}

fn outputs(result: &Json, call: &str) -> Result<Map, ProviderError> {
    let host = props::needed_text(result, "hostname", call)?;
    let mut outputs = Map::from([
        (
            "id".to_owned(),
            Value::from(props::needed_text(result, "id", call)?),
        ),
        ("url".to_owned(), Value::from(format!("https://{host}"))),
        ("name".to_owned(), Value::from(host)),
        ("type".to_owned(), Value::from("custom_domain")),
    ]);
    props::copy(
        &mut outputs,
        result,
        &[
            ("service", "worker"),
            ("zone_id", "zoneId"),
            ("zone_name", "zoneName"),
        ],
    );
    Ok(outputs)
}

/// The host name: the given one, for a block outside production below the stage.
fn host(context: &CheckContext, props: &mut Map) -> Result<String, PropError> {
    let by_stage = text_prop(props, "naming") == Some("stage");
    props.remove("naming");
    let given = props::known_text(props, "name")?.unwrap_or(&context.id);
    let stage = context.stage.stage.plain();
    let host = if by_stage && stage != PRODUCTION {
        let label = text::made_name(&stage, 1..=63, false, context.fqn.as_str());
        format!("{label}.{given}")
    } else {
        given.to_owned()
    };
    let host = host.to_ascii_lowercase();
    if is_domain(&host) {
        return Ok(host);
    }
    Err(props::mistake(
        &["name"],
        format!("`{host}` is no host name"),
        "give `name` or the id as `api.example.com`".to_owned(),
    ))
}

#[async_trait]
impl Provider for CustomDomain {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let host = host(context, &mut props).map_err(|error| vec![error])?;
        Ok(Checked {
            known: Map::from([
                ("name".to_owned(), Value::from(host.as_str())),
                ("url".to_owned(), Value::from(format!("https://{host}"))),
                ("type".to_owned(), Value::from("custom_domain")),
            ]),
            explicit_name: props.contains_key("name"),
            identity: Some(format!("{KIND}:{host}")),
            props,
            physical_name: host,
        })
    }

    fn claims<'a>(&self, checked: &Checked, _declared: &Declared<'a>) -> Vec<Claim> {
        vec![claim(&checked.physical_name)]
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        by_id::read(&self.client, PATH, context, existing, outputs).await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let host = context.physical_name.as_str();
        // Attaching takes a host name from another Worker without a word.
        if let Some(there) = look(&self.client, context, host).await? {
            return Err(taken(host, &there));
        }
        self.attach(context, props, host).await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        self.attach(context, props, &existing.physical_name).await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        by_id::delete(&self.client, PATH, context, existing).await
    }

    fn lists_all(&self) -> bool {
        true
    }

    async fn list(
        &self,
        context: &OperationContext,
        _known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let call = Call::get(PATH);
        let answer = self.client.call(context, &call).await?;
        let items = answer.result.as_array().map_or(&[][..], Vec::as_slice);
        let observed = items.iter().map(|item| {
            let outputs = outputs(item, &call.describe())?;
            Ok(Observation {
                id: observe::object_id("", &outputs),
                physical_name: props::needed_text(item, "hostname", &call.describe())?,
                props: ["worker", "zoneId"]
                    .into_iter()
                    .filter_map(|prop| Some((prop.to_owned(), outputs.get(prop)?.clone())))
                    .collect(),
                outputs,
            })
        });
        observed.collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        let moved = observe::compare_output("worker", &existing.outputs, seen);
        moved.into_iter().collect()
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let found = look(&self.client, context, &context.physical_name).await?;
        found
            .map(|item| {
                Ok(Found {
                    outputs: outputs(&item, &Call::get(PATH).describe())?,
                    created_at: None,
                    ours: None,
                })
            })
            .transpose()
    }
}

/// The host name leads to a Worker already.
pub(super) fn taken(host: &str, there: &Json) -> ProviderError {
    let worker = props::text(there, "service").unwrap_or("another Worker");
    let mut error = ProviderError::new(
        FailureKind::Conflict,
        format!("`{host}` is a custom domain of the Worker `{worker}` already"),
    )
    .with_help("take it over with `CustomDomain(..)` and `adopt: true`, or choose another name");
    error.call = Some(Call::get(PATH).describe());
    error
}
