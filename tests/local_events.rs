//! What happens in Workers without a request: messages of queues, times. Over `alch local serve`, as in `local_runtime`.

use serde_json::{Value, json};

use crate::support::{
    Project,
    served::{Served, with_runtime},
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
    while bodies.len() < 2 {
        bodies.extend(
            pulled(&served, &dead)
                .iter()
                .map(|message| message["body"].clone()),
        );
    }
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
