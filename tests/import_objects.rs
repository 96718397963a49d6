//! `alch import` of what needs more than its id: secrets that no call shows, records of a zone, names in place of ids.

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud, without_ids};

const THEIRS: &str = r#"
alchemy("theirs");
let zone = Zone("example.com", #{ settings: #{ ssl: "strict" } });
Hyperdrive("pool", #{
    name: "pool",
    origin: #{ host: "db.example.com", database: "main", user: "me", password: secret("hidden-here") },
    caching: #{ disabled: false, maxAge: 30 },
    mtls: #{ caCertificateId: "ca", sslMode: "verify-ca" }, originConnectionLimit: 20,
});
Hyperdrive("inner", #{
    name: "inner",
    origin: #{ scheme: "mysql", host: "db.internal", database: "main", user: "me", password: "p",
               accessClientId: "a", accessClientSecret: secret("hidden-there") },
});
let store = SecretsStore("store", #{ name: "store" });
Secret("key", #{ store: store, name: "KEY", value: secret("hidden"), comment: "a key" });
DnsRecords("mail", #{ zone: zone, records: [
    #{ type: "MX", name: "@", content: "mail.example.com", priority: 10 },
    #{ type: "TXT", name: "@", content: "v=spf1 -all", ttl: 300, comment: "mail" },
] });
DnsRecords("web", #{ zone: zone, records: [
    #{ type: "A", name: "www", content: "192.0.2.1", proxied: true },
    #{ type: "AAAA", name: "www", content: "2001:db8::1", tags: ["web"] },
    #{ type: "CAA", name: "@", data: #{ flags: 0, tag: "issue", value: "ca.example" } },
] });
let jobs = Queue("jobs", #{ name: "jobs" });
let api = Worker("api", #{ name: "api", script: "export class Orders {} export default { fetch() {}, queue() {} }", bindings: #{
    ORDERS: Workflow("orders", #{ workflowName: "orders", className: "Orders" }),
} });
Route("shop", #{ pattern: "shop.example.com/*", script: api, zone: zone });
QueueConsumer("consumer", #{ queue: jobs, scriptName: api, settings: #{ batchSize: 5 } });
CustomDomain("api.example.com", #{ worker: api });
AiGateway("gate", #{ name: "gate", cacheTtl: 60 });
Tunnel("way", #{ name: "way", ingress: [#{ service: "http_status:404" }] });
VectorizeIndex("words", #{ name: "words", dimensions: 768, metric: "euclidean",
    metadataIndexes: [#{ propertyName: "url", indexType: "string" }] });
"#;

/// Secrets that are given in the environment. They end up in no output.
const SECRETS: [(&str, &str); 4] = [
    ("POOL_PASSWORD", "hidden-here"),
    ("INNER_PASSWORD", "p-of-inner"),
    ("INNER_ACCESS_CLIENT_SECRET", "hidden-there"),
    ("KEY_VALUE", "hidden-key"),
];

/// A cloud with the objects of somebody else, and a project that knows none of them.
fn theirs() -> (ServedCloud, Project) {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(THEIRS);
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    (cloud, project)
}

fn import(project: &Project, arguments: &[&str]) -> Output {
    let all = ["import", "--target", "cloudflare", "--app", "shop"];
    project.alch(all.iter().chain(arguments))
}

#[test]
fn a_secret_that_no_call_shows_is_taken_from_the_environment() {
    let (cloud, mut project) = theirs();
    import(&project, &["Hyperdrive", "pool"]).check(str![[r#"
exit 1
-- stderr
error[E0203]: `pool` (cloudflare::Hyperdrive) cannot be imported without `origin.password`, which no call shows
 = note: nothing was changed
 = help: put it into `POOL_PASSWORD` of the environment or of an `--env-file`: the lines take it from there, now and in every run

"#]]);
    import(&project, &["Hyperdrive", "inner"]).check(str![[r#"
exit 1
-- stderr
error[E0203]: `inner` (cloudflare::Hyperdrive) cannot be imported without `origin.password` and `origin.accessClientSecret`, which no call shows
 = note: nothing was changed
 = help: put it into `INNER_PASSWORD` and `INNER_ACCESS_CLIENT_SECRET` of the environment or of an `--env-file`: the lines take it from there, now and in every run

"#]]);
    assert!(!project.path(".alchemy/shop").exists());

    for (name, value) in SECRETS {
        project.env(name, value);
    }
    cloud.take_calls();
    let pool = import(&project, &["Hyperdrive", "pool"]);
    pool.check(str![[r#"
exit 0
-- stdout
Hyperdrive("pool", #{ caching: #{ maxAge: 30 }, mtls: #{ caCertificateId: "ca", sslMode: "verify-ca" }, name: "pool", origin: #{ database: "main", host: "db.example.com", password: secret(env("POOL_PASSWORD")), port: 5432, scheme: "postgres", user: "me" }, originConnectionLimit: 20 });
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   pool  pool  [TIME]
no call shows `origin.password`: what `POOL_PASSWORD` says was taken for it, and stands sealed in state
imported as `pool`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    let mut script = format!("alchemy(\"shop\");\n{}", pool.stdout);
    for arguments in [["Hyperdrive", "inner"], ["Secret", "KEY"]] {
        script += &import(&project, &arguments).success().stdout;
    }
    snapbox::assert_data_eq!(
        without_ids(&script),
        str![[r#"
alchemy("shop");
Hyperdrive("pool", #{ caching: #{ maxAge: 30 }, mtls: #{ caCertificateId: "ca", sslMode: "verify-ca" }, name: "pool", origin: #{ database: "main", host: "db.example.com", password: secret(env("POOL_PASSWORD")), port: 5432, scheme: "postgres", user: "me" }, originConnectionLimit: 20 });
Hyperdrive("inner", #{ name: "inner", origin: #{ accessClientId: "a", accessClientSecret: secret(env("INNER_ACCESS_CLIENT_SECRET")), database: "main", host: "db.internal", password: secret(env("INNER_PASSWORD")), scheme: "mysql", user: "me" } });
Secret("KEY", #{ comment: "a key", name: "KEY", store: "[ID]", value: secret(env("KEY_VALUE")) });

"#]]
    );
    let calls = cloud.take_calls();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );
    let state = project.state_files();
    for (_, value) in SECRETS {
        let written = state.values().any(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(value)
        });
        assert!(!written, "{value} is in a file");
    }

    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("3 unchanged"), "{}", run.stderr);
    project.alch(["drift"]).success();
    // Another password is a change, and so is what somebody else changed.
    project.env("POOL_PASSWORD", "changed-here");
    let plan = project.alch(["plan", "--target", "cloudflare"]).success();
    assert!(plan.stdout.contains("1 to update"), "{}", plan.stdout);
    let configs = cloud.ask("GET", "hyperdrive/configs", "");
    let id = configs.as_array().and_then(|list| {
        let pool = list.iter().find(|config| config["name"] == "pool");
        pool?["id"].as_str()
    });
    let path = format!("hyperdrive/configs/{}", id.expect("an id"));
    let moved = r#"{"origin":{"host":"elsewhere.example.com"},"caching":{"disabled":true}}"#;
    cloud.ask("PATCH", &path, moved);
    project.alch(["drift"]).check(str![[r#"
exit 7
-- stdout
changed   pool (cloudflare::Hyperdrive)  pool
            origin.host: state has "db.example.com", the provider "elsewhere.example.com"
1 of 3 objects drifted (2 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
}

#[test]
fn records_are_imported_by_zone_or_by_name() {
    let (cloud, project) = theirs();
    import(&project, &["DnsRecords", "other.example"]).code(6);
    import(&project, &["DnsRecords", "nothing.example.com"]).code(6);
    let www = import(&project, &["DnsRecords", "www.example.com", "www"]).success();
    cloud.take_calls();
    let rest = import(&project, &["DnsRecords", "example.com"]).success();
    let calls = cloud.take_calls();
    assert_eq!(
        calls
            .iter()
            .filter(|call| call.ends_with("/dns_records"))
            .count(),
        2,
        "{calls:?}"
    );
    let script = format!("alchemy(\"shop\");\n{}{}", www.stdout, rest.stdout);
    let zone = cloud.ask("GET", "/zones", "")[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    snapbox::assert_data_eq!(
        without_ids(&script),
        str![[r#"
alchemy("shop");
DnsRecords("www", #{ records: [#{ content: "192.0.2.1", name: "www.example.com", proxied: true, "type": "A" }, #{ content: "2001:db8::1", name: "www.example.com", tags: ["web"], "type": "AAAA" }], zoneId: "[ID]" });
DnsRecords("example.com", #{ records: [#{ data: #{ flags: 0, tag: "issue", value: "ca.example" }, name: "example.com", "type": "CAA" }, #{ content: "mail.example.com", name: "example.com", priority: 10, "type": "MX" }, #{ comment: "mail", content: "v=spf1 -all", name: "example.com", ttl: 300, "type": "TXT" }], zoneId: "[ID]" });

"#]]
    );
    let again = import(&project, &["DnsRecords", &zone]).code(1);
    assert!(
        again
            .stderr
            .contains("all of `example.com` (cloudflare::DnsRecords) is in state already"),
        "{}",
        again.stderr
    );

    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("2 unchanged"), "{}", run.stderr);
    project.alch(["drift"]).success();
    // A run that changes one record leaves the others as they are.
    project.file("alchemy.run.rhai", script.replace("192.0.2.1", "192.0.2.9"));
    project.alch(["run", "--target", "cloudflare"]).success();
    let path = format!("/zones/{zone}/dns_records");
    let records = cloud.ask("GET", &path, "");
    let records = records.as_array().expect("a list");
    assert_eq!(records.len(), 5, "{records:?}");
    assert!(
        records
            .iter()
            .any(|record| record["content"] == "192.0.2.9")
    );
}

#[test]
fn names_stand_for_objects_with_ids() {
    let (_cloud, project) = theirs();
    let mut script = "alchemy(\"shop\");\n".to_owned();
    let mut shown = String::new();
    for (kind, name) in [
        ("Zone", "example.com"),
        ("Tunnel", "way"),
        ("AiGateway", "gate"),
        ("VectorizeIndex", "words"),
        ("SecretsStore", "store"),
        ("Workflow", "orders"),
        ("Route", "shop.example.com/*"),
        ("CustomDomain", "api.example.com"),
        ("QueueConsumer", "jobs"),
    ] {
        let imported = import(&project, &[kind, name]).success();
        script += &imported.stdout;
        shown += &imported.stdout;
    }
    snapbox::assert_data_eq!(
        without_ids(&shown),
        str![[r#"
Zone("example.com", #{ settings: #{ ssl: "strict" } });
Tunnel("way", #{ name: "way" });
AiGateway("gate", #{ cacheTtl: 60, name: "gate" });
VectorizeIndex("words", #{ dimensions: 768, metadataIndexes: [#{ indexType: "string", propertyName: "url" }], metric: "euclidean", name: "words" });
SecretsStore("store", #{ name: "store" });
Workflow("orders", #{ className: "Orders", scriptName: "api", workflowName: "orders" });
Route("shop.example.com", #{ pattern: "shop.example.com/*", script: "api", zoneId: "[ID]" });
CustomDomain("api.example.com", #{ worker: "api", zoneId: "[ID]" });
QueueConsumer("jobs", #{ queue: "[ID]", scriptName: "api", settings: #{ batchSize: 5 } });

"#]]
    );
    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("9 unchanged"), "{}", run.stderr);
    project.alch(["drift"]).success();
}
