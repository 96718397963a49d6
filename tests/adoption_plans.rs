//! Plans that may adopt look for the objects: what is there is not made, and what taking it over changes is shown.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let cache = KV("cache");
let jobs = Queue("jobs", #{ settings: #{ deliveryDelay: 9 } });
Database("orders");
let files = Bucket("files", #{ storageClass: "InfrequentAccess", cors: [#{ allowed: #{ origins: ["*"], methods: ["GET"] } }] });
print(if cache.id == "" { "new" } else { "known" });
Worker("api", #{
    script: "export default {}",
    bindings: #{ CACHE: cache, JOBS: jobs, KEY: alchemy.secret("s3cret"), LOG: KV("log") },
});
app.finalize();
"#;

/// A project over a served cloud in which the objects of the script are but for one, otherwise than it declares them.
fn project(cloud: &ServedCloud, script: &str) -> Project {
    let mut maker = Project::with_script(
        r#"alchemy("maker");
        KV("cache");
        Queue("jobs", #{ settings: #{ deliveryDelay: 3 } });
        Database("orders");
        Bucket("files");
        Worker("api", #{ script: "export default { a: 1 }", bindings: #{ CACHE: "old", KEY: "plain" } });"#,
    );
    cloud.serve_to(&mut maker);
    maker.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    cloud.take_calls();
    project
}

#[test]
fn a_plan_says_what_it_adopts_and_how_that_changes_it() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud, SCRIPT);
    project
        .alch(["plan", "--target", "cloudflare", "--adopt"])
        .check(str![[r#"
exit 0
-- stdout
known
  > cache (cloudflare::KVNamespace)  cache-dev  # is there already
  > jobs (cloudflare::Queue)  jobs-dev  # is there already
      ~ settings.deliveryDelay: 3 -> 9
  > orders (cloudflare::D1Database)  orders-dev  # is there already
  > files (cloudflare::R2Bucket)  files-dev  # is there already
      ~ cors: [] -> [{"allowed":{"methods":["GET"],"origins":["*"]}}]
      ~ storageClass: "Standard" -> "InfrequentAccess"
  + log (cloudflare::KVNamespace)  log-dev  # not in state
  > api (cloudflare::Worker)  api-dev  # is there already
      ~ bindings.CACHE: "old" -> "${cache}"
      + bindings.JOBS: "${jobs}"
      ~ bindings.KEY: (secret, changed)
      + bindings.LOG: "${log}"
      ~ script: "export default { a: 1 }" -> "export default {}"
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 5 to adopt
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    let calls = cloud.take_calls();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );
    let count = |path: &str| calls.iter().filter(|call| call.ends_with(path)).count();
    assert_eq!(
        (
            count("GET storage/kv/namespaces"),
            count("GET d1/database"),
            count("GET queues")
        ),
        (1, 1, 1),
        "{calls:?}"
    );

    // What was planned is what is done, and afterwards nothing is left to do.
    project
        .alch(["run", "--target", "cloudflare", "--adopt", "--concurrency", "1"])
        .check(str![[r#"
exit 0
-- stdout
known
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  cache (cloudflare::KVNamespace)
  adopted   cache  cache-dev  [TIME]
+ creating  jobs (cloudflare::Queue)
  adopted   jobs  jobs-dev  [TIME]
+ creating  log (cloudflare::KVNamespace)
  created   log  log-dev  [TIME]
+ creating  orders (cloudflare::D1Database)
  adopted   orders  orders-dev  [TIME]
+ creating  files (cloudflare::R2Bucket)
  adopted   files  files-dev  [TIME]
+ creating  api (cloudflare::Worker)
  adopted   api  api-dev  [TIME]
1 created, 0 updated, 0 deleted, 0 unchanged, 5 adopted in [TIME] (critical path [TIME], 18 API calls)

"#]]);
    let plan = project.alch(["plan", "--target", "cloudflare", "--adopt"]);
    assert!(
        plan.stdout
            .ends_with("Plan: 0 to create, 0 to update, 0 to delete, 6 unchanged\n"),
        "{}",
        plan.stdout
    );
}

#[test]
fn without_leave_to_adopt_nothing_is_looked_for() {
    let cloud = ServedCloud::quick();
    let script = SCRIPT.replace("print(", "// print(");
    let project = project(&cloud, &script);
    let plan = project.alch(["plan", "--target", "cloudflare"]).success();
    assert!(
        plan.stdout
            .ends_with("Plan: 6 to create, 0 to update, 0 to delete, 0 unchanged\n"),
        "{}",
        plan.stdout
    );
    assert_eq!(cloud.take_calls(), Vec::<String>::new());

    // One resource alone may adopt; the others cost nothing still.
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\");\nKV(\"cache\", #{ adopt: true });\nKV(\"new\", #{ adopt: true });\nQueue(\"jobs\");\n",
    );
    project
        .alch(["plan", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
  > cache (cloudflare::KVNamespace)  cache-dev  # is there already
  + new (cloudflare::KVNamespace)  new-dev  # not in state
  + jobs (cloudflare::Queue)  jobs-dev  # not in state
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 1 to adopt
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    assert_eq!(cloud.take_calls(), ["GET storage/kv/namespaces"]);
    let json = project
        .alch(["plan", "--target", "cloudflare", "--json"])
        .success();
    let messages = json.messages();
    let told: Vec<(&str, &str)> = messages
        .iter()
        .filter(|message| message["type"] == "planned_change")
        .map(|message| {
            let text = |field: &str| message[field].as_str().unwrap_or_default();
            (text("fqn"), text("action"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("shop/dev/cache", "adopt"),
            ("shop/dev/new", "create"),
            ("shop/dev/jobs", "create")
        ]
    );
}

#[test]
fn a_saved_plan_adopts_exactly_what_it_saw() {
    let cloud = ServedCloud::quick();
    let project = project(
        &cloud,
        "alchemy(\"shop\");\nQueue(\"jobs\", #{ settings: #{ deliveryDelay: 9 } });\nKV(\"new\");\n",
    );
    let save = [
        "plan",
        "--target",
        "cloudflare",
        "--adopt",
        "--out",
        "plan.json",
    ];
    let apply = ["run", "--plan", "plan.json", "--concurrency", "1"];
    project.alch(save).success();
    // Somebody else changes what was looked at, and makes what was not there.
    let body = cloud.call("GET", "queues", "").1;
    let id = body.split("\"queue_id\":\"").nth(1).unwrap()[..32].to_owned();
    let patch = r#"{"settings":{"delivery_delay":4}}"#;
    assert_eq!(cloud.call("PATCH", &format!("queues/{id}"), patch).0, 200);
    cloud.call("POST", "storage/kv/namespaces", r#"{"title":"new-dev"}"#);
    project.alch(apply).check(str![[r#"
exit 11
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  the plan is stale: `settings.deliveryDelay` of `jobs` is not as in the plan
+ creating  new (cloudflare::KVNamespace)
  failed    new  the plan is stale: `new` would now adopt, the plan says create
error[E0409]: the plan is stale: `settings.deliveryDelay` of `jobs` is not as in the plan
 --> alchemy.run.rhai:2:1
  |
2 | Queue("jobs", #{ settings: #{ deliveryDelay: 9 } });
  | ^^^^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
error[E0409]: the plan is stale: `new` would now adopt, the plan says create
 --> alchemy.run.rhai:3:1
  |
3 | KV("new");
  | ^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
0 created, 0 updated, 0 deleted, 0 unchanged, 2 failed in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    project.alch(save).success();
    assert_eq!(cloud.call("DELETE", &format!("queues/{id}"), "").0, 200);
    let gone = project.alch(apply).code(11);
    assert!(
        gone.stderr
            .contains("`jobs` would now create, the plan says adopt"),
        "{}",
        gone.stderr
    );
    project.alch(save).success();
    project.alch(apply).success();
}

#[test]
fn what_cannot_be_looked_for_fails_the_plan() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud, "alchemy(\"shop\");\nKV(\"cache\");\n");
    cloud.refuse(Some(("GET", "storage/kv/namespaces")));
    project
        .alch(["plan", "--target", "cloudflare", "--adopt"])
        .check(str![[r#"
exit 4
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare
  failed    cache  not today
error[E0301]: `cache` (cloudflare::KVNamespace): adopt failed: not today [10001]
 --> alchemy.run.rhai:2:1
  |
2 | KV("cache");
  | ^^ declared here
  |
  = note: the call was GET /accounts/../storage/kv/namespaces, answered with HTTP 400

"#]]);
}

#[test]
fn the_code_of_a_worker_is_compared_before_it_is_taken_over() {
    let cloud = ServedCloud::quick();
    let files = |project: &Project, word: &str| {
        project.file(
            "src/index.js",
            "import { word } from './word.js';\nexport default { fetch() { return new Response(word) } };\n",
        );
        project.file("src/word.js", format!("export const word = '{word}';\n"));
    };
    let script = |name: &str| {
        format!(
            "alchemy(\"{name}\");\nWorker(\"plain\", #{{ script: \"export default {{}}\" }});\n\
             Worker(\"api\", #{{ entrypoint: \"src/index.js\" }});\n"
        )
    };
    let mut theirs = Project::with_script(&script("theirs"));
    files(&theirs, "hello");
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::with_script(&script("shop"));
    files(&project, "hello");
    cloud.serve_to(&mut project);
    let plan = ["plan", "--target", "cloudflare", "--adopt"];
    project.alch(plan).check(str![[r#"
exit 0
-- stdout
  > plain (cloudflare::Worker)  plain-dev  # is there already
  > api (cloudflare::Worker)  api-dev  # is there already
      + entrypoint: "src/index.js"
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 2 to adopt
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    files(&project, "goodbye");
    project.alch(plan).check(str![[r#"
exit 0
-- stdout
  > plain (cloudflare::Worker)  plain-dev  # is there already
  > api (cloudflare::Worker)  api-dev  # is there already
      + entrypoint: "src/index.js"
      ~ modules["word.js"]: (content changed)
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 2 to adopt
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    // Another client made one script of the modules.
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\");\nWorker(\"api\", #{ script: \"export default {}\" });\n",
    );
    project.alch(plan).check(str![[r#"
exit 0
-- stdout
  > api (cloudflare::Worker)  api-dev  # is there already
      + script: "export default {}"
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 to adopt
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
}
