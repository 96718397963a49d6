//! Text that Rhai cannot parse, or parses into something that nobody meant.

use std::sync::Arc;

use rhai::{ParseError, ParseErrorType, Position};

use crate::{
    model::{Diagnostic, Label, SourceFile, diagnostic::codes},
    script::rewrite::Shape,
};

/// A comment that is never closed: Rhai would leave out the rest of the script, and a run would delete what stands there.
pub(in crate::script) fn open_comment(file: &Arc<SourceFile>) -> Option<Diagnostic> {
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
pub(in crate::script) fn parse(error: &ParseError, file: &Arc<SourceFile>) -> Diagnostic {
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

pub(super) fn parse_kind(kind: &ParseErrorType) -> Diagnostic {
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

pub(super) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
