//! The engine: declarations in, the difference to state worked out, operations run in order, everything recorded.
//!
//! It touches the world only through four seams: [`crate::provider::Provider`], [`crate::state::Store`],
//! [`crate::util::clock::Clock`] and [`crate::util::ids::Ids`]; it tells the world what it does through one ordered stream of
//! [`event::Event`]s. It knows no script language, no concrete provider and no terminal.

mod adoption;
mod ask;
mod call;
mod decide;
mod declaration;
mod declare;
mod delete;
pub mod diagnose;
mod entries;
pub mod event;
mod failure;
mod finish;
mod import;
mod look;
mod losses;
mod node;
mod operate;
mod options;
pub mod plan;
mod rebuild;
mod reclaim;
mod recorded;
mod recover;
pub mod rename;
mod renamed;
mod repair;
mod resolve;
pub mod rotate;
mod run;
mod schedule;
mod spelling;
mod stakes;

pub use declaration::{AttributeState, Declaration, DeclareError, NodeId, NodeInfo};
pub use event::{Action, Event, EventSink, Outcome, Summary};
pub use failure::{Failure, FailureCause, RunError};
pub use import::ImportError;
pub use look::{Drift, Finding, Look};
pub use options::{
    Cancel, DeleteOptions, DeleteStrategy, Phase, ResourceOptions, RunOptions, World,
};
pub use plan::{Plan, PlannedAction, PropertyChange};
pub use run::Run;
