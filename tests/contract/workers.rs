//! Workers: scripts, versions, deployments, settings, schedules, secrets.

use serde_json::{Value, json};

use super::local::{Local, Payload};

const ALL: &str = "/accounts/local/workers/scripts";
/// It exports every class, whatever the metadata says of them.
const CODE: &str = "export default { queue() {} }; export * from './classes.js'";

/// The body of an upload.
pub(super) fn parts(mut metadata: Value) -> Payload {
    metadata["main_module"] = json!("worker.js");
    Payload::Parts(vec![
        ("metadata", "application/json", metadata.to_string()),
        (
            "worker.js",
            "application/javascript+module",
            CODE.to_owned(),
        ),
        ("text.txt", "text/plain", "text".to_owned()),
    ])
}

/// Uploads a Worker; answers what the API says.
pub(super) fn upload(local: &mut Local, name: &str, metadata: Value) -> Value {
    local.ok("PUT", &format!("{ALL}/{name}"), parts(metadata))
}

pub(super) fn drive(local: &mut Local) {
    local.ok("GET", ALL, ());
    let created = upload(local, "plain", json!({}));
    assert_eq!(created["result"]["id"], "plain");
    let bindings = bindings(local);
    upload(
        local,
        "api",
        json!({
            "bindings": bindings,
            "compatibility_date": "2026-01-01",
            "compatibility_flags": ["nodejs_compat"],
            "tags": ["a", "b"],
            "logpush": false,
            "limits": {"cpu_ms": 50, "subrequests": 10},
            "placement": {"mode": "smart"},
            "observability": {"enabled": true, "head_sampling_rate": 0.5, "logs": {"enabled": true, "invocation_logs": true}},
            "tail_consumers": [{"service": "plain"}],
            "annotations": {"workers/message": "first", "workers/tag": "one"},
        }),
    );
    // What was bound stays by type, and by name.
    upload(
        local,
        "api",
        json!({"keep_bindings": ["secret_text"], "bindings": [{"name": "TEXT", "type": "inherit"}]}),
    );
    let one = format!("{ALL}/api");
    assets(local, &one);
    for (code, metadata) in [
        (
            10021,
            json!({"bindings": [{"name": "A", "type": "colour"}]}),
        ),
        (
            10041,
            json!({"bindings": [{"name": "A", "type": "kv_namespace", "namespace_id": "x"}]}),
        ),
        (
            10057,
            json!({"bindings": [{"name": "NONE", "type": "inherit"}]}),
        ),
    ] {
        local.fails((400, code), "PUT", &one, parts(metadata));
    }
    local.fails(
        (400, 10016),
        "PUT",
        &format!("{ALL}/No%20Name"),
        parts(json!({})),
    );
    local.ok("GET", ALL, ());
    for path in ["", "/content/v2"] {
        local.ok("GET", &format!("{one}{path}"), ());
    }
    local.ok("PUT", &format!("{one}/content"), parts(json!({})));
    local.fails(
        (404, 10007),
        "PUT",
        &format!("{ALL}/nosuch/content"),
        parts(json!({})),
    );
    local.ok("GET", "/accounts/local/workers/services/api", ());
    settings(local, &one);
    secrets(local, &one);
    versions(local, &one);
    local.ok("GET", &format!("{one}/queue-consumers"), ());
    tails(local, &format!("{one}/tails"));

    let subdomain = "/accounts/local/workers/subdomain";
    local.ok("GET", subdomain, ());
    local.ok("PUT", subdomain, json!({"subdomain": "mine"}));
    local.fails((400, 10001), "PUT", subdomain, json!({"subdomain": "No!"}));

    upload(
        local,
        "user",
        json!({"bindings": [{"name": "API", "type": "service", "service": "api"}]}),
    );
    local.fails((400, 10142), "DELETE", &one, ());
    local.ok("DELETE", &format!("{one}?force=true"), ());
    local.ok("DELETE", "/accounts/local/workers/services/user", ());
    gone(local, &one);
}

/// One binding of every type that can be bound here.
fn bindings(local: &mut Local) -> Value {
    let kv = local.ok(
        "POST",
        "/accounts/local/storage/kv/namespaces",
        json!({"title": "bound"}),
    );
    let d1 = local.ok(
        "POST",
        "/accounts/local/d1/database",
        json!({"name": "bound"}),
    );
    local.ok(
        "POST",
        "/accounts/local/r2/buckets",
        json!({"name": "bound"}),
    );
    local.ok(
        "POST",
        "/accounts/local/queues",
        json!({"queue_name": "bound"}),
    );
    json!([
        {"name": "TEXT", "type": "plain_text", "text": "text"},
        {"name": "SECRET", "type": "secret_text", "text": "hidden"},
        {"name": "KEY", "type": "secret_key", "format": "raw", "algorithm": {"name": "HMAC", "hash": "SHA-256"}, "usages": ["sign"], "key_base64": "AAEC"},
        {"name": "JSON", "type": "json", "json": {"a": [1, null]}},
        {"name": "KV", "type": "kv_namespace", "namespace_id": kv["result"]["id"]},
        {"name": "DB", "type": "d1", "id": d1["result"]["uuid"]},
        {"name": "DB2", "type": "d1", "database_id": d1["result"]["uuid"]},
        {"name": "BUCKET", "type": "r2_bucket", "bucket_name": "bound"},
        {"name": "QUEUE", "type": "queue", "queue_name": "bound"},
        {"name": "OTHER", "type": "service", "service": "plain"},
        {"name": "AI", "type": "ai"},
        {"name": "BROWSER", "type": "browser"},
        {"name": "VERSION", "type": "version_metadata"},
        {"name": "LIMIT", "type": "ratelimit", "namespace_id": "1", "simple": {"limit": 10, "period": 60}},
        {"name": "ANALYTICS", "type": "analytics_engine", "dataset": "events"},
    ])
}

fn assets(local: &mut Local, script: &str) {
    let session = format!("{script}/assets-upload-session");
    let [first, second] = [
        "00112233445566778899aabbccddeeff",
        "ffeeddccbbaa99887766554433221100",
    ];
    let manifest = json!({"manifest": {
        "/a.txt": {"hash": first, "size": 5}, "/b.txt": {"hash": second, "size": 5},
    }});
    let begun = local.ok("POST", &session, manifest.clone());
    assert_eq!(begun["result"]["buckets"], json!([[first, second]]));
    let token = format!("Bearer {}", begun["result"]["jwt"].as_str().unwrap());
    let headers = [("authorization", token.as_str())];
    let upload = "/accounts/local/workers/assets/upload?base64=true";
    let file =
        |hash: &'static str| Payload::Parts(vec![(hash, "text/plain", "aGVsbG8=".to_owned())]);
    let before = local.ok_with("POST", upload, &headers, file(first));
    assert_eq!(before["result"]["jwt"], json!(null));
    let last = local.ok_with("POST", upload, &headers, file(second));
    let config = json!({
        "html_handling": "none", "not_found_handling": "404-page", "run_worker_first": ["/api/*"],
        "_headers": "/*\n  A: b\n", "_redirects": "/a /b\n",
    });
    let assets = json!({"jwt": last["result"]["jwt"], "config": config});
    let bindings = json!([{"name": "ASSETS", "type": "assets"}]);
    let put = local.ok(
        "PUT",
        script,
        parts(json!({"assets": assets, "bindings": bindings})),
    );
    assert_eq!(put["result"]["has_assets"], true);
    local.ok(
        "PUT",
        script,
        parts(json!({"keep_assets": true, "keep_bindings": ["assets"]})),
    );
    assert_eq!(
        local.ok("POST", &session, manifest)["result"]["buckets"],
        json!([])
    );
    local.fails(
        (400, 10021),
        "POST",
        &session,
        json!({"manifest": {"a": {}}}),
    );
    local.fails((401, 10000), "POST", upload, file(first));
    local.fails(
        (400, 10021),
        "PUT",
        script,
        parts(json!({"assets": {"jwt": "x"}})),
    );
}

fn settings(local: &mut Local, script: &str) {
    let path = format!("{script}/settings");
    local.ok("GET", &path, ());
    let change = |settings: Value| {
        Payload::Parts(vec![("settings", "application/json", settings.to_string())])
    };
    local.ok(
        "PATCH",
        &path,
        change(json!({"compatibility_date": "2026-02-01", "logpush": true})),
    );
    local.fails(
        (400, 10021),
        "PATCH",
        &path,
        change(json!({"tags": "no list"})),
    );
    let path = format!("{script}/script-settings");
    local.ok("GET", &path, ());
    local.ok(
        "PATCH",
        &path,
        json!({"tags": ["c"], "logpush": false, "tail_consumers": [{"service": "plain"}]}),
    );
    local.fails((400, 10021), "PATCH", &path, json!({"logpush": "yes"}));

    let path = format!("{script}/schedules");
    local.ok("GET", &path, ());
    local.ok(
        "PUT",
        &path,
        json!([{"cron": "0 2 * * *"}, {"cron": "*/5 * * * MON"}]),
    );
    local.ok("GET", &path, ());
    local.fails((400, 10100), "PUT", &path, json!([{"cron": "sometimes"}]));
    local.ok("PUT", &path, json!([]));

    let path = format!("{script}/subdomain");
    local.ok("GET", &path, ());
    local.ok(
        "POST",
        &path,
        json!({"enabled": true, "previews_enabled": true}),
    );
    local.fails((400, 10001), "POST", &path, json!({}));
    local.ok("DELETE", &path, ());
}

fn secrets(local: &mut Local, script: &str) {
    let all = format!("{script}/secrets");
    local.ok(
        "PUT",
        &all,
        json!({"name": "TOKEN", "text": "x", "type": "secret_text"}),
    );
    local.fails((400, 10001), "PUT", &all, json!({"text": "x"}));
    local.ok("GET", &all, ());
    local.ok("GET", &format!("{all}/TOKEN"), ());
    local.fails((404, 10056), "GET", &format!("{all}/NONE"), ());
    let bulk = format!("{script}/secrets-bulk");
    let many = json!({"secrets": {"ONE": {"name": "ONE", "type": "secret_text", "text": "1"}, "TOKEN": null}});
    local.ok("PATCH", &bulk, many);
    local.fails((400, 10001), "PATCH", &bulk, json!({}));
    local.ok("DELETE", &format!("{all}/ONE"), ());
    local.fails((404, 10056), "DELETE", &format!("{all}/ONE"), ());
}

fn versions(local: &mut Local, script: &str) {
    let all = format!("{script}/versions");
    let metadata = json!({
        "bindings": [{"name": "TEXT", "type": "plain_text", "text": "new"}],
        "keep_bindings": ["secret_text"],
        "compatibility_date": "2026-03-01",
        "annotations": {"workers/message": "next"},
    });
    let created = local.ok("POST", &all, parts(metadata));
    let next = created["result"]["id"].clone();
    local.fails(
        (400, 10021),
        "POST",
        &all,
        Payload::Parts(vec![("metadata", "application/json", "{}".to_owned())]),
    );
    let list = local.ok("GET", &all, ());
    let before = list["result"]["items"][1]["id"].clone();
    for query in ["?page=2&per_page=1", "?page=99", "?deployable=true"] {
        local.ok("GET", &format!("{all}{query}"), ());
    }
    local.ok(
        "GET",
        &format!("{all}/{}", next.as_str().expect("an id")),
        (),
    );
    local.fails((404, 100_146), "GET", &format!("{all}/none"), ());

    let deployments = format!("{script}/deployments");
    let shares =
        json!([{"version_id": before, "percentage": 90}, {"version_id": next, "percentage": 10}]);
    let body = json!({"strategy": "percentage", "versions": shares, "annotations": {"workers/message": "slowly"}});
    let deployed = local.ok("POST", &deployments, body);
    local.fails(
        (400, 10001),
        "POST",
        &deployments,
        json!({"strategy": "percentage", "versions": []}),
    );
    local.ok("GET", &deployments, ());
    let id = deployed["result"]["id"].as_str().expect("an id");
    local.ok("GET", &format!("{deployments}/{id}"), ());
    local.fails((404, 10336), "GET", &format!("{deployments}/none"), ());
}

fn gone(local: &mut Local, script: &str) {
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/content/v2"),
        ("GET", "/settings"),
        ("GET", "/script-settings"),
        ("PATCH", "/script-settings"),
        ("GET", "/schedules"),
        ("GET", "/subdomain"),
        ("DELETE", "/subdomain"),
        ("GET", "/secrets"),
        ("GET", "/secrets/TOKEN"),
        ("DELETE", "/secrets/TOKEN"),
        ("GET", "/versions"),
        ("GET", "/versions/none"),
        ("GET", "/deployments"),
        ("GET", "/deployments/none"),
        ("GET", "/queue-consumers"),
    ] {
        local.fails((404, 10007), method, &format!("{script}{path}"), json!({}));
    }
    local.fails(
        (404, 10007),
        "PUT",
        &format!("{script}/schedules"),
        json!([]),
    );
    local.fails(
        (404, 10007),
        "POST",
        &format!("{script}/subdomain"),
        json!({"enabled": true}),
    );
    local.fails(
        (404, 10007),
        "POST",
        &format!("{script}/versions"),
        parts(json!({})),
    );
    local.fails(
        (404, 10090),
        "GET",
        "/accounts/local/workers/services/api",
        (),
    );
}

fn tails(local: &mut Local, all: &str) {
    local.fails((404, 10007), "GET", all, ());
    let made = local.ok("POST", all, json!({}));
    local.ok("GET", all, ());
    let one = format!("{all}/{}", made["result"]["id"].as_str().expect("an id"));
    local.ok("DELETE", &one, ());
    local.fails((404, 10007), "DELETE", &one, ());
}
