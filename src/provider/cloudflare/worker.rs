//! `cloudflare::Worker`: a Worker from inline code or JavaScript modules, with bindings, address and schedules.

mod assets;
mod bindings;
mod bound;
mod bundling;
mod changes;
mod consumers;
mod content;
mod domains;
pub(super) mod files;
mod graph;
mod handover;
mod held;
mod import;
mod imports;
mod leads;
mod metadata;
mod migrations;
mod modules;
mod objects;
mod observe;
mod plain_bindings;
mod refused;
mod routes;
mod schema;
#[cfg(test)]
mod tests;
mod workflows;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use self::{
    changes::Changes,
    migrations::Known,
    modules::{Module, Sources},
};
use super::{
    client::{Call, Client, encode},
    error::{ApiError, after_change, after_creation},
    multipart::Part,
    names::{NameRule, Naming},
    props,
};
use crate::{
    bundle::Bundler,
    model::{KindSchema, Map, PropType, Value},
    provider::{
        CheckContext, Checked, Claim, Content, Declared, Difference, Existing, FailureKind, Found,
        Observation, OperationContext, PropError, Provider, ProviderError, text_prop,
    },
};

pub use plain_bindings::MARK;

pub(super) const KIND: &str = "cloudflare::Worker";

const NAMES: NameRule = NameRule {
    naming: Naming::Stage,
    least: 1,
    limit: 63,
    underscores: false,
    free: false,
    words: "have 1 to 63 characters of `a-z`, `0-9` and `-`, and neither begin nor end with `-`",
};

/// The kind.
#[derive(Debug)]
pub struct Worker {
    client: Arc<Client>,
    bundler: Arc<dyn Bundler>,
    schema: KindSchema,
    /// The account's part of the addresses of its Workers, asked for once.
    subdomain: OnceCell<String>,
}

/// What is known of a Worker that is there.
struct Seen {
    outputs: Map,
    tags: Vec<String>,
    created_at: Option<Timestamp>,
}

impl Worker {
    /// The kind over `client`, whose code goes through `bundler` where it must.
    #[must_use]
    pub fn new(client: Arc<Client>, bundler: Arc<dyn Bundler>) -> Self {
        Self {
            client,
            bundler,
            schema: schema::schema(NAMES.limit),
            subdomain: OnceCell::new(),
        }
    }

    async fn get(
        &self,
        context: &OperationContext,
        path: String,
    ) -> Result<Option<Json>, ProviderError> {
        let answer = self.client.look(context, &Call::get(path)).await?;
        Ok(answer.map(|answer| answer.result))
    }

    async fn settings(
        &self,
        context: &OperationContext,
        name: &str,
    ) -> Result<Json, ProviderError> {
        let settings = self.get(context, path(name, "/settings")).await?;
        Ok(settings.unwrap_or_default())
    }

    /// The address of a Worker on the account's subdomain.
    async fn address(
        &self,
        context: &OperationContext,
        name: &str,
    ) -> Result<String, ProviderError> {
        let subdomain = self
            .subdomain
            .get_or_try_init(|| async {
                let call = Call::get("workers/subdomain");
                let answer = self.client.call(context, &call).await?;
                props::needed_text(&answer.result, "subdomain", &call.describe())
            })
            .await?;
        Ok(self.client.worker_url(name, subdomain))
    }

    /// The modules, read and bundled on a thread that may block.
    async fn modules(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Vec<Module>, ProviderError> {
        let (folder, access) = (Arc::clone(&context.folder), Arc::clone(&context.access));
        let (bundler, props) = (Arc::clone(&self.bundler), props.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let sources = Sources {
                folder: &folder,
                access: &access,
                bundler: &*bundler,
            };
            modules::load(&sources, &props)
        });
        loading.await.unwrap_or_else(|error| {
            let message = format!("the modules cannot be read: {error}");
            Err(ProviderError::new(FailureKind::Refused, message))
        })
    }

    /// Uploads code and metadata. `before` are the outputs of the Worker that is there; none when there is none.
    async fn upload(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: Option<&Map>,
        existing: Option<&Existing>,
    ) -> Result<Map, ProviderError> {
        let migration = self.migration(context, name, props, before).await?;
        let modules = self.modules(context, props).await?;
        let main = modules
            .first()
            .map(|module| module.name.clone())
            .unwrap_or_default();
        migration.refuse_absent(&modules, props)?;
        let mut metadata = metadata::metadata(context, props, &main)?;
        self.with_assets(context, name, props, existing, &mut metadata)
            .await?;
        migration.write(&mut metadata);
        let mut parts = vec![Part {
            name: "metadata".to_owned(),
            file_name: None,
            content_type: "application/json".to_owned(),
            content: metadata.to_string().into(),
        }];
        parts.extend(modules.into_iter().map(|module| Part {
            file_name: Some(module.name.clone()),
            name: module.name,
            content_type: module.content_type.to_owned(),
            content: module.content.into(),
        }));
        // What was bound a moment ago may not be visible everywhere yet.
        let call = |parts: &[Part]| {
            Call::put(path(name, ""))
                .multipart(parts)
                .settling(|error: &ApiError| {
                    error.status == 404
                        || error.status == 400 && error.message.contains("failed to generate")
                })
        };
        let answer = match self.client.call(context, &call(&parts)).await {
            Err(error)
                if migrations::is_refused(&error)
                    && self.is_migrated(context, name, props, &migration).await? =>
            {
                // The tags of the metadata say where it led; only the way there is not to be gone again.
                if let Some(fields) = metadata.as_object_mut() {
                    fields.remove("migrations");
                }
                if let Some(part) = parts.first_mut() {
                    part.content = metadata.to_string().into();
                }
                self.client.call(context, &call(&parts)).await
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| refused::upload(context, props, error))?;
        let mut outputs = base_outputs(name);
        props::copy(
            &mut outputs,
            &answer.result,
            &[
                ("created_on", "createdAt"),
                ("modified_on", "updatedAt"),
                ("etag", "etag"),
            ],
        );
        // The upload calls the new version `deployment_id`, without hyphens.
        let version = props::text(&answer.result, "deployment_id")
            .and_then(|id| uuid::Uuid::parse_str(id).ok());
        if let Some(version) = version {
            outputs.insert("versionId".to_owned(), Value::from(version.to_string()));
        }
        if let Some(objects) = migration.output() {
            outputs.insert(migrations::OUTPUT.to_owned(), objects);
        }
        Ok(outputs)
    }

    /// Address and schedules, which are not part of the upload. `before` is the Worker that was there.
    async fn configure(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: Option<&Existing>,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let changes = before.map_or_else(Changes::all, |before| Changes::between(before, props));
        let is_set = |prop: &str| props.get(prop).and_then(Value::as_bool);
        let now = is_set("url") != Some(false);
        let previews = is_set("previewSubdomains") == Some(true);
        if changes.address && (now || previews || before.is_some()) {
            let body = json!({ "enabled": now, "previews_enabled": previews });
            let call = Call::post(path(name, "/subdomain"))
                .idempotent()
                .json(&body)
                .settling(ApiError::is_not_found);
            self.client.call(context, &call).await?;
        }
        if now {
            let known = before
                .filter(|_| !changes.address)
                .and_then(|before| text_prop(&before.outputs, "url"));
            let url = match known {
                Some(url) => url.to_owned(),
                None => self.address(context, name).await?,
            };
            outputs.insert("url".to_owned(), Value::from(url));
        } else {
            outputs.remove("url");
        }
        let crons = crons(props);
        if changes.schedules && (!crons.is_empty() || before.is_some()) {
            self.schedule(context, name, &crons).await?;
        }
        Ok(())
    }

    /// Routes and custom domains.
    async fn lead_here(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: Option<&Map>,
    ) -> Result<(), ProviderError> {
        routes::apply(&self.client, context, name, props, before).await?;
        domains::apply(&self.client, context, name, props, before).await
    }

    /// Refuses what leads to another Worker for good, before anything changes.
    async fn refuse_taken(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: Option<&Map>,
    ) -> Result<(), ProviderError> {
        routes::refuse_taken(&self.client, context, name, props, before).await?;
        domains::refuse_taken(&self.client, context, name, props, before).await
    }

    async fn schedule(
        &self,
        context: &OperationContext,
        name: &str,
        crons: &[&str],
    ) -> Result<(), ProviderError> {
        let body: Vec<Json> = crons.iter().map(|cron| json!({ "cron": cron })).collect();
        let call = Call::put(path(name, "/schedules"))
            .json(&json!(body))
            .settling(ApiError::is_not_found);
        self.client.call(context, &call).await?;
        Ok(())
    }

    async fn look(
        &self,
        context: &OperationContext,
        name: &str,
        recorded: &[Known],
    ) -> Result<Option<Seen>, ProviderError> {
        let service = format!("workers/services/{}", encode(name));
        let Some(service) = self.get(context, service).await? else {
            return Ok(None);
        };
        let settings = self.settings(context, name).await?;
        let mut outputs = base_outputs(name);
        let objects = self.all_objects(context, name, (&service, &settings), recorded);
        if let Some(objects) = objects.await?.output() {
            outputs.insert(migrations::OUTPUT.to_owned(), objects);
        }
        let script = service
            .pointer("/default_environment/script")
            .unwrap_or(&service);
        props::copy(
            &mut outputs,
            script,
            &[("created_on", "createdAt"), ("modified_on", "updatedAt")],
        );
        let subdomain = self.get(context, path(name, "/subdomain")).await?;
        let enabled = subdomain.as_ref().and_then(|answer| answer.get("enabled"));
        if enabled.and_then(Json::as_bool) == Some(true) {
            let url = self.address(context, name).await?;
            outputs.insert("url".to_owned(), Value::from(url));
        }
        let deployments = self.get(context, path(name, "/deployments")).await?;
        let version = deployments
            .as_ref()
            .and_then(|answer| answer.pointer("/deployments/0/versions/0/version_id"))
            .and_then(Json::as_str);
        if let Some(version) = version {
            outputs.insert("versionId".to_owned(), Value::from(version));
        }
        Ok(Some(Seen {
            tags: tags(&settings),
            created_at: props::moment(script, "created_on"),
            outputs,
        }))
    }
}

/// The type of a prop that names a Worker: a handle, which also says that the Worker must be there first, or a name.
pub(super) fn named() -> PropType {
    PropType::Either(vec![PropType::Resource(&[KIND]), PropType::String])
}

fn path(name: &str, below: &str) -> String {
    format!("workers/scripts/{}{below}", encode(name))
}

fn base_outputs(name: &str) -> Map {
    Map::from([
        ("id".to_owned(), Value::from(name)),
        ("name".to_owned(), Value::from(name)),
        ("type".to_owned(), Value::from("worker")),
    ])
}

fn tags(settings: &Json) -> Vec<String> {
    let tags = settings.get("tags").and_then(Json::as_array);
    tags.into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect()
}

fn crons(props: &Map) -> Vec<&str> {
    let list = props.get("crons").and_then(Value::as_array);
    list.unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// Whether the tags of a Worker say that `context`'s resource made it.
fn ours(context: &OperationContext, tags: &[String]) -> Option<bool> {
    let mark = metadata::mark(&context.fqn);
    if tags.contains(&mark) {
        return Some(true);
    }
    tags.iter()
        .any(|tag| tag.starts_with(metadata::MARK))
        .then_some(false)
}

#[async_trait]
impl Provider for Worker {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        let sources = Sources {
            folder: &context.folder,
            access: &context.access,
            bundler: &*self.bundler,
        };
        assets::normalise(&context.folder, &context.access, &mut props, &mut errors);
        modules::normalise(&sources, &mut props, &mut errors);
        bindings::normalise(&mut props, &mut errors);
        routes::normalise(&mut props, &mut errors);
        domains::normalise(&mut props, &mut errors);
        schema::normalise(&mut props, &mut errors);
        consumers::normalise(&props, &mut errors);
        match NAMES.resolve(context, &mut props, "name") {
            Ok(name) if errors.is_empty() => Ok(Checked {
                known: base_outputs(&name.physical),
                props,
                identity: Some(format!("{KIND}:{}", name.physical)),
                physical_name: name.physical,
                explicit_name: name.explicit,
            }),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(error);
                Err(errors)
            }
        }
    }

    fn claims<'a>(&self, checked: &Checked, declared: &Declared<'a>) -> Vec<Claim> {
        let props = &checked.props;
        let claims = routes::claims(props).chain(domains::claims(props));
        let claims = claims.chain(consumers::claims(props));
        claims.chain(workflows::claims(props, declared)).collect()
    }

    fn holds(&self, props: &Map, outputs: &Map, kind: &str, seen: &Observation) -> bool {
        held::holds(props, outputs, kind, seen)
    }

    fn losses(&self, outputs: &Map, next: Option<&Map>) -> Vec<String> {
        migrations::losses(outputs, next)
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let recorded = migrations::recorded(&existing.outputs);
        let seen = self
            .look(context, &existing.physical_name, &recorded)
            .await?;
        Ok(seen.map(|mut seen| {
            consumers::keep(&existing.outputs, &mut seen.outputs);
            seen.outputs
        }))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let name = context.physical_name.as_str();
        // The upload overwrites without a word, so that somebody else's Worker must be noticed before.
        let service = Call::get(format!("workers/services/{}", encode(name)));
        let none = Map::new();
        let before = match self.client.call(context, &service).await {
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let settings = self.settings(context, name).await?;
                if ours(context, &tags(&settings)) != Some(true) {
                    let mut error = ProviderError::new(
                        FailureKind::Conflict,
                        format!("a Worker named `{name}` is there already"),
                    )
                    .with_help(
                        "take it over with `adopt: true` (or `--adopt`), or choose another `name`",
                    );
                    error.call = Some(service.describe());
                    return Err(error);
                }
                Some(&none)
            }
        };
        let after = |error| after_creation(&format!("the Worker `{name}`"), error);
        let free = self.refuse_taken(context, name, props, None).await;
        // Of a creation that was broken off there is a Worker already.
        free.map_err(|error| match before {
            Some(_) => after(error),
            None => error,
        })?;
        let mut outputs = self.upload(context, name, props, before, None).await?;
        self.configure(context, name, props, None, &mut outputs)
            .await
            .map_err(after)?;
        self.consume(context, name, props, None, &mut outputs)
            .await
            .map_err(after)?;
        self.workflows(context, name, props, &Map::new(), &mut outputs)
            .await
            .map_err(after)?;
        self.lead_here(context, name, props, None)
            .await
            .map_err(after)?;
        Ok(outputs)
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let name = existing.physical_name.as_str();
        self.refuse_taken(context, name, props, Some(&existing.props))
            .await?;
        let changes = Changes::between(existing, props);
        let mut outputs = if changes.version {
            let before = Some(&existing.outputs);
            self.upload(context, name, props, before, Some(existing))
                .await?
        } else {
            if changes.shared {
                self.share(context, name, props).await?;
            }
            existing.outputs.clone()
        };
        let after = |error| after_change(&format!("the Worker `{name}`"), error);
        self.configure(context, name, props, Some(existing), &mut outputs)
            .await
            .map_err(after)?;
        self.lead_here(context, name, props, Some(&existing.widest()))
            .await
            .map_err(after)?;
        self.consume(context, name, props, Some(existing), &mut outputs)
            .await
            .map_err(after)?;
        self.workflows(context, name, props, &existing.outputs, &mut outputs)
            .await
            .map_err(after)?;
        Ok(outputs)
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let name = existing.physical_name.as_str();
        self.lead_here(context, name, &Map::new(), Some(&existing.widest()))
            .await?;
        self.consume_no_more(context, name, existing).await?;
        if !crons(&existing.widest()).is_empty() {
            let call = Call::put(path(name, "/schedules")).json(&json!([]));
            self.client.look(context, &call).await?;
        }
        let call = Call::delete(path(name, ""))
            .query("force", "true")
            .settling(|error| error.status == 400 && error.message.contains("still referenced"));
        self.client.look(context, &call).await.map(drop)
    }

    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        self.observed(context, known).await.map(Some)
    }

    fn declarable(&self, seen: &Observation) -> Map {
        content::declarable(seen)
    }

    fn has_content(&self) -> bool {
        true
    }

    async fn content(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<Option<Content>, ProviderError> {
        self.content_of(context, seen).await.map(Some)
    }

    async fn look_inside(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<(), ProviderError> {
        self.code_of(context, seen).await
    }

    async fn obstacles(
        &self,
        context: &OperationContext,
        listed: &[Observation],
    ) -> Result<Vec<Option<ProviderError>>, ProviderError> {
        self.refusals(context, listed).await
    }

    fn brings(&self, object: &Observation, kind: &str, seen: &Observation) -> bool {
        held::brings(&object.physical_name, kind, seen)
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        observe::compare(existing, seen)
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let seen = self.look(context, &context.physical_name, &[]).await?;
        Ok(seen.map(|seen| Found {
            ours: ours(context, &seen.tags),
            outputs: seen.outputs,
            created_at: seen.created_at,
        }))
    }
}
