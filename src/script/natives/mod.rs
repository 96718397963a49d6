//! The functions that scripts call, one file a theme.

mod assets;
mod bindings;
pub(super) mod custom;
pub(super) mod data;
pub(super) mod io;
pub(super) mod lists;
pub(super) mod net;
pub(super) mod resources;
pub(super) mod store;
pub(super) mod time;

use std::sync::Arc;

use rhai::Engine;

use super::host::Host;

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    assets::register(engine);
    resources::register(engine, host);
    bindings::register(engine);
    custom::register(engine, host);
    data::register(engine, host);
    io::register(engine, host);
    lists::register(engine, host);
    net::register(engine, host);
    store::register(engine, host);
    time::register(engine, host);
}
