//! What only one Worker can have - a route, a custom domain, the messages of a queue - goes from one to another within a stage.

use serde_json::Value;
use snapbox::str;

use crate::support::{Project, cloud::ServedCloud};

/// A script in which Worker `ID` has the route, the domain and the queue, and `rest` stands after it.
fn script(id: &str, rest: &str) -> String {
    format!(
        r#"alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
let code = "export default {{ fetch() {{ return new Response('hi') }}, queue() {{}} }}";
let first = Worker("{id}", #{{
    script: code, routes: ["example.com/*"], domains: ["shop.example.com"], eventSources: [jobs],
}});
{rest}
"#
    )
}

#[test]
fn a_worker_that_gets_another_id_keeps_its_workflow() {
    let script = |id: &str| {
        format!(
            r#"alchemy("shop");
let orders = Workflow("orders", #{{ className: "Orders" }});
Worker("{id}", #{{ script: "export class Orders {{}} export default {{}}", bindings: #{{ ORDERS: orders }} }});
"#
        )
    };
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(&script("api"));
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    project.file("alchemy.run.rhai", script("shop-api"));
    project.alch(["run", "--target", "cloudflare"]).success();
    let (status, answer) = cloud.call("GET", "workflows/orders-dev", "");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains(r#""script_name":"shop-api-dev""#),
        "{answer}"
    );
    cloud.take_calls();
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

/// Who has the route, the domain and the queue.
fn holders(cloud: &ServedCloud) -> [Vec<String>; 3] {
    let ask = |path: &str| -> Value {
        let (status, answer) = cloud.call("GET", path, "");
        assert_eq!(status, 200, "{path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["result"].take()
    };
    let all = |list: Value, key: &str| {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|item| item[key].as_str().unwrap().to_owned())
            .collect()
    };
    let zone = ask("/zones")[0]["id"].as_str().unwrap().to_owned();
    let queue = ask("queues")[0]["queue_id"].as_str().unwrap().to_owned();
    [
        all(ask(&format!("/zones/{zone}/workers/routes")), "script"),
        all(ask("workers/domains"), "service"),
        all(ask(&format!("queues/{queue}/consumers")), "script_name"),
    ]
}

/// Deploys both, one after the other, and looks who has what.
#[track_caller]
fn handed_over(before: &str, after: &str, to: &str) {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(before);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    project.file("alchemy.run.rhai", after);
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(
        holders(&cloud),
        [to, to, to].map(|name| vec![name.to_owned()])
    );
    cloud.take_calls();
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn a_worker_that_gets_another_id_keeps_what_leads_to_it() {
    handed_over(&script("api", ""), &script("shop-api", ""), "shop-api-dev");
}

#[test]
fn what_one_worker_gives_up_another_gets_even_when_it_is_made_first() {
    // `web` refers to `api`, so that `api` is updated while `web` still has everything.
    let before = r#"alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
let code = "export default { fetch() { return new Response('hi') }, queue() {} }";
let api = Worker("api", #{ script: code });
let web = Worker("web", #{
    script: code, bindings: #{ API: api },
    routes: ["example.com/*"], domains: ["shop.example.com"], eventSources: [jobs],
});
"#;
    let after = script(
        "api",
        "Worker(\"web\", #{ script: code, bindings: #{ API: first } });",
    );
    handed_over(before, &after, "api-dev");
}

#[test]
fn what_resources_of_their_own_had_is_not_deleted_with_them() {
    let before = r#"alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
let code = "export default { fetch() { return new Response('hi') }, queue() {} }";
let web = Worker("web", #{ script: code });
Route("all", #{ pattern: "example.com/*", script: web });
CustomDomain("shop.example.com", #{ worker: web });
QueueConsumer("jobs-to-web", #{ queue: jobs, scriptName: web });
"#;
    handed_over(before, &script("api", ""), "api-dev");
}

#[test]
fn what_a_worker_had_through_resources_it_can_have_by_itself() {
    let before = r#"alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
let code = "export default { fetch() { return new Response('hi') }, queue() {} }";
let web = Worker("web", #{ script: code });
Route("all", #{ pattern: "example.com/*", script: web });
CustomDomain("shop.example.com", #{ worker: web });
QueueConsumer("jobs-to-web", #{ queue: jobs, scriptName: web });
"#;
    handed_over(before, &script("web", ""), "web-dev");
    handed_over(&script("web", ""), before, "web-dev");
}

#[test]
fn what_a_refused_script_has_moved_comes_back() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(&script("api", ""));
    cloud.serve_to(&mut project);
    let run = || project.alch(["run", "--target", "cloudflare"]);
    run().success();
    // The new Worker stands first, and is there before the mistake is seen.
    let again = "wait(first);\nWorker(\"api\", #{ script: code, eventSources: [jobs] });";
    project.file("alchemy.run.rhai", script("second", again));
    run().code(1);
    assert_eq!(
        holders(&cloud),
        [(); 3].map(|()| vec!["second-dev".to_owned()])
    );
    project.file("alchemy.run.rhai", script("api", ""));
    run().success();
    assert_eq!(
        holders(&cloud),
        [(); 3].map(|()| vec!["api-dev".to_owned()])
    );
    cloud.take_calls();
    run().success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn another_stage_keeps_what_it_has() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(&script("api", ""));
    cloud.serve_to(&mut project);
    let run = |stage: &str| project.alch(["run", "--target", "cloudflare", "--stage", stage]);
    run("one").success();
    project.file(
        "alchemy.run.rhai",
        r#"alchemy("shop");
Worker("api", #{ script: "export default { fetch() { return new Response('hi') } }", routes: ["example.com/*"] });
"#,
    );
    run("two").check(str![[r#"
exit 4
-- stderr
alch: app shop, stage two, phase up, target cloudflare
+ creating  api (cloudflare::Worker)
  failed    api  the route `example.com/*` is there already and leads to the Worker `api-one`
error[E0302]: `api` (cloudflare::Worker): create failed: the route `example.com/*` is there already and leads to the Worker `api-one`
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api", #{ script: "export default { fetch() { return new Response('hi') } }", routes: ...
  | ^^^^^^ declared here
  |
  = help: take it over with `Route(..)` and `adopt: true`, or choose another pattern
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 4 API calls)

"#]]);
    assert_eq!(
        holders(&cloud),
        [(); 3].map(|()| vec!["api-one".to_owned()])
    );
}

#[test]
fn two_workers_of_one_script_cannot_have_the_same() {
    let plan = |second: &str| {
        let second = format!("Worker(\"web\", #{{ script: code, {second} }});");
        Project::with_script(&script("api", &second)).alch(["plan"])
    };
    plan(r#"routes: ["EXAMPLE.com/*"]"#).check(str![[r#"
exit 1
-- stdout
  + example.com (cloudflare::Zone)  example.com  # not in state
  + jobs (cloudflare::Queue)  jobs-dev  # not in state
  + api (cloudflare::Worker)  api-dev  # not in state
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + domains[0].name: "shop.example.com"
      + eventSources[0]: (known after apply)
      + observability.enabled: true
      + routes[0].pattern: "example.com/*"
      + script: "export default { fetch() { return new Response('hi') }, queue() {} }"
      + url: true
Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `example.com` is called `example.com` in every stage
 --> alchemy.run.rhai:2:12
  |
2 | let zone = Zone("example.com");
  |            ^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`
error[E0208]: `web` and `api` would both have the route `example.com/*`
 --> alchemy.run.rhai:8:1
  |
5 | let first = Worker("api", #{
  |             ------ the other one
...
8 | Worker("web", #{ script: code, routes: ["EXAMPLE.com/*"] });
  | ^^^^^^
  |
  = help: only one can have it: take it from one of them

"#]]);
    plan(r#"domains: ["shop.example.com"]"#).check(str![[r#"
exit 1
-- stdout
  + example.com (cloudflare::Zone)  example.com  # not in state
  + jobs (cloudflare::Queue)  jobs-dev  # not in state
  + api (cloudflare::Worker)  api-dev  # not in state
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + domains[0].name: "shop.example.com"
      + eventSources[0]: (known after apply)
      + observability.enabled: true
      + routes[0].pattern: "example.com/*"
      + script: "export default { fetch() { return new Response('hi') }, queue() {} }"
      + url: true
Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `example.com` is called `example.com` in every stage
 --> alchemy.run.rhai:2:12
  |
2 | let zone = Zone("example.com");
  |            ^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`
error[E0208]: `web` and `api` would both have the custom domain `shop.example.com`
 --> alchemy.run.rhai:8:1
  |
5 | let first = Worker("api", #{
  |             ------ the other one
...
8 | Worker("web", #{ script: code, domains: ["shop.example.com"] });
  | ^^^^^^
  |
  = help: only one can have it: take it from one of them

"#]]);
    plan("eventSources: [#{ queue: jobs }]").check(str![[r#"
exit 1
-- stdout
  + example.com (cloudflare::Zone)  example.com  # not in state
  + jobs (cloudflare::Queue)  jobs-dev  # not in state
  + api (cloudflare::Worker)  api-dev  # not in state
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + domains[0].name: "shop.example.com"
      + eventSources[0]: (known after apply)
      + observability.enabled: true
      + routes[0].pattern: "example.com/*"
      + script: "export default { fetch() { return new Response('hi') }, queue() {} }"
      + url: true
Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `example.com` is called `example.com` in every stage
 --> alchemy.run.rhai:2:12
  |
2 | let zone = Zone("example.com");
  |            ^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`
error[E0208]: `web` and `api` would both have the messages of the queue `jobs`
 --> alchemy.run.rhai:8:1
  |
5 | let first = Worker("api", #{
  |             ------ the other one
...
8 | Worker("web", #{ script: code, eventSources: [#{ queue: jobs }] });
  | ^^^^^^
  |
  = help: only one can have it: take it from one of them

"#]]);
}
