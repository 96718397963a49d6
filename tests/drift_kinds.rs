//! Drift of zones, routes, DNS records, objects of buckets and workflows: by one list each, contents compared.

use serde_json::json;
use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
alchemy("shop");
let zone = Zone("example.com", #{ settings: #{ ssl: "strict", browserCacheTtl: 60 } });
let api = Worker("api", #{ script: "export default { fetch() { return new Response('hi') } }" });
Route("shop", #{ pattern: "shop.example.com/*", script: api, zone: zone });
Route("www", #{ pattern: "www.example.com/*", script: api, zone: zone });
DnsRecords("mail", #{ zone: zone, records: [
    #{ type: "MX", name: "@", content: "mx.example.net", priority: 10 },
    #{ type: "TXT", name: "@", content: "v=spf1 -all", comment: "who sends" },
    #{ type: "A", name: "www", content: "192.0.2.1", proxied: true },
] });
DnsRecords("other", #{ zone: zone, records: [#{ type: "A", name: "other", content: "192.0.2.9" }] });
let files = Bucket("files");
R2Object("first", #{ key: "a/first.txt", bucket: files, content: "one", cacheControl: "no-store" });
R2Object("second", #{ key: "a/second.txt", bucket: files, content: "two" });
R2Object("third", #{ key: "a/third.txt", bucket: files, content: "three" });
let orders = Workflow("orders", #{ className: "Orders" });
Worker("runner", #{ script: "export class Orders {} export default {}", bindings: #{ ORDERS: orders } });
Workflow("unbound", #{ className: "Nobody" });
"#;

fn deployed(cloud: &ServedCloud) -> Project {
    let mut project = Project::with_script(SCRIPT);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project
}

fn zone(cloud: &ServedCloud) -> String {
    let zones = cloud.ask("GET", "/zones", "");
    zones[0]["id"].as_str().unwrap().to_owned()
}

/// Brings everything back and sees that nothing is left to do.
fn repaired(cloud: &ServedCloud, project: &Project) {
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    cloud.take_calls();
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(
        run.stderr.contains("0 created, 0 updated"),
        "{}",
        run.stderr
    );
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn one_list_a_place_says_that_there_is_no_drift() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    project.alch(["drift"]).success();
    let mut calls = cloud.take_calls();
    let zone = zone(&cloud);
    calls.retain(|call| !call.contains("workers/scripts/"));
    calls.sort();
    assert_eq!(
        calls,
        [
            "GET /client/v4/zones",
            &format!("GET /client/v4/zones/{zone}/dns_records"),
            &format!("GET /client/v4/zones/{zone}/settings"),
            &format!("GET /client/v4/zones/{zone}/workers/routes"),
            "GET r2/buckets",
            "GET r2/buckets/files-dev/objects",
            "GET workers/scripts",
            "GET workflows",
        ]
    );
    repaired(&cloud, &project);
}

#[test]
fn what_another_client_changed_is_told_and_brought_back() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    let zone = zone(&cloud);
    cloud.ask(
        "PATCH",
        &format!("/zones/{zone}/settings/ssl"),
        r#"{"value":"off"}"#,
    );
    let routes = format!("/zones/{zone}/workers/routes");
    for route in cloud.ask("GET", &routes, "").as_array().unwrap() {
        let other = json!({ "pattern": route["pattern"], "script": "runner-dev" });
        if route["pattern"] == "shop.example.com/*" {
            let path = format!("{routes}/{}", route["id"].as_str().unwrap());
            cloud.ask("PUT", &path, &other.to_string());
        }
    }
    let records = format!("/zones/{zone}/dns_records");
    for record in cloud.ask("GET", &records, "").as_array().unwrap() {
        let path = format!("{records}/{}", record["id"].as_str().unwrap());
        match record["type"].as_str().unwrap() {
            "MX" => drop(cloud.ask("DELETE", &path, "")),
            "TXT" => drop(cloud.ask("PATCH", &path, r#"{"comment":"nobody knows"}"#)),
            _ if record["name"] == "www.example.com" => {
                cloud.ask(
                    "PATCH",
                    &path,
                    r#"{"content":"192.0.2.66","proxied":false}"#,
                );
            }
            _ => drop(cloud.ask("DELETE", &path, "")),
        }
    }
    let objects = "r2/buckets/files-dev/objects";
    cloud.ask(
        "PUT",
        &format!("{objects}/a%2Ffirst.txt"),
        "another content",
    );
    cloud.ask("DELETE", &format!("{objects}/a%2Fsecond.txt"), "");
    cloud.ask("DELETE", "workflows/orders-dev", "");
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
changed   example.com (cloudflare::Zone)  example.com
            settings.ssl: state has "strict", the provider "off"
changed   first (cloudflare::R2Object)  a/first.txt
            cacheControl: state has "no-store", the provider null
            etag: state has "f97c5d29941bfb1b2fdab0874906ab82", the provider "ac0732f4f24cf868e8921524b3dcc644"
            size: state has 3, the provider 15
changed   mail (cloudflare::DnsRecords)  mail
            records.0: state has {"content":"mx.example.net","name":"example.com","type":"MX"}, the provider null
            records.1.comment: state has "who sends", the provider "nobody knows"
            records.2.content: state has "192.0.2.1", the provider "192.0.2.66"
            records.2.proxied: state has true, the provider false
vanished  other (cloudflare::DnsRecords)  other
changed   runner (cloudflare::Worker)  runner-dev
            workflows.orders-dev: state has {"class_name":"Orders","script_name":"runner-dev"}, the provider null
vanished  second (cloudflare::R2Object)  a/second.txt
changed   shop (cloudflare::Route)  shop.example.com/*
            script: state has "api-dev", the provider "runner-dev"
7 of 13 objects drifted (14 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    repaired(&cloud, &project);
    let www = cloud.ask("GET", &format!("{records}?name=www.example.com"), "");
    assert_eq!(www[0]["content"], "192.0.2.1");
    assert_eq!(
        cloud.ask("GET", "workflows/orders-dev", "")["class_name"],
        "Orders"
    );
}

#[test]
fn with_their_bucket_and_their_zone_all_are_gone_and_planned_again() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud);
    let objects = cloud.ask("GET", "r2/buckets/files-dev/objects", "");
    for object in objects.as_array().unwrap() {
        let key = object["key"].as_str().unwrap().replace('/', "%2F");
        cloud.ask("DELETE", &format!("r2/buckets/files-dev/objects/{key}"), "");
    }
    cloud.ask("DELETE", "r2/buckets/files-dev", "");
    cloud.ask("DELETE", &format!("/zones/{}", zone(&cloud)), "");
    project
        .alch(["plan", "--refresh", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
  + example.com (cloudflare::Zone)  example.com  # vanished at the provider
-/+ shop (cloudflare::Route)  shop.example.com/*  # zone changed
      ~ zone: "${example.com}" -> (known after apply)  # forces replacement
-/+ www (cloudflare::Route)  www.example.com/*  # zone changed
      ~ zone: "${example.com}" -> (known after apply)  # forces replacement
-/+ mail (cloudflare::DnsRecords)  mail  # zone changed
      ~ zone: "${example.com}" -> (known after apply)  # forces replacement
-/+ other (cloudflare::DnsRecords)  other  # zone changed
      ~ zone: "${example.com}" -> (known after apply)  # forces replacement
  + files (cloudflare::R2Bucket)  files-dev  # vanished at the provider
  + first (cloudflare::R2Object)  a/first.txt  # vanished at the provider
  + second (cloudflare::R2Object)  a/second.txt  # vanished at the provider
  + third (cloudflare::R2Object)  a/third.txt  # vanished at the provider
Plan: 5 to create, 0 to update, 0 to delete, 4 unchanged, 4 to replace
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    repaired(&cloud, &project);
}

#[test]
fn many_objects_are_read_page_by_page_to_the_last_known_one() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(
        r#"alchemy("shop"); let files = Bucket("files");
           R2Object("o0001", #{ key: "b/0001", bucket: files, content: "x" }); R2Object("o9999", #{ key: "b/9999", bucket: files, content: "y" });"#,
    );
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    for number in 0..1005 {
        let path = format!("r2/buckets/files-dev/objects/b%2F{}", 2000 + number);
        cloud.ask("PUT", &path, "z");
    }
    cloud.ask("PUT", "r2/buckets/files-dev/objects/c", "not read");
    cloud.take_calls();
    project.alch(["drift"]).success();
    let objects = "GET r2/buckets/files-dev/objects";
    let calls = cloud.take_calls();
    assert_eq!(
        calls.iter().filter(|call| *call == objects).count(),
        2,
        "{calls:?}"
    );
}
