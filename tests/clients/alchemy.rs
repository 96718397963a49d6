//! The TypeScript library alchemy: one of each resource, up twice, then destroyed.

use super::{Session, assert_holds};
use crate::support::{Project, served::with_runtime};

const SCRIPT: &str = r#"
import alchemy from "alchemy";
import { D1Database, KVNamespace, Queue, R2Bucket, Worker } from "alchemy/cloudflare";

const phase = process.argv.includes("--destroy") ? "destroy" : "up";
const app = await alchemy("foreign", { phase, password: "p" });
const db = await D1Database("db", { name: "foreign", migrationsDir: "./migrations" });
const cache = await KVNamespace("cache", { title: "foreign", values: [{ key: "a", value: "from alchemy" }] });
const files = await R2Bucket("files", { name: "foreign", empty: true });
const jobs = await Queue("jobs", { name: "foreign" });
const worker = await Worker("api", {
    name: "foreign",
    entrypoint: "./src/index.ts",
    compatibilityDate: "2026-01-01",
    bindings: { DB: db, CACHE: cache, FILES: files, JOBS: jobs, KEY: alchemy.secret("planted-secret") },
});
console.log(`id of the database: ${db.id}`);
await app.finalize();
"#;

const WORKER: &str = r#"
interface Env { DB: any; CACHE: any; FILES: any; JOBS: any; KEY: string }
export default {
    async fetch(_request: Request, env: Env): Promise<Response> {
        const rows = await env.DB.prepare("SELECT name FROM items").all();
        await env.FILES.put("left-behind", "x");
        return Response.json({ rows: rows.results, value: await env.CACHE.get("a"), key: env.KEY });
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
    let first = run(&[]);
    let answer = r#"{"rows":[{"name":"one"}],"value":"from alchemy","key":"planted-secret"}"#;
    session
        .served
        .ask_until("foreign", "/", |_, body| body == answer);
    let id = session.list("d1/database")[0]["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_holds(&first, &[&id]);
    assert_holds(&run(&[]), &[&id]);
    session
        .served
        .ask_until("foreign", "/", |_, body| body == answer);
    for path in [
        "d1/database",
        "storage/kv/namespaces",
        "queues",
        "workers/scripts",
    ] {
        assert_eq!(session.list(path).as_array().unwrap().len(), 1, "{path}");
    }
    run(&["--destroy"]);
    session.assert_empty();
}
