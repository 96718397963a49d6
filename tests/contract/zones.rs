//! Zones: settings, DNS records, routes and custom domains of Workers.

use serde_json::{Value, json};

use super::{local::Local, workers};

const ALL: &str = "/zones";
const DOMAINS: &str = "/accounts/local/workers/domains";
/// An id that names nothing.
const NOTHING: &str = "0123456789abcdef0123456789abcdef";

fn id(answer: &Value) -> &str {
    answer["result"]["id"].as_str().expect("an id")
}

pub(super) fn drive(local: &mut Local) {
    let full = json!({"name": "example.com", "account": {"id": "local"}, "type": "full"});
    let made = local.ok("POST", ALL, full.clone());
    local.fails((400, 1061), "POST", ALL, full);
    local.fails((400, 1002), "POST", ALL, json!({"name": "x"}));
    for query in ["", "?name=example.com&page=1&per_page=5", "?status=active"] {
        local.ok("GET", &format!("{ALL}{query}"), ());
    }
    local.fails((400, 1001), "GET", "/zones?page=x", ());
    let one = format!("{ALL}/{}", id(&made));
    local.ok("GET", &one, ());
    local.ok("PATCH", &one, json!({"paused": true}));
    local.fails((400, 1001), "PATCH", &one, json!({"paused": 1}));
    local.ok("PUT", &format!("{one}/activation_check"), ());

    local.ok("GET", &format!("{one}/settings"), ());
    for (setting, value) in [("ssl", json!("strict")), ("browser_cache_ttl", json!(60))] {
        let setting = format!("{one}/settings/{setting}");
        local.ok("GET", &setting, ());
        local.ok("PATCH", &setting, json!({"value": value}));
        local.fails((400, 1007), "PATCH", &setting, json!({"value": true}));
    }
    local.fails((400, 1006), "GET", &format!("{one}/settings/colour"), ());

    records(local, &format!("{one}/dns_records"));
    routes(local, &one);

    let removed = format!("{ALL}/{NOTHING}");
    for (method, path) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("PUT", "/activation_check"),
        ("GET", "/settings"),
        ("GET", "/settings/ssl"),
        ("PATCH", "/settings/ssl"),
        ("GET", "/dns_records"),
        ("POST", "/dns_records"),
        ("POST", "/dns_records/batch"),
        ("GET", "/dns_records/export"),
        ("GET", "/dns_records/usage"),
        ("GET", "/workers/routes"),
        ("POST", "/workers/routes"),
    ] {
        let path = format!("{removed}{path}");
        local.fails((403, 9109), method, &path, json!({}));
    }
    local.ok("DELETE", &one, ());
    local.fails((403, 9109), "GET", &one, ());
}

fn records(local: &mut Local, all: &str) {
    let a = json!({"type": "A", "name": "www", "content": "192.0.2.1", "ttl": 1, "proxied": true,
                   "comment": "first", "tags": ["a:b"]});
    let made = local.ok("POST", all, a.clone());
    local.fails((400, 81_058), "POST", all, a);
    let clash = json!({"type": "CNAME", "name": "www", "content": "x.example.com", "ttl": 1});
    local.fails((400, 81_053), "POST", all, clash);
    local.fails(
        (400, 1004),
        "POST",
        all,
        json!({"type": "A", "name": "x", "ttl": 1}),
    );
    let caa = json!({"flags": 0, "tag": "issue", "value": "ca.example"});
    for record in [
        json!({"type": "AAAA", "name": "www", "content": "2001:db8::1", "ttl": 60}),
        json!({"type": "MX", "name": "@", "content": "mail.example.com", "ttl": 1, "priority": 5}),
        json!({"type": "TXT", "name": "@", "content": "text", "ttl": 1}),
        json!({"type": "CAA", "name": "@", "data": caa, "ttl": 1}),
    ] {
        local.ok("POST", all, record);
    }
    for query in ["", "?type=A", "?page=2&per_page=2"] {
        local.ok("GET", &format!("{all}{query}"), ());
    }
    local.ok("GET", &format!("{all}/export"), ());
    local.ok("GET", &format!("{all}/usage"), ());
    let one = format!("{all}/{}", id(&made));
    local.ok("GET", &one, ());
    let whole = json!({"type": "A", "name": "www", "content": "192.0.2.2", "ttl": 120});
    local.ok("PUT", &one, whole.clone());
    local.ok("PATCH", &one, whole);
    local.fails((400, 1004), "PATCH", &one, json!({"content": "x"}));
    let batch = json!({
        "deletes": [{"id": id(&made)}],
        "posts": [{"type": "CNAME", "name": "docs", "content": "x.example.com", "ttl": 1}],
    });
    let batched = local.ok("POST", &format!("{all}/batch"), batch);
    let put = batched["result"]["posts"][0]["id"].clone();
    let puts = json!({"puts": [
        {"id": put, "type": "CNAME", "name": "docs", "content": "y.example.com", "ttl": 1},
    ]});
    local.ok("POST", &format!("{all}/batch"), puts);
    local.ok(
        "DELETE",
        &format!("{all}/{}", put.as_str().expect("an id")),
        (),
    );
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        local.fails((404, 81_044), method, &one, json!({}));
    }
}

fn routes(local: &mut Local, zone: &str) {
    workers::upload(local, "routed", json!({}));
    let all = format!("{zone}/workers/routes");
    let route = json!({"pattern": "example.com/*", "script": "routed"});
    let made = local.ok("POST", &all, route.clone());
    local.fails((409, 10_020), "POST", &all, route);
    let foreign = json!({"pattern": "example.org/*", "script": "routed"});
    local.fails((400, 10_022), "POST", &all, foreign);
    let dangling = json!({"pattern": "example.com/a", "script": "none"});
    local.fails((400, 10_019), "POST", &all, dangling);
    local.ok("GET", &all, ());
    let one = format!("{all}/{}", id(&made));
    local.ok("GET", &one, ());
    local.ok("PUT", &one, json!({"pattern": "example.com/b*"}));
    local.ok("DELETE", &one, ());
    for method in ["GET", "PUT", "DELETE"] {
        local.fails(
            (404, 10_009),
            method,
            &one,
            json!({"pattern": "example.com/x"}),
        );
    }

    let domain =
        json!({"hostname": "api.example.com", "service": "routed", "environment": "production"});
    let made = local.ok("PUT", DOMAINS, domain);
    let nowhere = json!({"hostname": "api.example.org", "service": "routed"});
    local.fails((400, 100_117), "PUT", DOMAINS, nowhere);
    let nobody = json!({"hostname": "api.example.com", "service": "none"});
    local.fails((404, 10_007), "PUT", DOMAINS, nobody);
    for query in ["", "?hostname=api.example.com", "?service=none"] {
        local.ok("GET", &format!("{DOMAINS}{query}"), ());
    }
    let one = format!("{DOMAINS}/{}", id(&made));
    local.ok("GET", &one, ());
    local.ok("DELETE", &one, ());
    local.fails((404, 100_114), "GET", &one, ());
    local.fails((404, 100_114), "DELETE", &one, ());
}
