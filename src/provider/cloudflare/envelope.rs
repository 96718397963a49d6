//! Cloudflare's envelope: `{success, errors, result, result_info}` around every answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use jiff::Timestamp;
use serde_json::Value as Json;

use super::{
    client::Call,
    error::{ApiError, CallError},
};

/// An answer that says yes.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The result; null where there is none.
    pub result: Json,
    /// Where a list stands: page, cursor.
    pub result_info: Json,
}

/// Opens the envelope.
///
/// # Errors
/// [`CallError::Api`] for an answer that says no, [`CallError::Unreadable`] for one that is no envelope.
pub fn open(call: &Call, response: &Response<Bytes>) -> Result<Answer, CallError> {
    let status = response.status();
    let body = response.body();
    let unreadable = |reason: String| CallError::Unreadable {
        call: call.describe(),
        effect: call.effect(),
        status: status.as_u16(),
        reason,
        retry_after: retry_after(response.headers()),
        ray: ray(response.headers()),
    };
    if status.is_redirection() {
        return Err(unreadable("it points to another address".to_owned()));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return if status.is_success() {
            Ok(Answer {
                result: Json::Null,
                result_info: Json::Null,
            })
        } else {
            Err(CallError::Api(refusal(call, response, &Json::Null)))
        };
    }
    let json: Json = serde_json::from_slice(body).map_err(|error| {
        unreadable(match page_title(body) {
            Some(title) => format!("it is a web page ({title})"),
            None if error.is_eof() => {
                format!("its JSON is cut off after {} bytes", body.len())
            }
            None => format!("it is no JSON: {error}"),
        })
    })?;
    match json.get("success").and_then(Json::as_bool) {
        Some(true) if status.is_success() => {
            let Json::Object(mut map) = json else {
                return Err(unreadable("it is no JSON object".to_owned()));
            };
            Ok(Answer {
                result: map.remove("result").unwrap_or_default(),
                result_info: map.remove("result_info").unwrap_or_default(),
            })
        }
        None if status.is_success() => Err(unreadable(
            "it lacks `success`, which every answer of Cloudflare has".to_owned(),
        )),
        _ => Err(CallError::Api(refusal(call, response, &json))),
    }
}

fn refusal(call: &Call, response: &Response<Bytes>, json: &Json) -> ApiError {
    let errors = json.get("errors").and_then(Json::as_array);
    let errors = errors.map_or(&[][..], Vec::as_slice);
    let mut messages: Vec<String> = Vec::new();
    for error in errors {
        let chain = error.get("error_chain").and_then(Json::as_array);
        for entry in std::iter::once(error).chain(chain.into_iter().flatten()) {
            if let Some(message) = entry.get("message").and_then(Json::as_str)
                && !message.is_empty()
                && !messages.iter().any(|known| known == message)
            {
                messages.push(message.to_owned());
            }
        }
    }
    if messages.is_empty() {
        messages.push(format!("refused with HTTP {}", response.status()));
    }
    ApiError {
        status: response.status().as_u16(),
        code: errors
            .iter()
            .find_map(|error| error.get("code").and_then(Json::as_i64)),
        message: messages.join("; "),
        call: call.describe(),
        ray: ray(response.headers()),
        area: call.area(),
        effect: call.effect(),
        retry_after: retry_after(response.headers()),
    }
}

/// The id that Cloudflare gives each request.
fn ray(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("cf-ray")?.to_str().ok()?.to_owned())
}

/// The `Retry-After` header: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    let wait = date.duration_since(Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

/// The title of a web page; `None` when the body is none.
fn page_title(body: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    if !start.trim_start().starts_with('<') {
        return None;
    }
    let lower = start.to_ascii_lowercase();
    let title = lower
        .find("<title>")
        .and_then(|from| {
            let from = from + "<title>".len();
            let length = lower[from..].find('<')?;
            start.get(from..from + length)
        })
        .map(|title| title.trim().chars().take(80).collect::<String>())
        .filter(|title| !title.is_empty());
    Some(title.unwrap_or_else(|| "without a title".to_owned()))
}
