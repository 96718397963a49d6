//! How one request reaches an API: over HTTP, or straight into a router of this process.
//!
//! Nothing here knows Cloudflare's envelope, retries or rate limits; that is the client's work.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::sync::OnceCell;
use tower::ServiceExt as _;

use super::transfer::{FileContent, split_link};

/// Largest answer that is read, in bytes.
pub const ANSWER_LIMIT: usize = 64 << 20;

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request never left: name not resolved, connection refused, no certificate store.
    #[error("cannot connect to {place}: {reason}")]
    Connect {
        /// The address.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// The request was sent, at least in part, and the answer did not come whole.
    #[error("the connection to {place} broke off: {reason}")]
    Broken {
        /// The address.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// The answer is larger than [`ANSWER_LIMIT`].
    #[error("the answer of {place} is larger than {} MiB", ANSWER_LIMIT >> 20)]
    TooLarge {
        /// The address.
        place: String,
    },
    /// The request itself cannot be sent, whatever the other side.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

/// Carries a request whose URI is a path and a query to an API, and its answer back.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// [`TransportError`] when no whole answer came.
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, TransportError>;

    /// As [`send`](Self::send), for a request whose body is a file. By default the file is read whole before.
    ///
    /// # Errors
    /// [`TransportError`] when no whole answer came.
    async fn send_file(
        &self,
        request: http::Request<FileContent>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (head, content) = request.into_parts();
        let body = content.whole().await;
        let body = body.map_err(|error| TransportError::Invalid {
            reason: format!("the file cannot be read: {error}"),
        })?;
        self.send(http::Request::from_parts(head, body)).await
    }

    /// Puts a file to a link that the API gave: a whole address, mostly of another host, so that no token goes along.
    ///
    /// # Errors
    /// [`TransportError`] when no whole answer came.
    async fn put(
        &self,
        link: &str,
        content: &FileContent,
    ) -> Result<http::Response<Bytes>, TransportError>;
}

/// HTTP or HTTPS to one origin. The connection pool is built at the first request.
pub struct HttpTransport {
    origin: String,
    client: OnceCell<reqwest::Client>,
}

impl HttpTransport {
    /// A transport to `origin`: scheme, host and port without a path.
    #[must_use]
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into().trim_end_matches('/').to_owned(),
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> Result<&reqwest::Client, TransportError> {
        self.client
            .get_or_try_init(|| async {
                install_tls();
                reqwest::Client::builder()
                    .user_agent(concat!("alch/", env!("CARGO_PKG_VERSION")))
                    .connect_timeout(std::time::Duration::from_secs(10))
                    // The token must not follow a redirect to another host.
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| TransportError::Connect {
                        place: self.origin.clone(),
                        reason: chain(&error),
                    })
            })
            .await
    }
}

/// Chooses the provider of TLS for the process, unless another part of it did so before: any will do.
pub(in crate::provider) fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::trace!("a TLS provider was installed at the same moment");
    }
}

/// An error with its sources, without the URL (which may hold keys).
pub(in crate::provider) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// What happened, in the words of the part that met it: those above it only say that they passed it on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        self.send_body(request.map(reqwest::Body::from)).await
    }

    async fn send_file(
        &self,
        request: http::Request<FileContent>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (mut head, content) = request.into_parts();
        // Without a length the body would go in chunks, which storage does not take.
        let length = http::HeaderValue::from(content.length());
        head.headers.insert(http::header::CONTENT_LENGTH, length);
        let body = reqwest::Body::wrap_stream(content.pieces());
        self.send_body(http::Request::from_parts(head, body)).await
    }

    async fn put(
        &self,
        link: &str,
        content: &FileContent,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (origin, _) = split_link(link)?;
        let client = self.client().await?;
        let request = client
            .put(link)
            // Storage takes nothing whose length it is not told before.
            .header(http::header::CONTENT_LENGTH, content.length())
            .body(reqwest::Body::wrap_stream(content.pieces()))
            .build()
            .map_err(|error| TransportError::Invalid {
                reason: format!(
                    "`{origin}` is no usable address: {}",
                    chain(&error.without_url())
                ),
            })?;
        answer(client, request, origin).await
    }
}

impl HttpTransport {
    async fn send_body(
        &self,
        request: http::Request<reqwest::Body>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let client = self.client().await?;
        let (head, body) = request.into_parts();
        let url = format!("{}{}", self.origin, head.uri);
        let request = client
            .request(head.method, url)
            .headers(head.headers)
            .body(body)
            .build()
            .map_err(|error| TransportError::Invalid {
                reason: format!(
                    "`{}` is no usable address: {}",
                    self.origin,
                    chain(&error.without_url())
                ),
            })?;
        answer(client, request, &self.origin).await
    }
}

/// Sends a request to `origin`; answers what comes back, whole.
async fn answer(
    client: &reqwest::Client,
    request: reqwest::Request,
    origin: &str,
) -> Result<http::Response<Bytes>, TransportError> {
    let broken = |error: reqwest::Error| {
        let connect = error.is_connect();
        let place = origin.to_owned();
        let reason = innermost(&error.without_url());
        if connect {
            TransportError::Connect { place, reason }
        } else {
            TransportError::Broken { place, reason }
        }
    };
    let mut answer = client.execute(request).await.map_err(broken)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(TransportError::TooLarge {
                place: origin.to_owned(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = http::Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Makes the router of a [`RouterTransport`]; may open files.
pub type MakeRouter = dyn Fn() -> Result<Router, String> + Send + Sync;

/// A router of this process, called without a socket. It is made at the first request, so that a run without any
/// leaves what is behind it unopened.
pub struct RouterTransport {
    make: Arc<MakeRouter>,
    router: OnceCell<Router>,
}

const IN_PROCESS: &str = "the local cloud";

impl RouterTransport {
    /// A transport to the router that `make` gives.
    #[must_use]
    pub fn new(make: impl Fn() -> Result<Router, String> + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            router: OnceCell::new(),
        }
    }

    async fn router(&self) -> Result<Router, TransportError> {
        let failed = |reason: String| TransportError::Invalid {
            reason: format!("cannot open {IN_PROCESS}: {reason}"),
        };
        self.router
            .get_or_try_init(|| async {
                let make = Arc::clone(&self.make);
                tokio::task::spawn_blocking(move || make())
                    .await
                    .map_err(|error| failed(error.to_string()))?
                    .map_err(failed)
            })
            .await
            .cloned()
    }
}

#[async_trait]
impl Transport for RouterTransport {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        self.route(request.map(Body::from)).await
    }

    async fn put(
        &self,
        link: &str,
        content: &FileContent,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (_, path) = split_link(link)?;
        let request = http::Request::builder()
            .method(http::Method::PUT)
            .uri(path)
            .body(Body::from_stream(content.pieces()))
            .map_err(|error| TransportError::Invalid {
                reason: format!("the request cannot be built: {error}"),
            })?;
        self.route(request).await
    }
}

impl RouterTransport {
    async fn route(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let broken = |reason: String| TransportError::Broken {
            place: IN_PROCESS.to_owned(),
            reason,
        };
        let router = self.router().await?;
        // A bug in a handler must end as a failed call, as it would over a socket.
        let answer = AssertUnwindSafe(router.oneshot(request))
            .catch_unwind()
            .await
            .map_err(|_| broken("its handler panicked".to_owned()))?;
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(never) => match never {},
        };
        let body = AssertUnwindSafe(axum::body::to_bytes(body, ANSWER_LIMIT))
            .catch_unwind()
            .await
            .map_err(|_| broken("its handler panicked".to_owned()))?
            .map_err(|error| broken(chain(&error)))?;
        Ok(http::Response::from_parts(head, body))
    }
}

impl fmt::Debug for RouterTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterTransport").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::{get, post};

    use super::*;

    fn request(method: &str, path: &str, body: &'static str) -> http::Request<Bytes> {
        http::Request::builder()
            .method(method)
            .uri(path)
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    }

    #[tokio::test]
    async fn the_router_is_made_once_and_at_the_first_request() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let transport = RouterTransport::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Router::new().route("/echo", post(|body: String| async move { body })))
        });
        assert_eq!(made.load(Ordering::SeqCst), 0);
        for _ in 0..2 {
            let answer = transport.send(request("POST", "/echo", "hi")).await;
            assert_eq!(answer.unwrap().body(), "hi");
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_router_that_cannot_be_made_or_panics_is_a_failed_call() {
        let closed = RouterTransport::new(|| Err("folder is read-only".to_owned()));
        let error = closed.send(request("GET", "/", "")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the local cloud: folder is read-only"
        );

        async fn boom() -> &'static str {
            panic!("boom")
        }
        let panics = RouterTransport::new(|| Ok(Router::new().route("/", get(boom))));
        let error = panics.send(request("GET", "/", "")).await.unwrap_err();
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    }

    #[tokio::test]
    async fn http_carries_status_headers_and_body_and_tells_a_refused_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let router = Router::new().route(
                "/echo",
                post(
                    |body: String| async move { (http::StatusCode::CREATED, [("x-a", "b")], body) },
                ),
            );
            axum::serve(listener, router).await
        });
        let transport = HttpTransport::new(origin.clone());
        let answer = transport
            .send(request("POST", "/echo?x=1", "hi"))
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (201, &b"hi"[..])
        );
        assert_eq!(answer.headers()["x-a"], "b");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());

        let gone = HttpTransport::new(origin);
        let error = gone.send(request("GET", "/", "")).await.unwrap_err();
        assert!(matches!(error, TransportError::Connect { .. }), "{error}");
    }
}
