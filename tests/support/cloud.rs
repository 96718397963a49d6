//! The local cloud behind a loopback socket, with a counter in front that knows which calls are on their way.
//!
//! A *gate* holds calls back until so many of them are there at once: a program that sends them one after the other never
//! opens it. That shows concurrency without a clock; only a gate that stays shut runs into its time limit.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alch::local::{Cloud, RouterOptions, router};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};

use super::{Project, exchange::Exchange};

/// How long every call takes.
const LATENCY: Duration = Duration::from_millis(50);

/// A gate that is still shut after this time will not open any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the counter saw.
#[derive(Debug, Default)]
struct Seen {
    calls: Vec<String>,
    in_flight: usize,
    peak: usize,
    /// Calls that are held back now.
    held: usize,
    /// How often the gate opened.
    generations: usize,
    /// Whether nothing is held back any more.
    open: bool,
    /// Whether the gate was ever given up.
    shut: bool,
    /// Calls that are answered with an error instead of being passed on: a method and part of a path.
    refused: Option<(String, String)>,
    /// Results that are answered to GET calls of these paths instead of what the cloud says.
    canned: Vec<(String, serde_json::Value)>,
    /// Requests and answers in full, where they are kept.
    exchanges: Option<Vec<Exchange>>,
}

struct Counter {
    seen: Mutex<Seen>,
    /// Calls that must be there at once before they go on; 1 is no gate.
    width: usize,
    /// How the calls begin that the gate is for.
    gated: &'static str,
    opened: watch::Sender<usize>,
}

impl Counter {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A local cloud that is served until it is dropped.
pub(crate) struct ServedCloud {
    counter: Arc<Counter>,
    address: SocketAddr,
    /// The random token that it asks for.
    pub(crate) token: String,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl ServedCloud {
    /// A cloud without a gate whose calls all take 50 ms.
    pub(crate) fn slow() -> Self {
        Self::start(1, "", LATENCY)
    }

    /// A cloud that lets calls of this method and path through `width` at a time and never fewer. Every call takes 50 ms.
    pub(crate) fn with_gate(width: usize, gated: &'static str) -> Self {
        Self::start(width, gated, LATENCY)
    }

    /// A cloud that answers at once.
    pub(crate) fn quick() -> Self {
        Self::start(1, "", Duration::ZERO)
    }

    /// A cloud that answers at once and keeps every request with its answer.
    pub(crate) fn recording() -> Self {
        let cloud = Self::quick();
        cloud.counter.seen().exchanges = Some(Vec::new());
        cloud
    }

    /// What was kept since the last time.
    pub(crate) fn take_exchanges(&self) -> Vec<Exchange> {
        let mut seen = self.counter.seen();
        seen.exchanges
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn start(width: usize, gated: &'static str, latency: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (opened, _) = watch::channel(0);
        let counter = Arc::new(Counter {
            seen: Mutex::default(),
            width,
            gated,
            opened,
        });
        let cloud = Cloud::open(folder.path()).expect("a cloud");
        let options = RouterOptions {
            token: Some(token.clone()),
            latency,
        };
        let service = router(cloud, options)
            .layer(middleware::from_fn_with_state(Arc::clone(&counter), count));
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, service).await });
        Self {
            counter,
            address,
            token,
            folder,
            _runtime: runtime,
        }
    }

    /// Its address, as `CLOUDFLARE_API_BASE_URL` wants it.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// The folder of its data.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Lets `alch --target cloudflare` of a project deploy here.
    pub(crate) fn serve_to(&self, project: &mut Project) {
        project
            .env("CLOUDFLARE_API_BASE_URL", &self.base_url())
            .env("CLOUDFLARE_API_TOKEN", &self.token)
            .env("CLOUDFLARE_ACCOUNT_ID", "local");
    }

    /// Method and path of each call since the last time, in the order in which they came; the account is left out.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.counter.seen().calls)
    }

    /// The most calls that were on their way at once.
    pub(crate) fn peak(&self) -> usize {
        self.counter.seen().peak
    }

    /// How often the gate opened; the test ends here if it stayed shut.
    #[track_caller]
    pub(crate) fn generations(&self) -> usize {
        let seen = self.counter.seen();
        assert!(
            !seen.shut,
            "only {} calls at once, {} were waited for",
            seen.peak, self.counter.width
        );
        seen.generations
    }

    /// Waits until this many calls are held back.
    #[track_caller]
    pub(crate) fn wait_until_held(&self, count: usize) {
        let begin = std::time::Instant::now();
        while self.counter.seen().held < count {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.counter.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets everything through from now on.
    pub(crate) fn open_gate(&self) {
        let mut seen = self.counter.seen();
        seen.open = true;
        seen.held = 0;
        seen.generations += 1;
        self.counter.opened.send_replace(seen.generations);
    }

    /// From now on answers these calls with an error, or none again.
    pub(crate) fn refuse(&self, calls: Option<(&str, &str)>) {
        self.counter.seen().refused =
            calls.map(|(method, path)| (method.to_owned(), path.to_owned()));
    }

    /// The result of a call as another client makes it; the test ends here if it is refused.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.call(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let mut body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        body["result"].take()
    }

    /// From now on answers GET calls of this path with this list.
    pub(crate) fn pretend(&self, path: &str, list: serde_json::Value) {
        self.counter.seen().canned.push((path.to_owned(), list));
    }

    /// Uploads a multipart body with the boundary `b` as another client would; answers the result.
    #[track_caller]
    pub(crate) fn upload(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (host, token) = (self.address.to_string(), format!("Bearer {}", self.token));
        let headers = [
            ("host", host.as_str()),
            ("authorization", token.as_str()),
            ("content-type", "multipart/form-data; boundary=b"),
        ];
        let target = format!("/client/v4/accounts/local/{path}");
        let port = self.address.port();
        let (status, answer) = super::served::request(port, method, &target, &headers, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        let mut answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["result"].take()
    }

    /// Calls the API as another client would.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use std::io::{Read as _, Write as _};
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/accounts/local/{path}"),
        };
        let mut stream = std::net::TcpStream::connect(self.address).expect("a connection");
        write!(
            stream,
            "{method} /client/v4{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        (status, answer)
    }
}

async fn count(State(counter): State<Arc<Counter>>, request: Request, next: Next) -> Response {
    // What alch asks its own servers at the end of a run is no call of Cloudflare's API.
    if request.uri().path().starts_with("/alch/") {
        return next.run(request).await;
    }
    // The body is read first, so that a call counts from the moment at which all of it is there.
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let path = parts.uri.path();
    let path = path
        .splitn(6, '/')
        .nth(5)
        .filter(|_| path.starts_with("/client/v4/accounts/"))
        .unwrap_or(path);
    let name = format!("{} {path}", parts.method);
    let refused = {
        let mut seen = counter.seen();
        seen.in_flight += 1;
        seen.peak = seen.peak.max(seen.in_flight);
        let refused = seen
            .refused
            .as_ref()
            .is_some_and(|(method, part)| parts.method == method.as_str() && path.contains(part));
        seen.calls.push(name.clone());
        refused
    };
    if name.starts_with(counter.gated) {
        pass_gate(&counter).await;
    }
    let kept = counter.seen().exchanges.is_some().then(|| {
        let target = parts.uri.path_and_query();
        Exchange {
            method: parts.method.to_string(),
            target: target.map(ToString::to_string).unwrap_or_default(),
            request_headers: parts.headers.clone(),
            request: bytes.clone(),
            status: 0,
            answer: Bytes::new(),
        }
    });
    let canned = counter
        .seen()
        .canned
        .iter()
        .find(|(canned, _)| parts.method == "GET" && canned == path)
        .map(|(_, list)| list.clone());
    let mut answer = if refused {
        refusal()
    } else if let Some(list) = canned {
        pretended(&list)
    } else {
        next.run(Request::from_parts(parts, Body::from(bytes)))
            .await
    };
    if let Some(exchange) = kept {
        answer = keep(&counter, exchange, answer).await;
    }
    counter.seen().in_flight -= 1;
    answer
}

/// Adds an exchange to those that are kept; answers what came in.
async fn keep(counter: &Counter, mut exchange: Exchange, answer: Response) -> Response {
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    exchange.status = parts.status.as_u16();
    exchange.answer = bytes.clone();
    if let Some(kept) = &mut counter.seen().exchanges {
        kept.push(exchange);
    }
    Response::from_parts(parts, Body::from(bytes))
}

async fn pass_gate(counter: &Counter) {
    if counter.width <= 1 {
        return;
    }
    let mut opened = counter.opened.subscribe();
    {
        let mut seen = counter.seen();
        if seen.open {
            return;
        }
        seen.held += 1;
        if seen.held == counter.width {
            seen.held = 0;
            seen.generations += 1;
            counter.opened.send_replace(seen.generations);
            return;
        }
        // Under the lock, so that an opening right after it is not missed.
        opened.mark_unchanged();
    }
    if tokio::time::timeout(PATIENCE, opened.changed())
        .await
        .is_err()
    {
        counter.seen().shut = true;
    }
}

fn refusal() -> Response {
    let body = r#"{"success":false,"errors":[{"code":10001,"message":"not today"}],"messages":[],"result":null}"#;
    (
        StatusCode::BAD_REQUEST,
        [("content-type", "application/json")],
        Bytes::from_static(body.as_bytes()),
    )
        .into_response()
}

/// A list that the cloud does not have.
fn pretended(list: &serde_json::Value) -> Response {
    let count = list.as_array().map_or(0, Vec::len);
    let info = serde_json::json!({
        "page": 1, "per_page": 50, "count": count, "total_count": count, "total_pages": 1,
    });
    let body = serde_json::json!({
        "success": true, "errors": [], "messages": [], "result": list, "result_info": info,
    });
    let body = Bytes::from(body.to_string());
    ([("content-type", "application/json")], body).into_response()
}
