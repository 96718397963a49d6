//! A client of the router for the unit tests of the local cloud.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    response::Response,
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{Cloud, RouterOptions, router};

/// A cloud in a folder of its own (or a shared one) and its router.
pub(super) struct Client {
    router: Router,
    pub(super) folder: Arc<tempfile::TempDir>,
}

impl Client {
    pub(super) fn new() -> Self {
        Self::build(
            Arc::new(tempfile::tempdir().unwrap()),
            RouterOptions::default(),
        )
    }

    pub(super) fn with_latency(latency: std::time::Duration) -> Self {
        let options = RouterOptions {
            latency,
            ..RouterOptions::default()
        };
        Self::build(Arc::new(tempfile::tempdir().unwrap()), options)
    }

    pub(super) fn with_token(token: &str) -> Self {
        let options = RouterOptions {
            token: Some(token.to_owned()),
            ..RouterOptions::default()
        };
        Self::build(Arc::new(tempfile::tempdir().unwrap()), options)
    }

    /// Another cloud on the same folder, as another process would have.
    pub(super) fn sibling(&self) -> Self {
        Self::build(Arc::clone(&self.folder), RouterOptions::default())
    }

    fn build(folder: Arc<tempfile::TempDir>, options: RouterOptions) -> Self {
        let cloud = Cloud::open(folder.path()).unwrap();
        Self {
            router: router(cloud, options),
            folder,
        }
    }

    /// The router itself, for paths that are not below `/client/v4`.
    pub(super) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Sends bytes and answers the response as it is.
    pub(super) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/client/v4{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends bytes and answers status and JSON (or the text, as a JSON string, when it is none).
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (StatusCode, Value) {
        let response = self.raw(method, path, headers, body).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (status, value)
    }

    /// Sends JSON.
    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let bytes = body.map(|body| body.to_string().into_bytes());
        self.send(method, path, &[], bytes.unwrap_or_default())
            .await
    }

    /// Sends JSON and expects success.
    pub(super) async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, body) = self.call(method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {body}");
        assert_eq!(body["success"], true, "{method} {path}: {body}");
        body
    }

    /// Sends JSON and expects a failure; answers HTTP status and code.
    pub(super) async fn fails(&self, method: &str, path: &str, body: Option<Value>) -> (u16, u64) {
        let (status, body) = self.call(method, path, body).await;
        assert_eq!(body["success"], false, "{method} {path}: {body}");
        (status.as_u16(), code(&body))
    }
}

/// The code of the first error; 0 when there is none.
pub(super) fn code(body: &Value) -> u64 {
    body["errors"][0]["code"].as_u64().unwrap_or(0)
}

/// A multipart body: parts of name, content type (empty for none) and content.
pub(super) fn multipart(parts: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, content_type, content) in parts {
        body.extend(b"--bound\r\n");
        let file = if content_type.is_empty() {
            String::new()
        } else {
            format!("; filename=\"{name}\"\r\nContent-Type: {content_type}")
        };
        body.extend(
            format!("Content-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
        );
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--bound--\r\n");
    ("multipart/form-data; boundary=bound".to_owned(), body)
}

/// Uploads a Worker of one module with `metadata` over the usual.
pub(super) async fn upload(client: &Client, name: &str, metadata: Value) -> Value {
    let (status, body) = try_upload(client, name, metadata).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// As [`upload`], but the upload may fail.
pub(super) async fn try_upload(
    client: &Client,
    name: &str,
    mut metadata: Value,
) -> (StatusCode, Value) {
    if metadata.get("main_module").is_none() {
        metadata["main_module"] = Value::String("index.js".to_owned());
    }
    // Exports every class, whatever the metadata says of them.
    let code = b"export default { queue() {} }; export * from './classes.js'";
    let (content_type, body) = multipart(&[
        ("metadata", "", metadata.to_string().as_bytes()),
        ("index.js", "application/javascript+module", code),
    ]);
    let path = format!("/accounts/local/workers/scripts/{name}");
    client
        .send("PUT", &path, &[("content-type", &content_type)], body)
        .await
}
