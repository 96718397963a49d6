//! When nobody waits for the bucket any more.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::util::clock::Clock;

/// For how long requests that are under way may still be answered, all of them together, and the lock be given back. A bucket
/// that works needs a small part of it, and then nobody has to wait for a lease to end.
const GRACE: Duration = Duration::from_secs(1);

/// The user's wish to stop at once; clones are the same wish.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    asked: CancellationToken,
    /// When the grace ends, on the monotonic clock; set by whoever hears of the wish first.
    end: Arc<OnceLock<Duration>>,
}

impl Stop {
    pub(super) fn at(asked: CancellationToken) -> Self {
        Self {
            asked,
            end: Arc::default(),
        }
    }

    /// Whether nothing is to be tried again.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until nothing is to be tried again.
    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Whether nothing is to be sent, and no answer waited for.
    pub(super) fn is_over(&self, clock: &dyn Clock) -> bool {
        self.is_asked() && self.left(clock).is_zero()
    }

    /// Waits until nothing is to be sent, and no answer waited for.
    pub(super) async fn over(&self, clock: &dyn Clock) {
        self.asked().await;
        clock.sleep(self.left(clock)).await;
    }

    fn left(&self, clock: &dyn Clock) -> Duration {
        let now = clock.monotonic();
        self.end.get_or_init(|| now + GRACE).saturating_sub(now)
    }
}
