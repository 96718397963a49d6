//! The payload of every error that alch's own functions raise: a diagnostic that a script can catch and look into.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext, Position};

use crate::{
    engine::Failure,
    model::{Diagnostic, ErrorCode, Reference, diagnostic::codes},
    provider::Denied,
};

/// What functions that scripts call answer.
pub(super) type Outcome<T> = Result<T, Box<EvalAltResult>>;

/// An error with everything that the report and a script's `catch` want to know.
#[derive(Debug, Clone)]
pub(super) struct Fault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    diagnostic: Diagnostic,
    failure: Option<Arc<Failure>>,
    forced: Option<Reference>,
    option: Option<Place>,
}

/// The option of a call that an error is about.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its key in the map of options.
    pub(super) key: String,
    /// Whether the key itself is wrong, and not the value.
    pub(super) at_key: bool,
}

impl Fault {
    /// An error of the script, or of what it asked for.
    pub(super) fn new(diagnostic: Diagnostic) -> Self {
        Self(Arc::new(Inner {
            diagnostic,
            failure: None,
            forced: None,
            option: None,
        }))
    }

    /// A resource failed.
    pub(super) fn failure(diagnostic: Diagnostic, failure: Arc<Failure>) -> Self {
        Self(Arc::new(Inner {
            diagnostic,
            failure: Some(failure),
            forced: None,
            option: None,
        }))
    }

    /// The script decided on a value that is not known.
    pub(super) fn forced(diagnostic: Diagnostic, reference: Reference) -> Self {
        Self(Arc::new(Inner {
            diagnostic,
            failure: None,
            forced: Some(reference),
            option: None,
        }))
    }

    /// An option of the call is wrong: where it is written as a literal, that is the place.
    pub(super) fn option(diagnostic: Diagnostic, key: &str, at_key: bool) -> Self {
        Self(Arc::new(Inner {
            diagnostic,
            failure: None,
            forced: None,
            option: Some(Place {
                key: key.to_owned(),
                at_key,
            }),
        }))
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.0.option.as_ref()
    }

    pub(super) fn diagnostic(&self) -> &Diagnostic {
        &self.0.diagnostic
    }

    pub(super) fn failed(&self) -> Option<&Arc<Failure>> {
        self.0.failure.as_ref()
    }

    pub(super) fn forced_reference(&self) -> Option<&Reference> {
        self.0.forced.as_ref()
    }

    /// As an error of Rhai. The position is filled in on its way out.
    pub(super) fn raise(self) -> Box<EvalAltResult> {
        Box::new(EvalAltResult::ErrorRuntime(
            Dynamic::from(self),
            Position::NONE,
        ))
    }

    fn kind(&self) -> &'static str {
        use crate::provider::FailureKind;
        match self.0.failure.as_deref().map(|failure| &failure.cause) {
            Some(crate::engine::FailureCause::Provider(error)) => match error.kind {
                FailureKind::Refused => "refused",
                FailureKind::Conflict => "conflict",
                FailureKind::NotFound => "not-found",
                FailureKind::Authentication => "authentication",
                FailureKind::Ambiguous => "ambiguous",
                FailureKind::Cancelled => "cancelled",
                FailureKind::Timeout => "timeout",
            },
            Some(crate::engine::FailureCause::Dependency(_)) => "dependency",
            Some(crate::engine::FailureCause::Protected) => "protected",
            Some(
                crate::engine::FailureCause::DataLoss(_)
                | crate::engine::FailureCause::Losses(_)
                | crate::engine::FailureCause::Orphan { .. }
                | crate::engine::FailureCause::Renamed { .. },
            ) => "data-loss",
            Some(_) => "run",
            None if self.0.forced.is_some() => "unknown",
            None => "script",
        }
    }

    fn retryable(&self) -> bool {
        matches!(self.kind(), "timeout" | "ambiguous")
    }
}

/// A failing call of a native: code, message.
pub(super) fn fail(code: ErrorCode, message: impl Into<String>) -> Box<EvalAltResult> {
    Fault::new(Diagnostic::error(code, message)).raise()
}

/// A failing call of a native with a next step.
pub(super) fn fail_with_help(
    code: ErrorCode,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Box<EvalAltResult> {
    Fault::new(Diagnostic::error(code, message).with_help(help)).raise()
}

/// The words for what the user did not allow.
pub(super) fn denied(denied: Denied) -> Diagnostic {
    Diagnostic::error(codes::PERMISSION, denied.message).with_help(denied.help)
}

/// As [`denied`], to be raised.
pub(super) fn refused(error: Denied) -> Box<EvalAltResult> {
    Fault::new(denied(error)).raise()
}

/// Says where an error of a native happened. Rhai does so by itself except for functions of modules (`json::parse`).
pub(super) fn at<T>(context: &NativeCallContext, outcome: Outcome<T>) -> Outcome<T> {
    outcome.map_err(|mut error| {
        if error.position().is_none() {
            error.set_position(context.call_position());
        }
        error
    })
}

/// The fault inside an error, through every function it passed.
pub(super) fn find(error: &EvalAltResult) -> Option<Fault> {
    match error {
        EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
            value.clone().try_cast::<Fault>()
        }
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => find(inner),
        _ => None,
    }
}

/// What a script's `catch (e)` can do with the error.
pub(super) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Fault>("error")
        .register_get("message", |fault: &mut Fault| -> ImmutableString {
            fault.0.diagnostic.message.as_str().into()
        })
        .register_get("code", |fault: &mut Fault| -> Dynamic {
            // The provider's own code is what a script decides on; ours names the sort of error.
            let provider = match fault.0.failure.as_deref().map(|failure| &failure.cause) {
                Some(crate::engine::FailureCause::Provider(error)) => error.code.clone(),
                _ => None,
            };
            match (provider, fault.0.diagnostic.code) {
                (Some(code), _) => code.into(),
                (None, Some(code)) => code.to_string().into(),
                (None, None) => Dynamic::UNIT,
            }
        })
        .register_get("kind", |fault: &mut Fault| -> ImmutableString {
            fault.kind().into()
        })
        .register_get("fqn", |fault: &mut Fault| -> Dynamic {
            match &fault.0.failure {
                Some(failure) => failure.fqn.as_str().to_owned().into(),
                None => Dynamic::UNIT,
            }
        })
        .register_get("retryable", |fault: &mut Fault| fault.retryable())
        .register_fn("to_string", |fault: &mut Fault| {
            fault.0.diagnostic.message.clone()
        })
        .register_fn("to_debug", |fault: &mut Fault| {
            fault.0.diagnostic.message.clone()
        });
}
