//! Runs Workers: Cloudflare's own `workerd` over the data of the local cloud.
//!
//! This side finds the runtime, writes its configuration and looks after its process; what a Worker sees of the data is the
//! business of Miniflare's simulators, which the configuration puts between the two. One process runs all Workers of a
//! folder, so that service bindings need nothing else.

mod config;
mod crons;
mod deployments;
mod event;
mod failure;
mod gate;
mod host;
mod inside;
mod instances;
mod launch;
pub mod packages;
mod presence;
mod process;
mod queues;
mod reserve;
mod resume;
mod settled;
mod stacks;
mod start;
mod supervisor;
mod trigger;

pub(super) use self::reserve::lock;
pub use self::{
    event::{Event, Running, RuntimeError},
    instances::{InstanceError, ask_instances},
    reserve::{Reserved, reserve},
    settled::{BrokenWorker, PATIENCE, Settled, SettledError, settled},
    start::{Runtime, RuntimeOptions, start, start_by, start_on},
    trigger::{TriggerError, trigger},
};
