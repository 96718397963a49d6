//! Crashes and disk errors at every durable effect of a scenario, on the simulated disk; and damage to every file.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{FileStore, Process, Processes};
use crate::{
    model::{Fqn, StagePath},
    state::{
        Deployment, JournalEntry, LockRequest, Retention, Session, StageHeader, StageState,
        StateError, Store,
        disk::Disk,
        sim_disk::{Fault, Loss, SimDisk},
        tests_support::{intent, put, record, removed, replaced, stage},
    },
    util::{clock::Clock, ids::Ids},
};

/// A clock that moves by a millisecond a look, and by as much as is slept.
#[derive(Default)]
struct TestClock(AtomicI64);

#[async_trait::async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        let slept = i64::try_from(duration.as_millis()).unwrap();
        self.0.fetch_add(slept, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct TestIds(AtomicU64);

impl Ids for TestIds {
    fn fill(&self, bytes: &mut [u8]) {
        let seed = self.0.fetch_add(1, Ordering::SeqCst);
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from((seed + index as u64) % 251).unwrap();
        }
    }
}

/// Only the process that was started last lives.
#[derive(Default)]
struct Newest(AtomicU32);

impl Processes for Newest {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        Some(pid == self.0.load(Ordering::SeqCst))
    }
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    clock: Arc<TestClock>,
    newest: Arc<Newest>,
    ids: Arc<TestIds>,
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        Self {
            disk: SimDisk::new(Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
            newest: Arc::default(),
            ids: Arc::default(),
        }
    }

    /// The store as a new process sees it.
    pub(super) fn start(&self) -> FileStore {
        let pid = self.newest.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.on_host("here", pid)
    }

    fn on_host(&self, host: &str, pid: u32) -> FileStore {
        FileStore::over(
            ".alchemy",
            Arc::new(self.disk.clone()),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Arc::clone(&self.ids) as Arc<dyn Ids>,
            Process {
                owner: "me".to_owned(),
                host: host.to_owned(),
                boot_id: "boot".to_owned(),
                pid,
                pid_start: 1,
            },
            Arc::clone(&self.newest) as Arc<dyn Processes>,
        )
        .with_retention(Retention { backups: 2 })
    }
}

pub(super) fn request(wait: Duration) -> LockRequest {
    LockRequest {
        wait,
        command: "alch run".to_owned(),
    }
}

pub(super) fn dev() -> StagePath {
    stage("app/dev")
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append(Vec<JournalEntry>),
    Checkpoint(&'static str),
    Deployment,
    RemoveStage,
    /// Release and open again.
    Reopen,
}

pub(super) fn header(script: &str) -> StageHeader {
    StageHeader {
        script: (!script.is_empty()).then(|| script.to_owned()),
        ..StageHeader::default()
    }
}

fn moved(from: &str, to: &str) -> JournalEntry {
    JournalEntry::Renamed {
        from: Fqn::parse(from).unwrap(),
        record: Arc::new(record(to, 5)),
    }
}

/// Creates, updates, deletes, renames, with checkpoints and reopening between.
fn scenario() -> Vec<Step> {
    use Step::{Append, Checkpoint, Deployment, Reopen};
    vec![
        Append(vec![intent("app/dev/a")]),
        Append(vec![put("app/dev/a", 1), put("app/dev/s/t/b", 1)]),
        Reopen,
        Append(vec![put("app/dev/s/c", 1), intent("app/dev/d")]),
        Checkpoint("first"),
        Deployment,
        Append(vec![put("app/dev/a", 2), removed("app/dev/s/t/b")]),
        Append(vec![put("app/dev/d", 1)]),
        Checkpoint("first"),
        Reopen,
        Append(vec![moved("app/dev/d", "app/dev/s/e")]),
        Append(vec![intent("app/dev/s/c"), removed("app/dev/s/c")]),
        Checkpoint("second"),
        Checkpoint("second"),
        Append(vec![intent("app/dev/f"), put("app/dev/g", 1)]),
        Append(vec![replaced(
            &dev(),
            &[("app/dev/a", 1), ("app/dev/s/c", 3), ("app/dev/t/h", 1)],
        )]),
        Reopen,
        Checkpoint("third"),
    ]
}

/// A removal at the end, and a new beginning after it.
fn ending() -> Vec<Step> {
    use Step::{Append, Checkpoint, RemoveStage};
    vec![
        Append(vec![put("app/dev/s/a", 1)]),
        Checkpoint("first"),
        Append(vec![removed("app/dev/s/a")]),
        RemoveStage,
        Append(vec![put("app/dev/z", 1)]),
        Checkpoint("second"),
    ]
}

/// What may be on disk: the states after each entry that may have become durable.
#[derive(Clone, Default)]
pub(super) struct Model {
    possible: Vec<StageState>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            possible: vec![StageState::default()],
        }
    }

    pub(super) fn last(&self) -> StageState {
        self.possible.last().unwrap().clone()
    }

    /// Adds what `step` may leave when it is cut short.
    fn attempt(&mut self, step: &Step) {
        let mut state = self.last();
        match step {
            Step::Append(entries) => {
                for entry in entries {
                    state.apply(entry);
                    self.possible.push(state.clone());
                }
            }
            Step::Checkpoint(script) => {
                state.header = header(script);
                self.possible.push(state);
            }
            Step::RemoveStage => self.possible.push(StageState::default()),
            Step::Deployment | Step::Reopen => {}
        }
    }

    fn settle(&mut self) {
        self.possible = vec![self.last()];
    }

    fn fits(&self, found: &StageState) -> bool {
        self.possible.iter().any(|state| same(state, found))
    }
}

pub(super) fn same(a: &StageState, b: &StageState) -> bool {
    a.records == b.records && a.open_intents == b.open_intents && a.header == b.header
}

async fn open(store: &FileStore) -> Result<Box<dyn Session>, StateError> {
    store.open(&dev(), request(Duration::ZERO)).await
}

/// Runs the steps until one fails.
pub(super) async fn run(
    world: &World,
    steps: &[Step],
    model: &mut Model,
) -> Result<(), StateError> {
    let mut session = open(&world.start()).await?;
    for step in steps {
        model.attempt(step);
        match step {
            Step::Append(entries) => session.append(entries.clone()).await?,
            Step::Checkpoint(script) => session.checkpoint(header(script)).await?,
            Step::Deployment => session.record_deployment(deployment()).await?,
            Step::RemoveStage => session.remove_stage().await?,
            Step::Reopen => {
                session.release().await?;
                session = open(&world.start()).await?;
                let found = session.take_state();
                assert!(model.fits(&found), "reopened: {found:#?}");
            }
        }
        model.settle();
    }
    session.release().await
}

fn deployment() -> Deployment {
    Deployment {
        id: "01A".to_owned(),
        stage: dev(),
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

/// A new process finds a state that fits, works on, and leaves a clean stage.
async fn recovers(world: &World, model: &Model, case: &str) {
    let store = world.start();
    let loaded = store.load(&dev()).await;
    let loaded = loaded.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(
        model.fits(&loaded.clone().unwrap_or_default()),
        "{case}: {loaded:#?}"
    );
    let session = open(&store).await;
    let session = session.unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut found = session.take_state();
    assert!(same(&found, &loaded.unwrap_or_default()), "{case}");

    let more = put("app/dev/s/t/more", 9);
    found.apply(&more);
    session.append(vec![more]).await.unwrap();
    found.header = header("after");
    session.checkpoint(found.header.clone()).await.unwrap();
    session.release().await.unwrap();
    world.disk.reboot(Loss::Everything);
    let after = world.start().load(&dev()).await;
    let after = after.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(same(&after.unwrap_or_default(), &found), "{case}");
    let problems = store.validate(&dev()).await.unwrap();
    assert!(problems.is_empty(), "{case}: {problems:#?}");
}

pub(super) const LOSSES: [Loss; 5] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Some(1),
    Loss::Some(2),
    Loss::Some(3),
];
pub(super) const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter];

async fn effects_of(steps: &[Step]) -> u64 {
    let world = World::new();
    let mut model = Model::new();
    run(&world, steps, &mut model).await.unwrap();
    world.disk.effects()
}

async fn crash_everywhere(steps: &[Step]) {
    let count = effects_of(steps).await;
    for at in 1..=count {
        for fault in CRASHES {
            for loss in LOSSES {
                let world = World::new();
                let mut model = Model::new();
                world.disk.strike(at, fault);
                let result = run(&world, steps, &mut model).await;
                assert!(result.is_err() && world.disk.is_down(), "{at} of {count}");
                let case = format!(
                    "{fault:?} at {at}, {loss:?}: {:?}",
                    world.disk.trace().last()
                );
                world.disk.reboot(loss);
                recovers(&world, &model, &case).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_effect_loses_nothing_that_was_durable() {
    crash_everywhere(&scenario()).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_stage_is_removed_leaves_it_whole_or_gone() {
    crash_everywhere(&ending()).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_a_removed_stage_gone_finds_how_far_it_had_come() {
    let before = [
        Step::Append(vec![put("app/dev/s/a", 1)]),
        Step::Checkpoint("first"),
    ];
    let remove = async |world: &World| {
        let session = open(&world.start()).await?;
        session.append(vec![removed("app/dev/s/a")]).await?;
        session.remove_stage().await?;
        session.release().await
    };
    let mut found_gone = 0;
    for at in 1.. {
        let mut struck = false;
        for fault in CRASHES {
            for loss in LOSSES {
                let world = World::new();
                run(&world, &before, &mut Model::new()).await.unwrap();
                world.disk.strike(at, fault);
                let ended = remove(&world).await.is_ok();
                struck |= world.disk.is_down();
                world.disk.reboot(loss);
                let store = world.start();
                let state = store.load(&dev()).await.unwrap();
                assert!(!ended || state.is_none());
                if state.is_none() {
                    found_gone += 1;
                    let left = store.removed(&dev()).await.unwrap();
                    let left = left.unwrap_or_else(|| panic!("{fault:?} at {at}, {loss:?}"));
                    assert_eq!(left.serial, 3, "{fault:?} at {at}, {loss:?}");
                }
            }
        }
        if !struck {
            break;
        }
    }
    assert!(found_gone > LOSSES.len(), "{found_gone}");
}

#[tokio::test(start_paused = true)]
async fn crashes_during_recovery_are_no_worse() {
    let steps = scenario();
    let count = effects_of(&steps).await;
    for at in 1..=count {
        let loss = match at % 3 {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Some(at),
        };
        // Neighbours of `at` take the other half of the second crashes.
        for second in (1 + at % 2..).step_by(2) {
            let world = World::new();
            let mut model = Model::new();
            world.disk.strike(at, Fault::CrashTorn);
            run(&world, &steps, &mut model).await.unwrap_err();
            world.disk.reboot(loss);
            world.disk.strike(second, Fault::CrashTorn);
            let appended = std::cell::Cell::new(false);
            let again = async {
                let session = open(&world.start()).await?;
                let header = session.take_state().header;
                session.append(vec![put("app/dev/again", 1)]).await?;
                appended.set(true);
                session.checkpoint(header).await
            };
            let result = again.await;
            let more: Vec<_> = model
                .possible
                .iter()
                .map(|state| {
                    let mut state = state.clone();
                    state.apply(&put("app/dev/again", 1));
                    state
                })
                .collect();
            // The new entry may have come through; once acknowledged it must have.
            if appended.get() {
                model.possible.clear();
            }
            model.possible.extend(more);
            let case = format!("torn at {at}, {loss:?}, then at {second}");
            world.disk.reboot(loss);
            recovers(&world, &model, &case).await;
            if result.is_ok() {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_error_at_any_effect_is_told_and_harms_nothing() {
    for steps in [scenario(), ending()] {
        let count = effects_of(&steps).await;
        for at in 1..=count {
            for fault in [
                Fault::Error(ErrorKind::PermissionDenied),
                Fault::Short(ErrorKind::StorageFull),
            ] {
                let world = World::new();
                let mut model = Model::new();
                world.disk.strike(at, fault);
                let result = run(&world, &steps, &mut model).await;
                let case = format!("{fault:?} at {at}: {:?}", world.disk.trace().last());
                assert!(
                    matches!(result, Err(StateError::Io { .. })),
                    "{case}: {result:?}"
                );
                recovers(&world, &model, &case).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_write_nothing_more_is_written() {
    let world = World::new();
    let session = open(&world.start()).await.unwrap();
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    world.disk.strike(2, Fault::Error(ErrorKind::Other));
    assert!(session.append(vec![put("app/dev/b", 1)]).await.is_err());
    let before = world.disk.effects();
    assert!(session.append(vec![put("app/dev/c", 1)]).await.is_err());
    assert!(session.checkpoint(header("x")).await.is_err());
    assert_eq!(world.disk.effects(), before);
}

#[tokio::test(start_paused = true)]
async fn a_run_without_changes_writes_only_the_lock() {
    let world = World::new();
    run(&world, &scenario(), &mut Model::new()).await.unwrap();
    let before = world.disk.trace().len();
    let session = open(&world.start()).await.unwrap();
    session.checkpoint(header("third")).await.unwrap();
    session.release().await.unwrap();
    let effects = world.disk.trace()[before..].to_vec();
    assert!(
        effects
            .iter()
            .all(|effect| effect.contains("locks/app/dev.lock")),
        "{effects:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_changed_records_are_rewritten_and_backups_are_kept() {
    let world = World::new();
    let session = open(&world.start()).await.unwrap();
    session
        .append(vec![put("app/dev/a", 1), put("app/dev/b", 1)])
        .await
        .unwrap();
    session.checkpoint(header("1")).await.unwrap();
    let list = |world: &World| {
        world
            .disk
            .list(".alchemy/app/dev/backups".as_ref())
            .unwrap()
    };
    assert!(list(&world).is_empty(), "there was nothing to back up");
    for version in 2..6 {
        let before = world.disk.trace().len();
        let touch = vec![put("app/dev/a", version), put("app/dev/b", 1)];
        session.append(touch).await.unwrap();
        session.checkpoint(header("1")).await.unwrap();
        let trace = world.disk.trace()[before..].join("\n");
        assert!(
            trace.contains("resources/a/") && !trace.contains("resources/b/"),
            "{trace}"
        );
    }
    assert_eq!(list(&world).len(), 2);
    let newest = list(&world).pop().unwrap().name;
    let path = PathBuf::from(".alchemy/app/dev/backups").join(newest);
    let bytes = world.disk.read(&path).unwrap();
    let (json, _) = super::envelope::unseal(&bytes).unwrap();
    let backup: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(
        backup["records"]["app/dev/a"]["props"]["size"], 4,
        "the state before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_remote_lock_is_taken_over_after_a_whole_lease_without_heartbeat() {
    let world = World::new();
    world.newest.0.store(2, Ordering::SeqCst);
    let there = world.on_host("there", 1);
    let here = world.on_host("here", 2);
    let zombie = there.open(&dev(), request(Duration::ZERO)).await.unwrap();
    zombie.append(vec![put("app/dev/a", 1)]).await.unwrap();

    // While it beats, nobody gets in.
    let error = here.open(&dev(), request(Duration::from_secs(300))).await;
    assert!(matches!(error, Err(StateError::Locked { .. })));
    drop(zombie);
    let before = world.clock.monotonic();
    let error = here.open(&dev(), request(Duration::from_secs(30))).await;
    assert!(
        matches!(error, Err(StateError::Locked { .. })),
        "the lease is not over"
    );
    let session = here
        .open(&dev(), request(Duration::from_secs(90)))
        .await
        .unwrap();
    assert!(world.clock.monotonic() - before >= Duration::from_secs(60));
    assert_eq!(session.take_state().records.len(), 1);
    assert_eq!(session.epoch(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_torn_lock_is_taken_at_once_and_a_strange_one_after_a_lease() {
    let world = World::new();
    drop(open(&world.start()).await.unwrap());
    let lock = PathBuf::from(".alchemy/locks/app/dev.lock");
    world.disk.write(&lock, b"").unwrap();
    drop(open(&world.start()).await.unwrap());
    world.disk.write(&lock, b"{\"lock\":2}").unwrap();
    let store = world.start();
    assert!(open(&store).await.is_err());
    let wait = request(Duration::from_secs(90));
    store.open(&dev(), wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_of_files_do_no_harm_as_names_of_scopes_and_stages() {
    let world = World::new();
    let odd = stage("locks/state.json");
    let session = world
        .start()
        .open(&odd, request(Duration::ZERO))
        .await
        .unwrap();
    let names = [
        "locks/state.json/journal.wal/state.json",
        "locks/state.json/%x/a b",
        "locks/state.json/state.json",
        "locks/state.json/a/é%2e",
    ];
    session
        .append(names.iter().map(|name| put(name, 1)).collect())
        .await
        .unwrap();
    session.checkpoint(header("x")).await.unwrap();
    session.release().await.unwrap();
    let store = world.start();
    assert_eq!(
        store.load(&odd).await.unwrap().unwrap().records.len(),
        names.len()
    );
    assert_eq!(
        store.stages(&odd.app).await.unwrap(),
        std::slice::from_ref(&odd)
    );
    assert_eq!(store.apps().await.unwrap(), std::slice::from_ref(&odd.app));
    assert!(store.validate(&odd).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn state_of_another_project_is_refused() {
    let (one, two) = (World::new(), World::new());
    two.ids.0.store(7, Ordering::SeqCst);
    for world in [&one, &two] {
        run(world, &scenario(), &mut Model::new()).await.unwrap();
    }
    for name in ["state.json", "journal.wal"] {
        let path = PathBuf::from(".alchemy/app/dev").join(name);
        let own = one.disk.read(&path).unwrap();
        one.disk
            .write(&path, &two.disk.read(&path).unwrap())
            .unwrap();
        let result = one.start().load(&dev()).await;
        assert!(
            matches!(result, Err(StateError::Corrupt { .. })),
            "{name}: {result:?}"
        );
        one.disk.write(&path, &own).unwrap();
    }
}
