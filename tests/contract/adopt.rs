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
            look(&["login", "--account", "Local cloud"]),
        ],
        &[
            "GET /accounts",
            "GET /user/tokens/verify",
            "GET d1/database",
            "GET d1/database/{database_id}",
            "GET queues",
            "GET queues/{queue_id}",
            "GET r2/buckets",
            "GET storage/kv/namespaces",
            "GET workers/domains",
            "GET workers/scripts",
            "GET workers/services/{service_name}",
            "GET workers/subdomain",
            "POST d1/database",
            "POST queues",
            "POST r2/buckets",
            "POST storage/kv/namespaces",
            "POST workers/scripts/{script_name}/subdomain",
            "PUT workers/scripts/{script_name}",
        ],
    );
}
