//! The bucket store over a bucket in memory, whose network can be spoilt.

mod costs;
mod damage;
mod faults;
mod fencing;
mod flaky;
mod formats;
mod in_time;
mod leases;
mod stops;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::path::Path;

use self::flaky::Flaky;
use super::BucketStore;
use crate::{
    model::Fqn,
    state::{
        Deployment, LockRequest, Session, StageHeader, StageState, StateError, Store as _,
        file::{Process, Processes},
        tests_support::stage,
    },
    util::{clock::Clock, ids::SystemIds},
};

/// The clock of tokio's tests, which stands still until nothing else can be done.
struct PausedClock(tokio::time::Instant);

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let passed = jiff::SignedDuration::try_from(self.monotonic()).unwrap();
        Timestamp::UNIX_EPOCH + passed
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Which processes of the test's one host live: those from a number on.
struct LiveFrom(Arc<AtomicU32>);

impl Processes for LiveFrom {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        Some(pid >= self.0.load(Ordering::SeqCst))
    }
}

/// A bucket and the machines that use it.
struct World {
    bucket: Arc<Flaky>,
    clock: Arc<PausedClock>,
    pids: AtomicU32,
    live_from: Arc<AtomicU32>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            bucket: Arc::new(Flaky::default()),
            clock: Arc::new(PausedClock(tokio::time::Instant::now())),
            pids: AtomicU32::new(0),
            live_from: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A process of a host. Those of host `here` keep what they cannot save.
    fn process(&self, host: &str) -> BucketStore {
        self.process_by(&self.bucket, host)
    }

    /// The same, over its own way to the bucket.
    fn process_by(&self, bucket: &Arc<Flaky>, host: &str) -> BucketStore {
        let pid = self.pids.fetch_add(1, Ordering::SeqCst) + 1;
        let store = BucketStore::over(
            Arc::clone(bucket) as _,
            "s3://team",
            Path::parse("alch").unwrap(),
            Arc::clone(&self.clock) as _,
            Arc::new(SystemIds),
            Process {
                owner: "me".to_owned(),
                host: host.to_owned(),
                boot_id: "boot".to_owned(),
                pid,
                pid_start: 1,
            },
            Arc::new(LiveFrom(Arc::clone(&self.live_from))),
        );
        store.keeping_in(&self.folder.path().join(host))
    }

    /// From here on the processes so far are dead.
    fn kill_all(&self) {
        let next = self.pids.load(Ordering::SeqCst) + 1;
        self.live_from.store(next, Ordering::SeqCst);
    }
}

fn request(wait: u64) -> LockRequest {
    LockRequest {
        wait: Duration::from_secs(wait),
        command: "alch run".to_owned(),
    }
}

async fn open(store: &BucketStore) -> Box<dyn Session> {
    try_open(store, 0).await.unwrap()
}

async fn try_open(store: &BucketStore, wait: u64) -> Result<Box<dyn Session>, StateError> {
    store.open(&stage("app/dev"), request(wait)).await
}

async fn load(store: &BucketStore) -> Result<Option<StageState>, StateError> {
    store.load(&stage("app/dev")).await
}

fn fqn(text: &str) -> Fqn {
    Fqn::parse(text).unwrap()
}

fn names(state: &StageState) -> Vec<&str> {
    state.records.keys().map(Fqn::within_stage).collect()
}

fn header(order: &[&str]) -> StageHeader {
    StageHeader {
        order: order.iter().map(|name| fqn(name)).collect(),
        ..StageHeader::default()
    }
}

fn deployment(id: &str) -> Deployment {
    Deployment {
        id: id.to_owned(),
        stage: stage("app/dev"),
        command: "run".to_owned(),
        actor: "me".to_owned(),
        host: "here".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        result: "succeeded".to_owned(),
        counts: std::collections::BTreeMap::new(),
        alch_version: "0.1.0".to_owned(),
    }
}
