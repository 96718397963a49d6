//! Uploads of Workers that are refused: the error names the binding, the tail consumer or the class in the script's words.

use snapbox::str;

use crate::support::{Project, cloud::ServedCloud};

#[test]
fn a_class_that_the_code_does_not_export_is_named_with_what_it_exports() {
    let project = Project::with_script(
        r#"
alchemy("rooms");
Worker("api", #{
    entrypoint: "src/api.js",
    bindings: #{ ROOM: DurableObject("room", #{ className: "Rooms" }) },
});
"#,
    );
    project.file(
        "src/api.js",
        "class Rooms {}\nexport class Room {}\nexport default { fetch() {} };\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
+ creating  room (cloudflare::DurableObjectNamespace)
  created   room  room  [TIME]
+ creating  api (cloudflare::Worker)
  failed    api  binding `ROOM`: `src/api.js` does not export the Durable Object class `Rooms`; it exports `Room`, `default`
error[E0301]: `api` (cloudflare::Worker): create failed: binding `ROOM`: `src/api.js` does not export the Durable Object class `Rooms`; it exports `Room`, `default`
 --> alchemy.run.rhai:3:1
  |
3 | Worker("api", #{
  | ^^^^^^ declared here
  |
  = help: did you mean `Room`? `className` is the name that the Worker exports
1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.file(
        "src/api.js",
        "class Rooms {}\nexport default { fetch() {} };\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  failed    api  binding `ROOM`: `src/api.js` does not export the Durable Object class `Rooms`; it exports `default`
error[E0301]: `api` (cloudflare::Worker): create failed: binding `ROOM`: `src/api.js` does not export the Durable Object class `Rooms`; it exports `default`
 --> alchemy.run.rhai:3:1
  |
3 | Worker("api", #{
  | ^^^^^^ declared here
  |
  = help: write `export class Rooms extends DurableObject { .. }`, or `export { Rooms } from` where it is
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.file(
        "src/api.js",
        "class Rooms {}\nexport { Rooms };\nexport default { fetch() {} };\n",
    );
    project.alch(["run"]).success();
}

#[test]
fn workers_that_are_not_there_are_named_where_they_are_used() {
    let worker = |props: &str| {
        format!(
            "alchemy(\"shop\");\nWorker(\"api\", #{{ script: \"export default {{}}\", {props} }});\n"
        )
    };
    let project = Project::with_script(&worker(
        "bindings: #{ A: \"text\", USERS: Service(\"nosuch\", #{}) }",
    ));
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  failed    api  there is no Worker `nosuch`, bound as `USERS`
error[E0301]: `api` (cloudflare::Worker): create failed: there is no Worker `nosuch`, bound as `USERS` [10144]
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api", #{ script: "export default {}", bindings: #{ A: "text", USERS: Service("nosuch"...
  | ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../workers/scripts/api-dev, answered with HTTP 400
  = help: if the script declares this Worker, give its handle in place of the text, so that it is made first; else correct the text
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    project.file("alchemy.run.rhai", worker("tailConsumers: [\"nosuch\"]"));
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  failed    api  there is no Worker `nosuch`, named by `tailConsumers`
error[E0301]: `api` (cloudflare::Worker): create failed: there is no Worker `nosuch`, named by `tailConsumers` [10203]
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api", #{ script: "export default {}", tailConsumers: ["nosuch"] });
  | ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../workers/scripts/api-dev, answered with HTTP 400
  = help: if the script declares this Worker, give its handle in place of the text, so that it is made first; else correct the text
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    // In place, where the settings that all versions share change alone.
    project.file("alchemy.run.rhai", worker(""));
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        worker("tailConsumers: [\"api-dev\", \"nosuch\"]"),
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
~ updating  api (cloudflare::Worker)
  failed    api  one of the Workers `api-dev`, `nosuch`, named by `tailConsumers`, is not there
error[E0301]: `api` (cloudflare::Worker): update failed: one of the Workers `api-dev`, `nosuch`, named by `tailConsumers`, is not there [10203]
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api", #{ script: "export default {}", tailConsumers: ["api-dev", "nosuch"] });
  | ^^^^^^ declared here
  |
  = note: the call was PATCH /accounts/../workers/scripts/api-dev/script-settings, answered with HTTP 400
  = help: `alch run --refresh` makes again what state knows; correct the name of anything else
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

const BOUND: &str = r#"
alchemy("shop");
let cache = KV("cache");
let log = KV("log");
let db = Database("orders");
Worker("api", #{ script: "export default {}", bindings: #{ CACHE: cache, LOG: log, DB: db } });
"#;

#[test]
fn what_is_bound_and_gone_is_named_with_binding_and_resource() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(BOUND);
    cloud.serve_to(&mut project);
    let run = ["run", "--target", "cloudflare"];
    project.alch(run).success();
    let spaces = cloud.ask("GET", "storage/kv/namespaces", "");
    let space = spaces.as_array().unwrap().iter();
    let mut space = space.filter(|space| space["title"] == "cache-dev");
    let space = space.next().unwrap()["id"].as_str().unwrap().to_owned();
    cloud.ask("DELETE", &format!("storage/kv/namespaces/{space}"), "");
    project.file(
        "alchemy.run.rhai",
        BOUND.replace("default {}", "default { a: 1 }"),
    );
    project.alch(run).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
~ updating  api (cloudflare::Worker)
  failed    api  the KV namespace `cache-dev` of `cache`, bound as `CACHE`, is in state, but gone
error[E0301]: `api` (cloudflare::Worker): update failed: the KV namespace `cache-dev` of `cache`, bound as `CACHE`, is in state, but gone [10041]
 --> alchemy.run.rhai:6:1
  |
6 | Worker("api", #{ script: "export default { a: 1 }", bindings: #{ CACHE: cache, LOG: log, DB: ...
  | ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../workers/scripts/api-dev, answered with HTTP 400
  = help: `alch run --refresh` makes it again
0 created, 0 updated, 0 deleted, 3 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project
        .alch(["run", "--refresh", "--target", "cloudflare"])
        .success();
    let database = cloud.ask("GET", "d1/database", "")[0]["uuid"].clone();
    cloud.ask(
        "DELETE",
        &format!("d1/database/{}", database.as_str().unwrap()),
        "",
    );
    project.file(
        "alchemy.run.rhai",
        BOUND.replace("default {}", "default { b: 1 }"),
    );
    project.alch(run).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
~ updating  api (cloudflare::Worker)
  failed    api  the D1 database `orders-dev` of `orders`, bound as `DB`, is in state, but gone
error[E0301]: `api` (cloudflare::Worker): update failed: the D1 database `orders-dev` of `orders`, bound as `DB`, is in state, but gone [10181]
 --> alchemy.run.rhai:6:1
  |
6 | Worker("api", #{ script: "export default { b: 1 }", bindings: #{ CACHE: cache, LOG: log, DB: ...
  | ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../workers/scripts/api-dev, answered with HTTP 400
  = help: `alch run --refresh` makes it again
0 created, 0 updated, 0 deleted, 3 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project
        .alch(["run", "--refresh", "--target", "cloudflare"])
        .success();
    project.alch(run).success();
}

#[test]
fn a_tail_consumer_that_the_script_declares_is_to_be_named_by_its_handle() {
    let project = Project::with_script(
        r#"alchemy("shop");
Worker("api", #{ script: "export default {}", tailConsumers: ["tail-dev"] });
Worker("tail", #{ script: "export default { tail() {} }" });
"#,
    );
    let run = project.alch(["run", "--concurrency", "1"]).code(4);
    let help = "help: if the script declares this Worker, give its handle in place of the text, so that it is made first";
    assert!(run.stderr.contains(help), "{}", run.stderr);
    project.file(
        "alchemy.run.rhai",
        r#"alchemy("shop");
let tail = Worker("tail", #{ script: "export default { tail() {} }" });
Worker("api", #{ script: "export default {}", tailConsumers: [tail] });
"#,
    );
    project.alch(["run", "--concurrency", "1"]).success();
}
