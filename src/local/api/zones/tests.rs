//! Zones over the API, and what the runtime makes of routes and domains.

use serde_json::{Value, json};

use super::{HostRule, host_rules};
use crate::local::{
    Cloud,
    testing::{Client, upload},
};

const ZONES: &str = "/zones";
const DOMAINS: &str = "/accounts/local/workers/domains";

async fn zone(client: &Client, name: &str) -> String {
    let body = json!({"name": name, "account": {"id": "local"}});
    let made = client.ok("POST", ZONES, Some(body)).await;
    made["result"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_zone_has_a_name_of_its_own_and_settings() {
    let client = Client::new();
    let id = zone(&client, "Example.com").await;
    let body = json!({"name": "example.com"});
    assert_eq!(client.fails("POST", ZONES, Some(body)).await, (400, 1061));
    for name in [
        json!("example"),
        json!("a b.com"),
        json!(1),
        json!(".com"),
        json!("-a.com"),
    ] {
        let body = json!({"name": name});
        assert_eq!(
            client.fails("POST", ZONES, Some(body)).await,
            (400, 1002),
            "{name}"
        );
    }
    for (query, count) in [
        ("", 1),
        ("?name=EXAMPLE.com", 1),
        ("?name=other.com", 0),
        ("?page=2", 0),
    ] {
        let listed = client.ok("GET", &format!("{ZONES}{query}"), None).await;
        assert_eq!(listed["result_info"]["count"], count, "{query}");
    }
    let one = format!("{ZONES}/{id}");
    let paused = client
        .ok("PATCH", &one, Some(json!({"paused": true})))
        .await;
    assert_eq!(paused["result"]["paused"], true);
    assert_eq!(
        client
            .fails("PATCH", &one, Some(json!({"type": "half"})))
            .await,
        (400, 1001)
    );
    let ssl = format!("{one}/settings/ssl");
    assert_eq!(
        client.ok("GET", &ssl, None).await["result"]["value"],
        "full"
    );
    client
        .ok("PATCH", &ssl, Some(json!({"value": "strict"})))
        .await;
    assert_eq!(
        client.ok("GET", &ssl, None).await["result"]["value"],
        "strict"
    );
    let bad = Some(json!({"value": "on"}));
    assert_eq!(client.fails("PATCH", &ssl, bad).await, (400, 1007));
    let unknown = format!("{one}/settings/colour");
    assert_eq!(client.fails("GET", &unknown, None).await, (400, 1006));
    client.ok("DELETE", &one, None).await;
    assert_eq!(client.fails("GET", &one, None).await, (403, 9109));
}

#[tokio::test]
async fn a_zone_that_was_only_assumed_is_claimed_once() {
    let client = Client::new();
    let implied = [("alch-implied", "1")];
    let body = br#"{"name":"example.com"}"#.to_vec();
    let (_, first) = client.send("POST", ZONES, &implied, body.clone()).await;
    let (status, _) = client.send("POST", ZONES, &implied, body).await;
    assert_eq!(status.as_u16(), 400);
    assert_eq!(zone(&client, "example.com").await, first["result"]["id"]);
    let body = json!({"name": "example.com"});
    assert_eq!(client.fails("POST", ZONES, Some(body)).await, (400, 1061));
}

#[tokio::test]
async fn records_are_checked_and_changed_together_or_not_at_all() {
    let client = Client::new();
    let id = zone(&client, "example.com").await;
    let all = format!("{ZONES}/{id}/dns_records");
    let a = json!({"type": "A", "name": "www", "content": "192.0.2.1", "ttl": 1});
    let made = client.ok("POST", &all, Some(a.clone())).await;
    assert_eq!(made["result"]["name"], "www.example.com");
    assert_eq!(client.fails("POST", &all, Some(a)).await, (400, 81_058));
    for (body, code) in [
        (
            json!({"type": "A", "name": "x", "content": "192.0.2", "ttl": 1}),
            1004,
        ),
        (
            json!({"type": "AAAA", "name": "x", "content": "192.0.2.1", "ttl": 1}),
            1004,
        ),
        (
            json!({"type": "MX", "name": "@", "content": "mail.example.com", "ttl": 1}),
            1004,
        ),
        (
            json!({"type": "TXT", "name": "@", "content": "x", "ttl": 5}),
            1004,
        ),
        (
            json!({"type": "TXT", "name": "@", "content": "x", "ttl": 1, "proxied": true}),
            1004,
        ),
        (
            json!({"type": "NOPE", "name": "@", "content": "x", "ttl": 1}),
            1004,
        ),
        (
            json!({"type": "CNAME", "name": "www", "content": "x.example.com", "ttl": 1}),
            81_053,
        ),
    ] {
        assert_eq!(
            client.fails("POST", &all, Some(body.clone())).await,
            (400, code),
            "{body}"
        );
    }
    let batch = format!("{all}/batch");
    let half = json!({
        "deletes": [{"id": made["result"]["id"]}],
        "posts": [{"type": "A", "name": "x", "content": "nothing", "ttl": 1}],
    });
    assert_eq!(client.fails("POST", &batch, Some(half)).await, (400, 1004));
    let listed = client
        .ok("GET", &format!("{all}?name=www.example.com&type=A"), None)
        .await;
    assert_eq!(listed["result_info"]["total_count"], 1);
    let whole = json!({
        "deletes": [{"id": made["result"]["id"]}],
        "posts": [
            {"type": "CNAME", "name": "www", "content": "x.example.com", "ttl": 1, "proxied": true},
            {"type": "CAA", "name": "@", "ttl": 300, "data": {"flags": 0, "tag": "issue", "value": "ca.example"}},
        ],
    });
    let done = client.ok("POST", &batch, Some(whole)).await;
    assert_eq!(done["result"]["posts"][1]["content"], "0 issue ca.example");
    let one = format!(
        "{all}/{}",
        done["result"]["posts"][0]["id"].as_str().unwrap()
    );
    let patched = client
        .ok("PATCH", &one, Some(json!({"proxied": false})))
        .await;
    assert_eq!(patched["result"]["content"], "x.example.com");
    client.ok("DELETE", &one, None).await;
    assert_eq!(client.fails("GET", &one, None).await, (404, 81_044));
}

#[tokio::test]
async fn routes_and_domains_lead_to_workers() {
    let client = Client::new();
    upload(&client, "api", json!({})).await;
    let id = zone(&client, "example.com").await;
    let all = format!("{ZONES}/{id}/workers/routes");
    let route = |pattern: &str, script: Value| Some(json!({"pattern": pattern, "script": script}));
    let made = client
        .ok("POST", &all, route("example.com/a*", json!("api")))
        .await;
    client
        .ok("POST", &all, route("*.example.com/*", json!("api")))
        .await;
    client
        .ok("POST", &all, route("www.example.com", json!(null)))
        .await;
    for (pattern, script, expected) in [
        ("example.com/a*", json!("api"), (409, 10_020)),
        ("example.org/*", json!("api"), (400, 10_022)),
        ("a.*.example.com/*", json!("api"), (400, 10_022)),
        ("notexample.com/*", json!("api"), (400, 10_022)),
        ("example.com/*/a", json!("api"), (400, 10_022)),
        ("", json!("api"), (400, 10_022)),
        ("example.com/b", json!("none"), (400, 10_019)),
    ] {
        let failed = client.fails("POST", &all, route(pattern, script)).await;
        assert_eq!(failed, expected, "{pattern}");
    }
    let one = format!("{all}/{}", made["result"]["id"].as_str().unwrap());
    client
        .ok("PUT", &one, route("example.com/b*", json!("api")))
        .await;
    let taken = route("*.example.com/*", json!("api"));
    assert_eq!(client.fails("PUT", &one, taken).await, (409, 10_020));

    let body = |host: &str, service: &str| Some(json!({"hostname": host, "service": service}));
    let domain = client
        .ok("PUT", DOMAINS, body("API.example.com", "api"))
        .await;
    assert_eq!(domain["result"]["zone_name"], "example.com");
    let again = client
        .ok("PUT", DOMAINS, body("api.example.com", "api"))
        .await;
    assert_eq!(again["result"]["id"], domain["result"]["id"]);
    assert_eq!(
        client
            .fails("PUT", DOMAINS, body("api.example.com", "none"))
            .await,
        (404, 10_007)
    );
    assert_eq!(
        client
            .fails("PUT", DOMAINS, body("api.example.org", "api"))
            .await,
        (400, 100_117)
    );
    let listed = client
        .ok("GET", &format!("{DOMAINS}?service=api"), None)
        .await;
    assert_eq!(listed["result"].as_array().map(Vec::len), Some(1));

    let rules = |client: &Client| {
        let cloud = Cloud::open(client.folder.path()).unwrap();
        cloud.control.run(host_rules).unwrap()
    };
    let rule = |host: &str, path: &str, worker: Option<&str>| HostRule {
        host: host.to_owned(),
        path: path.to_owned(),
        worker: worker.map(str::to_owned),
    };
    assert_eq!(
        rules(&client),
        [
            rule("www.example.com", "/", None),
            rule("example.com", "/b*", Some("api")),
            rule("*.example.com", "/*", Some("api")),
            rule("api.example.com", "/*", Some("api")),
        ]
    );
    client
        .ok("DELETE", "/accounts/local/workers/scripts/api", None)
        .await;
    assert_eq!(rules(&client), [rule("www.example.com", "/", None)]);
}
