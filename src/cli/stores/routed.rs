//! One [`Store`] over several: each application's state is where it is. Those of tests are in the folder always.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{BucketFault, OtherStore, StateError};
use crate::{
    model::{AppName, StagePath},
    state::{
        BackupName, Deployment, LockRequest, LockStatus, Removed, Salvage, Session, SharedStore,
        Snapshot, StageState, Store,
    },
};

/// The way to a store.
pub(super) enum Route {
    Store(SharedStore),
    /// A bucket without credentials.
    Closed(String),
    /// One that the environment disagrees about.
    Refused(Box<OtherStore>),
}

impl Route {
    fn store(&self) -> Result<&SharedStore, StateError> {
        match self {
            Self::Store(store) => Ok(store),
            Self::Closed(label) => Err(closed(label)),
            Self::Refused(stores) => Err(StateError::OtherStore(stores.clone())),
        }
    }
}

/// That nothing opens a bucket.
pub(super) fn closed(label: &str) -> StateError {
    StateError::Bucket {
        operation: "open",
        place: label.to_owned(),
        fault: BucketFault::Credentials,
        problem: "there are no credentials for it".to_owned(),
    }
}

/// The stores of a project.
pub(super) struct Routed {
    files: SharedStore,
    routes: BTreeMap<AppName, Route>,
    others: Route,
}

impl Routed {
    pub(super) fn new(
        files: SharedStore,
        routes: impl IntoIterator<Item = (AppName, Route)>,
        others: Route,
    ) -> Self {
        Self {
            files,
            routes: routes.into_iter().collect(),
            others,
        }
    }

    fn of_app(&self, app: &AppName) -> Result<&SharedStore, StateError> {
        self.routes.get(app).unwrap_or(&self.others).store()
    }

    fn of_stage(&self, stage: &StagePath) -> Result<&SharedStore, StateError> {
        match stage.stage.test_parts() {
            Some(_) => Ok(&self.files),
            None => self.of_app(&stage.app),
        }
    }
}

#[async_trait]
impl Store for Routed {
    async fn apps(&self) -> Result<Vec<AppName>, StateError> {
        // Buckets that are remembered need not be asked.
        let mut apps: BTreeSet<AppName> = self.routes.keys().cloned().collect();
        apps.extend(self.others.store()?.apps().await?);
        Ok(apps.into_iter().collect())
    }

    async fn stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        self.of_app(app)?.stages(app).await
    }

    async fn all_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        // Tests have their state here, wherever the stages have theirs.
        let mut stages = self.of_app(app)?.all_stages(app).await?;
        let here = self.files.all_stages(app).await?;
        stages.extend(
            here.into_iter()
                .filter(|stage| stage.stage.test_parts().is_some()),
        );
        stages.sort();
        stages.dedup();
        Ok(stages)
    }

    async fn load(&self, stage: &StagePath) -> Result<Option<StageState>, StateError> {
        self.of_stage(stage)?.load(stage).await
    }

    async fn removed(&self, stage: &StagePath) -> Result<Option<Removed>, StateError> {
        self.of_stage(stage)?.removed(stage).await
    }

    async fn open(
        &self,
        stage: &StagePath,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        self.of_stage(stage)?.open(stage, request).await
    }

    async fn locks(&self, app: &AppName) -> Result<Vec<LockStatus>, StateError> {
        self.of_app(app)?.locks(app).await
    }

    async fn unlock(&self, stage: &StagePath, force: bool) -> Result<bool, StateError> {
        self.of_stage(stage)?.unlock(stage, force).await
    }

    async fn validate(&self, stage: &StagePath) -> Result<Vec<StateError>, StateError> {
        self.of_stage(stage)?.validate(stage).await
    }

    async fn deployments(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Deployment>, StateError> {
        self.of_stage(stage)?.deployments(stage, limit).await
    }

    async fn history(
        &self,
        stage: &StagePath,
        limit: usize,
    ) -> Result<Vec<Result<Deployment, StateError>>, StateError> {
        self.of_stage(stage)?.history(stage, limit).await
    }

    async fn backups(&self, stage: &StagePath) -> Result<Vec<BackupName>, StateError> {
        self.of_stage(stage)?.backups(stage).await
    }

    async fn backup(&self, stage: &StagePath, name: &str) -> Result<Snapshot, StateError> {
        self.of_stage(stage)?.backup(stage, name).await
    }

    async fn salvage(&self, stage: &StagePath) -> Result<Salvage, StateError> {
        self.of_stage(stage)?.salvage(stage).await
    }

    async fn clean_up(
        &self,
        stage: &StagePath,
        thorough: bool,
        request: LockRequest,
    ) -> Result<Vec<String>, StateError> {
        self.of_stage(stage)?
            .clean_up(stage, thorough, request)
            .await
    }

    async fn set_aside(
        &self,
        stage: &StagePath,
        like: &Snapshot,
        request: LockRequest,
    ) -> Result<(Box<dyn Session>, Option<String>), StateError> {
        self.of_stage(stage)?.set_aside(stage, like, request).await
    }

    async fn receive(
        &self,
        stage: &StagePath,
        lineage: String,
        serial: u64,
        request: LockRequest,
    ) -> Result<Box<dyn Session>, StateError> {
        self.of_stage(stage)?
            .receive(stage, lineage, serial, request)
            .await
    }
}
