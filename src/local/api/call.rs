//! One request, read completely, and the move to a blocking thread.
//!
//! Bodies are bounded here and JSON is parsed whatever the content type says, as clients send it as `text/plain` too.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{
        FromRequest as _, Multipart, Query, RawPathParams, Request, State,
        rejection::RawPathParamsRejection,
    },
    http::{HeaderMap, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use rusqlite::InterruptHandle;
use serde_json::{Map, Value};

use super::{envelope::ApiResult, error::ApiError};
use crate::local::Cloud;

/// The largest request body.
pub(super) const BODY_LIMIT: usize = 100 * 1024 * 1024;
/// The most parts of one multipart body.
const PARTS_LIMIT: usize = 1000;
/// How long one request may keep SQLite busy.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What a route does. It runs on a blocking thread.
pub(super) type Handler = fn(&Cloud, &Call) -> ApiResult;

/// A request as handlers see it.
#[derive(Debug)]
pub(super) struct Call {
    path: String,
    parameters: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// The request's headers.
    pub(super) headers: HeaderMap,
    /// The body; empty when it was multipart.
    pub(super) body: Bytes,
    /// The parts of a multipart body.
    pub(super) parts: Option<Vec<Part>>,
    /// Stops SQLite when the request has taken too long.
    pub(super) interrupt: Arc<Interrupt>,
}

/// One part of a multipart body.
#[derive(Debug)]
pub(super) struct Part {
    /// The form field's name.
    pub(super) name: String,
    /// The file name, if it has one.
    pub(super) file_name: Option<String>,
    /// The content type, if it has one.
    pub(super) content_type: Option<String>,
    /// The content.
    pub(super) bytes: Bytes,
}

/// The way to stop the statement that a handler runs.
#[derive(Default)]
pub(super) struct Interrupt(Mutex<Option<InterruptHandle>>);

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Interrupt")
    }
}

impl Interrupt {
    /// Names the connection that is to be stopped.
    pub(super) fn watch(&self, connection: &rusqlite::Connection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(connection.get_interrupt_handle());
    }

    fn fire(&self) {
        if let Some(handle) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }
}

/// The parameters of a path, or why they cannot be decoded.
type Parameters = Result<RawPathParams, RawPathParamsRejection>;
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Makes a route out of a handler.
pub(super) fn run(
    handler: Handler,
) -> impl Fn(State<Arc<Cloud>>, Parameters, Request) -> Answering + Clone + Send + Sync + 'static {
    move |State(cloud), parameters, request| {
        Box::pin(async move {
            match answer(handler, cloud, parameters, request).await {
                Ok(response) => response,
                Err(error) => error.into_response(),
            }
        })
    }
}

async fn answer(
    handler: Handler,
    cloud: Arc<Cloud>,
    parameters: Parameters,
    request: Request,
) -> ApiResult {
    let Ok(parameters) = parameters else {
        return Err(ApiError::no_route(request.uri().path()));
    };
    let parameters = parameters
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let permit = cloud.permits.acquire().await.map_err(ApiError::internal)?;
    let call = read(parameters, request).await?;
    let interrupt = Arc::clone(&call.interrupt);
    let worker = Arc::clone(&cloud);
    let mut work = tokio::task::spawn_blocking(move || handler(&worker, &call));
    let answer = tokio::select! {
        answer = &mut work => answer,
        () = tokio::time::sleep(TIME_LIMIT) => {
            interrupt.fire();
            work.await
        }
    };
    drop(permit);
    answer.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

async fn read(parameters: Vec<(String, String)>, request: Request) -> Result<Call, ApiError> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|error| {
        // The limit is told apart only by its text; a connection that breaks off gets no answer anyway.
        ApiError::too_large(format!(
            "request body cannot be read or is larger than {BODY_LIMIT} bytes: {error}"
        ))
    })?;
    let uri: Uri = head.uri.clone();
    let query = Query::<Vec<(String, String)>>::try_from_uri(&uri)
        .map_err(|error| ApiError::bad_request(10026, format!("invalid query string: {error}")))?
        .0;
    let headers = head.headers.clone();
    let multipart = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .to_ascii_lowercase()
                .starts_with("multipart/form-data")
        });
    let (body, parts) = if multipart {
        let request = Request::from_parts(head, Body::from(body));
        (Bytes::new(), Some(read_parts(request).await?))
    } else {
        (body, None)
    };
    Ok(Call {
        path: uri.path().to_owned(),
        parameters,
        query,
        headers,
        body,
        parts,
        interrupt: Arc::default(),
    })
}

async fn read_parts(request: Request) -> Result<Vec<Part>, ApiError> {
    let malformed =
        |error: String| ApiError::bad_request(10001, format!("malformed multipart body: {error}"));
    let mut multipart = Multipart::from_request(request, &())
        .await
        .map_err(|error| malformed(error.body_text()))?;
    let mut parts = Vec::new();
    while let Some(field) = multipart
        .next_field()
        .await
        .map_err(|error| malformed(error.body_text()))?
    {
        if parts.len() == PARTS_LIMIT {
            return Err(malformed(format!("more than {PARTS_LIMIT} parts")));
        }
        parts.push(Part {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(str::to_owned),
            bytes: field
                .bytes()
                .await
                .map_err(|error| malformed(error.body_text()))?,
        });
    }
    Ok(parts)
}

impl Call {
    /// A parameter of the path, decoded.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// A parameter of the query; the first when it is repeated.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter of the query.
    pub(super) fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter of the query is switched on.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.query(name)
            .is_some_and(|value| matches!(value, "true" | "1" | ""))
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The content type without its parameters, in lower case.
    pub(super) fn content_type(&self) -> Option<String> {
        let value = self.header(header::CONTENT_TYPE.as_str())?;
        let plain = value.split(';').next().unwrap_or(value);
        Some(plain.trim().to_ascii_lowercase())
    }

    /// A part of a multipart body.
    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.as_deref()?.iter().find(|part| part.name == name)
    }

    /// The body as JSON; `code` is what the product answers to malformed JSON.
    pub(super) fn json(&self, code: u32) -> Result<Value, ApiError> {
        parse_json(&self.body, code)
    }

    /// The body as a JSON object.
    pub(super) fn object(&self, code: u32) -> Result<Map<String, Value>, ApiError> {
        into_object(self.json(code)?, code)
    }

    /// The answer to an id that cannot be one.
    pub(super) fn no_route(&self) -> ApiError {
        ApiError::no_route(&self.path)
    }
}

/// Parses JSON; depth is bounded by the parser, size by the body's.
pub(super) fn parse_json(bytes: &[u8], code: u32) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(code, format!("request body is not JSON: {error}")))
}

/// Takes the object out of a JSON value.
pub(super) fn into_object(value: Value, code: u32) -> Result<Map<String, Value>, ApiError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(ApiError::bad_request(
            code,
            "request body must be a JSON object",
        )),
    }
}

/// Whether `text` is an id of 32 hexadecimal digits.
pub(super) fn is_hex_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A fresh id of 32 hexadecimal digits.
pub(super) fn hex_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The present time as Cloudflare writes it.
pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}

/// The present time in milliseconds since 1970.
pub(super) fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
