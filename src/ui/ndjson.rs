//! One JSON object a line for programs: `--json` and `--json-into`.
//!
//! The first message is `version`. Its `ui` number grows by a minor step when messages or fields are added, and by a major
//! one when something a reader relies on changes. The README names the messages of runs.

use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json, json};

use crate::{
    engine::{Action, Event, Failure, Outcome, Summary, plan::PlannedAction},
    model::{Diagnostic, Fqn, Position, Severity},
};

/// The version of the messages.
pub const UI_VERSION: &str = "1.0";

/// The first message.
#[must_use]
pub fn version(at: Timestamp) -> String {
    line(
        "version",
        at,
        json!({ "ui": UI_VERSION, "alch": env!("CARGO_PKG_VERSION") }),
    )
}

/// One message: `type` and `at` first, then the fields. Ends without a line break.
#[must_use]
pub fn line(kind: &str, at: Timestamp, fields: Json) -> String {
    let mut out = format!("{{\"type\":{},\"at\":\"{at}\"", Json::from(kind));
    let fields = match fields {
        Json::Object(map) => map,
        Json::Null => JsonMap::new(),
        other => JsonMap::from_iter([("value".to_owned(), other)]),
    };
    for (key, value) in fields {
        out.push(',');
        out.push_str(&Json::from(key).to_string());
        out.push(':');
        out.push_str(&value.to_string());
    }
    out.push('}');
    out
}

/// The message for an event.
#[must_use]
pub fn event(event: &Event, at: Timestamp) -> String {
    let (kind, fields) = fields(event);
    line(kind, at, fields)
}

fn fields(event: &Event) -> (&'static str, Json) {
    match event {
        Event::RunStarted {
            stage,
            phase,
            target,
            deployment,
        } => (
            "run_start",
            json!({
                "app": stage.app.as_str(),
                "stage": stage.stage.as_str(),
                "phase": phase.as_str(),
                "target": target,
                "deployment": deployment,
            }),
        ),
        Event::WaitingForLock { stage } => ("lock_wait", json!({ "stage": stage.to_string() })),
        Event::Planned(action) => ("planned_change", planned(action)),
        Event::Unchanged { fqn, kind } => ("unchanged", json!({ "fqn": fqn, "kind": kind })),
        Event::Started { fqn, kind, action } => (
            "apply_start",
            json!({ "fqn": fqn, "kind": kind, "action": action.verb() }),
        ),
        Event::Progress { fqn, message } => {
            ("apply_progress", json!({ "fqn": fqn, "message": message }))
        }
        Event::Finished {
            fqn,
            kind,
            action,
            physical_name,
            duration,
        } => (
            "apply_complete",
            json!({
                "fqn": fqn,
                "kind": kind,
                "action": action.verb(),
                "physical_name": physical_name,
                "duration_ms": millis(*duration),
            }),
        ),
        Event::Failed(failure) => ("apply_errored", failed(failure)),
        Event::Skipped { fqn, because } => {
            ("apply_skipped", json!({ "fqn": fqn, "because": because }))
        }
        Event::Print(text) => ("print", json!({ "text": text })),
        Event::Log { message, position } => (
            "log",
            json!({ "message": message, "position": position.as_ref().map(place) }),
        ),
        Event::Diagnostic(diagnostic) => ("diagnostic", self::diagnostic(diagnostic)),
        Event::RunFinished(summary) => ("change_summary", self::summary(summary)),
    }
}

/// A planned action as fields; also what `plan --out` and tables are made of.
#[must_use]
pub fn planned(action: &PlannedAction) -> Json {
    json!({
        "fqn": action.fqn,
        "kind": action.kind,
        "action": action.action.verb(),
        "physical_name": action.physical_name,
        "reason": action.reason,
        "changes": action.changes,
        "conditional": action.conditional,
        "position": action.position.as_ref().map(place),
    })
}

fn failed(failure: &Failure) -> Json {
    json!({
        "fqn": failure.fqn,
        "kind": failure.kind,
        "action": failure.action.verb(),
        "message": failure.cause.to_string(),
        "position": failure.position.as_ref().map(place),
    })
}

/// A diagnostic as fields.
#[must_use]
pub fn diagnostic(diagnostic: &Diagnostic) -> Json {
    let labels: Vec<Json> = diagnostic
        .labels
        .iter()
        .map(|label| {
            json!({
                "file": label.source.name,
                "line": label.line,
                "column": label.column,
                "text": label.text,
                "primary": label.primary,
            })
        })
        .collect();
    json!({
        "severity": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "code": diagnostic.code.map(|code| code.to_string()),
        "message": diagnostic.message,
        "labels": labels,
        "notes": diagnostic.notes,
        "help": diagnostic.help,
    })
}

fn summary(summary: &Summary) -> Json {
    let names = |fqns: &[Fqn]| {
        fqns.iter()
            .map(|fqn| Json::from(fqn.as_str()))
            .collect::<Vec<_>>()
    };
    let mut counts = JsonMap::new();
    for action in [
        Action::Create,
        Action::Update,
        Action::Replace,
        Action::Delete,
        Action::Adopt,
        Action::Forget,
        Action::Unchanged,
    ] {
        counts.insert(action.past().to_owned(), summary.count(action).into());
    }
    counts.insert("failed".to_owned(), summary.failed.len().into());
    counts.insert("skipped".to_owned(), summary.skipped.len().into());
    json!({
        "app": summary.stage.app.as_str(),
        "stage": summary.stage.stage.as_str(),
        "phase": summary.phase.as_str(),
        "outcome": match summary.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Partial => "partial",
            Outcome::Cancelled => "cancelled",
        },
        "counts": counts,
        "handled": summary.handled,
        "failed": summary.failed.iter().map(|failure| failed(failure)).collect::<Vec<_>>(),
        "skipped": names(&summary.skipped),
        "left": names(&summary.left),
        "unreached": summary.unreached,
        "elapsed_ms": millis(summary.elapsed),
        "critical_path_ms": millis(summary.critical_path),
        "calls": summary.calls,
    })
}

fn place(position: &Position) -> Json {
    json!({ "file": position.file, "line": position.line, "column": position.column })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;
    use crate::ui::plain::tests::story;

    #[test]
    fn every_event_is_one_line() {
        let at = Timestamp::UNIX_EPOCH;
        let text: String = story()
            .iter()
            .map(|happened| event(happened, at) + "\n")
            .collect();
        assert_data_eq!(
            text,
            str![[r#"
{"type":"run_start","at":"1970-01-01T00:00:00Z","app":"my-app","deployment":"01ARZ3NDEKTSV4RRFFQ69G5FAV","phase":"up","stage":"dev","target":"local"}
{"type":"unchanged","at":"1970-01-01T00:00:00Z","fqn":"my-app/dev/same","kind":"cloudflare::D1Database"}
{"type":"apply_start","at":"1970-01-01T00:00:00Z","action":"create","fqn":"my-app/dev/database/main-db","kind":"cloudflare::D1Database"}
{"type":"print","at":"1970-01-01T00:00:00Z","text":"hello"}
{"type":"apply_complete","at":"1970-01-01T00:00:00Z","action":"create","duration_ms":53,"fqn":"my-app/dev/database/main-db","kind":"cloudflare::D1Database","physical_name":"main-db-dev"}
{"type":"apply_errored","at":"1970-01-01T00:00:00Z","action":"create","fqn":"my-app/dev/api","kind":"cloudflare::Worker","message":"a Worker of that name exists","position":null}
{"type":"apply_skipped","at":"1970-01-01T00:00:00Z","because":"my-app/dev/api","fqn":"my-app/dev/route"}
{"type":"change_summary","at":"1970-01-01T00:00:00Z","app":"my-app","calls":41,"counts":{"adopted":0,"created":3,"deleted":0,"failed":1,"forgotten":0,"replaced":0,"skipped":1,"unchanged":120,"updated":0},"critical_path_ms":3200,"elapsed_ms":4100,"failed":[{"action":"create","fqn":"my-app/dev/api","kind":"cloudflare::Worker","message":"a Worker of that name exists","position":null}],"handled":0,"left":[],"outcome":"partial","phase":"up","skipped":["my-app/dev/route"],"stage":"dev","unreached":0}

"#]]
        );
    }

    #[test]
    fn type_and_time_come_first() {
        let text = line(
            "print",
            Timestamp::UNIX_EPOCH,
            json!({ "a": "x\ny", "text": 1 }),
        );
        assert_eq!(
            text,
            r#"{"type":"print","at":"1970-01-01T00:00:00Z","a":"x\ny","text":1}"#
        );
    }
}
