//! Resource kinds by the names that people type, and what their schemas say in words.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{error::CliError, exit::Exit};
use crate::{
    model::{KindSchema, Prop, PropType, diagnostic::codes},
    provider::{Registry, validate::describe},
    script::{functions, functions_of},
    util::text,
};

/// The kind that was named: whole, by its last part, or by a function of scripts.
pub(super) fn named(registry: &Registry, typed: &str) -> Result<Arc<str>, CliError> {
    let kinds = registry.kinds();
    let by_function = functions().find(|(name, _)| *name == typed);
    let wanted = by_function.map_or(typed, |(_, kind)| kind);
    let found = kinds
        .iter()
        .find(|kind| kind.as_ref() == wanted || kind.rsplit("::").next() == Some(wanted));
    if let Some(kind) = found {
        return Ok(kind.clone());
    }
    let mut names: Vec<&str> = functions().map(|(name, _)| name).collect();
    names.extend(kinds.iter().map(AsRef::as_ref));
    let error = CliError::new(codes::UNKNOWN_KIND, format!("no resource kind `{typed}`"))
        .with_exit(Exit::Usage);
    let near = text::suggestions(typed, names.iter().copied(), 3);
    Err(match near.as_slice() {
        [] => error.with_help(format!("kinds are {}", names.join(", "))),
        near => error.with_help(format!("did you mean `{}`?", near.join("`, `"))),
    })
}

/// A kind as people read it: its props with those below them, and its attributes.
pub(super) fn in_words(schema: &KindSchema) -> String {
    let names = functions_of(&schema.kind);
    let names: Vec<&str> = names.into_iter().map(|(name, _)| name).collect();
    let mut lines = vec![format!("{}: {}", schema.kind, schema.doc)];
    if !names.is_empty() {
        lines.push(format!("Declared with {}.", names.join(" or ")));
    }
    lines.extend([String::new(), "Props:".to_owned()]);
    write_props(&mut lines, &schema.props, 1);
    lines.extend([String::new(), "Attributes of its handle:".to_owned()]);
    let attributes = schema.attributes.iter();
    lines.extend(attributes.map(|attribute| format!("  {}: {}", attribute.name, attribute.doc)));
    lines.join("\n")
}

fn write_props(lines: &mut Vec<String>, props: &[Prop], depth: usize) {
    for prop in props {
        let mut notes = vec![describe(&prop.ty)];
        notes.extend(prop.required.then(|| "required".to_owned()));
        notes.extend(
            prop.replaces
                .then(|| "a change makes a new object".to_owned()),
        );
        let indent = "  ".repeat(depth);
        let notes = notes.join("; ");
        lines.push(format!("{indent}{} ({notes}): {}", prop.name, prop.doc));
        write_props(lines, below(&prop.ty), depth + 1);
    }
}

/// The same for programs.
pub(super) fn as_json(schema: &KindSchema) -> Json {
    let attributes = schema.attributes.iter();
    let attributes = attributes.map(|a| json!({ "name": a.name, "text": a.doc }));
    json!({
        "resource_kind": schema.kind,
        "text": schema.doc,
        "functions": functions_of(&schema.kind).into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "props": props_as_json(&schema.props),
        "attributes": attributes.collect::<Vec<_>>(),
    })
}

fn props_as_json(props: &[Prop]) -> Vec<Json> {
    props
        .iter()
        .map(|prop| {
            json!({
                "name": prop.name,
                "type": describe(&prop.ty),
                "required": prop.required,
                "replaces": prop.replaces,
                "text": prop.doc,
                "props": props_as_json(below(&prop.ty)),
            })
        })
        .collect()
}

/// The props of the maps that a type holds.
fn below(ty: &PropType) -> &[Prop] {
    match ty {
        PropType::Object(props) => props,
        PropType::List(item) | PropType::MapOf(item) => below(item),
        PropType::Either(types) => types
            .iter()
            .map(below)
            .find(|props| !props.is_empty())
            .unwrap_or_default(),
        _ => &[],
    }
}
