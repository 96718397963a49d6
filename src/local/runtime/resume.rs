//! Wakes the instances of workflows that an earlier process left unfinished: the engine keeps their state, but no clock of its own.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::inside::Inside;
use crate::{
    local::{api::DeployedWorker, data, layout},
    util::fs::FsResult,
};

/// Wakes all unfinished instances of the workflows of `workers`. One that cannot be woken is woken by its next event.
pub(super) async fn resume(inside: &Inside, folder: &Path, workers: &[DeployedWorker]) {
    for workflow in workers.iter().flat_map(|worker| &worker.workflows) {
        let instances = layout::instances_folder(folder, &workflow.name);
        let objects = match list(instances).await {
            Ok(objects) if objects.is_empty() => continue,
            Ok(objects) => objects,
            Err(error) => {
                tracing::warn!("{error}");
                continue;
            }
        };
        let wanted = json!({"workflow": workflow.name, "action": "resume", "objects": objects});
        if let Err(error) = inside.workflow(wanted).await {
            tracing::warn!("instances of `{}` are not woken: {error}", workflow.name);
        }
    }
}

async fn list(folder: PathBuf) -> FsResult<Vec<String>> {
    tokio::task::spawn_blocking(move || data::object_ids(&folder))
        .await
        .unwrap_or_else(|_| Ok(Vec::new()))
}
