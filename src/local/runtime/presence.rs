//! Notices when the data is removed, or replaced, under a running server: what is open stays readable for this process and
//! `workerd`, but all others see other files, or none.

use std::{path::PathBuf, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{deployments::Deployments, reserve::Identity};

/// How often it is looked.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct Presence {
    /// The lock file that is held.
    pub(super) lock: Identity,
    /// The data folder.
    pub(super) folder: PathBuf,
    pub(super) deployments: Deployments,
    /// Told when the data is another.
    pub(super) removed: CancellationToken,
    pub(super) stop: CancellationToken,
}

impl Presence {
    pub(super) async fn watch(self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.gone() => self.removed.cancel(),
        }
    }

    async fn gone(&self) {
        let path = self.folder.join("control.sqlite");
        // Made when it is opened first, and held open from then on, so that its number goes to no other file.
        while self.deployments.counter().await.is_err() {
            if !self.lock.locks(&self.folder) {
                return;
            }
            sleep(POLL).await;
        }
        let control = Identity::at(&path);
        while self.lock.locks(&self.folder) && Identity::at(&path) == control {
            sleep(POLL).await;
        }
    }
}
