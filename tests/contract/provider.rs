//! What the provider sends: every kind, every prop, through create, no-op, update, replace, adopt, refusals and delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alch::{
    bundle::{Bundle, BundleError, Bundler, Request},
    model::{KindSchema, Prop, PropType},
    provider::{
        Registry,
        cloudflare::{self, Client},
    },
};

use super::{Verdict, description};
use crate::support::{Project, cloud::ServedCloud, served};

/// One run of a script.
pub(super) struct Step {
    script: &'static str,
    arguments: &'static [&'static str],
    code: i32,
}

pub(super) const fn run(script: &'static str) -> Step {
    Step {
        script,
        arguments: &["run", "--target", "cloudflare", "--allow-data-loss"],
        code: 0,
    }
}

/// The same with everything read from the cloud first.
pub(super) const fn refresh(script: &'static str) -> Step {
    Step {
        arguments: &[
            "run",
            "--target",
            "cloudflare",
            "--allow-data-loss",
            "--force",
        ],
        ..run(script)
    }
}

/// Another command.
pub(super) const fn command(arguments: &'static [&'static str], code: i32) -> Step {
    Step {
        script: "",
        arguments,
        code,
    }
}

/// A run of another stage, whose objects are somebody else's to this one.
const fn elsewhere(script: &'static str) -> Step {
    Step {
        arguments: &["run", "--target", "cloudflare", "--stage", "other"],
        ..run(script)
    }
}

/// A run that the cloud refuses.
pub(super) const fn refused(script: &'static str) -> Step {
    Step {
        code: 4,
        ..run(script)
    }
}

pub(super) const DESTROY: Step = Step {
    script: "",
    arguments: &["destroy", "--yes", "--delete-adopted"],
    code: 0,
};

/// Objects that somebody else made: method, path, body.
pub(super) type Foreign = (&'static str, &'static str, &'static str);

/// Runs the steps against a served cloud; answers the operations that were called, in the order of their names.
#[track_caller]
fn sent(foreign: &[Foreign], steps: &[Step]) -> Vec<String> {
    let Some(description) = description() else {
        return Vec::new();
    };
    let cloud = ServedCloud::recording();
    let mut project = Project::new();
    if let Some(path) = served::esbuild() {
        project.env("ALCH_ESBUILD_PATH", path);
    }
    cloud.serve_to(&mut project);
    project.file("migrations/0001_first.sql", "CREATE TABLE a(id INTEGER);");
    project.file("seed.sql", "INSERT INTO a VALUES (1);");
    project.file("more/0001_first.sql", "CREATE TABLE a(id INTEGER);");
    project.file(
        "more/0002_second.sql",
        "CREATE TABLE b(id INTEGER); INSERT INTO b VALUES(1);",
    );
    project.file(
        "src/main.js",
        "import { a } from './a.js';\nexport default { a, queue() {} };\n",
    );
    project.file("public/index.html", "<h1>hi</h1>");
    project.file("src/a.js", "export const a = 1;\n");
    project.file("src/main.ts", "export default { a: 1 as number };\n");
    project.file(
        "src/old.js",
        "import { a } from './a.js';\naddEventListener('fetch', () => a);\n",
    );
    for (method, path, body) in foreign {
        let (status, answer) = cloud.call(method, path, body);
        assert_eq!(status, 200, "{answer}");
    }
    cloud.take_exchanges();
    for step in steps {
        if !step.script.is_empty() {
            let script = format!("alchemy(\"contract\");\n{}", step.script);
            project.file("alchemy.run.rhai", script);
        }
        project.alch(step.arguments).code(step.code);
    }
    let mut verdict = Verdict::default();
    for exchange in cloud.take_exchanges() {
        // Links that answers give lead to storage, which is not described.
        if !exchange.path().starts_with("/transfers/") {
            verdict.add(description, &exchange, true);
        }
    }
    verdict.assert_fits();
    let called: BTreeSet<&String> = verdict.succeeded.union(&verdict.failed).collect();
    let called = called.into_iter();
    called
        .map(|name| name.replace("/accounts/{account_id}/", ""))
        .collect()
}

#[track_caller]
pub(super) fn assert_sent(foreign: &[Foreign], steps: &[Step], expected: &[&str]) {
    if description().is_some() {
        let mut sent = sent(foreign, steps);
        let mut expected = expected.to_vec();
        sent.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sent, expected);
    }
}

const D1: &str = r#"
Database("plain");
Database("near", #{ primaryLocationHint: "weur", migrations: "migrations", baseline: "0001", importFiles: ["seed.sql"], readReplication: #{ mode: "auto" } });
Database("europe", #{ jurisdiction: "eu", migrationsDir: "migrations", migrationsTable: "applied", naming: "app" });
Database("named", #{ name: "first-name" });
"#;
const D1_CHANGED: &str = r#"
Database("plain", #{ readReplication: #{ mode: "auto" } });
Database("near", #{ primaryLocationHint: "weur", migrations: "more" });
Database("europe", #{ jurisdiction: "eu", migrationsDir: "more", migrationsTable: "applied", naming: "app" });
Database("named", #{ name: "second-name" });
Database("theirs", #{ name: "theirs", adopt: true, migrations: "migrations", baseline: true });
"#;
const D1_REFUSED: &str = r#"
Database("taken", #{ name: "theirs" });
"#;

#[test]
fn databases() {
    let theirs = ("POST", "d1/database", r#"{"name":"theirs"}"#);
    assert_sent(
        &[theirs],
        &[
            refused(D1_REFUSED),
            run(D1),
            run(D1),
            run(D1_CHANGED),
            refresh(D1_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE d1/database/{database_id}",
            "GET d1/database",
            "GET d1/database/{database_id}",
            "PATCH d1/database/{database_id}",
            "POST d1/database",
            "POST d1/database/{database_id}/import",
            "POST d1/database/{database_id}/query",
        ],
    );
}

const KV: &str = r#"
KV("plain");
KV("full", #{ values: [
    #{ key: "text", value: "text" },
    #{ key: "data", value: #{ a: [1, 2] }, metadata: #{ owner: "me" } },
    #{ key: "ttl", value: "x", expirationTtl: 3600 },
    #{ key: "at", value: secret("x"), expiration: 4102444800 },
] });
KV("titled", #{ title: "A title" });
KV("named", #{ name: "first-name", naming: "app" });
"#;
const KV_CHANGED: &str = r#"
KV("plain");
KV("full", #{ values: [#{ key: "text", value: "other" }] });
KV("titled", #{ title: "Another title" });
KV("named", #{ name: "second-name", naming: "app" });
KV("theirs", #{ name: "theirs", adopt: true });
"#;
const KV_REFUSED: &str = r#"
KV("taken", #{ name: "theirs" });
"#;

#[test]
fn namespaces() {
    let theirs = ("POST", "storage/kv/namespaces", r#"{"title":"theirs"}"#);
    assert_sent(
        &[theirs],
        &[
            refused(KV_REFUSED),
            run(KV),
            run(KV),
            run(KV_CHANGED),
            refresh(KV_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE storage/kv/namespaces/{namespace_id}",
            "GET storage/kv/namespaces",
            "GET storage/kv/namespaces/{namespace_id}",
            "POST storage/kv/namespaces",
            "PUT storage/kv/namespaces/{namespace_id}",
            "PUT storage/kv/namespaces/{namespace_id}/bulk",
        ],
    );
}

const R2: &str = r#"
let told = Queue("told");
let zone = Zone("example.com");
Bucket("known", #{
    domains: ["files.example.com", #{ domain: "third.example.com", zoneId: zone.ref("id") }, #{ domain: "more.example.com", zone: zone, enabled: false, minTls: "1.2", ciphers: ["AES128-SHA"] }],
    notifications: [
        #{ queue: told, actions: ["PutObject"], prefix: "a/", suffix: ".txt", description: "first" },
        #{ queue: told.ref("id"), actions: ["DeleteObject"] },
    ],
});
Bucket("plain");
Bucket("far", #{ locationHint: "apac", storageClass: "InfrequentAccess", empty: true });
Bucket("europe", #{ jurisdiction: "eu", devDomain: true, naming: "stage" });
Bucket("open", #{
    allowPublicAccess: true,
    cors: [#{
        id: "pages",
        allowed: #{ origins: ["https://example.com"], methods: ["GET"], headers: ["x-a"] },
        exposeHeaders: ["etag"],
        maxAgeSeconds: 60,
    }],
    lifecycle: [#{
        id: "old", enabled: true, conditions: #{ prefix: "" },
        deleteObjectsTransition: #{ condition: #{ type: "Age", maxAge: 86400 } },
    }],
    lock: [#{ id: "keep", enabled: true, prefix: "a/", condition: #{ type: "Age", maxAgeSeconds: 60 } }],
});
Bucket("named", #{ name: "first-name" });
"#;
const R2_CHANGED: &str = r#"
let told = Queue("told");
let other = Queue("other");
let zone = Zone("example.com");
Bucket("known", #{
    domains: [#{ domain: "more.example.com", zoneId: zone.ref("id") }],
    notifications: [#{ queue: other, actions: ["PutObject"] }],
});
Bucket("plain", #{ devDomain: true });
Bucket("far", #{ locationHint: "apac", storageClass: "Standard", empty: true });
Bucket("europe", #{ jurisdiction: "eu", devDomain: false, naming: "stage" });
Bucket("open");
Bucket("named", #{ name: "second-name" });
Bucket("theirs", #{ name: "theirs", adopt: true, empty: true });
"#;
const R2_REFUSED: &str = r#"
Bucket("taken", #{ name: "theirs" });
"#;

#[test]
fn buckets() {
    let theirs = ("POST", "r2/buckets", r#"{"name":"theirs"}"#);
    let object = ("PUT", "r2/buckets/theirs/objects/key", "content");
    assert_sent(
        &[theirs, object],
        &[
            refused(R2_REFUSED),
            run(R2),
            run(R2),
            command(&["drift"], 0),
            run(R2_CHANGED),
            refresh(R2_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE event_notifications/r2/{bucket_name}/configuration/queues/{queue_id}",
            "DELETE queues/{queue_id}",
            "DELETE r2/buckets/{bucket_name}",
            "DELETE r2/buckets/{bucket_name}/cors",
            "DELETE r2/buckets/{bucket_name}/domains/custom/{domain}",
            "DELETE /zones/{zone_id}",
            "GET event_notifications/r2/{bucket_name}/configuration",
            "GET queues",
            "GET queues/{queue_id}",
            "GET r2/buckets",
            "GET r2/buckets/{bucket_name}/cors",
            "GET r2/buckets/{bucket_name}/domains/custom",
            "GET r2/buckets/{bucket_name}/lifecycle",
            "GET r2/buckets/{bucket_name}/lock",
            "GET /zones",
            "GET /zones/{zone_id}",
            "POST queues",
            "POST r2/buckets/{bucket_name}/domains/custom",
            "POST /zones",
            "PUT event_notifications/r2/{bucket_name}/configuration/queues/{queue_id}",
            "PUT r2/buckets/{bucket_name}/domains/custom/{domain}",
            "DELETE r2/buckets/{bucket_name}/objects",
            "GET r2/buckets/{bucket_name}",
            "GET r2/buckets/{bucket_name}/domains/managed",
            "GET r2/buckets/{bucket_name}/objects",
            "PATCH r2/buckets/{bucket_name}",
            "POST r2/buckets",
            "PUT r2/buckets/{bucket_name}/cors",
            "PUT r2/buckets/{bucket_name}/domains/managed",
            "PUT r2/buckets/{bucket_name}/lifecycle",
            "PUT r2/buckets/{bucket_name}/lock",
        ],
    );
}

const QUEUES: &str = r#"
Queue("plain");
Queue("full", #{ settings: #{ deliveryDelay: 5, deliveryPaused: true, messageRetentionPeriod: 600 } });
Queue("named", #{ name: "first-name", naming: "app" });
"#;
const QUEUES_CHANGED: &str = r#"
Queue("plain", #{ settings: #{ deliveryPaused: true } });
Queue("full");
Queue("named", #{ name: "second-name", naming: "app" });
Queue("theirs", #{ name: "theirs", adopt: true });
"#;
const QUEUES_REFUSED: &str = r#"
Queue("taken", #{ name: "theirs" });
"#;

#[test]
fn queues() {
    let theirs = ("POST", "queues", r#"{"queue_name":"theirs"}"#);
    assert_sent(
        &[theirs],
        &[
            refused(QUEUES_REFUSED),
            run(QUEUES),
            run(QUEUES),
            run(QUEUES_CHANGED),
            refresh(QUEUES_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE queues/{queue_id}",
            "GET queues",
            "GET queues/{queue_id}",
            "PATCH queues/{queue_id}",
            "POST queues",
        ],
    );
}

const OBJECTS: &str = r#"
let room = DurableObject("room", #{ className: "Room" });
let old = DurableObjectNamespace("old", #{ className: "Old", sqlite: false, naming: "stage" });
let api = Worker("api", #{ script: "export class Room {}; export class Old {}; export default {}", url: false, bindings: #{ ROOM: room, OLD: old } });
let rooms = DurableObject("rooms", #{ className: "Room", scriptName: api });
Worker("web", #{ script: "export default {}", url: false, bindings: #{ ROOM: rooms } });
"#;
const OBJECTS_CHANGED: &str = r#"
let room = DurableObject("room", #{ className: "Hall" });
let api = Worker("api", #{ script: "export class Hall {}; export default {}", url: false, bindings: #{ ROOM: room } });
let rooms = DurableObject("rooms", #{ className: "Hall", scriptName: api.name, namespaceId: "0123456789abcdef0123456789abcdef", environment: "production" });
Worker("web", #{ script: "export default {}", url: false, bindings: #{ OTHER: rooms, API: api } });
"#;

#[test]
fn objects() {
    assert_sent(
        &[],
        &[
            run(OBJECTS),
            run(OBJECTS),
            run(OBJECTS_CHANGED),
            refresh(OBJECTS_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE workers/scripts/{script_name}",
            "GET workers/durable_objects/namespaces",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
        ],
    );
}

const WORKFLOWS: &str = r#"
let plain = Workflow("plain", #{ className: "Plain", naming: "stage" });
let named = AlchemyWorkflow("named", #{ workflowName: "named", className: "Named", limits: #{ steps: 5 } });
let api = Worker("api", #{ script: "export default {}", url: false, bindings: #{ PLAIN: plain, NAMED: named } });
let remote = Workflow("remote", #{ workflowName: "named", className: "Named", scriptName: api });
Worker("web", #{ script: "export default {}", url: false, bindings: #{ NAMED: remote } });
"#;
const WORKFLOWS_CHANGED: &str = r#"
let plain = Workflow("plain", #{ className: "Simple" });
let named = Workflow("named", #{ workflowName: "renamed", className: "Named" });
Worker("api", #{ script: "export default {}", url: false, bindings: #{ PLAIN: plain, NAMED: named } });
let theirs = Workflow("theirs", #{ workflowName: "theirs", className: "Theirs", adopt: true });
Worker("keeper", #{ name: "keeper", script: "export default {}", url: false, adopt: true, bindings: #{ THEIRS: theirs } });
"#;
const WORKFLOWS_THEIRS: &str = r#"
let theirs = Workflow("theirs", #{ workflowName: "theirs", className: "Theirs" });
Worker("keeper", #{ name: "keeper", script: "export default {}", url: false, bindings: #{ THEIRS: theirs } });
"#;
const WORKFLOWS_REFUSED: &str = r#"
Workflow("taken", #{ workflowName: "theirs", className: "Theirs" });
"#;

#[test]
fn workflows() {
    assert_sent(
        &[],
        &[
            elsewhere(WORKFLOWS_THEIRS),
            refused(WORKFLOWS_REFUSED),
            run(WORKFLOWS),
            run(WORKFLOWS),
            run(WORKFLOWS_CHANGED),
            refresh(WORKFLOWS_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE workers/scripts/{script_name}",
            "DELETE workflows/{workflow_name}",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "GET workflows/{workflow_name}",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
            "PUT workflows/{workflow_name}",
        ],
    );
}

const CONSUMERS: &str = r#"
let worker = Worker("worker", #{ script: "export default { queue() {} }", url: false });
let dead = Queue("dead");
QueueConsumer("plain", #{ queue: Queue("one"), scriptName: worker });
QueueConsumer("full", #{ queue: Queue("two").id, scriptName: worker.name, settings: #{
    batchSize: 5, maxConcurrency: 2, maxRetries: 1, maxWaitTimeMs: 100, retryDelay: 2, deadLetterQueue: dead,
} });
"#;
const CONSUMERS_CHANGED: &str = r#"
let worker = Worker("worker", #{ script: "export default { queue() {} }", url: false });
let one = Queue("one");
QueueConsumer("plain", #{ queue: one, scriptName: worker, settings: #{ batchSize: 7, deadLetterQueue: "dead-dev" } });
QueueConsumer("full", #{ queue: Queue("three"), scriptName: worker });
Queue("dead");
Queue("two");
"#;
const CONSUMERS_REFUSED: &str = r#"
let other = Worker("other", #{ script: "export default { queue() {} }", url: false });
QueueConsumer("second", #{ queue: Queue("one"), scriptName: other });
"#;
/// Taken over from the state of another stage, which made it.
const CONSUMERS_TAKEN_OVER: &str = r#"
let worker = Worker("worker", #{ name: "worker-dev", script: "export default { queue() {} }", url: false, adopt: true });
QueueConsumer("plain", #{ queue: Queue("one", #{ name: "one-dev", adopt: true }), scriptName: worker, adopt: true });
"#;

#[test]
fn consumers() {
    assert_sent(
        &[],
        &[
            run(CONSUMERS),
            run(CONSUMERS),
            refused(CONSUMERS_REFUSED),
            run(CONSUMERS_CHANGED),
            refresh(CONSUMERS_CHANGED),
            elsewhere(CONSUMERS_TAKEN_OVER),
            DESTROY,
        ],
        &[
            "DELETE queues/{queue_id}",
            "DELETE queues/{queue_id}/consumers/{consumer_id}",
            "DELETE workers/scripts/{script_name}",
            "GET queues",
            "GET queues/{queue_id}",
            "GET queues/{queue_id}/consumers",
            "GET queues/{queue_id}/consumers/{consumer_id}",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "POST queues",
            "POST queues/{queue_id}/consumers",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT queues/{queue_id}/consumers/{consumer_id}",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
        ],
    );
}

const WORKERS: &str = r#"
let db = Database("db");
let kv = KV("kv");
let bucket = Bucket("bucket", #{ jurisdiction: "eu" });
let queue = Queue("queue");
let other = Worker("other", #{ script: "export default {}", url: false });
Worker("api", #{
    entrypoint: "src/main.js",
    bindings: #{ DB: db, KV: kv, BUCKET: bucket, QUEUE: queue, OTHER: other, KEY: secret("hidden"), DATA: #{ a: [1, ()] }, N: 1 },
    env: #{ TEXT: "text" },
    compatibilityDate: "2026-01-01",
    compatibilityFlags: ["global_navigator"],
    compatibility: "node",
    crons: ["0 2 * * *"],
    eventSources: [Queue("events"), #{ queue: Queue("batches"), settings: #{
        batchSize: 5, maxConcurrency: 2, maxRetries: 1, maxWaitTimeMs: 100, retryDelay: 2, deadLetterQueue: queue,
    } }],
    placement: #{ mode: "smart" },
    observability: #{
        enabled: true, headSamplingRate: 0.5,
        logs: #{ enabled: true, invocationLogs: true, persist: true, destinations: ["sink"], headSamplingRate: 1 },
        traces: #{ enabled: true, persist: false, destinations: [], headSamplingRate: 0.1 },
    },
    url: true,
    limits: #{ cpuMs: 50, subrequests: 10 },
    routes: ["api.example.com/v1*", #{ pattern: "api.example.com/v3", zoneId: "0123456789abcdef0123456789abcdef" }, #{ pattern: "api.example.com/v2*", zone: "example.com" }],
    domains: ["api.example.com", #{ name: "www.example.com", zone: "example.com" }],
    tags: ["a"],
    logpush: true,
    assets: #{
        directory: "public", binding: "FILES", htmlHandling: "none", notFoundHandling: "404-page",
        runWorkerFirst: ["/api/*"], _headers: "/*\n  A: b\n", _redirects: "/a /b\n",
    },
});
Worker("static", #{ assets: #{ path: "public" } });
Worker("shared", #{ script: "export default {}", previewSubdomains: true, keepBindings: ["secret_text"], cache: #{ enabled: true, crossVersionCache: false } });
Worker("near", #{ script: "export default {}", placement: #{ mode: "targeted", region: "aws:us-east-1" } });
Worker("host", #{ script: "export default {}", placement: #{ mode: "targeted", host: "example.com:5432" } });
Worker("hostname", #{ script: "export default {}", placement: #{ mode: "targeted", hostname: "example.com" } });
Worker("quiet", #{ script: "export default {}", observability: #{ logs: #{ enabled: false } } });
Worker("named", #{ name: "first-name", script: "export default {}", naming: "app" });
"#;
const BUNDLES: &str = r#"
Worker("bundled", #{
    entrypoint: "src/main.ts",
    sourceMap: false,
    bundle: #{
        minify: true,
        external: ["later:*"],
        define: #{ "VERSION": "'1'" },
        alias: #{ "old": "new" },
        loader: #{ ".svg": "text" },
        conditions: ["custom"],
        jsx: "automatic",
        jsxImportSource: "tiny",
        target: "es2022",
    },
});
Worker("script", #{ entrypoint: "src/old.js", format: "cjs", compatibilityDate: "2026-01-01" });
Worker("plain", #{ entrypoint: "src/main.js", noBundle: true });
"#;
const WORKERS_CHANGED: &str = r#"
let other = Worker("other", #{ script: "export default { a: 1 }", url: true });
Worker("api", #{
    entrypoint: "src/main.js", bindings: #{ OTHER: other }, url: false,
    routes: ["api.example.com/v2*"], domains: ["www.example.com"],
    eventSources: [#{ queue: Queue("batches"), settings: #{ batchSize: 6 } }],
});
Worker("named", #{ name: "second-name", script: "export default {}", naming: "app" });
Worker("theirs", #{ name: "theirs", script: "export default {}", adopt: true });
Worker("shared", #{
    script: "export default {}", previewSubdomains: true, keepBindings: ["secret_text"], cache: #{ enabled: true, crossVersionCache: false },
    tags: ["b"], tailConsumers: [other, "static-dev"],
});
Worker("static", #{ script: "export default {}", assets: "public", compatibilityDate: "2026-01-02" });
"#;
const WORKERS_THEIRS: &str = r#"
Worker("theirs", #{ name: "theirs", script: "export default {}" });
"#;
const WORKERS_BROKEN: &str = r#"
Worker("taken", #{ name: "theirs", script: "export default {}" });
let gone = Queue("gone", #{ name: "gone" });
Worker("dangling", #{ script: "export default {}", limits: #{ cpuMs: 1 }, bindings: #{ QUEUE: gone } });
"#;

#[test]
fn workers() {
    assert_sent(
        &[],
        &[
            elsewhere(WORKERS_THEIRS),
            refused(WORKERS_BROKEN),
            run(WORKERS),
            run(WORKERS),
            run(WORKERS_CHANGED),
            refresh(WORKERS_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE d1/database/{database_id}",
            "DELETE queues/{queue_id}",
            "DELETE queues/{queue_id}/consumers/{consumer_id}",
            "DELETE r2/buckets/{bucket_name}",
            "DELETE storage/kv/namespaces/{namespace_id}",
            "DELETE workers/domains/{domain_id}",
            "DELETE workers/scripts/{script_name}",
            "DELETE /zones/{zone_id}/workers/routes/{route_id}",
            "GET workers/domains",
            "GET queues/{queue_id}",
            "GET queues/{queue_id}/consumers",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "GET workers/subdomain",
            "GET /zones",
            "GET /zones/{zone_id}",
            "GET /zones/{zone_id}/workers/routes",
            "PATCH workers/scripts/{script_name}/script-settings",
            "POST d1/database",
            "POST queues",
            "POST queues/{queue_id}/consumers",
            "POST r2/buckets",
            "POST storage/kv/namespaces",
            "POST workers/assets/upload",
            "POST workers/scripts/{script_name}/assets-upload-session",
            "POST workers/scripts/{script_name}/subdomain",
            "POST /zones",
            "POST /zones/{zone_id}/workers/routes",
            "PUT workers/domains",
            "PUT queues/{queue_id}/consumers/{consumer_id}",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
        ],
    );
}

#[test]
fn bundles() {
    if served::esbuild().is_none() {
        return;
    }
    assert_sent(
        &[],
        &[run(BUNDLES), run(BUNDLES), DESTROY],
        &[
            "DELETE workers/scripts/{script_name}",
            "GET workers/services/{service_name}",
            "GET workers/subdomain",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT workers/scripts/{script_name}",
        ],
    );
}

/// The names of props, with those inside them.
fn names(props: &[Prop], out: &mut BTreeSet<&'static str>) {
    for prop in props {
        out.insert(prop.name);
        inside(&prop.ty, out);
    }
}

fn inside(ty: &PropType, out: &mut BTreeSet<&'static str>) {
    match ty {
        PropType::Object(props) => names(props, out),
        PropType::List(item) | PropType::MapOf(item) => inside(item, out),
        PropType::Either(types) => types.iter().for_each(|ty| inside(ty, out)),
        _ => {}
    }
}

#[derive(Debug)]
struct NoBundler;

impl Bundler for NoBundler {
    fn bundle(&self, _request: &Request<'_>) -> Result<Bundle, BundleError> {
        unreachable!("nothing is bundled")
    }
}

#[test]
fn the_scripts_here_use_every_prop_of_every_kind() {
    let registry = Registry::new();
    let never = Box::new(|| unreachable!("nothing is called"));
    let bundler: Arc<dyn Bundler> = Arc::new(NoBundler);
    cloudflare::register(
        &registry,
        &Arc::new(Client::over_router("local", never)),
        &bundler,
    );
    let workers = format!("{WORKERS}{WORKERS_CHANGED}{BUNDLES}");
    let objects = format!("{OBJECTS}{OBJECTS_CHANGED}");
    let mut scripts = BTreeMap::from([
        ("cloudflare::D1Database", D1),
        ("cloudflare::DurableObjectNamespace", &objects),
        ("cloudflare::KVNamespace", KV),
        ("cloudflare::Queue", QUEUES),
        ("cloudflare::QueueConsumer", CONSUMERS),
        ("cloudflare::R2Bucket", R2),
        ("cloudflare::Worker", &workers),
        ("cloudflare::Workflow", WORKFLOWS),
    ]);
    scripts.extend(super::kinds::SCRIPTS.iter().copied());
    let kinds: Vec<String> = registry.kinds().iter().map(ToString::to_string).collect();
    assert_eq!(
        kinds,
        scripts.keys().copied().collect::<Vec<_>>(),
        "a kind without scripts here"
    );
    for (kind, script) in scripts {
        let provider = registry.get(kind).expect("a kind");
        let schema: &KindSchema = provider.schema();
        let mut wanted = BTreeSet::new();
        names(&schema.props, &mut wanted);
        wanted.retain(|name| !script.contains(&format!("{name}:")));
        assert!(wanted.is_empty(), "{kind}: no script here uses {wanted:?}");
    }
}
