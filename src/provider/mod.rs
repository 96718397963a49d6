//! The provider seam: what the engine asks of a resource kind, and the registry of kinds.
//!
//! One [`Provider`] serves one kind. The engine knows only this module; the implementations below it (`cloudflare`,
//! `std`, and the script's own kinds in `script`) are put into a [`Registry`] by the command that runs.

pub mod access;
pub mod cloudflare;
pub mod observe;
pub mod registry;
pub mod std;
pub mod validate;

use ::std::{
    collections::HashSet,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::{Fqn, KindSchema, Map, ScopePath, StagePath, Value};

pub use access::{Access, Allow, Denied, Permissions, Touch};
pub use observe::{Content, Difference, Observation};
pub use registry::Registry;

/// Whether a call may still leave the process.
#[async_trait]
pub trait Leave: Send + Sync {
    /// Asks, right before the call.
    ///
    /// # Errors
    /// Why not: another run may work on the same objects by now.
    async fn ask(&self) -> Result<(), ProviderError>;
}

/// Counts calls that leave the process: HTTP requests, child processes, closures of script-defined kinds.
#[derive(Clone, Default)]
pub struct Meter {
    total: Arc<AtomicU64>,
    leave: Option<Arc<dyn Leave>>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.total()).finish()
    }
}

impl Meter {
    /// A meter with the same count whose calls need `leave`.
    #[must_use]
    pub fn asking(&self, leave: Arc<dyn Leave>) -> Self {
        Self {
            total: Arc::clone(&self.total),
            leave: Some(leave),
        }
    }

    /// Counts one call.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one call if it may be made: for operations of several calls, between which the run may have lost its stage.
    ///
    /// # Errors
    /// What [`Leave::ask`] says.
    pub async fn begin_call(&self) -> Result<(), ProviderError> {
        if let Some(leave) = &self.leave {
            leave.ask().await?;
        }
        self.count();
        Ok(())
    }

    /// Calls so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// What a declaration is checked in: enough to normalise props and to make the physical name, without any I/O.
#[derive(Debug, Clone)]
pub struct CheckContext {
    /// The resource.
    pub fqn: Fqn,
    /// Its stage.
    pub stage: StagePath,
    /// The scopes around it.
    pub scope: ScopePath,
    /// The id in the script.
    pub id: String,
    /// Folder that relative paths in props are relative to: that of the script.
    pub folder: Arc<Path>,
    /// What files may be read beyond the folder.
    pub access: Arc<Access>,
    /// The name that a renamed resource's object has and keeps, instead of one made from its new id.
    pub kept_name: Option<String>,
}

/// What `check` answers.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The props with defaults filled in and file contents replaced by their hashes where the kind does so.
    /// These are stored, diffed and handed to `create` and `update`. They may hold references.
    pub props: Map,
    /// What the provider will call the object.
    pub physical_name: String,
    /// Whether the script named the object itself (`name:`), so that stages could collide.
    pub explicit_name: bool,
    /// Outputs that are known before any call (`name` at least where the kind has it).
    pub known: Map,
    /// Names of objects outside state that must be unique within the target, for the collision check:
    /// usually `kind:physical name`; `None` for kinds without an object of their own.
    pub identity: Option<String>,
}

/// One mistake in the props of a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropError {
    /// Path of keys and indices to the prop; empty for the declaration itself.
    pub path: Vec<String>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do, where there is something to say.
    pub help: Option<String>,
    /// Whether the place is the key (unknown prop) and not the value (wrong type).
    pub at_key: bool,
}

/// Something that only one object can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is, as a phrase: "the route `example.com/*`".
    pub what: String,
    /// What to do when another resource has it, too.
    pub help: String,
}

impl Claim {
    /// A claim that one of the two has to give up.
    #[must_use]
    pub fn new(what: String) -> Self {
        Self {
            what,
            help: "only one can have it: take it from one of them".to_owned(),
        }
    }
}

/// Answers kind and checked props of a resource that was declared before.
pub type Declared<'a> = dyn Fn(&Fqn) -> Option<(&'a str, &'a Checked)> + 'a;

/// What must happen to an existing object so that it has the new props.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// An update in place.
    Update,
    /// A new object, because of these props.
    Replace(Vec<String>),
}

/// What an operation runs in.
#[derive(Clone)]
pub struct OperationContext {
    /// The resource.
    pub fqn: Fqn,
    /// Its physical name.
    pub physical_name: String,
    /// The same for every try of the same creation: for kinds whose API takes idempotency keys or marks.
    pub idempotency_key: String,
    /// Folder that relative paths in props are relative to.
    pub folder: Arc<Path>,
    /// What files may be read beyond the folder.
    pub access: Arc<Access>,
    /// Where calls are counted.
    pub meter: Meter,
    /// Cancelled on the second Ctrl-C: calls in flight should end at once.
    pub cancel: CancellationToken,
    /// Tells the user what a long operation is doing.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
    /// Takes every secret that the run knows out of a text that came from outside, before it is kept.
    pub redact: Redact,
    /// What the run has made.
    pub made: Made,
}

/// Takes secrets out of a text.
pub type Redact = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl fmt::Debug for OperationContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationContext")
            .field("fqn", &self.fqn)
            .finish_non_exhaustive()
    }
}

/// An object as state knows it.
#[derive(Debug, Clone)]
pub struct Existing {
    /// The props it was last successfully given, secrets opened.
    pub props: Map,
    /// Its outputs, secrets opened.
    pub outputs: Map,
    /// Its name at the provider.
    pub physical_name: String,
    /// Whether the object is known to have these props and outputs: not after an update that failed, not when it was only
    /// come upon, and not when everything is to be set anew. Only then may an update leave out what did not change.
    pub settled: bool,
    /// What operations that did not end well may have given it beside its props; no secrets.
    pub attempted: Map,
}

impl Existing {
    /// Its props with all that it may have been given since: what an update that takes something away starts from. Where both
    /// say something else of one value, it is unknown which of them holds.
    #[must_use]
    pub fn widest(&self) -> Map {
        let mut widest = self.props.clone();
        overlay(&mut widest, &self.attempted);
        widest
    }
}

/// Adds to `props` whatever else `attempted` has: keys, and items of lists.
pub fn overlay(props: &mut Map, attempted: &Map) {
    for (key, value) in attempted {
        match (props.get_mut(key), value) {
            (None | Some(Value::Null), value) => {
                props.insert(key.clone(), value.clone());
            }
            (Some(Value::Map(inner)), Value::Map(more)) => overlay(inner, more),
            (Some(Value::Array(items)), Value::Array(more)) => {
                for item in more {
                    if !items.contains(item) {
                        items.push(item.clone());
                    }
                }
            }
            _ => {}
        }
    }
}

/// What a run has made so far: what names such an object may not see it yet, while one made long ago is gone if it is not seen.
#[derive(Debug, Clone, Default)]
pub struct Made(Arc<Mutex<HashSet<String>>>);

impl Made {
    /// Notes an object by its name and its id.
    pub fn add(&self, physical_name: &str, outputs: &Map) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(physical_name.to_owned());
        made.extend(text_prop(outputs, "id").map(str::to_owned));
    }

    /// Whether this run made the object of that name or id.
    #[must_use]
    pub fn has(&self, name_or_id: &str) -> bool {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.contains(name_or_id)
    }
}

/// An object that `find` came upon.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its outputs, in the same shape as `create` answers.
    pub outputs: Map,
    /// When it was made, where the provider tells: an object older than the intent is not ours.
    pub created_at: Option<Timestamp>,
    /// Whether a mark on the object says that this very resource made it (`Some(true)`), that another did
    /// (`Some(false)`), or nothing (`None`).
    pub ours: Option<bool>,
}

/// What sort of failure a provider met: decides exit codes, retries and what recovery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request was refused for what it says; the object is as it was.
    Refused,
    /// An object of that name is there already.
    Conflict,
    /// The object is not there.
    NotFound,
    /// Credentials are missing, wrong or too weak.
    Authentication,
    /// The answer never came or cannot be trusted: the change may or may not have happened.
    Ambiguous,
    /// Cancelled by the user.
    Cancelled,
    /// The operation took longer than it may.
    Timeout,
}

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// What sort of failure it is.
    pub kind: FailureKind,
    /// What the provider said, in words for the user.
    pub message: String,
    /// The provider's own code (`7502`), where there is one.
    pub code: Option<String>,
    /// The call that failed, where there was one, and how it was answered (`POST /accounts/../d1/database, answered with
    /// HTTP 400`).
    pub call: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl ProviderError {
    /// A failure with a message alone.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            call: None,
            help: None,
        }
    }

    /// The same with a next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One resource kind.
///
/// Props handed to the asynchronous methods are resolved: no reference or template is left in them (a handle has become
/// [`Value::Resource`]), and secrets are plain.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What the kind accepts and answers.
    fn schema(&self) -> &KindSchema;

    /// Normalises props that already fit the schema and makes the physical name. Does no I/O but reading local files
    /// that the props name. References stand in `props` as they are.
    ///
    /// # Errors
    /// Every mistake found.
    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>>;

    /// What the object holds that no other object can have at the same time. Two resources of a script that claim the same
    /// are a mistake. References stand in `checked` as they are; `declared` answers the kind of what they refer to.
    fn claims<'a>(&self, _checked: &Checked, _declared: &Declared<'a>) -> Vec<Claim> {
        Vec::new()
    }

    /// Whether an object of another kind is one that the object with these `props` and `outputs` has made with itself, and
    /// needs no resource of its own.
    fn holds(&self, _props: &Map, _outputs: &Map, _kind: &str, _seen: &Observation) -> bool {
        false
    }

    /// What making, changing or later deleting the object touches beside the API of its provider. Props may hold references;
    /// what they hide is left out and asked for again before the operation, when they are resolved.
    fn touches(&self, _props: &Map) -> Vec<Touch> {
        Vec::new()
    }

    /// What deleting the object touches beside the API of its provider.
    fn touches_on_delete(&self, _existing: &Existing) -> Vec<Touch> {
        Vec::new()
    }

    /// Tells what a change of props means. Either side may hold references, which count as different unless equal.
    /// The default looks at `replaces` of the schema.
    fn diff(&self, prior: &Map, next: &Map) -> Change {
        validate::diff_by_schema(self.schema(), prior, next)
    }

    /// Refuses an update in place from `prior` to `next` that cannot be made, as far as that is told without a call: a plan then
    /// fails like the run.
    ///
    /// # Errors
    /// [`ProviderError`] of kind `Refused`.
    fn refuse(&self, _prior: &Map, _next: &Map) -> Result<(), ProviderError> {
        Ok(())
    }

    /// What is lost with a change that no script brings back, each as a phrase ("the Durable Object class `Room` with its
    /// data"): by an update in place to `next`, or by deleting the object where `next` is none. `outputs` are those of the
    /// object; references in `next` may be unresolved while a plan is made. Whatever the kind's delete policy says of a
    /// delete comes on top.
    fn losses(&self, _outputs: &Map, _next: Option<&Map>) -> Vec<String> {
        Vec::new()
    }

    /// The outputs of the object now; `None` when it is gone.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError>;

    /// Makes the object and answers its outputs.
    ///
    /// # Errors
    /// [`ProviderError`]; of kind `Conflict` when an object of that name is there already.
    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError>;

    /// Changes the object in place and answers its outputs.
    ///
    /// # Errors
    /// [`ProviderError`]; of kind `NotFound` when the object is gone.
    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError>;

    /// Deletes the object. An object that is gone already counts as deleted.
    ///
    /// # Errors
    /// [`ProviderError`] when it may still be there.
    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError>;

    /// Looks for an object by the physical name in `context` (or by its mark): for recovery and adoption.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError>;

    /// What [`Observation::id`] says of an object that state knows by this name and these outputs.
    fn object_id(&self, physical_name: &str, outputs: &Map) -> String {
        observe::object_id(physical_name, outputs)
    }

    /// Every object of the kind in the account, read to the last page; `None` where the kind has no list, so that objects are
    /// [observed](Provider::observe) one by one. `known` are the objects that state has, for kinds whose lists are by place.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn list(
        &self,
        _context: &OperationContext,
        _known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        Ok(None)
    }

    /// Whether the list shows of objects that state does not know all that it shows of others, so that one list tells of any
    /// number of objects whether they are there and how they are.
    fn lists_all(&self) -> bool {
        false
    }

    /// The props with which a script declares an object that is there: what it shows, without what it has by itself.
    fn declarable(&self, seen: &Observation) -> Map {
        seen.props.clone()
    }

    /// The objects that `wanted` may name, by id or by name: as [`list`](Provider::list), narrowed where that saves calls.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn candidates(
        &self,
        context: &OperationContext,
        _wanted: &str,
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        self.list(context, &[]).await
    }

    /// The id of the object that `wanted` names together with the place where it is, as `STORE/NAME`; none where it names none so.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn id_of(
        &self,
        _context: &OperationContext,
        _wanted: &str,
    ) -> Result<Option<String>, ProviderError> {
        Ok(None)
    }

    /// Adds to what is seen of an object that would be taken over what only a look inside it shows, such as its code.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn look_inside(
        &self,
        _context: &OperationContext,
        _seen: &mut Observation,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    /// For kinds whose objects cannot be imported: why, and what to do instead, each as a phrase for the user.
    fn not_imported(&self) -> Option<[&'static str; 2]> {
        None
    }

    /// Why some objects of a list cannot be imported although others of the kind can, as [`content`](Provider::content) would
    /// refuse them: one answer for each of `listed`, in order.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn obstacles(
        &self,
        _context: &OperationContext,
        listed: &[Observation],
    ) -> Result<Vec<Option<ProviderError>>, ProviderError> {
        Ok(vec![None; listed.len()])
    }

    /// Whether the lines of an import of `object` declare `seen`, an object of another kind, too.
    fn brings(&self, _object: &Observation, _kind: &str, _seen: &Observation) -> bool {
        false
    }

    /// Takes out of a listed object the parts that state has, for kinds whose objects are made of several; `known` are the
    /// outputs of the resources of the kind. Answers whether anything is left.
    fn leave_unknown(&self, _known: &[&Map], _seen: &mut Observation) -> bool {
        true
    }

    /// The prop that gives an object its name; none for kinds without names, where the id of the resource stands in its place.
    fn name_prop(&self) -> Option<&'static str> {
        Some("name")
    }

    /// Paths of secrets that a script must give to declare an object that is there, and that no look at it shows.
    fn hidden(&self, _seen: &Observation) -> Vec<&'static [&'static str]> {
        Vec::new()
    }

    /// Props of which no look at an object tells anything: who imports one must know that its lines lack them.
    fn unseen(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether objects have [content](Provider::content), without which no script declares them.
    fn has_content(&self) -> bool {
        false
    }

    /// The files that an object which is there was made of; `seen` gets whatever else declares it. `None` where props say all.
    ///
    /// # Errors
    /// [`ProviderError`] of kind `Refused` for an object that no script can declare by what the API shows of it.
    async fn content(
        &self,
        _context: &OperationContext,
        _seen: &mut Observation,
    ) -> Result<Option<Content>, ProviderError> {
        Ok(None)
    }

    /// One object as it is now; `None` when it is gone. The default reads it and shows no props.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    async fn observe(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Observation>, ProviderError> {
        let outputs = self.read(context, existing).await?;
        Ok(outputs.map(|outputs| Observation {
            id: self.object_id(&existing.physical_name, &existing.outputs),
            physical_name: existing.physical_name.clone(),
            outputs,
            props: Map::new(),
        }))
    }

    /// How an object differs from what state says of it. Secrets in `existing` may be sealed; references stand for what state
    /// knows of their objects, and stay where it does not know it.
    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        observe::compare(&existing.physical_name, &existing.props, seen)
    }

    /// How long one operation may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(600)
    }

    /// Whether the kind is defined by the script, so that `destroy` needs the script too.
    fn needs_script(&self) -> bool {
        false
    }
}

/// The value of a prop that is text, for providers.
#[must_use]
pub fn text_prop<'a>(props: &'a Map, name: &str) -> Option<&'a str> {
    props.get(name).and_then(Value::as_str)
}
