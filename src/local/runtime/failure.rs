//! The page that stands in for the answer of a Worker that failed: what was thrown, and where.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

/// A request that a Worker failed at, as the entry Worker tells of it.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) worker: String,
    pub(super) method: String,
    pub(super) url: String,
    /// What was thrown, without the stack, which stays on the other side.
    pub(super) message: String,
    /// The mark of the request.
    pub(super) ray: String,
    /// Whether a browser asks.
    pub(super) html: bool,
}

/// The page; `exception` is the message with the stack, where they came in time.
pub(super) fn page(failure: &Failure, exception: Option<&str>) -> Response {
    let title = format!("Worker `{}` failed", failure.worker);
    let request = format!("{} {}", failure.method, failure.url);
    let what = exception.unwrap_or(&failure.message);
    if !failure.html {
        let text = format!("{title}\n\n{request}\n\n{what}\n");
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    let (message, stack) = what.split_once('\n').unwrap_or((what, ""));
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:16px/1.5 system-ui;margin:10vh auto;max-width:50rem;padding:0 1rem;color-scheme:light dark}}\n\
         pre{{white-space:pre-wrap;border-left:4px solid #f6821f;padding-left:1rem}}</style>\n\
         <h1>{title}</h1><p>{request}</p><h2>{message}</h2><pre>{stack}</pre>\n",
        title = escaped(&title),
        request = escaped(&request),
        message = escaped(message),
        stack = escaped(stack),
    );
    let headers = [(header::CONTENT_TYPE, "text/html;charset=utf-8")];
    (StatusCode::INTERNAL_SERVER_ERROR, headers, html).into_response()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
