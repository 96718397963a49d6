//! The showcase as a whole: deployed to the local cloud and driven through its HTTP API, its WebSocket and its page in a browser.
//!
//! As in `local_runtime`, nothing is checked where the runtime cannot be had; the page is left out where there is no Chromium. Both say so.

use std::{
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::IntoClientRequest as _};

use crate::support::{
    Project,
    served::{Served, request, with_runtime},
};

const WORKER: &str = "api-dev";
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest in the chat.
struct Guest(WebSocket<TcpStream>);

impl Guest {
    fn enter(served: &Served, name: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!(
            "ws://{WORKER}.localhost:{}/api/chat?name={name}",
            served.port
        );
        let (socket, _) = tungstenite::client(url.into_client_request().unwrap(), stream).unwrap();
        Self(socket)
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(text.as_str()).unwrap();
            }
        }
    }
}

fn deployed() -> Option<(Project, Served)> {
    let project = with_runtime(Project::example("showcase"))?;
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    Some((project, served))
}

#[test]
fn every_feature_of_the_showcase_works() {
    let Some((project, served)) = deployed() else {
        return;
    };
    // Static assets, and an address that is nobody's.
    let (status, page) = served.ask(WORKER, "GET", "/", "");
    assert_eq!((status, page.contains("A small shop")), (200, true));
    assert_eq!(served.ask(WORKER, "GET", "/style.css", "").0, 200);
    assert_eq!(served.ask(WORKER, "GET", "/api/nothing", "").0, 404);

    // KV: the second visit knows of the first.
    let hello = |visits: u32| json!({"greeting": "hello", "stage": "dev", "visits": visits});
    assert_eq!(served.get(WORKER, "/api/hello"), hello(1));
    assert_eq!(served.get(WORKER, "/api/hello"), hello(2));

    // R2, behind a secret.
    let host = format!("{WORKER}.localhost:{}", served.port);
    let put = |key: &str| {
        let authorisation = format!("Bearer {key}");
        let headers = [("host", host.as_str()), ("authorization", &authorisation)];
        request(
            served.port,
            "PUT",
            "/api/uploads/a%20note",
            &headers,
            "written",
        )
        .0
    };
    assert_eq!((put("wrong"), put("only-for-development")), (401, 201));
    assert_eq!(
        served.call("GET", "r2/buckets/uploads-dev/objects/a%20note", ""),
        "written"
    );

    // The chat: all hear all, and who comes later hears what was said.
    let mut ada = Guest::enter(&served, "ada");
    let mut bob = Guest::enter(&served, "bob");
    ada.say("is anybody here?");
    let line = json!({"name": "ada", "text": "is anybody here?"});
    assert_eq!((ada.hear(), bob.hear()), (line.clone(), line.clone()));

    // An order: database, queue, workflow with a pause, and the room is told of each step.
    let (status, answer) = served.ask(WORKER, "POST", "/api/orders", r#"{"item": "a kettle"}"#);
    assert_eq!(
        (status, serde_json::from_str(&answer).unwrap()),
        (201, json!({"order": 1}))
    );
    let told = |text: &str| json!({"name": "shop", "text": text});
    for guest in [&mut ada, &mut bob] {
        assert_eq!(guest.hear(), told("order 1 is packed"));
        assert_eq!(guest.hear(), told("order 1 is shipped"));
    }
    assert_eq!(
        served.get(WORKER, "/api/orders"),
        json!([{"id": 1, "item": "a kettle", "state": "shipped"}])
    );
    assert_eq!(served.ask(WORKER, "POST", "/api/orders", "{}").0, 400);

    // The cron, now.
    project
        .alch(["local", "trigger", WORKER, "--cron", "0 2 * * *"])
        .success();
    assert_eq!(bob.hear(), told("1 shipped orders put away"));
    assert_eq!(served.get(WORKER, "/api/orders"), json!([]));
    let swept: Value =
        serde_json::from_str(&served.call("GET", "r2/buckets/uploads-dev/objects/swept.json", ""))
            .unwrap();
    assert_eq!(swept, json!({"swept": 1, "cron": "0 2 * * *"}));

    let mut late = Guest::enter(&served, "eve");
    assert_eq!(late.hear(), line);
}

/// A Chromium, where there is one.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .flat_map(|folder| {
            ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name))
        })
        .find(|program| program.is_file());
    if found.is_none() {
        // Past the capture of the harness, which would show this only when the test fails.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "\n!! SKIPPED: tests/showcase.rs opens no page, as there is no Chromium\n"
        )
        .unwrap();
    }
    found
}

/// A page that is open in a browser without a window.
struct Page {
    browser: Child,
    tools: WebSocket<TcpStream>,
    _profile: tempfile::TempDir,
}

impl Page {
    fn open(chromium: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let browser = Command::new(chromium)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", &data])
            .args(["--disable-dev-shm-usage", "--no-first-run"])
            .args(["--remote-debugging-port=0", url])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The browser writes down where its developer tools answer.
        let ready = profile.path().join("DevToolsActivePort");
        let tools = eventually(|| {
            let written = std::fs::read_to_string(&ready).ok()?;
            let port: u16 = written.lines().next()?.parse().ok()?;
            let host = format!("127.0.0.1:{port}");
            let (_, list) = request(port, "GET", "/json/list", &[("host", &host)], "");
            let list: Value = serde_json::from_str(&list).ok()?;
            let page = list.as_array()?.iter().find(|one| one["type"] == "page")?;
            let url = page["webSocketDebuggerUrl"].as_str()?;
            let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Some(
                tungstenite::client(url.into_client_request().unwrap(), stream)
                    .ok()?
                    .0,
            )
        });
        Self {
            browser,
            tools,
            _profile: profile,
        }
    }

    /// The page as it is now, with what its scripts have made of it.
    fn html(&mut self) -> String {
        let ask = json!({
            "id": 1,
            "method": "Runtime.evaluate",
            "params": {"expression": "document.documentElement.outerHTML", "returnByValue": true},
        });
        self.tools.send(Message::text(ask.to_string())).unwrap();
        loop {
            if let Message::Text(text) = self.tools.read().unwrap() {
                let answer: Value = serde_json::from_str(text.as_str()).unwrap();
                if answer["id"] == 1 {
                    return answer["result"]["result"]["value"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                }
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.browser.kill().ok();
        self.browser.wait().ok();
    }
}

/// Asks until there is an answer.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "there is no answer yet");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_page_of_the_showcase_works_in_a_browser() {
    let Some(chromium) = chromium() else {
        return;
    };
    let Some((_project, served)) = deployed() else {
        return;
    };
    let order = r#"{"item": "a <b>kettle</b>"}"#;
    assert_eq!(served.ask(WORKER, "POST", "/api/orders", order).0, 201);
    served.ask_until(WORKER, "/api/orders", |_, body| body.contains("shipped"));
    let url = format!("http://{WORKER}.localhost:{}/", served.port);
    let mut page = Page::open(&chromium, &url);
    for part in [
        "hello from dev, visit 1",
        "1. a &lt;b&gt;kettle&lt;/b&gt;",
        r#"data-state="shipped""#,
        "connected as guest-",
        "order 1 is packed",
    ] {
        let begun = Instant::now();
        let mut html = page.html();
        while !html.contains(part) {
            assert!(begun.elapsed() < PATIENCE, "no `{part}` in {html}");
            std::thread::sleep(Duration::from_millis(50));
            html = page.html();
        }
    }
    // What happens elsewhere is seen at once, without a reload.
    assert_eq!(
        served
            .ask(WORKER, "POST", "/api/orders", r#"{"item": "a lamp"}"#)
            .0,
        201
    );
    eventually(|| {
        let html = page.html();
        (html.contains("2. a lamp") && html.contains("order 2 is shipped")).then_some(())
    });
}
