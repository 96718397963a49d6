//! The simulated world: a cloud, a clock and an id source behind the engine's own seams, in one deterministic thread.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use alch::{
    engine::{Event, EventSink},
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, Observation, OperationContext,
        PropError, Provider, ProviderError,
    },
    util::{clock::Clock, ids::Ids},
};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

/// Counts effects and ends the process, as far as the world can tell, at one of them.
#[derive(Default)]
pub(crate) struct Fate {
    effects: AtomicU64,
    /// The effect that does not return; `u64::MAX` for none.
    last: AtomicU64,
    dead: AtomicBool,
    died: tokio::sync::Notify,
}

impl Fate {
    /// A fate that never strikes.
    pub(crate) fn none() -> Arc<Self> {
        Self::at(u64::MAX)
    }

    /// A fate that strikes at effect number `last`, counted from 0.
    pub(crate) fn at(last: u64) -> Arc<Self> {
        Arc::new(Self {
            last: AtomicU64::new(last),
            ..Self::default()
        })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Passes one effect. `false` means that the process died right there.
    pub(crate) fn pass(&self) -> bool {
        if self.is_dead() {
            return false;
        }
        if self.effects.fetch_add(1, Ordering::SeqCst) == self.last.load(Ordering::SeqCst) {
            self.kill();
            return false;
        }
        true
    }

    /// Ends the process from outside: the power failed.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
        self.died.notify_one();
    }

    /// Waits until the process has died.
    pub(crate) async fn death(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }

    /// Passes one effect of asynchronous code; never returns from the one where the process dies.
    async fn point(&self) {
        if !self.pass() {
            std::future::pending::<()>().await;
        }
    }
}

/// Simulated time: wall clock and monotonic clock move with tokio's paused time.
pub(crate) struct SimClock {
    base: Timestamp,
    /// `None` where time stands still.
    start: Option<tokio::time::Instant>,
}

impl SimClock {
    /// A clock that runs with the runtime it is made in.
    pub(crate) fn starting_at(seconds: i64) -> Self {
        Self {
            start: Some(tokio::time::Instant::now()),
            ..Self::standing_at(seconds)
        }
    }

    /// A clock that always says the same.
    pub(crate) fn standing_at(seconds: i64) -> Self {
        Self {
            base: Timestamp::from_second(seconds).unwrap(),
            start: None,
        }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.base + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Ids from a seed.
pub(crate) struct SimIds(Mutex<StdRng>);

impl SimIds {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Ids for SimIds {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(bytes);
    }
}

/// Keeps every event as text, for comparing runs.
#[derive(Default)]
pub(crate) struct EventLog(pub(crate) Mutex<Vec<String>>);

impl EventSink for EventLog {
    fn emit(&self, event: Event) {
        let line = match event {
            Event::Started { fqn, action, .. } => format!("{} {fqn}", action.progressive()),
            Event::Finished { fqn, action, .. } => format!("{} {fqn}", action.past()),
            Event::Unchanged { fqn, .. } => format!("unchanged {fqn}"),
            Event::Failed(failure) => format!("failed {}: {}", failure.fqn, failure.cause),
            Event::Skipped { fqn, because } => format!("skipped {fqn} because of {because}"),
            Event::Planned(planned) => format!("plan {} {}", planned.action.verb(), planned.fqn),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// One object of the simulated cloud.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) value: Value,
    pub(crate) soil: Value,
    pub(crate) created_at: Timestamp,
}

/// A cloud without names of owners and without idempotency keys: the hard case.
pub(crate) struct SimCloud {
    schema: KindSchema,
    clock: Mutex<Arc<dyn Clock>>,
    rng: Mutex<StdRng>,
    fate: Mutex<Arc<Fate>>,
    next_id: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) in_flight: Mutex<(usize, usize)>,
    pub(crate) objects: Mutex<BTreeMap<String, Object>>,
    /// Physical names whose delete is refused.
    pub(crate) undeletable: Mutex<Vec<String>>,
}

pub(crate) const KIND: &str = "sim::Thing";

impl SimCloud {
    pub(crate) fn new(seed: u64) -> Self {
        let schema = KindSchema {
            kind: KIND.into(),
            doc: "a thing of the simulated cloud".to_owned(),
            props: vec![
                Prop::new("value", PropType::Any, "what it holds"),
                Prop::new("place", PropType::String, "where it lies").replaces(),
                Prop::new(
                    "soil",
                    PropType::String,
                    "what it stands on; no part of its name",
                )
                .replaces(),
                Prop::new("name", PropType::String, "its name"),
                Prop::new("uses", PropType::Any, "what it refers to"),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "made by the cloud"),
                Attribute::identity("name", "its name"),
                Attribute::new("value", "what it holds"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: 63,
        };
        Self {
            schema,
            clock: Mutex::new(Arc::new(alch::util::clock::SystemClock)),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            fate: Mutex::new(Fate::none()),
            next_id: AtomicU64::new(1),
            calls: AtomicU64::new(0),
            in_flight: Mutex::new((0, 0)),
            objects: Mutex::new(BTreeMap::new()),
            undeletable: Mutex::new(Vec::new()),
        }
    }

    /// A new life of the program: its own fate, nothing in flight.
    pub(crate) fn begin(&self, fate: Arc<Fate>, clock: Arc<dyn Clock>) {
        *self.fate.lock().unwrap() = fate;
        *self.clock.lock().unwrap() = clock;
        *self.in_flight.lock().unwrap() = (0, 0);
    }

    fn fate(&self) -> Arc<Fate> {
        Arc::clone(&self.fate.lock().unwrap())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock.lock().unwrap())
    }

    /// One request: it travels, commits, and its answer travels back. The program can die on either way.
    async fn request<T>(
        &self,
        context: &OperationContext,
        commit: impl FnOnce(&mut BTreeMap<String, Object>) -> T,
    ) -> T {
        context.meter.count();
        self.calls.fetch_add(1, Ordering::SeqCst);
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let fate = self.fate();
        let delay = self.rng.lock().unwrap().random_range(1..50);
        fate.point().await;
        self.clock().sleep(Duration::from_millis(delay)).await;
        if fate.is_dead() {
            std::future::pending::<()>().await;
        }
        let answer = commit(&mut self.objects.lock().unwrap());
        fate.point().await;
        self.clock().sleep(Duration::from_millis(delay)).await;
        self.in_flight.lock().unwrap().0 -= 1;
        answer
    }
}

fn outputs(name: &str, object: &Object) -> Map {
    Map::from([
        ("id".to_owned(), Value::string(object.id.clone())),
        ("name".to_owned(), Value::string(name)),
        ("value".to_owned(), object.value.clone()),
    ])
}

fn value_of(props: &Map) -> Value {
    props.get("value").cloned().unwrap_or_default()
}

#[async_trait]
impl Provider for SimCloud {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let explicit = props.get("name").and_then(Value::as_str).map(str::to_owned);
        // Another place is another object, with a name of its own.
        let place = props.get("place").and_then(Value::as_str).unwrap_or("here");
        let physical_name = explicit
            .clone()
            .unwrap_or_else(|| format!("{}-{place}", context.fqn.within_stage()));
        Ok(Checked {
            known: Map::from([("name".to_owned(), Value::string(physical_name.clone()))]),
            identity: Some(format!("{KIND}:{physical_name}")),
            explicit_name: explicit.is_some(),
            physical_name,
            props,
        })
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let name = existing.physical_name.clone();
        // By its id: another object of that name is not it.
        let id = existing.outputs.get("id").and_then(Value::as_str);
        Ok(self
            .request(context, |objects| {
                objects
                    .get(&name)
                    .filter(|object| id == Some(object.id.as_str()))
                    .map(|object| outputs(&name, object))
            })
            .await)
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let now = self.clock().now();
        let name = context.physical_name.clone();
        self.request(context, |objects| {
            if objects.contains_key(&name) {
                return Err(ProviderError::new(
                    FailureKind::Conflict,
                    "it exists already",
                ));
            }
            let object = Object {
                id: format!("id-{id}"),
                value: value_of(props),
                soil: props.get("soil").cloned().unwrap_or_default(),
                created_at: now,
            };
            let answer = outputs(&name, &object);
            objects.insert(name.clone(), object);
            Ok(answer)
        })
        .await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let name = existing.physical_name.clone();
        self.request(context, |objects| match objects.get_mut(&name) {
            Some(object) => {
                object.value = value_of(props);
                Ok(outputs(&name, object))
            }
            None => Err(ProviderError::new(FailureKind::NotFound, "it is gone")),
        })
        .await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let name = existing.physical_name.clone();
        if self.undeletable.lock().unwrap().contains(&name) {
            return Err(ProviderError::new(FailureKind::Refused, "it is in use"));
        }
        self.request(context, |objects| {
            objects.remove(&name);
        })
        .await;
        Ok(())
    }

    async fn list(
        &self,
        context: &OperationContext,
        _known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let list = self.request(context, |objects| {
            objects
                .iter()
                .map(|(name, object)| Observation {
                    id: object.id.clone(),
                    physical_name: name.clone(),
                    outputs: outputs(name, object),
                    props: Map::from([
                        ("value".to_owned(), object.value.clone()),
                        ("soil".to_owned(), object.soil.clone()),
                    ]),
                })
                .collect()
        });
        Ok(Some(list.await))
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let name = context.physical_name.clone();
        Ok(self
            .request(context, |objects| {
                objects.get(&name).map(|object| Found {
                    outputs: outputs(&name, object),
                    created_at: Some(object.created_at),
                    ours: None,
                })
            })
            .await)
    }
}
