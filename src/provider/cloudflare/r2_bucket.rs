//! `cloudflare::R2Bucket`: an object storage bucket with its rules and its public development address.

mod domains;
mod notifications;
mod observe;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client, encode},
    error::after_creation,
    names::{NameRule, Naming, naming_prop},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Difference, Existing, FailureKind, Found, Observation,
        OperationContext, PropError, Provider, ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::R2Bucket";
pub(super) const PATH: &str = "r2/buckets";
/// Rounds of listing and deleting while a bucket is emptied, 1000 objects each.
const EMPTY_ROUNDS: usize = 100_000;
/// Buckets whose settings are read at once.
const AT_ONCE: usize = 4;

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 3,
    limit: 63,
    underscores: false,
    free: false,
    words: "have 3 to 63 characters of `a-z`, `0-9` and `-`, and neither begin nor end with `-`",
};

/// The kind.
#[derive(Debug)]
pub struct R2Bucket {
    client: Arc<Client>,
    schema: KindSchema,
}

impl R2Bucket {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    /// Brings rules and development address to what `props` says. `before` is what was given last time, `None` for a
    /// new bucket.
    async fn configure(
        &self,
        context: &OperationContext,
        bucket: &str,
        props: &Map,
        before: Option<&Map>,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let path = |what: &str| format!("{PATH}/{}/{what}", encode(bucket));
        let place = jurisdiction(props);
        let had = |prop: &str| before.is_some_and(|before| before.contains_key(prop));
        let send = async |call: Call| {
            let call = within(call, place).visible_late(before.is_none());
            self.client.call(context, &call).await
        };
        for rules in ["cors", "lifecycle", "lock"] {
            if let Some(list) = props::json_prop(props, rules)? {
                send(Call::put(path(rules)).json(&json!({ "rules": list }))).await?;
            } else if had(rules) {
                let none = match rules {
                    "cors" => Call::delete(path(rules)),
                    _ => Call::put(path(rules)).json(&json!({ "rules": [] })),
                };
                send(none).await?;
            }
        }
        let wanted = props.get("devDomain").and_then(Value::as_bool);
        if wanted.is_some() || had("devDomain") {
            let enabled = wanted.unwrap_or(false);
            let call = Call::put(path("domains/managed")).json(&json!({ "enabled": enabled }));
            let answer = send(call).await?;
            outputs.remove("domain");
            outputs.remove("url");
            if enabled {
                self.address(&answer.result, outputs);
            }
        }
        domains::apply(&self.client, context, bucket, place, props, before).await?;
        notifications::apply(&self.client, context, bucket, place, props, before).await
    }

    async fn empty(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let bucket = existing.physical_name.as_str();
        let place = jurisdiction(&existing.props);
        let path = format!("{PATH}/{}/objects", encode(bucket));
        let mut removed = 0;
        for _ in 0..EMPTY_ROUNDS {
            let list = within(Call::get(path.as_str()).query("per_page", "1000"), place);
            let answer = self.client.call(context, &list).await?;
            let keys: Vec<&str> = answer
                .result
                .as_array()
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .filter_map(|object| props::text(object, "key"))
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            let call = within(Call::delete(path.as_str()).json(&json!(keys)), place);
            self.client.call(context, &call).await?;
            removed += keys.len();
            (context.progress)(&format!("removed {removed} objects from `{bucket}`"));
        }
        Err(ProviderError::new(
            FailureKind::Refused,
            format!("`{bucket}` does not get empty: objects are added faster than removed"),
        )
        .with_help("stop what writes to it, then run again"))
    }

    async fn look(
        &self,
        context: &OperationContext,
        bucket: &str,
        props: &Map,
    ) -> Result<Option<Json>, ProviderError> {
        let call = within(
            Call::get(format!("{PATH}/{}", encode(bucket))),
            jurisdiction(props),
        );
        let answer = self.client.look(context, &call).await?;
        Ok(answer.map(|answer| answer.result))
    }

    /// Keeps the development address that the API answers with.
    fn address(&self, result: &Json, outputs: &mut Map) {
        if let Some(domain) = props::text(result, "domain") {
            let (host, url) = self.client.bucket_address(domain);
            outputs.insert("domain".to_owned(), host.into());
            outputs.insert("url".to_owned(), url.into());
        }
    }

    async fn managed_domain(
        &self,
        context: &OperationContext,
        bucket: &str,
        props: &Map,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        if props.get("devDomain").and_then(Value::as_bool) != Some(true) {
            return Ok(());
        }
        let call = within(
            Call::get(format!("{PATH}/{}/domains/managed", encode(bucket))),
            jurisdiction(props),
        );
        match self.client.call(context, &call).await {
            Ok(answer) => {
                if answer.result.get("enabled").and_then(Json::as_bool) == Some(true) {
                    self.address(&answer.result, outputs);
                }
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn schema() -> KindSchema {
    let texts = || PropType::List(Box::new(PropType::String));
    let allowed = vec![
        Prop::new("origins", texts(), "origins that may ask").required(),
        Prop::new("methods", texts(), "methods that they may use").required(),
        Prop::new("headers", texts(), "headers that they may send"),
    ];
    let cors = vec![
        Prop::new("id", PropType::String, "a name for the rule"),
        Prop::new("allowed", PropType::Object(allowed), "what is allowed").required(),
        Prop::new(
            "exposeHeaders",
            texts(),
            "headers that a browser shows to the page",
        ),
        Prop::new(
            "maxAgeSeconds",
            PropType::Integer {
                min: 0,
                max: 86_400,
            },
            "how long a browser keeps the answer",
        ),
    ];
    let rules = || PropType::List(Box::new(PropType::Any));
    KindSchema {
        kind: KIND.into(),
        doc: "An R2 bucket.".to_owned(),
        props: vec![
            Prop::new(
                "name",
                PropType::String,
                "the name, used exactly as written",
            )
            .replaces(),
            Prop::new(
                "locationHint",
                PropType::OneOf(&["apac", "eeur", "enam", "weur", "wnam", "oc"]),
                "where the bucket should be",
            )
            .replaces(),
            Prop::new(
                "jurisdiction",
                PropType::OneOf(&["default", "eu", "fedramp"]),
                "where the data must stay",
            )
            .replaces(),
            Prop::new(
                "storageClass",
                PropType::OneOf(&["Standard", "InfrequentAccess"]),
                "the storage class of new objects",
            ),
            Prop::new(
                "cors",
                PropType::List(Box::new(PropType::Object(cors))),
                "rules for requests of browsers from other origins",
            ),
            Prop::new(
                "lifecycle",
                rules(),
                "rules that remove or move objects after a time, as Cloudflare's API takes them",
            ),
            Prop::new(
                "lock",
                rules(),
                "rules that keep objects from being changed, as Cloudflare's API takes them",
            ),
            Prop::new(
                "devDomain",
                PropType::Bool,
                "whether everybody can read the bucket at its r2.dev address",
            ),
            Prop::new(
                "allowPublicAccess",
                PropType::Bool,
                "another word for `devDomain`",
            ),
            domains::prop(),
            notifications::prop(),
            Prop::new(
                "empty",
                PropType::Bool,
                "whether a delete removes the objects first",
            ),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("name", "the name"),
            Attribute::identity("jurisdiction", "where the data must stay"),
            Attribute::new("type", "`r2_bucket`"),
            Attribute::new("location", "where the bucket is"),
            Attribute::new("creationDate", "when it was made"),
            Attribute::new("storageClass", "the storage class of new objects"),
            Attribute::new("domain", "the public development address, where it is open"),
            Attribute::new("url", "the same with its scheme"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::HoldsData,
        name_limit: NAMES.limit,
    }
}

fn jurisdiction(props: &Map) -> Option<&str> {
    text_prop(props, "jurisdiction").filter(|place| *place != "default")
}

/// Buckets of a jurisdiction have a name space of their own, which a header selects.
pub(super) fn within(call: Call, jurisdiction: Option<&str>) -> Call {
    match jurisdiction {
        Some(place) => call.header("cf-r2-jurisdiction", place),
        None => call,
    }
}

/// What tells a bucket from all others: its name, and where that is not enough the jurisdiction before it.
fn object_id(jurisdiction: Option<&str>, name: &str) -> String {
    match jurisdiction {
        Some(place) => format!("{place}/{name}"),
        None => name.to_owned(),
    }
}

fn outputs(result: &Json, name: &str, props: &Map) -> Map {
    let mut outputs = Map::from([
        ("name".to_owned(), Value::from(name)),
        ("type".to_owned(), Value::from("r2_bucket")),
        (
            "jurisdiction".to_owned(),
            Value::from(text_prop(props, "jurisdiction").unwrap_or("default")),
        ),
    ]);
    props::copy(
        &mut outputs,
        result,
        &[
            ("location", "location"),
            ("creation_date", "creationDate"),
            ("storage_class", "storageClass"),
        ],
    );
    outputs
}

#[async_trait]
impl Provider for R2Bucket {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        if let Err(error) = props::merge_alias(&mut props, "devDomain", "allowPublicAccess") {
            errors.push(error);
        }
        domains::normalise(&mut props, &mut errors);
        notifications::normalise(&props, &mut errors);
        notifications::check(&props, &mut errors);
        let name = match NAMES.resolve(context, &mut props, "name") {
            Ok(name) => name,
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let place = text_prop(&props, "jurisdiction").unwrap_or("default");
        Ok(Checked {
            known: Map::from([
                ("name".to_owned(), Value::from(name.physical.as_str())),
                ("type".to_owned(), Value::from("r2_bucket")),
                ("jurisdiction".to_owned(), Value::from(place)),
            ]),
            identity: Some(match place {
                "default" => format!("{KIND}:{}", name.physical),
                other => format!("{KIND}:{other}:{}", name.physical),
            }),
            props,
            physical_name: name.physical,
            explicit_name: name.explicit,
        })
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let name = existing.physical_name.as_str();
        let Some(result) = self.look(context, name, &existing.props).await? else {
            return Ok(None);
        };
        let mut outputs = outputs(&result, name, &existing.props);
        self.managed_domain(context, name, &existing.props, &mut outputs)
            .await?;
        Ok(Some(outputs))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let name = context.physical_name.as_str();
        let mut body = json!({ "name": name });
        for key in ["locationHint", "storageClass"] {
            if let Some(value) = text_prop(props, key) {
                body[key] = json!(value);
            }
        }
        let call = within(Call::post(PATH).json(&body), jurisdiction(props));
        let answer = self.client.call(context, &call).await?;
        let mut outputs = outputs(&answer.result, name, props);
        self.configure(context, name, props, None, &mut outputs)
            .await
            .map_err(|error| after_creation(&format!("the R2 bucket `{name}`"), error))?;
        Ok(outputs)
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let name = existing.physical_name.as_str();
        let mut outputs = existing.outputs.clone();
        let class = text_prop(props, "storageClass").unwrap_or("Standard");
        let known = text_prop(&existing.outputs, "storageClass").unwrap_or("Standard");
        let before = existing.widest();
        // An update that was cut short may have set what the script does not ask for any more.
        let unsure = !existing.settled && !existing.props.is_empty()
            || existing.attempted.contains_key("storageClass");
        if class != known || unsure {
            let call = Call::patch(format!("{PATH}/{}", encode(name)))
                .header("cf-r2-storage-class", class);
            self.client
                .call(context, &within(call, jurisdiction(props)))
                .await?;
            outputs.insert("storageClass".to_owned(), Value::from(class));
        }
        self.configure(context, name, props, Some(&before), &mut outputs)
            .await?;
        Ok(outputs)
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        if existing.props.get("empty").and_then(Value::as_bool) == Some(true) {
            match self.empty(context, existing).await {
                Err(error) if error.kind == FailureKind::NotFound => return Ok(()),
                other => other?,
            }
        }
        let (name, place) = (
            existing.physical_name.as_str(),
            jurisdiction(&existing.props),
        );
        let props = existing.widest();
        domains::remove(&self.client, context, name, place, &props).await?;
        notifications::remove(&self.client, context, name, place, &props).await?;
        let call = within(Call::delete(format!("{PATH}/{}", encode(name))), place);
        self.client.look(context, &call).await.map(drop)
    }

    fn object_id(&self, physical_name: &str, outputs: &Map) -> String {
        object_id(jurisdiction(outputs), physical_name)
    }

    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        // Each jurisdiction has a list of its own. Where state knows of none, those are listed that every account has.
        let mut places: Vec<Option<&str>> = known
            .iter()
            .map(|existing| jurisdiction(&existing.outputs))
            .collect();
        if places.is_empty() {
            places = vec![None, Some("eu")];
        }
        places.sort_unstable();
        places.dedup();
        let mut out = Vec::new();
        for place in places {
            let call = within(Call::get(PATH).query("per_page", "1000"), place);
            let buckets = self
                .client
                .all_behind_cursors(context, &call, Some("buckets"))
                .await?;
            for bucket in &buckets {
                let name = props::needed_text(bucket, "name", &call.describe())?;
                let mut seen = Map::new();
                props::copy(&mut seen, bucket, &[("storage_class", "storageClass")]);
                if let Some(place) = place {
                    seen.insert("jurisdiction".to_owned(), Value::from(place));
                }
                out.push(Observation {
                    id: object_id(place, &name),
                    outputs: outputs(bucket, &name, &seen),
                    physical_name: name,
                    props: seen,
                });
            }
        }
        // No list has the other settings: each that a script declares is asked for.
        let declared = |seen: &Observation| {
            let known = known
                .iter()
                .find(|known| self.object_id(&known.physical_name, &known.outputs) == seen.id);
            known.map(|known| &known.props)
        };
        let out = stream::iter(out)
            .map(|mut seen| async move {
                if let Some(props) = declared(&seen) {
                    let place = seen.props.clone();
                    let wanted = |setting: &str| observe::declares(props, setting);
                    self.complete(context, jurisdiction(&place), wanted, &mut seen)
                        .await?;
                }
                Ok::<_, ProviderError>(seen)
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Some(out))
    }

    async fn observe(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Observation>, ProviderError> {
        let (name, props) = (existing.physical_name.as_str(), &existing.props);
        let Some(result) = self.look(context, name, props).await? else {
            return Ok(None);
        };
        let mut shown = Map::new();
        props::copy(&mut shown, &result, &[("storage_class", "storageClass")]);
        let place = jurisdiction(props);
        if let Some(place) = place {
            shown.insert("jurisdiction".to_owned(), Value::from(place));
        }
        let mut seen = Observation {
            id: object_id(place, name),
            physical_name: name.to_owned(),
            outputs: outputs(&result, name, props),
            props: shown,
        };
        self.complete(context, place, |_| true, &mut seen).await?;
        Ok(Some(seen))
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        observe::compare(existing, seen)
    }

    fn declarable(&self, seen: &Observation) -> Map {
        let mut props = seen.props.clone();
        if text_prop(&props, "storageClass") == Some("Standard") {
            props.remove("storageClass");
        }
        observe::without_own(&mut props);
        props
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let name = context.physical_name.as_str();
        let Some(result) = self.look(context, name, props).await? else {
            return Ok(None);
        };
        let created_at = props::moment(&result, "creation_date");
        let mut outputs = outputs(&result, name, props);
        self.managed_domain(context, name, props, &mut outputs)
            .await?;
        Ok(Some(Found {
            outputs,
            created_at,
            ours: None,
        }))
    }
}

#[cfg(test)]
mod tests;
