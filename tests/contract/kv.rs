//! KV: namespaces, values, metadata, keys, bulk.

use serde_json::json;

use super::local::{Local, Payload};

const ALL: &str = "/accounts/local/storage/kv/namespaces";

pub(super) fn drive(local: &mut Local) {
    let created = local.ok("POST", ALL, json!({"title": "sessions"}));
    for index in 0..6 {
        local.ok("POST", ALL, json!({"title": format!("many {index}")}));
    }
    local.fails((400, 10014), "POST", ALL, json!({"title": "sessions"}));
    local.fails((400, 10019), "POST", ALL, json!({}));
    local.fails((400, 10012), "POST", ALL, Payload::Raw("{"));
    for query in [
        "",
        "?page=2&per_page=5",
        "?page=9",
        "?order=title&direction=desc",
    ] {
        local.ok("GET", &format!("{ALL}{query}"), ());
    }
    local.fails((400, 10012), "GET", &format!("{ALL}?order=size"), ());

    let one = format!("{ALL}/{}", created["result"]["id"].as_str().expect("an id"));
    local.ok("GET", &one, ());
    local.ok("PUT", &one, json!({"title": "renamed"}));
    local.fails((400, 10014), "PUT", &one, json!({"title": "many 1"}));
    local.fails((400, 10019), "PUT", &one, json!({}));

    let plain = format!("{one}/values/a%2Fb%20c");
    local.ok("PUT", &plain, Payload::Raw("as it is"));
    let metadata = json!({"owner": "me"}).to_string();
    local.ok(
        "PUT",
        &format!("{one}/values/described?expiration_ttl=3600"),
        Payload::Parts(vec![
            ("value", "text/plain", "text".to_owned()),
            ("metadata", "application/json", metadata),
        ]),
    );
    local.ok(
        "PUT",
        &format!("{one}/values/later?expiration=4102444800"),
        Payload::Raw("x"),
    );
    local.fails(
        (400, 10034),
        "PUT",
        &format!("{plain}?expiration_ttl=5"),
        Payload::Raw("x"),
    );
    for path in [
        "values/a%2Fb%20c",
        "metadata/described",
        "metadata/a%2Fb%20c",
        "keys",
        "keys?limit=10&prefix=d",
    ] {
        local.ok("GET", &format!("{one}/{path}"), ());
    }
    for path in ["values/nothing", "metadata/nothing"] {
        local.fails((404, 10009), "GET", &format!("{one}/{path}"), ());
    }
    local.fails((400, 10012), "GET", &format!("{one}/keys?cursor=%25"), ());

    let bulk = format!("{one}/bulk");
    let pairs: Vec<_> = (0..12)
        .map(|index| json!({"key": format!("k{index}"), "value": "v"}))
        .chain([
            json!({"key": "bytes", "value": "AAEC", "base64": true, "metadata": {"n": 1}}),
            json!({"key": "json", "value": "{\"n\":1}", "expiration_ttl": 60}),
            json!({"key": "at", "value": "v", "expiration": 4_102_444_800_i64}),
        ])
        .collect();
    local.ok("PUT", &bulk, json!(pairs));
    for bad in [json!({}), json!([{"key": "k"}])] {
        local.fails((400, 10012), "PUT", &bulk, bad);
    }
    let page = local.ok("GET", &format!("{one}/keys?limit=10"), ());
    let cursor = page["result_info"]["cursor"].as_str().expect("a cursor");
    local.ok("GET", &format!("{one}/keys?limit=10&cursor={cursor}"), ());
    let read = format!("{bulk}/get");
    local.ok(
        "POST",
        &read,
        json!({"keys": ["k1", "nothing"], "type": "text"}),
    );
    local.ok(
        "POST",
        &read,
        json!({"keys": ["json"], "type": "json", "withMetadata": true}),
    );
    local.fails((400, 10029), "POST", &read, json!({"keys": []}));
    local.ok("POST", &format!("{bulk}/delete"), json!(["k1", "k2"]));
    local.fails((400, 10012), "POST", &format!("{bulk}/delete"), json!({}));

    local.ok("DELETE", &plain, ());
    local.ok("DELETE", &plain, ());
    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", "/keys"),
        ("GET", "/values/k"),
        ("PUT", "/values/k"),
        ("DELETE", "/values/k"),
        ("GET", "/metadata/k"),
    ] {
        let path = format!("{one}{path}");
        local.fails((404, 10013), method, &path, json!({"title": "gone"}));
    }
    local.fails((404, 10013), "PUT", &bulk, json!([]));
    local.fails((404, 10013), "POST", &format!("{bulk}/delete"), json!([]));
    local.fails((404, 10013), "POST", &read, json!({"keys": ["k"]}));
}
