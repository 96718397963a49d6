//! The client against scripted answers: envelopes, retries, limits and broken transports. The real router's answers
//! are tested beside the kinds.

use serde_json::json;

use super::*;
use crate::provider::{
    FailureKind, ProviderError,
    cloudflare::testing::{Reply, Scripted, context, no, ok, raw, with_header},
};

async fn run(call: Call, replies: Vec<Reply>) -> (Result<Answer, ProviderError>, usize) {
    let (transport, client) = Scripted::new(replies);
    let context = context("x");
    let answer = client.call(&context, &call).await.map_err(Into::into);
    let sent = transport.requests().len();
    assert_eq!(context.meter.total(), sent as u64);
    (answer, sent)
}

fn broken() -> Reply {
    Err(TransportError::Broken {
        place: "there".to_owned(),
        reason: "reset".to_owned(),
    })
}

fn refused() -> Reply {
    Err(TransportError::Connect {
        place: "there".to_owned(),
        reason: "refused".to_owned(),
    })
}

fn throttled_in_200() -> Reply {
    no(200, 971, "slow down")
}

const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head></html>";

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_and_what_could_happen_twice_is_not() {
    let yes = || ok(json!({}));
    // Whatever the call, nothing was done yet.
    for call in [Call::get("d1/database"), Call::post("d1/database")] {
        for failure in [
            refused(),
            throttled_in_200(),
            no(429, 10013, "x"),
            no(403, 1, "?"),
        ] {
            let (answer, sent) = run(call.clone(), vec![failure, yes()]).await;
            assert!(answer.is_ok(), "{call:?}");
            assert_eq!(sent, 2);
        }
    }
    // It may have been done.
    let unclear = || {
        [
            broken(),
            no(500, 1000, "internal"),
            raw(502, PAGE),
            raw(200, "{\"succ"),
        ]
    };
    for failure in unclear() {
        let (answer, sent) = run(Call::put("workers/x"), vec![failure, yes()]).await;
        assert!(answer.is_ok());
        assert_eq!(sent, 2);
    }
    for failure in unclear() {
        let (answer, sent) = run(Call::post("d1/database"), vec![failure]).await;
        let error = answer.unwrap_err();
        assert_eq!((error.kind, sent), (FailureKind::Ambiguous, 1), "{error}");
        assert!(error.help.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded() {
    let replies = (0..5).map(|_| no(500, 1000, "internal")).collect();
    let (answer, sent) = run(Call::get("queues"), replies).await;
    assert_eq!((answer.unwrap_err().kind, sent), (FailureKind::Refused, 5));
    let replies = (0..8).map(|_| no(404, 10007, "not yet")).collect();
    let settling = Call::post("workers/x").settling(ApiError::is_not_found);
    let (answer, sent) = run(settling, replies).await;
    assert_eq!((answer.unwrap_err().kind, sent), (FailureKind::NotFound, 8));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_in_kind_and_help() {
    let kind = async |call: Call, reply: Reply| {
        let (answer, sent) = run(call, vec![reply]).await;
        assert_eq!(sent, 1);
        answer.unwrap_err()
    };
    let post = || Call::post("d1/database");
    let denied = kind(post(), no(403, 10000, "Authentication error")).await;
    assert_eq!(denied.kind, FailureKind::Authentication);
    assert_eq!(denied.code.as_deref(), Some("10000"));
    assert_eq!(
        denied.help.as_deref(),
        Some("check the API token: it must be valid, belong to this account and have `D1: Edit`")
    );
    let taken = kind(post(), no(400, 7502, "exists")).await;
    assert_eq!(taken.kind, FailureKind::Conflict);
    let gone = kind(Call::get("d1/database/x"), no(404, 7404, "not found")).await;
    assert_eq!(gone.kind, FailureKind::NotFound);
    let bad = kind(post(), no(400, 7400, "invalid property")).await;
    assert_eq!(
        (bad.kind, bad.message.as_str()),
        (FailureKind::Refused, "invalid property")
    );
    assert_eq!(
        bad.call.as_deref(),
        Some("POST /accounts/../d1/database, answered with HTTP 400")
    );
    let page = kind(post(), raw(404, PAGE)).await;
    assert_eq!(
        (page.kind, page.message.as_str()),
        (
            FailureKind::Refused,
            "the answer (HTTP 404) cannot be read: it is a web page (502 Bad Gateway)"
        )
    );
    let redirect = kind(Call::get("queues"), raw(302, "")).await;
    assert!(redirect.message.ends_with("it points to another address"));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_in_seconds_and_as_a_date_up_to_a_cap() {
    let waited = async |value: String| {
        let start = tokio::time::Instant::now();
        let first = with_header(no(429, 971, "slow down"), "retry-after", &value);
        let (answer, _) = run(Call::get("queues"), vec![first, ok(json!([]))]).await;
        assert!(answer.is_ok());
        start.elapsed().as_secs()
    };
    assert_eq!(waited("7".to_owned()).await, 7);
    assert_eq!(waited("100000".to_owned()).await, 60);
    assert_eq!(waited("soon".to_owned()).await, 0);
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&date)
        .unwrap();
    assert_eq!(waited(date).await, 60);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_in_a_timeout_and_cancelling_ends_at_once() {
    struct Silent;
    #[async_trait::async_trait]
    impl Transport for Silent {
        async fn send(
            &self,
            _: http::Request<Bytes>,
        ) -> Result<http::Response<Bytes>, TransportError> {
            std::future::pending().await
        }

        async fn put(
            &self,
            _: &str,
            _: &crate::provider::cloudflare::transfer::FileContent,
        ) -> Result<http::Response<Bytes>, TransportError> {
            std::future::pending().await
        }
    }
    let client = Client::new(Arc::new(Silent), "/client/v4", "acc", None);
    let kind = async |context: &OperationContext, call: Call| {
        ProviderError::from(client.call(context, &call).await.unwrap_err()).kind
    };
    let context = context("x");
    assert_eq!(
        kind(&context, Call::post("queues")).await,
        FailureKind::Ambiguous
    );
    assert_eq!(
        kind(&context, Call::get("queues")).await,
        FailureKind::Timeout
    );
    let cancel = context.cancel.clone();
    let (answer, ()) = tokio::join!(kind(&context, Call::get("queues")), async {
        cancel.cancel();
    });
    assert_eq!(answer, FailureKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn lists_without_an_end_are_an_error() {
    let page = || {
        raw(
            200,
            &json!({ "success": true, "result": [{ "id": 1 }] }).to_string(),
        )
    };
    let (_, client) = Scripted::new(vec![page(), page()]);
    let error = client
        .find_in_pages(&context("x"), &Call::get("queues"), 100, |_| None::<()>)
        .await
        .unwrap_err();
    assert!(
        ProviderError::from(error)
            .message
            .ends_with("its pages repeat and never end")
    );

    let page = |cursor: &str| {
        raw(200, &json!({ "success": true, "result": { "buckets": [{ "n": cursor }] }, "result_info": { "cursor": cursor } }).to_string())
    };
    let (transport, client) = Scripted::new(vec![page("a/b"), page("")]);
    let found = client
        .find_behind_cursors(
            &context("x"),
            &Call::get("r2/buckets"),
            Some("buckets"),
            |_| None::<()>,
        )
        .await
        .unwrap();
    assert!(found.is_none());
    assert_eq!(
        transport.requests(),
        ["GET r2/buckets", "GET r2/buckets?cursor=a%2Fb"]
    );
}

#[test]
fn neither_call_nor_client_shows_a_secret() {
    let client = Client::over_http(
        "http://localhost:1/client/v4/",
        "acc",
        Some(Zeroizing::new("hunter2".to_owned())),
    );
    let call = Call::post("queues").json(&json!({ "text": "hunter2" }));
    let request = client.request(&call).unwrap();
    assert_eq!(request.uri(), "/client/v4/accounts/acc/queues");
    for text in [
        format!("{client:?}"),
        format!("{call:?}"),
        format!("{:?}", request.headers()),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn workers_live_where_their_cloud_is() {
    let url = |base: &str| Client::over_http(base, "acc", None).worker_url("api", "me");
    assert_eq!(url(PUBLIC_BASE_URL), "https://api.me.workers.dev");
    for base in [
        "http://127.0.0.1:1/client/v4",
        "http://[::1]:1",
        "http://localhost:1",
    ] {
        assert_eq!(url(base), "http://api.me.localhost:8787", "{base}");
    }
    let local = Client::over_router("local", Box::new(|| Err("not needed".to_owned())));
    assert_eq!(
        local.worker_url("api", "localhost"),
        "http://api.localhost:8787"
    );
}
