//! The TypeScript library alchemy: one of each resource, up twice, then destroyed.

use super::{Session, assert_holds};
use crate::support::{Project, served::with_runtime};

const SCRIPT: &str = r#"
import alchemy from "alchemy";
import {
    Assets, CustomDomain, D1Database, DnsRecords, DurableObjectNamespace, Hyperdrive, KVNamespace, Queue, R2Bucket, Route,
    SecretsStore, VectorizeIndex, Worker, Workflow, Zone,
} from "alchemy/cloudflare";

const phase = process.argv.includes("--destroy") ? "destroy" : "up";
const app = await alchemy("foreign", { phase, password: "p" });
const db = await D1Database("db", { name: "foreign", migrationsDir: "./migrations" });
const cache = await KVNamespace("cache", { title: "foreign", values: [{ key: "a", value: "from alchemy" }] });
const files = await R2Bucket("files", {
    name: "foreign",
    empty: true,
    cors: [{ allowed: { origins: ["*"], methods: ["GET"] } }],
    lifecycle: [{
        id: "old",
        conditions: { prefix: "tmp/" },
        deleteObjectsTransition: { condition: { type: "Age", maxAge: 86400 } },
    }],
});
const jobs = await Queue("jobs", { name: "foreign" });
await SecretsStore("store", { name: "foreign", secrets: { SHARED: alchemy.secret("shared-secret") } });
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
        VECTORS: vectors, POOL: pool, ASSETS: site, SHIPPING: shipping,
    },
    assets: { run_worker_first: ["/"] },
    eventSources: [jobs],
    crons: ["0 3 * * *"],
});
const zone = await Zone("zone", { name: "example.com" });
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

interface Env { DB: any; CACHE: any; FILES: any; JOBS: any; ROOM: any; KEY: string }

export class Room extends DurableObject {
    async add(n: number): Promise<number> {
        const sum = ((await this.ctx.storage.get<number>("sum")) ?? 0) + n;
        await this.ctx.storage.put("sum", sum);
        return sum;
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
        const sum = await env.ROOM.get(env.ROOM.idFromName("one")).add(0);
        return Response.json({ rows: rows.results, value: await env.CACHE.get("a"), key: env.KEY, sum });
    },
    async queue(batch: any, env: Env): Promise<void> {
        const room = env.ROOM.get(env.ROOM.idFromName("one"));
        for (const message of batch.messages) await room.add(message.body);
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
        let answer = format!(r#"{{"rows":[{{"name":"one"}}],{rest},"sum":{sum}}}"#);
        session
            .served
            .ask_until("foreign", "/", |_, body| body == answer)
    };
    let first = run(&[]);
    wait(0);
    // Through the queue and its consumer into the object.
    session.served.ask("foreign", "POST", "/", "7");
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
        "queues",
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
    let page = session.served.ask("foreign", "GET", "/page", "");
    assert_eq!(page, (200, "<h1>a page</h1>".to_owned()));
    run(&["--destroy"]);
    session.assert_empty();
    for path in [
        "workers/domains",
        "vectorize/v2/indexes",
        "hyperdrive/configs",
    ] {
        assert_eq!(session.list(path), serde_json::json!([]), "{path}");
    }
}
