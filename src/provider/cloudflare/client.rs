//! The one client of Cloudflare's API: paths, authentication, envelope, retries, rate budget, cancellation.
//!
//! It knows no resource kind. A call is described by [`Call`] and ends in an [`Answer`] or a [`CallError`]; which
//! failures are tried again is decided here and nowhere else.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::{
    budget::Budget,
    envelope::{self, Answer},
    error::{ApiError, Area, CallError, Effect},
    multipart::{self, Part},
    transfer::FileContent,
    transport::{HttpTransport, MakeRouter, RouterTransport, Transport, TransportError},
    zones::KnownZones,
};
use crate::{
    provider::{OperationContext, ProviderError},
    util::text,
};

/// Tries of one call, the first included.
const TRIES: u32 = 5;
/// Tries of a call that waits for another change to become visible.
const TRIES_TO_SETTLE: u32 = 8;
/// Wait before the second try; it doubles.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Longest wait that was not asked for.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Longest wait that `Retry-After` can ask for.
const LONGEST_ASKED_DELAY: Duration = Duration::from_secs(60);
/// Waits from this length on are told to the user.
const TOLD_DELAY: Duration = Duration::from_secs(3);
/// How long one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a local cloud may take to run what was deployed; longer than its own patience.
const SETTLING_TIMEOUT: Duration = Duration::from_secs(25);

/// Port on which a local cloud serves Workers unless it says otherwise.
const LOCAL_WORKERS_PORT: u16 = 8787;

/// The public API.
pub const PUBLIC_BASE_URL: &str = "https://api.cloudflare.com/client/v4";

/// Speaks to the API of one account.
pub struct Client {
    pub(super) transport: Arc<dyn Transport>,
    base_path: String,
    account: String,
    token: Option<Zeroizing<String>>,
    budget: Option<Budget>,
    local: bool,
    /// Where a local cloud serves Workers.
    workers_port: u16,
    pub(super) zones: KnownZones,
}

impl Client {
    /// A client over any transport, without a rate budget.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        base_path: impl Into<String>,
        account: impl Into<String>,
        token: Option<Zeroizing<String>>,
    ) -> Self {
        Self {
            transport,
            base_path: base_path.into().trim_end_matches('/').to_owned(),
            account: account.into(),
            token,
            budget: None,
            local: false,
            workers_port: LOCAL_WORKERS_PORT,
            zones: KnownZones::default(),
        }
    }

    /// A client over HTTP, kept within Cloudflare's rate budget unless it speaks to this machine. `base_url` is
    /// [`PUBLIC_BASE_URL`] or the address of another server of the same API.
    #[must_use]
    pub fn over_http(
        base_url: &str,
        account: impl Into<String>,
        token: Option<Zeroizing<String>>,
    ) -> Self {
        let path = base_url
            .find("://")
            .and_then(|scheme| base_url[scheme + 3..].find('/').map(|at| scheme + 3 + at))
            .unwrap_or(base_url.len());
        let origin = &base_url[..path];
        let transport = Arc::new(HttpTransport::new(origin));
        let local = is_loopback(origin);
        Self {
            budget: (!local).then(Budget::default),
            local,
            ..Self::new(transport, &base_url[path..], account, token)
        }
    }

    /// A client of a router in this process, which is made at the first call.
    #[must_use]
    pub fn over_router(account: impl Into<String>, make: Box<MakeRouter>) -> Self {
        let transport = Arc::new(RouterTransport::new(make));
        Self {
            local: true,
            ..Self::new(transport, "/client/v4", account, None)
        }
    }

    /// The same client of a local cloud whose Workers are reached at another port than the usual one.
    #[must_use]
    pub fn with_workers_port(mut self, port: u16) -> Self {
        self.workers_port = port;
        self
    }

    /// The same client with the zone of routes and records that name none.
    #[must_use]
    pub fn with_zone(mut self, id: Option<String>) -> Self {
        self.zones.preset = id;
        self
    }

    /// Whether it speaks to a local cloud, where the user owns every domain.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The account that all calls are for.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The address of Worker `name` on the account's `subdomain`: on Cloudflare, or on this machine for a local cloud.
    #[must_use]
    pub fn worker_url(&self, name: &str, subdomain: &str) -> String {
        let port = self.workers_port;
        match (self.local, subdomain) {
            // The local cloud's own subdomain is the whole host.
            (true, "localhost") => format!("http://{name}.localhost:{port}"),
            (true, _) => format!("http://{name}.{subdomain}.localhost:{port}"),
            (false, _) => format!("https://{name}.{subdomain}.workers.dev"),
        }
    }

    /// The host and the URL of a bucket's development address: Cloudflare's own, or on this machine for a local cloud.
    #[must_use]
    pub fn bucket_address(&self, domain: &str) -> (String, String) {
        let port = self.workers_port;
        match domain.strip_suffix(".r2.dev") {
            Some(name) if self.local => {
                let host = format!("{name}.localhost:{port}");
                let url = format!("http://{host}");
                (host, url)
            }
            _ => (domain.to_owned(), format!("https://{domain}")),
        }
    }

    /// Makes a call about one object; `None` when the object is not there.
    ///
    /// # Errors
    /// [`ProviderError`] for everything else that goes wrong.
    pub async fn look(
        &self,
        context: &OperationContext,
        call: &Call,
    ) -> Result<Option<Answer>, ProviderError> {
        match self.call(context, call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a call, again where that is safe and promises something.
    ///
    /// # Errors
    /// [`CallError`] of the last try.
    pub async fn call(&self, context: &OperationContext, call: &Call) -> Result<Answer, CallError> {
        self.repeated(context, call, envelope::open).await
    }

    /// The same for a call whose answer is no envelope when it says yes.
    ///
    /// # Errors
    /// [`CallError`] of the last try.
    pub async fn whole(
        &self,
        context: &OperationContext,
        call: &Call,
    ) -> Result<Response<Bytes>, CallError> {
        let taken = |call: &Call, response: &Response<Bytes>| {
            if !response.status().is_success() {
                envelope::open(call, response)?;
            }
            Ok(response.clone())
        };
        self.repeated(context, call, taken).await
    }

    async fn repeated<T>(
        &self,
        context: &OperationContext,
        call: &Call,
        open: impl Fn(&Call, &Response<Bytes>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let cancelled = || CallError::Cancelled {
            call: call.describe(),
        };
        let mut tried = 0;
        let mut forbidden = false;
        loop {
            if let Some(budget) = &self.budget {
                let wait = budget.take();
                pause(context, wait, "the rate limit of the account")
                    .await
                    .ok_or_else(cancelled)?;
            }
            tried += 1;
            let sent = self.send(context, call).await;
            let error = match sent.and_then(|response| open(call, &response)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tracing::debug!(call = %call.describe(), tried, ?error, "call failed");
            let Some(delay) = delay_before_retry(call, &error, tried, &mut forbidden) else {
                return Err(error);
            };
            pause(context, delay, "Cloudflare")
                .await
                .ok_or_else(cancelled)?;
        }
    }

    /// Waits until a local cloud's server runs what was deployed, and answers what it says of that; `None` when there is
    /// no such server, as on Cloudflare itself, which is not asked. This is no call of Cloudflare's API and is not counted.
    ///
    /// # Errors
    /// [`TransportError`] when the server does not answer in time.
    pub async fn settled(&self) -> Result<Option<Json>, TransportError> {
        if !self.local {
            return Ok(None);
        }
        let mut request = Request::get(crate::local::SETTLED);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request
            .body(Bytes::new())
            .map_err(|error| TransportError::Invalid {
                reason: error.to_string(),
            })?;
        let answer = tokio::time::timeout(SETTLING_TIMEOUT, self.transport.send(request)).await;
        let answer = answer.map_err(|_| TransportError::Broken {
            place: "the local cloud".to_owned(),
            reason: "no answer in time".to_owned(),
        })??;
        // Another server of the API knows nothing of it.
        let found = answer.status().is_success();
        Ok(found
            .then(|| serde_json::from_slice(answer.body()).ok())
            .flatten())
    }

    async fn send(
        &self,
        context: &OperationContext,
        call: &Call,
    ) -> Result<Response<Bytes>, CallError> {
        let failed = |error: TransportError| CallError::Transport {
            call: call.describe(),
            effect: call.effect(),
            error,
        };
        let request = self.request(call).map_err(failed)?;
        if context.cancel.is_cancelled() {
            return Err(CallError::Cancelled {
                call: call.describe(),
            });
        }
        let refused = |error: ProviderError| CallError::NoLeave {
            call: call.describe(),
            reason: error.message,
        };
        context.meter.begin_call().await.map_err(refused)?;
        let sent = async {
            match call.file.clone() {
                Some(file) => self.transport.send_file(request.map(|_| file)).await,
                None => self.transport.send(request).await,
            }
        };
        let response = tokio::select! {
            biased;
            () = context.cancel.cancelled() => {
                return Err(CallError::Cancelled { call: call.describe() });
            }
            response = tokio::time::timeout(call.timeout, sent) => response,
        };
        let response = response
            .map_err(|_| CallError::Timeout {
                call: call.describe(),
                effect: call.effect(),
                after: call.timeout,
            })?
            .map_err(failed)?;
        if let Some(budget) = &self.budget {
            budget.observe(response.headers());
        }
        Ok(response)
    }

    fn request(&self, call: &Call) -> Result<Request<Bytes>, TransportError> {
        let invalid = |reason: String| TransportError::Invalid { reason };
        let mut uri = match call.place() {
            Place::Account => format!(
                "{}/accounts/{}/{}",
                self.base_path,
                encode(&self.account),
                call.path
            ),
            Place::Root => format!("{}/{}", self.base_path, call.path),
        };
        for (index, (key, value)) in call.query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(&format!("{}={}", encode(key), encode(value)));
        }
        let mut builder = Request::builder().method(call.method.clone()).uri(uri);
        if let Some(token) = call.token.as_ref().or(self.token.as_ref()) {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
                    invalid("the API token holds characters that no token has".to_owned())
                })?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if let Some(content_type) = &call.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type.as_str());
        }
        for (name, value) in &call.headers {
            builder = builder.header(name, value.as_str());
        }
        builder
            .body(call.body.clone())
            .map_err(|error| invalid(format!("the request cannot be built: {error}")))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_path", &self.base_path)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Whether an address is on this machine.
#[must_use]
pub fn is_loopback(origin: &str) -> bool {
    reqwest::Url::parse(origin).is_ok_and(|url| match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    })
}

/// What a path is below.
enum Place {
    Account,
    Root,
}

/// One call. Paths that begin with `zones`, `user` or `accounts` stand beside the accounts, all others below the account.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, String)>,
    token: Option<Zeroizing<String>>,
    content_type: Option<String>,
    body: Bytes,
    /// What is sent in place of `body`.
    file: Option<FileContent>,
    effect: Effect,
    timeout: Duration,
    settles: Option<fn(&ApiError) -> bool>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>, effect: Effect) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            token: None,
            content_type: None,
            body: Bytes::new(),
            file: None,
            effect,
            timeout: REQUEST_TIMEOUT,
            settles: None,
        }
    }

    /// A read. Parts of `path` that come from outside go through [`encode`].
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Effect::Read)
    }

    /// A creation or another change that must not happen twice.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path, Effect::Once)
    }

    /// A replacement of something whole.
    #[must_use]
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path, Effect::Idempotent)
    }

    /// A change of single fields to fixed values.
    #[must_use]
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path, Effect::Idempotent)
    }

    /// A removal.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, Effect::Idempotent)
    }

    /// The same call, known to do nothing more when it is sent twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.effect = Effect::Idempotent;
        self
    }

    /// The same call with a query parameter.
    #[must_use]
    pub fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// The same call with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers
            .push((HeaderName::from_static(name), value.into()));
        self
    }

    /// The same call with a token of its own instead of the account's.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        self.token = Some(Zeroizing::new(token.to_owned()));
        self
    }

    /// The same call with a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Json) -> Self {
        self.content_type = Some("application/json".to_owned());
        self.body = body.to_string().into();
        self
    }

    /// The same call with a body that is sent as it is, and more time for it.
    #[must_use]
    pub fn content(mut self, content_type: &str, content: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = content.into();
        self.timeout = REQUEST_TIMEOUT * 5;
        self
    }

    /// The same call with a file as its body, read while it is sent, and the time that its length needs.
    #[must_use]
    pub fn file(mut self, content_type: &str, file: FileContent) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.timeout = file.patience();
        self.file = Some(file);
        self
    }

    /// The same call with a form as its body, and more time for it.
    #[must_use]
    pub fn multipart(mut self, parts: &[Part]) -> Self {
        let (content_type, body) = multipart::encode(parts);
        self.content_type = Some(content_type);
        self.body = body;
        self.timeout = REQUEST_TIMEOUT * 5;
        self
    }

    /// The same call, tried again for a while when it fails in a way that passes: Cloudflare shows changes late.
    #[must_use]
    pub fn settling(mut self, passes: fn(&ApiError) -> bool) -> Self {
        self.settles = Some(passes);
        self
    }

    /// The same call, [settling](Self::settling) while a `new` object is not visible yet. One that was made long ago
    /// and is not there is gone.
    #[must_use]
    pub fn visible_late(self, new: bool) -> Self {
        if new {
            self.settling(ApiError::is_not_found)
        } else {
            self
        }
    }

    /// Method and path for messages, with `..` for the account.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.place() {
            Place::Account => format!("{} /accounts/../{}", self.method, self.path),
            Place::Root => format!("{} /{}", self.method, self.path),
        }
    }

    fn place(&self) -> Place {
        match self.path.split('/').next() {
            Some("zones" | "user" | "accounts") => Place::Root,
            _ => Place::Account,
        }
    }

    /// The part of the API that it belongs to.
    #[must_use]
    pub fn area(&self) -> Area {
        Area::of(&self.path)
    }

    /// What it does.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may hold secrets.
        write!(f, "Call({})", self.describe())
    }
}

/// Percent-encodes one segment of a path or one part of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Waits, unless the run is cancelled: then `None`.
pub(super) async fn pause(
    context: &OperationContext,
    wait: Duration,
    for_whom: &str,
) -> Option<()> {
    if wait >= TOLD_DELAY {
        (context.progress)(&format!("waiting {} for {for_whom}", text::duration(wait)));
    }
    if wait.is_zero() {
        return Some(());
    }
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => None,
        () = tokio::time::sleep(wait) => Some(()),
    }
}

/// How long to wait before the next try; `None` when there is none.
pub(super) fn delay_before_retry(
    call: &Call,
    error: &CallError,
    tried: u32,
    forbidden: &mut bool,
) -> Option<Duration> {
    let repeatable = call.effect != Effect::Once;
    let mut tries = TRIES;
    let asked = match error {
        CallError::Api(error) => {
            let settles = call.settles.is_some_and(|passes| passes(error));
            // Cloudflare answers 403 to a good token now and then; a bad one is told apart by its code.
            let spurious =
                error.status == 403 && !*forbidden && !matches!(error.code, Some(10000 | 9109));
            if settles {
                tries = TRIES_TO_SETTLE;
            } else if spurious {
                *forbidden = true;
            } else if !(error.is_throttled() || error.status >= 500 && repeatable) {
                return None;
            }
            error.retry_after
        }
        CallError::Transport { error, .. } => match error {
            TransportError::Connect { .. } => None,
            TransportError::Broken { .. } if repeatable => None,
            _ => return None,
        },
        CallError::Timeout { .. } if repeatable => None,
        CallError::Unreadable {
            status,
            retry_after,
            ..
        } if *status == 429 || (repeatable && !(300..500).contains(status)) => *retry_after,
        _ => return None,
    };
    if tried >= tries {
        return None;
    }
    let doubled = FIRST_DELAY
        .saturating_mul(1 << (tried - 1).min(10))
        .min(LONGEST_DELAY);
    let jittered = doubled.mul_f64(0.5 + rand::random::<f64>() / 2.0);
    Some(asked.map_or(jittered, |asked| {
        asked.min(LONGEST_ASKED_DELAY).max(jittered)
    }))
}

#[cfg(test)]
mod tests;
