//! What happens in Workers without a request: messages of queues, times. Over `alch local serve`, as in `local_runtime`.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::Stdio,
};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use snapbox::{IntoData, str};
use tungstenite::{Message, client::IntoClientRequest as _};

use crate::support::{
    Project,
    served::{Served, esbuild, multipart, pid, request, until, with_runtime},
};

const QUEUES: &str = r#"
let app = alchemy("queues");
let jobs = Queue("jobs");
let dead = Queue("dead");
let seen = KV("seen");
Worker("api", #{
    script: `export default {
        async fetch(request, env) {
            const { pathname } = new URL(request.url);
            if (pathname === "/send") {
                await env.JOBS.send({ n: 1, text: "é" });
                await env.JOBS.sendBatch([
                    { body: "text", contentType: "text" },
                    { body: new Uint8Array([0, 255]), contentType: "bytes" },
                    { body: new Map([["a", 1n]]), contentType: "v8" },
                ]);
            }
            if (pathname === "/fail") await env.JOBS.send({ fail: true });
            if (pathname === "/dead") await env.DEAD.send({ of: "a Worker" });
            return Response.json(JSON.parse((await env.SEEN.get("all")) ?? "[]"));
        },
        async queue(batch, env) {
            const all = JSON.parse((await env.SEEN.get("all")) ?? "[]");
            for (const message of batch.messages) {
                const { body } = message;
                const shown = body instanceof Map ? "a map of " + body.get("a")
                    : body instanceof ArrayBuffer || ArrayBuffer.isView(body) ? "bytes " + new Uint8Array(body).join()
                    : JSON.stringify(body);
                all.push([batch.queue, shown, message.attempts]);
                if (body.fail) message.retry();
            }
            await env.SEEN.put("all", JSON.stringify(all));
        },
    }`,
    bindings: #{ JOBS: jobs, DEAD: dead, SEEN: seen },
    eventSources: [#{
        queue: jobs,
        settings: #{ batchSize: 10, maxWaitTimeMs: 50, maxRetries: 1, retryDelay: 0, deadLetterQueue: dead },
    }],
});
app.finalize();
"#;

fn queue_id(served: &Served, name: &str) -> String {
    let listed = served.call("GET", &format!("queues?name={name}"), "");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["result"][0]["queue_id"].as_str().unwrap().to_owned()
}

fn pulled(served: &Served, queue: &str) -> Vec<Value> {
    let path = format!("queues/{queue}/messages/pull");
    let answer: Value = serde_json::from_str(&served.call("POST", &path, "{}")).unwrap();
    answer["result"]["messages"].as_array().unwrap().clone()
}

#[test]
fn messages_reach_the_worker_from_both_sides_and_the_dead_ones_can_be_pulled() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", QUEUES);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let jobs = queue_id(&served, "jobs-dev");
    let dead = queue_id(&served, "dead-dev");

    // From a Worker, in every content type.
    served.get("api-dev", "/send");
    let of = |body: &str| json!(["jobs-dev", body, 1]);
    let all = served.ask_until("api-dev", "/", |_, body| {
        body.matches("jobs-dev").count() == 4
    });
    let mut all: Vec<Value> = serde_json::from_str(&all).unwrap();
    let mut expected = vec![
        of(r#"{"n":1,"text":"é"}"#),
        of(r#""text""#),
        of("bytes 0,255"),
        of("a map of 1"),
    ];
    all.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(all, expected);

    // Over HTTP.
    let messages = format!("queues/{jobs}/messages");
    served.call("POST", &messages, r#"{"body": {"from": "HTTP"}}"#);
    served.ask_until("api-dev", "/", |_, body| {
        body.contains(r#"\"from\":\"HTTP\""#)
    });

    // What fails is tried again as often as the settings say, and then lies in the other queue, where a client can pull it.
    served.get("api-dev", "/fail");
    served.ask_until("api-dev", "/", |_, body| body.matches("fail").count() == 2);
    // A queue without a Worker keeps what Workers send.
    served.get("api-dev", "/dead");
    let mut bodies = Vec::new();
    until(|| {
        let messages = pulled(&served, &dead);
        bodies.extend(messages.iter().map(|message| message["body"].clone()));
        (bodies.len() == 2).then_some(())
    });
    // {"fail":true} and {"of":"a Worker"}
    assert_eq!(bodies, ["eyJmYWlsIjp0cnVlfQ==", "eyJvZiI6ImEgV29ya2VyIn0="]);

    // Nothing is lost while nothing runs.
    drop(served);
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.call(
        "POST",
        &messages,
        r#"{"body": "later", "delay_seconds": 1}"#,
    );
    drop(served);
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.ask_until("api-dev", "/", |_, body| body.contains("later"));

    // Without the event source, the queue has no consumer.
    project.file(
        "alchemy.run.rhai",
        QUEUES.replace("queue: jobs,", "queue: Queue(\"other\"),"),
    );
    project.alch(["run"]).success();
    let consumers = served.call("GET", &format!("queues/{jobs}/consumers"), "");
    assert!(consumers.contains("\"result\":[]"), "{consumers}");
    project.alch(["destroy", "--yes"]).success();
}

const TICKER: &str = r#"
let app = alchemy("ticker");
let seen = KV("seen");
Worker("ticker", #{
    script: `export default {
        async fetch(request, env) {
            console.log("asked for", { path: new URL(request.url).pathname });
            if (request.url.endsWith("/boom")) fail("planned <b>");
            return new Response((await env.SEEN.get("cron")) ?? "never");
        },
        async scheduled(event, env) {
            if (event.cron === "0 0 1 1 *") fail("not today");
            await env.SEEN.put("cron", event.cron + " " + typeof event.scheduledTime);
        },
    };
    function fail(message) {
        throw new TypeError(message);
    }`,
    bindings: #{ SEEN: seen },
    crons: ["*/5 * * * *", "0 0 L * 6L"],
});
Worker("still", #{ script: "export default { fetch() { return new Response('still') } }" });
app.finalize();
"#;

#[test]
fn schedules_are_called_on_demand() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", TICKER);
    project.alch(["run"]).success();
    let trigger =
        |worker: &str, cron: &str| project.alch(["local", "trigger", worker, "--cron", cron]);
    trigger("ticker", "*/5 * * * *").check(str![[r#"
exit 1
-- stderr
error[E0502]: nothing runs the Workers of this project
 = help: start `alch local serve` in another terminal

"#]]);
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(served.ask("ticker-dev", "GET", "/", "").1, "never");
    trigger("ticker", "*/5 * * * *").check(str![[r#"
exit 0
-- stdout
`scheduled` of the Worker `ticker-dev` is done

"#]]);
    assert_eq!(
        served.ask("ticker-dev", "GET", "/", "").1,
        "*/5 * * * * number"
    );
    trigger("ticker-dev", "0 0 1 1 *").check(str![[r#"
exit 1
-- stderr
error[E0502]: `scheduled` of the Worker `ticker-dev` failed: TypeError: not today
 = note:     at fail (worker.js:13:15)
             at Object.scheduled (worker.js:8:45)
 = help: `alch logs` shows what it printed

"#]]);
    trigger("still", "*/5 * * * *").check(str![[r#"
exit 1
-- stderr
error[E0502]: the Worker `still-dev` has no `scheduled` handler
 = help: export it: `export default { async scheduled(event, env, ctx) { .. } }`

"#]]);
    trigger("nobody", "*/5 * * * *").check(str![[r#"
exit 1
-- stderr
error[E0502]: no Worker `nobody` runs
 = help: deploy it with `alch run`; the server lists what it runs

"#]]);
    trigger("ticker", "every day").check(str![[r#"
exit 2
-- stderr
error[E0501]: `every day` is no schedule: it has 2 fields, not five: minute, hour, day, month, day of the week
 = help: write it as in `0 2 * * *`; `alch help local trigger` says more

"#]]);
    drop(served);
    // Its file may be left behind when it was killed.
    trigger("ticker", "*/5 * * * *").code(1);
    project.file(
        "alchemy.run.rhai",
        TICKER.replace("0 0 L * 6L", "0 0 L * 9"),
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app ticker, stage dev, phase up, target local
2 resources were not reached and stay
error[E0202]: `crons.1` of cloudflare::Worker: `0 0 L * 9` is no schedule: number out of bounds
  --> alchemy.run.rhai:20:28
   |
20 |     crons: ["*/5 * * * *", "0 0 L * 9"],
   |                            ^^^^^^^^^^^
   |
   = help: give five fields in UTC: minute, hour, day, month, day of the week (1 or SUN to 7 or SAT), as in `0 2 * * *`
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

/// What tells events apart, without times and ports.
fn told(text: &str, port: u16) -> String {
    text.replace(&port.to_string(), "PORT")
        .lines()
        .map(|line| match line.split_once("Z  ") {
            Some((_, rest)) => format!("TIME  {rest}\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

#[track_caller]
fn assert_told(actual: String, expected: impl IntoData) {
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .eq(actual, expected);
}

#[test]
fn what_workers_print_and_throw_is_kept() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", TICKER);
    project.alch(["run"]).success();
    project.alch(["logs"]).check(str![[r#"
exit 0
-- stderr
no logs here; `alch local serve` keeps them

"#]]);
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.ask("still-dev", "GET", "/", "");
    let logs = |arguments: &[&str]| {
        let mut all = vec!["logs"];
        all.extend(arguments);
        let output = project.output_of(&mut project.command(all));
        (told(&output.stdout, served.port), output)
    };
    served.ask("ticker-dev", "GET", "/", "");
    // Events are told when they are over, each for itself: the next one could overtake this one.
    until(|| logs(&["ticker"]).0.contains("200 ok").then_some(()));
    let (status, page) = served.ask("ticker-dev", "GET", "/boom", "");
    assert_eq!(status, 500);
    assert_told(
        told(&page, served.port),
        str![[r#"
Worker `ticker-dev` failed

GET http://ticker-dev.localhost:PORT/boom

TypeError: planned <b>
    at fail (worker.js:13:15)
    at Object.fetch (worker.js:4:48)

"#]],
    );
    let host = format!("ticker-dev.localhost:{}", served.port);
    let headers = [("host", host.as_str()), ("accept", "text/html,*/*")];
    let (status, page) = request(served.port, "GET", "/boom", &headers, "");
    assert_eq!(status, 500);
    assert_told(
        told(&page, served.port),
        str![[r#"
<!doctype html><meta charset="utf-8"><title>Worker `ticker-dev` failed</title>
<style>body{font:16px/1.5 system-ui;margin:10vh auto;max-width:50rem;padding:0 1rem;color-scheme:light dark}
pre{white-space:pre-wrap;border-left:4px solid #f6821f;padding-left:1rem}</style>
<h1>Worker `ticker-dev` failed</h1><p>GET http://ticker-dev.localhost:PORT/boom</p><h2>TypeError: planned &lt;b&gt;</h2><pre>    at fail (worker.js:13:15)
    at Object.fetch (worker.js:4:48)</pre>

"#]],
    );

    // The page has waited for the failure; the rest comes a moment later.
    until(|| (!logs(&["still"]).0.is_empty()).then_some(()));
    assert_told(
        logs(&["ticker"]).0,
        str![[r#"
TIME  ticker-dev  GET http://ticker-dev.localhost:PORT/  200 ok
    log    asked for {"path":"/"}
TIME  ticker-dev  GET http://ticker-dev.localhost:PORT/boom  exception
    log    asked for {"path":"/boom"}
    error  TypeError: planned <b>
               at fail (worker.js:13:15)
               at Object.fetch (worker.js:4:48)
TIME  ticker-dev  GET http://ticker-dev.localhost:PORT/boom  exception
    log    asked for {"path":"/boom"}
    error  TypeError: planned <b>
               at fail (worker.js:13:15)
               at Object.fetch (worker.js:4:48)

"#]],
    );
    assert_told(
        logs(&["still-dev", "--since", "1h"]).0,
        str![[r#"
TIME  still-dev  GET http://still-dev.localhost:PORT/  200 ok

"#]],
    );
    assert_eq!(logs(&["still", "--since", "2999-01-01T00:00:00Z"]).0, "");
    assert_eq!(logs(&["--since", "soon"]).1.code, Some(2));

    // With `-f`, what is to come.
    let mut command = project.command(["logs", "still", "-f", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value {
        loop {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if line["type"] == "log" {
                return line;
            }
        }
    };
    assert_eq!(next()["worker"], "still-dev");
    served.ask("still-dev", "GET", "/later", "");
    let later = next();
    assert_eq!(later["event"]["response"], Value::Null);
    assert_eq!(later["event"]["event"]["response"]["status"], 200);
    kill_process(pid(child.id()), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn stacks_name_the_source() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let mut served = Served::start(&project);
    // As a bundler writes them: line 1, column 34 of the module is line 3, column 5 of the source.
    let code = "export default { async fetch() { throw new Error('planned') } }";
    let map = r#"{"version":3,"sources":["../src/server.ts"],"names":[],"mappings":"iCAEI"}"#;
    let metadata = r#"{"main_module":"index.js","compatibility_date":"2026-07-01"}"#;
    let body = multipart(&[
        ("metadata", "application/json", metadata),
        ("index.js", "application/javascript+module", code),
        ("index.js.map", "application/source-map", map),
    ]);
    served.upload("PUT", "workers/scripts/mapped", &body);
    served.wait_for("local_workers");
    let (_, page) = served.ask("mapped", "GET", "/", "");
    assert_told(
        told(&page, served.port),
        str![[r#"
Worker `mapped` failed

GET http://mapped.localhost:PORT/

Error: planned
    at Object.fetch (src/server.ts:3:5)

"#]],
    );
}

#[test]
fn stacks_of_a_bundle_name_the_typescript() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    if esbuild().is_none() {
        return;
    }
    let library = "interface Some { n: number }\n\nexport function fail(some: Some): never {\n  \
        throw new RangeError(`n is ${some.n}`);\n}\n";
    project.file("src/library.ts", library);
    let server = "import { fail } from './library';\n\nexport default {\n  \
        async fetch(): Promise<Response> {\n    return fail({ n: 3 });\n  },\n};\n";
    project.file("src/server.ts", server);
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"mapped\");\nWorker(\"api\", #{ entrypoint: \"src/server.ts\" });\n",
    );
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let (_, page) = served.ask("api-dev", "GET", "/", "");
    assert_told(
        told(&page, served.port),
        str![[r#"
Worker `api-dev` failed

GET http://api-dev.localhost:PORT/

RangeError: n is 3
    at fail (src/library.ts:4:9)
    at Object.fetch (src/server.ts:5:12)

"#]],
    );
}

#[test]
fn a_tail_tells_of_each_event() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", TICKER);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.ask("ticker-dev", "GET", "/before", "");
    let path = "workers/scripts/ticker-dev/tails";
    let made: Value = serde_json::from_str(&served.call("POST", path, "{}")).unwrap();
    let url = made["result"]["url"].as_str().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", served.api_port())).unwrap();
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "trace-v1".parse().unwrap());
    let (mut socket, response) = tungstenite::client(request, stream).unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "trace-v1");
    socket.send(Message::text(r#"{"debug":false}"#)).unwrap();
    served.ask("still-dev", "GET", "/other", "");
    served.ask("ticker-dev", "GET", "/boom", "");
    let event: Value = serde_json::from_str(&socket.read().unwrap().into_text().unwrap()).unwrap();
    assert_eq!(event["scriptName"], "ticker-dev");
    assert_eq!(event["outcome"], "exception");
    assert_eq!(event["exceptions"][0]["message"], "planned <b>");
    assert_eq!(
        event["logs"][0]["message"],
        json!(["asked for", {"path": "/boom"}])
    );
    // It ends with the tail, and nobody gets in again.
    let id = made["result"]["id"].as_str().unwrap();
    served.call("DELETE", &format!("{path}/{id}"), "");
    assert!(socket.read().unwrap().is_close());
    let stream = TcpStream::connect(("127.0.0.1", served.api_port())).unwrap();
    assert!(tungstenite::client(url, stream).is_err());
}

#[test]
fn a_zone_is_there_from_the_start() {
    let project = Project::new();
    for _ in 0..2 {
        let served = Served::with(&project, &["--zone", "example.com"]);
        let host = format!("127.0.0.1:{}", served.api_port());
        let headers = [("host", host.as_str()), ("authorization", "Bearer t")];
        let (status, zones) = request(served.api_port(), "GET", "/client/v4/zones", &headers, "");
        let zones: Value = serde_json::from_str(&zones).unwrap();
        assert_eq!(status, 200, "{zones}");
        assert_eq!(zones["result"].as_array().map(Vec::len), Some(1));
        assert_eq!(zones["result"][0]["name"], "example.com");
    }
    project
        .alch(["local", "serve", "--port", "0", "--zone", "no zone"])
        .check(str![[r#"
exit 1
-- stderr
error[E0502]: the zone `no zone` cannot be made: Invalid domain: `name` must be a domain name
 = help: write a domain such as `--zone example.com`

"#]]);
}
