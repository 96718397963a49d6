//! Looking into a cloud that has nothing makes nothing: a plan of a project that was never deployed leaves no folder behind.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use tower::ServiceExt as _;

use super::{super::Cloud, RouterOptions, router_of};

/// Answers for a cloud as long as it has no data.
#[derive(Clone)]
pub(super) struct Blank {
    cloud: Arc<Cloud>,
    options: RouterOptions,
    stand_in: Arc<OnceLock<Router>>,
}

impl Blank {
    pub(super) fn new(cloud: Arc<Cloud>, options: RouterOptions) -> Self {
        Self {
            cloud,
            options,
            stand_in: Arc::default(),
        }
    }
}

/// Has an empty cloud in memory answer what only reads while there is no other.
pub(super) async fn answer(State(blank): State<Blank>, request: Request, next: Next) -> Response {
    if request.method() != Method::GET || blank.cloud.has_data() {
        return next.run(request).await;
    }
    let router = blank
        .stand_in
        .get_or_init(|| router_of(Arc::new(blank.cloud.in_memory()), blank.options.clone()));
    let Ok(answer) = router.clone().oneshot(request).await;
    answer
}
