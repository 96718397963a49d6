//! What is deployed, as the runtime follows it: read again whenever any process has written to the control database.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use crate::local::{
    Cloud, CloudError,
    api::{DeployedWorker, deployed},
    control::ControlError,
};

/// Follows the deployments of a folder.
#[derive(Debug, Clone)]
pub(super) struct Deployments {
    /// A connection of its own: SQLite counts the writes of all others, but not those of the connection that asks.
    pub(super) cloud: Arc<Cloud>,
}

impl Deployments {
    pub(super) fn of(folder: &Path) -> Result<Self, CloudError> {
        Ok(Self {
            cloud: Cloud::open(folder)?,
        })
    }

    /// Opens the control database now, and makes it where there is none. It waits for the disk.
    pub(super) fn open(&self) -> Result<(), ControlError> {
        self.cloud.control.run(data_version).map(drop)
    }

    /// A number that is another one after every write of anybody. It costs no reading of data.
    pub(super) async fn counter(&self) -> Result<i64, ControlError> {
        self.blocking(|cloud| cloud.control.run(data_version)).await
    }

    /// The Workers that are deployed.
    pub(super) async fn workers(&self) -> Result<Vec<DeployedWorker>, ControlError> {
        self.blocking(|cloud| cloud.control.run(deployed)).await
    }

    /// Runs `work` where it may wait.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cloud) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let cloud = Arc::clone(&self.cloud);
        tokio::task::spawn_blocking(move || work(&cloud))
            .await
            .map_err(|error| ControlError::Unreadable {
                reason: error.to_string(),
            })?
    }
}

fn data_version(connection: &Connection) -> Result<i64, ControlError> {
    Ok(connection.query_row("PRAGMA data_version", [], |row| row.get(0))?)
}
