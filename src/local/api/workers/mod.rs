//! Workers: scripts, their versions and deployments, settings and secrets.
//!
//! The control plane only: uploads are checked, stored and versioned here; running them is the runtime's. Routes and custom
//! domains are not here: an upload that needs them is refused, not half stored.

mod assets;
mod bindings;
mod code;
mod deployed;
mod deployments;
mod events;
mod handlers;
mod migrations;
mod model;
mod named;
mod schedules;
mod scripts;
mod secrets;
mod settings;
mod store;
pub(super) mod tails;
mod upload;
mod versions;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, patch, post, put},
};

pub(in crate::local) use self::bindings::revealed;
pub(in crate::local) use self::deployed::{
    DeployedAssets, DeployedModule, DeployedWorker, deployed, jurisdiction,
};
pub(in crate::local) use self::events::{schedules, source_maps};
pub(super) use self::handlers::lacks;
pub(in crate::local) use self::migrations::Namespace;
pub(in crate::local) use self::model::latest_version;
pub(super) use self::model::{exists, producers, require};
pub(in crate::local) use self::tails::Tails;
use super::{account_path, call::run};
use crate::local::Cloud;

/// The path of uploads of assets, which have tokens of their own.
pub(super) const ASSETS_UPLOAD: &str = "workers/assets/upload";
/// The code for a body that is wrong.
const INVALID: u32 = 10001;
/// The code for a script that does not pass validation.
const REFUSED: u32 = 10021;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("workers/scripts");
    let one = format!("{all}/{{script}}");
    let service = account_path("workers/services/{script}");
    Router::new()
        .route(&all, get(run(scripts::list)))
        .route(
            &one,
            get(run(scripts::content))
                .put(run(scripts::put))
                .delete(run(scripts::delete)),
        )
        .route(&format!("{one}/content"), put(run(code::put)))
        .route(&format!("{one}/content/v2"), get(run(scripts::content)))
        .route(
            &format!("{one}/assets-upload-session"),
            post(run(assets::open_session)),
        )
        .route(&account_path(ASSETS_UPLOAD), post(run(assets::upload)))
        .route(
            &format!("{one}/settings"),
            get(run(settings::read)).patch(run(settings::update)),
        )
        .route(
            &format!("{one}/script-settings"),
            get(run(settings::read_script)).patch(run(settings::update_script)),
        )
        .route(
            &format!("{one}/schedules"),
            get(run(schedules::read)).put(run(schedules::write)),
        )
        .route(
            &format!("{one}/subdomain"),
            get(run(settings::read_subdomain))
                .post(run(settings::write_subdomain))
                .delete(run(settings::delete_subdomain)),
        )
        .route(
            &format!("{one}/secrets"),
            get(run(secrets::list)).put(run(secrets::write)),
        )
        .route(
            &format!("{one}/secrets/{{secret}}"),
            get(run(secrets::read)).delete(run(secrets::delete)),
        )
        .route(
            &format!("{one}/secrets-bulk"),
            patch(run(secrets::write_many)),
        )
        .route(
            &format!("{one}/versions"),
            get(run(versions::list)).post(run(versions::create)),
        )
        .route(
            &format!("{one}/versions/{{version}}"),
            get(run(versions::read)),
        )
        .route(
            &format!("{one}/deployments"),
            get(run(deployments::list)).post(run(deployments::create)),
        )
        .route(
            &format!("{one}/deployments/{{deployment}}"),
            get(run(deployments::read)),
        )
        .route(
            &format!("{one}/queue-consumers"),
            get(run(scripts::queue_consumers)),
        )
        .route(
            &service,
            get(run(scripts::service)).delete(run(scripts::delete)),
        )
        .route(
            &account_path("workers/subdomain"),
            get(run(settings::read_account_subdomain)).put(run(settings::write_account_subdomain)),
        )
}
