//! Holders that stand still, sleep, die or lose sight of their lock, and takers that watch: 12 cases, each with 100 seeds, on the
//! simulated disk and on clocks that can be stopped and set wrong. Whatever happens, no write with an old epoch is accepted,
//! and no holder believes in its lease while a taker holds the stage.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, time::Instant};

use super::{FileStore, Process, Processes};
use crate::{
    state::{
        LockRequest, Session, StageHeader, StageState, StateError, Store,
        disk::{AppendFile, Disk, Entry, Guard},
        sim_disk::SimDisk,
        tests_support::{intent, put, removed, stage},
    },
    util::{clock::Clock, ids::Ids},
};

const SEEDS: u64 = 100;
const TTL: Duration = Duration::from_secs(60);
const LOCK: &str = ".alchemy/locks/app/dev.lock";
const JOURNAL: &str = ".alchemy/app/dev/journal.wal";

/// What happens to the holder.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is stopped (SIGSTOP) and goes on later.
    Stopped,
    /// Its machine sleeps: the monotonic clock stands still as well.
    Asleep,
    /// It works on, but its lock can no longer be written.
    Cut,
    /// It dies.
    Dead,
    /// It works on, and somebody removes its lock by force.
    Forced,
}

/// How the taker sees the holder.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sight {
    OtherHost,
    OtherContainer,
    SameHost,
    /// The host was started again since.
    SameHostLater,
    /// The holder's process id belongs to another process by now.
    ReusedId,
}

/// What the wall clocks do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wall {
    Right,
    HolderJumps,
    TakerJumps,
    /// Those of both, against each other, and again while the taker waits.
    Frozen,
}

/// When the taker gets the stage.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    AtOnce,
    AfterLease,
    Never,
}

const CASES: [(Fate, Sight, Wall, Outcome); 12] = {
    use Fate::*;
    use Outcome::*;
    use Sight::*;
    use Wall::*;
    [
        (Stopped, OtherHost, Right, AfterLease),
        (Stopped, OtherContainer, Right, AfterLease),
        (Stopped, SameHost, Right, Never),
        (Asleep, OtherHost, Right, AfterLease),
        (Cut, OtherHost, Right, AfterLease),
        (Cut, SameHost, Right, Never),
        (Dead, ReusedId, Right, AtOnce),
        (Dead, SameHostLater, Right, AtOnce),
        (Forced, OtherHost, Right, AtOnce),
        (Stopped, OtherHost, HolderJumps, AfterLease),
        (Dead, OtherHost, TakerJumps, AfterLease),
        (Stopped, OtherHost, Frozen, AfterLease),
    ]
};

/// The clock of one machine.
struct HostClock {
    begin: Instant,
    /// What the wall clock is wrong by, in seconds.
    wrong: AtomicI64,
    frozen: AtomicBool,
    /// How long the machine slept, in milliseconds.
    slept: AtomicU64,
    /// Whether nothing goes on here.
    still: watch::Sender<bool>,
}

impl HostClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            wrong: AtomicI64::new(0),
            frozen: AtomicBool::new(false),
            slept: AtomicU64::new(0),
            still: watch::Sender::new(false),
        })
    }
}

#[async_trait::async_trait]
impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let passed = match self.frozen.load(Ordering::SeqCst) {
            true => Duration::ZERO,
            false => self.begin.elapsed(),
        };
        let wrong = SignedDuration::from_secs(self.wrong.load(Ordering::SeqCst));
        Timestamp::from_second(1_800_000_000).unwrap() + passed + wrong
    }

    fn monotonic(&self) -> Duration {
        let slept = Duration::from_millis(self.slept.load(Ordering::SeqCst));
        self.begin.elapsed().saturating_sub(slept)
    }

    fn since_boot(&self) -> Duration {
        self.begin.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        // Whoever slept while the process stood still wakes up when it goes on.
        let mut still = self.still.subscribe();
        still.wait_for(|still| !still).await.unwrap();
    }
}

/// The disk as one process sees it: its lock may be out of reach.
#[derive(Clone)]
struct View {
    disk: SimDisk,
    cut: Arc<AtomicBool>,
}

impl View {
    fn reach(&self, path: &Path) -> io::Result<()> {
        let is_lock =
            path.starts_with(".alchemy/locks") && path.extension() != Some("guard".as_ref());
        match is_lock && self.cut.load(Ordering::SeqCst) {
            true => Err(ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

impl Disk for View {
    fn is_blocking(&self) -> bool {
        false
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }
    fn modified(&self, path: &Path) -> io::Result<Timestamp> {
        self.disk.modified(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn create_exclusive(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk.create_exclusive(path, bytes)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.reach(path)?;
        self.disk.write(path, bytes)
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        self.disk.open_append(path)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn sync_tree(&self, root: &Path, files: &[PathBuf], folders: &[PathBuf]) -> io::Result<()> {
        self.disk.sync_tree(root, files, folders)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reach(from)?;
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.reach(path)?;
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn guard(&self, path: &Path, patience: Duration) -> io::Result<Box<dyn Guard>> {
        self.disk.guard(path, patience)
    }
}

/// The processes of a host: an id and when it started.
struct Running(Vec<(u32, u64)>);

impl Processes for Running {
    fn is_alive(&self, pid: u32, start: u64) -> Option<bool> {
        Some(self.0.contains(&(pid, start)))
    }
}

struct Numbers(AtomicU64);

impl Ids for Numbers {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = StdRng::seed_from_u64(self.0.fetch_add(1, Ordering::SeqCst));
        rng.fill_bytes(bytes);
    }
}

const HOLDER: (u32, u64) = (41, 1_000);
const TAKER: (u32, u64) = (42, 2_000);

fn store(
    view: &View,
    clock: &Arc<HostClock>,
    host: &str,
    boot: &str,
    (pid, pid_start): (u32, u64),
    running: Vec<(u32, u64)>,
) -> FileStore {
    FileStore::over(
        ".alchemy",
        Arc::new(view.clone()),
        Arc::clone(clock) as Arc<dyn Clock>,
        Arc::new(Numbers(AtomicU64::new(u64::from(pid)))),
        Process {
            owner: "me".to_owned(),
            host: host.to_owned(),
            boot_id: boot.to_owned(),
            pid,
            pid_start,
        },
        Arc::new(Running(running)),
    )
    .with_ttl(TTL)
}

fn request(wait: Duration) -> LockRequest {
    LockRequest {
        wait,
        command: "alch run".to_owned(),
    }
}

/// A stage as it must be: every accepted write applied.
struct Model(StageState);

impl Model {
    async fn write(&mut self, session: &dyn Session, rng: &mut StdRng) {
        let name = format!("app/dev/r{}", rng.random_range(0..6));
        let entry = match rng.random_range(0..4) {
            0 => removed(&name),
            1 => intent(&name),
            _ => put(&name, rng.random_range(0..1_000)),
        };
        session.append(vec![entry.clone()]).await.unwrap();
        self.0.apply(&entry);
        if rng.random_range(0..4) == 0 && self.0.open_intents.is_empty() {
            let header = StageHeader {
                script: Some(format!("s{}", rng.random_range(0..100))),
                ..StageHeader::default()
            };
            session.checkpoint(header.clone()).await.unwrap();
            self.0.header = header;
        }
    }
}

/// The epoch of each frame of the journal, as the journal's own description says.
fn epochs(disk: &SimDisk) -> Vec<u64> {
    let Ok(bytes) = disk.read(Path::new(JOURNAL)) else {
        return Vec::new();
    };
    let mut epochs = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        epochs.push(u64::from_le_bytes(
            bytes[at + 4..at + 12].try_into().unwrap(),
        ));
        at += 25 + usize::try_from(length).unwrap() + 4;
    }
    epochs
}

/// Everything but locks.
fn state_files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = disk.files();
    files.retain(|path, _| !path.starts_with(".alchemy/locks"));
    files.into_iter().collect()
}

fn lock_epoch(disk: &SimDisk) -> Option<u64> {
    let bytes = disk.read(Path::new(LOCK)).ok()?;
    let lock: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    lock["epoch"].as_u64()
}

/// Lets a holder that lost its stage try everything: nothing of it may reach the disk.
async fn struggles_in_vain(
    zombie: &dyn Session,
    fate: Fate,
    disk: &SimDisk,
    rng: &mut StdRng,
    case: &str,
) {
    let before = (state_files(disk), lock_epoch(disk));
    let refused = |result: Result<(), StateError>| {
        let error = result.expect_err(case);
        assert!(
            matches!(
                error,
                StateError::Fenced { .. } | StateError::Lapsed { .. } | StateError::Io { .. }
            ),
            "{case}: {error}"
        );
    };
    let mut tries = [0, 1, 2, 3];
    for index in 0..tries.len() {
        tries.swap(index, rng.random_range(index..4));
    }
    for what in tries {
        refused(match what {
            0 => zombie.append(vec![put("app/dev/zombie", 1)]).await,
            1 => zombie.checkpoint(StageHeader::default()).await,
            2 => zombie.remove_stage().await,
            // Force is noticed at the next write or heartbeat; who uses it has seen to it that the holder does no more.
            _ if fate == Fate::Forced => continue,
            _ => zombie.lease().check().await,
        });
    }
    zombie.release().await.unwrap();
    assert_eq!((state_files(disk), lock_epoch(disk)), before, "{case}");
}

async fn go_through(index: usize, seed: u64) {
    let (fate, sight, wall, outcome) = CASES[index];
    let case = format!("case {index} ({fate:?}, {sight:?}, {wall:?}), seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed * 1_000 + index as u64);
    let (there, here) = (HostClock::new(), HostClock::new());
    let disk = SimDisk::new(Arc::clone(&here) as Arc<dyn Clock>);
    let cut = Arc::new(AtomicBool::new(false));
    let view = |cut: &Arc<AtomicBool>| View {
        disk: disk.clone(),
        cut: Arc::clone(cut),
    };
    let holding = store(
        &view(&cut),
        &there,
        "there",
        "boot pid:1",
        HOLDER,
        vec![HOLDER],
    );
    let (host, boot) = match sight {
        Sight::OtherHost => ("here", "other pid:1"),
        Sight::OtherContainer => ("there", "boot pid:2"),
        Sight::SameHost | Sight::ReusedId => ("there", "boot pid:1"),
        Sight::SameHostLater => ("there", "later pid:1"),
    };
    let running = match sight {
        Sight::SameHost => vec![HOLDER, TAKER],
        Sight::ReusedId => vec![(HOLDER.0, HOLDER.1 + 500), TAKER],
        _ => vec![TAKER],
    };
    let taking = store(&view(&Arc::default()), &here, host, boot, TAKER, running);

    let dev = stage("app/dev");
    let mut model = Model(StageState::default());
    let holder = holding.open(&dev, request(Duration::ZERO)).await.unwrap();
    let old_epoch = holder.epoch();
    for _ in 0..rng.random_range(1..8) {
        model.write(holder.as_ref(), &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..40_000))).await;
        holder.lease().check().await.expect(&case);
    }

    let hour = rng.random_range(3_000..4_200) * if rng.random() { 1 } else { -1 };
    match wall {
        Wall::Right => {}
        Wall::HolderJumps => there.wrong.store(hour, Ordering::SeqCst),
        Wall::TakerJumps => here.wrong.store(hour, Ordering::SeqCst),
        Wall::Frozen => {
            there.wrong.store(hour, Ordering::SeqCst);
            here.frozen.store(true, Ordering::SeqCst);
        }
    }
    let began = Instant::now();
    let mut holder = Some(holder);
    match fate {
        Fate::Stopped | Fate::Asleep => {
            there.still.send_replace(true);
        }
        Fate::Cut => cut.store(true, Ordering::SeqCst),
        Fate::Dead => drop(holder.take()),
        Fate::Forced => {
            let live = taking.unlock(&dev, false).await;
            assert!(matches!(live, Err(StateError::Locked { .. })), "{case}");
            assert!(taking.unlock(&dev, true).await.unwrap(), "{case}");
        }
    }

    // While the taker waits, a holder that still works asks for leave again and again.
    let last_leave = Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let working = (fate == Fate::Cut).then(|| {
        let lease = holder.as_ref().unwrap().lease();
        let last_leave = Arc::clone(&last_leave);
        tokio::spawn(async move {
            loop {
                if lease.check().await.is_ok() {
                    *last_leave.lock().unwrap() = began.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        })
    });
    let wait = match outcome {
        Outcome::AtOnce => Duration::ZERO,
        Outcome::AfterLease => Duration::from_secs(600),
        Outcome::Never => Duration::from_secs(rng.random_range(61..300)),
    };
    let jumps = (wall == Wall::TakerJumps || wall == Wall::Frozen).then(|| {
        let here = Arc::clone(&here);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            here.wrong.fetch_sub(2 * hour, Ordering::SeqCst);
        })
    });
    let taken = taking.open(&dev, request(wait)).await;
    let taken_after = began.elapsed();
    for task in [working, jumps].into_iter().flatten() {
        task.abort();
    }

    if outcome == Outcome::Never {
        assert!(
            matches!(
                taken,
                Err(StateError::Locked {
                    alive: Some(true),
                    ..
                })
            ),
            "{case}"
        );
        there.still.send_replace(false);
        cut.store(false, Ordering::SeqCst);
        let holder = holder.unwrap();
        holder.lease().check().await.expect(&case);
        model.write(holder.as_ref(), &mut rng).await;
        holder.release().await.unwrap();
        let state = taking.load(&dev).await.unwrap().unwrap();
        assert_eq!(state.records, model.0.records, "{case}");
        assert!(
            epochs(&disk).iter().all(|epoch| *epoch == old_epoch),
            "{case}"
        );
        return;
    }
    let taker = taken.expect(&case);
    if outcome == Outcome::AfterLease {
        let range = TTL..TTL + Duration::from_secs(1);
        assert!(range.contains(&taken_after), "{case}: {taken_after:?}");
    }
    // The taker begins with all that was accepted, and with nothing else.
    let found = taker.take_state();
    assert_eq!(found.records, model.0.records, "{case}");
    assert_eq!(found.open_intents, model.0.open_intents, "{case}");
    assert!(taker.epoch() > old_epoch, "{case}");
    assert!(
        last_leave.lock().unwrap().saturating_add(TTL / 6) <= taken_after || fate != Fate::Cut,
        "{case}: leave after {:?}, taken after {taken_after:?}",
        last_leave.lock().unwrap()
    );
    for _ in 0..rng.random_range(1..5) {
        model.write(taker.as_ref(), &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..30_000))).await;
    }
    if fate == Fate::Asleep {
        let asleep = u64::try_from(began.elapsed().as_millis()).unwrap();
        there.slept.store(asleep, Ordering::SeqCst);
    }
    there.still.send_replace(false);
    cut.store(false, Ordering::SeqCst);
    if rng.random() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..20_000))).await;
    }
    if let Some(zombie) = holder.take() {
        struggles_in_vain(zombie.as_ref(), fate, &disk, &mut rng, &case).await;
    }
    taker.lease().check().await.expect(&case);
    model.write(taker.as_ref(), &mut rng).await;
    let seen = epochs(&disk);
    assert!(seen.is_sorted(), "{case}: {seen:?}");
    assert!(
        seen.last().is_none_or(|last| *last == taker.epoch()),
        "{case}"
    );
    taker.release().await.unwrap();
    let state = taking.load(&dev).await.unwrap().unwrap();
    assert_eq!(state.records, model.0.records, "{case}");
    assert_eq!(state.open_intents, model.0.open_intents, "{case}");
    assert_eq!(state.epoch, taker.epoch(), "{case}");
    assert_eq!(lock_epoch(&disk), None, "{case}");
    assert!(taking.validate(&dev).await.unwrap().is_empty(), "{case}");
}

#[test]
fn no_write_with_an_old_epoch_is_ever_accepted() {
    let mut count = 0;
    for index in 0..CASES.len() {
        for seed in 0..SEEDS {
            // A runtime of its own for each, so that nothing of one lives on in another.
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap()
                .block_on(go_through(index, seed));
            count += 1;
        }
    }
    assert_eq!(count, 1_200);
}
