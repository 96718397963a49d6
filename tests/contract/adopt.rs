//! What drift, scan, import and login send.

use super::provider::{Step, assert_sent, command, run};

const ALL: &str = r#"
let db = Database("db");
KV("cache");
Bucket("files");
Bucket("europe", #{ jurisdiction: "eu" });
Queue("jobs");
Worker("api", #{ script: "export default {}" });
"#;

/// What stands in lists by place.
const PLACES: &str = r#"
let zone = Zone("example.com", #{ settings: #{ ssl: "strict" } });
DnsRecords("www", #{ zone: zone, records: [#{ type: "A", name: "www", content: "192.0.2.1" }] });
let files = Bucket("files");
R2Object("hello", #{ bucket: files, content: "hello" });
let jobs = Queue("jobs");
let orders = Workflow("orders", #{ className: "Orders" });
let api = Worker("api", #{
    script: "export class Orders {} export default { queue() {} }",
    bindings: #{ ORDERS: orders, FILES: files, MODE: "calm", KEY: secret("of-the-contract") },
    crons: ["0 2 * * *"], routes: ["example.com/*"], domains: ["www.example.com"], eventSources: [jobs],
});
Route("shop", #{ pattern: "shop.example.com/*", script: api, zone: zone });
"#;

const fn look(arguments: &'static [&'static str]) -> Step {
    command(arguments, 0)
}

#[test]
fn looking_is_listing() {
    let queue = ("POST", "queues", r#"{"queue_name":"theirs"}"#);
    let database = ("POST", "d1/database", r#"{"name":"theirs"}"#);
    assert_sent(
        &[queue, database],
        &[
            run(ALL),
            look(&["drift"]),
            look(&["drift", "--repair"]),
            look(&["run", "--target", "cloudflare", "--refresh"]),
            look(&["scan", "--target", "cloudflare"]),
            look(&["import", "Queue", "theirs", "theirs"]),
            look(&["import", "D1Database", "theirs", "their-db"]),
            command(&["state", "rm", "api", "--yes"], 0),
            look(&["import", "Worker", "api-dev"]),
            look(&["login", "--account", "Local cloud"]),
        ],
        &[
            "GET /accounts",
            "GET /user/tokens/verify",
            "GET /zones",
            "GET d1/database",
            "GET d1/database/{database_id}",
            "GET hyperdrive/configs",
            "GET queues",
            "GET queues/{queue_id}",
            "GET r2/buckets",
            "GET secrets_store/stores",
            "GET storage/kv/namespaces",
            "GET vectorize/v2/indexes",
            "GET workers/domains",
            "GET workers/scripts",
            "GET workers/scripts/{script_name}/content/v2",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/schedules",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "GET workers/subdomain",
            "GET workflows",
            "POST d1/database",
            "POST queues",
            "POST r2/buckets",
            "POST storage/kv/namespaces",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT workers/scripts/{script_name}",
        ],
    );
}

#[test]
fn looking_is_listing_by_place_where_there_is_one() {
    assert_sent(
        &[],
        &[
            run(PLACES),
            look(&["drift"]),
            look(&["drift", "--repair"]),
            look(&["run", "--target", "cloudflare", "--refresh"]),
            look(&["scan", "--target", "cloudflare"]),
            command(&["state", "rm", "www", "--yes"], 0),
            look(&["import", "DnsRecords", "example.com", "www"]),
        ],
        &[
            "GET /zones",
            "GET /zones/{zone_id}/dns_records",
            "GET /zones/{zone_id}/settings",
            "GET /zones/{zone_id}/workers/routes",
            "GET d1/database",
            "GET hyperdrive/configs",
            "GET queues",
            "GET r2/buckets",
            "GET r2/buckets/{bucket_name}/objects",
            "GET secrets_store/stores",
            "GET storage/kv/namespaces",
            "GET vectorize/v2/indexes",
            "GET workers/domains",
            "GET workers/scripts",
            "GET workers/scripts/{script_name}/schedules",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "GET workers/subdomain",
            "GET workflows",
            "GET workflows/{workflow_name}",
            "PATCH /zones/{zone_id}/settings/{setting_id}",
            "POST /zones",
            "POST /zones/{zone_id}/dns_records/batch",
            "POST /zones/{zone_id}/workers/routes",
            "POST queues",
            "POST queues/{queue_id}/consumers",
            "POST r2/buckets",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT r2/buckets/{bucket_name}/objects/{object_key}",
            "PUT workers/domains",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
            "PUT workflows/{workflow_name}",
        ],
    );
}
