//! What may be on disk between two fsyncs: every short sequence of operations of the store, the power failing after every
//! effect of the last one, and of what was not synced by then every subset surviving. Whoever reads it sees the state before or
//! after, or after some of the entries in their order, and never another.
//!
//! The model is that of ALICE and CrashMonkey: names and contents become durable in any order, unless a sync stands between.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use alch::{
    model::{Fqn, Map, Value},
    state::{
        Deployment, Intent, JournalEntry, LockRequest, Operation, Record, Session, SharedStore,
        StageHeader, StageState, StateError, Status,
    },
    util::{clock::Clock, ids::Ids},
};
use jiff::Timestamp;

use super::{
    cases::text_of,
    disk::SimulatedStore,
    harness::{fqn, runtime, stage},
    places::Omission,
    report::{IS_WHOLE, Tally, is_custom},
    scenario::{Blow, Lost, Moment},
    world::{Fate, SimClock, SimIds},
};

/// Subsets of at most so many changes are all tried; of more, as many of the first and the last ones.
const EXHAUSTIVE: usize = 9;

/// One operation of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Intend,
    PutA,
    PutTwo,
    RemoveA,
    Checkpoint,
    OtherCheckpoint,
    Deployment,
    RemoveStage,
    Reopen,
}

const ACTS: [Act; 9] = [
    Act::Intend,
    Act::PutA,
    Act::PutTwo,
    Act::RemoveA,
    Act::Checkpoint,
    Act::OtherCheckpoint,
    Act::Deployment,
    Act::RemoveStage,
    Act::Reopen,
];

fn record(id: &str, value: i64) -> JournalEntry {
    JournalEntry::Record(Arc::new(Record {
        fqn: fqn(id),
        kind: "sim::Thing".into(),
        status: Status::Ready,
        physical_name: id.to_owned(),
        instance: "one".to_owned(),
        props: Map::from([("value".to_owned(), Value::Int(value))]),
        props_hash: "hash".to_owned(),
        reference_hashes: BTreeMap::new(),
        outputs: Map::new(),
        depends_on: Vec::new(),
        adopted: false,
        protect: false,
        retain: false,
        keeps_name: false,
        attempted: Map::new(),
        attempted_names: Vec::new(),
        old_objects: Vec::new(),
        position: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }))
}

fn intent(id: &str) -> JournalEntry {
    JournalEntry::Intent(Arc::new(Intent {
        fqn: fqn(id),
        kind: "sim::Thing".into(),
        operation: Operation::Create,
        physical_name: id.to_owned(),
        instance: "one".to_owned(),
        props_hash: "hash".to_owned(),
        props: Map::new(),
        at: Timestamp::UNIX_EPOCH,
    }))
}

impl Act {
    /// The entries that it appends; `turn` makes those of one sequence differ.
    fn entries(self, turn: usize) -> Vec<JournalEntry> {
        let value = i64::try_from(turn).unwrap();
        let removed = |id: &str| JournalEntry::Removed { fqn: fqn(id) };
        match self {
            Self::Intend => vec![intent("web/new")],
            Self::PutA => vec![record("a", value)],
            Self::PutTwo => vec![record("web/b", value), record("web/in/c", value)],
            Self::RemoveA => vec![removed("a")],
            _ => Vec::new(),
        }
    }

    fn header(self) -> StageHeader {
        StageHeader {
            script: (self == Self::OtherCheckpoint).then(|| "other.rhai".to_owned()),
            ..StageHeader::default()
        }
    }
}

/// The disk, the one process on it, and what it may hold.
struct Bench {
    disk: SimulatedStore,
    life: u64,
    /// What is durable for certain.
    state: StageState,
}

fn same(a: &StageState, b: &StageState) -> bool {
    a.records == b.records && a.open_intents == b.open_intents && a.header == b.header
}

impl Bench {
    fn store(&mut self) -> SharedStore {
        self.life += 1;
        let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(1_800_000_000));
        let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(1));
        self.disk
            .open(&Arc::<Fate>::default(), &clock, &ids, self.life, &[])
            .0
    }

    async fn open(&mut self) -> Result<Box<dyn Session>, StateError> {
        let request = LockRequest {
            wait: std::time::Duration::ZERO,
            command: "sim".to_owned(),
        };
        self.store().open(&stage(), request).await
    }

    /// Does one thing. An error is that of the power.
    async fn act(
        &mut self,
        session: &mut Box<dyn Session>,
        act: Act,
        turn: usize,
    ) -> Result<(), StateError> {
        match act {
            Act::Checkpoint | Act::OtherCheckpoint => session.checkpoint(act.header()).await?,
            Act::Deployment => session.record_deployment(deployment()).await?,
            Act::RemoveStage => session.remove_stage().await?,
            Act::Reopen => {
                session.release().await?;
                *session = self.open().await?;
            }
            _ => session.append(act.entries(turn)).await?,
        }
        self.state = self.after(act, turn).pop().unwrap();
        Ok(())
    }

    /// What may be there once `act` was begun, the last when it is done.
    fn after(&self, act: Act, turn: usize) -> Vec<StageState> {
        let mut possible = vec![self.state.clone()];
        let mut state = self.state.clone();
        match act {
            Act::Checkpoint | Act::OtherCheckpoint => state.header = act.header(),
            Act::RemoveStage => state = StageState::default(),
            _ => {
                for entry in act.entries(turn) {
                    state.apply(&entry);
                    possible.push(state.clone());
                }
            }
        }
        possible.push(state);
        possible
    }

    /// Whether the store can do this now.
    fn allows(&self, act: Act) -> bool {
        act != Act::RemoveStage || self.state.is_empty()
    }
}

fn deployment() -> Deployment {
    Deployment {
        id: "01A".to_owned(),
        stage: stage(),
        command: "run".to_owned(),
        actor: "sim".to_owned(),
        host: "sim".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        result: "succeeded".to_owned(),
        counts: BTreeMap::new(),
        alch_version: "0".to_owned(),
    }
}

/// A bench on which `acts` were done. None where the store does not allow one of them.
async fn prepare(acts: &[Act], omission: Option<&Omission>) -> Option<(Bench, Box<dyn Session>)> {
    let mut bench = Bench {
        disk: SimulatedStore::new(),
        life: 0,
        state: StageState::default(),
    };
    bench.disk.omission = omission.cloned();
    let mut session = bench.open().await.unwrap();
    for (turn, act) in acts.iter().enumerate() {
        if !bench.allows(*act) {
            return None;
        }
        bench.act(&mut session, *act, turn).await.unwrap();
    }
    Some((bench, session))
}

fn subsets(count: usize) -> Vec<u64> {
    if count <= EXHAUSTIVE {
        return (0..1 << count).collect();
    }
    let all = (1_u64 << count) - 1;
    let first = (0..1 << (EXHAUSTIVE - 1)).map(|mask: u64| mask);
    first.flat_map(|mask| [mask, all ^ mask]).collect()
}

/// Fails the power after every effect of the last act, in every way.
async fn fail_at_every_effect(
    before: &[Act],
    last: Act,
    omission: Option<&Omission>,
    tally: &mut Tally,
) {
    for effect in 1.. {
        let Some((mut bench, mut session)) = prepare(before, omission).await else {
            return;
        };
        if !bench.allows(last) {
            return;
        }
        let possible = bench.after(last, before.len());
        bench.disk.strike(&[Blow::Power {
            effect,
            moment: Moment::After,
            lost: Lost::Nothing,
        }]);
        let result = bench.act(&mut session, last, before.len()).await;
        drop(session);
        if result.is_ok() && !bench.disk.is_down() {
            return;
        }
        let unsynced = bench.disk.unsynced();
        tally.count(format!("{unsynced:>2} changes not synced"));
        for kept in subsets(unsynced) {
            let context = || {
                format!(
                    "{before:?} then {last:?}, the power failing after effect {effect} ({:?}), {kept:b} of {unsynced} kept",
                    bench.disk.trace().last()
                )
            };
            let mut survivor = Bench {
                disk: bench.disk.fork(),
                life: bench.life,
                state: StageState::default(),
            };
            survivor.disk.lose_all_but(kept);
            let found = survivor.store().load(&stage()).await;
            let found = found.unwrap_or_else(|error| panic!("{}: {error}", context()));
            let found = found.unwrap_or_default();
            assert!(
                possible.iter().any(|state| same(state, &found)),
                "{}: {found:#?}",
                context()
            );
            // The next run works on from there.
            if kept % 4 == 0 {
                let session = survivor.open().await;
                let session = session.unwrap_or_else(|error| panic!("{}: {error}", context()));
                assert!(same(&session.take_state(), &found), "{}", context());
                session.append(vec![record("more", 1)]).await.unwrap();
                session.checkpoint(Act::Checkpoint.header()).await.unwrap();
                session.release().await.unwrap();
                survivor.disk.lose_all_but(0);
                let again = survivor.store().load(&stage()).await;
                let again = again.unwrap_or_else(|error| panic!("{}: {error}", context()));
                let name: Fqn = fqn("more");
                assert!(again.unwrap().records.contains_key(&name), "{}", context());
                tally.count("worked on from");
            }
            tally.note_plain();
        }
    }
}

#[test]
fn whatever_survives_between_two_syncs_is_the_old_state_or_the_new_one() {
    let mut tally = Tally::new("subsets of what was not synced");
    let base = [Act::PutA, Act::PutTwo, Act::Checkpoint];
    let mut number = 0;
    for base in [&[][..], &base] {
        let mut sequences: Vec<Vec<Act>> = vec![base.to_vec()];
        for _ in 0..3 {
            let mut longer = Vec::new();
            let mut tried = Vec::new();
            for before in &sequences {
                for last in ACTS {
                    number += 1;
                    // A build that is not optimised tries some of them.
                    if IS_WHOLE || before.len() == base.len() || number % 80 == 0 {
                        tried.push((before.clone(), last));
                    }
                    longer.push([before.as_slice(), &[last]].concat());
                }
            }
            tally.each(tried, |(before, last), tally| {
                runtime().block_on(fail_at_every_effect(&before, last, None, tally));
            });
            sequences = longer;
        }
    }
    tally.tell();
    if IS_WHOLE && !is_custom() {
        assert!(tally.cases() > 10_000, "only {}", tally.cases());
    }
}

/// Whether sequences of up to two operations tell of what the store leaves out.
pub(crate) fn tells(omission: &Omission) -> Option<String> {
    let base = [Act::PutA, Act::PutTwo, Act::Checkpoint];
    let gone = [Act::PutA, Act::Checkpoint, Act::RemoveA];
    let mut tally = Tally::new("mutated");
    for base in [&[][..], &base, &gone] {
        let once = ACTS.map(|act| (base.to_vec(), act));
        let twice = ACTS.iter().flat_map(|first| {
            let before = [base, &[*first]].concat();
            ACTS.map(move |act| (before.clone(), act))
        });
        for (before, last) in once.into_iter().chain(twice) {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let work = fail_at_every_effect(&before, last, Some(omission), &mut tally);
                runtime().block_on(work);
            }));
            if let Err(panic) = result {
                return Some(text_of(panic.as_ref()));
            }
        }
    }
    None
}
