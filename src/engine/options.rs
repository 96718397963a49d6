//! What a run works with and what it was asked to do.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    provider::{Access, Meter, Redact, Registry},
    state::SharedStore,
    util::{clock::Clock, ids::Ids},
};

use super::{event::EventSink, plan::Plan};

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
    /// Compare what state knows with what the providers have; change nothing.
    Drift,
    /// Bring objects that drifted back to what state says.
    Repair,
    /// Take an object into state that is there already.
    Import,
}

impl Phase {
    /// Whether a run of this phase writes state, and so needs the stage's lock.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Up | Self::Destroy | Self::Repair | Self::Import)
    }

    /// The word for it: `up`, `plan`, `read`, `destroy`, `drift`, `repair`, `import`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Plan => "plan",
            Self::Read => "read",
            Self::Destroy => "destroy",
            Self::Drift => "drift",
            Self::Repair => "repair",
            Self::Import => "import",
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
    /// Takes secrets out of what comes from outside.
    pub redact: Redact,
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
    /// Look at what the providers have first, so that vanished objects are made again and changed ones updated. The phases
    /// `Drift` and `Repair` always look.
    pub refresh: bool,
    /// Record the objects of declared resources that state does not know, and do nothing else.
    pub rebuild: bool,
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
    /// What the script and the state may touch beyond it.
    pub access: Arc<Access>,
    /// The script, relative to the project folder.
    pub script: Option<String>,
    /// The command line without secrets, for the lock and the deployment record.
    pub command: String,
    /// Who runs it, for the deployment record.
    pub actor: String,
    /// Where it runs, for the deployment record.
    pub host: String,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// How deletes go about it; `finalize` options of the script override it.
    pub delete: DeleteOptions,
    /// A saved plan that this run must keep to.
    pub expected_plan: Option<Arc<Plan>>,
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
