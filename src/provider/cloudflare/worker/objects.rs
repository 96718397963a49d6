//! The Durable Objects of a deployed Worker, and what the next upload says of them.

use serde_json::Value as Json;

use super::{
    Worker,
    migrations::{self, Deployed, Known, Migration, Wanted},
};
use crate::{
    model::Map,
    provider::{
        OperationContext, ProviderError,
        cloudflare::client::{Call, encode},
    },
};

/// The list of the account's namespaces of Durable Objects.
const NAMESPACES: &str = "workers/durable_objects/namespaces";
const PER_PAGE: usize = 100;

impl Worker {
    /// What an upload of `props` says of classes. `before` are the outputs of the Worker that is there; none when there is none.
    pub(super) async fn migration(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: Option<&Map>,
    ) -> Result<Migration, ProviderError> {
        let wanted = migrations::wanted(Some(name), props)?;
        let none = Map::new();
        let outputs = before.unwrap_or(&none);
        let recorded = migrations::recorded(outputs);
        let deployed = if before.is_none() || wanted.is_empty() && recorded.is_empty() {
            Deployed::default()
        } else {
            self.objects(context, name, &wanted, &recorded).await?
        };
        Migration::new(wanted, deployed, outputs)
    }

    /// Whether the Worker went through a migration already: the answer to its upload was lost, and the upload sent again.
    pub(super) async fn is_migrated(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        migration: &Migration,
    ) -> Result<bool, ProviderError> {
        let wanted = migrations::wanted(Some(name), props)?;
        let deployed = self.objects(context, name, &wanted, &[]).await?;
        migration.is_done(wanted, deployed)
    }

    /// The classes of Durable Objects that a Worker has, for an upload that makes them those that are `wanted`.
    async fn objects(
        &self,
        context: &OperationContext,
        name: &str,
        wanted: &[Wanted],
        recorded: &[Known],
    ) -> Result<Deployed, ProviderError> {
        let service = format!("workers/services/{}", encode(name));
        let Some(service) = self.get(context, service).await? else {
            return Ok(Deployed::default());
        };
        let settings = self.settings(context, name).await?;
        let mut deployed = Deployed::read(name, &settings, tag(&service));
        if deployed.is_open(wanted, recorded) {
            self.add_unbound(context, name, recorded, &mut deployed)
                .await?;
        }
        Ok(deployed)
    }

    /// The classes of a Worker by its `service` and its `settings`, for what goes with it.
    pub(super) async fn all_objects(
        &self,
        context: &OperationContext,
        name: &str,
        (service, settings): (&Json, &Json),
        recorded: &[Known],
    ) -> Result<Deployed, ProviderError> {
        let tag = tag(service);
        let mut deployed = Deployed::read(name, settings, tag);
        if tag.is_some() || deployed.is_open(&[], recorded) {
            self.add_unbound(context, name, recorded, &mut deployed)
                .await?;
        }
        Ok(deployed)
    }

    async fn add_unbound(
        &self,
        context: &OperationContext,
        name: &str,
        recorded: &[Known],
        deployed: &mut Deployed,
    ) -> Result<(), ProviderError> {
        let call = Call::get(NAMESPACES);
        let namespaces = self.client.all_in_pages(context, &call, PER_PAGE).await?;
        deployed.add_unbound(name, &namespaces, recorded);
        Ok(())
    }
}

/// The tag of the last migration of a service.
fn tag(service: &Json) -> Option<&str> {
    service
        .pointer("/default_environment/script/migration_tag")
        .and_then(Json::as_str)
}
