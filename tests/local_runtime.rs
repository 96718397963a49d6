//! Workers that really run: `alch local serve` over the built binary, driven over HTTP as a user's programs would.
//!
//! They need `workerd` and the simulators, which `alch local prepare` finds or obtains through npm. Where it cannot, each
//! test says so on the terminal, past the capture of the test harness, and checks nothing.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use snapbox::str;

use crate::support::{Project, binary};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The paths of the runtime; none where it cannot be had.
fn runtime() -> Option<&'static [(&'static str, String); 2]> {
    static FOUND: OnceLock<Option<[(&str, String); 2]>> = OnceLock::new();
    FOUND.get_or_init(prepare).as_ref()
}

fn prepare() -> Option<[(&'static str, String); 2]> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .args(["local", "prepare", "--json"])
        .current_dir(folder.path())
        .env("npm_config_fetch_retries", "0")
        .output()
        .unwrap();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stdout);
        writeln!(
            std::io::stderr(),
            "\n!! SKIPPED: tests/local_runtime.rs runs no Worker, as the runtime cannot be had:\n{told}"
        )
        .unwrap();
        return None;
    }
    let found = messages(&output.stdout)
        .into_iter()
        .find(|message| message["type"] == "local_runtime")
        .unwrap();
    let path = |name: &str| found[name].as_str().unwrap().to_owned();
    Some([
        ("ALCH_WORKERD_PATH", path("workerd")),
        ("ALCH_SIMULATORS_PATH", path("simulators")),
    ])
}

fn messages(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

fn with_runtime(mut project: Project) -> Option<Project> {
    for (name, path) in runtime()? {
        project.env(name, path);
    }
    Some(project)
}

/// A running `alch local serve --json`.
struct Served {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    api: String,
    port: u16,
    config: String,
}

impl Served {
    fn start(project: &Project) -> Self {
        let mut command =
            project.command(["local", "serve", "--port", "0", "--token", "t", "--json"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let config = project.path(".alchemy/local/runtime/config.capnp");
        let mut served = Self {
            child,
            lines,
            api: String::new(),
            port: 0,
            config: config
                .canonicalize()
                .unwrap_or(config)
                .display()
                .to_string(),
        };
        let begun = served.wait_for("local_serve");
        served.api = begun["api"].as_str().unwrap().to_owned();
        served.port = port_of(begun["workers"].as_str().unwrap());
        served
    }

    /// The next message of a kind.
    #[track_caller]
    fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.next().expect("it still runs").unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The answer of a Worker.
    fn ask(&self, worker: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let host = format!("{worker}.localhost:{}", self.port);
        request(self.port, method, path, &[("host", &host)], body)
    }

    fn get(&self, worker: &str, path: &str) -> Value {
        let (status, body) = self.ask(worker, "GET", path, "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The answer of the API.
    fn call(&self, method: &str, path: &str, body: &str) -> String {
        let host = format!("127.0.0.1:{}", port_of(&self.api));
        let headers = [("host", host.as_str()), ("authorization", "Bearer t")];
        let path = format!("/client/v4/accounts/local/{path}");
        let (status, body) = request(port_of(&self.api), method, &path, &headers, body);
        assert_eq!(status, 200, "{method} {path}: {body}");
        body
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    fn ask_until(&self, worker: &str, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let (status, body) = self.ask(worker, "GET", path, "");
            if wanted(status, &body) {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "still {status}: {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The ids of the processes that run this configuration.
    fn processes(&self) -> Vec<i32> {
        processes_with(&self.config)
    }

    /// Waits until no process is left.
    #[track_caller]
    fn gone(&self) {
        let begun = Instant::now();
        while !self.processes().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "left: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

fn port_of(url: &str) -> u16 {
    let host = url.split("://").nth(1).unwrap();
    let host = host.split('/').next().unwrap();
    host.rsplit(':').next().unwrap().parse().unwrap()
}

/// One request on a connection of its own.
fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (status, body)
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// The processes whose command line holds `needle`, those that are dead and not yet reaped left out.
fn processes_with(needle: &str) -> Vec<i32> {
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,stat=,args="])
        .env("COLUMNS", "100000")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(needle))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let id = words.next()?.parse().ok()?;
            (!words.next()?.starts_with('Z')).then_some(id)
        })
        .collect()
}

#[test]
fn a_worker_answers_and_shares_its_data_with_the_api() {
    let Some(project) = with_runtime(Project::example("quickstart")) else {
        return;
    };
    let mut served = Served::start(&project);
    let (status, body) = served.ask("worker-dev", "GET", "/", "");
    assert_eq!(
        (status, body.contains("No Worker is deployed")),
        (404, true)
    );
    assert!(
        served.processes().is_empty(),
        "it starts with the first Worker"
    );

    project.alch(["run"]).success();
    let running = served.wait_for("local_workers");
    assert_eq!(
        running["workers"],
        json!([{
            "name": "worker-dev",
            "url": format!("http://worker-dev.localhost:{}", served.port),
        }])
    );

    // Written by the Worker, read through the API.
    assert_eq!(
        served.get("worker-dev", "/a"),
        json!({"count": 1, "last": null})
    );
    let last = served.get("worker-dev", "/b")["last"].clone();
    assert!(last.is_string(), "{last}");
    assert_eq!(
        served
            .ask("worker-dev", "PUT", "/files/one", "from the Worker")
            .0,
        201
    );
    let ids: BTreeMap<String, String> = [("d1/database", "uuid"), ("storage/kv/namespaces", "id")]
        .into_iter()
        .map(|(path, field)| {
            let listed: Value = serde_json::from_str(&served.call("GET", path, "")).unwrap();
            let id = listed["result"][0][field].as_str().unwrap().to_owned();
            (path.to_owned(), id)
        })
        .collect();
    let query = format!("d1/database/{}/query", ids["d1/database"]);
    let value = format!(
        "storage/kv/namespaces/{}/values/last-visit",
        ids["storage/kv/namespaces"]
    );
    let rows = served.call(
        "POST",
        &query,
        r#"{"sql": "SELECT path FROM visits ORDER BY id"}"#,
    );
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        rows["result"][0]["results"],
        json!([{"path": "/a"}, {"path": "/b"}])
    );
    assert!(served.call("GET", &value, "").contains('T'));
    assert_eq!(
        served.call("GET", "r2/buckets/files-dev/objects/one", ""),
        "from the Worker"
    );

    // Written through the API, read by the Worker.
    served.call(
        "POST",
        &query,
        r#"{"sql": "INSERT INTO visits(path) VALUES ('x'), ('y')"}"#,
    );
    served.call("PUT", &value, "from the API");
    served.call(
        "PUT",
        "r2/buckets/files-dev/objects/two",
        "from the API, too",
    );
    assert_eq!(
        served.get("worker-dev", "/"),
        json!({"count": 5, "last": "from the API"})
    );
    assert_eq!(
        served.ask("worker-dev", "GET", "/files/two", ""),
        (200, "from the API, too".to_owned())
    );

    // Names that are nobody's, and names of other machines.
    let (status, body) = served.ask("nobody", "GET", "/", "");
    assert_eq!(
        (status, body.contains("http://worker-dev.localhost")),
        (404, true),
        "{body}"
    );
    let (status, _) = request(served.port, "GET", "/", &[("host", "evil.example")], "");
    assert_eq!(status, 403);

    served.signal(Signal::INT);
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    assert_eq!(served.processes(), Vec::<i32>::new());
}

#[test]
fn a_new_version_takes_over_and_no_request_is_refused() {
    let Some(project) = with_runtime(Project::example("quickstart")) else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let source = project.read("src/worker.js");
    project.file(
        "src/worker.js",
        source.replace("{ count, last }", "{ version: 2 }"),
    );
    project.alch(["run"]).success();
    // `ask` panics at a refused connection, and every answer on the way must be a good one.
    served.ask_until("worker-dev", "/", |status, body| {
        assert_eq!(status, 200, "{body}");
        body == r#"{"version":2}"#
    });

    // The runtime comes back when it dies.
    for id in served.processes() {
        kill_process(pid(u32::try_from(id).unwrap()), Signal::KILL).unwrap();
    }
    served.ask_until("worker-dev", "/", |status, _| status == 200);

    // Nothing outlives a program that is killed.
    served.signal(Signal::KILL);
    served.gone();
}

#[test]
fn a_worker_that_cannot_start_harms_no_other() {
    let script = r#"
let app = alchemy("two");
Worker("good", #{
    script: `export default { async fetch(request, env) {
        if (request.url.endsWith("/boom")) throw new TypeError("planned");
        await env.JOBS.send({ id: 1 });
        return Response.json({ text: env.TEXT, list: env.LIST, key: env.KEY });
    } }`,
    bindings: #{
        TEXT: "a \"quoted\" \\ text\nof two lines # { é 💥",
        LIST: [1, "two"],
        KEY: secret("planted-secret"),
        JOBS: Queue("jobs"),
    },
});
Worker("bad", #{ script: `BODY` });
app.finalize();
"#;
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file(
        "alchemy.run.rhai",
        script.replace("BODY", "throw new Error('at the top')"),
    );
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("good-dev", "/"),
        json!({
            "text": "a \"quoted\" \\ text\nof two lines # { é 💥",
            "list": [1, "two"],
            "key": "planted-secret",
        })
    );
    assert_eq!(
        project.files_with("planted-secret"),
        [project.path("alchemy.run.rhai")]
    );
    let (status, body) = served.ask("good-dev", "GET", "/boom", "");
    assert_eq!(status, 500);
    snapbox::Assert::new().eq(
        body.replace(&served.port.to_string(), "PORT"),
        str![[r#"
Worker `good-dev` failed

GET http://good-dev.localhost:PORT/boom

TypeError: planned

"#]],
    );
    let (status, body) = served.ask("bad-dev", "GET", "/", "");
    assert_eq!(status, 500);
    assert!(
        body.contains("cannot run: Uncaught Error: at the top"),
        "{body}"
    );

    let repaired = "export default { fetch() { return new Response('repaired') } }";
    project.file("alchemy.run.rhai", script.replace("BODY", repaired));
    project.alch(["run"]).success();
    served.ask_until("bad-dev", "/", |_, body| body == "repaired");
}

#[test]
fn one_project_is_served_once() {
    let project = Project::new();
    let served = Served::start(&project);
    project
        .alch(["local", "serve", "--port", "0"])
        .check(str![[r#""#]]);
    drop(served);
}

#[test]
fn without_npm_the_next_step_is_named() {
    let project = Project::new();
    let mut command = project.command(["local", "prepare"]);
    command.env("PATH", project.home());
    project.output_of(&mut command).check(str![[r#""#]]);
}

#[test]
fn a_path_that_is_wrong_is_named() {
    let mut project = Project::new();
    project.env("ALCH_WORKERD_PATH", "missing/workerd");
    project.alch(["local", "prepare"]).check(str![[r#""#]]);
    assert!(!Path::new(&project.home().join(".cache")).exists());
}
