//! Errors of Rhai, of declarations and of resources as diagnostics: at the user's line and column, in words that name the next step.

use std::sync::Arc;

use rhai::{
    Dynamic, Engine, EvalAltResult, NativeCallContext, ParseError, ParseErrorType, Position,
};

use crate::{
    engine::{DeclareError, Event, Failure, NodeInfo},
    model::{Diagnostic, Label, Reference, SourceFile, diagnostic::codes},
    util::text,
};

use super::{
    fault::{self, Fault},
    host::Host,
    lazy::{LAZY_TYPE, Lazy, SecretValue},
    locate,
    rewrite::Shape,
    signature,
    sources::Sources,
};

/// A resource's failure as a diagnostic at its declaration.
pub(super) fn failure(failure: &Failure, sources: &Sources) -> Diagnostic {
    failure.diagnostic(&|name| sources.get(name).map(|loaded| Arc::clone(&loaded.file)))
}

/// A refused declaration as an error of the script, at the prop that is wrong where that is written as a literal.
pub(super) fn declare_error(
    host: &Host,
    context: &NativeCallContext,
    error: &DeclareError,
) -> Box<EvalAltResult> {
    if matches!(error, DeclareError::Cancelled) {
        return super::host::cancelled();
    }
    let loaded = context
        .call_source()
        .and_then(|name| host.sources.get(name));
    let call = context.call_position();
    let here = |text: &str| {
        loaded
            .as_ref()
            .and_then(|loaded| loaded.label(call, text, true))
    };
    let other = |position: &Option<crate::model::Position>, text: &str| -> Option<Label> {
        let position = position.as_ref()?;
        Some(Label {
            source: host.source_file(&position.file)?,
            line: position.line,
            column: position.column,
            length: 0,
            text: text.to_owned(),
            primary: false,
        })
    };
    let mut diagnostic = match error {
        DeclareError::Duplicate { fqn, first } => {
            let mut out = Diagnostic::error(
                codes::DUPLICATE_ID,
                format!("`{}` is declared twice", fqn.within_stage()),
            )
            .with_help("give one of them another id, or put them into scopes of their own");
            out.labels.extend(here("second time"));
            out.labels.extend(other(first, "first time"));
            out
        }
        DeclareError::Spelling {
            fqn,
            other: second,
            first,
            in_state,
        } => {
            let (name, second) = (fqn.within_stage(), second.within_stage());
            let out = Diagnostic::error(
                codes::DUPLICATE_ID,
                format!("`{name}` and `{second}` differ only by case"),
            )
            .with_note(
                "their folders in state would be one where file systems do not tell case apart",
            );
            let mut out = if *in_state {
                let stage = &fqn.stage().stage;
                out.with_help(format!(
                    "state has `{second}`; keep that spelling, or rename it in two steps: `alch state mv --stage {stage} {second} {name}-`, \
                     then `alch state mv --stage {stage} {name}- {name}`"
                ))
            } else {
                out.with_help("give one of them another id")
            };
            out.labels.extend(here("second"));
            out.labels.extend(other(first, "first"));
            out
        }
        DeclareError::SameObject {
            fqn,
            other: second,
            first,
            physical_name,
        } => {
            let mut out = Diagnostic::error(
                codes::SAME_OBJECT,
                format!(
                    "`{}` and `{}` would both be `{physical_name}`",
                    fqn.within_stage(),
                    second.within_stage()
                ),
            )
            .with_help("give one of them another `name`");
            out.labels.extend(here(""));
            out.labels.extend(other(first, "the other one"));
            out
        }
        DeclareError::Props { kind, errors } => {
            let mut out = Diagnostic::error(codes::WRONG_TYPE, "");
            for (index, error) in errors.iter().enumerate() {
                let message = prop_message(kind, &error.path, &error.message);
                let position = loaded
                    .as_ref()
                    .and_then(|loaded| locate::prop(&loaded.ast, call, &error.path, error.at_key))
                    .unwrap_or(call);
                let place = loaded
                    .as_ref()
                    .and_then(|loaded| loaded.label(position, "", index == 0));
                if index == 0 {
                    out.message = message;
                    out.code = Some(prop_code(&error.message));
                } else if let Some(mut label) = place.clone() {
                    label.text = error.message.clone();
                    out.labels.push(label);
                } else {
                    out.notes.push(message);
                }
                if index == 0 {
                    out.labels.extend(place);
                }
                out.help.extend(error.help.clone());
            }
            out.help.dedup();
            out
        }
        DeclareError::Denied(denied) => fault::denied(denied.clone()),
        DeclareError::UnknownKind { kind } => {
            Diagnostic::error(codes::UNKNOWN_KIND, format!("no provider serves `{kind}`"))
                .with_help("choose another target with `--target`")
        }
        DeclareError::NotInState { fqn } => Diagnostic::error(
            codes::NOT_IN_STATE,
            format!("`{}` was never deployed", fqn.within_stage()),
        )
        .with_help(format!(
            "deploy it first: alch run --stage {}",
            fqn.stage().stage
        )),
        DeclareError::Vault(error) => Diagnostic::error(codes::WRONG_PASSWORD, error.to_string()),
        DeclareError::Cancelled => Diagnostic::error(codes::CANCELLED, "the run was stopped"),
    };
    if diagnostic.labels.is_empty() {
        diagnostic.labels.extend(here(""));
    }
    Fault::new(diagnostic).raise()
}

/// Warns that other stages of the script would ask for the same object.
pub(super) fn shared_name(host: &Host, context: &NativeCallContext, info: &NodeInfo) {
    let mut warning = Diagnostic::warning(
        codes::SAME_OBJECT,
        format!(
            "`{}` is called `{}` in every stage",
            info.fqn.within_stage(),
            info.physical_name
        ),
    )
    .with_help("put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`");
    warning.labels.extend(
        context
            .call_source()
            .and_then(|name| host.sources.get(name))
            .and_then(|loaded| loaded.label(context.call_position(), "", true)),
    );
    host.options
        .events
        .emit(Event::Diagnostic(Box::new(warning)));
}

/// The sentence for a wrong prop: it names the kind where the problem does not name the prop.
pub(super) fn prop_message(kind: &str, path: &[String], message: &str) -> String {
    if message.starts_with("unknown prop") {
        return match path {
            [_, _, ..] => format!("unknown prop `{}` of {kind}", path.join(".")),
            _ => format!("{message} of {kind}"),
        };
    }
    if message.ends_with("is missing") {
        return format!("{kind}: {message}");
    }
    match path {
        [] => format!("{kind}: {message}"),
        path => format!("`{}` of {kind}: {message}", path.join(".")),
    }
}

/// The id for a wrong prop.
pub(super) fn prop_code(message: &str) -> crate::model::ErrorCode {
    if message.starts_with("unknown prop") {
        codes::UNKNOWN_PROP
    } else if message.ends_with("is missing") {
        codes::MISSING_PROP
    } else {
        codes::WRONG_TYPE
    }
}

/// A comment that is never closed: Rhai would leave out the rest of the script, and a run would delete what stands there.
pub(super) fn open_comment(file: &Arc<SourceFile>) -> Option<Diagnostic> {
    if !file.text.contains("/*") {
        return None;
    }
    let (line, column) = Shape::of(&file.text).unclosed_comment()?;
    let diagnostic = Diagnostic::error(codes::SYNTAX, "this comment is never closed")
        .with_label(label_of(file, (line, column), 2))
        .with_help("close it with `*/`; comments nest, so every `/*` in it needs its own");
    Some(diagnostic)
}

fn label_of(file: &Arc<SourceFile>, (line, column): (u32, u32), length: u32) -> Label {
    Label {
        source: Arc::clone(file),
        line,
        column,
        length,
        text: String::new(),
        primary: true,
    }
}

/// A syntax error. Parsing is done on the user's own text, so columns are right as they are.
pub(super) fn parse(error: &ParseError, file: &Arc<SourceFile>) -> Diagnostic {
    let mut diagnostic = parse_kind(error.err_type());
    let mut place = place_in(file, error.position());
    if place.is_some_and(|(line, column)| starts_with(file, line, column, "=>")) {
        diagnostic.message = "`=>` does not belong here".to_owned();
        diagnostic.help = vec!["closures are written `|x| ..`".to_owned()];
    } else if let ParseErrorType::MissingToken(token, _) = error.err_type()
        && let Some(at) = place
    {
        let shape = Shape::of(&file.text);
        let last = shape.end_before(at.0, at.1).unwrap_or(at);
        let at_end = error.position().is_none() || is_end(file, at);
        // At the end of the text, an open bracket is what is wrong, whatever the parser was waiting for.
        let open = [token.as_str(), "}", ")", "]"]
            .into_iter()
            .filter(|_| at_end)
            .find_map(|token| {
                let close = token.chars().next()?;
                Some((close, shape.unclosed(close)?))
            });
        if let Some((close, open)) = open {
            diagnostic.message = format!("this bracket is never closed: `{close}` is missing");
            diagnostic.help = vec!["every bracket is closed by one of its own sort".to_owned()];
            place = Some(open);
        } else if matches!(token.as_str(), ";" | ",") {
            // What is missing belongs behind the last token, which may stand lines above.
            place = Some(last);
        }
    }
    if let Some(place) = place {
        diagnostic.labels.push(label_of(file, place, 0));
    }
    diagnostic
}

/// Whether nothing follows a place.
fn is_end(file: &SourceFile, (line, column): (u32, u32)) -> bool {
    let mut rest = file.text.lines().skip(line as usize - 1);
    let here: String = rest
        .next()
        .unwrap_or_default()
        .chars()
        .skip(column as usize - 1)
        .collect();
    here.trim().is_empty() && rest.all(|line| line.trim().is_empty())
}

fn starts_with(file: &SourceFile, line: u32, column: u32, text: &str) -> bool {
    file.text
        .lines()
        .nth(line as usize - 1)
        .is_some_and(|line| {
            line.chars()
                .skip(column as usize - 1)
                .zip(text.chars())
                .filter(|(a, b)| a == b)
                .count()
                == text.len()
        })
}

/// Rhai's position in a file; the end of the file when Rhai knows none.
fn place_in(file: &SourceFile, position: Position) -> Option<(u32, u32)> {
    let (line, column) = match position.line() {
        Some(line) => (line, position.position().unwrap_or(1).max(1)),
        None => {
            let last = file.text.lines().last().unwrap_or_default();
            (
                file.text.lines().count().max(1),
                last.chars().count().max(1),
            )
        }
    };
    Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
}

fn parse_kind(kind: &ParseErrorType) -> Diagnostic {
    let syntax = |message: String| Diagnostic::error(codes::SYNTAX, message);
    match kind {
        ParseErrorType::MissingToken(token, why) if token == ";" => syntax(format!(
            "`;` is missing {}",
            why.replace("to terminate", "at the end of")
        ))
        .with_help("write `;` here, behind the end of the statement"),
        ParseErrorType::MissingToken(token, why) => {
            let help = match token.as_str() {
                "," => "write `,` here, or close what is open",
                "{" => "the body stands in braces: `if condition { .. }`, `fn name() { .. }`",
                "}" | ")" | "]" => "every bracket is closed by one of its own sort",
                ":" => "entries of a map are written `key: value`",
                _ => "look at what stands around this place",
            };
            syntax(format!("`{token}` is missing {why}")).with_help(help)
        }
        ParseErrorType::Reserved(word) => {
            let help = match word.as_str() {
                "await" | "async" => {
                    "leave it out: reading an attribute waits for its resource by itself".to_owned()
                }
                "new" => "leave it out: a resource is declared by calling its function".to_owned(),
                "null" | "nil" | "void" => "write `()` for nothing".to_owned(),
                "var" => "write `let`".to_owned(),
                "use" | "module" => "write `import \"./file\" as name;`".to_owned(),
                "match" | "case" => "write `switch value { 1 => .., _ => .. }`".to_owned(),
                "=>" => "closures are written `|x| ..`".to_owned(),
                "?" | ":" => "write `if condition { a } else { b }`".to_owned(),
                _ => format!("as a key write `\"{word}\"` in quotes; else choose another name"),
            };
            syntax(format!("`{word}` is a reserved word")).with_help(help)
        }
        ParseErrorType::PropertyExpected => syntax("the name of a property is missing here".to_owned())
            .with_help("a key that is a word of the language goes in quotes: `#{ \"default\": 1 }`, `map[\"default\"]`"),
        ParseErrorType::UnexpectedEOF => syntax("the script ends too early".to_owned())
            .with_help("a bracket, a string or a comment was opened and never closed"),
        ParseErrorType::ExprTooDeep => {
            Diagnostic::error(codes::TOO_LARGE, "expressions are nested too deeply")
                .with_help("give parts of it names with `let`")
        }
        ParseErrorType::LiteralTooLarge(what, limit) => {
            Diagnostic::error(codes::TOO_LARGE, format!("{what} is larger than {limit}"))
        }
        ParseErrorType::BadInput(error) => {
            let text = error.to_string();
            let diagnostic = syntax(lower_first(&text));
            match error {
                rhai::LexError::UnterminatedString => {
                    diagnostic.with_help("close it with `\"`; text over several lines goes in back-ticks")
                }
                rhai::LexError::ImproperSymbol(symbol, _) if symbol == "eval" => {
                    syntax("`eval` is off: text is never run as code".to_owned())
                        .with_help("write the code out, or put it into a file and `import` it")
                }
                rhai::LexError::UnexpectedInput(input) if input == "=>" => {
                    diagnostic.with_help("closures are written `|x| ..`")
                }
                _ => diagnostic,
            }
        }
        ParseErrorType::UnknownOperator(operator) => {
            let diagnostic = syntax(format!("there is no operator `{operator}`"));
            match operator.as_str() {
                "?" => diagnostic.with_help("write `if condition { a } else { b }`"),
                _ => diagnostic,
            }
        }
        ParseErrorType::VariableUndefined(name) => {
            Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("no variable `{name}`"))
        }
        other => syntax(lower_first(&other.to_string())),
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// A place on the way from the start of the script to an error.
struct Frame {
    source: Option<String>,
    position: Position,
    text: String,
}

/// An error that ended the script, with the calls that led to it.
pub(super) fn evaluation(
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
                super::convert::type_words(expected),
                super::convert::type_words(found)
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
            let ty = super::convert::type_words(ty.rsplit("::").next().unwrap_or(ty));
            format!("there is no property `{name}` on {ty}")
        }
        _ => lower_first(what),
    }
}

fn forced_without_name() -> Diagnostic {
    Diagnostic::error(
        codes::FORCED_UNKNOWN,
        "cannot decide on an output that is not known yet",
    )
    .with_help("pass it on in props or text as it is; `alch run` waits for it and decides")
}

/// When an error of a plan comes from looking into an unknown value: the warning and the value.
pub(super) fn forced_in_plan(
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
fn is_lazy(text: &str) -> bool {
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
