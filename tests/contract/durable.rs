//! Durable Objects: namespaces that come with migrations, and their objects.

use serde_json::json;

use super::{local::Local, workers::upload};

const NAMESPACES: &str = "/accounts/local/workers/durable_objects/namespaces";

pub(super) fn drive(local: &mut Local) {
    local.ok("GET", NAMESPACES, ());
    let binding = json!({"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"});
    upload(
        local,
        "rooms",
        json!({
            "migrations": {"new_tag": "v1", "new_sqlite_classes": ["Room"], "new_classes": ["Old", "Spare"]},
            "bindings": [binding],
        }),
    );
    upload(
        local,
        "rooms",
        json!({
            "migrations": {"old_tag": "v1", "new_tag": "v2", "steps": [
                {"renamed_classes": [{"from": "Old", "to": "New"}]},
                {"deleted_classes": ["Spare"]},
            ]},
            "bindings": [binding],
        }),
    );
    let other = json!({"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "rooms"});
    upload(local, "guest", json!({"bindings": [other]}));
    local.ok("GET", "/accounts/local/workers/scripts/rooms/settings", ());
    local.ok("GET", "/accounts/local/workers/services/rooms", ());
    local.fails((400, 10077), "GET", &format!("{NAMESPACES}?page=0"), ());
    let listed = local.ok("GET", &format!("{NAMESPACES}?page=1&per_page=10"), ());
    let id = listed["result"][0]["id"].as_str().expect("an id");
    local.ok(
        "GET",
        &format!("{NAMESPACES}/{id}/objects?limit=10&cursor=0"),
        (),
    );
    let nothing = format!("{NAMESPACES}/{}/objects", "0".repeat(32));
    local.fails((404, 10066), "GET", &nothing, ());
    for (status, code, migrations) in [
        (412, 10079, json!({"new_tag": "v3", "new_classes": ["A"]})),
        (
            400,
            10074,
            json!({"old_tag": "v2", "new_classes": ["Room"]}),
        ),
    ] {
        let payload = super::workers::parts(json!({"migrations": migrations}));
        let path = "/accounts/local/workers/scripts/rooms";
        local.fails((status, code), "PUT", path, payload);
    }
    let payload = super::workers::parts(json!({"migrations": {"new_tag": "v3"}}));
    let path = "/accounts/local/workers/scripts/rooms/versions";
    local.fails((400, 10211), "POST", path, payload);
    local.ok(
        "DELETE",
        "/accounts/local/workers/scripts/rooms?force=true",
        (),
    );
}
