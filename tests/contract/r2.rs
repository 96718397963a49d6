//! R2: buckets, their rules and addresses, objects.

use serde_json::json;

use super::local::{Local, Payload};

const ALL: &str = "/accounts/local/r2/buckets";

pub(super) fn drive(local: &mut Local) {
    let full = json!({"name": "full", "locationHint": "weur", "storageClass": "InfrequentAccess"});
    local.ok("POST", ALL, full.clone());
    local.ok("POST", ALL, Payload::Plain(json!({"name": "plain"})));
    let europe = [("cf-r2-jurisdiction", "eu")];
    local.ok_with("POST", ALL, &europe, json!({"name": "full"}));
    local.ok_with("GET", &format!("{ALL}/full"), &europe, ());
    local.ok_with("DELETE", &format!("{ALL}/full"), &europe, ());
    local.fails((409, 10004), "POST", ALL, full);
    local.fails((400, 10005), "POST", ALL, json!({"name": "No"}));
    for query in [
        "",
        "?per_page=1",
        "?name_contains=pl&order=name&direction=desc",
        "?start_after=full",
    ] {
        local.ok("GET", &format!("{ALL}{query}"), ());
    }
    let page = local.ok("GET", &format!("{ALL}?per_page=1"), ());
    let cursor = page["result_info"]["cursor"].as_str().expect("a cursor");
    local.ok("GET", &format!("{ALL}?cursor={cursor}"), ());

    let one = format!("{ALL}/full");
    local.ok("GET", &one, ());
    local.ok_with("PATCH", &one, &[("cf-r2-storage-class", "Standard")], ());
    rules(local, &one);
    domains(local, &one);
    notifications(local);
    objects(local, &one);

    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/cors"),
        ("PUT", "/cors"),
        ("DELETE", "/cors"),
        ("GET", "/lifecycle"),
        ("PUT", "/lifecycle"),
        ("GET", "/lock"),
        ("PUT", "/lock"),
        ("GET", "/domains/managed"),
        ("PUT", "/domains/managed"),
        ("GET", "/domains/custom"),
        ("POST", "/domains/custom"),
        ("GET", "/domains/custom/files.example.com"),
        ("PUT", "/domains/custom/files.example.com"),
        ("DELETE", "/domains/custom/files.example.com"),
        ("GET", "/objects"),
        ("GET", "/objects/key"),
        ("PUT", "/objects/key"),
        ("DELETE", "/objects/key"),
    ] {
        let path = format!("{one}{path}");
        local.fails(
            (404, 10006),
            method,
            &path,
            json!({"rules": [], "enabled": true, "domain": "files.example.com", "zoneId": "z"}),
        );
    }
    local.fails(
        (404, 10006),
        "DELETE",
        &format!("{one}/objects"),
        json!(["key"]),
    );
}

fn rules(local: &mut Local, bucket: &str) {
    let cors = format!("{bucket}/cors");
    local.fails((404, 10059), "GET", &cors, ());
    local.ok(
        "PUT",
        &cors,
        json!({"rules": [{
            "id": "pages",
            "allowed": {"origins": ["https://example.com"], "methods": ["GET", "PUT"], "headers": ["x-a"]},
            "exposeHeaders": ["etag"],
            "maxAgeSeconds": 3600,
        }]}),
    );
    local.ok("GET", &cors, ());
    local.ok("DELETE", &cors, ());

    let lifecycle = format!("{bucket}/lifecycle");
    local.ok("GET", &lifecycle, ());
    local.ok(
        "PUT",
        &lifecycle,
        json!({"rules": [{
            "id": "old",
            "enabled": true,
            "conditions": {"prefix": "log/"},
            "deleteObjectsTransition": {"condition": {"type": "Age", "maxAge": 86400}},
            "abortMultipartUploadsTransition": {"condition": {"type": "Age", "maxAge": 600}},
            "storageClassTransitions": [{
                "condition": {"type": "Date", "date": "2030-01-01T00:00:00Z"},
                "storageClass": "InfrequentAccess",
            }],
        }]}),
    );
    local.ok("GET", &lifecycle, ());
    local.ok("PUT", &lifecycle, json!({"rules": []}));

    let lock = format!("{bucket}/lock");
    local.ok("GET", &lock, ());
    local.ok(
        "PUT",
        &lock,
        json!({"rules": [
            {"id": "age", "enabled": true, "prefix": "a/", "condition": {"type": "Age", "maxAgeSeconds": 60}},
            {"id": "date", "enabled": true, "condition": {"type": "Date", "date": "2030-01-01T00:00:00Z"}},
            {"id": "ever", "enabled": false, "condition": {"type": "Indefinite"}},
        ]}),
    );
    local.ok("GET", &lock, ());
    local.ok("PUT", &lock, json!({"rules": []}));

    let managed = format!("{bucket}/domains/managed");
    local.ok("GET", &managed, ());
    local.ok("PUT", &managed, json!({"enabled": true}));
    local.ok("GET", &managed, ());
}

fn domains(local: &mut Local, bucket: &str) {
    let zone = json!({"name": "example.com", "account": {"id": "local"}});
    let zone = local.ok("POST", "/zones", zone);
    let zone = zone["result"]["id"].as_str().expect("an id");
    let all = format!("{bucket}/domains/custom");
    let full = json!({"domain": "files.example.com", "zoneId": zone, "enabled": true, "minTLS": "1.2",
        "ciphers": ["AES128-SHA"]});
    local.ok("POST", &all, full.clone());
    local.fails((409, 10054), "POST", &all, full.clone());
    for (field, value) in [
        ("domain", json!("no host")),
        ("domain", json!("files.example.org")),
        ("enabled", json!("yes")),
        ("minTLS", json!("2")),
        ("zoneId", json!("none")),
    ] {
        let mut bad = full.clone();
        bad["domain"] = json!("other.example.com");
        bad[field] = value;
        local.fails((400, 10040), "POST", &all, bad);
    }
    local.ok("GET", &all, ());
    let one = format!("{all}/files.example.com");
    local.ok("GET", &one, ());
    let changed = local.ok("PUT", &one, json!({"enabled": false}));
    assert_eq!(changed["result"]["minTLS"], "1.2");
    local.ok("DELETE", &one, ());
    for method in ["GET", "PUT", "DELETE"] {
        local.fails((404, 10053), method, &one, json!({}));
    }
    local.ok("DELETE", &format!("/zones/{zone}"), ());
}

fn notifications(local: &mut Local) {
    let all = "/accounts/local/event_notifications/r2/full/configuration";
    local.fails((404, 11015), "GET", all, ());
    let queue = local.ok(
        "POST",
        "/accounts/local/queues",
        json!({"queue_name": "told"}),
    );
    let queue = queue["result"]["queue_id"].as_str().expect("an id");
    let one = format!("{all}/queues/{queue}");
    for method in ["GET", "DELETE"] {
        local.fails((404, 11011), method, &one, ());
    }
    let rule = json!({"actions": ["PutObject", "CopyObject"], "prefix": "a/", "suffix": ".txt", "description": "d"});
    local.ok("PUT", &one, json!({"rules": [rule]}));
    let overlapping = json!({"rules": [{"actions": ["PutObject"], "prefix": "a"}]});
    local.fails((409, 11020), "PUT", &one, overlapping);
    local.ok(
        "PUT",
        &one,
        json!({"rules": [{"actions": ["PutObject"], "prefix": "b"}]}),
    );
    for bad in [
        json!({}),
        json!({"rules": [{}]}),
        json!({"rules": [{"actions": ["None"]}]}),
        json!({"rules": [{"actions": ["PutObject"], "prefix": 1}]}),
    ] {
        local.fails((400, 11014), "PUT", &one, bad);
    }
    local.ok("GET", all, ());
    let kept = local.ok("GET", &one, ());
    assert_eq!(kept["result"]["rules"].as_array().map(Vec::len), Some(2));
    let told = format!("/accounts/local/queues/{queue}");
    local.fails((400, 11017), "DELETE", &told, ());
    local.ok("DELETE", &one, ());
    local.fails((404, 11015), "GET", all, ());
    local.ok("DELETE", &told, ());
    let missing = all.replace("full", "missing");
    let missing_queue = format!("{missing}/queues/{queue}");
    local.fails((404, 10085), "GET", &missing, ());
    for method in ["GET", "PUT", "DELETE"] {
        let body = json!({"rules": []});
        local.fails((404, 11000), method, &one, body.clone());
        local.fails((404, 10085), method, &missing_queue, body);
    }
}

fn objects(local: &mut Local, bucket: &str) {
    let all = format!("{bucket}/objects");
    for key in ["a/1", "a/2", "b"] {
        local.ok_with(
            "PUT",
            &format!("{all}/{}", key.replace('/', "%2F")),
            &[("content-type", "text/plain")],
            Payload::Raw("the content"),
        );
    }
    local.fails((409, 10008), "DELETE", bucket, ());
    local.ok("GET", &format!("{all}/b"), ());
    local.fails((404, 10007), "GET", &format!("{all}/nothing"), ());
    for query in ["", "?prefix=a%2F", "?delimiter=%2F", "?start_after=a%2F1"] {
        local.ok("GET", &format!("{all}{query}"), ());
    }
    let page = local.ok("GET", &format!("{all}?per_page=1"), ());
    let cursor = page["result_info"]["cursor"].as_str().expect("a cursor");
    local.ok(
        "GET",
        &format!("{all}?per_page=1&cursor={}", cursor.replace('/', "%2F")),
        (),
    );
    local.ok("DELETE", &format!("{all}/b"), ());
    local.ok("DELETE", &all, json!(["a/1", "a/2"]));
}
