//! One request and its answer, as they went over the wire.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde_json::Value;

/// What all paths begin with.
const PREFIX: &str = "/client/v4";

/// One request and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) request_headers: HeaderMap,
    pub(crate) request: Bytes,
    pub(crate) status: u16,
    pub(crate) answer: Bytes,
}

/// A request body by its shape.
pub(crate) enum Sent {
    Nothing,
    Json(Value),
    /// The boundary and the bytes.
    Parts((String, Bytes)),
    Raw,
}

impl Exchange {
    /// The path below the base URL.
    pub(crate) fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix(PREFIX).unwrap_or(path)
    }

    /// The parameters of the query, decoded.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(&value.replace('+', " ")))
            })
            .collect()
    }

    /// The body of the request. What can be read as JSON is JSON, whatever it is called: clients send it as text/plain.
    pub(crate) fn sent(&self) -> Sent {
        if self.request.is_empty() {
            return Sent::Nothing;
        }
        let kind = self.request_headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if let Some((_, boundary)) = kind.split_once("boundary=") {
            let boundary = boundary.trim_matches('"').to_owned();
            return Sent::Parts((boundary, self.request.clone()));
        }
        match serde_json::from_slice(&self.request) {
            Ok(value) => Sent::Json(value),
            Err(_) => Sent::Raw,
        }
    }
}

/// One part of a multipart body.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The parts of a multipart body.
pub(crate) fn parts(boundary: &str, body: &[u8]) -> Vec<Part> {
    let mut rest = body;
    let mut out = Vec::new();
    let dash = format!("--{boundary}");
    while let Some(start) = find(rest, dash.as_bytes()) {
        rest = &rest[start + dash.len()..];
        let Some(rest_of_part) = rest.strip_prefix(b"\r\n") else {
            break;
        };
        let head = find(rest_of_part, b"\r\n\r\n").expect("a head");
        let content = &rest_of_part[head + 4..];
        let end = find(content, format!("\r\n{dash}").as_bytes()).expect("an end");
        let text = String::from_utf8_lossy(&rest_of_part[..head]).into_owned();
        let name = text
            .split_once("; name=\"")
            .and_then(|(_, after)| after.split_once('"'))
            .map(|(name, _)| name.to_owned())
            .expect("a part with a name");
        out.push(Part {
            name,
            bytes: content[..end].to_vec(),
        });
        rest = &content[end..];
    }
    out
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Text with its `%XX` replaced.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}
