//! Errors as Cloudflare reports them: HTTP status, code, message.

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::envelope;
use crate::{
    local::control::{ControlError, is_busy},
    util::fs::FsError,
};

/// A failure of one request.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    errors: Vec<Value>,
}

impl ApiError {
    /// An error with one entry.
    pub(super) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![json!({"code": code, "message": message.into()})],
        }
    }

    /// HTTP 400.
    pub(super) fn bad_request(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// HTTP 404.
    pub(super) fn not_found(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// HTTP 409.
    pub(super) fn conflict(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// HTTP 413.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 10027, message)
    }

    /// A failure that is not the caller's.
    pub(super) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            10001,
            format!("internal error: {message}"),
        )
    }

    /// A path that names no endpoint, or an object by an id that cannot be one.
    pub(super) fn no_route(path: &str) -> Self {
        let message =
            format!("Could not route to {path}, perhaps your object identifier is invalid?");
        Self {
            status: StatusCode::NOT_FOUND,
            errors: vec![
                json!({"code": 7003, "message": message}),
                json!({"code": 7000, "message": "No route for that URI"}),
            ],
        }
    }

    /// A request for an account that the token is not for.
    pub(super) fn foreign_account() -> Self {
        Self::new(StatusCode::FORBIDDEN, 10000, "Authentication error")
    }

    /// A method that the endpoint does not have.
    pub(super) fn no_method(method: &Method, path: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            7001,
            format!("Method {method} not available for that URI: {path}"),
        )
    }

    /// An `Authorization` header that is not `Bearer <token>`.
    pub(super) fn bad_authorization() -> Self {
        let chain = json!([{"code": 6111, "message": "Invalid format for Authorization header"}]);
        Self {
            status: StatusCode::BAD_REQUEST,
            errors: vec![json!({
                "code": 6003, "message": "Invalid request headers", "error_chain": chain,
            })],
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        tracing::debug!(errors = ?self.errors, "refused");
        envelope::json_response(
            self.status,
            &json!({"success": false, "errors": self.errors, "messages": [], "result": null}),
        )
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Sqlite(error) => error.into(),
            other => Self::internal(with_causes(&other)),
        }
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        if is_busy(&error) {
            let message = "the local cloud is busy in another process, try again";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, 1000, message);
        }
        Self::internal(format_args!("database: {error}"))
    }
}

impl From<FsError> for ApiError {
    fn from(error: FsError) -> Self {
        Self::internal(with_causes(&error))
    }
}

impl From<ApiError> for ControlError {
    /// For callers inside this program, who want no HTTP answer.
    fn from(error: ApiError) -> Self {
        let first = error
            .errors
            .first()
            .and_then(|error| error["message"].as_str());
        Self::Unreadable {
            reason: first.unwrap_or("unknown").to_owned(),
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
