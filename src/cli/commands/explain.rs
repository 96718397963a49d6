//! `alch explain`: what an error id means and what to do about it, and what a resource kind takes.

use serde_json::json;

use crate::{
    cli::{Context, args::ExplainArgs, error::CliError, exit::Exit, kinds, wiring::built_in_kinds},
    model::{ErrorCode, diagnostic::codes},
};

const EXPLANATIONS: &str = include_str!("../explanations.md");

pub(in crate::cli) fn run(context: &Context, args: &ExplainArgs) -> Result<Exit, CliError> {
    let Some(wanted) = &args.code else {
        let list: Vec<String> = codes::ALL
            .iter()
            .map(|(code, line)| format!("{code}  {}", line.trim()))
            .collect();
        let all = codes::ALL.iter().map(|(code, _)| code.to_string());
        let all: Vec<String> = all.collect();
        context
            .ui
            .result("explanations", json!({ "codes": all }), list.join("\n"));
        return Ok(Exit::Success);
    };
    let Some(number) = parse(wanted) else {
        return explain_kind(context, wanted);
    };
    let found = codes::ALL
        .iter()
        .find(|(code, _)| *code == ErrorCode(number));
    let Some((code, line)) = found else {
        return Err(CliError::usage(format!("there is no error `{wanted}`"))
            .with_help("`alch explain` lists them all"));
    };
    let body = section(*code).unwrap_or_default();
    context.ui.result(
        "explanation",
        json!({ "code": code.to_string(), "title": line.trim(), "text": body }),
        format!("{code}: {}\n\n{body}", line.trim()),
    );
    Ok(Exit::Success)
}

fn explain_kind(context: &Context, typed: &str) -> Result<Exit, CliError> {
    let registry = built_in_kinds(context);
    let kind = kinds::named(&registry, typed)?;
    let Some(provider) = registry.get(&kind) else {
        return Err(CliError::new(
            codes::UNKNOWN_KIND,
            format!("no resource kind `{kind}`"),
        ));
    };
    let schema = provider.schema();
    context
        .ui
        .result("kind", kinds::as_json(schema), kinds::in_words(schema));
    Ok(Exit::Success)
}

/// The number in `E0412`, `e412` or `412`.
fn parse(text: &str) -> Option<u16> {
    text.strip_prefix(['E', 'e']).unwrap_or(text).parse().ok()
}

/// What the explanations say of an id.
fn section(code: ErrorCode) -> Option<&'static str> {
    let (_, rest) = EXPLANATIONS.split_once(&format!("\n## {code}\n"))?;
    Some(
        rest.split_once("\n## ")
            .map_or(rest, |(body, _)| body)
            .trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_explained_once_and_no_other() {
        for (code, line) in codes::ALL {
            assert!(
                section(*code).is_some_and(|body| !body.is_empty()),
                "{code}"
            );
            assert!(line.trim().ends_with('.'), "{code}: {line}");
        }
        assert_eq!(
            EXPLANATIONS.matches("\n## ").count(),
            codes::ALL.len(),
            "a section for an id that is not in use"
        );
    }

    #[test]
    fn ids_are_read_in_every_spelling() {
        for text in ["E0101", "e0101", "E101", "101"] {
            assert_eq!(parse(text), Some(101), "{text}");
        }
        assert_eq!(parse("E"), None);
        assert_eq!(parse("EE1"), None);
    }
}
