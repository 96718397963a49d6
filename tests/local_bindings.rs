//! Bindings in the running local cloud: secrets of a store, Hyperdrive, rate limits, services with entrypoints.

use std::{io::Write as _, net::TcpListener};

use serde_json::json;
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const SCRIPT: &str = r#"
alchemy("bindings");
let store = SecretsStore("store");
let key = Secret("key", #{ store: store, value: secret("from-the-store") });
let db = Hyperdrive("db", #{ origin: secret("postgres://me:p%40ss@127.0.0.1:PORT/main") });
let index = VectorizeIndex("index", #{ dimensions: 3 });
let inner = Worker("inner", #{ entrypoint: "src/inner.js", url: false });
Worker("api", #{ entrypoint: "src/api.js", bindings: #{
    KEY: key, DB: db, INDEX: index, AI: Ai(),
    LIMIT: RateLimit(#{ namespaceId: 7, simple: #{ limit: 2, period: 60 } }),
    EVENTS: AnalyticsEngine("events"),
    VERSION: VersionMetadata(),
    DATA: Json("text"),
    ADMIN: Service(inner, #{ entrypoint: "Admin", props: #{ role: "boss" } }),
    ITSELF: Self(#{ entrypoint: "Own" }),
} });
"#;

const INNER: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Admin extends WorkerEntrypoint {
  greet(name) { return `hello ${name}, ${this.ctx.props.role}`; }
}
export default { fetch: () => new Response("inner") };
"#;

const API: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Own extends WorkerEntrypoint {
  answer() { return 42; }
}
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname === "/limit") {
      const { success } = await env.LIMIT.limit({ key: "me" });
      return Response.json(success);
    }
    if (new URL(request.url).pathname === "/connect") {
      const { value } = await env.DB.connect().readable.getReader().read();
      return Response.json(new TextDecoder().decode(value));
    }
    env.EVENTS.writeDataPoint({ blobs: ["x"] });
    return Response.json({
      key: await env.KEY.get(),
      db: [env.DB.connectionString, env.DB.host, env.DB.port, env.DB.user, env.DB.password, env.DB.database],
      data: env.DATA,
      version: typeof env.VERSION.id,
      admin: await env.ADMIN.greet("me"),
      own: await env.ITSELF.answer(),
      missing: [env.AI, env.INDEX].map((one) => one === undefined),
    });
  },
};
"#;

#[test]
fn workers_get_what_is_bound_to_them() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let database = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = database.local_addr().unwrap().port();
    let script = SCRIPT.replace("PORT", &port.to_string());
    project.file("alchemy.run.rhai", &script);
    project.file("src/inner.js", INNER);
    project.file("src/api.js", API);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("api-dev", "/"),
        json!({
            "key": "from-the-store",
            "db": [format!("postgres://me:p%40ss@127.0.0.1:{port}/main"), "127.0.0.1", port, "me", "p@ss", "main"],
            "data": "text",
            "version": "string",
            "admin": "hello me, boss",
            "own": 42,
            "missing": [true, true],
        })
    );
    let limits: Vec<_> = (0..3).map(|_| served.get("api-dev", "/limit")).collect();
    assert_eq!(limits, [json!(true), json!(true), json!(false)]);
    let greeting = std::thread::spawn(move || {
        let (mut stream, _) = database.accept().unwrap();
        stream.write_all(b"a database").unwrap();
    });
    assert_eq!(served.get("api-dev", "/connect"), json!("a database"));
    greeting.join().unwrap();
    let config = project.read(".alchemy/local/runtime/config.capnp");
    for secret in ["from-the-store", "p@ss", "p%40ss"] {
        assert!(!config.contains(secret), "{secret} in the configuration");
    }

    // A new value arrives without a new version of the Worker.
    project.file(
        "alchemy.run.rhai",
        script.replace("from-the-store", "another value"),
    );
    project.alch(["run"]).success();
    served.ask_until("api-dev", "/", |status, body| {
        status == 200 && body.contains("another value")
    });
}

#[test]
fn bindings_that_make_no_sense_are_refused_before_anything_happens() {
    let project = Project::new();
    let worker = |binding: &str| {
        format!(
            "alchemy(\"bindings\");\nWorker(\"api\", #{{ script: \"export default {{}}\", bindings: #{{ B: {binding} }} }});\n"
        )
    };
    for binding in [
        "RateLimit(#{ namespaceId: 1, limit: 1, period: 30 })",
        "RateLimit(#{ limit: 1, period: 10 })",
        "RateLimit(#{ namespaceId: 1, limti: 1, period: 10 })",
        "AnalyticsEngine(\"\")",
    ] {
        project.file("alchemy.run.rhai", worker(binding));
        project.alch(["run"]).code(1);
    }
    project.file("alchemy.run.rhai", worker("RateLimits(#{})"));
    project.alch(["check"]).check(str![[r#"
exit 1
-- stderr
error[E0102]: no function `RateLimits`
 --> alchemy.run.rhai:2:63
  |
2 | Worker("api", #{ script: "export default {}", bindings: #{ B: RateLimits(#{}) } });
  |                                                               ^^^^^^^^^^
  |
  = help: did you mean `RateLimit`?

"#]]);
}
