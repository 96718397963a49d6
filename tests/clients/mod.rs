//! Foreign clients against `alch local serve`: the real wrangler, as its users run it.
//!
//! `scripts/clients` installs them once, pinned by the lock file beside this one, into a cache folder. Where it has not, as
//! npm cannot be had, each test says so on the terminal, past the capture of the test harness, and checks nothing.

mod alchemy;
mod data;
mod workers;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Project, served::Served};

/// How long one command of a client may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The account that the clients are told.
const ACCOUNT: &str = "10ca1c10ad0000000000000000000000";

/// The folder with the installed clients, if they are those of the lock file.
fn installed() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let named = std::env::var_os("ALCH_CLIENTS_PATH").map(PathBuf::from);
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let folder = named.or_else(|| {
                let cache = cache.or_else(|| {
                    let home = std::env::var_os("HOME")?;
                    Some(Path::new(&home).join(".cache"))
                })?;
                Some(cache.join("alch/clients"))
            })?;
            let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/package-lock.json");
            let found = std::fs::read(folder.join("installed-lock.json")).ok();
            if found == Some(std::fs::read(wanted).unwrap()) {
                return Some(folder);
            }
            // Past the capture of the harness, which would show this only when the test fails.
            let mut terminal = std::io::stderr();
            writeln!(
                terminal,
                "\n!! SKIPPED: tests/clients checks nothing, as the clients are not installed: run scripts/clients, which needs npm\n"
            )
            .unwrap();
            None
        })
        .as_deref()
}

/// A served project and clients that are pointed at it.
struct Session {
    installed: &'static Path,
    project: Project,
    served: Served,
}

impl Session {
    /// None where the clients are not installed.
    fn start(project: Project) -> Option<Self> {
        let installed = installed()?;
        let mut project = project;
        // Its log is shown when a client fails.
        project.env("ALCH_LOG", "alch::local=debug");
        let served = Served::with(&project, &["--account", ACCOUNT]);
        Some(Self {
            installed,
            project,
            served,
        })
    }

    /// Runs a command of wrangler that must succeed; answers what it printed.
    #[track_caller]
    fn wrangler(&self, arguments: &[&str]) -> String {
        self.told(0, self.program("wrangler").args(arguments))
    }

    /// Runs a command of wrangler that must fail; answers what it printed.
    #[track_caller]
    fn wrangler_fails(&self, arguments: &[&str]) -> String {
        self.told(1, self.program("wrangler").args(arguments))
    }

    /// Runs a command of wrangler that prints JSON.
    #[track_caller]
    fn wrangler_json(&self, arguments: &[&str]) -> Value {
        let text = self.wrangler(arguments);
        match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(error) => panic!("{arguments:?}: {error}: {text}"),
        }
    }

    /// A client, ready to be started in the project with a home of its own.
    fn program(&self, name: &str) -> Command {
        let modules = self.installed.join("node_modules");
        let mut command = if name == "wrangler" {
            let mut command = Command::new("node");
            command.arg(modules.join("wrangler/bin/wrangler.js"));
            command
        } else {
            Command::new(modules.join(name))
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.project.home())
            .env("CI", "1")
            .env("NO_COLOR", "1")
            .env("FORCE_COLOR", "0")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("WRANGLER_SEND_ERROR_REPORTS", "false")
            .env("WRANGLER_HIDE_BANNER", "true")
            .env("ALCHEMY_TELEMETRY_DISABLED", "1")
            .env("ALCHEMY_CI_STATE_STORE_CHECK", "false")
            .env("CLOUDFLARE_API_BASE_URL", self.served.api())
            .env("CLOUDFLARE_BASE_URL", self.served.api())
            .env("CLOUDFLARE_API_TOKEN", "t")
            .env("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
            .current_dir(self.project.folder());
        command
    }

    /// Runs a client to its end, which must come and be this one. Otherwise its output and the server's log are shown.
    #[track_caller]
    fn told(&self, code: i32, command: &mut Command) -> String {
        self.told_with("", code, command)
    }

    /// The same with something on its standard input.
    #[track_caller]
    fn told_with(&self, input: &str, code: i32, command: &mut Command) -> String {
        let home = self.project.home();
        let (out, err) = (home.join("client.out"), home.join("client.err"));
        let given = home.join("client.in");
        std::fs::write(&given, input).unwrap();
        let mut child = command
            .stdin(File::open(&given).unwrap())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let read =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let stdout = read(&out);
        if status != Some(code) {
            let log = read(&home.join("serve.log"));
            let log: Vec<&str> = log.lines().collect();
            let arguments: Vec<_> = command.get_args().skip(1).collect();
            panic!(
                "{arguments:?} ended with {status:?}\n-- stdout\n{stdout}\n-- stderr\n{}\n-- the server's log\n{}",
                read(&err),
                log[log.len().saturating_sub(40)..].join("\n"),
            );
        }
        // Errors and warnings go to stderr, and a client's words are looked for wherever they stand.
        if code == 0 {
            stdout
        } else {
            format!("{stdout}{}", read(&err))
        }
    }

    /// Runs a client that does not end by itself until it has printed `wanted`, doing `cause` again and again meanwhile.
    #[track_caller]
    fn until(&self, command: &mut Command, wanted: &str, cause: impl Fn()) {
        let out = self.project.home().join("client.follow");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let begun = Instant::now();
        let printed = loop {
            cause();
            let printed = std::fs::read_to_string(&out).unwrap_or_default();
            let over = child.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE;
            if over || printed.contains(wanted) {
                break printed;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_holds(&printed, &[wanted]);
    }

    /// The `result` of a list of the API.
    fn list(&self, path: &str) -> Value {
        let answer: Value = serde_json::from_str(&self.served.call("GET", path, "")).unwrap();
        answer["result"].clone()
    }

    /// Ends the test unless the cloud holds nothing any more.
    #[track_caller]
    fn assert_empty(&self) {
        for path in [
            "d1/database",
            "storage/kv/namespaces",
            "queues",
            "workers/scripts",
        ] {
            assert_eq!(self.list(path), serde_json::json!([]), "{path}");
        }
        assert_eq!(self.list("r2/buckets")["buckets"], serde_json::json!([]));
    }
}

/// Asks until there is an answer.
#[track_caller]
fn eventually<T>(ask: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "there is no answer yet");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the test unless `text` holds each of the parts.
#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}
