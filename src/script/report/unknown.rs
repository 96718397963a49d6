//! Decisions on values that are not known yet: an error in a run, a warning in a plan.

use rhai::{EvalAltResult, Position};

use crate::{
    model::{Diagnostic, Reference, diagnostic::codes},
    script::{
        fault,
        host::Host,
        lazy::{LAZY_TYPE, Lazy},
    },
};

pub(super) fn forced_without_name() -> Diagnostic {
    Diagnostic::error(
        codes::FORCED_UNKNOWN,
        "cannot decide on an output that is not known yet",
    )
    .with_help("pass it on in props or text as it is; `alch run` waits for it and decides")
}

/// When an error of a plan comes from looking into an unknown value: the warning and the value.
pub(in crate::script) fn forced_in_plan(
    host: &Host,
    error: &EvalAltResult,
) -> Option<(Diagnostic, Reference)> {
    let pending = host.state().forced.clone();
    let (reference, certain) = match (fault::find(error), pending) {
        (Some(fault), _) => (fault.forced_reference()?.clone(), true),
        (None, Some((reference, _))) if is_forced(error) => (reference, true),
        // `if` and `&&` take no part in overloading: the last unknown value read is the one, if it is the only one.
        (None, None) if is_forced(error) => {
            let state = host.state();
            (state.last_unknown.clone()?, !state.several_unknown)
        }
        (None, _) => return None,
    };
    let mut diagnostic = host.forced_diagnostic(certain.then_some(&reference));
    diagnostic.severity = crate::model::Severity::Warning;
    let main = None;
    let (position, source) = innermost(error, main);
    if let Some(label) = source
        .or_else(|| host.main.clone())
        .and_then(|name| host.sources.get(&name))
        .and_then(|loaded| loaded.label(position, "decided here", true))
    {
        diagnostic.labels.push(label);
    }
    Some((diagnostic, reference))
}

/// Whether a text of Rhai names the type of unknown values, in either of its names.
pub(super) fn is_lazy(text: &str) -> bool {
    text.contains(LAZY_TYPE) || text.contains(std::any::type_name::<Lazy>())
}

fn is_forced(error: &EvalAltResult) -> bool {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => is_forced(inner),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => is_lazy(signature),
        EvalAltResult::ErrorMismatchDataType(_, found, _) => is_lazy(found),
        _ => false,
    }
}

fn innermost(error: &EvalAltResult, source: Option<String>) -> (Position, Option<String>) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, file, inner, _) => {
            let file = (!file.is_empty()).then(|| file.clone()).or(source);
            innermost(inner, file)
        }
        EvalAltResult::ErrorInModule(name, inner, _) => innermost(inner, Some(name.clone())),
        other => (other.position(), source),
    }
}
