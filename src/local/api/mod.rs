//! The router: paths, authentication, and the answers to what does not exist.
//!
//! Every handler is a plain blocking function from a `Call` to a response; `call` is the one place where requests
//! are read and work moves to a blocking thread. One file a product; each has its own `routes()`.

mod account;
mod ai_gateway;
mod blank;
mod call;
mod d1;
mod d1_export;
mod d1_guard;
mod d1_import;
mod d1_pieces;
mod d1_query;
mod d1_time_travel;
mod durable_objects;
mod envelope;
mod error;
mod graphql;
mod hyperdrive;
mod kv;
mod kv_bulk;
mod kv_values;
mod page;
mod queue_consumers;
pub(super) mod queue_delivery;
mod queue_messages;
mod queues;
mod r2;
mod r2_domains;
pub(super) mod r2_events;
mod r2_notifications;
mod r2_objects;
mod r2_public;
mod r2_settings;
mod secrets_store;
mod settled;
mod signed;
mod slash;
mod tunnels;
mod vectorize;
mod workers;
mod workflow_instances;
mod workflow_log;
mod workflows;
mod zones;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};

use self::error::ApiError;
pub use self::settled::SETTLED;
pub(super) use self::workers::{
    DeployedAssets, DeployedModule, DeployedWorker, Namespace, Tails, deployed, jurisdiction,
    latest_version, revealed, schedules, source_maps,
};
use super::Cloud;

/// How the API is offered.
#[derive(Debug, Clone, Default)]
pub struct RouterOptions {
    /// The token that clients must send; none in process, where nobody else can call.
    pub token: Option<String>,
    /// Added to every call, for tests and benchmarks.
    pub latency: Duration,
}

/// The API as a tower service: Cloudflare's paths under `/client/v4`.
pub fn router(cloud: Arc<Cloud>, options: RouterOptions) -> Router {
    let blank = blank::Blank::new(Arc::clone(&cloud), options.clone());
    router_of(cloud, options).layer(middleware::from_fn_with_state(blank, blank::answer))
}

fn router_of(cloud: Arc<Cloud>, options: RouterOptions) -> Router {
    let entered = (Arc::new(options), Arc::from(cloud.account()));
    let inner = Router::new()
        .merge(account::routes())
        .merge(d1::routes())
        .merge(durable_objects::routes())
        .merge(kv::routes())
        .merge(r2::routes())
        .merge(r2_notifications::routes())
        .merge(queues::routes())
        .merge(workers::routes())
        .merge(workflows::routes())
        .merge(workers::tails::routes())
        .merge(zones::routes())
        .merge(ai_gateway::routes())
        .merge(tunnels::routes())
        .merge(hyperdrive::routes())
        .merge(secrets_store::routes())
        .merge(settled::routes())
        .merge(vectorize::routes())
        .merge(signed::routes())
        .merge(graphql::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(entered, enter))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(cloud);
    // Layers of a router come after its routing: what changes the path needs one around it.
    Router::new()
        .fallback_service(inner)
        .layer(middleware::map_request(slash::without))
}

/// The full path pattern of something in an account.
fn account_path(rest: &str) -> String {
    format!("/client/v4/accounts/{{account}}/{rest}")
}

/// The origin under which a client reached this server, for addresses in answers. Host headers of other machines do not
/// get here (see `guard`).
fn client_origin(call: &call::Call) -> String {
    let host = call.header(header::HOST.as_str()).unwrap_or("localhost");
    format!("http://{host}")
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::no_route(uri.path())
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::no_method(&method, uri.path())
}

async fn enter(
    State((options, account)): State<(Arc<RouterOptions>, Arc<str>)>,
    request: Request,
    next: Next,
) -> Response {
    if !options.latency.is_zero() {
        tokio::time::sleep(options.latency).await;
    }
    // Uploads of assets carry the token of their session, which is checked where they are read.
    let own_token = is_asset_upload(request.uri().path());
    if let Some(token) = &options.token
        && !own_token
        // What links allow is in their signature.
        && !request.uri().path().starts_with(signed::PREFIX)
        // The addresses of tails are secrets themselves.
        && !request.uri().path().starts_with(workers::tails::PREFIX)
        && let Err(error) = authenticate(token, request.headers(), request.uri().path())
    {
        return error.into_response();
    }
    if account_of(request.uri().path()).is_some_and(|id| *id != *account) {
        return ApiError::foreign_account().into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = next.run(request).await;
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    answer
}

/// The account that a path is below.
fn account_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/client/v4/accounts/")?;
    rest.split('/').next()
}

/// Whether a path is that of the uploads of assets: all of it, as keys of objects may end with anything.
fn is_asset_upload(path: &str) -> bool {
    path.strip_prefix(&account_path("").replace("{account}/", ""))
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| rest == workers::ASSETS_UPLOAD)
}

fn authenticate(token: &str, headers: &HeaderMap, path: &str) -> Result<(), ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let given = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, given)| given.trim())
            .filter(|given| !given.is_empty());
        let Some(given) = given else {
            return Err(ApiError::bad_authorization());
        };
        if same(given, token) {
            return Ok(());
        }
        if path == account::VERIFY {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                1000,
                "Invalid API Token",
            ));
        }
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            9109,
            "Invalid access token",
        ));
    }
    let key = headers.get("x-auth-key").and_then(|key| key.to_str().ok());
    match (key, headers.contains_key("x-auth-email")) {
        (Some(key), true) if same(key, token) => Ok(()),
        (Some(_), true) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            9103,
            "Unknown X-Auth-Key or X-Auth-Email",
        )),
        _ => Err(ApiError::bad_request(
            9106,
            "Missing X-Auth-Key, X-Auth-Email or Authorization headers",
        )),
    }
}

/// Compares digests, so that the time taken tells nothing about the token.
fn same(given: &str, token: &str) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use crate::local::testing::{Client, code};

    #[tokio::test]
    async fn unknown_routes_and_methods_answer_like_cloudflare() {
        let client = Client::new();
        let (status, body) = client.call("GET", "/accounts/local/nothing", None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errors"][0]["code"], 7003);
        assert_eq!(body["errors"][1]["code"], 7000);
        assert_eq!(body["success"], false);
        let (status, body) = client
            .call("PUT", "/accounts/local/d1/database", None)
            .await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(code(&body), 7001);
    }

    #[tokio::test]
    async fn a_key_in_the_wrong_encoding_is_no_route() {
        let client = Client::new();
        let (status, body) = client
            .call("GET", "/accounts/local/r2/buckets/%FF", None)
            .await;
        assert_eq!((status, code(&body)), (StatusCode::NOT_FOUND, 7003));
    }

    #[tokio::test]
    async fn the_token_is_asked_for_and_checked() {
        let client = Client::with_token("secret-token");
        let path = "/accounts/local/d1/database";
        for (headers, status, expected) in [
            (vec![], 400, 9106),
            (vec![("authorization", "secret-token")], 400, 6003),
            (vec![("authorization", "Basic secret-token")], 400, 6003),
            (vec![("authorization", "Bearer wrong")], 403, 9109),
            (vec![("x-auth-key", "secret-token")], 400, 9106),
            (
                vec![("x-auth-key", "wrong"), ("x-auth-email", "a@example.com")],
                403,
                9103,
            ),
            (vec![("authorization", "Bearer secret-token")], 200, 0),
            (
                vec![
                    ("x-auth-key", "secret-token"),
                    ("x-auth-email", "a@example.com"),
                ],
                200,
                0,
            ),
        ] {
            let (got, body) = client.send("GET", path, &headers, Vec::new()).await;
            assert_eq!(
                (got.as_u16(), code(&body)),
                (status, expected),
                "{headers:?}"
            );
        }
        let (status, body) = client
            .send(
                "GET",
                "/user/tokens/verify",
                &[("authorization", "Bearer wrong")],
                Vec::new(),
            )
            .await;
        assert_eq!((status.as_u16(), code(&body)), (401, 1000));
        assert_eq!(body["result"], json!(null));
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_added_to_each_call_and_calls_overlap() {
        let latency = std::time::Duration::from_millis(50);
        let client = Client::with_latency(latency);
        let start = tokio::time::Instant::now();
        let calls = (0..40).map(|index| {
            let body = json!({"queue_name": format!("q{index}")});
            client.ok("POST", "/accounts/local/queues", Some(body))
        });
        futures::future::join_all(calls).await;
        client.ok("GET", "/accounts/local/queues", None).await;
        // Virtual time: it moves only by sleeping.
        let elapsed = start.elapsed();
        assert!(
            elapsed >= latency * 2 && elapsed < latency * 4,
            "{elapsed:?}"
        );
    }

    #[tokio::test]
    async fn no_input_is_an_internal_error() {
        let client = Client::new();
        crate::local::testing::upload(&client, "api", json!({})).await;
        client
            .ok(
                "POST",
                "/accounts/local/d1/database",
                Some(json!({"name": "main"})),
            )
            .await;
        client
            .ok(
                "POST",
                "/accounts/local/r2/buckets",
                Some(json!({"name": "files"})),
            )
            .await;
        let namespaces = "/accounts/local/storage/kv/namespaces";
        let namespace = client
            .ok("POST", namespaces, Some(json!({"title": "n"})))
            .await;
        let queue = client
            .ok(
                "POST",
                "/accounts/local/queues",
                Some(json!({"queue_name": "q"})),
            )
            .await;
        let namespace = namespace["result"]["id"].as_str().unwrap();
        let queue = queue["result"]["queue_id"].as_str().unwrap();
        let script = "/accounts/local/workers/scripts/api";
        let mut paths: Vec<String> = [
            "/accounts/local/d1/database",
            "/accounts/local/d1/database/main/query",
            "/accounts/local/d1/database/main/raw",
            "/accounts/local/d1/database/main",
            namespaces,
            "/accounts/local/r2/buckets",
            "/accounts/local/queues",
            "/accounts/local/workers/subdomain",
        ]
        .map(str::to_owned)
        .to_vec();
        for rest in [
            "keys",
            "values/k",
            "metadata/k",
            "bulk",
            "bulk/get",
            "bulk/delete",
        ] {
            paths.push(format!("{namespaces}/{namespace}/{rest}"));
        }
        for rest in [
            "cors",
            "lifecycle",
            "lock",
            "domains/managed",
            "objects",
            "objects/k",
        ] {
            paths.push(format!("/accounts/local/r2/buckets/files/{rest}"));
        }
        for rest in [
            "consumers",
            "messages",
            "messages/batch",
            "messages/pull",
            "messages/ack",
            "purge",
        ] {
            paths.push(format!("/accounts/local/queues/{queue}/{rest}"));
        }
        for rest in [
            "assets-upload-session",
            "settings",
            "script-settings",
            "schedules",
            "secrets",
            "secrets-bulk",
            "versions",
            "deployments",
            "subdomain",
        ] {
            paths.push(format!("{script}/{rest}"));
        }
        paths.push(script.to_owned());
        let deep = "[".repeat(10_000);
        let bodies = [
            "",
            "{",
            "null",
            "[]",
            "{}",
            "\"x\"",
            "1e999",
            "[null]",
            "[{}]",
            "[[1]]",
            "{\"name\":null}",
            "{\"name\":\"\\u0000\"}",
            "{\"title\":\"\\u0000\"}",
            "{\"sql\":\"\\u0000\"}",
            "{\"batch\":[{}]}",
            "{\"sql\":\"SELECT ?1000000\"}",
            "{\"keys\":[null]}",
            "{\"keys\":[\"\\u0000\"]}",
            "[{\"key\":\"\\u0000\",\"value\":\"\"}]",
            "{\"settings\":[]}",
            "{\"rules\":[1]}",
            "{\"messages\":[1]}",
            "{\"acks\":[1]}",
            "{\"bindings\":[1]}",
            "{\"versions\":[1]}",
            "{\"secrets\":{\"a\":1}}",
            "\u{0}",
            deep.as_str(),
        ];
        let queries = [
            "",
            "?page=-1&per_page=9223372036854775808",
            "?limit=0&cursor=%FF&prefix=%00",
            "?expiration=9223372036854775807",
            "?expiration_ttl=9223372036854775807",
        ];
        for path in &paths {
            for method in ["GET", "POST", "PUT", "PATCH"] {
                for body in bodies {
                    for query in queries {
                        let full = format!("{path}{query}");
                        let bytes = body.as_bytes().to_vec();
                        let (status, answer) = client.send(method, &full, &[], bytes).await;
                        assert!(
                            !status.is_server_error(),
                            "{method} {full} {body:.80}: {answer}"
                        );
                    }
                }
            }
        }
    }
}
