//! wrangler on Workers that really run: deploy, secrets, versions, rollback, Durable Objects, consumers, delete.

use serde_json::{Value, json};

use super::{Session, assert_holds, eventually};
use crate::support::{Project, served::with_runtime};

/// A Worker that uses each binding and tells what it has.
const WORKER: &str = r#"
import text from "./note.txt";
export default {
    async fetch(request, env) {
        await env.CACHE.put("seen", new URL(request.url).pathname);
        await env.FILES.put("one", "object");
        await env.JOBS.send({ n: 1 });
        const row = await env.DB.prepare("SELECT ? AS n").bind(7).first();
        return Response.json({
            version: VERSION, text: text.trim(), greeting: env.GREETING, key: env.API_KEY ?? null,
            seen: await env.CACHE.get("seen"), object: await (await env.FILES.get("one")).text(), n: row.n,
        });
    },
    async queue(batch) {
        console.log(batch.messages.length);
    },
};
"#;

#[test]
fn wrangler_deploys_a_worker_that_answers() {
    let Some(session) = with_runtime(Project::new()).and_then(Session::start) else {
        return;
    };
    let w = |line: &str| session.wrangler(&line.split(' ').collect::<Vec<_>>());
    let write = |version: u32| {
        let source = WORKER.replace("VERSION", &version.to_string());
        session.project.file("src/index.js", source);
    };
    w("d1 create shop");
    w("kv namespace create shop");
    w("r2 bucket create shop");
    w("queues create shop");
    let database = session.list("d1/database")[0]["uuid"].clone();
    let namespace = session.list("storage/kv/namespaces")[0]["id"].clone();
    session
        .project
        .file("src/note.txt", "a text module\n")
        .file(
        "wrangler.jsonc",
        json!({
            "name": "shop", "main": "src/index.js", "compatibility_date": "2026-01-01",
            "vars": {"GREETING": "hello"},
            "d1_databases": [{"binding": "DB", "database_name": "shop", "database_id": database}],
            "kv_namespaces": [{"binding": "CACHE", "id": namespace}],
            "r2_buckets": [{"binding": "FILES", "bucket_name": "shop"}],
            "queues": {"producers": [{"binding": "JOBS", "queue": "shop"}]},
        })
        .to_string(),
    );

    write(1);
    assert_holds(
        &w("deploy"),
        &["Uploaded shop", "Deployed shop", "Current Version ID"],
    );
    answers(&session, 1, None);
    write(2);
    w("deploy --message second");
    answers(&session, 2, None);

    // A secret makes a version of its own.
    session
        .project
        .file("secrets.json", json!({"API_KEY": "from bulk"}).to_string());
    w("secret bulk secrets.json");
    answers(&session, 2, Some("from bulk"));
    assert_eq!(
        session.wrangler_json(&["secret", "list"]),
        json!([{"name": "API_KEY", "type": "secret_text"}])
    );
    // A deployment keeps it.
    write(3);
    w("deploy");
    answers(&session, 3, Some("from bulk"));
    w("secret delete API_KEY");
    answers(&session, 3, None);

    // A version beside the deployed one, then in its place.
    write(4);
    let uploaded = w("versions upload --message fourth --tag v4");
    assert_holds(&uploaded, &["Worker Version ID"]);
    answers(&session, 3, None);
    let versions = session.wrangler_json(&["versions", "list", "--json"]);
    let newest = versions.as_array().unwrap().last().unwrap();
    assert_eq!(newest["annotations"]["workers/message"], "fourth");
    let id = newest["id"].as_str().unwrap();
    assert_holds(&uploaded, &[id]);
    assert_holds(&w(&format!("versions view {id}")), &[id, "GREETING"]);
    w(&format!("versions deploy {id}@100% -y --message live"));
    answers(&session, 4, None);
    let deployments = session.wrangler_json(&["deployments", "list", "--json"]);
    let latest = deployments.as_array().unwrap().last().unwrap();
    assert_eq!(
        (
            &latest["versions"],
            &latest["annotations"]["workers/message"]
        ),
        (
            &json!([{"version_id": id, "percentage": 100}]),
            &json!("live")
        )
    );
    assert_holds(&w("deployments status"), &[id]);
    w("rollback --yes --message back");
    answers(&session, 3, None);

    w("queues consumer add shop shop");
    assert_holds(
        &w("queues info shop"),
        &["Number of Producers: 1", "Number of Consumers: 1"],
    );
    w("queues consumer remove shop shop");

    assert_holds(
        &w("delete --name shop --force"),
        &["Successfully deleted shop"],
    );
    let (status, _) = session.served.ask("shop", "GET", "/", "");
    assert_eq!(status, 404);
    w("d1 delete shop -y");
    w("r2 object delete shop/one --remote");
    w("r2 bucket delete shop");
    w("queues delete shop");
    w("kv namespace delete -y --binding CACHE");
    session.assert_empty();
}

/// A Durable Object that a consumer of a queue adds to.
const ROOM: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {
    async add(n) {
        const sum = ((await this.ctx.storage.get("sum")) ?? 0) + n;
        await this.ctx.storage.put("sum", sum);
        return sum;
    }
}
const room = (env) => env.ROOM.get(env.ROOM.idFromName("one"));
export default {
    async fetch(request, env) {
        if (request.method === "POST") await env.JOBS.send(Number(await request.text()));
        return Response.json(await room(env).add(0));
    },
    async queue(batch, env) {
        for (const message of batch.messages) await room(env).add(message.body);
    },
    async scheduled() {},
};
"#;

#[test]
fn wrangler_deploys_durable_objects_consumers_and_crons() {
    let Some(session) = with_runtime(Project::new()).and_then(Session::start) else {
        return;
    };
    let w = |line: &str| session.wrangler(&line.split(' ').collect::<Vec<_>>());
    w("queues create rooms");
    session.project.file("src/index.js", ROOM).file(
        "wrangler.jsonc",
        json!({
            "name": "rooms", "main": "src/index.js", "compatibility_date": "2026-01-01",
            "durable_objects": {"bindings": [{"name": "ROOM", "class_name": "Room"}]},
            "migrations": [{"tag": "v1", "new_sqlite_classes": ["Room"]}],
            "queues": {
                "producers": [{"binding": "JOBS", "queue": "rooms"}],
                "consumers": [{"queue": "rooms", "max_batch_size": 1, "max_batch_timeout": 0}],
            },
            "triggers": {"crons": ["0 3 * * *"]},
        })
        .to_string(),
    );
    for sum in ["7", "14"] {
        assert_holds(
            &w("deploy"),
            &[
                "schedule: 0 3 * * *",
                "Producer for rooms",
                "Consumer for rooms",
            ],
        );
        session
            .served
            .ask_until("rooms", "/", |status, _| status == 200);
        session.served.ask("rooms", "POST", "/", "7");
        session
            .served
            .ask_until("rooms", "/", |_, body| body == sum);
    }
    assert_holds(&w("queues info rooms"), &["Consumers: worker:rooms"]);
    w("delete --name rooms --force");
    w("queues delete rooms");
    session.assert_empty();
    assert_eq!(
        session.list("workers/durable_objects/namespaces"),
        json!([])
    );
}

/// A page, a workflow, and a word on the console.
const SITE: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Count extends WorkflowEntrypoint {
    async run(event, step) {
        const one = await step.do("one", async () => event.payload.start + 1);
        return step.do("two", async () => one + 1);
    }
}
export default {
    async fetch(request, env) {
        const { pathname } = new URL(request.url);
        if (pathname === "/api/key") {
            console.log("asked for the key");
            return Response.json(env.API_KEY ?? null);
        }
        const counted = await env.COUNT.create({ params: { start: 40 } });
        return Response.json(counted.id);
    },
};
"#;

#[test]
fn wrangler_deploys_assets_and_workflows_and_hears_what_is_said() {
    let Some(session) = with_runtime(Project::new()).and_then(Session::start) else {
        return;
    };
    let w = |line: &str| session.wrangler(&line.split(' ').collect::<Vec<_>>());
    let project = &session.project;
    project.file("src/index.js", SITE).file(
        "wrangler.jsonc",
        json!({
            "name": "site", "main": "src/index.js", "compatibility_date": "2026-01-01",
            "assets": {"directory": "./public", "not_found_handling": "404-page", "run_worker_first": ["/api/*"]},
            "workflows": [{"name": "count", "binding": "COUNT", "class_name": "Count"}],
        })
        .to_string(),
    );
    project.file("public/index.html", "<h1>the page</h1>");
    project.file("public/404.html", "<h1>no such page</h1>");
    assert_holds(&w("deploy"), &["Deployed site", "workflow: count"]);
    let page = |path: &str, wanted: (u16, &str)| {
        session
            .served
            .ask_until("site", path, |status, body| (status, body) == wanted);
    };
    page("/", (200, "<h1>the page</h1>"));
    page("/nowhere", (404, "<h1>no such page</h1>"));
    // Only the page that changed goes up.
    project.file("public/index.html", "<h1>the new page</h1>");
    assert_holds(&w("deploy"), &["Uploaded 1 file"]);
    page("/", (200, "<h1>the new page</h1>"));
    page("/nowhere", (404, "<h1>no such page</h1>"));

    let id = session.served.get("site", "/api/count");
    let instance = format!("workflows/count/instances/{}", id.as_str().unwrap());
    let ended = eventually(|| {
        let answer: Value =
            serde_json::from_str(&session.served.call("GET", &instance, "")).unwrap();
        (answer["result"]["status"] == "complete").then(|| answer["result"]["output"].clone())
    });
    assert_eq!(ended, 42);
    assert_holds(&w("workflows list"), &["count", "site"]);
    assert_holds(&w("workflows instances list count"), &["ompleted"]);
    let latest = w("workflows instances describe count latest");
    assert_holds(&latest, &["ompleted", id.as_str().unwrap()]);

    let mut put = session.program("wrangler");
    put.args(["secret", "put", "API_KEY"]);
    session.told_with("a secret\n", 0, &mut put);
    session
        .served
        .ask_until("site", "/api/key", |_, body| body == "\"a secret\"");

    let mut tail = session.program("wrangler");
    tail.args(["tail", "site", "--format", "json"]);
    session.until(&mut tail, "asked for the key", || {
        session.served.ask("site", "GET", "/api/key", "");
    });

    w("delete --name site --force");
    w("workflows delete count");
    session.assert_empty();
}

/// Waits until this version answers, with this secret.
#[track_caller]
fn answers(session: &Session, version: u32, key: Option<&str>) {
    let wanted = json!({
        "version": version, "text": "a text module", "greeting": "hello", "key": key,
        "seen": "/here", "object": "object", "n": 7,
    });
    session.served.ask_until("shop", "/here", |status, body| {
        status == 200 && serde_json::from_str::<Value>(body).ok().as_ref() == Some(&wanted)
    });
}
