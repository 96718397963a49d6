//! Queues: settings, consumers, messages.

use serde_json::json;

use super::{
    local::{Local, Payload},
    workers,
};

const ALL: &str = "/accounts/local/queues";
/// An id that names nothing.
const NOTHING: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn drive(local: &mut Local) {
    let settings =
        json!({"delivery_delay": 5, "delivery_paused": false, "message_retention_period": 600});
    let full = json!({"queue_name": "jobs", "settings": settings});
    let created = local.ok("POST", ALL, full.clone());
    local.ok("POST", ALL, Payload::Plain(json!({"queue_name": "dead"})));
    local.fails((409, 11009), "POST", ALL, full);
    local.fails((400, 11003), "POST", ALL, json!({"queue_name": "No_"}));
    local.fails(
        (400, 100_127),
        "POST",
        ALL,
        json!({"queue_name": "x", "settings": {"delivery_delay": -1}}),
    );
    for query in ["", "?page=2&per_page=1", "?page=9", "?name=jobs&name=dead"] {
        local.ok("GET", &format!("{ALL}{query}"), ());
    }
    let one = format!(
        "{ALL}/{}",
        created["result"]["queue_id"].as_str().expect("an id")
    );
    local.ok("GET", &one, ());
    local.ok(
        "PATCH",
        &one,
        json!({"settings": {"delivery_paused": true}}),
    );
    local.ok(
        "PUT",
        &one,
        json!({"queue_name": "work", "settings": {"delivery_delay": 0, "delivery_paused": false}}),
    );
    local.fails((409, 11009), "PUT", &one, json!({"queue_name": "dead"}));
    local.fails(
        (400, 100_127),
        "PATCH",
        &one,
        json!({"settings": {"colour": "red"}}),
    );

    consumers(local, &one);
    messages(local, &one);

    local.ok("DELETE", &one, ());
    for (method, path) in [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", "/consumers"),
        ("POST", "/consumers"),
        ("POST", "/messages"),
        ("POST", "/messages/pull"),
        ("POST", "/messages/ack"),
        ("GET", "/metrics"),
    ] {
        let path = format!("{one}{path}");
        local.fails(
            (404, 11000),
            method,
            &path,
            json!({"body": "x", "type": "http_pull"}),
        );
    }
    local.fails(
        (404, 11000),
        "POST",
        &format!("{one}/messages/batch"),
        json!({"messages": [{"body": "x"}]}),
    );
    local.fails(
        (404, 11000),
        "POST",
        &format!("{one}/purge"),
        json!({"delete_messages_permanently": true}),
    );
}

fn consumers(local: &mut Local, queue: &str) {
    let all = format!("{queue}/consumers");
    workers::upload(local, "consumer", json!({}));
    let created = local.ok(
        "POST",
        &all,
        json!({
            "type": "worker",
            "script_name": "consumer",
            "dead_letter_queue": "dead",
            "settings": {"batch_size": 10, "max_wait_time_ms": 1000, "max_retries": 2, "max_concurrency": 3, "retry_delay": 4},
        }),
    );
    local.fails((400, 11004), "POST", &all, json!({"type": "http_pull"}));
    local.ok("GET", &all, ());
    local.ok("GET", queue, ());
    local.ok("GET", ALL, ());
    local.ok(
        "GET",
        "/accounts/local/workers/scripts/consumer/queue-consumers",
        (),
    );
    let one = format!(
        "{all}/{}",
        created["result"]["consumer_id"].as_str().expect("an id")
    );
    local.ok("GET", &one, ());
    local.ok(
        "PUT",
        &one,
        json!({"type": "worker", "script_name": "consumer", "settings": {"batch_size": 5}}),
    );
    local.fails(
        (400, 100_127),
        "PUT",
        &one,
        json!({"type": "worker", "script_name": "consumer", "settings": {"batch_size": 5000}}),
    );
    local.ok("DELETE", &one, ());
    for method in ["GET", "PUT", "DELETE"] {
        local.fails(
            (404, 11006),
            method,
            &format!("{all}/{NOTHING}"),
            json!({"type": "http_pull"}),
        );
    }
    let pull = json!({"type": "http_pull", "settings": {"batch_size": 10, "max_retries": 2, "retry_delay": 0, "visibility_timeout_ms": 60000}});
    local.ok("POST", &all, pull);
    local.ok("GET", &all, ());
}

fn messages(local: &mut Local, queue: &str) {
    let all = format!("{queue}/messages");
    local.ok(
        "POST",
        &all,
        json!({"body": "text", "content_type": "text"}),
    );
    local.ok(
        "POST",
        &all,
        json!({"body": {"n": 1}, "content_type": "json", "delay_seconds": 0}),
    );
    local.fails((400, 10207), "POST", &all, json!({}));
    let batch = json!({"messages": [{"body": "a", "content_type": "text"}, {"body": [1], "content_type": "json"}]});
    local.ok("POST", &format!("{all}/batch"), batch);
    local.fails(
        (400, 10207),
        "POST",
        &format!("{all}/batch"),
        json!({"messages": []}),
    );
    local.ok("GET", &format!("{queue}/metrics"), ());
    let pulled = local.ok(
        "POST",
        &format!("{all}/pull"),
        json!({"batch_size": 3, "visibility_timeout_ms": 60000}),
    );
    let lease = |index: usize| pulled["result"]["messages"][index]["lease_id"].clone();
    local.fails(
        (400, 10026),
        "POST",
        &format!("{all}/pull"),
        json!({"batch_size": -1}),
    );
    local.ok(
        "POST",
        &format!("{all}/ack"),
        json!({
            "acks": [{"lease_id": lease(0)}, {"lease_id": "unknown"}],
            "retries": [{"lease_id": lease(1), "delay_seconds": 10}],
        }),
    );
    local.fails(
        (400, 10026),
        "POST",
        &format!("{all}/ack"),
        Payload::Raw("["),
    );
    local.ok(
        "POST",
        &format!("{queue}/purge"),
        json!({"delete_messages_permanently": true}),
    );
    local.fails((400, 10026), "POST", &format!("{queue}/purge"), json!({}));
}
