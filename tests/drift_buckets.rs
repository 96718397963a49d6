//! Drift of buckets: every setting that the script declares is read, and nothing else is; what another client changed is told,
//! planned and brought back.

use serde_json::json;
use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
Bucket("plain");
Bucket("files", #{
    storageClass: "InfrequentAccess",
    devDomain: true,
    cors: [#{ allowed: #{ origins: ["https://example.com"], methods: ["GET"] }, maxAgeSeconds: 60 }],
    lifecycle: [
        #{ id: "old", enabled: true, conditions: #{ prefix: "" },
           deleteObjectsTransition: #{ condition: #{ type: "Date", date: "2030-01-01" } } },
        #{ id: "logs", enabled: true, conditions: #{ prefix: "log/" },
           deleteObjectsTransition: #{ condition: #{ type: "Age", maxAge: 86400 } } },
    ],
    lock: [#{ id: "keep", enabled: true, prefix: "a/", condition: #{ type: "Age", maxAgeSeconds: 60 } }],
    domains: ["files.example.com", #{ domain: "more.example.com", zone: zone, minTls: "1.2" }],
    notifications: [
        #{ queue: jobs, actions: ["PutObject", "CopyObject"], prefix: "a/" },
        #{ queue: jobs, actions: ["DeleteObject"], description: "gone" },
    ],
});
"#;
const BUCKET: &str = "r2/buckets/files-dev";

fn deployed(cloud: &ServedCloud) -> Project {
    let mut project = Project::with_script(SCRIPT);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project
}

fn notifications(cloud: &ServedCloud) -> (String, serde_json::Value) {
    let path = "event_notifications/r2/files-dev/configuration";
    let found = cloud.ask("GET", path, "")["queues"][0].clone();
    let queue = found["queueId"].as_str().expect("a queue");
    (format!("{path}/queues/{queue}"), found["rules"].clone())
}

fn queue(cloud: &ServedCloud) -> String {
    let queues = cloud.ask("GET", "queues", "");
    queues[0]["queue_id"].as_str().expect("an id").to_owned()
}

/// Changes everything that the script declares of the bucket, as another client would.
fn tamper(cloud: &ServedCloud) {
    for (path, body) in [
        ("domains/managed", json!({ "enabled": false })),
        (
            "cors",
            json!({ "rules": [{ "allowed": { "origins": ["https://example.com"], "methods": ["GET"], "headers": ["*"] },
                                "maxAgeSeconds": 60 }] }),
        ),
        (
            "lifecycle",
            json!({ "rules": [
                { "id": "logs", "enabled": true, "conditions": { "prefix": "log/" },
                  "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 600 } } },
                { "id": "old", "enabled": false, "conditions": {},
                  "deleteObjectsTransition": { "condition": { "type": "Date", "date": "2030-01-01T00:00:00.000Z" } } },
            ] }),
        ),
        ("lock", json!({ "rules": [] })),
        (
            "domains/custom/more.example.com",
            json!({ "enabled": false, "minTLS": "1.0" }),
        ),
    ] {
        cloud.ask("PUT", &format!("{BUCKET}/{path}"), &body.to_string());
    }
    cloud.ask(
        "DELETE",
        &format!("{BUCKET}/domains/custom/files.example.com"),
        "",
    );
    let (path, rules) = notifications(cloud);
    let one = json!({ "ruleIds": [rules[0]["ruleId"]] });
    cloud.ask("DELETE", &path, &one.to_string());
    cloud.take_calls();
}

/// Everything is as declared, and nothing is left to do.
fn is_as_declared(cloud: &ServedCloud, project: &Project) {
    let of = |path: &str| cloud.ask("GET", &format!("{BUCKET}/{path}"), "");
    assert_eq!(of("domains/managed")["enabled"], true);
    assert_eq!(of("cors")["rules"][0]["allowed"].get("headers"), None);
    assert_eq!(of("lifecycle")["rules"][0]["enabled"], true);
    assert_eq!(of("lock")["rules"][0]["id"], "keep");
    let domains = of("domains/custom")["domains"].clone();
    assert_eq!(domains[0]["domain"], "files.example.com");
    assert_eq!(domains[1]["enabled"], true);
    assert_eq!(domains[1]["minTLS"], "1.2");
    assert_eq!(notifications(cloud).1.as_array().map(Vec::len), Some(2));
    project.alch(["drift"]).success();
    cloud.take_calls();
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn each_declared_setting_is_one_call_and_others_are_none() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    project.alch(["drift"]).success();
    let mut calls = cloud.take_calls();
    calls.retain(|call| call.contains("r2/"));
    assert_eq!(
        calls,
        [
            "GET r2/buckets",
            "GET r2/buckets/files-dev/cors",
            "GET r2/buckets/files-dev/lifecycle",
            "GET r2/buckets/files-dev/lock",
            "GET r2/buckets/files-dev/domains/managed",
            "GET r2/buckets/files-dev/domains/custom",
            "GET event_notifications/r2/files-dev/configuration",
        ]
    );
    is_as_declared(&cloud, &project);
}

#[test]
fn what_another_client_changed_is_told_and_repaired() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    tamper(&cloud);
    let queue = queue(&cloud);
    project.alch(["drift"]).replacing(&queue, "[QUEUE]").check(str![[r#"
exit 7
-- stdout
changed   files (cloudflare::R2Bucket)  files-dev
            devDomain: state has true, the provider false
            cors.0.allowed.headers: state has null, the provider ["*"]
            lifecycle.0.enabled: state has true, the provider false
            lifecycle.1.deleteObjectsTransition.condition.maxAge: state has 86400, the provider 600
            lock: state has [{"condition":{"maxAgeSeconds":60,"type":"Age"},"enabled":true,"id":"keep","pref .., the provider []
            domains.0: state has {"domain":"files.example.com"}, the provider null
            domains.1.enabled: state has true, the provider false
            domains.1.minTls: state has "1.2", the provider "1.0"
            notifications.[QUEUE]: state has [{"actions":["PutObject","CopyObject"],"prefix":"a/"},{"actions":["DeleteObject" .., the provider [{"actions":["DeleteObject"],"description":"gone"}]
1 of 4 objects drifted (9 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    project.alch(["drift", "--repair"]).success();
    is_as_declared(&cloud, &project);
}

#[test]
fn a_run_that_refreshes_plans_it_and_brings_it_back() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    tamper(&cloud);
    let plan = ["plan", "--refresh", "--target", "cloudflare"];
    let queue = queue(&cloud);
    project.alch(plan).replacing(&queue, "[QUEUE]").check(str![[r#"
exit 0
-- stdout
  ~ files (cloudflare::R2Bucket)  files-dev  # devDomain, cors.0.allowed.headers, lifecycle.0.enabled, lifecycle.1.deleteObjectsTransition.condition.maxAge, lock, domains.0, domains.1.enabled, domains.1.minTls, notifications.[QUEUE] changed at the provider
      ~ devDomain: false -> true
      ~ cors[0].allowed.headers: ["*"] -> null
      ~ lifecycle[0].enabled: false -> true
      ~ lifecycle[1].deleteObjectsTransition.condition.maxAge: 600 -> 86400
      ~ lock: [] -> [{"condition":{"maxAgeSeconds":60,"type":"Age"},"enabled":true,"id":"keep","prefix":"a/"}]
      ~ domains[0]: null -> {"domain":"files.example.com"}
      ~ domains[1].enabled: false -> true
      ~ domains[1].minTls: "1.0" -> "1.2"
      ~ notifications.[QUEUE]: [{"actions":["DeleteObject"],"description":"gone"}] -> [{"actions":["PutObject","CopyObject"],"prefix":"a/"},{"actions":["DeleteObject"],"description":"gon ..
Plan: 0 to create, 1 to update, 0 to delete, 3 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    let run = ["run", "--refresh", "--target", "cloudflare"];
    project.alch(run).success();
    is_as_declared(&cloud, &project);
}

#[test]
fn settings_that_are_gone_altogether_are_set_again() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    cloud.ask("DELETE", &format!("{BUCKET}/cors"), "");
    cloud.ask("DELETE", &notifications(&cloud).0, "");
    let queue = queue(&cloud);
    project.alch(["drift"]).replacing(&queue, "[QUEUE]").check(str![[r#"
exit 7
-- stdout
changed   files (cloudflare::R2Bucket)  files-dev
            cors: state has [{"allowed":{"methods":["GET"],"origins":["https://example.com"]},"maxAgeSeconds .., the provider []
            notifications.[QUEUE]: state has [{"actions":["PutObject","CopyObject"],"prefix":"a/"},{"actions":["DeleteObject" .., the provider []
1 of 4 objects drifted (9 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    project.alch(["drift", "--repair"]).success();
    is_as_declared(&cloud, &project);
}
