//! Workflows that really run: steps, sleeps, retries, events and restarts behind `alch local serve`, seen through the binding and
//! through the API. As in `local_runtime`, they check nothing where the runtime cannot be had, and say so.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let orders = Workflow("orders", #{ className: "Orders" });
let api = Worker("api", #{ entrypoint: "src/api.js", bindings: #{ ORDERS: orders } });
let remote = Workflow("remote", #{ workflowName: "orders-dev", className: "Orders", scriptName: api });
Worker("web", #{ entrypoint: "src/web.js", bindings: #{ ORDERS: remote } });
app.finalize();
"#;

const API: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
let failures = 0;
export class Orders extends WorkflowEntrypoint {
    async run({ payload }, step) {
        const first = await step.do("first", { retries: { limit: 2, delay: 10 } }, async () => {
            if (payload.flaky && failures++ < 1) throw new Error("planned");
            return { total: payload.amount * 2 };
        });
        await step.sleep("pause", payload.pause ?? 10);
        const note = payload.wait ? await step.waitForEvent("paid", { type: "paid", timeout: "1 hour" }) : undefined;
        return await step.do("second", async () => `total ${first.total}${note ? " " + note.payload.by : ""}`);
    }
}
export default {
    async fetch(request, env) {
        const { pathname, searchParams } = new URL(request.url);
        const id = searchParams.get("id");
        if (pathname === "/start") {
            const params = JSON.parse(searchParams.get("params"));
            return Response.json({ id: (await env.ORDERS.create({ id, params })).id });
        }
        const { status, output } = await (await env.ORDERS.get(id)).status();
        return Response.json({ status, output });
    },
};
"#;

const WEB: &str = r#"
export default {
    async fetch(request, env) {
        const { status } = await (await env.ORDERS.get("one")).status();
        return new Response(status);
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

fn instance(served: &Served, id: &str) -> Value {
    let answer = served.call("GET", &format!("workflows/orders-dev/instances/{id}"), "");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["result"].clone()
}

/// Asks the API until an instance is as wanted.
#[track_caller]
fn until(served: &Served, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let found = instance(served, id);
        if wanted(&found) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "still {found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_instance_completes_and_is_seen_through_the_binding_and_the_api() {
    let Some(project) = project() else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let start = "/start?id=one&params=%7B%22amount%22%3A21%2C%22flaky%22%3Atrue%7D";
    assert_eq!(served.get("api-dev", start), json!({"id": "one"}));
    served.ask_until("api-dev", "/?id=one", |_, body| {
        body == r#"{"status":"complete","output":"total 42"}"#
    });
    assert_eq!(
        served.ask("web-dev", "GET", "/", ""),
        (200, "complete".to_owned())
    );

    let found = instance(&served, "one");
    assert_eq!(found["status"], "complete");
    assert_eq!(found["output"], "total 42");
    assert_eq!(found["params"], json!({"amount": 21, "flaky": true}));
    let steps: Vec<(Value, Value)> = found["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["type"].clone(), step["output"].clone()))
        .collect();
    assert_eq!(
        json!(steps),
        json!([
            ["step", "{\"total\":42}"],
            ["sleep", null],
            ["step", "total 42"]
        ])
    );
    let attempts = found["steps"][0]["attempts"].as_array().unwrap();
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| attempt["success"].clone())
            .collect::<Vec<_>>(),
        [json!(false), json!(true)]
    );
    assert_eq!(attempts[0]["error"]["message"], "planned");

    // Made, sent to, paused and stopped by the API.
    let instances = "workflows/orders-dev/instances";
    let made = served.call(
        "POST",
        instances,
        r#"{"instance_id": "two", "params": {"amount": 1, "wait": true}}"#,
    );
    assert!(made.contains(r#""id":"two""#), "{made}");
    until(&served, "two", |found| {
        found["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() == 3)
    });
    served.call(
        "POST",
        &format!("{instances}/two/events/paid"),
        r#"{"by": "card"}"#,
    );
    let found = until(&served, "two", |found| found["status"] == "complete");
    assert_eq!(found["output"], "total 2 card");
    served.call(
        "POST",
        &format!("{instances}/batch"),
        r#"[{"instance_id": "three", "params": {"amount": 1, "wait": true}}]"#,
    );
    until(&served, "three", |found| found["status"] == "running");
    served.call(
        "PATCH",
        &format!("{instances}/three/status"),
        r#"{"status": "terminate"}"#,
    );
    until(&served, "three", |found| found["status"] == "terminated");
    let list: Value = serde_json::from_str(&served.call("GET", instances, "")).unwrap();
    let mut listed: Vec<(String, String)> = list["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (
                item["id"].as_str().unwrap().to_owned(),
                item["status"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    listed.sort();
    assert_eq!(
        listed,
        [
            ("one", "complete"),
            ("three", "terminated"),
            ("two", "complete")
        ]
        .map(|(id, status)| (id.to_owned(), status.to_owned()))
    );
}

#[test]
fn a_sleeping_instance_outlives_the_process() {
    let Some(project) = project() else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let start = "/start?id=long&params=%7B%22amount%22%3A5%2C%22pause%22%3A2000%7D";
    served.get("api-dev", start);
    until(&served, "long", |found| {
        found["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() == 2)
    });
    served.signal(Signal::KILL);
    served.gone();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let found = until(&served, "long", |found| found["status"] == "complete");
    assert_eq!(found["output"], "total 10");
    assert_eq!(
        found["steps"][0]["attempts"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn a_workflow_is_planned_made_and_deleted() {
    let project = Project::new();
    let script = |workflow: &str, bindings: &str| {
        format!(
            r#"
let app = alchemy("shop");
{workflow}
Worker("api", #{{ script: "export default {{}}", bindings: #{{ {bindings} }} }});
app.finalize();
"#
        )
    };
    let one = r#"let orders = AlchemyWorkflow("orders", #{ className: "Orders", limits: #{ steps: 50 } });"#;
    project.file("alchemy.run.rhai", script(one, "ORDERS: orders"));
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + orders (cloudflare::Workflow)  orders-dev  # not in state
      + className: "Orders"
      + limits.steps: 50
  + api (cloudflare::Worker)  api-dev  # not in state
      + bindings.ORDERS: "${orders}"
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + observability.enabled: true
      + script: "export default {}"
      + url: true
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).success();
    project.alch(["plan", "--detailed-exitcode"]).success();
    project.file(
        "alchemy.run.rhai",
        script(&one.replace("50", "60"), "ORDERS: orders"),
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  ~ orders (cloudflare::Workflow)  orders-dev  # limits changed
      ~ limits.steps: 50 -> 60
  ~ api (cloudflare::Worker)  api-dev  # bindings changed
      ~ bindings.ORDERS: "${orders}" -> "${orders}"
Plan: 0 to create, 2 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
    project.alch(["run"]).success();
    // Another Worker that binds it has to say whose it is.
    let second =
        r#"Worker("second", #{ script: "export default {}", bindings: #{ ORDERS: orders } });"#;
    project.file(
        "alchemy.run.rhai",
        script(&format!("{one}\n{second}"), "ORDERS: orders"),
    );
    project.alch(["run", "--concurrency", "1"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
~ updating  orders (cloudflare::Workflow)
  updated   orders  orders-dev  [TIME]
+ creating  second (cloudflare::Worker)
  created   second  second-dev  [TIME]
1 resource was not reached and stays
error[E0208]: `api` and `second` would both have the workflow `orders-dev` to run
 --> alchemy.run.rhai:5:1
  |
4 | Worker("second", #{ script: "export default {}", bindings: #{ ORDERS: orders } });
  | ------ the other one
5 | Worker("api", #{ script: "export default {}", bindings: #{ ORDERS: orders } });
  | ^^^^^^
  |
  = help: it runs in one Worker; to call it from the other one, bind another `Workflow` there, with `workflowName: "orders-dev"` and the first Worker as `scriptName`
1 created, 1 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 7 API calls)

"#]]);
    project.file("alchemy.run.rhai", script("", ""));
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
~ updating  api (cloudflare::Worker)
  updated   api  api-dev  [TIME]
- deleting  second (cloudflare::Worker)
  deleted   second  second-dev  [TIME]
- deleting  orders (cloudflare::Workflow)
  deleted   orders  orders-dev  [TIME]
0 created, 1 updated, 2 deleted, 0 unchanged in [TIME] (critical path [TIME], 6 API calls)

"#]]);
}
