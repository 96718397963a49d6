//! `std::HttpRequest`: a request that is sent when its props change, and perhaps one when it is deleted.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::sync::OnceCell;

use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError, Provider,
        ProviderError, Touch,
        cloudflare::transport::{chain, install_tls},
        text_prop,
    },
};

/// Longest answer that is kept.
const BODY_LIMIT: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The kind.
#[derive(Debug)]
pub struct HttpRequest {
    client: OnceCell<reqwest::Client>,
    schema: KindSchema,
}

impl Default for HttpRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpRequest {
    /// The kind.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: OnceCell::new(),
            schema: schema(),
        }
    }

    async fn client(&self) -> Result<&reqwest::Client, ProviderError> {
        self.client
            .get_or_try_init(|| async {
                install_tls();
                // The script was allowed to speak to this host and to no other.
                let same_host = reqwest::redirect::Policy::custom(|attempt| {
                    let first = attempt.previous().first();
                    let same = first.is_some_and(|first| {
                        first.host_str() == attempt.url().host_str()
                            && first.port_or_known_default()
                                == attempt.url().port_or_known_default()
                    });
                    if same && attempt.previous().len() < 10 {
                        attempt.follow()
                    } else {
                        attempt.stop()
                    }
                });
                reqwest::Client::builder()
                    .user_agent(concat!("alch/", env!("CARGO_PKG_VERSION")))
                    .redirect(same_host)
                    .connect_timeout(Duration::from_secs(10))
                    .timeout(TIMEOUT)
                    .build()
                    .map_err(|error| {
                        ProviderError::new(
                            FailureKind::Refused,
                            format!("no HTTP client can be made: {}", chain(&error)),
                        )
                    })
            })
            .await
    }

    async fn send(&self, context: &OperationContext, request: &Map) -> Result<Map, ProviderError> {
        let client = self.client().await?;
        let url = text_prop(request, "url").unwrap_or_default();
        let method = text_prop(request, "method").unwrap_or("GET");
        // Keys may stand in the query.
        let call = format!("{method} {}", url.split('?').next().unwrap_or_default());
        let fail = |kind: FailureKind, message: String| ProviderError {
            call: Some(call.clone()),
            ..ProviderError::new(kind, message)
        };
        let read_only = matches!(method, "GET" | "HEAD");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| fail(FailureKind::Refused, format!("`{method}` is no method")))?;
        let mut builder = client.request(method, url);
        for (name, value) in request
            .get("headers")
            .and_then(Value::as_map)
            .into_iter()
            .flatten()
        {
            let text = plain_text(value)
                .ok_or_else(|| fail(FailureKind::Refused, format!("header `{name}` is no text")))?;
            builder = builder.header(name, text);
        }
        match request.get("body") {
            None | Some(Value::Null) => {}
            Some(Value::Bytes(bytes)) => builder = builder.body(bytes.clone()),
            Some(body) => match plain_text(body) {
                Some(text) => builder = builder.body(text.to_owned()),
                None => {
                    let json = body
                        .to_plain_json()
                        .map_err(|error| fail(FailureKind::Refused, format!("body: {error}")))?;
                    builder = builder.json(&json);
                }
            },
        }
        let lost = |error: reqwest::Error| {
            let kind = if error.is_connect() || error.is_builder() || read_only {
                FailureKind::Refused
            } else {
                FailureKind::Ambiguous
            };
            fail(kind, chain(&error.without_url())).with_help("check the URL and the network")
        };
        context.meter.begin_call().await?;
        let exchange = async {
            let mut answer = builder.send().await.map_err(lost)?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(lost)? {
                let room = BODY_LIMIT - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == BODY_LIMIT {
                    break;
                }
            }
            Ok::<_, ProviderError>((answer, body))
        };
        let (answer, body) = tokio::select! {
            biased;
            () = context.cancel.cancelled() => {
                return Err(fail(FailureKind::Cancelled, "cancelled".to_owned()));
            }
            result = exchange => result?,
        };
        let status = answer.status();
        let body = String::from_utf8_lossy(&body).into_owned();
        if !expected(request, status.as_u16()) {
            let start: String = body.chars().take(300).collect();
            let kind = match status.as_u16() {
                401 | 403 => FailureKind::Authentication,
                _ => FailureKind::Refused,
            };
            let mut message = format!("answered with HTTP {status}");
            if !start.trim().is_empty() {
                message.push_str(&format!(": {}", start.trim()));
            }
            return Err(fail(kind, message).with_help(
                "pass the statuses that are fine as `expect: [200, 404]`, or correct the request",
            ));
        }
        let headers = answer
            .headers()
            .iter()
            .filter(|(name, _)| *name != http::header::SET_COOKIE)
            .map(|(name, value)| {
                let text = (context.redact)(&String::from_utf8_lossy(value.as_bytes()));
                (name.as_str().to_owned(), Value::String(text))
            })
            .collect();
        Ok(Map::from([
            ("status".to_owned(), Value::Int(status.as_u16().into())),
            ("body".to_owned(), Value::String((context.redact)(&body))),
            ("headers".to_owned(), Value::Map(headers)),
        ]))
    }
}

fn plain_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Secret(Secret::Plain(text)) => Some(text),
        _ => None,
    }
}

fn expected(request: &Map, status: u16) -> bool {
    let is = |value: &Value| value.as_int() == Some(i64::from(status));
    match request.get("expect") {
        Some(Value::Array(list)) => list.iter().any(is),
        Some(value @ Value::Int(_)) => is(value),
        _ => (200..300).contains(&status),
    }
}

fn request_props() -> Vec<Prop> {
    let status = || PropType::Integer { min: 100, max: 599 };
    vec![
        Prop::new("url", PropType::String, "where it goes").required(),
        Prop {
            default: Some(Value::from("GET")),
            ..Prop::new(
                "method",
                PropType::OneOf(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
                "its method",
            )
        },
        Prop::new(
            "headers",
            PropType::MapOf(Box::new(PropType::String)),
            "its headers; secrets may stand here",
        )
        .secret(),
        Prop::new(
            "body",
            PropType::Any,
            "its body: text, or data that is sent as JSON",
        )
        .secret(),
        Prop::new(
            "expect",
            PropType::Either(vec![status(), PropType::List(Box::new(status()))]),
            "the statuses that are fine; 200 to 299 by default",
        ),
    ]
}

fn schema() -> KindSchema {
    let mut props = request_props();
    props.push(
        Prop::new(
            "onDelete",
            PropType::Object(request_props()),
            "a request that is sent when the resource is deleted",
        )
        .secret(),
    );
    KindSchema {
        kind: "std::HttpRequest".into(),
        doc: "An HTTP request that is sent again when its props change.".to_owned(),
        props,
        open_props: false,
        attributes: vec![
            Attribute::new("status", "the status of the answer"),
            Attribute::new("body", "the text of the answer, at most 1 MiB"),
            Attribute::new("headers", "the headers of the answer, in small letters"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 255,
    }
}

fn on_delete(props: &Map) -> Option<&Map> {
    props.get("onDelete").and_then(Value::as_map)
}

fn url(request: &Map) -> Option<Touch> {
    text_prop(request, "url").map(|url| Touch::Net(url.to_owned()))
}

fn check_url(request: &Map, path: &[&str]) -> Option<PropError> {
    let url = text_prop(request, "url")?;
    let sound = reqwest::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    (!sound).then(|| PropError {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        message: format!("`{url}` is no HTTP address"),
        help: Some("write it as `https://example.com/path`".to_owned()),
        at_key: false,
    })
}

#[async_trait]
impl Provider for HttpRequest {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, _context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors: Vec<PropError> = check_url(&props, &["url"]).into_iter().collect();
        if let Some(Value::Map(request)) = props.get("onDelete") {
            errors.extend(check_url(request, &["onDelete", "url"]));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        props
            .entry("method".to_owned())
            .or_insert_with(|| Value::from("GET"));
        Ok(Checked {
            props,
            physical_name: "http-request".to_owned(),
            explicit_name: false,
            known: Map::new(),
            identity: None,
        })
    }

    fn touches(&self, props: &Map) -> Vec<Touch> {
        let later = on_delete(props);
        [Some(props), later]
            .into_iter()
            .flatten()
            .filter_map(url)
            .collect()
    }

    fn touches_on_delete(&self, existing: &Existing) -> Vec<Touch> {
        on_delete(&existing.props)
            .and_then(url)
            .into_iter()
            .collect()
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        self.send(context, props).await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Map, ProviderError> {
        self.send(context, props).await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let Some(request) = on_delete(&existing.props) else {
            return Ok(());
        };
        self.send(context, request).await.map(drop)
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "a request leaves no object that could be looked at",
            "declare it as `HttpRequest(.., #{ url: .. })`: it is sent with the next `alch run`",
        ])
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::HeaderMap, response::Redirect, routing::get};
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::provider::cloudflare::testing::{checked, context};

    async fn server() -> String {
        async fn echo(headers: HeaderMap, body: String) -> ([(&'static str, String); 1], String) {
            let key = headers.get("x-key").map_or("", |key| key.to_str().unwrap());
            ([("x-key", key.to_owned())], body)
        }
        let router = Router::new()
            .route("/echo", get(echo).post(echo))
            .route("/here", get(|| async { Redirect::to("/echo") }))
            .route(
                "/away",
                get(|| async { Redirect::to("http://localhost:9/") }),
            )
            .route(
                "/bad",
                get(|| async { (http::StatusCode::IM_A_TEAPOT, "short and stout") }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }

    async fn send(props: Json) -> Result<Map, ProviderError> {
        let kind = HttpRequest::new();
        let checked = checked(&kind, props);
        kind.create(&context("x"), &checked.props).await
    }

    #[tokio::test]
    async fn a_request_carries_method_headers_and_body_and_gives_the_answer() {
        let origin = server().await;
        let answer = send(json!({ "url": format!("{origin}/echo"), "method": "POST", "headers": { "x-key": "k" }, "body": { "a": 1 } }))
            .await
            .unwrap();
        assert_eq!(answer["status"], Value::Int(200));
        assert_eq!(answer["body"], Value::from("{\"a\":1}"));
        assert_eq!(
            answer["headers"].as_map().unwrap()["x-key"],
            Value::from("k")
        );
    }

    #[tokio::test]
    async fn an_unexpected_status_is_refused_with_the_start_of_the_answer() {
        let url = format!("{}/bad", server().await);
        let error = send(json!({ "url": format!("{url}?key=1") }))
            .await
            .unwrap_err();
        assert_eq!(
            error.message,
            "answered with HTTP 418 I'm a teapot: short and stout"
        );
        assert_eq!(error.call, Some(format!("GET {url}")));
        let fine = send(json!({ "url": url, "expect": [418] })).await;
        assert_eq!(fine.unwrap()["status"], Value::Int(418));
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let origin = server().await;
        let here = send(json!({ "url": format!("{origin}/here") })).await;
        assert_eq!(here.unwrap()["status"], Value::Int(200));
        let away = send(json!({ "url": format!("{origin}/away"), "expect": 303 })).await;
        assert_eq!(away.unwrap()["status"], Value::Int(303));
    }

    #[tokio::test]
    async fn a_delete_sends_its_own_request() {
        let origin = server().await;
        let kind = HttpRequest::new();
        let checked = checked(
            &kind,
            json!({ "url": origin, "on_delete": { "url": format!("{origin}/bad") } }),
        );
        let existing = Existing {
            props: checked.props,
            outputs: Map::new(),
            physical_name: "http-request".to_owned(),
            settled: true,
            attempted: Map::new(),
        };
        let context = context("x");
        let error = kind.delete(&context, &existing).await.unwrap_err();
        assert!(error.message.contains("418"), "{error}");
        assert_eq!(context.meter.total(), 1);
    }
}
