//! A proxy in front of a cloud that spoils one chosen request, or all from it on.
//!
//! It works on the bytes of plain HTTP/1.1, one request a connection, because some of what goes wrong in a network is none
//! of HTTP's business: connections that break before or after the other side has done its work.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// The request id on all spoiled answers.
const RAY: &str = "8c0ffee000000000-AMS";

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429, with `Retry-After` or without; nothing was done.
    Throttled(Option<u32>),
    /// 971 in an answer with status 200; nothing was done.
    ThrottledIn200,
    /// Status 500; nothing was done.
    ServerError,
    /// A page of the network in front of the API; the work was done.
    WebPage,
    /// The connection breaks before the cloud sees the request.
    ResetBefore,
    /// The connection breaks after the work was done.
    ResetAfter,
    /// The JSON of the answer ends in the middle; the work was done.
    Truncated,
    /// The answer comes in drops, but whole.
    Slow,
    /// The work is done, and no answer comes while the plan stands.
    Held,
    /// From this request on the token is refused.
    ExpiredToken,
    /// The second page of a list is the first once more.
    RepeatedPage,
    /// A list says that it has one page only.
    LyingTotal,
}

/// Which request is spoiled.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Method and path as [`Proxy::take`] names them.
    pub(super) target: String,
    /// The how manieth such request, from 0.
    pub(super) nth: usize,
    pub(super) fault: Fault,
    /// Whether all later requests like it are spoiled, too.
    pub(super) for_ever: bool,
}

#[derive(Default)]
struct Traffic {
    /// Each with how many requests like the planned one there were.
    plans: Vec<(Plan, usize)>,
    /// Requests since the last look.
    seen: Vec<String>,
    /// Requests whose work is done and whose answers are held back.
    held: usize,
}

struct Shared {
    upstream: SocketAddr,
    traffic: Mutex<Traffic>,
    stopped: AtomicBool,
}

impl Shared {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request; answers what happens to it.
    fn fault(&self, name: &str) -> Option<Fault> {
        let mut traffic = self.traffic();
        traffic.seen.push(name.to_owned());
        let plans = traffic.plans.iter_mut();
        plans
            .filter_map(|(plan, like)| plan.fires(name, like))
            .next()
    }
}

impl Plan {
    /// The fault for a request, after `like` of them.
    fn fires(&self, name: &str, like: &mut usize) -> Option<Fault> {
        let is_like = name == self.target;
        let before = *like;
        *like += usize::from(is_like);
        let fires = match self.fault {
            // Once the token has expired, nothing goes.
            Fault::ExpiredToken => before > self.nth || is_like && before == self.nth,
            _ if self.for_ever => is_like && before >= self.nth,
            _ => is_like && before == self.nth,
        };
        fires.then_some(self.fault)
    }
}

/// A running proxy. It stops when it is dropped.
pub(super) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of the cloud at this base URL.
    pub(super) fn start(base_url: &str) -> Self {
        let upstream = base_url.split('/').nth(2).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            traffic: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if accepting.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = &accepting;
                    // A client that goes away in the middle is one of the things that happen.
                    scope.spawn(move || stream.ok().and_then(|stream| serve(shared, stream)));
                }
            });
        });
        Self {
            shared,
            address,
            thread: Some(thread),
        }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// Spoils requests by a plan, beside those of before.
    pub(super) fn spoil(&self, plan: Plan) {
        self.shared.traffic().plans.push((plan, 0));
    }

    /// How many requests are done whose answers are held back.
    pub(super) fn held(&self) -> usize {
        self.shared.traffic().held
    }

    /// Spoils nothing any more.
    pub(super) fn heal(&self) {
        self.shared.traffic().plans.clear();
    }

    /// Method and path of the requests since the last time, with `{id}` for what differs from run to run.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.traffic().seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread up; that it cannot be reached means that it has ended.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A request as its client sent it.
pub(crate) struct Request {
    method: String,
    target: String,
    /// Header lines but those about the connection.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let line = |reader: &mut BufReader<&TcpStream>| {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim_end().to_owned();
            (!line.is_empty()).then_some(line)
        };
        let first = line(&mut reader)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut headers, mut length) = (Vec::new(), 0);
        while let Some(header) = line(&mut reader) {
            let (name, value) = header.split_once(':')?;
            match name.to_ascii_lowercase().as_str() {
                "connection" => continue,
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
            headers.push(header);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            method,
            target,
            headers,
            body,
        })
    }

    /// Method and path below the account, with `{id}` for ids.
    pub(crate) fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path
            .split('/')
            .skip(5)
            .map(|part| {
                let is_id =
                    part.len() >= 32 && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
                if is_id { "{id}" } else { part }
            })
            .collect();
        format!("{} {}", self.method, parts.join("/"))
    }

    /// Method and target, as they were sent.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The whole answer of the cloud.
    pub(crate) fn forward(&self, upstream: SocketAddr) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(upstream).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for header in &self.headers {
            head += &format!("{header}\r\n");
        }
        head += "connection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&self.body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(answer)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut request = Request::read(&stream)?;
    let Some(fault) = shared.fault(&request.name()) else {
        let answer = request.forward(shared.upstream)?;
        return stream.write_all(&answer).ok();
    };
    let throttled = || {
        error(
            971,
            "Please wait and consider throttling your request speed",
        )
    };
    let answer = match fault {
        Fault::Throttled(after) => {
            let wait = after.map(|seconds| ("retry-after", seconds.to_string()));
            answer(429, "application/json", wait, throttled().as_bytes())
        }
        Fault::ThrottledIn200 => answer(200, "application/json", None, throttled().as_bytes()),
        Fault::ServerError => answer(
            500,
            "application/json",
            None,
            error(1000, "internal error").as_bytes(),
        ),
        Fault::WebPage => {
            request.forward(shared.upstream)?;
            let page = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body></body></html>";
            answer(502, "text/html", None, page)
        }
        Fault::ResetBefore => return None,
        Fault::ResetAfter => {
            request.forward(shared.upstream)?;
            return None;
        }
        Fault::Truncated => {
            let whole = request.forward(shared.upstream)?;
            let body = body_of(&whole);
            answer(200, "application/json", None, &body[..body.len() / 2])
        }
        Fault::Held => {
            request.forward(shared.upstream)?;
            shared.traffic().held += 1;
            let begun = Instant::now();
            while !shared.traffic().plans.is_empty() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            return None;
        }
        Fault::Slow => {
            let whole = request.forward(shared.upstream)?;
            for piece in whole.chunks(whole.len().div_ceil(5)) {
                stream.write_all(piece).ok()?;
                std::thread::sleep(Duration::from_millis(20));
            }
            return Some(());
        }
        Fault::ExpiredToken => answer(
            403,
            "application/json",
            None,
            error(9109, "Invalid access token").as_bytes(),
        ),
        Fault::RepeatedPage => {
            request.target = request.target.replace("page=2", "page=1");
            request.forward(shared.upstream)?
        }
        Fault::LyingTotal => {
            let whole = request.forward(shared.upstream)?;
            let mut body: Value = serde_json::from_slice(body_of(&whole)).ok()?;
            body["result_info"]["total_pages"] = json!(1);
            answer(200, "application/json", None, body.to_string().as_bytes())
        }
    };
    stream.write_all(&answer).ok()
}

/// An answer with its head.
fn answer(status: u16, kind: &str, more: Option<(&str, String)>, body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {status} Spoiled\r\ncontent-type: {kind}\r\ncf-ray: {RAY}\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    if let Some((name, value)) = more {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut out = head.into_bytes();
    out.extend(body);
    out
}

fn error(code: u32, message: &str) -> String {
    json!({
        "success": false, "errors": [{"code": code, "message": message}], "messages": [], "result": null,
    })
    .to_string()
}

fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    &answer[end.map_or(answer.len(), |end| end + 4)..]
}
