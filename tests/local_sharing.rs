//! Data that Workers and the API write to at the same moment.

use std::thread;

use serde_json::Value;

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("sharing");
Worker("w", #{
    script: `export default {
        async fetch(request, env) {
            const { pathname } = new URL(request.url);
            const [, product, key] = pathname.split("/");
            if (product === "d1") await env.DB.prepare("INSERT INTO t(x) VALUES (?)").bind(key).run();
            if (product === "kv") await env.KV.put(key, "of the Worker");
            if (product === "r2") await env.FILES.put(key, "of the Worker");
            if (product === "counts") return Response.json([
                await env.DB.prepare("SELECT count(*) FROM t").first("count(*)"),
                (await env.KV.list()).keys.length,
                (await env.FILES.list()).objects.length,
            ]);
            return new Response("done");
        },
    }`,
    bindings: #{ DB: Database("db"), KV: KV("kv"), FILES: Bucket("files") },
});
app.finalize();
"#;

/// Writes by each side to each product.
const WRITES: usize = 60;

#[test]
fn both_sides_write_at_once_and_no_request_fails() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let id = |path: &str, field: &str| -> String {
        let listed: Value = serde_json::from_str(&served.call("GET", path, "")).unwrap();
        listed["result"][0][field].as_str().unwrap().to_owned()
    };
    let query = format!("d1/database/{}/query", id("d1/database", "uuid"));
    let values = format!(
        "storage/kv/namespaces/{}/values",
        id("storage/kv/namespaces", "id")
    );
    let create = r#"{"sql": "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)"}"#;
    served.call("POST", &query, create);
    let served = &served;
    thread::scope(|scope| {
        for product in ["d1", "kv", "r2"] {
            scope.spawn(move || {
                for index in 0..WRITES {
                    let path = format!("/{product}/w{index}");
                    let (status, body) = served.ask("w-dev", "GET", &path, "");
                    assert_eq!(status, 200, "{path}: {body}");
                }
            });
        }
        // `call` wants an answer of 200, too. A statement that writes much holds the lock for a while.
        scope.spawn(|| {
            let sql = r#"{"sql": "INSERT INTO t(x) SELECT value FROM json_each(?)", "params": ["[1, 2, 3, 4, 5]"]}"#;
            (0..WRITES).for_each(|_| drop(served.call("POST", &query, sql)));
        });
        scope.spawn(|| {
            for index in 0..WRITES {
                served.call("PUT", &format!("{values}/a{index}"), "of the API");
            }
        });
        scope.spawn(|| {
            for index in 0..WRITES {
                let path = format!("r2/buckets/files-dev/objects/a{index}");
                served.call("PUT", &path, "of the API");
            }
        });
    });
    let counts = served.get("w-dev", "/counts");
    assert_eq!(
        counts,
        serde_json::json!([WRITES * 6, WRITES * 2, WRITES * 2])
    );
}
