//! Lives of the program: each is one run on a runtime of its own, over the cloud and the disk that earlier lives left.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, atomic::Ordering},
    time::Duration,
};

use alch::{
    engine::{
        Action, Cancel, Declaration, DeleteOptions, Event, Phase, Plan, ResourceOptions, Run,
        RunError, RunOptions, Summary, World,
    },
    model::{
        AppName, Fqn, Map, Reference, ResourceId, ScopePath, Secret, StageName, StagePath,
        TemplatePart, Value,
    },
    provider::{Meter, Registry},
    secret::KeyMaterial,
    state::{SharedStore, StageState, StateError},
    util::{clock::Clock, ids::Ids},
};

use super::{
    cloud::{SimCloud, kinds},
    disk::{AllAlive, Interlude, OneAlive, Promised, Seat, SimulatedStore, Write},
    scenario::{Command, Meddling, Program, Step, Thing},
    world::{EventLog, Fate, SimClock, SimIds, line},
};

/// No run takes longer than this, in simulated time: all its operations one after the other, each at its time limit.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(48 * 3_600);

/// What a life came to.
pub(crate) struct Ended {
    /// None when the process died: its memory is gone, and what its disk had not synced.
    pub(crate) result: Option<Result<Summary, RunError>>,
    /// Why the script ended early.
    pub(crate) script_error: Option<String>,
    pub(crate) plan: Plan,
    pub(crate) events: Vec<Event>,
    /// Requests that left.
    pub(crate) calls: u64,
    /// Calls of the disk.
    pub(crate) disk_calls: u64,
    /// What it left on the disk, before the power failed.
    pub(crate) promised: Promised,
}

impl Ended {
    pub(crate) fn died(&self) -> bool {
        self.result.is_none()
    }

    /// The summary of a run that came to its end.
    pub(crate) fn summary(&self) -> &Summary {
        match &self.result {
            Some(Ok(summary)) => summary,
            Some(Err(error)) => panic!("the run failed: {error}\n{}", self.lines().join("\n")),
            None => panic!("the process died\n{}", self.lines().join("\n")),
        }
    }

    /// The events as lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.events.iter().filter_map(line).collect()
    }
}

/// A world that outlives its programs.
pub(crate) struct Simulation {
    pub(crate) cloud: Arc<SimCloud>,
    pub(crate) disk: SimulatedStore,
    seed: u64,
    lives: u64,
    /// Seconds of the wall clock.
    now: i64,
}

/// Makes the clock of a process of the right one.
pub(crate) type Sense = dyn FnOnce(Arc<dyn Clock>) -> Arc<dyn Clock>;

/// Processes that want one stage.
pub(crate) struct Contest {
    pub(crate) actors: Vec<Actor>,
}

/// One of them.
pub(crate) struct Actor {
    pub(crate) step: Step,
    pub(crate) host: &'static str,
    /// How long after the others it starts.
    pub(crate) starts: Duration,
    pub(crate) lock_wait: Duration,
    /// What it takes for the time.
    pub(crate) clock: Box<Sense>,
}

pub(crate) fn stage() -> StagePath {
    StagePath::new(AppName::new("app").unwrap(), StageName::new("dev").unwrap())
}

pub(crate) fn fqn(id: &str) -> Fqn {
    Fqn::parse(&format!("{}/{id}", stage())).unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// A key file of this test process: quicker than a password, and beyond the simulated disk.
fn key() -> KeyMaterial {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.key");
        std::fs::write(&path, format!("{}\n", "5a".repeat(32))).unwrap();
        (folder, path)
    });
    KeyMaterial::File(path.clone())
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cloud: SimCloud::new(seed),
            disk: SimulatedStore::new(),
            seed,
            lives: 0,
            now: 1_800_000_000,
        }
    }

    /// Another world that is as this one is now.
    pub(crate) fn fork(&self) -> Self {
        Self {
            cloud: self.cloud.fork(self.seed),
            disk: self.disk.fork(),
            ..*self
        }
    }

    /// What somebody else does.
    fn meddle(&self, meddling: &[Meddling]) {
        if meddling.is_empty() {
            return;
        }
        let state = self.load().ok().flatten().unwrap_or_default();
        let name_of = |id: &String| {
            let record = state.records.get(&fqn(id));
            record.map(|record| record.physical_name.clone())
        };
        let mut stock = self.cloud.stock.lock().unwrap();
        for act in meddling {
            match act {
                Meddling::Make { kind, name } => {
                    let at = jiff::Timestamp::from_second(self.now - 10_000).unwrap();
                    stock.put_foreign(*kind, name, at);
                }
                Meddling::Remove { id } => {
                    if let Some(name) = name_of(id) {
                        stock.remove_named(&name);
                    }
                }
                Meddling::GiveBack => {
                    let records = state.records.values();
                    let names: Vec<&str> = records
                        .map(|record| record.physical_name.as_str())
                        .collect();
                    stock.give_back(&names);
                }
                Meddling::Change { id, value } => {
                    if let Some(name) = name_of(id) {
                        stock.change(&name, |object| object.value = Value::Int(*value));
                    }
                }
            }
        }
    }

    /// Runs a step.
    pub(crate) fn live(&mut self, step: &Step) -> Ended {
        self.live_with(step, None)
    }

    /// Runs a step that must keep to a plan.
    pub(crate) fn live_with(&mut self, step: &Step, expected_plan: Option<Arc<Plan>>) -> Ended {
        self.lives += 1;
        // Longer than any lease, shorter than a day, unless the step says otherwise.
        self.now += match step.pause {
            0 => 1_000,
            seconds => i64::from(seconds),
        };
        self.meddle(&step.meddling);
        self.disk.strike(&step.blows);
        let fate = Arc::<Fate>::default();
        let events = Arc::<EventLog>::default();
        let meter = Meter::default();
        let runtime = runtime();
        let (outcome, elapsed, disk_calls) = runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(self.now));
            let seed = self.seed ^ (self.lives << 32);
            let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(seed));
            let cloud = &self.cloud;
            cloud.begin(Arc::clone(&fate), Arc::clone(&clock), &step.blows, seed);
            let (store, calls) = self.disk.open(&fate, &clock, &ids, self.lives, &step.blows);
            let world = world(
                store,
                cloud,
                &clock,
                ids,
                Arc::clone(&events),
                meter.clone(),
            );
            world.registry.set_lag(cloud.lag());
            let outcome = tokio::select! {
                biased;
                () = fate.death() => None,
                outcome = drive(world, step, expected_plan, Duration::ZERO) => Some(outcome),
                () = tokio::time::sleep(LONGEST_RUN) => panic!("I10: the run does not end"),
            };
            (outcome, clock.monotonic(), calls.load(Ordering::SeqCst))
        });
        drop(runtime);
        let died = fate.is_dead();
        let promised = self.disk.promised();
        self.disk.end_process(died, &step.blows);
        self.now += i64::try_from(elapsed.as_secs()).unwrap();
        let events = std::mem::take(&mut *events.0.lock().unwrap());
        let (result, script_error, plan) = match outcome {
            Some(outcome) if !died => (Some(outcome.result), outcome.script_error, outcome.plan),
            _ => (None, None, empty_plan()),
        };
        Ended {
            result,
            script_error,
            plan,
            events,
            calls: meter.total(),
            disk_calls,
            promised,
        }
    }

    /// Lets several processes run at the same time.
    pub(crate) fn contend(
        &mut self,
        contest: Contest,
        writes: &Arc<Mutex<Vec<Write>>>,
    ) -> Vec<Result<Summary, RunError>> {
        self.now += 1_000;
        let runtime = runtime();
        let (results, elapsed) = runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(self.now));
            let mut runs = Vec::new();
            for actor in contest.actors {
                self.lives += 1;
                let seed = self.seed ^ (self.lives << 32);
                let fate = Arc::<Fate>::default();
                let clock = (actor.clock)(Arc::clone(&clock));
                let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(seed));
                let cloud = SimCloud::shared(Arc::clone(&self.cloud.stock), seed);
                cloud.begin(
                    Arc::clone(&fate),
                    Arc::clone(&clock),
                    &actor.step.blows,
                    seed,
                );
                let seat = Seat {
                    host: actor.host,
                    life: self.lives,
                    alive: Arc::new(AllAlive),
                    writes: Arc::clone(writes),
                    interlude: None,
                };
                cloud.tell(self.lives, writes);
                let blows = &actor.step.blows;
                let (store, _) = self.disk.open_at(&fate, &clock, &ids, seat, blows);
                let world = world(store, &cloud, &clock, ids, Arc::default(), Meter::default());
                runs.push(async move {
                    clock.sleep(actor.starts).await;
                    drive(world, &actor.step, None, actor.lock_wait)
                        .await
                        .result
                });
            }
            let results = tokio::select! {
                biased;
                results = futures::future::join_all(runs) => results,
                () = tokio::time::sleep(LONGEST_RUN) => panic!("I10: the contest does not end"),
            };
            (results, clock.monotonic())
        });
        drop(runtime);
        self.now += i64::try_from(elapsed.as_secs()).unwrap();
        self.disk.end_process(false, &[]);
        results
    }

    /// Lets a run be overtaken while it waits for the guard of its stage for the n-th time: another process takes it for dead,
    /// and runs from its beginning to its end. Answers what became of both; nothing of the other where the run was through
    /// before.
    pub(crate) fn overtake(
        &mut self,
        step: &Step,
        guard: u64,
        other: &Step,
        writes: &Arc<Mutex<Vec<Write>>>,
    ) -> (Result<Summary, RunError>, Option<Result<Summary, RunError>>) {
        self.now += 1_000;
        let (first, second) = (self.lives + 1, self.lives + 2);
        self.lives += 2;
        let seed = self.seed ^ (first << 32);
        let now = self.now;
        let stock = Arc::clone(&self.cloud.stock);
        let answer = Arc::<Mutex<Option<Result<Summary, RunError>>>>::default();
        let act = {
            let (disk, answer) = (self.disk.shared(), Arc::clone(&answer));
            let (other, stock, writes) = (other.clone(), Arc::clone(&stock), Arc::clone(writes));
            move || {
                let cloud = SimCloud::shared(stock, seed + 1);
                // On a thread of its own, which this one waits for: two runtimes do not nest.
                // Later than anything that the first one has seen of the clock.
                let later = now + 100;
                let run = move || one_life(&disk, &cloud, &other, later, second, &writes, None);
                let result = std::thread::spawn(run).join();
                *answer.lock().unwrap() = Some(result.unwrap());
            }
        };
        let interlude = Interlude {
            guard,
            act: Box::new(act),
        };
        let cloud = SimCloud::shared(stock, seed);
        let result = one_life(
            &self.disk,
            &cloud,
            step,
            now,
            first,
            writes,
            Some(interlude),
        );
        self.disk.end_process(false, &[]);
        let answer = answer.lock().unwrap().take();
        (result, answer)
    }

    fn reader<T>(&self, read: impl AsyncFnOnce(SharedStore) -> T) -> T {
        runtime().block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(1_900_000_000));
            let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(self.seed));
            let fate = Arc::<Fate>::default();
            read(self.disk.open(&fate, &clock, &ids, u64::MAX, &[]).0).await
        })
    }

    /// State as a reader sees it.
    pub(crate) fn load(&self) -> Result<Option<StageState>, StateError> {
        self.reader(async |store| store.load(&stage()).await)
    }

    /// State, which must be readable; empty when there is none.
    pub(crate) fn state(&self) -> StageState {
        self.load().unwrap().unwrap_or_default()
    }

    /// Every problem of the files.
    pub(crate) fn problems(&self) -> Vec<StateError> {
        self.reader(async |store| store.validate(&stage()).await)
            .unwrap()
    }
}

/// A whole run of a process that takes every other for dead.
fn one_life(
    disk: &SimulatedStore,
    cloud: &Arc<SimCloud>,
    step: &Step,
    now: i64,
    life: u64,
    writes: &Arc<Mutex<Vec<Write>>>,
    interlude: Option<Interlude>,
) -> Result<Summary, RunError> {
    let fate = Arc::<Fate>::default();
    let runtime = runtime();
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(now));
        let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(life));
        cloud.begin(Arc::clone(&fate), Arc::clone(&clock), &[], life);
        cloud.tell(life, writes);
        let seat = Seat {
            host: "sim",
            life,
            alive: Arc::new(OneAlive(life)),
            writes: Arc::clone(writes),
            interlude,
        };
        let (store, _) = disk.open_at(&fate, &clock, &ids, seat, &[]);
        let world = world(store, cloud, &clock, ids, Arc::default(), Meter::default());
        drive(world, step, None, Duration::ZERO).await.result
    })
}

struct Outcome {
    result: Result<Summary, RunError>,
    script_error: Option<String>,
    plan: Plan,
}

fn world(
    store: SharedStore,
    cloud: &Arc<SimCloud>,
    clock: &Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    events: Arc<EventLog>,
    meter: Meter,
) -> World {
    let registry = Arc::new(Registry::new());
    for kind in kinds(cloud) {
        registry.add(kind);
    }
    World {
        redact: Arc::new(str::to_owned),
        store,
        registry,
        clock: Arc::clone(clock),
        ids,
        events,
        meter,
        cancel: Cancel::default(),
    }
}

async fn drive(
    world: World,
    step: &Step,
    expected_plan: Option<Arc<Plan>>,
    lock_wait: Duration,
) -> Outcome {
    let phase = match step.command {
        Command::Up | Command::Refresh => Phase::Up,
        Command::Plan => Phase::Plan,
        Command::Destroy => Phase::Destroy,
        Command::Repair => Phase::Repair,
    };
    let options = RunOptions {
        phase,
        adopt: false,
        force: false,
        refresh: step.looks || step.command == Command::Refresh,
        concurrency: match step.concurrency {
            0 => 4,
            limit => limit,
        },
        rebuild: false,
        allow_data_loss: false,
        delete_adopted: false,
        target: "sim".to_owned(),
        folder: Path::new(".").into(),
        access: Arc::default(),
        script: None,
        command: "sim".to_owned(),
        actor: "sim".to_owned(),
        host: "sim".to_owned(),
        lock_wait,
        delete: DeleteOptions {
            strategy: step.deletes.strategy(),
            ..DeleteOptions::default()
        },
        expected_plan,
    };
    let run = match Run::start(world, stage(), key(), options).await {
        Ok(run) => run,
        Err(error) => {
            return Outcome {
                result: Err(error),
                script_error: None,
                plan: empty_plan(),
            };
        }
    };
    let mut script_error = None;
    if matches!(phase, Phase::Up | Phase::Plan) {
        script_error = evaluate(&run, &step.program).await.err();
    }
    let result = match phase {
        Phase::Destroy => run.destroy().await,
        Phase::Repair => run.repair().await,
        _ => run.finalize(script_error.is_none()).await,
    };
    Outcome {
        result,
        script_error,
        plan: run.plan(),
    }
}

/// Says to the engine what the script host would.
async fn evaluate(run: &Arc<Run>, program: &Program) -> Result<(), String> {
    for (from, to) in &program.moved {
        let moved = run.moved(&ScopePath::root(), from, to).await;
        moved.map_err(|error| error.to_string())?;
    }
    for thing in &program.things {
        let mut scope = ScopePath::root();
        let mut parts: Vec<&str> = thing.id.split('/').collect();
        parts.pop();
        for part in parts {
            let id = ResourceId::new(part).map_err(|error| error.to_string())?;
            scope = run
                .enter_scope(&scope, &id, None)
                .map_err(|error| error.to_string())?;
        }
        run.declare(declaration(thing, scope))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn empty_plan() -> Plan {
    Plan {
        format: 1,
        stage: stage(),
        target: "sim".to_owned(),
        lineage: String::new(),
        serial: 0,
        script: None,
        file: None,
        adopt: false,
        force: false,
        refresh: false,
        allow_data_loss: false,
        actions: Vec::new(),
    }
}

/// A declaration that refers to the things it uses in three ways: the whole handle, an attribute, and text around one.
fn declaration(thing: &Thing, scope: ScopePath) -> Declaration {
    let reference = |id: &String, path: &[&str]| Reference {
        fqn: fqn(id),
        path: path.iter().map(|part| (*part).to_owned()).collect(),
    };
    let uses: Vec<Value> = thing
        .uses
        .iter()
        .enumerate()
        .map(|(index, id)| match index % 3 {
            0 => Value::Ref(reference(id, &[])),
            1 => Value::Ref(reference(id, &["id"])),
            _ => Value::Template(vec![
                TemplatePart::Text("id is ".to_owned()),
                TemplatePart::Ref(reference(id, &["id"])),
            ]),
        })
        .collect();
    let mut props = Map::from([
        ("value".to_owned(), Value::Int(thing.value)),
        ("place".to_owned(), Value::string(thing.place.clone())),
        ("soil".to_owned(), Value::string(thing.soil.clone())),
    ]);
    if !uses.is_empty() {
        props.insert("uses".to_owned(), Value::Array(uses));
    }
    if let Some(secret) = &thing.secret {
        let secret = Value::Secret(Secret::plain(secret.clone()));
        props.insert("key".to_owned(), secret);
    }
    if let Some(name) = &thing.name {
        props.insert("name".to_owned(), Value::string(name.clone()));
    }
    let id = thing.id.rsplit('/').next().unwrap();
    Declaration {
        id: ResourceId::new(id).unwrap(),
        kind: thing.kind.name().into(),
        props,
        options: ResourceOptions {
            adopt: thing.adopt.then_some(true),
            protect: thing.protect.then_some(true),
            retain: thing.retain.then_some(true),
        },
        position: None,
        conditional: false,
        scope,
    }
}

/// How many of the plan's actions are of this sort.
pub(crate) fn planned(plan: &Plan, action: Action) -> usize {
    plan.actions
        .iter()
        .filter(|planned| planned.action == action)
        .count()
}
