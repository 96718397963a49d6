//! Tails: a WebSocket on which a client sees what happens in a Worker from now on.
//!
//! A tail is made over the API and followed over an address that only its maker knows: clients connect without a token, as
//! they do at Cloudflare. Both sides must reach the same server; tails are forgotten when it ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{delete, get},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{
        account_path,
        call::{Call, hex_id, run},
        client_origin,
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    INVALID, model,
};
use crate::local::{
    Cloud,
    logs::{Follower, Record},
};

/// What the addresses of tails begin with. Their last part is the secret.
pub(in crate::local::api) const PREFIX: &str = "/tails/";
/// The protocol that clients of tails speak.
const PROTOCOL: &str = "trace-v1";
/// How long a tail is good.
const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// The most tails at once.
const LIMIT: usize = 100;
/// How often it is looked for news.
const POLL: Duration = Duration::from_millis(100);
const NOT_FOUND: u32 = 10007;

/// The tails of a server, by id.
#[derive(Debug, Default)]
pub(in crate::local) struct Tails(Mutex<BTreeMap<String, Tail>>);

#[derive(Debug, Clone)]
struct Tail {
    script: String,
    made: Timestamp,
    expires: Timestamp,
}

impl Tails {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Tail>) -> T) -> T {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        tails.retain(|_, tail| tail.expires > now);
        work(&mut tails)
    }

    fn get(&self, id: &str) -> Option<Tail> {
        self.with(|tails| tails.get(id).cloned())
    }
}

pub(in crate::local::api) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("workers/scripts/{script}/tails");
    Router::new()
        .route(&all, get(run(read)).post(run(create)))
        .route(&format!("{all}/{{tail}}"), delete(run(remove)))
        .route(&format!("{PREFIX}{{tail}}"), get(follow))
}

fn value(call: &Call, id: &str, tail: &Tail) -> Value {
    let origin = client_origin(call);
    let host = origin.split_once("://").map_or("", |(_, host)| host);
    json!({
        "id": id,
        "url": format!("ws://{host}{PREFIX}{id}"),
        "expires_at": tail.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}

/// `POST …/tails`.
fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = cloud
        .control
        .run(|connection| model::require_called(connection, call))?;
    let made = Timestamp::now();
    let tail = Tail {
        script: script.name,
        made,
        expires: made + LIFETIME,
    };
    let id = hex_id();
    let value = value(call, &id, &tail);
    let fits = cloud.tails.with(|tails| {
        let fits = tails.len() < LIMIT;
        if fits {
            tails.insert(id, tail);
        }
        fits
    });
    if fits {
        ok(&value)
    } else {
        let message = format!("there are {LIMIT} tails already");
        Err(ApiError::bad_request(INVALID, message))
    }
}

/// `GET …/tails`: the one that was made last.
fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = cloud
        .control
        .run(|connection| model::require_called(connection, call))?;
    let newest = cloud.tails.with(|tails| {
        let of_script = tails.iter().filter(|(_, tail)| tail.script == script.name);
        let newest = of_script.max_by_key(|(_, tail)| tail.made);
        newest.map(|(id, tail)| value(call, id, tail))
    });
    ok(&newest.ok_or_else(|| ApiError::not_found(NOT_FOUND, "this Worker has no tail"))?)
}

/// `DELETE …/tails/{tail}`.
fn remove(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = cloud
        .control
        .run(|connection| model::require_called(connection, call))?;
    let id = call.parameter("tail");
    let removed = cloud.tails.with(|tails| {
        let own = tails.get(id).is_some_and(|tail| tail.script == script.name);
        own.then(|| tails.remove(id)).flatten()
    });
    if removed.is_none() {
        let message = format!("tail '{id}' does not exist");
        return Err(ApiError::not_found(NOT_FOUND, message));
    }
    ok(&Value::Null)
}

/// The WebSocket of a tail.
async fn follow(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(tail) = cloud.tails.get(&id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    upgrade
        .protocols([PROTOCOL])
        // wrangler does not mask what it sends here, although clients must.
        .accept_unmasked_frames(true)
        .on_upgrade(move |socket| async move {
            if let Err(error) = send(&cloud, socket, &id, &tail).await {
                tracing::debug!("a tail has ended: {error}");
            }
        })
}

/// Sends events until the tail is removed or its client goes.
async fn send(
    cloud: &Arc<Cloud>,
    mut socket: WebSocket,
    id: &str,
    tail: &Tail,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = cloud.folder.clone();
    let mut follower = tokio::task::spawn_blocking(move || Follower::open(&folder)).await??;
    while cloud.tails.get(id).is_some() {
        let read = tokio::task::spawn_blocking(move || {
            let records = follower.more();
            (follower, records)
        });
        let (back, records) = read.await?;
        follower = back;
        for record in records? {
            if record.worker == tail.script && record.time >= tail.made.as_millisecond() {
                socket.send(message(record)).await?;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            // Clients ask for debugging output, of which there is none.
            given = socket.recv() => match given {
                Some(given) => drop(given?),
                None => return Ok(()),
            },
        }
    }
    socket.send(Message::Close(None)).await?;
    Ok(())
}

fn message(record: Record) -> Message {
    let mut item = record.item;
    item["scriptName"] = json!(record.worker);
    item["scriptVersion"] = json!({ "id": record.version });
    Message::Text(item.to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::{Client, upload};

    #[tokio::test]
    async fn a_tail_is_made_found_and_removed() {
        let client = Client::new();
        upload(&client, "api", json!({})).await;
        let path = "/accounts/local/workers/scripts/api/tails";
        assert_eq!(client.fails("GET", path, None).await, (404, 10007));
        let made = client.ok("POST", path, Some(json!({}))).await;
        let url = made["result"]["url"].as_str().unwrap();
        let id = made["result"]["id"].as_str().unwrap();
        assert_eq!(url, format!("ws://localhost/tails/{id}"));
        let found = client.ok("GET", path, None).await;
        assert_eq!(found["result"]["id"], made["result"]["id"]);
        upload(&client, "other", json!({})).await;
        let elsewhere = format!("{}/{id}", path.replace("/api/", "/other/"));
        assert_eq!(client.fails("DELETE", &elsewhere, None).await, (404, 10007));
        let one = format!("{path}/{id}");
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("DELETE", &one, None).await, (404, 10007));
        let missing = path.replace("/api/", "/none/");
        assert_eq!(
            client.fails("POST", &missing, Some(json!({}))).await,
            (404, 10007)
        );
    }
}
