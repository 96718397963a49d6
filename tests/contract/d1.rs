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

    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/query"),
        ("POST", "/raw"),
    ] {
        let path = format!("{one}{path}");
        local.fails((404, 7404), method, &path, json!({"sql": "SELECT 1"}));
    }
}
