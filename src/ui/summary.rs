//! The end of a run: the failures that nobody caught, as diagnostics, and the line of totals. Every format for people takes them
//! from here.

use std::sync::Arc;

use crate::{
    engine::{Action, Failure, FailureCause, Summary},
    model::Diagnostic,
    util::text::{duration, plural},
};

/// Turns a failure into a diagnostic with the frame of its declaration.
pub type Explain = Arc<dyn Fn(&Failure) -> Diagnostic + Send + Sync>;

/// Diagnostics of the failures that the script did not catch; those that only follow from another one or from Ctrl-C are left
/// out.
#[must_use]
pub fn unhandled(summary: &Summary, explain: &Explain) -> Vec<Diagnostic> {
    if summary.failed.len() <= summary.handled {
        return Vec::new();
    }
    summary
        .failed
        .iter()
        .filter(|failure| {
            !matches!(failure.cause, FailureCause::Dependency(_)) && !failure.was_stopped()
        })
        .map(|failure| explain(failure))
        .collect()
}

/// The last line of a run: `3 created, 1 updated, 0 deleted, 120 unchanged in 4.1 s (critical path 3.2 s, 41 API calls)`.
#[must_use]
pub fn totals(summary: &Summary) -> String {
    let mut out = format!(
        "{} created, {} updated, {} deleted, {} unchanged",
        summary.count(Action::Create),
        summary.count(Action::Update),
        summary.count(Action::Delete),
        summary.count(Action::Unchanged)
    );
    let stopped = summary
        .failed
        .iter()
        .filter(|failure| failure.was_stopped())
        .count();
    for (count, word) in [
        (summary.count(Action::Replace), "replaced"),
        (summary.count(Action::Adopt), "adopted"),
        (summary.count(Action::Forget), "forgotten"),
        (summary.failed.len() - stopped, "failed"),
        (stopped, "not done"),
        (summary.skipped.len(), "skipped"),
    ] {
        if count > 0 {
            out.push_str(&format!(", {count} {word}"));
        }
    }
    let calls = plural(
        usize::try_from(summary.calls).unwrap_or(usize::MAX),
        "API call",
    );
    format!(
        "{out} in {} (critical path {}, {calls})",
        duration(summary.elapsed),
        duration(summary.critical_path)
    )
}
