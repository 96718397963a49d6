//! The hold on a stage: one small object that is only ever replaced, each time on condition that it still is as we know it.
//!
//! The holder renews it at a sixth of the lease. It measures its own lease on a clock that goes on while the machine sleeps, and
//! renews before it writes anything once that runs low: a process that was stopped for long finds out that it lost the stage
//! before it goes on. No write is sent in the last sixth of a lease, nor after it. That is the second line; what refuses such
//! writes for certain is the bucket (see `recover`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use object_store::path::Path;

use super::{
    format::{LockRecord, LockState, encode},
    remote::{Expect, Guard, Put, Remote, Tag},
};
use crate::{
    model::StagePath,
    state::{self, BucketFault, StateError, lease::Renewal},
    util::text,
};

/// How many heartbeats a lease lasts.
const HEARTBEATS_PER_TTL: u32 = 6;

/// How often the lock may turn out to be another version of our own.
const REPLACE_TRIES: u32 = 5;

/// How often a lease that ran low is renewed before a write, where each renewal is answered only when that one ran low, too.
const ENSURE_TRIES: u32 = 3;

/// A lock that is ours.
pub(super) struct Lease {
    remote: Remote,
    stage: StagePath,
    key: Path,
    ttl: Duration,
    epoch: u64,
    held: tokio::sync::Mutex<Held>,
    watch: Mutex<Watch>,
}

struct Held {
    record: LockRecord,
    tag: Tag,
}

/// What the holder knows of its lease without asking.
#[derive(Clone, Copy)]
struct Watch {
    /// When the last renewal that went well was sent, on the clock that goes on while the machine sleeps.
    confirmed: Duration,
    /// The epoch that took the stage over.
    lost_to: Option<u64>,
}

impl Lease {
    /// A lock that was written with `record`, by a request sent at `sent`.
    pub(super) fn new(
        remote: Remote,
        stage: &StagePath,
        key: Path,
        record: LockRecord,
        tag: Tag,
        sent: Duration,
    ) -> Arc<Self> {
        let since = remote.clock.monotonic().saturating_sub(sent);
        let confirmed = remote.clock.since_boot().saturating_sub(since);
        Arc::new(Self {
            remote,
            stage: stage.clone(),
            key,
            ttl: Duration::from_millis(record.holder.ttl_ms),
            epoch: record.holder.epoch,
            held: tokio::sync::Mutex::new(Held { record, tag }),
            watch: Mutex::new(Watch {
                confirmed,
                lost_to: None,
            }),
        })
    }

    fn watch(&self) -> Watch {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Watch)) {
        change(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn fenced(&self, theirs: u64) -> StateError {
        StateError::Fenced {
            stage: self.stage.clone(),
            ours: self.epoch,
            theirs,
        }
    }

    /// One heartbeat.
    pub(super) async fn renew(&self) -> Result<(), StateError> {
        let mut held = self.held.lock().await;
        // Counted also where it fails: one that arrived unanswered must not be taken for the next one, which renews nothing then.
        held.record.holder.heartbeat += 1;
        let record = held.record.clone();
        self.replace(&mut held, record).await
    }

    /// Gives the lock back. One that was taken over is left alone.
    pub(super) async fn release(
        &self,
        status: LockState,
        generation: u64,
    ) -> Result<(), StateError> {
        let mut held = self.held.lock().await;
        if self.watch().lost_to.is_some() {
            return Ok(());
        }
        let record = LockRecord {
            status,
            generation,
            ..held.record.clone()
        };
        match self.replace(&mut held, record).await {
            Err(StateError::Fenced { .. }) => Ok(()),
            other => other,
        }
    }

    async fn replace(&self, held: &mut Held, record: LockRecord) -> Result<(), StateError> {
        if let Some(theirs) = self.watch().lost_to {
            return Err(self.fenced(theirs));
        }
        let bytes = encode(&self.remote.place(&self.key), &record)?;
        for _ in 0..REPLACE_TRIES {
            let confirmed = self.remote.clock.since_boot();
            let expect = Expect::Version(held.tag.clone());
            let seen = match self.remote.put(&self.key, &bytes, &expect).await? {
                Put::Done(tag) => {
                    held.tag = tag;
                    held.record = record;
                    self.note(|watch| watch.confirmed = confirmed);
                    return Ok(());
                }
                Put::Refused(seen) => seen,
            };
            let found = seen.and_then(|seen| Some((self.read(&seen.bytes).ok()?, seen.tag)));
            match found {
                // A heartbeat of ours whose answer never came: the lock is as we left it all the same.
                Some((found, tag))
                    if found.session == record.session && found.status == LockState::Held =>
                {
                    held.tag = tag;
                }
                found => {
                    let theirs = found.map_or(self.epoch + 1, |(found, _)| found.holder.epoch);
                    self.note(|watch| watch.lost_to = Some(theirs));
                    return Err(self.fenced(theirs));
                }
            }
        }
        Err(StateError::Bucket {
            operation: "write",
            place: self.remote.place(&self.key),
            fault: BucketFault::Refused,
            problem: "it changes faster than it can be written".to_owned(),
        })
    }

    fn read(&self, bytes: &[u8]) -> Result<LockRecord, StateError> {
        super::format::decode(
            bytes,
            &self.stage.to_string(),
            &self.remote.place(&self.key),
        )
    }

    /// What becomes of a lock that cannot be given back.
    pub(super) fn ends_by_itself(&self) -> String {
        format!(
            "the lock of {} is left as it is, and ends by itself within {}",
            self.stage,
            text::duration(self.ttl)
        )
    }

    /// Renews the lease until it is lost or the task is stopped.
    pub(super) async fn beat(self: Arc<Self>) {
        loop {
            self.remote.clock.sleep(self.ttl / HEARTBEATS_PER_TTL).await;
            match self.renew().await {
                Ok(()) => {}
                Err(StateError::Fenced { theirs, .. }) => {
                    tracing::warn!(stage = %self.stage, theirs, "the lock was taken over");
                    return;
                }
                // The next beat may go through; nothing is written meanwhile once the lease has run out.
                Err(error) => tracing::warn!(stage = %self.stage, %error, "the heartbeat failed"),
            }
        }
    }
}

#[async_trait]
impl Guard for Lease {
    /// That the lease lasts for long enough to write something; renews it where it does not.
    async fn ensure(&self) -> Result<(), StateError> {
        let margin = self.ttl / HEARTBEATS_PER_TTL;
        for _ in 0..ENSURE_TRIES {
            let watch = self.watch();
            if let Some(theirs) = watch.lost_to {
                return Err(self.fenced(theirs));
            }
            let age = self
                .remote
                .clock
                .since_boot()
                .saturating_sub(watch.confirmed);
            if age < self.ttl.saturating_sub(margin) {
                return Ok(());
            }
            self.renew().await?;
        }
        Err(StateError::Bucket {
            operation: "write",
            place: self.remote.place(&self.key),
            fault: BucketFault::Unreachable,
            problem: "every renewal of the lock came too late".to_owned(),
        })
    }
}

/// The lock as a run asks for it before it changes anything outside the store.
struct Hold(Arc<Lease>);

impl Lease {
    /// What a run asks before every call to a provider.
    pub(super) fn for_run(self: &Arc<Self>) -> state::Lease {
        state::Lease::new(
            self.stage.clone(),
            self.ttl,
            Arc::clone(&self.remote.clock),
            self.watch().confirmed,
            Box::new(Hold(Arc::clone(self))),
        )
    }
}

#[async_trait]
impl Renewal for Hold {
    async fn renew(&self) -> Result<(), StateError> {
        let lease = Arc::clone(&self.0);
        // A task of its own: a request that is let go half-way would leave it unknown which version of the lock is ours. It ends
        // with its tries.
        match tokio::spawn(async move { lease.renew().await }).await {
            Ok(result) => result,
            Err(error) => Err(StateError::Io {
                operation: "renew",
                place: self.0.remote.place(&self.0.key),
                source: std::io::Error::other(error),
            }),
        }
    }

    fn last_renewed(&self) -> Option<Duration> {
        Some(self.0.watch().confirmed)
    }
}

/// Whether a failure is one of the network, or one of the user's patience with it, after which a write may or may not have been
/// done.
pub(super) fn is_unreachable(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Bucket {
            fault: BucketFault::Unreachable | BucketFault::Stopped,
            ..
        }
    )
}

/// Whether a request failed because the user did not want to wait for it.
pub(super) fn is_stopped(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Bucket {
            fault: BucketFault::Stopped,
            ..
        }
    )
}
