//! `alch logs -f` of a Worker behind the API, over its tail.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alch::{
    local::{Cloud, RouterOptions, router},
    model::Fqn,
    provider::{
        Access, Made, Meter, OperationContext,
        cloudflare::{
            Client,
            tail::{self, Pace, Told},
        },
    },
};
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use snapbox::str;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Project,
    cloud::ServedCloud,
    served::{Served, pid, with_runtime},
};

/// A running `alch logs -f`.
struct Following {
    child: Child,
    out: std::io::Lines<BufReader<ChildStdout>>,
    notes: std::io::Lines<BufReader<ChildStderr>>,
}

impl Following {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(["logs"].iter().chain(arguments));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            out: BufReader::new(child.stdout.take().unwrap()).lines(),
            notes: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
        }
    }

    #[track_caller]
    fn note(&mut self) -> String {
        self.notes.next().expect("it still runs").unwrap()
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.out.next().expect("it still runs").unwrap()
    }

    /// Stops it as Ctrl-C does; answers its exit code and what it still had to say.
    fn stop(mut self) -> (Option<i32>, Vec<String>) {
        kill_process(pid(self.child.id()), Signal::INT).unwrap();
        let rest = self.out.chain(self.notes).map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

/// Bytes both ways, until it is cut.
struct Wire {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// In front of the cloud at this base URL.
    fn to(base_url: &str) -> Self {
        let upstream: SocketAddr = base_url.split('/').nth(2).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let kept = Arc::clone(&open);
        // Ends with the process: it holds nothing but sockets.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else {
                    return;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || pass(from, to));
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend([client, server]);
            }
        });
        Self { address, open }
    }

    fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// Breaks all connections; new ones go through.
    fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // It may be closed already.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}

const SCRIPT: &str = "alchemy(\"far\");\nWorker(\"api\", #{ script: \"export default {}\" });\n";
const TAILS: &str = "workers/scripts/api-dev/tails";

/// A project whose Worker is in an account.
fn deployed(cloud: &ServedCloud) -> Project {
    let mut project = Project::with_script(SCRIPT);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    project
}

/// Makes something happen in the Worker.
fn happen(folder: &Path, what: &str, outcome: &str) {
    let folder = folder.join("runtime");
    std::fs::create_dir_all(&folder).unwrap();
    let now = Timestamp::now().as_millisecond();
    let record = json!({
        "time": now,
        "worker": "api-dev",
        "version": "v1",
        "item": {
            "outcome": outcome,
            "eventTimestamp": now,
            "event": {"queue": "jobs", "batchSize": 1},
            "logs": [{"level": "log", "message": [what]}],
            "exceptions": [],
        },
    });
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("logs.ndjson"))
        .unwrap();
    file.write_all(format!("{record}\n").as_bytes()).unwrap();
}

#[test]
fn a_worker_in_an_account_is_followed_and_its_stacks_name_the_source() {
    let Some(mut project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    project
        .env("CLOUDFLARE_API_BASE_URL", served.api())
        .env("CLOUDFLARE_API_TOKEN", "t")
        .env("CLOUDFLARE_ACCOUNT_ID", "local");
    project.file(
        "src/server.ts",
        "function fail(why: string): never {\n    throw new RangeError(why);\n}\n\
         export default { fetch(request: Request) {\n    console.log('asked', new URL(request.url).pathname);\n\
         \x20   if (request.url.endsWith('/boom')) fail('planned');\n    return new Response('ok');\n} };\n",
    );
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"far\");\nWorker(\"api\", #{ entrypoint: \"src/server.ts\" });\n",
    );
    project.alch(["run", "--target", "cloudflare"]).success();
    served.ask_until("api-dev", "/", |status, _| status == 200);
    let mut following = Following::start(&project, &["api", "-f", "--json", "--status", "error"]);
    assert_eq!(
        following.note(),
        "following the Worker `api-dev`; Ctrl-C ends it"
    );
    let mut by_text = Following::start(&project, &["api", "-f", "--grep", "/wanted"]);
    by_text.note();
    served.ask("api-dev", "GET", "/unwanted-", "");
    served.ask("api-dev", "GET", "/boom", "");
    served.ask("api-dev", "GET", "/wanted", "");
    let versions: Value = serde_json::from_str(&following.line()).unwrap();
    assert_eq!(versions["type"], "version");
    let event: Value = serde_json::from_str(&following.line()).unwrap();
    assert_eq!(event["type"], "log");
    assert_eq!(event["worker"], "api-dev");
    assert_eq!(event["event"]["outcome"], "exception");
    let thrown = &event["event"]["exceptions"][0];
    assert_eq!(thrown["name"], "RangeError");
    let stack = thrown["stack"].as_str().unwrap();
    assert!(stack.contains("src/server.ts:2:"), "{stack}");
    let shown = by_text.line();
    assert!(
        shown.ends_with(&format!(
            "  api-dev  GET http://api-dev.localhost:{}/wanted  200 ok",
            served.port
        )),
        "{shown}"
    );
    let (code, rest) = following.stop();
    let ended: Value = serde_json::from_str(&rest.concat()).unwrap();
    assert_eq!((code, &ended["type"]), (Some(0), &json!("exit")));
    assert_eq!(
        by_text.stop(),
        (Some(0), vec!["    log    asked /wanted".to_owned()])
    );
}

#[test]
fn a_broken_connection_is_made_again_and_no_tail_is_left() {
    let cloud = ServedCloud::quick();
    let mut project = deployed(&cloud);
    let wire = Wire::to(&cloud.base_url());
    project.env("CLOUDFLARE_API_BASE_URL", &wire.base_url());
    let mut following = Following::start(&project, &["api", "-f"]);
    let begun = "following the Worker `api-dev`; Ctrl-C ends it";
    assert_eq!(following.note(), begun);
    happen(&cloud.folder(), "first", "ok");
    assert!(
        following
            .line()
            .ends_with("  api-dev  queue jobs, 1 message  ok")
    );
    assert_eq!(following.line(), "    log    first");
    for text in ["second", "third"] {
        wire.cut();
        let lost = following.note();
        assert!(
            lost.ends_with("; connecting again, what happens meanwhile is not shown"),
            "{lost}"
        );
        assert_eq!(following.note(), begun);
        happen(&cloud.folder(), text, "ok");
        following.line();
        assert_eq!(following.line(), format!("    log    {text}"));
    }
    assert_eq!(following.stop(), (Some(0), Vec::new()));
    assert_eq!(cloud.call("GET", TAILS, "").0, 404);
}

#[test]
fn a_worker_that_is_gone_ends_it() {
    let cloud = ServedCloud::quick();
    let mut project = deployed(&cloud);
    let wire = Wire::to(&cloud.base_url());
    project.env("CLOUDFLARE_API_BASE_URL", &wire.base_url());
    let mut following = Following::start(&project, &["api", "-f"]);
    following.note();
    cloud.call("DELETE", "workers/scripts/api-dev", "");
    wire.cut();
    following.note();
    let Following {
        mut child, notes, ..
    } = following;
    let told: Vec<String> = notes.map(Result::unwrap).collect();
    snapbox::Assert::new().action_env("SNAPSHOTS").eq(
        told.join("\n"),
        str![[r#"
error[E0301]: the Worker `api-dev` cannot be followed: This Worker does not exist on your account.
 = note: the call was POST /accounts/../workers/scripts/api-dev/tails, answered with HTTP 404
 = help: look for a typo; it is the id in the script, or the name it was deployed with
"#]],
    );
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn what_cannot_be_followed_is_said() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    project.alch(["logs", "api"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: the Worker `api-dev` is at Cloudflare, which keeps no logs for later
 = help: `alch logs api -f` without `--since` shows what happens from now on

"#]]);
    project
        .alch(["logs", "-f", "--target", "cloudflare"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: the logs of Cloudflare are those of one Worker
 = help: name it: `alch logs WORKER -f --target cloudflare`

"#]]);
    project
        .alch(["logs", "none", "-f", "--target", "cloudflare"])
        .check(str![[r#"
exit 4
-- stderr
error[E0301]: the Worker `none` cannot be followed: This Worker does not exist on your account.
 = note: the call was POST /accounts/../workers/scripts/none/tails, answered with HTTP 404
 = help: look for a typo; it is the id in the script, or the name it was deployed with

"#]]);
    let mut stranger = Project::new();
    stranger
        .env("CLOUDFLARE_API_BASE_URL", &cloud.base_url())
        .env("CLOUDFLARE_API_TOKEN", "wrong")
        .env("CLOUDFLARE_ACCOUNT_ID", "local");
    stranger
        .alch(["logs", "api-dev", "-f", "--target", "cloudflare"])
        .check(str![[r#"
exit 3
-- stderr
error[E0303]: the Worker `api-dev` cannot be followed: Invalid access token
 = note: the call was POST /accounts/../workers/scripts/api-dev/tails, answered with HTTP 403
 = help: check the API token: it must be valid, belong to this account and have `Workers Scripts: Edit`

"#]]);
}

/// Answers each new tail with an end that is near, and counts them.
async fn short_lived(
    State(count): State<Arc<AtomicUsize>>,
    request: Request,
    next: Next,
) -> Response {
    let makes = request.method() == "POST" && request.uri().path().ends_with("/tails");
    let answer = next.run(request).await;
    if !makes {
        return answer;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let mut made: Value = serde_json::from_slice(&bytes).unwrap();
    let end = Timestamp::now() + SignedDuration::from_millis(300);
    made["result"]["expires_at"] = json!(end.to_string());
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(made.to_string()))
}

#[test]
fn a_tail_is_renewed_before_its_end_and_every_event_is_told_once() {
    let cloud = ServedCloud::quick();
    deployed(&cloud);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(renewed(cloud.folder()));
}

async fn renewed(data: PathBuf) {
    let options = RouterOptions {
        token: None,
        latency: Duration::ZERO,
    };
    let made = Arc::<AtomicUsize>::default();
    let counting = middleware::from_fn_with_state(Arc::clone(&made), short_lived);
    let service = router(Cloud::open(&data).unwrap(), options).layer(counting);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/client/v4", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let client = Client::over_http(&base_url, "local", None);
    let context = OperationContext {
        fqn: Fqn::parse("a/b/c").unwrap(),
        physical_name: String::new(),
        idempotency_key: String::new(),
        folder: Arc::from(data.as_path()),
        access: Arc::<Access>::default(),
        meter: Meter::default(),
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| {}),
        redact: Arc::new(str::to_owned),
        made: Made::default(),
    };
    let pace = Pace {
        renewal: Duration::ZERO,
        shortest: Duration::from_millis(100),
        linger: Duration::from_millis(300),
        ..Pace::default()
    };
    let stop = CancellationToken::new();
    let (seen, mut news) = tokio::sync::mpsc::unbounded_channel();
    let mut told = |told: Told| seen.send(told).unwrap();
    let following = tail::follow(&client, &context, "api-dev", &pace, &stop, &mut told);
    let watching = async {
        assert_eq!(news.recv().await, Some(Told::Connected));
        let happening = tokio::task::spawn_blocking(move || {
            for number in 0..100 {
                happen(&data, &number.to_string(), "ok");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut numbers = Vec::new();
        while numbers.len() < 100 {
            match news.recv().await.unwrap() {
                Told::Event(event) => {
                    let text = event["logs"][0]["message"][0].as_str().unwrap();
                    numbers.push(text.parse::<usize>().unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        happening.await.unwrap();
        stop.cancel();
        numbers
    };
    let (ended, mut numbers) = tokio::join!(following, watching);
    ended.unwrap();
    // Two tails side by side may tell in another order.
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(made.load(Ordering::SeqCst) > 2, "{made:?}");
    server.abort();
}
