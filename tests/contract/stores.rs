//! Secrets stores, Hyperdrive configurations, Vectorize indexes, AI gateways and tunnels.

use serde_json::{Value, json};

use super::local::Local;

const STORES: &str = "/accounts/local/secrets_store/stores";
const CONFIGS: &str = "/accounts/local/hyperdrive/configs";
const GATEWAYS: &str = "/accounts/local/ai-gateway/gateways";
const TUNNELS: &str = "/accounts/local/cfd_tunnel";
const INDEXES: &str = "/accounts/local/vectorize/v2/indexes";

fn id(answer: &Value) -> &str {
    answer["id"].as_str().expect("an id")
}

pub(super) fn drive(local: &mut Local) {
    secrets(local);
    configs(local);
    indexes(local);
    gateways(local);
    tunnels(local);
}

fn secrets(local: &mut Local) {
    let made = local.ok("POST", STORES, json!({"name": "main"}));
    local.fails((409, 1003), "POST", STORES, json!({"name": "other"}));
    local.fails((400, 1001), "POST", STORES, json!({}));
    local.ok("GET", &format!("{STORES}?page=1&per_page=10"), ());
    local.fails((400, 1001), "GET", &format!("{STORES}?page=x"), ());
    let store = format!("{STORES}/{}", id(&made["result"]));
    local.ok("GET", &store, ());
    let secrets = format!("{store}/secrets");
    let one = json!({"name": "KEY", "value": "hidden", "scopes": ["workers"], "comment": "c"});
    let made = local.ok("POST", &secrets, json!([one]));
    local.fails((409, 1003), "POST", &secrets, json!([one]));
    local.fails((400, 1001), "POST", &secrets, json!([{"name": "A"}]));
    local.ok("GET", &format!("{secrets}?search=KEY"), ());
    let secret = format!("{secrets}/{}", id(&made["result"][0]));
    local.ok("GET", &secret, ());
    local.ok(
        "PATCH",
        &secret,
        json!({"value": "other", "scopes": ["workers"]}),
    );
    local.fails((400, 1001), "PATCH", &secret, json!({"scopes": []}));
    local.ok("GET", "/accounts/local/secrets_store/quota", ());
    local.ok("DELETE", &secret, ());
    for method in ["GET", "PATCH", "DELETE"] {
        local.fails((404, 1000), method, &secret, json!({}));
    }
    local.ok("DELETE", &store, ());
    for (method, path) in [
        ("GET", &store),
        ("DELETE", &store),
        ("GET", &secrets),
        ("POST", &secrets),
    ] {
        local.fails((404, 1001), method, path, json!([]));
    }
}

fn configs(local: &mut Local) {
    let full = json!({
        "name": "db",
        "origin": {"scheme": "postgres", "host": "db.example.com", "port": 5432, "database": "main",
                   "user": "me", "password": "hidden"},
        "caching": {"disabled": false, "max_age": 30, "stale_while_revalidate": 15},
        "origin_connection_limit": 20,
    });
    let made = local.ok("POST", CONFIGS, full.clone());
    local.fails((409, 2017), "POST", CONFIGS, full.clone());
    local.fails(
        (400, 2007),
        "POST",
        CONFIGS,
        json!({"name": "x", "origin": {}}),
    );
    local.ok("GET", CONFIGS, ());
    let one = format!("{CONFIGS}/{}", id(&made["result"]));
    local.ok("GET", &one, ());
    local.ok("PUT", &one, full);
    local.ok(
        "PATCH",
        &one,
        json!({"name": "renamed", "caching": {"disabled": true}}),
    );
    local.fails((400, 2007), "PATCH", &one, json!({"origin": 1}));
    local.ok("DELETE", &one, ());
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        local.fails((404, 2006), method, &one, json!({}));
    }
}

fn indexes(local: &mut Local) {
    let full = json!({"name": "words", "config": {"dimensions": 3, "metric": "cosine"}, "description": "d"});
    local.ok("POST", INDEXES, full.clone());
    local.fails((409, 3002), "POST", INDEXES, full);
    local.fails((400, 3001), "POST", INDEXES, json!({"name": "1"}));
    let zero = json!({"name": "zero", "config": {"dimensions": 0, "metric": "cosine"}});
    local.fails((400, 3003), "POST", INDEXES, zero);
    let preset = json!({"name": "preset", "config": {"preset": "@cf/baai/bge-small-en-v1.5"}});
    local.ok("POST", INDEXES, preset);
    local.ok("GET", INDEXES, ());
    let one = format!("{INDEXES}/words");
    local.ok("GET", &one, ());
    local.ok("GET", &format!("{one}/info"), ());
    let metadata = format!("{one}/metadata_index");
    let url = json!({"propertyName": "url", "indexType": "string"});
    local.ok("POST", &format!("{metadata}/create"), url.clone());
    local.fails((409, 40_004), "POST", &format!("{metadata}/create"), url);
    let odd = json!({"propertyName": "odd", "indexType": "date"});
    local.fails((400, 40_026), "POST", &format!("{metadata}/create"), odd);
    local.ok("GET", &format!("{metadata}/list"), ());
    let gone = json!({"propertyName": "url"});
    local.ok("POST", &format!("{metadata}/delete"), gone.clone());
    local.fails((404, 40_005), "POST", &format!("{metadata}/delete"), gone);
    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/info"),
        ("POST", "/metadata_index/create"),
        ("POST", "/metadata_index/delete"),
        ("GET", "/metadata_index/list"),
    ] {
        local.fails((404, 3000), method, &format!("{one}{path}"), json!({}));
    }
}

fn gateways(local: &mut Local) {
    let full = json!({
        "id": "models", "cache_invalidate_on_update": true, "cache_ttl": 60, "collect_logs": true,
        "rate_limiting_interval": 60, "rate_limiting_limit": null, "rate_limiting_technique": "sliding",
        "log_management": 10_000, "log_management_strategy": "DELETE_OLDEST", "authentication": true,
    });
    local.ok("POST", GATEWAYS, full.clone());
    local.fails((400, 7001), "POST", GATEWAYS, full.clone());
    for (field, value) in [
        ("id", json!("-")),
        ("cache_ttl", json!(-1)),
        ("collect_logs", json!(null)),
        ("rate_limiting_technique", json!("none")),
        ("log_management", json!(1)),
        ("logpush_public_key", json!(1)),
    ] {
        let mut bad = full.clone();
        bad[field] = value;
        local.fails((400, 7001), "POST", GATEWAYS, bad);
    }
    local.ok(
        "GET",
        &format!("{GATEWAYS}?page=1&per_page=10&search=mod"),
        (),
    );
    let one = format!("{GATEWAYS}/models");
    local.ok("GET", &one, ());
    local.ok("PUT", &one, full.clone());
    local.ok("DELETE", &one, ());
    for method in ["GET", "PUT", "DELETE"] {
        local.fails((404, 7002), method, &one, full.clone());
    }
}

fn tunnels(local: &mut Local) {
    let secret = "A".repeat(44);
    let full = json!({"name": "office", "config_src": "cloudflare", "tunnel_secret": secret});
    let made = local.ok("POST", TUNNELS, full.clone());
    local.fails((409, 1013), "POST", TUNNELS, full);
    let plain = local.ok("POST", TUNNELS, json!({"name": "plain"}));
    for bad in [
        json!({}),
        json!({"name": "x", "config_src": "here"}),
        json!({"name": "x", "tunnel_secret": "c2hvcnQ="}),
    ] {
        local.fails((400, 1001), "POST", TUNNELS, bad);
    }
    let listed = local.ok("GET", &format!("{TUNNELS}?name=office&page=1"), ());
    assert_eq!(listed["result_info"]["count"], 1);
    let one = format!("{TUNNELS}/{}", id(&made["result"]));
    local.ok("GET", &one, ());
    local.ok("PATCH", &one, json!({"name": "house"}));
    local.fails((409, 1013), "PATCH", &one, json!({"name": "plain"}));
    let token = local.ok("GET", &format!("{one}/token"), ());
    assert_eq!(token["result"], made["result"]["token"]);
    let configurations = format!("{one}/configurations");
    let rule = json!({"service": "http_status:404"});
    let body = json!({"config": {"ingress": [rule], "warp-routing": {"enabled": true}}});
    local.ok("PUT", &configurations, body.clone());
    let kept = local.ok("GET", &configurations, ());
    assert_eq!(kept["result"]["config"], body["config"]);
    let bad =
        json!({"config": {"ingress": [{"hostname": "a.example.com", "service": "http://b"}]}});
    local.fails((400, 1056), "PUT", &configurations, bad);
    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/token"),
        ("GET", "/configurations"),
        ("PUT", "/configurations"),
    ] {
        local.fails((404, 1003), method, &format!("{one}{path}"), body.clone());
    }
    local.ok("DELETE", &format!("{TUNNELS}/{}", id(&plain["result"])), ());
}
