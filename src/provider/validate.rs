//! Strict props: a declaration against the schema of its kind, with every mistake named by path.
//!
//! snake_case spellings become the schema's camelCase here, so that everything behind sees one spelling.

use crate::{
    model::{
        KindSchema, Map, Prop, PropType, Value,
        schema::{find_prop, snake_case},
    },
    util::text,
};

use super::{Change, PropError};

/// Checks `props` against the schema and answers them in the schema's spelling. `kind_of` tells the kind of a handle.
///
/// # Errors
/// Every mistake found, in the order of the props.
pub fn validate(
    schema: &KindSchema,
    props: Map,
    kind_of: &dyn Fn(&crate::model::Fqn) -> Option<std::sync::Arc<str>>,
) -> Result<Map, Vec<PropError>> {
    let mut checker = Checker {
        kind_of,
        errors: Vec::new(),
    };
    let mut path = Vec::new();
    let out = checker.object(&schema.props, schema.open_props, props, &mut path);
    if checker.errors.is_empty() {
        Ok(out)
    } else {
        Err(checker.errors)
    }
}

struct Checker<'a> {
    kind_of: &'a dyn Fn(&crate::model::Fqn) -> Option<std::sync::Arc<str>>,
    errors: Vec<PropError>,
}

impl Checker<'_> {
    fn fail(&mut self, path: &[String], at_key: bool, message: String, help: Option<String>) {
        self.errors.push(PropError {
            path: path.to_vec(),
            message,
            help,
            at_key,
        });
    }

    fn object(&mut self, schema: &[Prop], open: bool, props: Map, path: &mut Vec<String>) -> Map {
        let mut out = Map::new();
        for (key, value) in props {
            path.push(key.clone());
            match find_prop(schema, &key) {
                Some(prop) => {
                    // `()` means "not given", so that optional values can be passed through.
                    if value != Value::Null {
                        self.value(&prop.ty, prop.secret, &value, path);
                        if out.contains_key(prop.name) {
                            let message = format!("`{}` is given twice", prop.name);
                            self.fail(path, true, message, Some("keep one spelling".to_owned()));
                        }
                        let value = self.respell(&prop.ty, value);
                        out.insert(prop.name.to_owned(), value);
                    }
                }
                None if open => {
                    out.insert(key, value);
                }
                None => self.unknown(schema, &key, path),
            }
            path.pop();
        }
        for prop in schema.iter().filter(|prop| prop.required) {
            if !out.contains_key(prop.name)
                && !self
                    .errors
                    .iter()
                    .any(|e| e.path.last().is_some_and(|k| k == prop.name))
            {
                let help = format!("add `{}: ..`: {}", prop.name, prop.doc);
                self.fail(
                    path,
                    false,
                    format!("`{}` is missing", prop.name),
                    Some(help),
                );
            }
        }
        out
    }

    fn unknown(&mut self, schema: &[Prop], key: &str, path: &[String]) {
        let near = text::suggestions(key, schema.iter().map(|prop| prop.name), 1);
        let help = match near.first() {
            Some(name) => format!("did you mean `{name}`?"),
            None if schema.is_empty() => "it takes no props".to_owned(),
            None => {
                let names: Vec<_> = schema
                    .iter()
                    .map(|prop| format!("`{}`", prop.name))
                    .collect();
                format!("it takes {}", names.join(", "))
            }
        };
        self.fail(path, true, format!("unknown prop `{key}`"), Some(help));
    }

    /// Nested objects get the schema's spelling as well; mistakes in them were reported by `value`.
    fn respell(&mut self, ty: &PropType, value: Value) -> Value {
        match (ty, value) {
            (PropType::Object(schema), Value::Map(map)) => Value::Map(
                map.into_iter()
                    .filter(|(_, value)| *value != Value::Null)
                    .map(|(key, value)| match find_prop(schema, &key) {
                        Some(prop) => (prop.name.to_owned(), self.respell(&prop.ty, value)),
                        None => (key, value),
                    })
                    .collect(),
            ),
            (PropType::List(item), Value::Array(items)) => Value::Array(
                items
                    .into_iter()
                    .map(|value| self.respell(item, value))
                    .collect(),
            ),
            (PropType::MapOf(item), Value::Map(map)) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| (key, self.respell(item, value)))
                    .collect(),
            ),
            (PropType::Either(types), value) => {
                match types.iter().find(|ty| self.fits(ty, &value)) {
                    Some(ty) => self.respell(ty, value),
                    None => value,
                }
            }
            (_, value) => value,
        }
    }

    fn fits(&self, ty: &PropType, value: &Value) -> bool {
        let mut probe = Checker {
            kind_of: self.kind_of,
            errors: Vec::new(),
        };
        probe.value(ty, true, value, &mut Vec::new());
        probe.errors.is_empty()
    }

    fn value(&mut self, ty: &PropType, secret: bool, value: &Value, path: &mut Vec<String>) {
        match (ty, value) {
            (PropType::Any | PropType::Binding, _)
            | (PropType::String, Value::String(_) | Value::Template(_))
            | (PropType::Bool, Value::Bool(_))
            | (PropType::Number, Value::Int(_) | Value::Float(_)) => {}
            // An attribute of another resource has the type it will have; only the provider can tell.
            (ty, Value::Ref(reference))
                if !reference.path.is_empty() && !matches!(ty, PropType::Object(_)) => {}
            (PropType::String, Value::Secret(_)) if secret => {}
            (PropType::String, Value::Secret(_)) => self.fail(
                path,
                false,
                "a secret cannot stand here: the provider would show it".to_owned(),
                Some("pass the plain value, or bind the secret to a Worker".to_owned()),
            ),
            (PropType::Integer { min, max }, Value::Int(number)) => {
                if number < min || number > max {
                    let message = format!("{number} is out of range: {min} to {max}");
                    self.fail(path, false, message, None);
                }
            }
            (PropType::Between { min, max }, Value::Int(_) | Value::Float(_)) => {
                let number = match value {
                    Value::Int(number) => *number as f64,
                    Value::Float(number) => *number,
                    _ => return,
                };
                if !(*min..=*max).contains(&number) {
                    let message = format!("{number} is out of range: {min} to {max}");
                    self.fail(path, false, message, None);
                }
            }
            (PropType::OneOf(choices), Value::String(text)) => {
                if !choices.contains(&text.as_str()) {
                    let near = text::suggestions(text, choices.iter().copied(), 1);
                    let list: Vec<_> = choices.iter().map(|c| format!("\"{c}\"")).collect();
                    let help = match near.first() {
                        Some(name) => format!("did you mean \"{name}\"?"),
                        None => format!("one of {}", list.join(", ")),
                    };
                    self.fail(
                        path,
                        false,
                        format!("\"{text}\" is not a known value"),
                        Some(help),
                    );
                }
            }
            (PropType::List(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.value(item, secret, value, path);
                    path.pop();
                }
            }
            (PropType::MapOf(item), Value::Map(map)) => {
                for (key, value) in map {
                    path.push(key.clone());
                    self.value(item, secret, value, path);
                    path.pop();
                }
            }
            (PropType::Object(schema), Value::Map(map)) => {
                self.object(schema, false, map.clone(), path);
            }
            (PropType::Resource(kinds), Value::Ref(reference)) if reference.path.is_empty() => {
                let kind = (self.kind_of)(&reference.fqn);
                let kind = kind.as_deref().unwrap_or("unknown");
                if !kinds.is_empty() && !kinds.contains(&kind) {
                    let message = format!("expected {}, found {kind}", kinds.join(" or "));
                    self.fail(path, false, message, None);
                }
            }
            (PropType::Either(types), value) => {
                if !types.iter().any(|ty| self.fits(ty, value)) {
                    let names: Vec<_> = types.iter().map(describe).collect();
                    let message = format!(
                        "expected {}, found {}",
                        names.join(" or "),
                        value.type_name()
                    );
                    self.fail(path, false, message, None);
                }
            }
            (ty, value) => {
                let help = match value {
                    Value::Ref(reference) if reference.path.is_empty() => Some(format!(
                        "pass one of its attributes, such as `.name` or `.id` of `{}`",
                        reference.fqn.id()
                    )),
                    _ => type_help(ty).map(str::to_owned),
                };
                let message = format!("expected {}, found {}", describe(ty), value.type_name());
                self.fail(path, false, message, help);
            }
        }
    }
}

/// A type in words, for messages and docs.
#[must_use]
pub fn describe(ty: &PropType) -> String {
    match ty {
        PropType::Any => "anything".to_owned(),
        PropType::String => "string".to_owned(),
        PropType::Bool => "true or false".to_owned(),
        PropType::Integer { .. } => "integer".to_owned(),
        PropType::Number | PropType::Between { .. } => "number".to_owned(),
        PropType::OneOf(choices) => choices
            .iter()
            .map(|c| format!("\"{c}\""))
            .collect::<Vec<_>>()
            .join(" | "),
        PropType::List(item) => format!("array of {}", describe(item)),
        PropType::MapOf(item) => format!("map of {}", describe(item)),
        PropType::Object(_) => "map".to_owned(),
        PropType::Resource([]) => "resource".to_owned(),
        PropType::Resource(kinds) => kinds.join(" or "),
        PropType::Either(types) => types.iter().map(describe).collect::<Vec<_>>().join(" or "),
        PropType::Binding => "binding".to_owned(),
    }
}

/// How a value of a type is written.
#[must_use]
pub fn type_help(ty: &PropType) -> Option<&'static str> {
    Some(match ty {
        PropType::String => "write it as text in quotes: `\"..\"`",
        PropType::Bool => "write `true` or `false`, without quotes",
        PropType::Integer { .. } | PropType::Number | PropType::Between { .. } => {
            "write the number without quotes"
        }
        PropType::List(_) => "write a list: `[ .. ]`",
        PropType::MapOf(_) | PropType::Object(_) => "write a map: `#{ key: value }`",
        _ => return None,
    })
}

/// The change that the schema's `replaces` marks imply.
#[must_use]
pub fn diff_by_schema(schema: &KindSchema, prior: &Map, next: &Map) -> Change {
    if prior == next {
        return Change::None;
    }
    let reasons: Vec<String> = schema
        .props
        .iter()
        .filter(|prop| prop.replaces && prior.get(prop.name) != next.get(prop.name))
        .map(|prop| prop.name.to_owned())
        .collect();
    if reasons.is_empty() {
        Change::Update
    } else {
        Change::Replace(reasons)
    }
}

/// Both spellings of a prop, for completion and docs.
#[must_use]
pub fn spellings(name: &str) -> (String, String) {
    (name.to_owned(), snake_case(name))
}
