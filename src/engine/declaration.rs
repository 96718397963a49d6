//! One resource as declared, and what is known of it at once.

use std::sync::Arc;

use crate::{
    model::{Fqn, Map, Position, ResourceId, ScopePath, Value},
    provider::{Claim, Denied, PropError},
    secret::VaultError,
};

use super::options::ResourceOptions;

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
    /// Another name differs from this one only by case.
    #[error("`{fqn}` and `{other}` differ only by case")]
    Spelling {
        /// The name.
        fqn: Fqn,
        /// The other one.
        other: Fqn,
        /// Where the other one was declared.
        first: Option<Position>,
        /// Whether the other one is known from state alone.
        in_state: bool,
    },
    /// Props that the kind does not accept.
    #[error("{} does not accept these props", kind)]
    Props {
        /// The kind.
        kind: Arc<str>,
        /// Every mistake.
        errors: Vec<PropError>,
    },
    /// The user did not allow what the resource does.
    #[error(transparent)]
    Denied(#[from] Denied),
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
    /// Two live resources would hold what only one can.
    #[error("`{fqn}` and `{other}` would both have {}", .claim.what)]
    SameClaim {
        /// The resource.
        fqn: Fqn,
        /// The other one.
        other: Fqn,
        /// Where the other one stands.
        first: Option<Position>,
        /// What it is.
        claim: Claim,
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
    /// The operation has not ended: [`Run::settle`](super::Run::settle) waits for it.
    Pending,
    /// A plan cannot know it: only apply will.
    Unknown,
    /// The schema has no such attribute.
    NoSuchAttribute,
}
