//! The Rhai host: the only code that names rhai. Scripts are read, checked and run here; what they declare goes to the engine.
//!
//! Evaluation is synchronous, on one thread with a large stack; providers work on the runtime meanwhile. Nothing here knows a
//! concrete provider, a store or a terminal: those come in through [`HostOptions`] and [`Launcher`].

mod app;
mod application;
mod check;
mod convert;
mod engine;
mod fault;
mod functions;
mod handle;
mod host;
mod lazy;
mod locate;
mod modules;
mod natives;
mod options;
mod program;
mod report;
mod rewrite;
mod run;
mod scope;
mod signature;
mod sources;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use application::application;
pub use engine::Limits;
pub use functions::{functions, functions_of};
pub use host::{AppOptions, HostOptions, Launcher};
pub use natives::store::StoreDeclaration;
pub use program::{Program, load, load_text};
pub use run::{ScriptResult, run};
