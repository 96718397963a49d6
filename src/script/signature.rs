//! "Function not found" in words: which function it may have been, what it takes, what it was given.

use rhai::Engine;

use crate::{
    model::{Diagnostic, diagnostic::codes},
    util::text,
};

use super::{convert::type_words, natives, rewrite, sources::Sources};

/// One form of a function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    /// Its name.
    pub(super) name: String,
    /// Its parameters in words.
    pub(super) parameters: Vec<String>,
}

/// Every function that natives and packages offer.
pub(super) fn forms(engine: &Engine) -> Vec<Form> {
    let mut forms = engine.collect_fn_metadata(
        None,
        |info| {
            let metadata = info.metadata;
            let parameters = metadata
                .params_info
                .iter()
                .take(metadata.num_params)
                .map(|parameter| {
                    let ty = parameter.rsplit(": ").next().unwrap_or(parameter);
                    let ty = ty.trim_start_matches("&mut ");
                    type_words(ty.rsplit("::").next().unwrap_or(ty)).to_owned()
                })
                .collect();
            Some(Form {
                name: metadata.name.to_string(),
                parameters,
            })
        },
        true,
    );
    forms.sort();
    forms.dedup();
    forms
}

/// Splits Rhai's `name (type, type)`; types may hold commas in angle brackets.
fn split(signature: &str) -> (&str, Vec<String>) {
    let Some((name, rest)) = signature.split_once(" (") else {
        return (signature, Vec::new());
    };
    let inner = rest.strip_suffix(')').unwrap_or(rest);
    let mut arguments = Vec::new();
    let (mut depth, mut current) = (0_i32, String::new());
    for character in inner.chars() {
        match character {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    if !current.trim().is_empty() {
        arguments.push(current);
    }
    let arguments = arguments
        .iter()
        .map(|ty| {
            let ty = ty.trim().trim_start_matches("&mut ");
            type_words(ty.rsplit("::").next().unwrap_or(ty)).to_owned()
        })
        .collect();
    (name, arguments)
}

/// The words for a call that fits no function.
pub(super) fn not_found(signature: &str, engine: &Engine, sources: &Sources) -> Diagnostic {
    // A few packages of Rhai raise "not found" with a sentence of their own.
    if signature.contains(' ') && !signature.contains(" (") {
        return Diagnostic::error(codes::WRONG_ARGUMENTS, signature);
    }
    let (name, arguments) = split(signature);
    let name = rewrite::written(name);
    if name.starts_with("anon$") || name == "anonymous function" {
        return Diagnostic::error(
            codes::WRONG_ARGUMENTS,
            "the closure takes another number of parameters than it is called with",
        )
        .with_help("closures of scopes take the scope or nothing: `|scope| ..` or `|| ..`");
    }
    if let Some(diagnostic) = operator(name, &arguments) {
        return diagnostic;
    }
    let passed = format!("({})", arguments.join(", "));
    let forms = forms(engine);
    let same: Vec<String> = forms
        .iter()
        .filter(|form| form.name == name)
        .map(|form| format!("({})", form.parameters.join(", ")))
        .collect();
    if natives::resources::function(name).is_some() {
        return Diagnostic::error(
            codes::WRONG_ARGUMENTS,
            format!("`{name}` takes (id) or (id, props); you passed {passed}"),
        )
        .with_help(format!("write `{name}(\"my-id\", #{{ .. }})`"));
    }
    if !same.is_empty() {
        return Diagnostic::error(
            codes::WRONG_ARGUMENTS,
            format!("`{name}` takes {}; you passed {passed}", same.join(" or ")),
        );
    }
    let script: Vec<String> = sources
        .all()
        .iter()
        .flat_map(|loaded| {
            loaded
                .ast
                .iter_functions()
                .map(|function| function.name.to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    unknown(
        name,
        forms
            .iter()
            .map(|form| form.name.as_str())
            .chain(script.iter().map(String::as_str)),
    )
}

/// The words for a name that no function has.
pub(super) fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Diagnostic {
    let diagnostic = Diagnostic::error(codes::UNKNOWN_FUNCTION, format!("no function `{name}`"));
    let names = names.filter(|other| is_word(other));
    match text::suggestions(name, names, 1).first() {
        Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// Whether a registered name is one that scripts write.
fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic()) && !name.contains('$')
}

fn operator(name: &str, arguments: &[String]) -> Option<Diagnostic> {
    if name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return None;
    }
    let message = match arguments {
        [left, right] => format!("`{name}` cannot join {left} and {right}"),
        [only] => format!("`{name}` cannot be used on {only}"),
        _ => format!("`{name}` cannot be used here"),
    };
    let help = match (name, arguments) {
        ("+", _) if arguments.iter().any(|ty| ty == "string") => {
            Some("put values into text with back-ticks: `text ${value}`")
        }
        ("[]" | "[]=", _) => Some("it has no elements; only arrays, maps and text do"),
        _ => None,
    };
    let diagnostic = Diagnostic::error(codes::WRONG_ARGUMENTS, message);
    Some(match help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_put_into_words() {
        let mut engine = Engine::new();
        engine.register_fn("Worker", |_: &str, _: rhai::Map| 1_i64);
        engine.register_fn("sleep_for", |_: i64| ());
        let sources = Sources::default();
        for (signature, expected) in [
            (
                "Worker (i64)",
                "`Worker` takes (id) or (id, props); you passed (int)",
            ),
            ("Wrker (i64)", "no function `Wrker`"),
            (
                "sleep_for (&str | ImmutableString | String)",
                "`sleep_for` takes (int); you passed (string)",
            ),
            ("- (map, i64)", "`-` cannot join map and int"),
            (
                "anon$1234 (i64, i64)",
                "the closure takes another number of parameters than it is called with",
            ),
        ] {
            assert_eq!(not_found(signature, &engine, &sources).message, expected);
        }
    }
}
