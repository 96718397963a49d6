//! Declarations that were refused, and resources that failed: told at the place of their declaration.

use std::sync::Arc;

use rhai::{EvalAltResult, NativeCallContext};

use crate::{
    engine::{DeclareError, Event, Failure, NodeInfo},
    model::{Diagnostic, Label, diagnostic::codes},
    script::{
        fault::{self, Fault},
        host::{self, Host},
        locate,
        sources::Sources,
    },
};

/// A resource's failure as a diagnostic at its declaration.
pub(in crate::script) fn failure(failure: &Failure, sources: &Sources) -> Diagnostic {
    failure.diagnostic(&|name| sources.get(name).map(|loaded| Arc::clone(&loaded.file)))
}

/// A refused declaration as an error of the script, at the prop that is wrong where that is written as a literal.
pub(in crate::script) fn declare_error(
    host: &Host,
    context: &NativeCallContext,
    error: &DeclareError,
) -> Box<EvalAltResult> {
    if matches!(error, DeclareError::Cancelled) {
        return host::cancelled();
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
        DeclareError::SameClaim {
            fqn,
            other: second,
            first,
            claim,
        } => {
            let mut out = Diagnostic::error(
                codes::SAME_OBJECT,
                format!(
                    "`{}` and `{}` would both have {}",
                    fqn.within_stage(),
                    second.within_stage(),
                    claim.what
                ),
            )
            .with_help(claim.help.as_str());
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
pub(in crate::script) fn shared_name(host: &Host, context: &NativeCallContext, info: &NodeInfo) {
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
fn prop_message(kind: &str, path: &[String], message: &str) -> String {
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
fn prop_code(message: &str) -> crate::model::ErrorCode {
    if message.starts_with("unknown prop") {
        codes::UNKNOWN_PROP
    } else if message.ends_with("is missing") {
        codes::MISSING_PROP
    } else {
        codes::WRONG_TYPE
    }
}
