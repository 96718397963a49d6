//! A transport with canned answers that records what it was asked, for the unit tests of the provider.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    client::Client,
    transfer::FileContent,
    transport::{Transport, TransportError},
};
use crate::{
    bundle::{Bundle, BundleError, Bundler, Message, Request},
    model::{AppName, Fqn, Map, ResourceId, ScopePath, StageName, StagePath, Value},
    provider::{
        Access, CheckContext, Existing, Made, Meter, OperationContext, Permissions, Provider,
        validate::validate,
    },
};

/// What one request is answered with.
pub(crate) type Reply = Result<http::Response<Bytes>, TransportError>;

/// Answers in order; panics when it is asked more often.
#[derive(Default)]
pub(crate) struct Scripted {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<http::Request<Bytes>>>,
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: http::Request<Bytes>) -> Reply {
        let line = format!("{} {}", request.method(), request.uri());
        self.requests.lock().unwrap().push(request);
        let reply = self.replies.lock().unwrap().pop_front();
        reply.unwrap_or_else(|| panic!("no answer left for {line}"))
    }

    async fn put(&self, link: &str, content: &FileContent) -> Reply {
        let pieces: Vec<Bytes> = content.pieces().try_collect().await.unwrap();
        let request = http::Request::put(link).body(pieces.concat().into());
        self.send(request.unwrap()).await
    }
}

impl Scripted {
    /// A transport with these answers and the client over it.
    pub(crate) fn new(replies: Vec<Reply>) -> (Arc<Self>, Arc<Client>) {
        let transport = Arc::new(Self {
            replies: Mutex::new(replies.into()),
            requests: Mutex::default(),
        });
        let token = Some(Zeroizing::new("token-1".to_owned()));
        let client = Client::new(Arc::clone(&transport) as _, "/client/v4", "acc", token);
        (transport, Arc::new(client))
    }

    /// Every request so far: method, path below the account, and body where there is one.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| {
                let path = request.uri().to_string();
                let path = path.trim_start_matches("/client/v4/accounts/acc/");
                let body = String::from_utf8_lossy(request.body());
                format!("{} {path} {body}", request.method())
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    /// A header of a request.
    pub(crate) fn header(&self, index: usize, name: &str) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let value = requests[index].headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

/// An answer of any status and body.
pub(crate) fn raw(status: u16, body: &str) -> Reply {
    let mut response = http::Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// An answer that says yes.
#[expect(clippy::needless_pass_by_value, reason = "reads better with json!")]
pub(crate) fn ok(result: Json) -> Reply {
    let body = json!({ "success": true, "errors": [], "messages": [], "result": result });
    raw(200, &body.to_string())
}

/// An answer that says no.
pub(crate) fn no(status: u16, code: i64, message: &str) -> Reply {
    let errors = json!([{ "code": code, "message": message }]);
    let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
    raw(status, &body.to_string())
}

/// The same answer with a header.
pub(crate) fn with_header(reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.map(|mut response| {
        response.headers_mut().insert(name, value.parse().unwrap());
        response
    })
}

/// A context for operations on `physical_name`.
pub(crate) fn context(physical_name: &str) -> OperationContext {
    OperationContext {
        fqn: Fqn::parse("app/dev/thing").unwrap(),
        physical_name: physical_name.to_owned(),
        idempotency_key: "key".to_owned(),
        folder: Path::new("/nowhere").into(),
        access: anything(),
        meter: Meter::default(),
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| {}),
        redact: Arc::new(str::to_owned),
        made: Made::default(),
    }
}

fn anything() -> Arc<Access> {
    Arc::new(Access::new(Path::new("/"), Permissions::all()))
}

/// A context for checking resource `id` in `app/stage[/scope..]`.
pub(crate) fn check_context(place: &str, id: &str) -> CheckContext {
    let mut parts = place.split('/');
    let app = AppName::new(parts.next().unwrap()).unwrap();
    let stage = StageName::new(parts.next().unwrap()).unwrap();
    let stage = StagePath::new(app, stage);
    let scope = parts.fold(ScopePath::root(), |scope, part| {
        scope.child(ResourceId::new(part).unwrap())
    });
    CheckContext {
        fqn: Fqn::new(&stage, &scope, &ResourceId::new(id).unwrap()),
        stage,
        scope,
        id: id.to_owned(),
        folder: Path::new("/nowhere").into(),
        access: anything(),
        kept_name: None,
    }
}

/// A map of values from JSON.
pub(crate) fn map(json: Json) -> Map {
    match Value::from_plain_json(json) {
        Value::Map(map) => map,
        _ => panic!("a map was expected"),
    }
}

/// Props that went through the schema and the check of `provider`, as the engine hands them on.
pub(crate) fn checked(provider: &dyn Provider, props: Json) -> crate::provider::Checked {
    let props = validate(provider.schema(), map(props), &|_| None).unwrap();
    provider
        .check(&check_context("app/dev", "thing"), props)
        .unwrap()
}

/// An object as state knows it.
pub(crate) fn existing(name: &str, props: Json, outputs: Json) -> Existing {
    Existing {
        props: map(props),
        outputs: map(outputs),
        physical_name: name.to_owned(),
        settled: true,
        attempted: Map::new(),
    }
}

/// A bundler that finds a mistake in everything.
pub(crate) fn bundler() -> Arc<dyn Bundler> {
    #[derive(Debug)]
    struct NoBundler;

    impl Bundler for NoBundler {
        fn bundle(&self, request: &Request<'_>) -> Result<Bundle, BundleError> {
            let file = request.entrypoint.file_name().unwrap().to_string_lossy();
            Err(BundleError::Code(vec![Message {
                place: Some((file.into_owned(), 1, 2)),
                text: "no bundler".to_owned(),
                help: None,
            }]))
        }
    }

    Arc::new(NoBundler)
}
