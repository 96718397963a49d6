//! `alch scan` of every kind that can be listed, and its draft as a script that runs.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud, without_ids};

const THEIRS: &str = r#"
alchemy("theirs");
let zone = Zone("example.com", #{ settings: #{ ssl: "strict" } });
Hyperdrive("pool", #{ name: "pool", origin: #{ host: "db.example.com", database: "main", user: "me", password: secret("hidden-here") } });
let store = SecretsStore("store", #{ name: "store" });
Secret("key", #{ store: store, name: "KEY", value: secret("hidden-key") });
DnsRecords("web", #{ zone: zone, records: [
    #{ type: "A", name: "www", content: "192.0.2.1" }, #{ type: "A", name: "old", content: "192.0.2.2" },
] });
let jobs = Queue("jobs", #{ name: "jobs" });
let files = Bucket("files", #{ name: "files" });
let api = Worker("api", #{ name: "api", script: "export class Orders {} export default { fetch() {}, queue() {} }", bindings: #{
    ORDERS: Workflow("orders", #{ workflowName: "orders", className: "Orders" }),
} });
Route("shop", #{ pattern: "shop.example.com/*", script: api, zone: zone });
QueueConsumer("consumer", #{ queue: jobs, scriptName: api });
CustomDomain("api.example.com", #{ worker: api });
AiGateway("gate", #{ name: "gate", cacheTtl: 60 });
Tunnel("way", #{ name: "way", ingress: [#{ hostname: "way.example.com", service: "http://localhost" }, #{ service: "http_status:404" }] });
VectorizeIndex("words", #{ name: "words", dimensions: 768, metadataIndexes: [#{ propertyName: "url", indexType: "string" }] });
"#;

#[test]
fn the_draft_of_every_kind_runs() {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(THEIRS);
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    cloud.take_calls();

    let scan = project.alch(["scan", "--target", "cloudflare"]).success();
    snapbox::assert_data_eq!(
        without_ids(&scan.stdout),
        str![[r#"
// 15 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("my-app");

// cloudflare::AiGateway: 1
AiGateway("gate", #{ adopt: true, cacheTtl: 60, name: "gate" });

// cloudflare::CustomDomain: 1
// `api.example.com` comes with the import of the Worker `api`

// cloudflare::DnsRecords: 1
DnsRecords("example.com", #{ adopt: true, records: [#{ content: "192.0.2.2", name: "old.example.com", "type": "A" }, #{ content: "192.0.2.1", name: "www.example.com", "type": "A" }], zoneId: "[ID]" });

// cloudflare::Hyperdrive: 1
// no call shows `origin.password`: put it into `POOL_PASSWORD` of the environment
Hyperdrive("pool", #{ adopt: true, name: "pool", origin: #{ database: "main", host: "db.example.com", password: secret(env("POOL_PASSWORD")), port: 5432, scheme: "postgres", user: "me" } });

// cloudflare::Queue: 1
Queue("jobs", #{ adopt: true, name: "jobs" });

// cloudflare::QueueConsumer: 1
// `jobs` comes with the import of the Worker `api`

// cloudflare::R2Bucket: 1
Bucket("files", #{ adopt: true, name: "files" });

// cloudflare::Route: 1
// `shop.example.com/*` comes with the import of the Worker `api`

// cloudflare::Secret: 1
// no call shows `value`: put it into `KEY_VALUE` of the environment
Secret("KEY", #{ adopt: true, name: "KEY", store: "[ID]", value: secret(env("KEY_VALUE")) });

// cloudflare::SecretsStore: 1
SecretsStore("store", #{ adopt: true, name: "store" });

// cloudflare::Tunnel: 1
Tunnel("way", #{ adopt: true, name: "way" });

// cloudflare::VectorizeIndex: 1
VectorizeIndex("words", #{ adopt: true, dimensions: 768, metric: "cosine", name: "words" });

// cloudflare::Worker: 1
// alch import Worker api --app my-app --target cloudflare

// cloudflare::Workflow: 1
Workflow("orders", #{ adopt: true, className: "Orders", scriptName: "api", workflowName: "orders" });

// cloudflare::Zone: 1
Zone("example.com-zone", #{ adopt: true, name: "example.com" });

"#]]
    );
    let mut calls = cloud.take_calls();
    calls.sort();
    snapbox::assert_data_eq!(
        without_ids(&calls.join("\n")),
        str![[r#"
GET /client/v4/zones
GET /client/v4/zones
GET /client/v4/zones/[ID]/dns_records
GET /client/v4/zones/[ID]/workers/routes
GET ai-gateway/gateways
GET cfd_tunnel
GET d1/database
GET hyperdrive/configs
GET queues
GET queues
GET r2/buckets
GET r2/buckets
GET secrets_store/stores
GET secrets_store/stores
GET secrets_store/stores/[ID]/secrets
GET storage/kv/namespaces
GET vectorize/v2/indexes
GET workers/domains
GET workers/scripts
GET workers/scripts
GET workers/scripts/api/settings
GET workflows
"#]]
    );

    // What it needs of the environment is said, and asked for.
    project.file("alchemy.run.rhai", &scan.stdout);
    project.alch(["check"]).success();
    let plan = project.alch(["plan", "--adopt", "--target", "cloudflare"]);
    let plan = plan.code(1);
    assert!(
        plan.stderr.contains("`POOL_PASSWORD` is not set"),
        "{}",
        plan.stderr
    );
    project.env("POOL_PASSWORD", "hidden-here");
    project.env("KEY_VALUE", "hidden-key");
    project
        .alch(["plan", "--adopt", "--target", "cloudflare"])
        .success();
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    // A workflow of another Worker is only named, so that nothing is made.
    assert!(
        run.stderr
            .contains("1 created, 0 updated, 0 deleted, 0 unchanged, 10 adopted"),
        "{}",
        run.stderr
    );
    let again = project.alch(["scan", "--target", "cloudflare"]).success();
    snapbox::assert_data_eq!(
        again.stdout,
        str![[r#"
// 4 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("my-app");

// cloudflare::CustomDomain: 1
// `api.example.com` comes with the import of the Worker `api`

// cloudflare::QueueConsumer: 1
// `jobs` comes with the import of the Worker `api`

// cloudflare::Route: 1
// `shop.example.com/*` comes with the import of the Worker `api`

// cloudflare::Worker: 1
// alch import Worker api --app my-app --target cloudflare

"#]]
    );
    // What was not drafted was left alone.
    let zone = cloud.ask("GET", "/zones", "")[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let ssl = cloud.ask("GET", &format!("/zones/{zone}/settings/ssl"), "");
    assert_eq!(ssl["value"], "strict");
    let indexes = cloud.ask("GET", "vectorize/v2/indexes/words/metadata_index/list", "");
    assert_eq!(indexes["metadataIndexes"][0]["propertyName"], "url");
    let tunnels = cloud.ask("GET", "cfd_tunnel", "");
    let tunnel = tunnels[0]["id"].as_str().expect("an id");
    let config = cloud.ask("GET", &format!("cfd_tunnel/{tunnel}/configurations"), "");
    assert_eq!(
        config["config"]["ingress"][0]["hostname"],
        "way.example.com"
    );
}

#[test]
fn what_the_resources_of_state_hold_is_left_out() {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(THEIRS);
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    theirs
        .alch(["scan", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
// state knows all of the 15 objects on target cloudflare
-- stderr
0 of 15 objects unknown to state (20 API calls)

"#]]);

    // A route, a domain, a consumer and a workflow that only a Worker of state declares, and a record beside those of state.
    for id in ["shop", "consumer", "api.example.com", "orders"] {
        theirs.alch(["state", "rm", id, "--yes"]).success();
    }
    let zone = cloud.ask("GET", "/zones", "")[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/zones/{zone}/dns_records");
    let record = r#"{"type":"A","name":"new.example.com","content":"192.0.2.3","ttl":60}"#;
    cloud.ask("POST", &path, record);
    let scan = theirs.alch(["scan", "--target", "cloudflare"]).success();
    snapbox::assert_data_eq!(
        without_ids(&scan.stdout),
        str![[r#"
// 5 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("theirs");

// cloudflare::CustomDomain: 1
CustomDomain("api.example.com", #{ adopt: true, worker: "api", zoneId: "[ID]" });

// cloudflare::DnsRecords: 1
DnsRecords("example.com-dnsrecords", #{ adopt: true, records: [#{ content: "192.0.2.3", name: "new.example.com", ttl: 60, "type": "A" }], zoneId: "[ID]" });

// cloudflare::QueueConsumer: 1
QueueConsumer("jobs-queueconsumer", #{ adopt: true, queue: "[ID]", scriptName: "api" });

// cloudflare::Route: 1
Route("shop.example.com", #{ adopt: true, pattern: "shop.example.com/*", script: "api", zoneId: "[ID]" });

// cloudflare::Workflow: 1
Workflow("orders", #{ adopt: true, className: "Orders", scriptName: "api", workflowName: "orders" });

"#]]
    );

    let mut ours = Project::new();
    cloud.serve_to(&mut ours);
    let import = [
        "import",
        "Worker",
        "api",
        "--target",
        "cloudflare",
        "--app",
        "ours",
    ];
    ours.alch(import).success();
    let scan = ours.alch(["scan", "--target", "cloudflare"]).success();
    for kind in [
        "Route",
        "CustomDomain",
        "QueueConsumer",
        "Workflow",
        "Worker",
    ] {
        assert!(
            !scan.stdout.contains(&format!("// cloudflare::{kind}:")),
            "{kind}: {}",
            scan.stdout
        );
    }
}
