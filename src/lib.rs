//! alch: infrastructure as an ordinary script.
//!
//! The library behind the `alch` binary. `docs/` and CONTRIBUTING.md show the map; each module's first paragraph says what
//! lives in it and what does not.

pub mod bundle;
pub mod cli;
pub mod engine;
pub mod local;
pub mod model;
pub mod provider;
pub mod script;
pub mod secret;
pub mod state;
pub mod ui;
pub mod util;
