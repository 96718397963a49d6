//! Errors that end a script while it runs, with the calls that led to them.

use rhai::{Dynamic, Engine, EvalAltResult, Position};

use super::{
    syntax::{lower_first, parse_kind},
    unknown::{forced_without_name, is_lazy},
};
use crate::{
    model::{Diagnostic, diagnostic::codes},
    script::{
        convert, fault,
        lazy::{Lazy, SecretValue},
        locate, signature,
        sources::Sources,
    },
    util::text,
};

/// A place on the way from the start of the script to an error.
struct Frame {
    source: Option<String>,
    position: Position,
    text: String,
}

/// An error that ended the script, with the calls that led to it.
pub(in crate::script) fn evaluation(
    error: Box<EvalAltResult>,
    sources: &Sources,
    engine: &Engine,
    main: Option<&str>,
) -> Diagnostic {
    let mut frames = Vec::new();
    let (mut innermost, source) = unwrap(error, main.map(str::to_owned), &mut frames);
    let mut position = innermost.take_position();
    let (mut diagnostic, fixed) = cause(&innermost, engine, sources);
    if position.is_none()
        && let EvalAltResult::ErrorDataRace(what, _) = &*innermost
        && let Some(loaded) = source.as_deref().and_then(|name| sources.get(name))
        && let Some(found) =
            racing_method(what).and_then(|name| locate::first_call(&loaded.ast, name))
    {
        position = found;
    }
    if let Some(fault) = fault::find(&innermost)
        && let Some(place) = fault.place()
        && let Some(loaded) = source.as_deref().and_then(|name| sources.get(name))
        && let Some(found) = locate::prop(
            &loaded.ast,
            position,
            std::slice::from_ref(&place.key),
            place.at_key,
        )
    {
        position = found;
    }
    let label = |name: Option<&str>, position: Position, text: &str, primary: bool| {
        sources.get(name?)?.label(position, text, primary)
    };
    if !fixed {
        match label(source.as_deref(), position, "", true) {
            Some(place) => diagnostic.labels.insert(0, place),
            // An error without a place is shown where it left the innermost call.
            None => {
                if let Some(frame) = frames.pop() {
                    diagnostic.labels.extend(label(
                        frame.source.as_deref(),
                        frame.position,
                        "",
                        true,
                    ));
                }
            }
        }
    }
    for frame in frames.iter().rev() {
        let place = label(frame.source.as_deref(), frame.position, &frame.text, false);
        let Some(place) = place else { continue };
        let known = diagnostic.labels.iter().any(|other| {
            other.source.name == place.source.name
                && (other.line, other.column) == (place.line, place.column)
        });
        if !known {
            diagnostic.labels.push(place);
        }
    }
    diagnostic
}

/// Takes the calls off an error; answers the innermost error and the file it is in.
fn unwrap(
    error: Box<EvalAltResult>,
    source: Option<String>,
    frames: &mut Vec<Frame>,
) -> (Box<EvalAltResult>, Option<String>) {
    let (mut error, mut source) = (error, source);
    loop {
        match *error {
            EvalAltResult::ErrorInFunctionCall(name, file, inner, position) => {
                let text = if name.starts_with("anon$") {
                    "in this closure".to_owned()
                } else {
                    format!("in this call of `{name}`")
                };
                frames.push(Frame {
                    source: source.clone(),
                    position,
                    text,
                });
                if !file.is_empty() {
                    source = Some(file);
                }
                error = inner;
            }
            EvalAltResult::ErrorInModule(name, inner, position) => {
                frames.push(Frame {
                    source: source.clone(),
                    position,
                    text: "imported here".to_owned(),
                });
                source = Some(name);
                error = inner;
            }
            other => return (Box::new(other), source),
        }
    }
}

/// The method of `ErrorDataRace("argument #2 of function 'run'")`.
fn racing_method(what: &str) -> Option<&str> {
    let (_, rest) = what.split_once("function '")?;
    Some(rest.split(['\'', ' ', '(']).next().unwrap_or_default())
}

/// The words for the innermost error, and whether its places are complete already.
fn cause(error: &EvalAltResult, engine: &Engine, sources: &Sources) -> (Diagnostic, bool) {
    let runtime = |message: String| Diagnostic::error(codes::RUNTIME, message);
    let diagnostic = match error {
        EvalAltResult::ErrorRuntime(..) | EvalAltResult::ErrorTerminated(..) => {
            if let Some(fault) = fault::find(error) {
                let diagnostic = fault.diagnostic().clone();
                let complete = !diagnostic.labels.is_empty();
                return (diagnostic, complete);
            }
            let (EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _)) =
                error
            else {
                unreachable!("matched above")
            };
            let message = match value.read_lock::<rhai::Map>() {
                Some(map) => map.get("message").map_or_else(|| shown(value), shown),
                None => shown(value),
            };
            Diagnostic::error(
                codes::THROWN,
                if message.is_empty() || value.is_unit() {
                    "the script threw an error".to_owned()
                } else {
                    message
                },
            )
        }
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            if is_lazy(signature) {
                return (forced_without_name(), false);
            }
            signature::not_found(signature, engine, sources)
        }
        EvalAltResult::ErrorMismatchDataType(_, found, _)
        | EvalAltResult::ErrorMismatchOutputType(_, found, _)
            if is_lazy(found) =>
        {
            return (forced_without_name(), false);
        }
        EvalAltResult::ErrorMismatchDataType(expected, found, _)
        | EvalAltResult::ErrorMismatchOutputType(expected, found, _) => Diagnostic::error(
            codes::WRONG_ARGUMENTS,
            format!(
                "expected {}, found {}",
                convert::type_words(expected),
                convert::type_words(found)
            ),
        ),
        EvalAltResult::ErrorVariableNotFound(name, _) => {
            Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("no variable `{name}`"))
        }
        EvalAltResult::ErrorModuleNotFound(name, _) => {
            Diagnostic::error(codes::MODULE, format!("no module `{name}`"))
        }
        EvalAltResult::ErrorDataRace(..) => Diagnostic::error(
            codes::OWN_RECEIVER,
            "the closure uses the very object whose method it is given to",
        )
        .with_help("let the closure take the scope: `app.run(\"id\", |app| ..)`")
        .with_help("or use the constant that every closure sees: `alchemy.run(\"id\", || alchemy.secret(..))`"),
        EvalAltResult::ErrorTooManyOperations(_) => Diagnostic::error(
            codes::OPERATION_LIMIT,
            "the script does more than it may; it probably loops for ever",
        )
        .with_help("check the loop's condition; work that takes long belongs into a resource"),
        EvalAltResult::ErrorStackOverflow(_) => {
            Diagnostic::error(codes::CALL_DEPTH, "functions call each other too deeply")
                .with_help("check what ends the recursion, or use a loop")
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            Diagnostic::error(codes::MEMORY_LIMIT, format!("{what} is too large"))
        }
        EvalAltResult::ErrorParsing(kind, _) => parse_kind(kind),
        EvalAltResult::ErrorFor(_) => Diagnostic::error(
            codes::WRONG_ARGUMENTS,
            "`for` cannot go through this value",
        )
        .with_help("it goes through arrays, ranges such as `0..10`, maps by `.keys()` and text by `.chars()`"),
        EvalAltResult::ErrorArrayBounds(length, index, _) => runtime(format!(
            "the array has {}; there is no index {index}",
            text::plural(*length, "element")
        ))
        .with_help("indices begin at 0; `.len()` tells how many there are"),
        EvalAltResult::ErrorDotExpr(what, _) => runtime(missing_property(what)),
        EvalAltResult::ErrorAssignmentToConstant(name, _) => {
            runtime(format!("`{name}` is a constant and cannot be assigned to"))
                .with_help("declare it with `let`")
        }
        other => runtime(lower_first(&other.to_string())),
    };
    (diagnostic, false)
}

/// A thrown value as text.
fn shown(value: &Dynamic) -> String {
    if let Some(lazy) = value.read_lock::<Lazy>() {
        return lazy.shown();
    }
    if value.is::<SecretValue>() {
        return "<secret>".to_owned();
    }
    value.to_string()
}

/// Rhai says `Unknown property 'y' - a getter is not registered for type 'i64'`.
fn missing_property(what: &str) -> String {
    let quoted: Vec<&str> = what.split('\'').collect();
    match quoted.as_slice() {
        [_, name, _, ty, _] => {
            let ty = convert::type_words(ty.rsplit("::").next().unwrap_or(ty));
            format!("there is no property `{name}` on {ty}")
        }
        _ => lower_first(what),
    }
}
