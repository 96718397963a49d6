//! The Durable Objects of a deployed Worker, and what the next upload says of them.

use serde_json::Value as Json;

use super::{
    Worker,
    migrations::{self, Deployed, Migration},
};
use crate::{
    model::Map,
    provider::{OperationContext, ProviderError, cloudflare::client::encode},
};

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
        let recorded = before.unwrap_or(&none);
        let deployed =
            if before.is_none() || wanted.is_empty() && migrations::recorded(recorded).is_empty() {
                Deployed::default()
            } else {
                self.objects(context, name).await?
            };
        Migration::new(wanted, deployed, recorded)
    }

    /// Whether the Worker went through a migration already: the answer to its upload was lost, and the upload sent again.
    pub(super) async fn is_migrated(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        migration: &Migration,
    ) -> Result<bool, ProviderError> {
        let deployed = self.objects(context, name).await?;
        let wanted = migrations::wanted(Some(name), props)?;
        migration.is_done(wanted, deployed)
    }

    /// The classes of Durable Objects that a Worker has.
    async fn objects(
        &self,
        context: &OperationContext,
        name: &str,
    ) -> Result<Deployed, ProviderError> {
        let service = format!("workers/services/{}", encode(name));
        let Some(service) = self.get(context, service).await? else {
            return Ok(Deployed::default());
        };
        let tag = service
            .pointer("/default_environment/script/migration_tag")
            .and_then(Json::as_str);
        let settings = self.settings(context, name).await?;
        Ok(Deployed::read(name, &settings, tag))
    }
}
