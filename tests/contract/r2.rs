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
            json!({"rules": [], "enabled": true}),
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
