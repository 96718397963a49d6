//! The simulated cloud: objects, requests that take time, and everything that can go wrong with one.
//!
//! A request leaves, travels, is carried out, and its answer travels back. One that has left may still be carried out after
//! whoever sent it has died or given up. Faults are those of [`CloudFault`]; how they stand for what the real client meets is
//! told in `cloud_faults`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use alch::{
    model::{
        Attribute, DeletePolicy, Fqn, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, Observation, OperationContext,
        PropError, Provider, ProviderError,
    },
    util::clock::Clock,
};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    disk::Write,
    scenario::{Blow, CloudFault, Kind},
    world::{Fate, SimClock},
};

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Who made it, where the kind lets itself be marked.
    pub(crate) mark: Option<String>,
    pub(crate) value: Value,
    pub(crate) soil: Value,
    pub(crate) secret: Option<String>,
    /// What it was told of the things that it uses.
    pub(crate) uses: Vec<String>,
    pub(crate) created_at: Timestamp,
    /// The resource that made it; nobody knows that but the simulation. None for what somebody else made.
    pub(crate) maker: Option<Fqn>,
    /// Whether alch has changed it since it was made.
    pub(crate) touched: bool,
}

/// What there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stock {
    objects: BTreeMap<u64, Object>,
    /// What was there, until when.
    gone: Vec<(Timestamp, Object)>,
    next: u64,
}

impl Stock {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    pub(crate) fn named(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.all()
            .find(|object| object.kind == kind && object.name == name)
    }

    pub(crate) fn with_id(&self, id: &str) -> Option<&Object> {
        self.all().find(|object| object.id == id)
    }

    fn id_mut(&mut self, id: &str) -> Option<&mut Object> {
        self.objects.values_mut().find(|object| object.id == id)
    }

    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Object)) {
        let object = self.objects.values_mut().find(|object| object.name == name);
        if let Some(object) = object {
            change(object);
        }
    }

    /// Removes every object of that name.
    pub(crate) fn remove_named(&mut self, name: &str) {
        self.objects.retain(|_, object| object.name != name);
    }

    /// Removes what somebody else made, but for what has one of these names.
    pub(crate) fn give_back(&mut self, but: &[&str]) {
        self.objects
            .retain(|_, object| object.maker.is_some() || but.contains(&object.name.as_str()));
    }

    fn remove_id(&mut self, id: &str, at: Timestamp) {
        let gone = self.objects.extract_if(.., |_, object| object.id == id);
        let gone: Vec<Object> = gone.map(|(_, object)| object).collect();
        self.gone
            .extend(gone.into_iter().map(|object| (at, object)));
    }

    fn put(&mut self, mut object: Object) -> Object {
        self.next += 1;
        object.id = format!("id-{}", self.next);
        self.objects.insert(self.next, object.clone());
        object
    }

    /// An object that alch did not make.
    pub(crate) fn put_foreign(&mut self, kind: Kind, name: &str, at: Timestamp) {
        self.put(Object {
            id: String::new(),
            kind,
            name: name.to_owned(),
            mark: None,
            value: Value::Int(-1),
            soil: Value::Null,
            secret: None,
            uses: Vec::new(),
            created_at: at,
            maker: None,
            touched: false,
        });
    }
}

/// How a request finds the cloud.
#[derive(Debug, Clone, Copy)]
struct View {
    now: Timestamp,
    /// How old what is seen is.
    age: Duration,
    fault: Option<CloudFault>,
}

impl View {
    /// What a look sees: nothing that is too young, and what has only just gone.
    fn seen(self, stock: &Stock, kind: Kind) -> Vec<Object> {
        let then = self.now - self.age;
        let gone = stock.gone.iter().filter(|(until, _)| *until > then);
        gone.map(|(_, object)| object)
            .chain(stock.all())
            .filter(|object| object.kind == kind && object.created_at <= then)
            .cloned()
            .collect()
    }

    /// What asking for one object by its id sees: what was made at once, what has only just gone still.
    fn by_id(self, stock: &Stock, id: &str) -> Option<Object> {
        let then = self.now - self.age;
        let gone = stock.gone.iter().filter(|(until, _)| *until > then);
        let mut all = stock.all().chain(gone.map(|(_, object)| object));
        all.find(|object| object.id == id).cloned()
    }
}

/// What the cloud knows of the process that calls.
struct Caller {
    fate: Arc<Fate>,
    clock: Arc<dyn Clock>,
    faults: BTreeMap<u64, CloudFault>,
    age: Duration,
    requests: u64,
    expired: bool,
    in_flight: usize,
    rng: StdRng,
    /// Who it is, and who hears of what it changes.
    log: Option<(u64, Arc<Mutex<Vec<Write>>>)>,
}

/// A cloud that outlives the processes that call it.
pub(crate) struct SimCloud {
    pub(crate) stock: Arc<Mutex<Stock>>,
    caller: Mutex<Caller>,
    /// The most requests that were on their way at once.
    pub(crate) most_in_flight: Mutex<usize>,
    /// Physical names whose delete is refused.
    pub(crate) undeletable: Mutex<BTreeSet<String>>,
}

impl SimCloud {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::over(Stock::default(), seed)
    }

    fn over(stock: Stock, seed: u64) -> Arc<Self> {
        Self::shared(Arc::new(Mutex::new(stock)), seed)
    }

    /// The same cloud, for another process.
    pub(crate) fn shared(stock: Arc<Mutex<Stock>>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            stock,
            caller: Mutex::new(Caller {
                fate: Arc::default(),
                clock: Arc::new(SimClock::standing_at(0)),
                faults: BTreeMap::new(),
                age: Duration::ZERO,
                requests: 0,
                expired: false,
                in_flight: 0,
                rng: StdRng::seed_from_u64(seed),
                log: None,
            }),
            most_in_flight: Mutex::new(0),
            undeletable: Mutex::default(),
        })
    }

    /// A cloud of its own with the same objects.
    pub(crate) fn fork(&self, seed: u64) -> Arc<Self> {
        Self::over(self.stock.lock().unwrap().clone(), seed)
    }

    /// A new process calls: nothing is in flight, and these blows are in store for it.
    pub(crate) fn begin(&self, fate: Arc<Fate>, clock: Arc<dyn Clock>, blows: &[Blow], seed: u64) {
        let mut caller = self.caller.lock().unwrap();
        let faults = blows.iter().filter_map(|blow| match blow {
            Blow::Cloud { request, fault } => Some((*request, *fault)),
            _ => None,
        });
        let ages = blows.iter().filter_map(|blow| match blow {
            Blow::Stale { seconds } => Some(Duration::from_secs(u64::from(*seconds))),
            _ => None,
        });
        *caller = Caller {
            fate,
            clock,
            faults: faults.collect(),
            age: ages.max().unwrap_or_default(),
            requests: 0,
            expired: false,
            in_flight: 0,
            rng: StdRng::seed_from_u64(seed),
            log: None,
        };
    }

    /// Notes each request of this process that changes something, as it leaves.
    pub(crate) fn tell(&self, who: u64, log: &Arc<Mutex<Vec<Write>>>) {
        self.caller.lock().unwrap().log = Some((who, Arc::clone(log)));
    }

    /// How long what was made may stay unseen.
    pub(crate) fn lag(&self) -> Duration {
        match self.caller.lock().unwrap().age {
            Duration::ZERO => Duration::ZERO,
            _ => Duration::from_secs(60),
        }
    }

    /// One request. `writes` says whether a lost answer leaves something uncertain.
    async fn request<T: Send + 'static>(
        &self,
        context: &OperationContext,
        writes: bool,
        target: Target,
        work: impl FnOnce(&mut Stock, View) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        context.meter.begin_call().await?;
        let (fate, clock, fault, view, delay, arrives) = {
            let mut caller = self.caller.lock().unwrap();
            let mut fault = caller.faults.get(&caller.requests).copied();
            caller.requests += 1;
            if caller.expired {
                fault = Some(CloudFault::Expired);
            }
            caller.expired |= fault == Some(CloudFault::Expired);
            caller.in_flight += 1;
            if let (true, Some((who, log))) = (writes, &caller.log) {
                log.lock().unwrap().push(Write::Request(*who));
            }
            let mut most = self.most_in_flight.lock().unwrap();
            *most = (*most).max(caller.in_flight);
            let view = View {
                now: caller.clock.now(),
                age: caller.age,
                fault,
            };
            (
                Arc::clone(&caller.fate),
                Arc::clone(&caller.clock),
                fault,
                view,
                Duration::from_millis(caller.rng.random_range(1..50)),
                caller.rng.random_bool(0.5),
            )
        };
        let die = async || {
            fate.kill();
            std::future::pending::<()>().await;
        };
        if fault == Some(CloudFault::DieBefore) {
            die().await;
        }
        let mut flight = Flight {
            stock: Arc::clone(&self.stock),
            arrives: arrives || fault == Some(CloudFault::DieTorn),
            work: Some(move |stock: &mut Stock| {
                work(
                    stock,
                    View {
                        now: view.now + delay,
                        ..view
                    },
                )
            }),
        };
        if fault == Some(CloudFault::DieTorn) {
            die().await;
        }
        // The way there is not the caller's: it goes on while he stands still.
        tokio::time::sleep(delay).await;
        let refused = refusal(fault, writes);
        if matches!(fault, Some(CloudFault::LostBefore)) {
            clock.sleep(Duration::from_secs(60)).await;
        }
        if let Some(CloudFault::Slow(seconds)) = fault {
            clock.sleep(Duration::from_secs(u64::from(seconds))).await;
        }
        let answer = match refused {
            Some(error) => {
                flight.work = None;
                Err(error)
            }
            None => {
                target.meddle(&mut self.stock.lock().unwrap(), fault, view.now);
                flight.land()
            }
        };
        match fault {
            Some(CloudFault::DieAfter) => die().await,
            Some(CloudFault::TooSlowAfter) => clock.sleep(Duration::from_secs(3_000)).await,
            Some(CloudFault::LostAfter) => clock.sleep(Duration::from_secs(60)).await,
            _ => {}
        }
        clock.sleep(delay).await;
        self.caller.lock().unwrap().in_flight -= 1;
        if fault == Some(CloudFault::LostAfter) {
            return Err(lost(writes));
        }
        answer
    }
}

/// Which object a request is about, for those who get at it first.
enum Target {
    None,
    Name(Kind, String),
    Id(String),
}

impl Target {
    fn meddle(&self, stock: &mut Stock, fault: Option<CloudFault>, at: Timestamp) {
        match (fault, self) {
            (Some(CloudFault::Taken), Self::Name(kind, name)) => {
                stock.put_foreign(*kind, name, at);
            }
            (Some(CloudFault::Vanished), Self::Id(id)) => stock.remove_id(id, at),
            _ => {}
        }
    }
}

/// A request that has left. Whoever drops it does not call it back.
struct Flight<T, F: FnOnce(&mut Stock) -> Result<T, ProviderError>> {
    stock: Arc<Mutex<Stock>>,
    arrives: bool,
    work: Option<F>,
}

impl<T, F: FnOnce(&mut Stock) -> Result<T, ProviderError>> Flight<T, F> {
    fn land(&mut self) -> Result<T, ProviderError> {
        let work = self.work.take().expect("a request lands once");
        work(&mut self.stock.lock().unwrap())
    }
}

impl<T, F: FnOnce(&mut Stock) -> Result<T, ProviderError>> Drop for Flight<T, F> {
    fn drop(&mut self) {
        if self.arrives && self.work.is_some() {
            // Nobody is there to hear the answer.
            drop(self.land());
        }
    }
}

/// What the caller is told instead of an answer, where nothing is done.
fn refusal(fault: Option<CloudFault>, writes: bool) -> Option<ProviderError> {
    let error = |kind, message: &str| Some(ProviderError::new(kind, message));
    match fault? {
        CloudFault::Refuse => error(FailureKind::Refused, "the cloud says no"),
        CloudFault::Expired => error(FailureKind::Authentication, "the token is not valid"),
        CloudFault::Contended if writes => error(
            FailureKind::Refused,
            "somebody else changed it at this moment",
        ),
        CloudFault::LostBefore => Some(lost(writes)),
        _ => None,
    }
}

fn lost(writes: bool) -> ProviderError {
    let kind = if writes {
        FailureKind::Ambiguous
    } else {
        FailureKind::Timeout
    };
    ProviderError::new(kind, "no answer came")
}

/// One kind of the cloud, as the engine sees it.
pub(crate) struct SimKind {
    kind: Kind,
    schema: KindSchema,
    cloud: Arc<SimCloud>,
}

/// All kinds of a cloud.
pub(crate) fn kinds(cloud: &Arc<SimCloud>) -> Vec<Arc<SimKind>> {
    let all = Kind::ALL.into_iter();
    all.map(|kind| {
        Arc::new(SimKind {
            kind,
            schema: schema(kind),
            cloud: Arc::clone(cloud),
        })
    })
    .collect()
}

fn schema(kind: Kind) -> KindSchema {
    let name = Prop::new("name", PropType::String, "its name");
    KindSchema {
        kind: kind.name().into(),
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
            if kind == Kind::Thing {
                name
            } else {
                name.replaces()
            },
            Prop::new("key", PropType::String, "a secret").secret(),
            Prop::new("uses", PropType::Any, "what it refers to"),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "made by the cloud"),
            Attribute::identity("name", "its name"),
            Attribute::new("value", "what it holds"),
            Attribute::new("token", "a secret of the cloud's"),
        ],
        open_attributes: false,
        replace: match kind {
            Kind::Rock => ReplaceOrder::DeleteFirst,
            _ => ReplaceOrder::CreateFirst,
        },
        delete: DeletePolicy::Disposable,
        name_limit: 63,
    }
}

fn outputs(object: &Object, view: View) -> Map {
    let mut outputs = Map::from([
        ("id".to_owned(), Value::string(object.id.clone())),
        ("name".to_owned(), Value::string(object.name.clone())),
        ("value".to_owned(), object.value.clone()),
    ]);
    if let Some(secret) = &object.secret {
        let token = Value::Secret(Secret::plain(format!("token of {secret}")));
        outputs.insert("token".to_owned(), token);
    }
    if view.fault == Some(CloudFault::Strange) {
        outputs.insert("novelty".to_owned(), Value::string("of next year"));
    }
    outputs
}

/// What a request says of an object.
#[derive(Clone)]
struct Wanted {
    value: Value,
    soil: Value,
    secret: Option<String>,
    uses: Vec<String>,
}

impl Wanted {
    fn of(props: &Map) -> Self {
        let secret = match props.get("key") {
            Some(Value::Secret(Secret::Plain(text))) => Some(text.to_string()),
            None => None,
            other => panic!("a provider gets secrets opened, not {other:?}"),
        };
        let uses = props.get("uses").and_then(Value::as_array).unwrap_or(&[]);
        Self {
            value: props.get("value").cloned().unwrap_or_default(),
            soil: props.get("soil").cloned().unwrap_or_default(),
            secret,
            uses: uses.iter().map(told).collect(),
        }
    }

    fn apply(self, object: &mut Object) {
        object.value = self.value;
        object.secret = self.secret;
        object.uses = self.uses;
        // What somebody else made shows none.
        if object.soil == Value::Null {
            object.soil = self.soil;
        }
    }
}

/// A resolved reference as the cloud gets it: ids and text.
fn told(value: &Value) -> String {
    match value {
        Value::Resource(view) => view.outputs["id"].as_str().unwrap().to_owned(),
        Value::String(text) => text.clone(),
        other => panic!("a reference was resolved to {other:?}"),
    }
}

fn not_found() -> ProviderError {
    ProviderError::new(FailureKind::NotFound, "it is gone")
}

fn id_of(outputs: &Map) -> String {
    let id = outputs.get("id").and_then(Value::as_str);
    id.unwrap_or_default().to_owned()
}

#[async_trait]
impl Provider for SimKind {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let explicit = props.get("name").and_then(Value::as_str).map(str::to_owned);
        // Another place is another object, with a name of its own.
        let place = props.get("place").and_then(Value::as_str).unwrap_or("here");
        let made = || {
            let id = context.fqn.within_stage().replace('/', ".");
            format!("{id}-{place}")
        };
        let physical_name = explicit
            .clone()
            .or_else(|| context.kept_name.clone())
            .unwrap_or_else(made);
        let kind = self.kind.name();
        Ok(Checked {
            known: Map::from([("name".to_owned(), Value::string(physical_name.clone()))]),
            identity: (self.kind != Kind::Note).then(|| format!("{kind}:{physical_name}")),
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
        let id = id_of(&existing.outputs);
        self.cloud
            .request(context, false, Target::None, move |stock, view| {
                let object = view.by_id(stock, &id);
                Ok(object.map(|object| outputs(&object, view)))
            })
            .await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let wanted = Wanted::of(props);
        let (name, kind, maker) = (
            context.physical_name.clone(),
            self.kind,
            context.fqn.clone(),
        );
        let mark = (kind == Kind::Note).then(|| context.idempotency_key.clone());
        let target = Target::Name(kind, name.clone());
        let first = wanted.clone();
        let made = self
            .cloud
            .request(context, true, target, move |stock, view| {
                if kind != Kind::Note && stock.named(kind, &name).is_some() {
                    let kind = FailureKind::Conflict;
                    return Err(ProviderError::new(kind, "it exists already"));
                }
                let mut object = Object {
                    id: String::new(),
                    kind,
                    name,
                    mark,
                    value: Value::Null,
                    soil: first.soil.clone(),
                    secret: None,
                    uses: Vec::new(),
                    created_at: view.now,
                    maker: Some(maker),
                    touched: false,
                };
                // A note is made empty and filled by another request.
                if kind != Kind::Note {
                    first.apply(&mut object);
                }
                Ok(outputs(&stock.put(object), view))
            })
            .await?;
        if kind != Kind::Note {
            return Ok(made);
        }
        let filled = self.fill(context, id_of(&made), wanted).await;
        filled.map_err(|mut error| {
            // It is there by now, so a refusal is none of the whole.
            if !matches!(error.kind, FailureKind::Cancelled | FailureKind::Timeout) {
                error.kind = FailureKind::Ambiguous;
            }
            error
        })
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        self.fill(context, id_of(&existing.outputs), Wanted::of(props))
            .await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let name = &existing.physical_name;
        if self.cloud.undeletable.lock().unwrap().contains(name) {
            return Err(ProviderError::new(FailureKind::Refused, "it is in use"));
        }
        let id = id_of(&existing.outputs);
        self.cloud
            .request(context, true, Target::Id(id.clone()), move |stock, view| {
                stock.remove_id(&id, view.now);
                Ok(())
            })
            .await
    }

    async fn list(
        &self,
        context: &OperationContext,
        _known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let kind = self.kind;
        self.cloud
            .request(context, false, Target::None, move |stock, view| {
                let mut seen = view.seen(stock, kind);
                match view.fault {
                    Some(CloudFault::PageMissing) => drop(seen.drain(..seen.len().min(2))),
                    Some(CloudFault::PageTwice) => seen.extend_from_within(..),
                    _ => {}
                }
                let observations = seen.iter().map(|object| Observation {
                    id: object.id.clone(),
                    physical_name: object.name.clone(),
                    outputs: outputs(object, view),
                    props: Map::from([
                        ("value".to_owned(), object.value.clone()),
                        ("soil".to_owned(), object.soil.clone()),
                    ]),
                });
                Ok(Some(observations.collect()))
            })
            .await
    }

    async fn find(
        &self,
        context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let (name, kind) = (context.physical_name.clone(), self.kind);
        let mark = context.idempotency_key.clone();
        self.cloud
            .request(context, false, Target::None, move |stock, view| {
                let seen = view.seen(stock, kind);
                let marked = seen
                    .iter()
                    .find(|object| object.mark.as_deref() == Some(mark.as_str()));
                let named = || seen.iter().find(|object| object.name == name);
                Ok(marked.or_else(named).map(|object| Found {
                    outputs: outputs(object, view),
                    created_at: Some(object.created_at),
                    ours: (kind == Kind::Note).then_some(marked.is_some()),
                }))
            })
            .await
    }
}

impl SimKind {
    async fn fill(
        &self,
        context: &OperationContext,
        id: String,
        wanted: Wanted,
    ) -> Result<Map, ProviderError> {
        let (name, kind) = (context.physical_name.clone(), self.kind);
        self.cloud
            .request(context, true, Target::Id(id.clone()), move |stock, view| {
                let taken = stock.named(kind, &name).is_some_and(|other| other.id != id);
                if kind == Kind::Thing && taken {
                    let kind = FailureKind::Conflict;
                    return Err(ProviderError::new(kind, "another one has that name"));
                }
                let object = stock.id_mut(&id).ok_or_else(not_found)?;
                wanted.apply(object);
                object.touched = true;
                if kind == Kind::Thing {
                    object.name = name;
                }
                Ok(outputs(object, view))
            })
            .await
    }
}
