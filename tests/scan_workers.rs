//! What a Worker of state declares itself - domains, routes, queues it consumes - is nobody's unknown object.

use snapbox::str;

use crate::support::{Project, cloud::ServedCloud, without_ids};

const SCRIPT: &str = r#"
alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
Worker("api", #{
    script: "export default { fetch() {}, queue() {} }",
    routes: ["example.com/*"], domains: ["api.example.com"], eventSources: [jobs],
});
"#;

#[test]
fn a_scan_leaves_out_what_a_worker_declares() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project.alch(["scan"]).check(str![[r#"
exit 0
-- stdout
// state knows all of the 6 objects on target local
-- stderr
0 of 6 objects unknown to state (19 API calls)

"#]]);
    project
        .alch(["import", "CustomDomain", "api.example.com"])
        .check(str![[r#"
exit 1
-- stderr
error[E0412]: `api.example.com` (cloudflare::CustomDomain) is in state already, as part of `shop/dev/api`
 = note: nothing was changed
 = help: take it out of the props of `api`, run, and declare it by itself

"#]]);

    // What leads to the Worker and is not among its props is somebody else's.
    let project = Project::with_script(&SCRIPT.replace(
        "    routes: [\"example.com/*\"], domains: [\"api.example.com\"], eventSources: [jobs],\n",
        "",
    ));
    let more = "CustomDomain(\"api.example.com\", #{ worker: \"api-dev\" });\n";
    project.alch(["run"]).success();
    let script = project.read("alchemy.run.rhai");
    project.file("alchemy.run.rhai", script + more);
    project.alch(["run"]).success();
    let forgotten = ["state", "rm", "api.example.com", "--yes"];
    project.alch(forgotten).success();
    let text = project.alch(["scan"]).success().stdout;
    assert!(text.contains("cloudflare::CustomDomain: 1"), "{text}");
}

/// Two Workers of somebody else, one of which cannot be imported.
const THEIRS: &str = r#"
alchemy("theirs");
let zone = Zone("example.com");
let jobs = Queue("jobs");
let orders = Queue("orders");
KV("api-values", #{ name: "api-dev" });
Worker("api", #{
    script: "export class Flow {} export default { fetch() {}, queue() {} }",
    bindings: #{ FLOW: Workflow("flow", #{ className: "Flow" }), JOBS: jobs },
    routes: ["example.com/*"], domains: ["api.example.com"], eventSources: [#{ queue: jobs, settings: #{ batchSize: 5 } }],
    crons: ["0 2 * * *"],
});
Worker("room", #{
    script: "export class Room {} export default { fetch() {}, queue() {} }",
    bindings: #{ ROOM: DurableObjectNamespace("rooms", #{ className: "Room" }) },
    routes: ["example.com/room/*"], domains: ["room.example.com"], eventSources: [orders],
});
Worker("page", #{ script: "export default {}", assets: "./public" });
"#;

#[test]
fn a_draft_and_the_imports_that_it_advises_stand_together() {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(THEIRS);
    theirs.file("public/index.html", "<h1>hello</h1>\n");
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    let scan = project.alch(["scan", "--target", "cloudflare"]).success();
    snapbox::assert_data_eq!(
        without_ids(&scan.stdout),
        str![[r#"
// 14 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("my-app");

// cloudflare::CustomDomain: 2
// `api.example.com` comes with the import of the Worker `api-dev`
CustomDomain("room.example.com", #{ adopt: true, worker: "room-dev", zoneId: "[ID]" });

// cloudflare::KVNamespace: 1
KV("api", #{ adopt: true });

// cloudflare::Queue: 2
Queue("jobs", #{ adopt: true });
Queue("orders", #{ adopt: true });

// cloudflare::QueueConsumer: 2
// `jobs-dev` comes with the import of the Worker `api-dev`
QueueConsumer("orders-queueconsumer", #{ adopt: true, queue: "[ID]", scriptName: "room-dev" });

// cloudflare::Route: 2
// `example.com/*` comes with the import of the Worker `api-dev`
Route("example.com-room", #{ adopt: true, pattern: "example.com/room/*", script: "room-dev", zoneId: "[ID]" });

// cloudflare::Worker: 3
// alch import Worker api-dev api-worker --app my-app --target cloudflare
// `page-dev` cannot be imported: it serves static assets, which no call gives back
//   declare it with `assets: "./folder"` and `adopt: true`, and `alch run` takes it over
// `room-dev` cannot be imported: it owns the Durable Object class `Room` (binding `ROOM`), which is a resource of its own
//   declare both, the class as `ROOM: DurableObjectNamespace(.., #{ className: "Room" })` among the bindings, with `adopt: true`: `alch run` takes them over, and the objects keep their data

// cloudflare::Workflow: 1
Workflow("flow", #{ adopt: true, className: "Flow", scriptName: "api-dev" });

// cloudflare::Zone: 1
Zone("example.com", #{ adopt: true });

"#]]
    );

    // Exactly the commands of the draft.
    let mut script = scan.stdout.clone();
    let commands = scan.stdout.lines();
    let commands: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("// alch "))
        .collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    for command in commands {
        script.push_str(&project.alch(command.split(' ')).success().stdout);
    }
    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(
        run.stderr.contains("0 updated, 0 deleted"),
        "{}",
        run.stderr
    );
    let plan = project.alch(["plan", "--target", "cloudflare"]).success();
    assert!(
        plan.stdout
            .contains("Plan: 0 to create, 0 to update, 0 to delete,"),
        "{}",
        plan.stdout
    );
    project.alch(["drift"]).success();
    let routes = cloud.ask("GET", "workers/domains", "");
    assert_eq!(routes.as_array().map(Vec::len), Some(2));
    let again = project.alch(["scan", "--target", "cloudflare"]).success();
    snapbox::assert_data_eq!(
        without_ids(&again.stdout),
        str![[r#"
// 2 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("my-app");

// cloudflare::Worker: 2
// `page-dev` cannot be imported: it serves static assets, which no call gives back
//   declare it with `assets: "./folder"` and `adopt: true`, and `alch run` takes it over
// `room-dev` cannot be imported: it owns the Durable Object class `Room` (binding `ROOM`), which is a resource of its own
//   declare both, the class as `ROOM: DurableObjectNamespace(.., #{ className: "Room" })` among the bindings, with `adopt: true`: `alch run` takes them over, and the objects keep their data

"#]]
    );
}
