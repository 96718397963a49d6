//! Durable Objects that really run: data, alarms and WebSockets behind `alch local serve`, and what becomes of them when their
//! classes change. As in `local_runtime`, they check nothing where the runtime cannot be had, and say so.

use std::{net::TcpStream, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use snapbox::str;
use tungstenite::{Message, WebSocket, client::IntoClientRequest as _};

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("rooms");
let counter = DurableObject("counter", #{ className: "Counter" });
let api = Worker("api", #{ entrypoint: "src/api.js", bindings: #{ COUNTER: counter } });
Worker("web", #{
    entrypoint: "src/web.js",
    bindings: #{ REMOTE: DurableObjectNamespace("remote", #{ className: "Counter", scriptName: api }) },
});
app.finalize();
"#;

const API: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
    constructor(ctx, env) {
        super(ctx, env);
        this.sql = ctx.storage.sql;
        this.sql.exec("CREATE TABLE IF NOT EXISTS calls(what TEXT)");
    }
    add(what) {
        this.sql.exec("INSERT INTO calls VALUES(?)", what);
        return this.count();
    }
    count() {
        return this.sql.exec("SELECT what, count(*) AS n FROM calls GROUP BY what ORDER BY what").toArray();
    }
    wake(after) {
        return this.ctx.storage.setAlarm(Date.now() + after);
    }
    alarm() {
        this.add("alarm");
    }
    fetch(request) {
        const [client, server] = Object.values(new WebSocketPair());
        this.ctx.acceptWebSocket(server);
        server.serializeAttachment(new URL(request.url).searchParams.get("name"));
        return new Response(null, { status: 101, webSocket: client });
    }
    webSocketMessage(from, message) {
        for (const socket of this.ctx.getWebSockets()) {
            socket.send(`${from.deserializeAttachment()}: ${message}`);
        }
    }
}
export default {
    async fetch(request, env) {
        const { pathname, searchParams } = new URL(request.url);
        const object = env.COUNTER.getByName(searchParams.get("object") ?? "one");
        switch (pathname) {
            case "/version": return new Response("first");
            case "/add": return Response.json(await object.add("call"));
            case "/count": return Response.json(await object.count());
            case "/wake": return Response.json(await object.wake(Number(searchParams.get("after"))) ?? null);
            case "/chat": return object.fetch(request);
        }
    },
};
"#;

const WEB: &str = r#"
export default {
    async fetch(request, env) {
        return Response.json(await env.REMOTE.getByName("one").add("remote"));
    },
};
"#;

fn project() -> Option<Project> {
    let project = with_runtime(Project::new())?;
    project.file("alchemy.run.rhai", SCRIPT);
    project.file("src/api.js", API);
    project.file("src/web.js", WEB);
    Some(project)
}

fn namespaces(served: &Served) -> Value {
    let list = served.call("GET", "workers/durable_objects/namespaces", "");
    let list: Value = serde_json::from_str(&list).unwrap();
    list["result"].clone()
}

#[test]
fn data_outlives_deployments_restarts_and_other_names_of_the_class() {
    let Some(project) = project() else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("api-dev", "/add"),
        json!([{"what": "call", "n": 1}])
    );
    assert_eq!(
        served.get("web-dev", "/"),
        json!([{"what": "call", "n": 1}, {"what": "remote", "n": 1}])
    );
    assert_eq!(
        served.get("api-dev", "/add?object=other"),
        json!([{"what": "call", "n": 1}])
    );

    // Other code, and then another process.
    project.file("src/api.js", API.replace("\"first\"", "\"second\""));
    project.alch(["run"]).success();
    served.ask_until("api-dev", "/version", |_, body| body == "second");
    assert_eq!(
        served.get("api-dev", "/add"),
        json!([{"what": "call", "n": 2}, {"what": "remote", "n": 1}])
    );
    served.signal(Signal::INT);
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("api-dev", "/add"),
        json!([{"what": "call", "n": 3}, {"what": "remote", "n": 1}])
    );
    let id = namespaces(&served)[0]["id"].clone();
    let objects = format!(
        "workers/durable_objects/namespaces/{}/objects",
        id.as_str().unwrap()
    );
    let objects: Value = serde_json::from_str(&served.call("GET", &objects, "")).unwrap();
    assert_eq!(objects["result"].as_array().map(Vec::len), Some(2));

    // Another name of the class.
    project.file(
        "alchemy.run.rhai",
        SCRIPT.replace("\"Counter\"", "\"Tally\""),
    );
    project.file(
        "src/api.js",
        API.replace("Counter", "Tally")
            .replace("\"first\"", "\"third\""),
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  ~ counter (cloudflare::DurableObjectNamespace)  counter  # className changed
      ~ className: "Counter" -> "Tally"
  ~ api (cloudflare::Worker)  api-dev  # bindings, modules changed
      ~ bindings.COUNTER: "${counter}" -> "${counter}"
      ~ modules["api.js"]: (content changed)
  ~ remote (cloudflare::DurableObjectNamespace)  remote  # className changed
      ~ className: "Counter" -> "Tally"
  ~ web (cloudflare::Worker)  web-dev  # bindings changed
      ~ bindings.REMOTE: "${remote}" -> "${remote}"
Plan: 0 to create, 4 to update, 0 to delete, 0 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).success();
    served.ask_until("api-dev", "/version", |_, body| body == "third");
    assert_eq!(
        served.get("api-dev", "/add"),
        json!([{"what": "call", "n": 4}, {"what": "remote", "n": 1}])
    );
    served.ask_until("web-dev", "/", |status, body| {
        status == 200 && body.contains(r#""n":2"#)
    });
    assert_eq!(
        namespaces(&served),
        json!([{"id": id, "name": "api-dev_Tally", "script": "api-dev", "class": "Tally", "use_sqlite": true}])
    );
}

#[test]
fn dropping_a_class_needs_consent() {
    let project = Project::new();
    let worker = |props: &str| {
        format!(
            r#"
let app = alchemy("rooms");
let counter = DurableObject("counter", #{{ className: "Counter" }});
Worker("api", #{{ script: "export class Counter {{}}; export default {{}}", {props} }});
app.finalize();
"#
        )
    };
    let bound = "bindings: #{ COUNTER: counter }";
    project.file("alchemy.run.rhai", worker(bound));
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + counter (cloudflare::DurableObjectNamespace)  counter  # not in state
      + className: "Counter"
      + sqlite: true
  + api (cloudflare::Worker)  api-dev  # not in state
      + bindings.COUNTER: "${counter}"
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + observability.enabled: true
      + script: "export class Counter {}; export default {}"
      + url: true
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).success();
    project.alch(["plan", "--detailed-exitcode"]).success();
    project.file("alchemy.run.rhai", worker(""));
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  ~ api (cloudflare::Worker)  api-dev  # bindings changed; loses the Durable Object class `Counter` with its data
      - bindings.COUNTER: "${counter}"
Plan: 0 to create, 1 to update, 0 to delete, 1 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    api  it would lose the Durable Object class `Counter` with its data
error[E0308]: `api` (cloudflare::Worker) would be updated and lose the Durable Object class `Counter` with its data
 --> alchemy.run.rhai:4:1
  |
4 | Worker("api", #{ script: "export class Counter {}; export default {}",  });
  | ^^^^^^ declared here
  |
  = note: nothing was changed
  = help: to lose it, run again with `--allow-data-loss`; to keep it, declare it as before
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "alchemy.run.rhai",
        worker(&format!("name: \"other\", {bound}")),
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    api  it would lose the Durable Object class `Counter` with its data
error[E0308]: `api` (cloudflare::Worker) would be replaced and lose the Durable Object class `Counter` with its data
 --> alchemy.run.rhai:4:1
  |
4 | Worker("api", #{ script: "export class Counter {}; export default {}", name: "other", binding...
  | ^^^^^^ declared here
  |
  = note: nothing was changed
  = help: to lose it, run again with `--allow-data-loss`; to keep it, declare it as before
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file("alchemy.run.rhai", worker(""));
    project.alch(["run", "--allow-data-loss"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
~ updating  api (cloudflare::Worker)
  updated   api  api-dev  [TIME]
0 created, 1 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 3 API calls)

"#]]);
}

#[test]
fn alarms_ring_also_after_the_end_of_the_process() {
    let Some(project) = project() else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.get("api-dev", "/wake?after=10");
    served.ask_until("api-dev", "/count", |_, body| {
        body == r#"[{"what":"alarm","n":1}]"#
    });
    served.get("api-dev", "/wake?after=500");
    served.signal(Signal::KILL);
    served.gone();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    served.ask_until("api-dev", "/count", |_, body| {
        body == r#"[{"what":"alarm","n":2}]"#
    });
}

/// A client of the chat.
fn join(served: &Served, name: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let url = format!("ws://api-dev.localhost:{}/chat?name={name}", served.port);
    let (socket, response) =
        tungstenite::client(url.into_client_request().unwrap(), stream).unwrap();
    assert_eq!(response.status().as_u16(), 101);
    socket
}

#[test]
fn two_clients_talk_over_websockets() {
    let Some(project) = project() else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let (mut ann, mut bob) = (join(&served, "ann"), join(&served, "bob"));
    ann.send(Message::text("hello")).unwrap();
    for socket in [&mut ann, &mut bob] {
        assert_eq!(socket.read().unwrap(), Message::text("ann: hello"));
    }
    bob.send(Message::text("hi")).unwrap();
    for socket in [&mut ann, &mut bob] {
        assert_eq!(socket.read().unwrap(), Message::text("bob: hi"));
    }
    ann.close(None).unwrap();
    bob.send(Message::text("still there?")).unwrap();
    assert_eq!(bob.read().unwrap(), Message::text("bob: still there?"));
}

#[test]
fn a_worker_goes_with_the_objects_of_its_classes_by_consent_alone() {
    let mut project = Project::with_script(
        r#"
let app = alchemy("rooms");
let counter = DurableObject("counter", #{ className: "Counter" });
Worker("api", #{ script: "export class Counter {}; export default {}", bindings: #{ COUNTER: counter } });
app.finalize();
"#,
    );
    project.alch(["run"]).success();
    let script = project.read("alchemy.run.rhai");
    project.file("alchemy.run.rhai", script.replace("\"api\"", "\"front\""));
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + front (cloudflare::Worker)  front-dev  # not in state
      + bindings.COUNTER: "${counter}"
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + observability.enabled: true
      + script: "export class Counter {}; export default {}"
      + url: true
  - api (cloudflare::Worker)  api-dev  # no longer declared; loses the Durable Object class `Counter` with its data
Plan: 1 to create, 0 to update, 1 to delete, 1 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local
looks like a rename: `api` goes, `front` of the same kind and props comes; to rename it, write `moved("api", "front");` before `front` is declared

"#]]);
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    api  deleting it would lose the Durable Object class `Counter` with its data
  skipped   front  because api failed
error[E0308]: `api` (cloudflare::Worker) would be deleted and lose the Durable Object class `Counter` with its data
 = note: it was left as it is, and nothing was deleted
 = help: to rename it, write `moved("api", "front");` before `front` is declared
 = help: to keep it as it is, declare it again; to lose it, run again with `--allow-data-loss`
still there:
  api
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed, 1 skipped in [TIME] (critical path [TIME], 0 API calls)

"#]]);

    // A rename that is told keeps both.
    let moved = script.replace(
        "Worker(\"api\"",
        "moved(\"api\", \"front\");\nWorker(\"front\"",
    );
    project.file("alchemy.run.rhai", &script);
    project.alch(["run", "--allow-data-loss"]).success();
    project.file("alchemy.run.rhai", moved);
    project.alch(["run"]).success();

    project.file("alchemy.run.rhai", "alchemy(\"rooms\");\n");
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  - front (cloudflare::Worker)  api-dev  # no longer declared; loses the Durable Object class `Counter` with its data
  - counter (cloudflare::DurableObjectNamespace)  counter  # no longer declared
Plan: 0 to create, 0 to update, 2 to delete, 0 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).code(4);
    project.alch(["run", "--allow-data-loss"]).success();

    // A destroy is asked for as a whole, as it is for databases; its plan tells the loss.
    project.file("alchemy.run.rhai", script);
    project.alch(["run"]).success();
    project.env("ALCHEMY_DESTROY_DRY_RUN", "true");
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stdout
  - api (cloudflare::Worker)  api-dev  # the stage goes; loses the Durable Object class `Counter` with its data
  - counter (cloudflare::DurableObjectNamespace)  counter  # the stage goes
Plan: 0 to create, 0 to update, 2 to delete, 0 unchanged
-- stderr
alch: app rooms, stage dev, phase destroy, target local
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.env("ALCHEMY_DESTROY_DRY_RUN", "false");
    project.alch(["destroy", "--yes"]).success();
}
