//! `alch drift`, `--repair` and `--refresh`: what somebody else did to the objects of a stage is seen by list calls and undone.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let cache = KV("cache");
let jobs = Queue("jobs", #{ settings: #{ deliveryDelay: 5 } });
let db = Database("orders");
Bucket("files");
Worker("api", #{
    script: "export default { fetch() { return new Response('hi') } }",
    bindings: #{ CACHE: cache, JOBS: jobs, DB: db },
});
"#;

/// The script, deployed to a served cloud.
fn deployed(cloud: &ServedCloud) -> Project {
    let mut project = Project::with_script(SCRIPT);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project
}

/// The `id` that state knows of a resource.
fn id_of(project: &Project, resource: &str) -> String {
    let shown = project
        .alch(["state", "show", resource, "--json"])
        .success();
    let record = &shown.messages()[1];
    record["outputs"]["id"].as_str().unwrap().to_owned()
}

fn list_calls(cloud: &ServedCloud) -> Vec<String> {
    let mut calls = cloud.take_calls();
    calls.sort();
    calls
}

/// Deletes the namespace, changes the queue, replaces the Worker's code.
fn tamper(cloud: &ServedCloud, project: &Project) {
    let cache = id_of(project, "cache");
    let jobs = id_of(project, "jobs");
    // A namespace that a Worker is bound to can be deleted all the same.
    let gone = cloud.call("DELETE", &format!("storage/kv/namespaces/{cache}"), "");
    assert_eq!(gone.0, 200, "{}", gone.1);
    let slower = r#"{"settings":{"delivery_delay":60}}"#;
    let changed = cloud.call("PATCH", &format!("queues/{jobs}"), slower);
    assert_eq!(changed.0, 200, "{}", changed.1);
    cloud.take_calls();
}

#[test]
fn without_drift_one_list_a_kind_says_so() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    project.alch(["drift"]).check(str![[r#"
exit 0
-- stdout
no drift: 5 objects as in state (8 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare

"#]]);
    assert_eq!(
        list_calls(&cloud),
        [
            "GET d1/database",
            "GET queues",
            "GET r2/buckets",
            "GET storage/kv/namespaces",
            "GET workers/scripts",
            "GET workers/scripts/api-dev/schedules",
            "GET workers/scripts/api-dev/settings",
            "GET workers/scripts/api-dev/subdomain",
        ]
    );
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(list_calls(&cloud), [""; 0], "the default run does not look");
}

#[test]
fn domains_and_consumers_are_looked_at_by_lists_as_well() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(
        r#"
alchemy("shop");
let jobs = Queue("jobs");
let api = Worker("api", #{ script: "export default { fetch() { return new Response('hi') }, queue() {} }" });
QueueConsumer("work", #{ queue: jobs, scriptName: api, settings: #{ batchSize: 5 } });
CustomDomain("api.example.com", #{ worker: api });
CustomDomain("www.example.com", #{ worker: api });
"#,
    );
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    let queue = id_of(&project, "jobs");
    let www = id_of(&project, "www.example.com");
    let consumers = format!("queues/{queue}/consumers");
    let consumer = format!("{consumers}/{}", id_of(&project, "work"));
    let other = r#"{"type":"worker","script_name":"api-dev","settings":{"batch_size":50}}"#;
    assert_eq!(cloud.call("PUT", &consumer, other).0, 200);
    let gone = cloud.call("DELETE", &format!("workers/domains/{www}"), "");
    assert_eq!(gone.0, 200, "{}", gone.1);
    cloud.take_calls();
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
changed   work (cloudflare::QueueConsumer)  work
            settings.batchSize: state has 5, the provider 50
vanished  www.example.com (cloudflare::CustomDomain)  www.example.com
2 of 5 objects drifted (7 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    assert_eq!(
        list_calls(&cloud),
        [
            "GET queues",
            &format!("GET {consumers}"),
            "GET workers/domains",
            "GET workers/scripts",
            "GET workers/scripts/api-dev/schedules",
            "GET workers/scripts/api-dev/settings",
            "GET workers/scripts/api-dev/subdomain",
        ]
    );
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    let plan = ["plan", "--detailed-exitcode", "--target", "cloudflare"];
    project.alch(plan).success();
}

#[test]
fn drift_is_reported_and_repaired() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    let before = project.state_files();
    tamper(&cloud, &project);
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
vanished  cache (cloudflare::KVNamespace)  cache-dev
changed   jobs (cloudflare::Queue)  jobs-dev
            settings.deliveryDelay: state has 5, the provider 60
2 of 5 objects drifted (8 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    assert_eq!(project.state_files(), before, "looking writes nothing");
    let messages = project.alch(["drift", "--json"]).code(7).messages();
    let drift = messages.iter().find(|m| m["type"] == "drift").unwrap();
    assert_eq!(drift["looked"], 5);
    assert_eq!(drift["drifted"][0]["drift"], "vanished");
    assert_eq!(drift["drifted"][1]["changes"][0]["found"], 60);
    let old = id_of(&project, "cache");
    let repaired = project.alch(["drift", "--repair"]).success();
    assert_eq!(
        repaired.last_line(),
        "1 created, 2 updated, 0 deleted, 2 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    assert_ne!(id_of(&project, "cache"), old);
    project.alch(["drift"]).success();
    cloud.take_calls();
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("5 unchanged"), "{}", run.stderr);
    assert_eq!(list_calls(&cloud), [""; 0]);
}

#[test]
fn a_refreshed_plan_shows_what_a_refreshed_run_does() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    tamper(&cloud, &project);
    project
        .alch(["plan", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 5 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    project
        .alch([
            "plan",
            "--refresh",
            "--target",
            "cloudflare",
            "--out",
            "p.json",
        ])
        .check(str![[r#"
exit 0
-- stdout
  + cache (cloudflare::KVNamespace)  cache-dev  # vanished at the provider
  ~ jobs (cloudflare::Queue)  jobs-dev  # settings.deliveryDelay changed at the provider
      ~ settings.deliveryDelay: 60 -> 5
  ~ api (cloudflare::Worker)  api-dev  # bindings changed
      ~ bindings.CACHE: "${cache}" -> (known after apply)
Plan: 1 to create, 2 to update, 0 to delete, 2 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare
saved; `alch run --plan p.json` does exactly this

"#]]);
    let run = project.alch(["run", "--plan", "p.json"]).success();
    assert_eq!(
        run.last_line(),
        "1 created, 2 updated, 0 deleted, 2 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    project.alch(["drift"]).success();
}

#[test]
fn renamed_namespaces_and_replaced_code_are_drift() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    let cache = id_of(&project, "cache");
    let renamed = cloud.call(
        "PUT",
        &format!("storage/kv/namespaces/{cache}"),
        r#"{"title":"elsewhere"}"#,
    );
    assert_eq!(renamed.0, 200, "{}", renamed.1);
    let mut other = Project::with_script(
        r#"alchemy("other"); Worker("api", #{ name: "api-dev", adopt: true, script: "export default {}" });"#,
    );
    cloud.serve_to(&mut other);
    other.alch(["run", "--target", "cloudflare"]).success();
    let drift = project.alch(["drift"]).code(7);
    assert!(
        drift
            .stdout
            .contains(r#"name: state has "cache-dev", the provider "elsewhere""#),
        "{}",
        drift.stdout
    );
    assert!(
        drift.stdout.contains("            code: "),
        "{}",
        drift.stdout
    );
    project.alch(["drift", "--repair"]).success();
    assert_eq!(id_of(&project, "cache"), cache, "the same object");
    project.alch(["drift"]).success();
}

#[test]
fn many_objects_cost_one_call_a_page() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(r#"alchemy("many"); for i in 0..30 { KV("n" + i); }"#);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project.alch(["drift"]).success();
    assert_eq!(list_calls(&cloud), ["GET storage/kv/namespaces"]);
    project.file(
        "alchemy.run.rhai",
        r#"alchemy("many"); for i in 0..130 { KV("n" + i); }"#,
    );
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project.alch(["drift"]).success();
    assert_eq!(list_calls(&cloud), ["GET storage/kv/namespaces"; 2]);
}

#[test]
fn a_refused_look_changes_nothing() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    cloud.refuse(Some(("GET", "queues")));
    let before = project.state_files();
    let refused = project.alch(["drift", "--repair"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("cannot see what there is of `cloudflare::Queue`"),
        "{}",
        refused.stderr
    );
    cloud.refuse(None);
    assert_eq!(project.state_files(), before);
    project.alch(["drift", "--repair"]).success();
}

#[test]
fn the_cloud_inside_the_binary_is_looked_at_as_well() {
    let project = Project::with_script(r#"alchemy("shop"); KV("cache");"#);
    project.alch(["run"]).success();
    project.alch(["drift", "--stage", "prod"]).code(6);
    // The local cloud inside the binary is looked at in the same way.
    project.alch(["drift"]).check(str![[r#"
exit 0
-- stdout
no drift: 1 object as in state (1 API call)
-- stderr
alch: app shop, stage dev, phase drift, target local

"#]]);
    std::fs::remove_dir_all(project.path(".alchemy/local")).unwrap();
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
vanished  cache (cloudflare::KVNamespace)  cache-dev
1 of 1 object drifted (1 API call)
-- stderr
alch: app shop, stage dev, phase drift, target local
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
}

#[test]
fn kinds_of_the_script_are_not_compared_and_stay_as_they_are() {
    let project = Project::with_script(
        r#"
alchemy("shop");
let Thing = resource("my::Thing", #{ create: |ctx, id, props| #{ size: 3 }, update: |ctx, id, props| #{ size: 4 } });
let thing = Thing.declare("thing", #{});
KV("cache", #{ values: [#{ key: "size", value: thing.ref("size") }] });
KV("other");
"#,
    );
    project.alch(["run"]).success();
    project.alch(["drift"]).check(str![[r#"
exit 0
-- stdout
no drift: 2 objects as in state (2 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target local
not compared: thing (kinds that the script defines, or operations that did not end; `alch run` settles these)

"#]]);
    std::fs::remove_dir_all(project.path(".alchemy/local")).unwrap();
    project.alch(["drift"]).code(7);
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    let run = project.alch(["run"]).success();
    assert!(run.stderr.contains("3 unchanged"), "{}", run.stderr);
}

#[test]
fn a_refused_token_names_the_permission() {
    let cloud = ServedCloud::quick();
    let mut project = deployed(&cloud);
    project.env("CLOUDFLARE_API_TOKEN", "none-of-this-cloud");
    let refused = project.alch(["drift"]).code(3);
    assert!(refused.stderr.contains("E0303"), "{}", refused.stderr);
}
