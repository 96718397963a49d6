//! One run of one stage: the face that the script host and the commands use.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    model::{Fqn, KindSchema, Map, Position, ResourceId, ScopePath, StagePath, Value},
    provider::{Meter, PropError, ProviderError, Registry},
    secret::{KeyMaterial, VaultError},
    state::{SharedStore, StateError},
    util::{clock::Clock, ids::Ids},
};

use super::event::{EventSink, Summary};

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Create, update and delete until the stage is what the script says.
    Up,
    /// Work out what `Up` would do; change nothing.
    Plan,
    /// Answer outputs from state; change nothing.
    Read,
    /// Delete everything.
    Destroy,
}

impl Phase {
    /// The word for it: `up`, `plan`, `read`, `destroy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Plan => "plan",
            Self::Read => "read",
            Self::Destroy => "destroy",
        }
    }
}

/// The seams and shared parts that a run works with.
#[derive(Clone)]
pub struct World {
    /// Durable state.
    pub store: SharedStore,
    /// Resource kinds.
    pub registry: Arc<Registry>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// Counts calls.
    pub meter: Meter,
    /// How the user stops it.
    pub cancel: Cancel,
}

/// The two steps of Ctrl-C.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    /// First signal: nothing new starts, calls in flight end and are recorded.
    pub soft: CancellationToken,
    /// Second signal: calls in flight are dropped; the journal lets the next run resolve them.
    pub hard: CancellationToken,
}

/// How deletes at the end of a run, and `destroy`, go about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How many at once: 1 for `sequential`, unbounded by dependency order only for `parallel`, N for `batched`.
    pub strategy: DeleteStrategy,
    /// How often a failed delete is tried again.
    pub max_retries: u32,
    /// Wait between tries.
    pub retry_delay: Duration,
    /// Longest time of one delete; the kind's own when `None`.
    pub timeout: Option<Duration>,
    /// Say what would be deleted and delete nothing.
    pub dry_run: bool,
    /// Go on with other resources after a failed delete.
    pub continue_on_error: bool,
}

/// How many deletes run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteStrategy {
    /// One after the other, last declared first.
    Sequential,
    /// All that nothing depends on any more, up to the run's concurrency.
    Parallel,
    /// As `Parallel`, at most this many at once.
    Batched(usize),
}

impl Default for DeleteOptions {
    fn default() -> Self {
        Self {
            strategy: DeleteStrategy::Sequential,
            max_retries: 0,
            retry_delay: Duration::from_secs(1),
            timeout: None,
            dry_run: false,
            continue_on_error: true,
        }
    }
}

/// What a run was asked to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What for.
    pub phase: Phase,
    /// Take over objects that are there already.
    pub adopt: bool,
    /// Update resources even when nothing changed.
    pub force: bool,
    /// Operations at once.
    pub concurrency: usize,
    /// Whether replacing data-bearing kinds was consented to.
    pub allow_data_loss: bool,
    /// Whether destroy deletes adopted objects too.
    pub delete_adopted: bool,
    /// Name of the target.
    pub target: String,
    /// Folder of the script.
    pub folder: Arc<Path>,
    /// The script, relative to the project folder.
    pub script: Option<String>,
    /// The command line without secrets, for the lock and the deployment record.
    pub command: String,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// How deletes go about it; `finalize` options of the script override it.
    pub delete: DeleteOptions,
    /// A saved plan's hash that this run must equal.
    pub expected_plan: Option<String>,
}

/// Options that any resource takes besides the props of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceOptions {
    /// Take over an object that is there already.
    pub adopt: Option<bool>,
    /// Refuse deletes and replacements.
    pub protect: Option<bool>,
    /// `delete: false`: keep the object when the resource leaves the script.
    pub retain: Option<bool>,
}

/// One resource as the script declares it.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The scopes around it.
    pub scope: ScopePath,
    /// Its id.
    pub id: ResourceId,
    /// Its kind; must be in the registry.
    pub kind: Arc<str>,
    /// Its props as written; handles are references with an empty path.
    pub props: Map,
    /// Options beside the props.
    pub options: ResourceOptions,
    /// Where.
    pub position: Option<Position>,
    /// Whether the script decided on an unknown before it came here (plans only).
    pub conditional: bool,
}

/// Why a declaration was refused. Nothing was registered.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// The scope has a resource or scope of that id already.
    #[error("`{fqn}` is declared twice")]
    Duplicate {
        /// The name.
        fqn: Fqn,
        /// Where it was declared first.
        first: Option<Position>,
    },
    /// Props that the kind does not accept.
    #[error("{} does not accept these props", kind)]
    Props {
        /// The kind.
        kind: Arc<str>,
        /// Every mistake.
        errors: Vec<PropError>,
    },
    /// No provider serves the kind.
    #[error("no resource kind `{kind}`")]
    UnknownKind {
        /// The kind.
        kind: Arc<str>,
    },
    /// Two live resources would be one object at the provider.
    #[error("`{fqn}` and `{other}` would both be `{physical_name}`")]
    SameObject {
        /// The resource.
        fqn: Fqn,
        /// The other one.
        other: Fqn,
        /// Where the other one stands.
        first: Option<Position>,
        /// The name they share.
        physical_name: String,
    },
    /// Phase `read`: state has no such resource.
    #[error("`{fqn}` is not in state")]
    NotInState {
        /// The resource.
        fqn: Fqn,
    },
    /// State has the same FQN with another kind and that cannot be replaced in place.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The run is being cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Why a run could not start or could not end properly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// State refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// Secrets refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The stage was deployed to another target.
    #[error("stage {stage} was deployed to `{deployed}`, this run is for `{asked}`")]
    OtherTarget {
        /// The stage.
        stage: StagePath,
        /// Its target so far.
        deployed: String,
        /// The target of this run.
        asked: String,
    },
    /// Nothing is known of the stage.
    #[error("stage {stage} has no state")]
    NoSuchStage {
        /// The stage.
        stage: StagePath,
        /// Stages that have.
        others: Vec<StagePath>,
    },
    /// What the run would do is not what the saved plan says.
    #[error("the plan is stale: {reason}")]
    StalePlan {
        /// How it differs.
        reason: String,
    },
}

/// Index of a declared resource within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// What is known of a declared resource at once.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Its name.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What the provider calls it.
    pub physical_name: String,
    /// Where it was declared.
    pub position: Option<Position>,
}

/// An attribute at this moment.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeState {
    /// It has this value. An attribute that the schema has and the object lacks is [`Value::Null`].
    Known(Value),
    /// The operation has not ended: [`Run::settle`] waits for it.
    Pending,
    /// A plan cannot know it: only apply will.
    Unknown,
    /// The schema has no such attribute.
    NoSuchAttribute,
}

/// Why one resource failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What was tried.
    pub action: super::event::Action,
    /// Why.
    pub cause: FailureCause,
    /// Where it is declared.
    pub position: Option<Position>,
}

/// The cause of a [`Failure`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum FailureCause {
    /// The provider said no.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A resource it depends on failed.
    #[error("`{0}` failed, on which it depends")]
    Dependency(Fqn),
    /// `protect: true` stands against it.
    #[error("it is protected (`protect: true`)")]
    Protected,
    /// It holds data that the replacement would lose.
    #[error("replacing it would lose its data (because of {})", .0.join(", "))]
    DataLoss(Vec<String>),
    /// State could not be written: nothing more may start.
    #[error("{0}")]
    State(Arc<StateError>),
    /// A reference named an attribute that the object lacks.
    #[error("`{0}` has no value")]
    MissingOutput(String),
    /// A secret could not be opened or sealed.
    #[error("{0}")]
    Vault(Arc<VaultError>),
    /// The user stopped the run.
    #[error("cancelled")]
    Cancelled,
    /// A saved plan did not foresee it.
    #[error("the plan is stale: {0}")]
    StalePlan(String),
}

/// One run of one stage.
pub struct Run {}

impl Run {
    /// Takes the lock (phases `Up` and `Destroy`), loads state, resolves what a crashed run left.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(
        world: World,
        stage: StagePath,
        key: KeyMaterial,
        options: RunOptions,
    ) -> Result<Arc<Self>, RunError> {
        unimplemented!()
    }

    /// The stage.
    pub fn stage(&self) -> &StagePath {
        unimplemented!()
    }

    /// What the run was asked to do.
    pub fn options(&self) -> &RunOptions {
        unimplemented!()
    }

    /// Registers a resource and starts its operation as soon as all it refers to is ready. Returns at once. Call it from
    /// within a tokio runtime (`Handle::enter`).
    ///
    /// # Errors
    /// [`DeclareError`].
    pub fn declare(self: &Arc<Self>, declaration: Declaration) -> Result<NodeId, DeclareError> {
        unimplemented!()
    }

    /// Registers the id of a nested scope, so that no resource takes it. The same scope may be entered again.
    ///
    /// # Errors
    /// [`DeclareError::Duplicate`] when a resource has that id.
    pub fn enter_scope(
        &self,
        parent: &ScopePath,
        id: &ResourceId,
        position: Option<Position>,
    ) -> Result<ScopePath, DeclareError> {
        unimplemented!()
    }

    /// Whether `id` was declared in `scope`.
    pub fn has_resource(&self, scope: &ScopePath, id: &str) -> bool {
        unimplemented!()
    }

    /// What is known of a resource at once.
    pub fn info(&self, node: NodeId) -> NodeInfo {
        unimplemented!()
    }

    /// The schema of a resource's kind.
    pub fn schema(&self, node: NodeId) -> KindSchema {
        unimplemented!()
    }

    /// An attribute without waiting. `fqn`, `kind`, `stage` and `name` are always known. Either spelling is accepted.
    /// In `Up` a failed resource's attributes are `Pending`: [`Run::settle`] then gives the failure.
    pub fn attribute(&self, node: NodeId, name: &str) -> AttributeState {
        unimplemented!()
    }

    /// All outputs at this moment, or `None` while they are not known.
    pub fn outputs(&self, node: NodeId) -> Option<Map> {
        unimplemented!()
    }

    /// Waits for one resource. A failure counts as handled by the script once it was answered here, unless the script
    /// passes it on (see [`Run::finalize`]).
    ///
    /// # Errors
    /// The resource's [`Failure`].
    pub async fn settle(&self, node: NodeId) -> Result<(), Arc<Failure>> {
        unimplemented!()
    }

    /// Notes that the script has read an output of `node`: what it declares from now on is deleted before `node`.
    pub fn note_read(&self, node: NodeId) {
        unimplemented!()
    }

    /// Takes a resource that was renamed in the script: state moves, nothing is replaced. Names are within the stage.
    ///
    /// # Errors
    /// [`RunError::State`] when the record cannot be written.
    pub async fn moved(&self, from: &str, to: &str) -> Result<bool, RunError> {
        unimplemented!()
    }

    /// Destroys what this run created in `scope` (`onFailure: "cleanup"`).
    ///
    /// # Errors
    /// [`RunError::State`] when that cannot be recorded.
    pub async fn cleanup_scope(&self, scope: &ScopePath) -> Result<(), RunError> {
        unimplemented!()
    }

    /// Overrides how deletes go about it, from `finalize(#{ .. })`.
    pub fn set_delete_options(&self, options: DeleteOptions) {
        unimplemented!()
    }

    /// Waits for everything, deletes orphans and old objects if the script ended well and nothing failed, writes the
    /// checkpoint, gives the lock back. Later calls answer the same summary.
    ///
    /// # Errors
    /// [`RunError`] when state cannot be written.
    pub async fn finalize(self: &Arc<Self>, script_succeeded: bool) -> Result<Summary, RunError> {
        unimplemented!()
    }

    /// Phase `Destroy`: deletes everything in state, in reverse order, without declarations.
    ///
    /// # Errors
    /// [`RunError`] when state cannot be written.
    pub async fn destroy(self: &Arc<Self>) -> Result<Summary, RunError> {
        unimplemented!()
    }
}
