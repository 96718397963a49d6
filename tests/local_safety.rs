//! The socket of the local cloud: who may not use it changes nothing through it.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use alch::local::{Cloud, ServeOptions, Server, serve};
use tokio::runtime::Runtime;

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 100 * 1024 * 1024;
/// How long an answer may take before a test gives up; none is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    server: Server,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

/// A request: method, path below the account, body.
type Call = (&'static str, String, String);

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let cloud = Cloud::open(folder.path()).unwrap();
        let server = runtime
            .block_on(serve(cloud, ServeOptions::default()))
            .unwrap();
        Self {
            server,
            folder,
            _runtime: runtime,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request with these headers and no others but its length; answers status and body.
    fn send(&self, (method, path, body): &Call, headers: &[String]) -> (u16, String) {
        let mut stream = self.connect();
        let mut head = format!("{method} /client/v4/accounts/local/{path} HTTP/1.1\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        head += &format!(
            "Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        answer(&mut stream)
    }

    fn host(&self) -> String {
        format!("Host: {}", self.server.address)
    }

    fn token(&self) -> String {
        format!("Authorization: Bearer {}", self.server.token)
    }

    /// Sends a request as it should be.
    fn ok(&self, call: &Call) -> String {
        let (status, answer) = self.send(call, &[self.host(), self.token()]);
        assert_eq!(status, 200, "{call:?}: {answer}");
        answer
    }

    /// Every file of the cloud with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        walkdir::WalkDir::new(self.folder.path())
            .into_iter()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                (
                    entry.path().to_owned(),
                    std::fs::read(entry.path()).unwrap(),
                )
            })
            .collect()
    }
}

fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {text:?}")),
        text,
    )
}

fn call(method: &'static str, path: &str, body: &str) -> Call {
    (method, path.to_owned(), body.to_owned())
}

/// The text of a field in an answer.
fn field(answer: &str, name: &str) -> String {
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["result"][name].as_str().expect("a text").to_owned()
}

/// A cloud that holds something of each product, and calls that each change it.
fn filled() -> (Served, Vec<Call>) {
    let served = Served::new();
    let database = served.ok(&call("POST", "d1/database", r#"{"name":"data"}"#));
    let database = format!("d1/database/{}", field(&database, "uuid"));
    let values = served.ok(&call("POST", "storage/kv/namespaces", r#"{"title":"kv"}"#));
    let values = format!("storage/kv/namespaces/{}", field(&values, "id"));
    served.ok(&call("POST", "r2/buckets", r#"{"name":"files"}"#));
    let queue = served.ok(&call("POST", "queues", r#"{"queue_name":"jobs"}"#));
    let queue = format!("queues/{}", field(&queue, "queue_id"));
    let changes = vec![
        call("POST", "d1/database", r#"{"name":"more"}"#),
        call(
            "POST",
            &format!("{database}/query"),
            r#"{"sql":"CREATE TABLE t(a)"}"#,
        ),
        call("PUT", &format!("{values}/values/key"), "value"),
        call("PUT", &values, r#"{"title":"renamed"}"#),
        call("PUT", "r2/buckets/files/objects/key", "content"),
        call(
            "PUT",
            "r2/buckets/files/domains/managed",
            r#"{"enabled":true}"#,
        ),
        call(
            "POST",
            &format!("{queue}/messages"),
            r#"{"body":"message"}"#,
        ),
        call("PUT", "workers/subdomain", r#"{"subdomain":"mine"}"#),
        call("DELETE", &database, ""),
        call("DELETE", &values, ""),
        call("DELETE", &queue, ""),
    ];
    (served, changes)
}

#[test]
fn who_is_not_let_in_changes_nothing() {
    let (served, changes) = filled();
    let port = served.server.address.port();
    let (host, token) = (served.host(), served.token());
    let text = |text: &str| text.to_owned();
    let strangers = [
        (400, vec![host.clone()]),
        (
            403,
            vec![host.clone(), text("Authorization: Bearer guessed")],
        ),
        (400, vec![host.clone(), text("Authorization: Bearer ")]),
        (
            400,
            vec![host.clone(), text("Authorization: Basic bG9jYWw6bG9jYWw=")],
        ),
        (
            400,
            vec![
                host.clone(),
                format!("Cookie: token={}", served.server.token),
            ],
        ),
        (
            403,
            vec![
                host.clone(),
                text("X-Auth-Key: guessed"),
                text("X-Auth-Email: a@b.example"),
            ],
        ),
        // A name of somebody else's that leads here, and one that only begins or ends like a name of this machine.
        (403, vec![text("Host: evil.example"), token.clone()]),
        (
            403,
            vec![format!("Host: evil.example:{port}"), token.clone()],
        ),
        (
            403,
            vec![
                format!("Host: 127.0.0.1.evil.example:{port}"),
                token.clone(),
            ],
        ),
        (
            403,
            vec![format!("Host: evil-localhost:{port}"), token.clone()],
        ),
        (
            403,
            vec![host.clone(), text("Host: evil.example"), token.clone()],
        ),
        // A page from elsewhere, even when it knows the token.
        (
            403,
            vec![
                host.clone(),
                text("Origin: https://evil.example"),
                token.clone(),
            ],
        ),
        (403, vec![host.clone(), text("Origin: null"), token.clone()]),
        (
            403,
            vec![
                host,
                text("Origin: http://localhost"),
                text("Origin: https://evil.example"),
                token,
            ],
        ),
    ];
    let before = served.files();
    for change in &changes {
        for (expected, headers) in &strangers {
            let (status, answer) = served.send(change, headers);
            assert_eq!(status, *expected, "{change:?} {headers:?}: {answer}");
            assert!(
                !answer.to_lowercase().contains("access-control-allow"),
                "{answer}"
            );
        }
    }
    assert!(served.files() == before, "a refused request changed a file");
    // The same requests do change something when they are let in.
    for change in &changes {
        let before = served.files();
        served.ok(change);
        assert!(served.files() != before, "{change:?} changes nothing");
    }
}

#[test]
fn a_page_from_elsewhere_is_not_told_that_it_may() {
    let (served, changes) = filled();
    for (_, path, _) in &changes {
        let preflight = call("OPTIONS", path, "");
        let headers = [
            served.host(),
            "Origin: https://evil.example".to_owned(),
            "Access-Control-Request-Method: DELETE".to_owned(),
            "Access-Control-Request-Headers: authorization".to_owned(),
        ];
        let (status, answer) = served.send(&preflight, &headers);
        assert_eq!(status, 403, "{answer}");
        assert!(
            !answer.to_lowercase().contains("access-control-allow"),
            "{answer}"
        );
    }
}

#[test]
fn a_request_that_names_a_whole_url_must_name_this_machine_in_it() {
    let served = Served::new();
    let before = served.files();
    for (target, host, expected) in [
        ("http://evil.example", served.host(), 403),
        ("http://127.0.0.1", "Host: evil.example".to_owned(), 403),
        ("http://127.0.0.1", served.host(), 200),
    ] {
        if expected == 200 {
            assert!(served.files() == before, "a refused request changed a file");
        }
        let mut stream = served.connect();
        let body = r#"{"name":"data"}"#;
        write!(
            stream,
            "POST {target}/client/v4/accounts/local/d1/database HTTP/1.1\r\n{host}\r\n{}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            served.token(),
            body.len()
        )
        .unwrap();
        let (status, answer) = answer(&mut stream);
        assert_eq!(status, expected, "{target} {host}: {answer}");
    }
}

#[test]
fn a_stranger_is_sent_away_before_a_body_is_read() {
    let served = Served::new();
    let before = served.files();
    for headers in [
        served.host(),
        format!("Host: evil.example\r\n{}", served.token()),
    ] {
        let mut stream = served.connect();
        // Nothing of the body is ever sent, so that an answer shows that none was waited for.
        write!(
            stream,
            "POST /client/v4/accounts/local/d1/database HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Length: {BODY_LIMIT}\r\n\r\n"
        )
        .unwrap();
        let (status, answer) = answer(&mut stream);
        assert!(matches!(status, 400 | 403), "{answer}");
    }
    assert!(served.files() == before);
}

#[test]
fn a_body_beyond_the_limit_is_refused_and_changes_nothing() {
    let served = Served::new();
    served.ok(&call("POST", "r2/buckets", r#"{"name":"files"}"#));
    let chunk = vec![b'x'; 1024 * 1024];
    let send = |length: Option<usize>| {
        let mut stream = served.connect();
        let framing = length.map_or("Transfer-Encoding: chunked".to_owned(), |length| {
            format!("Content-Length: {length}")
        });
        write!(
            stream,
            "PUT /client/v4/accounts/local/r2/buckets/files/objects/key HTTP/1.1\r\n{}\r\n{}\r\nConnection: close\r\n{framing}\r\n\r\n",
            served.host(),
            served.token()
        )
        .unwrap();
        for _ in 0..=BODY_LIMIT / chunk.len() {
            let sent = match length {
                Some(_) => stream.write_all(&chunk),
                None => write!(stream, "{:x}\r\n", chunk.len())
                    .and_then(|()| stream.write_all(&chunk))
                    .and_then(|()| stream.write_all(b"\r\n")),
            };
            // The server may answer and close before it was sent all.
            if sent.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let end = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.contains(" 413 ") || (answer.is_empty() && end.is_err()),
            "{answer}"
        );
    };
    send(Some(BODY_LIMIT + chunk.len()));
    send(None);
    let listed = served.ok(&call("GET", "r2/buckets/files/objects", ""));
    assert!(listed.contains("\"result\":[]"), "{listed}");
    // The server goes on.
    served.ok(&call("PUT", "r2/buckets/files/objects/key", "content"));
}
