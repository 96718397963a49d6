//! Cloudflare's envelope around results.

use axum::{
    body::Body,
    http::{HeaderValue, Response as HttpResponse, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use super::error::ApiError;

/// What handlers answer.
pub(super) type ApiResult = Result<Response, ApiError>;

/// A success with `result`.
pub(super) fn ok(result: &Value) -> ApiResult {
    Ok(json_response(
        StatusCode::OK,
        &json!({"success": true, "errors": [], "messages": [], "result": result}),
    ))
}

/// A success with `result` and `result_info`.
pub(super) fn ok_with_info(result: &Value, info: &Value) -> ApiResult {
    Ok(json_response(
        StatusCode::OK,
        &json!({
            "success": true, "errors": [], "messages": [], "result": result, "result_info": info,
        }),
    ))
}

/// Raw bytes without an envelope.
pub(super) fn bytes(content_type: &str, bytes: Vec<u8>) -> Response {
    let mut response = HttpResponse::new(Body::from(bytes));
    let value = HeaderValue::from_str(content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// A JSON body with a status.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = bytes("application/json", body.to_string().into_bytes());
    *response.status_mut() = status;
    response
}
