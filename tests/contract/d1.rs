//! D1: databases, their settings, SQL.

use serde_json::json;

use super::local::{Local, Payload};

const ALL: &str = "/accounts/local/d1/database";

pub(super) fn drive(local: &mut Local) {
    let full = json!({
        "name": "full",
        "primary_location_hint": "weur",
        "read_replication": {"mode": "auto"},
    });
    let created = local.ok("POST", ALL, full.clone());
    local.ok(
        "POST",
        ALL,
        json!({"name": "in-europe", "jurisdiction": "eu"}),
    );
    local.ok("POST", ALL, Payload::Plain(json!({"name": "plain"})));
    for index in 0..11 {
        local.ok("POST", ALL, json!({"name": format!("many-{index}")}));
    }
    let one = format!(
        "{ALL}/{}",
        created["result"]["uuid"].as_str().expect("a uuid")
    );
    local.fails((400, 7502), "POST", ALL, full);
    for bad in [
        json!({}),
        json!([]),
        json!({"name": "Not-This"}),
        json!({"name": "x", "jurisdiction": "moon"}),
        json!({"name": "x", "read_replication": {}}),
    ] {
        local.fails((400, 7400), "POST", ALL, bad);
    }
    for query in ["", "?page=2&per_page=10", "?page=9", "?name=many"] {
        local.ok("GET", &format!("{ALL}{query}"), ());
    }
    local.fails((400, 7400), "GET", &format!("{ALL}?page=0"), ());

    local.ok("GET", &one, ());
    local.ok("GET", &format!("{one}?fields=uuid,name"), ());
    let replication = json!({"read_replication": {"mode": "disabled"}});
    local.ok("PATCH", &one, replication.clone());
    local.ok("PUT", &one, replication);
    for method in ["PATCH", "PUT"] {
        local.fails(
            (400, 7400),
            method,
            &one,
            json!({"read_replication": {"mode": "x"}}),
        );
    }

    for (path, shape) in [("query", "_q"), ("raw", "_r")] {
        let path = format!("{one}/{path}");
        let sql = format!("CREATE TABLE t{shape}(a INTEGER, b TEXT, c REAL, d BLOB)");
        local.ok("POST", &path, json!({"sql": sql}));
        local.ok(
            "POST",
            &path,
            json!({"sql": format!("INSERT INTO t{shape} VALUES(?, ?, ?, x'00ff')"), "params": ["1", "two", "3.5"]}),
        );
        local.ok(
            "POST",
            &path,
            json!({"sql": format!("SELECT * FROM t{shape}; SELECT 1")}),
        );
        local.ok(
            "POST",
            &path,
            json!({"batch": [{"sql": "SELECT ?", "params": ["a"]}, {"sql": "SELECT 2"}]}),
        );
        local.fails((400, 7500), "POST", &path, json!({"sql": "SELEC"}));
        local.fails((400, 7500), "POST", &path, json!({"sql": ""}));
        local.fails((400, 7400), "POST", &path, json!({}));
    }

    transfers(local, &one);

    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/query"),
        ("POST", "/raw"),
        ("POST", "/import"),
        ("POST", "/export"),
        ("GET", "/time_travel/bookmark"),
        ("POST", "/time_travel/restore"),
    ] {
        let path = format!("{one}{path}");
        local.fails((404, 7404), method, &path, json!({"sql": "SELECT 1"}));
    }
}

/// Dumps and bookmarks.
fn transfers(local: &mut Local, one: &str) {
    let (import, export) = (format!("{one}/import"), format!("{one}/export"));
    // The MD5 of what is uploaded.
    let etag = "71568061b2970a4b7c5160fe75356e10";
    let begun = local.ok("POST", &import, json!({"action": "init", "etag": etag}));
    let ingest = json!({
        "action": "ingest", "etag": etag, "filename": begun["result"]["filename"],
    });
    local.fails((400, 7400), "POST", &import, ingest.clone());
    local.follow("PUT", &begun["result"]["upload_url"], "SELECT 1;");
    let done = local.ok("POST", &import, ingest);
    assert_eq!(done["result"]["status"], "complete", "{done}");
    local.ok(
        "POST",
        &import,
        json!({"action": "poll", "current_bookmark": "x"}),
    );
    for bad in [
        json!({}),
        json!({"action": "x"}),
        json!({"action": "init"}),
        json!({"action": "init", "etag": "x"}),
        json!({"action": "poll"}),
    ] {
        local.fails((400, 7400), "POST", &import, bad);
    }

    let options = json!({"no_data": true, "tables": ["t_q"]});
    let options = json!({"output_format": "polling", "dump_options": options});
    let exported = local.ok("POST", &export, options);
    let dump = local.follow("GET", &exported["result"]["result"]["signed_url"], "");
    assert_eq!(
        dump,
        "PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE t_q(a INTEGER, b TEXT, c REAL, d BLOB);\n"
    );
    let missing = json!({"tables": ["missing"]});
    let missing = json!({"output_format": "polling", "dump_options": missing});
    assert_eq!(
        local.ok("POST", &export, missing)["result"]["status"],
        "error"
    );
    for bad in [
        json!({}),
        json!({"output_format": "polling", "dump_options": {"tables": "t"}}),
    ] {
        local.fails((400, 7400), "POST", &export, bad);
    }

    let (read, restore) = (
        format!("{one}/time_travel/bookmark"),
        format!("{one}/time_travel/restore"),
    );
    let bookmark = local.ok("GET", &read, ());
    let bookmark = bookmark["result"]["bookmark"].as_str().expect("a bookmark");
    local.ok(
        "GET",
        &format!("{read}?timestamp=2999-01-01T00:00:00.000%2B00:00"),
        (),
    );
    local.ok("POST", &format!("{restore}?bookmark={bookmark}"), ());
    local.fails((400, 7500), "POST", &format!("{restore}?bookmark=x"), ());
    local.fails(
        (400, 7500),
        "GET",
        &format!("{read}?timestamp=2001-01-01T00:00:00Z"),
        (),
    );
    local.fails((400, 7400), "GET", &format!("{read}?timestamp=x"), ());
    local.fails((400, 7400), "POST", &restore, ());
}
