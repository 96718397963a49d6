//! The engine: declarations in, the difference to state worked out, operations run in order, everything recorded.
//!
//! It touches the world only through four seams: [`crate::provider::Provider`], [`crate::state::Store`],
//! [`crate::util::clock::Clock`] and [`crate::util::ids::Ids`]; it tells the world what it does through one ordered stream of
//! [`event::Event`]s. It knows no script language, no concrete provider and no terminal.

pub mod event;
pub mod plan;
pub mod run;

pub use event::{Action, Event, EventSink, Outcome, Summary};
pub use run::{
    AttributeState, Cancel, Declaration, DeclareError, Failure, FailureCause, NodeId, NodeInfo,
    Phase, ResourceOptions, Run, RunError, RunOptions, World,
};
