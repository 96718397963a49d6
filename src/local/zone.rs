//! Makes a zone that a user asks for on the command line, by the API that scripts and other clients use.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Cloud, RouterOptions, router};

/// The code for a zone that is there already.
const EXISTS: u64 = 1061;
/// The longest answer.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// Makes the zone, unless it is there.
///
/// # Errors
/// What the API says against it.
pub async fn ensure_zone(cloud: &Arc<Cloud>, name: &str) -> Result<(), String> {
    let body = json!({ "name": name, "account": { "id": cloud.account() }, "type": "full" });
    let request = Request::post("/client/v4/zones")
        .body(Body::from(body.to_string()))
        .map_err(|error| error.to_string())?;
    let router = router(Arc::clone(cloud), RouterOptions::default());
    let Ok(answer) = router.oneshot(request).await;
    let good = answer.status().is_success();
    let bytes = to_bytes(answer.into_body(), ANSWER_LIMIT)
        .await
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let error = &answer["errors"][0];
    if good || error["code"] == EXISTS {
        return Ok(());
    }
    Err(error["message"].as_str().unwrap_or_default().to_owned())
}
