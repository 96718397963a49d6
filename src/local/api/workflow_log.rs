//! The log of an instance of a workflow, as the runtime's engine writes it, turned into the answer of Cloudflare's API.

use serde_json::{Map, Value, json};

/// The events of the engine's log that say something of steps.
mod event {
    pub(super) const SUCCESS: u64 = 2;
    pub(super) const FAILURE: u64 = 3;
    pub(super) const TERMINATED: u64 = 4;
    pub(super) const STEP_START: u64 = 5;
    pub(super) const STEP_SUCCESS: u64 = 6;
    pub(super) const STEP_FAILURE: u64 = 7;
    pub(super) const SLEEP_START: u64 = 8;
    pub(super) const SLEEP_COMPLETE: u64 = 9;
    pub(super) const ATTEMPT_START: u64 = 10;
    pub(super) const ATTEMPT_SUCCESS: u64 = 11;
    pub(super) const ATTEMPT_FAILURE: u64 = 12;
    pub(super) const WAIT_START: u64 = 14;
    pub(super) const WAIT_COMPLETE: u64 = 15;
    pub(super) const WAIT_TIMED_OUT: u64 = 16;
}

/// The API's word for a status of the engine.
pub(super) fn status_name(status: Option<u64>) -> &'static str {
    match status {
        Some(1) => "running",
        Some(2) => "paused",
        Some(3) => "errored",
        Some(4) => "terminated",
        Some(5) => "complete",
        Some(6) => "waitingForPause",
        Some(7) => "waiting",
        _ => "queued",
    }
}

/// An instance as the API shows it. `answer` holds `status`, `createdOn` and `log`.
pub(super) fn shown(answer: &Value, version: &str) -> Value {
    let status = status_name(answer["status"].as_u64());
    let log: Vec<&Value> = answer["log"].as_array().into_iter().flatten().collect();
    let created = answer["createdOn"].as_str().unwrap_or_default();
    let last = |wanted: u64| log.iter().rev().find(|entry| entry["event"] == wanted);
    let (succeeded, failed) = (last(event::SUCCESS), last(event::FAILURE));
    let ended = match status {
        "complete" => succeeded,
        "errored" => failed,
        "terminated" => last(event::TERMINATED),
        _ => None,
    };
    let params = log.iter().find_map(|entry| entry["metadata"].get("params"));
    let steps = steps(&log);
    json!({
        "status": status,
        "params": params.cloned().unwrap_or_default(),
        "trigger": {"source": "unknown"},
        "versionId": version,
        "queued": created,
        "start": created,
        "end": ended.map(|entry| entry["timestamp"].clone()),
        "success": match status {
            "complete" => json!(true),
            "errored" | "terminated" => json!(false),
            _ => Value::Null,
        },
        "steps": steps,
        "step_count": steps.len(),
        "output": succeeded.map(|entry| scalar(&entry["metadata"]["result"])),
        "error": failed.map(|entry| error(&entry["metadata"]["error"])),
        "rollback": null,
    })
}

/// A result as the API shows it: numbers and text as they are, everything else as JSON text.
fn scalar(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) | Value::Number(_) => value.clone(),
        other => json!(other.to_string()),
    }
}

/// The result of a step, always text.
fn text(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(_) => value.clone(),
        other => json!(other.to_string()),
    }
}

fn error(value: &Value) -> Value {
    let field = |name: &str, default: &str| value[name].as_str().unwrap_or(default).to_owned();
    json!({
        "name": field("name", "Error"),
        "message": field("message", value.as_str().unwrap_or_default()),
    })
}

/// The steps in the order of their beginnings.
fn steps(log: &[&Value]) -> Vec<Value> {
    // By the engine's key of a step, in the order in which they came.
    let mut keys: Vec<&str> = Vec::new();
    let mut steps: Map<String, Value> = Map::new();
    for entry in log {
        let Some(key) = entry["group"].as_str() else {
            continue;
        };
        let (at, metadata) = (&entry["timestamp"], &entry["metadata"]);
        let kind = entry["event"].as_u64().unwrap_or(u64::MAX);
        let begun = match kind {
            event::STEP_START => Some(json!({
                "type": "step", "config": config(&metadata["config"]), "attempts": [],
                "success": null, "output": null, "end": null,
            })),
            event::SLEEP_START => Some(json!({
                "type": "sleep", "finished": false, "error": null, "end": until(at, metadata),
            })),
            event::WAIT_START => Some(json!({
                "type": "waitForEvent", "finished": false, "error": null, "output": null, "end": at,
            })),
            _ => None,
        };
        if let Some(mut step) = begun {
            step["name"] = entry["target"].clone();
            step["start"] = at.clone();
            if steps.insert(key.to_owned(), step).is_none() {
                keys.push(key);
            }
            continue;
        }
        let Some(step) = steps.get_mut(key) else {
            continue;
        };
        match kind {
            event::STEP_SUCCESS | event::STEP_FAILURE => {
                step["success"] = json!(kind == event::STEP_SUCCESS);
                step["output"] = text(&metadata["result"]);
                step["end"] = at.clone();
            }
            event::SLEEP_COMPLETE => {
                step["finished"] = json!(true);
                step["end"] = at.clone();
            }
            event::WAIT_COMPLETE => {
                step["finished"] = json!(true);
                step["output"] = text(&metadata["payload"]);
                step["end"] = at.clone();
            }
            event::WAIT_TIMED_OUT => {
                step["finished"] = json!(true);
                step["error"] = error(metadata);
                step["end"] = at.clone();
            }
            event::ATTEMPT_START => {
                if let Some(attempts) = step["attempts"].as_array_mut() {
                    attempts
                        .push(json!({"start": at, "end": null, "success": null, "error": null}));
                }
            }
            event::ATTEMPT_SUCCESS | event::ATTEMPT_FAILURE => {
                let attempts = step["attempts"].as_array_mut();
                if let Some(attempt) = attempts.and_then(|attempts| attempts.last_mut()) {
                    attempt["end"] = at.clone();
                    attempt["success"] = json!(kind == event::ATTEMPT_SUCCESS);
                    if kind == event::ATTEMPT_FAILURE {
                        attempt["error"] = error(&metadata["error"]);
                    }
                }
            }
            _ => {}
        }
    }
    keys.iter().filter_map(|key| steps.remove(*key)).collect()
}

/// When a sleep is to end.
fn until(begun: &Value, metadata: &Value) -> Value {
    let end = begun.as_str().and_then(|text| {
        let begun: jiff::Timestamp = text.parse().ok()?;
        let milliseconds = metadata["durationMs"].as_f64()?;
        let span = jiff::SignedDuration::try_from_secs_f64(milliseconds / 1000.0).ok()?;
        begun.checked_add(span).ok()
    });
    match end {
        Some(end) => json!(end.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        None => begun.clone(),
    }
}

/// The configuration of a step, with what the API always tells.
fn config(given: &Value) -> Value {
    let retries = &given["retries"];
    let mut shown = json!({
        "retries": {
            "limit": retries["limit"].as_f64().map_or(json!(0), |_| retries["limit"].clone()),
            "delay": if retries["delay"].is_null() { json!(0) } else { retries["delay"].clone() },
        },
        "timeout": given["timeout"],
    });
    if retries["backoff"].is_string() {
        shown["retries"]["backoff"] = retries["backoff"].clone();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better with json!")]
    fn entry(event: u64, group: &str, second: u32, metadata: Value) -> Value {
        let group = if group.is_empty() {
            Value::Null
        } else {
            json!(group)
        };
        json!({
            "event": event, "group": group, "target": group, "metadata": metadata,
            "timestamp": format!("2026-01-01T00:00:{second:02}.000Z"),
        })
    }

    #[test]
    fn steps_attempts_sleeps_and_the_end_are_told() {
        let failure = json!({"attempt": 1, "error": {"name": "Error", "message": "planned"}});
        let log = json!([
            entry(0, "", 0, json!({"params": {"n": 1}})),
            entry(1, "", 0, json!({})),
            entry(
                5,
                "a-1",
                1,
                json!({"config": {"retries": {"limit": 2, "delay": "1 second", "backoff": "constant"}, "timeout": "1 minute"}})
            ),
            entry(10, "a-1", 1, json!({"attempt": 1})),
            entry(12, "a-1", 2, failure),
            entry(10, "a-1", 3, json!({"attempt": 2})),
            entry(11, "a-1", 4, json!({"attempt": 2})),
            entry(6, "a-1", 4, json!({"result": {"x": [1]}})),
            entry(8, "s-1", 5, json!({"durationMs": 2500})),
            entry(9, "s-1", 8, json!({})),
            entry(14, "w-1", 9, json!({"event": "paid"})),
            entry(15, "w-1", 10, json!({"payload": "yes", "type": "paid"})),
            entry(2, "", 11, json!({"result": 7})),
        ]);
        let shown = shown(
            &json!({"status": 5, "createdOn": "2026-01-01T00:00:00.000Z", "log": log}),
            "v",
        );
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000Z");
        assert_eq!(
            shown,
            json!({
                "status": "complete", "params": {"n": 1}, "trigger": {"source": "unknown"}, "versionId": "v",
                "queued": at(0), "start": at(0), "end": at(11), "success": true, "step_count": 3,
                "output": 7, "error": null, "rollback": null,
                "steps": [
                    {
                        "type": "step", "name": "a-1", "start": at(1), "end": at(4), "success": true, "output": "{\"x\":[1]}",
                        "config": {"retries": {"limit": 2, "delay": "1 second", "backoff": "constant"}, "timeout": "1 minute"},
                        "attempts": [
                            {"start": at(1), "end": at(2), "success": false, "error": {"name": "Error", "message": "planned"}},
                            {"start": at(3), "end": at(4), "success": true, "error": null},
                        ],
                    },
                    {"type": "sleep", "name": "s-1", "start": at(5), "end": at(8), "finished": true, "error": null},
                    {"type": "waitForEvent", "name": "w-1", "start": at(9), "end": at(10), "finished": true, "error": null, "output": "yes"},
                ],
            })
        );
    }

    #[test]
    fn an_unfinished_instance_has_open_ends() {
        let log = json!([entry(8, "s", 5, json!({"durationMs": 2500}))]);
        let running = shown(&json!({"status": 1, "createdOn": "x", "log": log}), "v");
        assert_eq!(running["end"], Value::Null);
        assert_eq!(running["success"], Value::Null);
        assert_eq!(running["steps"][0]["finished"], false);
        assert_eq!(running["steps"][0]["end"], "2026-01-01T00:00:07.500Z");
        let log = json!([entry(
            3,
            "",
            1,
            json!({"error": {"name": "E", "message": "m"}})
        )]);
        let failed = shown(&json!({"status": 3, "log": log}), "v");
        assert_eq!(failed["error"], json!({"name": "E", "message": "m"}));
        assert_eq!(failed["success"], false);
    }
}
