//! alch's own question beside Cloudflare's API: whether the Workers that are deployed answer requests by now.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};

use crate::local::{Cloud, runtime};

/// The path; the token is asked for as on all others.
pub const SETTLED: &str = "/alch/settled";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    Router::new().route(SETTLED, get(settled))
}

async fn settled(State(cloud): State<Arc<Cloud>>) -> Response {
    match runtime::settled(cloud.folder()).await {
        Ok(settled) => Json(settled).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
