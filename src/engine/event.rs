//! The one ordered stream that the engine speaks through. Every output format is a fold over it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::model::{Diagnostic, Fqn, Position, StagePath};

use super::{failure::Failure, options::Phase, plan::PlannedAction};

/// What happens to a resource.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new object.
    Create,
    /// A change in place.
    Update,
    /// A new object instead of the old one.
    Replace,
    /// The object goes.
    Delete,
    /// An object that is there already is taken over.
    Adopt,
    /// Nothing.
    Unchanged,
    /// The resource leaves state, its object stays (`delete: false`, adopted objects).
    Forget,
}

impl Action {
    /// The word in events and plans: `create`, `update` ..
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Adopt => "adopt",
            Self::Unchanged => "unchanged",
            Self::Forget => "forget",
        }
    }

    /// The word for what was done: `created`, `updated` ..
    #[must_use]
    pub fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Replace => "replaced",
            Self::Delete => "deleted",
            Self::Adopt => "adopted",
            Self::Unchanged => "unchanged",
            Self::Forget => "forgotten",
        }
    }

    /// The word for what is being done: `creating`, `updating` ..
    #[must_use]
    pub fn progressive(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Update => "updating",
            Self::Replace => "replacing",
            Self::Delete => "deleting",
            Self::Adopt => "adopting",
            Self::Unchanged => "checking",
            Self::Forget => "forgetting",
        }
    }

    /// The sign in plans: `+ ~ -/+ - > =`.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
            Self::Adopt => ">",
            Self::Unchanged => "=",
            Self::Forget => "x",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All that was declared stands.
    Succeeded,
    /// Something failed; what was done is recorded.
    Partial,
    /// The user stopped it.
    Cancelled,
}

/// The end of a run in figures.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The stage.
    pub stage: StagePath,
    /// What the run was for.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Outcome,
    /// How many resources per action.
    pub counts: BTreeMap<Action, usize>,
    /// Resources that failed, in order of failure, those that the script caught included.
    pub failed: Vec<Arc<Failure>>,
    /// How many of `failed` the script caught.
    pub handled: usize,
    /// Resources that were not tried because something they depend on failed.
    pub skipped: Vec<Fqn>,
    /// Orphans and old objects that are still there because their delete failed or was not tried.
    pub left: Vec<Fqn>,
    /// How many resources of the state the script did not come to because it ended with a mistake: they stay.
    pub unreached: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// Duration of the longest chain of dependent operations.
    pub critical_path: Duration,
    /// Calls that left the process.
    pub calls: u64,
}

impl Summary {
    /// The count of an action.
    #[must_use]
    pub fn count(&self, action: Action) -> usize {
        self.counts.get(&action).copied().unwrap_or(0)
    }

    /// Whether anything changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.counts
            .iter()
            .any(|(action, count)| *action != Action::Unchanged && *count > 0)
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// The stage.
        stage: StagePath,
        /// What for.
        phase: Phase,
        /// Where resources go.
        target: String,
        /// The id that the run's record gets if it changes something.
        deployment: String,
    },
    /// Another run holds the stage; this one waits.
    WaitingForLock {
        /// The stage.
        stage: StagePath,
    },
    /// A plan's line for one resource.
    Planned(Arc<PlannedAction>),
    /// A resource needs nothing.
    Unchanged {
        /// The resource.
        fqn: Fqn,
        /// Its kind.
        kind: Arc<str>,
    },
    /// An operation starts.
    Started {
        /// The resource.
        fqn: Fqn,
        /// Its kind.
        kind: Arc<str>,
        /// What happens to it.
        action: Action,
    },
    /// A word on what a long operation is doing.
    Progress {
        /// The resource.
        fqn: Fqn,
        /// The word.
        message: String,
    },
    /// An operation ended well and is durable.
    Finished {
        /// The resource.
        fqn: Fqn,
        /// Its kind.
        kind: Arc<str>,
        /// What happened to it.
        action: Action,
        /// Its name at the provider.
        physical_name: String,
        /// How long it took.
        duration: Duration,
    },
    /// An operation failed, or could not be tried.
    Failed(Arc<Failure>),
    /// A resource was not tried.
    Skipped {
        /// The resource.
        fqn: Fqn,
        /// The failed resource that it depends on.
        because: Fqn,
    },
    /// `print` of the script: goes to stdout.
    Print(String),
    /// `log` and `debug` of the script: goes to stderr.
    Log {
        /// The text.
        message: String,
        /// Where, for `debug`.
        position: Option<Position>,
    },
    /// A warning or an error with a place.
    Diagnostic(Box<Diagnostic>),
    /// The run ended.
    RunFinished(Box<Summary>),
}

/// Takes events in order. Must not block for long.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);

    /// Whether [`Event::Unchanged`] is of use: where most resources are unchanged, telling costs more than deciding.
    fn wants_unchanged(&self) -> bool {
        true
    }
}
