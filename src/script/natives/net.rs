//! HTTP from scripts, to the hosts that the user permits.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Method, header::HeaderMap, redirect};
use rhai::{Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use crate::{
    model::{Secret, Value, diagnostic::codes},
    provider::Access,
};

use super::super::{
    convert,
    fault::{self, Outcome},
    host::Host,
    lazy::{Lazy, SecretValue},
    options::Options,
};

/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// A client that follows redirects only to hosts that are permitted as well.
fn client(access: &Arc<Access>) -> Outcome<Client> {
    // The first one to come installs the process-wide TLS provider; a second try is refused, which is fine.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let access = Arc::clone(access);
    let policy = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if let Err(denied) = access.net(attempt.url().as_str()) {
            attempt.error(format!("redirected: {denied}; {}", denied.help))
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .redirect(policy)
        .user_agent(concat!("alch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| fault::fail(codes::RUNTIME, format!("no HTTP client: {error}")))
}

/// Text for a header: secrets are allowed there.
fn header_text(host: &Host, context: &NativeCallContext, value: &Dynamic) -> Outcome<String> {
    if let Some(lazy) = value.read_lock::<Lazy>() {
        return Err(host.force(&lazy, context));
    }
    if let Some(secret) = value.read_lock::<SecretValue>() {
        return match &secret.0 {
            Secret::Plain(text) => Ok(text.to_string()),
            Secret::Sealed(_) => Err(fault::fail(
                codes::FORCED_UNKNOWN,
                "this secret cannot be opened here",
            )),
        };
    }
    Ok(value.to_string())
}

/// `fetch(url, options)`.
fn fetch(host: &Host, context: &NativeCallContext, url: &str, options: Map) -> Outcome<Map> {
    let access = &host.options.access;
    access.net(url).map_err(fault::refused)?;
    let mut options = Options::new(
        "fetch",
        options,
        &["method", "headers", "body", "json", "timeout"],
    )?;
    let method = options
        .string("method")?
        .unwrap_or_else(|| "GET".to_owned());
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).map_err(|_| {
        fault::fail(
            codes::WRONG_ARGUMENTS,
            format!("`{method}` is no HTTP method"),
        )
    })?;
    let timeout = Duration::from_millis(options.count("timeout")?.unwrap_or(30_000));
    let mut request = client(access)?.request(method, url).timeout(timeout);
    if let Some(headers) = options.take("headers") {
        let Some(headers) = headers.try_cast::<Map>() else {
            return Err(fault::fail(
                codes::WRONG_TYPE,
                "option `headers` of `fetch` must be a map",
            ));
        };
        for (name, value) in &headers {
            request = request.header(name.as_str(), header_text(host, context, value)?);
        }
    }
    if let Some(json) = options.take("json") {
        let value = convert::to_value(host, &json)
            .map_err(|error| fault::fail(codes::WRONG_TYPE, error.message))?;
        if let Some(error) = host.force_value(&value, context) {
            return Err(error);
        }
        let body = value.to_plain_json().map_err(|error| {
            fault::fail(
                codes::FORCED_UNKNOWN,
                format!(
                    "the body cannot be sent: at `{}`: {}",
                    error.path, error.problem
                ),
            )
        })?;
        request = request.json(&body);
    } else if let Some(body) = options.take("body") {
        request = request.body(header_text(host, context, &body)?);
    }
    host.options.meter.count();
    let answer = host.wait(context.engine(), async move {
        let response = request.send().await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.text().await?;
        Ok::<_, reqwest::Error>((status, headers, body))
    })?;
    let (status, headers, body) = answer.map_err(|error| {
        let error = error.without_url();
        fault::fail(
            codes::RUNTIME,
            format!("`{url}` cannot be reached: {}", chain(&error)),
        )
    })?;
    Ok(response(host, status.as_u16(), &headers, body))
}

/// An error with its causes: reqwest's own text hides what went wrong.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn response(host: &Host, status: u16, headers: &HeaderMap, body: String) -> Map {
    let names: Map = headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().into(), value.to_str().ok()?.to_owned().into()))
        })
        .collect();
    let json = serde_json::from_str(&body).map_or(Dynamic::UNIT, |json| {
        convert::from_value(host, Value::from_plain_json(json))
    });
    Map::from([
        ("status".into(), i64::from(status).into()),
        ("ok".into(), (200..300).contains(&status).into()),
        ("headers".into(), names.into()),
        ("body".into(), body.into()),
        ("json".into(), json),
    ])
}

/// Registers `fetch` and its other name `http`.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    for name in ["fetch", "http"] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, url: ImmutableString| {
                fetch(&on, &context, &url, Map::new())
            },
        );
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, url: ImmutableString, options: Map| {
                fetch(&on, &context, &url, options)
            },
        );
    }
}
