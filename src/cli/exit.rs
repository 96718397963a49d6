//! Exit codes: a stable surface, documented by `alch help exit-codes`.

use crate::{
    engine::{Failure, FailureCause, Outcome, Summary},
    model::{Diagnostic, ErrorCode, diagnostic::codes},
    provider::FailureKind,
};

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $class:literal, $meaning:literal;)*) => {
        /// How the program ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Exit {
            $($(#[$doc])* $name,)*
        }

        impl Exit {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number that the shell sees.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// The word in NDJSON.
            #[must_use]
            pub fn class(self) -> &'static str {
                match self { $(Self::$name => $class,)* }
            }

            /// What it means, for the help text.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

exits! {
    /// Success.
    Success = 0, "ok", "success";
    /// Any error without a code of its own.
    Error = 1, "error", "an error, such as a mistake in the script";
    /// The command line does not make sense.
    Usage = 2, "usage", "the command line does not make sense, or the script cannot be read";
    /// `plan --detailed-exitcode` found changes.
    Changes = 2, "changes", "with `plan --detailed-exitcode`: there are changes";
    /// Credentials.
    Authentication = 3, "authentication", "credentials or the password of secrets are missing, wrong or too weak";
    /// Some resources failed.
    Partial = 4, "partial", "some resources failed; what was done is recorded; the next run goes on";
    /// A policy said no.
    Policy = 5, "policy", "a policy was violated";
    /// No such stage or scope.
    NotFound = 6, "not-found", "the stage or scope has no state";
    /// Drift.
    Drift = 7, "drift", "drift or unexpected changes";
    /// The user stopped it.
    Cancelled = 8, "cancelled", "stopped by the user; calls in flight ended and were recorded";
    /// Something took too long.
    Timeout = 9, "timeout", "an operation took too long";
    /// A gate is closed.
    Gate = 10, "gate", "waiting at a gate";
    /// The saved plan does not fit any more.
    StalePlan = 11, "stale-plan", "the saved plan is stale";
    /// State is damaged.
    Corrupt = 12, "corrupt", "state is damaged";
    /// Somebody else works on the stage.
    Locked = 75, "locked", "another run holds the stage, or took it over; try again later";
    /// A second SIGHUP.
    HungUp = 129, "hung-up", "stopped at once by a second SIGHUP; the next run resolves the rest";
    /// A second SIGINT.
    Interrupted = 130, "interrupted", "stopped at once by a second Ctrl-C; the next run resolves the rest";
    /// A second SIGTERM.
    Terminated = 143, "terminated", "stopped at once by a second SIGTERM";
}

impl Exit {
    /// The exit that an error id leads to.
    #[must_use]
    pub fn of_code(code: ErrorCode) -> Self {
        match code {
            codes::USAGE | codes::NO_SCRIPT => Self::Usage,
            codes::AUTHENTICATION | codes::WRONG_PASSWORD | codes::MISSING_PASSWORD => {
                Self::Authentication
            }
            codes::PROVIDER
            | codes::CONFLICT
            | codes::DEPENDENCY
            | codes::PROTECTED
            | codes::DATA_LOSS => Self::Partial,
            codes::TIMEOUT => Self::Timeout,
            codes::CANCELLED => Self::Cancelled,
            codes::LOCKED | codes::FENCED => Self::Locked,
            codes::CORRUPT | codes::TOO_NEW => Self::Corrupt,
            codes::NO_STAGE | codes::NO_OBJECT => Self::NotFound,
            codes::STALE_PLAN => Self::StalePlan,
            _ => Self::Error,
        }
    }

    /// The exit that a diagnostic leads to.
    #[must_use]
    pub fn of_diagnostic(diagnostic: &Diagnostic) -> Self {
        diagnostic.code.map_or(Self::Error, Self::of_code)
    }

    /// The exit of a run that went through to its end.
    #[must_use]
    pub fn of_summary(summary: &Summary) -> Self {
        if summary.outcome == Outcome::Cancelled {
            return Self::Cancelled;
        }
        let unhandled = summary.failed.len() > summary.handled;
        if !unhandled {
            return match summary.outcome {
                Outcome::Partial => Self::Partial,
                _ => Self::Success,
            };
        }
        // One cause for everything that failed gets its own code; a mixture is a partial failure.
        for (exit, test) in [
            (Self::Authentication, FailureKind::Authentication),
            (Self::Timeout, FailureKind::Timeout),
        ] {
            if own_failures(summary).all(|failure| is_kind(failure, test)) {
                return exit;
            }
        }
        if own_failures(summary).any(|failure| matches!(failure.cause, FailureCause::StalePlan(_)))
        {
            return Self::StalePlan;
        }
        Self::Partial
    }
}

/// The failures that do not merely follow from another one.
fn own_failures(summary: &Summary) -> impl Iterator<Item = &Failure> {
    summary
        .failed
        .iter()
        .map(std::convert::AsRef::as_ref)
        .filter(|failure| !matches!(failure.cause, FailureCause::Dependency(_)))
}

fn is_kind(failure: &Failure, kind: FailureKind) -> bool {
    matches!(&failure.cause, FailureCause::Provider(error) if error.kind == kind)
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of `alch help exit-codes`.
#[must_use]
pub fn table() -> String {
    let mut out = "Exit codes:\n".to_owned();
    for exit in Exit::ALL {
        out.push_str(&format!("\n{:>5}  {}", exit.code(), exit.meaning()));
    }
    out
}

/// The same as data.
#[must_use]
pub fn as_json() -> serde_json::Value {
    let code = |exit: &Exit| serde_json::json!({ "code": exit.code(), "class": exit.class(), "meaning": exit.meaning() });
    serde_json::json!({ "codes": Exit::ALL.iter().map(code).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        engine::{Action, Phase},
        model::Fqn,
        provider::ProviderError,
    };

    fn summary(kinds: &[FailureKind], handled: usize) -> Summary {
        let fqn = Fqn::parse("a/dev/x").unwrap();
        Summary {
            stage: fqn.stage(),
            phase: Phase::Up,
            outcome: if kinds.len() > handled {
                Outcome::Partial
            } else {
                Outcome::Succeeded
            },
            counts: BTreeMap::new(),
            failed: kinds
                .iter()
                .map(|kind| {
                    Arc::new(Failure {
                        fqn: fqn.clone(),
                        kind: "k".into(),
                        action: Action::Create,
                        cause: FailureCause::Provider(ProviderError::new(*kind, "no")),
                        position: None,
                    })
                })
                .collect(),
            handled,
            skipped: Vec::new(),
            left: Vec::new(),
            unreached: 0,
            elapsed: Duration::ZERO,
            critical_path: Duration::ZERO,
            calls: 0,
        }
    }

    #[test]
    fn the_exit_tells_what_failed() {
        use FailureKind::{Authentication, Refused, Timeout};
        for (kinds, handled, exit) in [
            (&[][..], 0, Exit::Success),
            (&[Refused], 0, Exit::Partial),
            (&[Refused], 1, Exit::Success),
            (&[Authentication, Authentication], 0, Exit::Authentication),
            (&[Authentication, Refused], 0, Exit::Partial),
            (&[Timeout], 0, Exit::Timeout),
        ] {
            assert_eq!(
                Exit::of_summary(&summary(kinds, handled)),
                exit,
                "{kinds:?}"
            );
        }
        let mut stopped = summary(&[Refused], 0);
        stopped.outcome = Outcome::Cancelled;
        assert_eq!(Exit::of_summary(&stopped), Exit::Cancelled);
    }
}
