//! Drift of Workers: whatever the script set and another client changed is seen, told and brought back.

use serde_json::{Value, json};
use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
alchemy("shop");
let zone = Zone("example.com");
let cache = KV("cache");
let jobs = Queue("jobs");
let watcher = Worker("watcher", #{ script: "export default { fetch() { return new Response('w') }, tail() {} }" });
Worker("api", #{
    script: "export default { fetch() { return new Response('hi') }, queue() {}, scheduled() {} }",
    bindings: #{
        CACHE: cache, MODE: "calm", LIMIT: Json(#{ most: 3 }), KEY: alchemy.secret("s3cret-of-the-shop"),
        ROOM: DurableObjectNamespace("room", #{ className: "Room" }), ME: Self(), CACHE_NAME: cache.name,
    },
    crons: ["0 2 * * *", "0 3 * * *"],
    tags: ["team-a"],
    placement: #{ mode: "smart" },
    limits: #{ cpuMs: 50 },
    observability: #{ enabled: true, headSamplingRate: 0.5 },
    tailConsumers: [watcher],
    routes: ["shop.example.com/*", "example.com/api/*"],
    domains: ["www.example.com"],
    eventSources: [#{ queue: jobs, settings: #{ batchSize: 5 } }],
});
"#;

fn deployed(cloud: &ServedCloud, script: &str) -> Project {
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project
}

fn script() -> String {
    SCRIPT.replace(
        "export default { fetch() { return new Response('hi')",
        "export class Room {} export default { fetch() { return new Response('hi')",
    )
}

const API: &str = "workers/scripts/api-dev";

/// The id of the only zone.
fn zone(cloud: &ServedCloud) -> String {
    let zones = cloud.ask("GET", "/zones", "");
    zones[0]["id"].as_str().unwrap().to_owned()
}

/// The settings of the Worker with `change` made to its bindings, sent back as other clients do.
fn rebind(cloud: &ServedCloud, change: impl FnOnce(&mut Vec<Value>)) {
    let settings = cloud.ask("GET", &format!("{API}/settings"), "");
    let mut bindings = settings["bindings"].as_array().unwrap().clone();
    for binding in &mut bindings {
        if binding["type"] == "secret_text" {
            binding["type"] = json!("inherit");
        }
    }
    change(&mut bindings);
    let body = json!({ "bindings": bindings }).to_string();
    cloud.ask("PATCH", &format!("{API}/settings"), &body);
}

/// Brings everything back and sees that nothing is left to do.
fn repaired(cloud: &ServedCloud, project: &Project) {
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    cloud.take_calls();
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains(" 0 updated"), "{}", run.stderr);
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn a_worker_as_it_was_deployed_has_no_drift() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, &script());
    project.alch(["drift"]).check(str![[r#"
exit 0
-- stdout
no drift: 6 objects as in state (14 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare

"#]]);
    let mut calls = cloud.take_calls();
    calls.sort();
    let zone = zone(&cloud);
    assert_eq!(
        calls,
        [
            // For the kind, and to find the zone of the routes.
            "GET /client/v4/zones",
            "GET /client/v4/zones",
            &format!("GET /client/v4/zones/{zone}/workers/routes"),
            // For the kind, and for their consumers.
            "GET queues",
            "GET queues",
            "GET storage/kv/namespaces",
            "GET workers/domains",
            "GET workers/scripts",
            "GET workers/scripts/api-dev/schedules",
            "GET workers/scripts/api-dev/settings",
            "GET workers/scripts/api-dev/subdomain",
            "GET workers/scripts/watcher-dev/schedules",
            "GET workers/scripts/watcher-dev/settings",
            "GET workers/scripts/watcher-dev/subdomain",
        ]
    );
    repaired(&cloud, &project);
}

#[test]
fn settings_that_another_client_changed_are_brought_back() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, &script());
    rebind(&cloud, |bindings| {
        bindings.retain(|binding| binding["name"] != "LIMIT" && binding["name"] != "KEY");
        for binding in &mut *bindings {
            if binding["name"] == "MODE" {
                binding["text"] = json!("wild");
            }
        }
        bindings.push(json!({ "name": "EXTRA", "type": "plain_text", "text": "more" }));
        bindings.push(json!({ "name": "KEY", "type": "plain_text", "text": "not-to-be-shown" }));
    });
    let settings = json!({ "placement": null, "limits": { "cpu_ms": 10 }, "compatibility_date": "2026-01-01" });
    cloud.ask("PATCH", &format!("{API}/settings"), &settings.to_string());
    let shared = json!({
        "tags": ["team-b"], "tail_consumers": [], "logpush": true,
        "observability": { "enabled": false, "head_sampling_rate": 0.5 },
    });
    cloud.ask(
        "PATCH",
        &format!("{API}/script-settings"),
        &shared.to_string(),
    );
    cloud.ask(
        "PUT",
        &format!("{API}/schedules"),
        r#"[{"cron":"0 3 * * *"},{"cron":"0 4 * * *"}]"#,
    );
    cloud.ask("POST", &format!("{API}/subdomain"), r#"{"enabled":false}"#);
    let drift = project.alch(["drift"]);
    assert!(!drift.stdout.contains("not-to-be-shown"));
    drift.check(str![[r#"
exit 7
-- stdout
changed   api (cloudflare::Worker)  api-dev
            compatibilityDate: state has "2026-07-01", the provider "2026-01-01"
            limits.cpuMs: state has 50, the provider 10
            observability.enabled: state has true, the provider false
            placement.mode: state has "smart", the provider null
            url: state has true, the provider false
            crons: state has ["0 2 * * *","0 3 * * *"], the provider ["0 3 * * *","0 4 * * *"]
            tags: state has ["team-a"], the provider ["team-b"]
            tailConsumers: state has ["watcher-dev"], the provider []
            bindings.KEY: state has {"type":"secret_text"}, the provider {"type":"plain_text"}
            bindings.LIMIT: state has {"most":3}, the provider null
            bindings.MODE: state has "calm", the provider "wild"
            bindings.EXTRA: state has null, the provider "more"
1 of 6 objects drifted (14 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    repaired(&cloud, &project);
}

#[test]
fn a_secret_that_is_gone_is_set_again_and_one_that_is_new_goes() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, &script());
    assert_eq!(
        cloud.call("DELETE", &format!("{API}/secrets/KEY"), "").0,
        200
    );
    let added = r#"{"name":"OTHER","type":"secret_text","text":"unheard-of"}"#;
    cloud.ask("PUT", &format!("{API}/secrets"), added);
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
changed   api (cloudflare::Worker)  api-dev
            bindings.KEY: state has {"type":"secret_text"}, the provider null
            bindings.OTHER: state has null, the provider {"type":"secret_text"}
1 of 6 objects drifted (14 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    repaired(&cloud, &project);
    let settings = cloud.ask("GET", &format!("{API}/settings"), "");
    assert!(
        settings
            .to_string()
            .contains(r#"{"name":"KEY","type":"secret_text"}"#),
        "{settings}"
    );
}

#[test]
fn what_leads_to_a_worker_is_brought_back_from_another() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, &script());
    let zone = zone(&cloud);
    let routes = format!("/zones/{zone}/workers/routes");
    let there = cloud.ask("GET", &routes, "");
    let id = |at: usize| there[at]["id"].as_str().unwrap().to_owned();
    cloud.ask("DELETE", &format!("{routes}/{}", id(0)), "");
    let elsewhere = json!({ "pattern": there[1]["pattern"], "script": "watcher-dev" });
    cloud.ask(
        "PUT",
        &format!("{routes}/{}", id(1)),
        &elsewhere.to_string(),
    );
    let domain = cloud.ask("GET", "workers/domains", "")[0].clone();
    let moved = json!({ "hostname": "www.example.com", "service": "watcher-dev", "zone_id": zone, "environment": "production" });
    cloud.ask(
        "DELETE",
        &format!("workers/domains/{}", domain["id"].as_str().unwrap()),
        "",
    );
    cloud.ask("PUT", "workers/domains", &moved.to_string());
    let queue = cloud.ask("GET", "queues", "")[0]["queue_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let consumers = format!("queues/{queue}/consumers");
    let consumer = cloud.ask("GET", &consumers, "")[0]["consumer_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let larger = r#"{"type":"worker","script_name":"api-dev","settings":{"batch_size":50}}"#;
    cloud.ask("PUT", &format!("{consumers}/{consumer}"), larger);
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
changed   api (cloudflare::Worker)  api-dev
            routes.0: state has {"pattern":"shop.example.com/*","script":"api-dev"}, the provider null
            routes.1: state has {"pattern":"example.com/api/*","script":"api-dev"}, the provider {"pattern":"example.com/api/*","script":"watcher-dev"}
            domains.0: state has {"name":"www.example.com","worker":"api-dev"}, the provider {"name":"www.example.com","worker":"watcher-dev"}
            eventSources.0: state has {"batch_size":5}, the provider {"batch_size":50}
1 of 6 objects drifted (14 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    repaired(&cloud, &project);
}

#[test]
fn bindings_of_kinds_that_are_kept_are_nobodys_business() {
    let cloud = ServedCloud::quick();
    let project = deployed(
        &cloud,
        r#"alchemy("shop"); Worker("api", #{ script: "export default {}", keepBindings: ["secret_text"] });"#,
    );
    let added = r#"{"name":"OTHER","type":"secret_text","text":"unheard-of"}"#;
    cloud.ask("PUT", &format!("{API}/secrets"), added);
    project.alch(["drift"]).success();
}
