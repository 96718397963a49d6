//! What the Workers' side asks of this program: a server on loopback for the runtime's own services alone.
//!
//! `workerd` reaches it through `external` services that add [`TOKEN`] to each request, so a Worker never holds the token;
//! the commands of this program find address and token in a file that only the user may read ([`Beacon`]).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{
    event::Event,
    failure::{self, Failure},
    inside::{Inside, InsideError},
    settled::{Desk, PATIENCE as SETTLING},
    stacks::Stacks,
    start::Listener,
};
use crate::{
    local::{
        Cloud, CloudError,
        api::{
            queue_delivery::{self as delivery, Sent},
            r2_events,
        },
        control::ControlError,
        logs::{Logs, Record},
    },
    util::{
        fs::{self, FsError, FsResult},
        ids::{Ids as _, SystemIds},
    },
};

/// The header that carries the token.
pub(super) const TOKEN: &str = "x-alch-token";
/// The header that names the queue.
pub(super) const QUEUE: &str = "x-alch-queue";
/// The header with the delay of a binding, in seconds.
pub(super) const DELAY: &str = "x-alch-delay";
/// The largest message, and the largest batch, as at Cloudflare; a batch comes as base64 in JSON.
const MESSAGE_LIMIT: usize = 128 * 1024;
const BODY_LIMIT: usize = 1024 * 1024;
const BATCH_LIMIT: usize = 100;
/// The most that a tail Worker hands over at once.
const TAIL_LIMIT: usize = 64 * 1024 * 1024;
/// How long is waited for what a tail Worker knows of an event that is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the runtime's services find this program.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) token: String,
}

/// What tells other commands of this program where a running server is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Beacon {
    version: u32,
    address: SocketAddr,
    token: String,
}

impl Beacon {
    const VERSION: u32 = 1;

    fn path(folder: &Path) -> PathBuf {
        folder.join("runtime").join("server.json")
    }

    /// The server of a data folder; none when there is none, or one of another version of this program.
    pub(super) fn find(folder: &Path) -> FsResult<Option<Self>> {
        let Some(bytes) = fs::read_if_present(&Self::path(folder))? else {
            return Ok(None);
        };
        let beacon: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(beacon.filter(|beacon| beacon.version == Self::VERSION))
    }

    /// The URL below which it answers.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The header that it wants, name and value.
    pub(super) fn header(&self) -> (&'static str, &str) {
        (TOKEN, &self.token)
    }
}

/// What requests are answered from.
pub(super) struct Host {
    pub(super) cloud: Arc<Cloud>,
    pub(super) inside: Arc<Inside>,
    /// Told of each message that a Worker sent.
    pub(super) sent: Arc<Notify>,
    pub(super) logs: Logs,
    pub(super) stacks: Stacks,
    pub(super) listen: Listener,
    pub(super) desk: Arc<Desk>,
    pub(super) token: String,
}

/// Takes a port and writes down where it is.
pub(super) fn listen(folder: &Path) -> Result<(std::net::TcpListener, Link), CloudError> {
    let refused = |source| CloudError::Serve { source };
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut bytes = [0_u8; 20];
    SystemIds.fill(&mut bytes);
    let link = Link {
        address,
        token: hex::encode(bytes),
    };
    let beacon = Beacon {
        version: Beacon::VERSION,
        address,
        token: link.token.clone(),
    };
    let text = serde_json::to_vec(&beacon)
        .map_err(|error| FsError::new("write", &Beacon::path(folder), error.into()))?;
    fs::write_private(&Beacon::path(folder), &text)?;
    Ok((listener, link))
}

/// Answers until `stop`, and takes back what [`listen`] wrote down.
pub(super) async fn serve(
    host: Arc<Host>,
    listener: std::net::TcpListener,
    folder: PathBuf,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/message", post(message))
        .route("/batch", post(batch))
        .route("/metrics", get(metrics))
        .route("/written", post(written))
        .route("/trigger", post(trigger))
        .route("/workflow", post(workflow))
        .route("/failure", post(failed))
        .route("/settled", post(settled))
        .route("/tail", post(tail).layer(DefaultBodyLimit::max(TAIL_LIMIT)))
        .layer(middleware::from_fn_with_state(Arc::clone(&host), enter))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(host);
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            // Requests in work end with the process that sent them: waiting for them would wait for ever.
            tokio::select! {
                () = stop.cancelled() => {}
                ended = axum::serve(listener, router).into_future() => {
                    if let Err(error) = ended {
                        tracing::warn!("the runtime's own server ended: {error}");
                    }
                }
            }
        }
        Err(error) => tracing::warn!("the runtime's own server cannot start: {error}"),
    }
    if let Err(error) = fs::remove_file(&Beacon::path(&folder)) {
        tracing::warn!("{error}");
    }
}

async fn enter(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(TOKEN).map(|given| given.as_bytes());
    // Digests are compared, so that the time taken tells nothing about the token.
    let right = given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(&host.token));
    if right {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

/// A header as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The delay of a request: its own before that of the binding.
fn delay(headers: &HeaderMap) -> Option<i64> {
    let of = |name| header(headers, name)?.parse().ok();
    of("x-msg-delay-secs").or_else(|| of(DELAY))
}

fn refused(status: StatusCode, reason: impl Into<String>) -> Response {
    (status, reason.into()).into_response()
}

/// One message, as the runtime's queue binding sends it.
async fn message(State(host): State<Arc<Host>>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = header(&headers, "x-msg-fmt").unwrap_or("v8").to_owned();
    let sent = Sent {
        delay: delay(&headers),
        content_type,
        body: body.into(),
    };
    keep(host, &headers, vec![sent]).await
}

/// Many messages at once.
async fn batch(State(host): State<Arc<Host>>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        body: String,
        content_type: Option<String>,
        delay_secs: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Items {
        messages: Vec<Item>,
    }
    let items = match serde_json::from_slice::<Items>(&body) {
        Ok(items) => items.messages,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    if items.len() > BATCH_LIMIT {
        let reason = format!("a batch holds at most {BATCH_LIMIT} messages");
        return refused(StatusCode::PAYLOAD_TOO_LARGE, reason);
    }
    let general = delay(&headers);
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        let Ok(body) = STANDARD.decode(&item.body) else {
            return refused(StatusCode::BAD_REQUEST, "a body is not base64");
        };
        messages.push(Sent {
            body,
            content_type: item.content_type.unwrap_or_else(|| "v8".to_owned()),
            delay: item.delay_secs.or(general),
        });
    }
    keep(host, &headers, messages).await
}

async fn keep(host: Arc<Host>, headers: &HeaderMap, messages: Vec<Sent>) -> Response {
    for message in &messages {
        if message.body.len() > MESSAGE_LIMIT {
            let reason = format!("a message has at most {MESSAGE_LIMIT} bytes");
            return refused(StatusCode::PAYLOAD_TOO_LARGE, reason);
        }
        if !matches!(
            message.content_type.as_str(),
            "text" | "json" | "bytes" | "v8"
        ) {
            let reason = format!("`{}` is no content type", message.content_type);
            return refused(StatusCode::BAD_REQUEST, reason);
        }
    }
    let queue = header(headers, QUEUE).unwrap_or_default().to_owned();
    let told = Arc::clone(&host.sent);
    let kept = blocking(&host, move |cloud| {
        cloud
            .control
            .write(|transaction| delivery::send(transaction, &queue, &messages))
    })
    .await;
    told.notify_one();
    figures(kept, |figures| json!({"metadata": {"metrics": figures}}))
}

/// A Worker has written to the bucket whose data has the name in the body.
async fn written(State(host): State<Arc<Host>>, key: String) -> Response {
    let told = blocking(&host, move |cloud| r2_events::deliver(cloud, &key)).await;
    match told {
        Ok(0) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => {
            host.sent.notify_one();
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The figures of a queue.
async fn metrics(State(host): State<Arc<Host>>, headers: HeaderMap) -> Response {
    let queue = header(&headers, QUEUE).unwrap_or_default().to_owned();
    let found = blocking(&host, move |cloud| {
        cloud
            .control
            .run(|connection| delivery::metrics(connection, &queue))
    })
    .await;
    figures(found, |figures| figures)
}

fn figures(found: Result<Option<Value>, ControlError>, shape: impl Fn(Value) -> Value) -> Response {
    match found {
        Ok(Some(figures)) => axum::Json(shape(figures)).into_response(),
        Ok(None) => refused(StatusCode::NOT_FOUND, "the queue does not exist any more"),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    host: &Arc<Host>,
    work: impl FnOnce(&Cloud) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    let cloud = Arc::clone(&host.cloud);
    tokio::task::spawn_blocking(move || work(&cloud))
        .await
        .map_err(|error| ControlError::Unreadable {
            reason: error.to_string(),
        })?
}

/// Does something with instances of a workflow, for the API.
async fn workflow(State(host): State<Arc<Host>>, body: Bytes) -> Response {
    let wanted: Value = match serde_json::from_slice(&body) {
        Ok(wanted @ Value::Object(_)) => wanted,
        _ => return refused(StatusCode::BAD_REQUEST, "the body is no JSON object"),
    };
    match host.inside.workflow(wanted).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Calls the `scheduled` of a Worker, for `alch local trigger`.
async fn trigger(State(host): State<Arc<Host>>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Wanted {
        worker: String,
        cron: String,
    }
    let wanted = match serde_json::from_slice::<Wanted>(&body) {
        Ok(wanted) => wanted,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let (worker, cron) = (&wanted.worker, &wanted.cron);
    let now = jiff::Timestamp::now().as_millisecond();
    let mut called = match host.inside.scheduled(worker, cron, now).await {
        Ok(called) => called,
        Err(error @ InsideError::Absent(_)) => {
            return refused(StatusCode::NOT_FOUND, error.to_string());
        }
        Err(error) => return refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    if called.outcome != "ok" && called.error.is_none() {
        // What was thrown is told to the tail Worker alone.
        let record = host.logs.find(PATIENCE, |record| {
            let event = &record.item["event"];
            record.worker == *worker && event["cron"] == *cron && event["scheduledTime"] == now
        });
        called.error = record.await.and_then(|record| record.exception());
    }
    axum::Json(called).into_response()
}

/// Waits until what is deployed runs, for a command that deployed.
async fn settled(State(host): State<Arc<Host>>) -> Response {
    axum::Json(host.desk.ask(SETTLING).await).into_response()
}

/// The page for a request that a Worker failed at.
async fn failed(State(host): State<Arc<Host>>, body: Bytes) -> Response {
    let failure = match serde_json::from_slice::<Failure>(&body) {
        Ok(failure) => failure,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let record = host.logs.find(PATIENCE, |record| {
        let ray = record.item.pointer("/event/request/headers/cf-ray");
        record.worker == failure.worker && ray.is_some_and(|ray| *ray == *failure.ray)
    });
    let exception = record.await.and_then(|record| record.exception());
    failure::page(&failure, exception.as_deref())
}

/// Events of Workers, from the tail Worker.
async fn tail(State(host): State<Arc<Host>>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Tailed {
        worker: String,
        version: String,
        item: Value,
    }
    let tailed = match serde_json::from_slice::<Vec<Tailed>>(&body) {
        Ok(tailed) => tailed,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let kept = tokio::task::spawn_blocking(move || {
        let now = jiff::Timestamp::now().as_millisecond();
        let records: Vec<Record> = tailed
            .into_iter()
            .map(|mut tailed| {
                host.stacks
                    .map(&host.cloud, &tailed.version, &mut tailed.item);
                Record {
                    time: tailed.item["eventTimestamp"].as_i64().unwrap_or(now),
                    worker: tailed.worker,
                    version: tailed.version,
                    item: tailed.item,
                }
            })
            .collect();
        for record in &records {
            if let Some(exception) = record.exception() {
                (host.listen)(Event::Printed {
                    level: "error".to_owned(),
                    message: format!("Worker `{}`: {exception}", record.worker),
                });
            }
        }
        host.logs.keep(records)
    });
    match kept.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
