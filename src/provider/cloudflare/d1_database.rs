//! `cloudflare::D1Database`: a SQL database and its migrations.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    by_id,
    client::{Call, Client, encode},
    d1::{baseline, imports, migrations},
    error::after_creation,
    names::{NameRule, Naming, naming_prop},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, Found, Observation, OperationContext, PropError, Provider,
        ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::D1Database";
const PATH: &str = "d1/database";

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 63,
    underscores: true,
    free: false,
    words: "have 1 to 63 characters of `a-z`, `0-9`, `-` and `_`, and begin and end with a letter or digit",
};

/// The kind.
#[derive(Debug)]
pub struct D1Database {
    client: Arc<Client>,
    schema: KindSchema,
}

impl D1Database {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    /// Migrates the database and imports what it has not got.
    async fn fill(
        &self,
        context: &OperationContext,
        id: &str,
        before: Option<&Existing>,
        props: &Map,
    ) -> Result<(), ProviderError> {
        migrations::apply(&self.client, context, id, props, before.is_none()).await?;
        imports::apply(&self.client, context, id, before, props).await
    }
}

fn schema() -> KindSchema {
    let replication = vec![
        Prop::new(
            "mode",
            PropType::OneOf(&["auto", "disabled"]),
            "whether reads may go to copies",
        )
        .required(),
    ];
    KindSchema {
        kind: KIND.into(),
        doc: "A D1 database.".to_owned(),
        props: vec![
            Prop::new(
                "name",
                PropType::String,
                "the name, used exactly as written",
            )
            .replaces(),
            Prop::new(
                "migrations",
                PropType::String,
                "folder with `*.sql` files that are applied in order, once each",
            ),
            Prop::new(
                "migrationsDir",
                PropType::String,
                "another word for `migrations`",
            ),
            Prop {
                default: Some(Value::from(migrations::DEFAULT_TABLE)),
                ..Prop::new(
                    "migrationsTable",
                    PropType::String,
                    "table in which applied migrations are recorded",
                )
            },
            Prop::new(
                "baseline",
                PropType::Either(vec![PropType::Bool, PropType::String]),
                "which migrations count as applied to a database that has tables and no record of migrations: those up to this file, all (`true`), none (`false`)",
            ),
            Prop::new(
                "importFiles",
                PropType::List(Box::new(PropType::String)),
                "SQL files that are imported in this order after the migrations, each content once (table `d1_imports` records them); a file that changes after its import is refused",
            ),
            Prop::new(
                "primaryLocationHint",
                PropType::OneOf(&["wnam", "enam", "weur", "eeur", "apac", "oc"]),
                "where the database should be",
            )
            .replaces(),
            Prop::new(
                "jurisdiction",
                PropType::OneOf(&["eu", "fedramp"]),
                "where the data must stay",
            )
            .replaces(),
            Prop::new(
                "readReplication",
                PropType::Object(replication),
                "copies of the database for reading",
            ),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the UUID of the database"),
            Attribute::identity("name", "the name"),
            Attribute::new("type", "`d1`"),
            Attribute::new("jurisdiction", "where the data must stay"),
            Attribute::new("createdAt", "when it was made"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::HoldsData,
        name_limit: NAMES.limit,
    }
}

fn outputs(result: &Json, call: &str) -> Result<Map, ProviderError> {
    let mut outputs = Map::from([
        (
            "id".to_owned(),
            Value::from(props::needed_text(result, "uuid", call)?),
        ),
        (
            "name".to_owned(),
            Value::from(props::needed_text(result, "name", call)?),
        ),
        ("type".to_owned(), Value::from("d1")),
    ]);
    props::copy(
        &mut outputs,
        result,
        &[
            ("created_at", "createdAt"),
            ("jurisdiction", "jurisdiction"),
        ],
    );
    Ok(outputs)
}

/// Lists leave the replication out, and an answer about one database shows it.
fn observation(result: &Json, call: &str) -> Result<Observation, ProviderError> {
    let outputs = outputs(result, call)?;
    let mut seen = Map::new();
    props::copy(&mut seen, result, &[("jurisdiction", "jurisdiction")]);
    if let Some(mode) = result
        .pointer("/read_replication/mode")
        .and_then(Json::as_str)
    {
        let mode = Map::from([("mode".to_owned(), Value::from(mode))]);
        seen.insert("readReplication".to_owned(), Value::Map(mode));
    }
    Ok(Observation {
        id: props::needed_text(result, "uuid", call)?,
        physical_name: props::needed_text(result, "name", call)?,
        outputs,
        props: seen,
    })
}

#[async_trait]
impl Provider for D1Database {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        let files = props::merge_alias(&mut props, "migrations", "migrationsDir")
            .and_then(|()| migrations::normalise(&context.folder, &context.access, &mut props))
            .and_then(|()| baseline::normalise(&mut props));
        let imports = imports::normalise(&context.folder, &context.access, &mut props);
        errors.extend([files, imports].into_iter().filter_map(Result::err));
        match NAMES.resolve(context, &mut props, "name") {
            Ok(name) if errors.is_empty() => Ok(name.checked(KIND, "d1", &["name"], props)),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(error);
                Err(errors)
            }
        }
    }

    fn refuse(&self, prior: &Map, next: &Map) -> Result<(), ProviderError> {
        migrations::refuse_rewritten(prior, next)?;
        imports::refuse_rewritten(prior, next)
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        by_id::read(&self.client, PATH, context, existing, outputs).await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let mut body = json!({ "name": context.physical_name });
        // A jurisdiction decides the place, and the API takes no hint beside it.
        if let Some(place) = text_prop(props, "jurisdiction") {
            body["jurisdiction"] = json!(place);
        } else if let Some(hint) = text_prop(props, "primaryLocationHint") {
            body["primary_location_hint"] = json!(hint);
        }
        if let Some(replication) = props::json_prop(props, "readReplication")? {
            body["read_replication"] = replication;
        }
        let call = Call::post(PATH).json(&body);
        let answer = self.client.call(context, &call).await?;
        let outputs = outputs(&answer.result, &call.describe())?;
        let id = props::known_output(&outputs, "id", context.fqn.as_str())?;
        self.fill(context, id, None, props).await.map_err(|error| {
            after_creation(
                &format!("the D1 database `{}`", context.physical_name),
                error,
            )
        })?;
        Ok(outputs)
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        self.refuse(&existing.props, props)?;
        let before = existing.widest().contains_key("readReplication");
        let now = props::json_prop(props, "readReplication")?;
        // Sent even when it looks unchanged: an update that failed half-way may have left another mode behind.
        if now.is_some() || before {
            let replication = now.unwrap_or_else(|| json!({ "mode": "disabled" }));
            let call = Call::patch(format!("{PATH}/{}", encode(id)))
                .json(&json!({ "read_replication": replication }));
            self.client.call(context, &call).await?;
        }
        // Asked of the database and not of the last props: an interrupted creation may have left some undone.
        self.fill(context, id, Some(existing), props).await?;
        Ok(existing.outputs.clone())
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
        let items = self.client.all_in_pages(context, &call, 1000).await?;
        items
            .iter()
            .map(|item| observation(item, &call.describe()))
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    async fn observe(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Observation>, ProviderError> {
        let id = self.object_id(&existing.physical_name, &existing.outputs);
        let call = Call::get(format!("{PATH}/{}", encode(&id)));
        let answer = self.client.look(context, &call).await?;
        answer
            .map(|answer| observation(&answer.result, &call.describe()))
            .transpose()
    }

    fn declarable(&self, seen: &Observation) -> Map {
        let mut props = seen.props.clone();
        let mode =
            props::map_prop(&props, "readReplication").and_then(|map| text_prop(map, "mode"));
        if mode == Some("disabled") {
            props.remove("readReplication");
        }
        props
    }

    fn unseen(&self) -> &'static [&'static str] {
        &["migrations", "importFiles"]
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let name = context.physical_name.as_str();
        // The filter of the API matches parts of names too.
        let call = Call::get(PATH).query("name", name);
        let found = self
            .client
            .find_in_pages(context, &call, 1000, |item| {
                (props::text(item, "name") == Some(name)).then(|| item.clone())
            })
            .await?;
        found
            .map(|item| {
                Ok(Found {
                    outputs: outputs(&item, &call.describe())?,
                    created_at: props::moment(&item, "created_at"),
                    ours: None,
                })
            })
            .transpose()
    }

    /// Gigabytes are uploaded and then run.
    fn timeout(&self) -> Duration {
        Duration::from_secs(60 * 60)
    }
}

#[cfg(test)]
mod tests;
