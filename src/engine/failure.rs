//! Why a resource or a whole run failed.

use std::sync::Arc;

use crate::{
    model::{Fqn, Position, StagePath},
    provider::{FailureKind, ProviderError},
    secret::VaultError,
    state::StateError,
};

use super::event::Action;

/// Why a run could not start or could not end properly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// State refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal refused in the middle of the run; nothing was started after that.
    #[error(transparent)]
    Journal(Arc<StateError>),
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
    /// Another stage's objects would have the same names.
    #[error("stage `{}` would give its objects the names of stage `{}`", stage.stage, other.stage)]
    SameSpelling {
        /// The stage.
        stage: StagePath,
        /// The one that has state.
        other: StagePath,
    },
    /// A name given to `moved` is not a name.
    #[error("{0}")]
    Name(String),
    /// `moved` cannot be carried out.
    #[error(transparent)]
    Rename(#[from] super::rename::RenameError),
    /// `moved` names something that the script has declared already: its object is there twice by now, or soon gone.
    #[error("`moved` must stand before `{}` is declared", declared.within_stage())]
    MovedLate {
        /// What is declared.
        declared: Fqn,
        /// Where.
        first: Option<Position>,
    },
    /// A provider could not be asked what it has.
    #[error("cannot see what there is of `{kind}`: {error}")]
    Look {
        /// The kind.
        kind: Arc<str>,
        /// What the provider said.
        error: ProviderError,
    },
    /// A secret that looking needs does not open.
    #[error("{0}")]
    LookVault(Arc<VaultError>),
    /// The user stopped it before it began.
    #[error("cancelled")]
    Cancelled,
    /// What the run would do is not what the saved plan says.
    #[error("the plan is stale: {reason}")]
    StalePlan {
        /// How it differs.
        reason: String,
    },
}

/// Why one resource failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What was tried.
    pub action: Action,
    /// Why.
    pub cause: FailureCause,
    /// Where it is declared.
    pub position: Option<Position>,
}

impl Failure {
    /// Whether nothing is wrong with the resource but that the user stopped the run.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        match &self.cause {
            FailureCause::Cancelled => true,
            FailureCause::Provider(error) => error.kind == FailureKind::Cancelled,
            _ => false,
        }
    }
}

/// The cause of a [`Failure`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum FailureCause {
    /// The provider said no.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A resource it depends on failed, or one whose failure kept all that was not begun from beginning.
    #[error("`{0}` failed, on which it depends")]
    Dependency(Fqn),
    /// `protect: true` stands against it.
    #[error("it is protected (`protect: true`)")]
    Protected,
    /// It holds data that the replacement would lose.
    #[error("replacing it would lose its data (because of {})", .0.join(", "))]
    DataLoss(Vec<String>),
    /// Carrying it out would lose these, which no script brings back.
    #[error("it would lose {}", .0.join(" and "))]
    Losses(Vec<String>),
    /// It is no longer declared, and deleting it would lose these.
    #[error("deleting it would lose {}", losses.join(" and "))]
    Orphan {
        /// What no script brings back.
        losses: Vec<String>,
        /// The new resource that it has probably become.
        heir: Option<Fqn>,
    },
    /// It looks like another one under a new id, with which these would be lost.
    #[error("it looks like `{}` under a new id, and without that one {} would be lost", from.within_stage(), losses.join(" and "))]
    Renamed {
        /// The one in state.
        from: Fqn,
        /// What no script brings back.
        losses: Vec<String>,
    },
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
    /// Its scope failed, and what the run had made there was removed again.
    #[error("its scope was cleaned up")]
    CleanedUp,
    /// State was to be rebuilt, and the provider has no object of this name.
    #[error("there is no `{0}`")]
    NotThere(String),
    /// A saved plan did not foresee it.
    #[error("the plan is stale: {0}")]
    StalePlan(String),
}
