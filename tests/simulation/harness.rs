//! Lives of the program: each is one run on a runtime of its own, over the cloud and the disk that earlier lives left.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use alch::{
    engine::{
        Action, Cancel, Declaration, DeleteOptions, DeleteStrategy, Phase, Plan, ResourceOptions,
        Run, RunError, RunOptions, Summary, World,
    },
    model::{
        AppName, Map, Reference, ResourceId, ScopePath, StageName, StagePath, TemplatePart, Value,
    },
    provider::{Meter, Registry},
    secret::KeyMaterial,
    state::{
        SharedStore, StageState,
        sim_disk::{Fault, Loss},
    },
    util::{clock::Clock, ids::Ids},
};

use super::{
    disk::SimulatedStore,
    world::{EventLog, Fate, KIND, SimClock, SimCloud, SimIds},
};

/// One declared thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Thing {
    pub(crate) id: String,
    pub(crate) value: i64,
    pub(crate) place: String,
    pub(crate) soil: String,
    pub(crate) uses: Vec<String>,
    pub(crate) protect: bool,
    pub(crate) adopt: bool,
}

/// A thing that refers to nothing.
pub(crate) fn thing(id: &str, value: i64) -> Thing {
    Thing {
        id: id.to_owned(),
        value,
        place: "here".to_owned(),
        soil: "sand".to_owned(),
        uses: Vec::new(),
        protect: false,
        adopt: false,
    }
}

impl Thing {
    pub(crate) fn uses(mut self, ids: &[&str]) -> Self {
        self.uses = ids.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    pub(crate) fn at(mut self, place: &str) -> Self {
        self.place = place.to_owned();
        self
    }

    pub(crate) fn on(mut self, soil: &str) -> Self {
        self.soil = soil.to_owned();
        self
    }

    pub(crate) fn protected(mut self) -> Self {
        self.protect = true;
        self
    }

    pub(crate) fn adopting(mut self) -> Self {
        self.adopt = true;
        self
    }
}

/// Where a life ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    Never,
    /// At this step of a request, counted from 0: as it leaves, or as its answer arrives.
    Cloud(u64),
    /// At this effect of the disk, counted from 1, in this way, losing this of what was not synced.
    Disk(u64, Fault, Loss),
}

/// How one life goes about it.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) phase: Phase,
    pub(crate) kill: Kill,
    pub(crate) concurrency: usize,
    pub(crate) deletes: DeleteStrategy,
    pub(crate) expected_plan: Option<Arc<Plan>>,
    pub(crate) refresh: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            phase: Phase::Up,
            kill: Kill::Never,
            concurrency: 4,
            deletes: DeleteStrategy::Sequential,
            expected_plan: None,
            refresh: false,
        }
    }
}

/// What a life came to, if it did not die.
pub(crate) struct Ended {
    pub(crate) result: Result<Summary, RunError>,
    pub(crate) plan: Plan,
    pub(crate) events: Vec<String>,
    pub(crate) calls: u64,
}

impl Ended {
    /// The summary of a run that went well.
    pub(crate) fn summary(&self) -> &Summary {
        match &self.result {
            Ok(summary) => summary,
            Err(error) => panic!("the run failed: {error}\n{}", self.events.join("\n")),
        }
    }
}

/// A world that outlives its programs.
pub(crate) struct Simulation {
    pub(crate) cloud: Arc<SimCloud>,
    pub(crate) disk: SimulatedStore,
    seed: u64,
    lives: u64,
}

pub(crate) fn stage() -> StagePath {
    StagePath::new(AppName::new("app").unwrap(), StageName::new("dev").unwrap())
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cloud: Arc::new(SimCloud::new(seed)),
            disk: SimulatedStore::new(),
            seed,
            lives: 0,
        }
    }

    /// Runs the program once. `None` when it died on the way; its memory is then gone, and what its disk had not synced.
    pub(crate) fn live(&mut self, things: &[Thing], life: &Life) -> Option<Ended> {
        self.lives += 1;
        let fate = match life.kill {
            Kill::Never => Fate::none(),
            Kill::Cloud(step) => Fate::at(step),
            Kill::Disk(effect, fault, loss) => {
                self.disk.strike(effect, fault, loss);
                Fate::none()
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ended = runtime.block_on(async {
            // Lives follow one another by a thousand seconds: longer than any lease, shorter than a day.
            let now = 1_800_000_000 + i64::try_from(self.lives).unwrap() * 1_000;
            let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(now));
            let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(self.seed ^ (self.lives << 32)));
            self.cloud.begin(Arc::clone(&fate), Arc::clone(&clock));
            let store = self.disk.open(&fate, &clock, &ids, self.lives);
            tokio::select! {
                biased;
                () = fate.death() => None,
                ended = drive(Arc::clone(&self.cloud), store, clock, ids, things, life) => Some(ended),
            }
        });
        drop(runtime);
        if fate.is_dead() {
            self.disk.crash();
            return None;
        }
        self.disk.calm();
        ended
    }

    /// State as a reader sees it.
    pub(crate) fn state(&self) -> StageState {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(SimClock::starting_at(1_900_000_000));
            let ids: Arc<dyn Ids> = Arc::new(SimIds::seeded(self.seed));
            let store = self.disk.open(&Fate::none(), &clock, &ids, u64::MAX);
            store.load(&stage()).await.unwrap().unwrap_or_default()
        })
    }

    /// I1 and I2: the cloud holds what state says, and nothing else; and state says what is declared.
    pub(crate) fn assert_settled(&self, things: &[Thing], context: &str) {
        let state = self.state();
        assert!(state.open_intents.is_empty(), "{context}: open intents");
        let recorded: BTreeSet<String> = state
            .records
            .values()
            .map(|record| record.physical_name.clone())
            .collect();
        let existing: BTreeSet<String> =
            self.cloud.objects.lock().unwrap().keys().cloned().collect();
        assert_eq!(
            recorded, existing,
            "{context}: state on the left, cloud on the right"
        );
        let declared: BTreeSet<String> = things.iter().map(|thing| thing.id.clone()).collect();
        let known: BTreeSet<String> = state
            .records
            .keys()
            .map(|fqn| fqn.within_stage().to_owned())
            .collect();
        assert_eq!(
            declared, known,
            "{context}: declared on the left, state on the right"
        );
        for thing in things {
            let name = format!("{}-{}", thing.id, thing.place);
            let objects = self.cloud.objects.lock().unwrap();
            let object = objects
                .get(&name)
                .unwrap_or_else(|| panic!("{context}: no {name}"));
            assert_eq!(object.value, Value::Int(thing.value), "{context}: {name}");
            assert_eq!(
                object.soil,
                Value::string(thing.soil.clone()),
                "{context}: {name}"
            );
        }
        for record in state.records.values() {
            assert!(
                record.old_objects.is_empty(),
                "{context}: old objects of {}",
                record.fqn
            );
        }
    }
}

async fn drive(
    cloud: Arc<SimCloud>,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    things: &[Thing],
    life: &Life,
) -> Ended {
    let events = Arc::new(EventLog::default());
    let registry = Arc::new(Registry::new());
    registry.add(cloud);
    let meter = Meter::default();
    let world = World {
        redact: Arc::new(str::to_owned),
        store,
        registry,
        clock,
        ids,
        events: Arc::<EventLog>::clone(&events),
        meter: meter.clone(),
        cancel: Cancel::default(),
    };
    let options = RunOptions {
        phase: life.phase,
        adopt: false,
        force: false,
        refresh: life.refresh,
        rebuild: false,
        concurrency: life.concurrency,
        allow_data_loss: false,
        delete_adopted: false,
        target: "sim".to_owned(),
        folder: Path::new(".").into(),
        access: Arc::default(),
        script: None,
        command: "sim".to_owned(),
        actor: "sim".to_owned(),
        host: "sim".to_owned(),
        lock_wait: Duration::ZERO,
        delete: DeleteOptions {
            strategy: life.deletes,
            ..DeleteOptions::default()
        },
        expected_plan: life.expected_plan.clone(),
    };
    let key = KeyMaterial::Password("sim".to_owned().into());
    let mut plan = empty_plan();
    let result = match Run::start(world, stage(), key, options).await {
        Ok(run) => {
            if matches!(life.phase, Phase::Up | Phase::Plan | Phase::Read) {
                for thing in things {
                    run.declare(declaration(thing)).unwrap();
                }
            }
            let result = match life.phase {
                Phase::Destroy => run.destroy().await,
                Phase::Repair => run.repair().await,
                _ => run.finalize(true).await,
            };
            plan = run.plan();
            result
        }
        Err(error) => Err(error),
    };
    let events = events.0.lock().unwrap().clone();
    Ended {
        result,
        plan,
        events,
        calls: meter.total(),
    }
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
pub(crate) fn declaration(thing: &Thing) -> Declaration {
    let scope = ScopePath::root();
    let reference = |id: &String, path: &[&str]| Reference {
        fqn: alch::model::Fqn::new(&stage(), &scope, &ResourceId::new(id.clone()).unwrap()),
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
    Declaration {
        id: ResourceId::new(thing.id.clone()).unwrap(),
        kind: KIND.into(),
        props,
        options: ResourceOptions {
            adopt: thing.adopt.then_some(true),
            protect: thing.protect.then_some(true),
            retain: None,
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
