//! Workflows, their versions and their instances. The instances live in the runtime, for which a few canned answers stand here;
//! that the runtime gives such answers is shown in `tests/workflows.rs`.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
};

use alch::local::layout;
use serde_json::{Value, json};

use super::{local::Local, workers::upload};

const ALL: &str = "/accounts/local/workflows";

/// What the runtime says of an instance that has done one of everything.
fn told() -> Value {
    let entry = |event: u64, group: Value, metadata: Value| {
        json!({
            "event": event, "group": group, "target": group, "metadata": metadata,
            "timestamp": "2026-01-01T00:00:01.000Z",
        })
    };
    let config = json!({"retries": {"limit": 5, "delay": 1000, "backoff": "exponential"}, "timeout": "10 minutes"});
    let error = json!({"name": "Error", "message": "planned"});
    json!({
        "status": 5,
        "createdOn": "2026-01-01T00:00:00.000Z",
        "log": [
            entry(0, Value::Null, json!({"params": {"n": 1}})),
            entry(5, json!("a"), json!({"config": config})),
            entry(10, json!("a"), json!({"attempt": 1})),
            entry(12, json!("a"), json!({"attempt": 1, "error": error})),
            entry(10, json!("a"), json!({"attempt": 2})),
            entry(11, json!("a"), json!({"attempt": 2})),
            entry(6, json!("a"), json!({"result": {"x": 1}})),
            entry(8, json!("b"), json!({"durationMs": 10})),
            entry(9, json!("b"), json!({})),
            entry(14, json!("c"), json!({"event": "paid"})),
            entry(16, json!("c"), error),
            entry(2, Value::Null, json!({"result": [1]})),
        ],
    })
}

fn answer(question: &Value) -> Value {
    let result = match question["action"].as_str() {
        Some("read") => told(),
        Some("list") => json!([
            {"instanceId": "one", "status": 5, "createdOn": "2026-01-01T00:00:00.000Z", "changedOn": "2026-01-01T00:00:01.000Z"},
            {"instanceId": "two", "status": 1, "createdOn": "2026-01-01T00:00:02.000Z"},
        ]),
        Some("change") if question["change"] == "restart" => {
            return json!({"error": "Cannot restart"});
        }
        Some("change") => json!({"status": 2}),
        _ => Value::Null,
    };
    json!({ "result": result })
}

fn reply(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        seen.push(byte[0]);
    }
    let head = String::from_utf8(seen)
        .expect("a head")
        .to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    let question = serde_json::from_slice(&body).expect("a question");
    let text = answer(&question).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream
        .write_all(head.as_bytes())
        .expect("an answer is taken");
}

/// Stands for a runtime of the folder, with these instances of `flow`, until the process ends.
fn run(folder: &Path, instances: &[&str]) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            reply(stream.expect("a connection"));
        }
    });
    let runtime = folder.join("runtime");
    std::fs::create_dir_all(&runtime).expect("a folder");
    let beacon = json!({"version": 1, "address": address, "token": "t"});
    std::fs::write(runtime.join("server.json"), beacon.to_string()).expect("a file");
    let files = layout::instances_folder(folder, "flow");
    std::fs::create_dir_all(&files).expect("a folder");
    for instance in instances {
        let object = layout::object_id(&layout::workflow_key("flow"), instance);
        std::fs::write(files.join(format!("{object}.sqlite")), "").expect("a file");
    }
}

pub(super) fn drive(local: &mut Local) {
    upload(local, "steps", json!({}));
    let one = format!("{ALL}/flow");
    local.fails(
        (404, 10007),
        "PUT",
        &one,
        json!({"script_name": "nobody", "class_name": "A"}),
    );
    for body in [
        json!({"script_name": "steps"}),
        json!({"script_name": "steps", "class_name": "A", "limits": {"steps": "many"}}),
        json!({"script_name": "steps", "class_name": "A", "schedules": [{"cron": "* * * * *"}]}),
    ] {
        local.fails((400, 10002), "PUT", &one, body);
    }
    local.fails(
        (400, 10002),
        "PUT",
        &format!("{ALL}/-x"),
        json!({"script_name": "steps", "class_name": "A"}),
    );
    local.ok(
        "PUT",
        &one,
        json!({"script_name": "steps", "class_name": "A"}),
    );
    let put = local.ok(
        "PUT",
        &one,
        json!({"script_name": "steps", "class_name": "B", "limits": {"steps": 10}, "schedules": []}),
    );
    let binding =
        json!({"name": "FLOW", "type": "workflow", "workflow_name": "flow", "class_name": "B"});
    upload(local, "steps", json!({"bindings": [binding]}));
    local.ok("GET", &format!("{ALL}?page=1&per_page=5&search=flo"), ());
    local.fails((400, 10002), "GET", &format!("{ALL}?page=0"), ());
    local.ok("GET", &one, ());
    local.fails((404, 10200), "GET", &format!("{ALL}/none"), ());
    local.ok("GET", &format!("{one}/versions?per_page=1"), ());
    let version = put["result"]["version_id"].as_str().expect("an id");
    local.ok("GET", &format!("{one}/versions/{version}"), ());
    local.fails((404, 10300), "GET", &format!("{one}/versions/none"), ());

    let instances = format!("{one}/instances");
    local.ok("GET", &instances, ());
    local.fails((400, 10001), "POST", &instances, json!({}));
    run(local.folder(), &["one", "two"]);
    local.ok(
        "GET",
        &format!("{instances}?status=complete&per_page=1"),
        (),
    );
    local.ok(
        "POST",
        &instances,
        json!({"instance_id": "three", "params": {"n": 1}}),
    );
    local.ok(
        "POST",
        &format!("{instances}/batch"),
        json!([{"params": [1]}, {}]),
    );
    local.fails(
        (409, 10405),
        "POST",
        &instances,
        json!({"instance_id": "one"}),
    );
    local.fails(
        (400, 10002),
        "POST",
        &instances,
        json!({"instance_id": "a b"}),
    );
    local.fails(
        (400, 10002),
        "POST",
        &format!("{instances}/batch"),
        json!({}),
    );
    local.ok("GET", &format!("{instances}/one"), ());
    local.fails((404, 10400), "GET", &format!("{instances}/none"), ());
    let status = format!("{instances}/one/status");
    local.ok("PATCH", &status, json!({"status": "pause"}));
    local.fails((400, 10401), "PATCH", &status, json!({"status": "restart"}));
    local.fails((400, 10002), "PATCH", &status, json!({"status": "fly"}));
    local.ok(
        "POST",
        &format!("{instances}/one/events/paid"),
        json!({"by": "card"}),
    );
    local.fails(
        (404, 10400),
        "POST",
        &format!("{instances}/none/events/paid"),
        json!({}),
    );
    local.ok("DELETE", &one, ());
    local.fails((404, 10200), "DELETE", &one, ());
}
