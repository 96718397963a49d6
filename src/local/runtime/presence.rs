//! Notices when the data is removed, or replaced, under a running server: what is open stays readable for this process and
//! `workerd`, but all others see other files, or none.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{deployments::Deployments, reserve::Identity};
use crate::local::CloudError;

/// How often it is looked.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct Presence {
    /// The lock file that is held.
    lock: Identity,
    /// The data folder.
    folder: PathBuf,
    /// The control database; none when it was removed as soon as it was made.
    control: Option<Identity>,
    /// Holds the control database open, so that its number goes to no other file.
    _deployments: Deployments,
}

impl Presence {
    /// Looks at the data as it is now. The control database is made where there is none, so that whatever opens it after this
    /// either has the one that is watched, or is told that it has not.
    pub(super) fn of(lock: Identity, folder: PathBuf) -> Result<Self, CloudError> {
        let deployments = Deployments::of(&folder)?;
        deployments.open()?;
        Ok(Self {
            lock,
            control: Identity::at(&control(&folder)),
            folder,
            _deployments: deployments,
        })
    }

    /// Cancels `removed` when the data is another, until `stop`.
    pub(super) async fn watch(self, removed: CancellationToken, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.gone() => removed.cancel(),
        }
    }

    async fn gone(&self) {
        while self.is_there() {
            sleep(POLL).await;
        }
    }

    fn is_there(&self) -> bool {
        let control = Identity::at(&control(&self.folder));
        control.is_some() && control == self.control && self.lock.locks(&self.folder)
    }
}

fn control(folder: &Path) -> PathBuf {
    folder.join("control.sqlite")
}
