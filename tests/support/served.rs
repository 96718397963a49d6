//! A running `alch local serve`: its messages, its processes, and requests to its Workers and its API.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Project, binary};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The paths of what is not part of the binary; none where it cannot be had.
#[derive(Default)]
struct Programs {
    /// The variables that name the parts of the runtime.
    runtime: Option<[(&'static str, String); 2]>,
    esbuild: Option<String>,
}

fn programs() -> &'static Programs {
    static FOUND: OnceLock<Programs> = OnceLock::new();
    FOUND.get_or_init(prepare)
}

/// The path of the bundler; none where it cannot be had.
pub(crate) fn esbuild() -> Option<&'static str> {
    programs().esbuild.as_deref()
}

fn prepare() -> Programs {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .args(["local", "prepare", "--json"])
        .current_dir(folder.path())
        .env("npm_config_fetch_retries", "0")
        .output()
        .unwrap();
    if !output.status.success() {
        let told: Vec<String> = messages(&output.stdout)
            .iter()
            .filter(|message| message["type"] == "diagnostic")
            .map(|message| message["message"].to_string())
            .collect();
        // Past the capture of the harness, which would show this only when the test fails.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "\n!! SKIPPED: what needs workerd or esbuild is not tested, as they cannot be had:\n!! {}\n",
            told.join("\n!! ")
        )
        .unwrap();
    }
    let Some(found) = messages(&output.stdout)
        .into_iter()
        .find(|message| message["type"] == "local_runtime")
    else {
        return Programs::default();
    };
    let path = |name: &str| found[name].as_str().map(str::to_owned);
    Programs {
        runtime: path("workerd")
            .zip(path("simulators"))
            .map(|(workerd, simulators)| {
                [
                    ("ALCH_WORKERD_PATH", workerd),
                    ("ALCH_SIMULATORS_PATH", simulators),
                ]
            }),
        esbuild: path("esbuild"),
    }
}

fn messages(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// The paths of the runtime: the binary and the folder of the simulators.
pub(crate) fn runtime_paths() -> Option<[std::path::PathBuf; 2]> {
    let found = programs().runtime.as_ref()?;
    Some([0, 1].map(|index| std::path::PathBuf::from(&found[index].1)))
}

pub(crate) fn with_runtime(mut project: Project) -> Option<Project> {
    for (name, path) in programs().runtime.as_ref()? {
        project.env(name, path);
    }
    if let Some(path) = esbuild() {
        project.env("ALCH_ESBUILD_PATH", path);
    }
    Some(project)
}

/// A running `alch local serve --json`.
pub(crate) struct Served {
    pub(crate) child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    api: String,
    pub(crate) port: u16,
    /// The account that clients must name.
    pub(crate) account: String,
    config: String,
}

impl Served {
    pub(crate) fn start(project: &Project) -> Self {
        Self::with(project, &[])
    }

    /// The same with more arguments.
    pub(crate) fn with(project: &Project, arguments: &[&str]) -> Self {
        let mut all = vec!["local", "serve", "--port", "0", "--token", "t", "--json"];
        all.extend(arguments);
        let mut command = project.command(all);
        let log = std::fs::File::create(project.home().join("serve.log")).unwrap();
        let mut child = command.stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let config = project.path(".alchemy/local/runtime/config.capnp");
        let mut served = Self {
            child,
            lines,
            api: String::new(),
            port: 0,
            account: String::new(),
            config: config
                .canonicalize()
                .unwrap_or(config)
                .display()
                .to_string(),
        };
        let begun = served.wait_for("local_serve");
        served.api = begun["api"].as_str().unwrap().to_owned();
        served.account = begun["account"].as_str().unwrap().to_owned();
        served.port = port_of(begun["workers"].as_str().unwrap());
        served
    }

    /// The base URL of the API.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    /// The next message of a kind.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.next().expect("it still runs").unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// All messages up to the end of the program.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        let lines = self.lines.by_ref().map(|line| line.unwrap());
        lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    }

    /// The answer of a Worker.
    pub(crate) fn ask(&self, worker: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let host = format!("{worker}.localhost:{}", self.port);
        request(self.port, method, path, &[("host", &host)], body)
    }

    pub(crate) fn get(&self, worker: &str, path: &str) -> Value {
        let (status, body) = self.ask(worker, "GET", path, "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The answer of the API.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> String {
        let host = format!("127.0.0.1:{}", port_of(&self.api));
        let headers = [("host", host.as_str()), ("authorization", "Bearer t")];
        let path = format!("/client/v4/accounts/{}/{path}", self.account);
        let (status, body) = request(port_of(&self.api), method, &path, &headers, body);
        assert_eq!(status, 200, "{method} {path}: {body}");
        body
    }

    /// The port of the API.
    pub(crate) fn api_port(&self) -> u16 {
        port_of(&self.api)
    }

    /// Uploads a multipart body with the boundary `b`; answers the result.
    pub(crate) fn upload(&self, method: &str, path: &str, body: &str) -> Value {
        let host = format!("127.0.0.1:{}", port_of(&self.api));
        let headers = [
            ("host", host.as_str()),
            ("authorization", "Bearer t"),
            ("content-type", "multipart/form-data; boundary=b"),
        ];
        let path = format!("/client/v4/accounts/{}/{path}", self.account);
        let (status, answer) = request(port_of(&self.api), method, &path, &headers, body);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["result"].clone()
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    pub(crate) fn ask_until(
        &self,
        worker: &str,
        path: &str,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> String {
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
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes_with(&self.config)
    }

    /// Waits until no process is left.
    #[track_caller]
    pub(crate) fn gone(&self) {
        let begun = Instant::now();
        while !self.processes().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "left: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
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

/// A multipart body with the boundary `b`: names, content types, contents.
pub(crate) fn multipart(parts: &[(&str, &str, &str)]) -> String {
    let mut body: String = parts
        .iter()
        .map(|(name, content_type, content)| {
            format!(
                "--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
                 content-type: {content_type}\r\n\r\n{content}\r\n"
            )
        })
        .collect();
    body.push_str("--b--\r\n");
    body
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing to see");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

fn port_of(url: &str) -> u16 {
    let host = url.split("://").nth(1).unwrap();
    let host = host.split('/').next().unwrap();
    host.rsplit(':').next().unwrap().parse().unwrap()
}

/// One request on a connection of its own.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}\r\n{body}").unwrap();
    // By its length and not to the end of the connection, which workerd keeps open for seconds.
    let mut answer = BufReader::new(stream);
    let status = line(&mut answer)
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let mut length = Some(0);
    loop {
        let header = line(&mut answer).to_lowercase();
        let field = header
            .split_once(':')
            .map(|(name, value)| (name, value.trim()));
        match field {
            Some(("content-length", size)) => length = Some(size.parse().unwrap()),
            Some(("transfer-encoding", "chunked")) => length = None,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    loop {
        let size = length.unwrap_or_else(|| usize::from_str_radix(&line(&mut answer), 16).unwrap());
        let mut part = vec![0; size];
        answer.read_exact(&mut part).unwrap();
        body.extend(part);
        if length.is_some() {
            break;
        }
        line(&mut answer);
        if size == 0 {
            break;
        }
    }
    (status, String::from_utf8(body).unwrap())
}

fn line(answer: &mut impl BufRead) -> String {
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
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
