//! The TypeScript library alchemy: one of each resource that both sides have, up twice, then destroyed.
//!
//! Every kind of the library that talks to the API takes its base URL, so all of them are here. What alch has and the library
//! has not as a resource: bindings to a Service by name (a Worker is bound as it is), and instances of `Domain`, which is alch's own
//! name for a custom domain by stage. What only Cloudflare itself can do is left out: purchases of zones (`Zone` finds or adds one
//! that is there), and the `cloudflared` process of a tunnel.

use super::{Session, assert_holds};
use crate::support::{Project, served::with_runtime};

const SCRIPT: &str = r#"
import alchemy from "alchemy";
import {
    AiGateway, AnalyticsEngineDataset, Assets, CustomDomain, D1Database, DnsRecords, DurableObjectNamespace, Hyperdrive, Json,
    KVNamespace, Queue, QueueConsumer, R2Bucket, R2BucketCustomDomain, R2BucketNotification, R2Object, RateLimit, Route, Secret,
    SecretsStore, Self, Tunnel, VectorizeIndex, VersionMetadata, Worker, Workflow, Zone,
} from "alchemy/cloudflare";

const phase = process.argv.includes("--destroy") ? "destroy" : "up";
const app = await alchemy("foreign", { phase, password: "p" });
const db = await D1Database("db", { name: "foreign", migrationsDir: "./migrations" });
const cache = await KVNamespace("cache", { title: "foreign", values: [{ key: "a", value: "from alchemy" }] });
const files = await R2Bucket("files", {
    name: "foreign",
    empty: true,
    devDomain: true,
    cors: [{ allowed: { origins: ["*"], methods: ["GET"] } }],
    lifecycle: [{
        id: "old",
        conditions: { prefix: "tmp/" },
        deleteObjectsTransition: { condition: { type: "Age", maxAge: 86400 } },
    }],
});
const jobs = await Queue("jobs", { name: "foreign" });
const more = await Queue("more", { name: "foreign-more" });
await R2Object("object", { bucket: files, key: "hello.txt", content: "hello" });
await R2BucketNotification("told", { bucket: files, queue: more, eventTypes: ["object-create"], prefix: "left-" });
const gateway = await AiGateway("gateway", { gatewayName: "foreign" });
const tunnel = await Tunnel("tunnel", {
    name: "foreign",
    tunnelSecret: alchemy.secret("cGxhbnRlZC1zZWNyZXQtb2YtMzItYnl0ZXMtMDAwMDA="),
    ingress: [{ service: "http_status:404" }],
});
const store = await SecretsStore("store", { name: "foreign", secrets: { SHARED: alchemy.secret("shared-secret") } });
const single = await Secret("single", { store, name: "SINGLE", value: alchemy.secret("single-secret") });
const vectors = await VectorizeIndex("vectors", { name: "foreign", dimensions: 3, metric: "cosine" });
const pool = await Hyperdrive("pool", {
    name: "foreign",
    origin: { host: "db.example.com", port: 5432, database: "d", user: "u", password: alchemy.secret("planted-password") },
});
const site = await Assets({ path: "./public" });
const shipping = Workflow("shipping", { workflowName: "foreign", className: "Shipping" });
const room = DurableObjectNamespace("room", { className: "Room", sqlite: true });
const worker = await Worker("api", {
    name: "foreign",
    entrypoint: "./src/index.ts",
    compatibilityDate: "2026-01-01",
    bindings: {
        DB: db, CACHE: cache, FILES: files, JOBS: jobs, ROOM: room, KEY: alchemy.secret("planted-secret"),
        VECTORS: vectors, POOL: pool, ASSETS: site, SHIPPING: shipping, MORE: more, SINGLE: single,
        LIMIT: RateLimit({ namespace_id: 1001, simple: { limit: 100, period: 60 } }),
        EVENTS: AnalyticsEngineDataset("events", { dataset: "foreign" }),
        VERSION: VersionMetadata(), DATA: Json({ a: [1] }), ITSELF: Self,
    },
    assets: { run_worker_first: ["/"] },
    eventSources: [jobs],
    crons: ["0 3 * * *"],
});
await QueueConsumer("consumer", { queue: more, scriptName: worker.name, settings: { maxWaitTimeMs: 0 } });
const zone = await Zone("zone", { name: "example.com" });
await R2BucketCustomDomain("files-domain", { bucketName: files.name, domain: "files.example.com", zone });
await Route("route", { pattern: "example.com/api/*", script: worker });
await CustomDomain("domain", { name: "app.example.com", workerName: "foreign", zoneId: zone.id });
await DnsRecords("records", {
    zoneId: zone.id,
    records: [{ name: "mail.example.com", type: "A", content: "192.0.2.1", proxied: false }],
});
console.log(`id of the database: ${db.id}`);
await app.finalize();
"#;

const WORKER: &str = r#"
import { DurableObject, WorkflowEntrypoint } from "cloudflare:workers";

interface Env {
    DB: any; CACHE: any; FILES: any; JOBS: any; ROOM: any; KEY: string;
    DATA: any; SINGLE: any; VERSION: any; LIMIT: any; EVENTS: any;
}

export class Room extends DurableObject {
    // A queue delivers at least once: a message that comes again counts once.
    async add(id: string, n: number): Promise<number> {
        const seen = (await this.ctx.storage.get<Record<string, number>>("seen")) ?? {};
        seen[id] = n;
        await this.ctx.storage.put("seen", seen);
        return Object.values(seen).reduce((sum, one) => sum + one, 0);
    }
}

export class Shipping extends WorkflowEntrypoint {
    async run(): Promise<void> {}
}

export default {
    async fetch(request: Request, env: Env): Promise<Response> {
        if (request.method === "POST") await env.JOBS.send(Number(await request.text()));
        const rows = await env.DB.prepare("SELECT name FROM items").all();
        await env.FILES.put("left-behind", "x");
        const sum = await env.ROOM.get(env.ROOM.idFromName("one")).add("none", 0);
        const single = await env.SINGLE.get();
        const bound = [env.DATA, single, typeof env.VERSION.id, (await env.LIMIT.limit({ key: "k" })).success];
        env.EVENTS.writeDataPoint({ blobs: ["x"] });
        const told = await env.CACHE.get("told");
        return Response.json({ rows: rows.results, value: await env.CACHE.get("a"), key: env.KEY, sum, bound, told });
    },
    async queue(batch: any, env: Env): Promise<void> {
        if (batch.queue === "foreign-more") {
            for (const { body } of batch.messages) await env.CACHE.put("told", body.object.key);
            return;
        }
        const room = env.ROOM.get(env.ROOM.idFromName("one"));
        for (const message of batch.messages) await room.add(message.id, message.body);
    },
};
"#;

#[test]
fn the_typescript_library_goes_up_twice_and_away() {
    let Some(session) = with_runtime(Project::new()).and_then(Session::start) else {
        return;
    };
    session
        .project
        .file("alchemy.run.ts", SCRIPT)
        .file("src/index.ts", WORKER)
        .file(
            "migrations/0001_items.sql",
            "CREATE TABLE items(name TEXT); INSERT INTO items VALUES ('one');",
        )
        .file("public/page.html", "<h1>a page</h1>")
        .file("package.json", r#"{"name": "foreign", "type": "module"}"#);
    std::os::unix::fs::symlink(
        session.installed.join("node_modules"),
        session.project.path("node_modules"),
    )
    .unwrap();
    let bun = format!(
        "@oven/bun-{}-{}/bin/bun",
        std::env::consts::OS.replace("macos", "darwin"),
        match (std::env::consts::OS, std::env::consts::ARCH) {
            (_, "x86_64") => "x64",
            _ => "aarch64",
        }
    );
    let run = |more: &[&str]| {
        let mut command = session.program(&bun);
        session.told(0, command.arg("alchemy.run.ts").args(more))
    };
    let wait = |sum: u32| {
        let rest = r#""value":"from alchemy","key":"planted-secret""#;
        // The bucket tells the other queue of what the Worker leaves in it.
        let bound = r#""bound":[{"a":[1]},"single-secret","string",true],"told":"left-behind""#;
        let answer = format!(r#"{{"rows":[{{"name":"one"}}],{rest},"sum":{sum},{bound}}}"#);
        session
            .served
            .ask_until("foreign", "/", |_, body| body == answer)
    };
    let first = run(&[]);
    wait(0);
    // Through the queue and its consumer into the object.
    let (status, answer) = session.served.ask("foreign", "POST", "/", "7");
    assert_eq!(status, 200, "{answer}");
    wait(7);
    let id = session.list("d1/database")[0]["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_holds(&first, &[&id]);
    assert_holds(&run(&[]), &[&id]);
    wait(7);
    for path in [
        "d1/database",
        "storage/kv/namespaces",
        "ai-gateway/gateways",
        "cfd_tunnel?is_deleted=false",
        "workers/scripts",
        "workers/domains",
        "workers/durable_objects/namespaces",
        "workflows",
        "vectorize/v2/indexes",
        "hyperdrive/configs",
        "secrets_store/stores",
    ] {
        assert_eq!(session.list(path).as_array().unwrap().len(), 1, "{path}");
    }
    assert_eq!(session.list("queues").as_array().unwrap().len(), 2);
    let managed = session.list("r2/buckets/foreign/domains/managed");
    assert_eq!(managed["enabled"], true);
    let domains = session.list("r2/buckets/foreign/domains/custom");
    assert_eq!(domains["domains"][0]["domain"], "files.example.com");
    let public = format!("pub-{}", managed["bucketId"].as_str().unwrap());
    assert_eq!(
        session.served.ask(&public, "GET", "/hello.txt", ""),
        (200, "hello".to_owned())
    );
    let page = session.served.ask("foreign", "GET", "/page", "");
    assert_eq!(page, (200, "<h1>a page</h1>".to_owned()));
    run(&["--destroy"]);
    session.assert_empty();
    for path in [
        "workers/domains",
        "vectorize/v2/indexes",
        "hyperdrive/configs",
        "ai-gateway/gateways",
        "cfd_tunnel?is_deleted=false",
    ] {
        assert_eq!(session.list(path), serde_json::json!([]), "{path}");
    }
}
