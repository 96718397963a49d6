//! The whole route list of the local cloud, called in process.

use std::collections::BTreeSet;

use alch::local::{Cloud, RouterOptions, router};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Request, header},
};
use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use super::{
    Verdict, account, d1, description, durable, exceptions::EXCEPTIONS, kv, queues, r2, stores,
    workers, workflows, zones,
};
use crate::support::exchange::Exchange;

const TOKEN: &str = "token-of-the-contract";
/// An id that fits wherever one is wanted and names nothing.
const NOTHING: &str = "0123456789abcdef0123456789abcdef";

/// A request body.
pub(super) enum Payload {
    /// No body.
    None,
    /// JSON.
    Json(Value),
    /// JSON that is called text/plain, as some clients do.
    Plain(Value),
    /// Bytes as they are.
    Raw(&'static str),
    /// Parts: name, content type, content. Each but `metadata` and `settings` has a file name.
    Parts(Vec<(&'static str, &'static str, String)>),
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl Payload {
    fn encode(self) -> (&'static str, String) {
        match self {
            Self::None => ("", String::new()),
            Self::Json(value) => ("application/json", value.to_string()),
            Self::Plain(value) => ("text/plain", value.to_string()),
            Self::Raw(text) => ("application/octet-stream", text.to_owned()),
            Self::Parts(parts) => {
                let mut body = String::new();
                for (name, kind, content) in parts {
                    let file = match name {
                        "metadata" | "settings" | "value" => String::new(),
                        module => format!("; filename=\"{module}\""),
                    };
                    body += &format!(
                        "--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {kind}\r\n\r\n{content}\r\n"
                    );
                }
                body += "--edge--\r\n";
                ("multipart/form-data; boundary=edge", body)
            }
        }
    }
}

/// A local cloud in process, and everything that was said to it.
pub(super) struct Local {
    runtime: Runtime,
    router: Router,
    /// Each with whether the request was meant to be right.
    exchanges: Vec<(Exchange, bool)>,
    /// Requests that were not refused as they should have been.
    surprises: Vec<String>,
    folder: tempfile::TempDir,
}

impl Local {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cloud = Cloud::open(folder.path()).expect("a cloud");
        let options = RouterOptions {
            token: Some(TOKEN.to_owned()),
            ..RouterOptions::default()
        };
        Self {
            runtime: Runtime::new().expect("a runtime"),
            router: router(cloud, options),
            exchanges: Vec::new(),
            surprises: Vec::new(),
            folder,
        }
    }

    /// The folder of its data.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        payload: Payload,
    ) -> Exchange {
        let (kind, body) = payload.encode();
        let target = format!("/client/v4{path}");
        let mut request_headers = HeaderMap::new();
        if !kind.is_empty() {
            request_headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in headers {
            request_headers.insert(
                HeaderName::from_static(name),
                value.parse().expect("a header"),
            );
        }
        let mut request = Request::builder().method(method).uri(&target);
        *request.headers_mut().expect("a request") = request_headers.clone();
        let request = request.body(Body::from(body.clone())).expect("a request");
        let router = self.router.clone();
        let (status, answer) = self.runtime.block_on(async {
            let answer = router.oneshot(request).await.expect("an answer");
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await;
            (status, body.expect("a body"))
        });
        Exchange {
            method: method.to_owned(),
            target,
            request_headers,
            request: Bytes::from(body),
            status,
            answer,
        }
    }

    /// Sends a request that must succeed; answers the body, null where it is no JSON.
    #[track_caller]
    pub(super) fn ok(&mut self, method: &str, path: &str, payload: impl Into<Payload>) -> Value {
        self.ok_with(method, path, &[], payload)
    }

    /// The same with headers.
    #[track_caller]
    pub(super) fn ok_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        payload: impl Into<Payload>,
    ) -> Value {
        let token = format!("Bearer {TOKEN}");
        let mut all = vec![("authorization", token.as_str())];
        all.extend(headers);
        let exchange = self.send(method, path, &all, payload.into());
        let text = String::from_utf8_lossy(&exchange.answer).into_owned();
        assert!(
            (200..300).contains(&exchange.status),
            "{method} {path}: {} {text}",
            exchange.status
        );
        self.exchanges.push((exchange, true));
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Follows a link out of an answer, which needs no token; answers the body.
    #[track_caller]
    pub(super) fn follow(&mut self, method: &str, link: &Value, body: &'static str) -> String {
        let link = link.as_str().expect("a link");
        let (_, target) = link.split_once("://").expect("an address");
        let target = &target[target.find('/').expect("a path")..];
        let request = Request::builder().method(method).uri(target);
        let request = request.body(Body::from(body)).expect("a request");
        let router = self.router.clone();
        self.runtime.block_on(async {
            let answer = router.oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{method} {link}");
            let body = to_bytes(answer.into_body(), usize::MAX).await;
            String::from_utf8(body.expect("a body").to_vec()).expect("text")
        })
    }

    /// Sends a request that must be refused with this status and Cloudflare's code.
    pub(super) fn fails(
        &mut self,
        expected: (u16, u32),
        method: &str,
        path: &str,
        payload: impl Into<Payload>,
    ) {
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", token.as_str())];
        let exchange = self.send(method, path, &headers, payload.into());
        let body: Value = serde_json::from_slice(&exchange.answer).unwrap_or_default();
        let code = body["errors"][0]["code"].as_u64();
        if (exchange.status, code) != (expected.0, Some(expected.1.into())) {
            let answer = format!("{} {body}", exchange.status);
            self.surprises.push(format!(
                "{method} {path}\n    {expected:?} expected: {answer}"
            ));
        }
        self.exchanges.push((exchange, false));
    }
}

/// The operations of the description that the local cloud has: those to which it does not answer that there is no such
/// route or method. Each is called with ids of nothing, without a token, and with a body that is no JSON.
fn implemented(local: &mut Local, operations: &[String]) -> BTreeSet<String> {
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", token.as_str())];
    let mut found = BTreeSet::new();
    for name in operations {
        let (method, path) = name.split_once(' ').expect("a method and a path");
        let path: Vec<&str> = path
            .split('/')
            .map(|segment| {
                match segment {
                    // Another account is refused before anything is looked for.
                    "{account_id}" => "local",
                    parameter if parameter.starts_with('{') => NOTHING,
                    segment => segment,
                }
            })
            .collect();
        let path = path.join("/");
        let probe = local.send(method, &path, &headers, Payload::Raw("{"));
        let body: Value = serde_json::from_slice(&probe.answer).unwrap_or_default();
        let code = body["errors"][0]["code"].as_u64();
        if probe.status == 405 || (probe.status == 404 && code == Some(7003)) {
            continue;
        }
        found.insert(name.clone());
        local.exchanges.push((probe, false));
        let stranger = local.send(method, &path, &[], Payload::None);
        assert!(
            (400..=403).contains(&stranger.status),
            "{name} without a token: {}",
            stranger.status
        );
        local.exchanges.push((stranger, false));
    }
    found
}

#[test]
fn the_local_cloud_answers_as_described() {
    let Some(description) = description() else {
        return;
    };
    let mut local = Local::new();
    for drive in [
        account::drive,
        d1::drive,
        kv::drive,
        r2::drive,
        queues::drive,
        workers::drive,
        durable::drive,
        workflows::drive,
        zones::drive,
        stores::drive,
    ] {
        drive(&mut local);
    }
    assert!(local.surprises.is_empty(), "{}", local.surprises.join("\n"));
    let operations: Vec<String> = description.operations().map(str::to_owned).collect();
    let implemented = implemented(&mut local, &operations);
    let mut verdict = Verdict::default();
    for (exchange, of_request) in &local.exchanges {
        verdict.add(description, exchange, *of_request);
    }
    verdict.assert_fits();
    assert_eq!(
        implemented
            .difference(&verdict.succeeded)
            .collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "operations of the local cloud that were never called with success"
    );
    assert_eq!(
        implemented.difference(&verdict.failed).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "operations of the local cloud of which no error was seen"
    );
    for (index, exception) in EXCEPTIONS.iter().enumerate() {
        assert!(
            verdict.excused.contains(&index),
            "this exception is not needed any more: {}, {}",
            exception.operation,
            exception.place
        );
    }
}
