//! Script lines for objects that are there: what `import` proves and `scan` drafts.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crate::{
    model::{Fqn, Map, ResourceId, ScopePath, Secret, StagePath, Value, schema::snake_case},
    provider::{
        Access, CheckContext, Checked, Observation, Permissions, PropError, Provider,
        cloudflare::worker::MARK, validate,
    },
    script::functions_of,
};

/// Where a line stands.
pub(super) struct Place<'a> {
    /// The stage, whose name becomes part of names.
    pub(super) stage: &'a StagePath,
    /// The scopes.
    pub(super) scope: &'a ScopePath,
    /// The id.
    pub(super) id: &'a ResourceId,
    /// The folder of the script.
    pub(super) folder: &'a Path,
}

/// The key of a value that is a secret of the environment, in props that are to be written. No prop begins with `$`.
const VARIABLE: &str = "$variable";

/// A secret that no look at an object shows, so that a script takes it from the environment.
pub(super) struct Hidden {
    /// The path of the prop.
    pub(super) path: &'static [&'static str],
    /// The variable.
    pub(super) variable: String,
}

/// The secrets that the script has to give for this object, each with a variable named after the resource.
pub(super) fn hidden(provider: &dyn Provider, seen: &Observation, id: &ResourceId) -> Vec<Hidden> {
    let named = |path: &'static [&'static str]| Hidden {
        path,
        variable: variable(id.as_str(), path.last().copied().unwrap_or("secret")),
    };
    provider.hidden(seen).into_iter().map(named).collect()
}

/// `my-db` and `accessClientSecret` as `MY_DB_ACCESS_CLIENT_SECRET`.
fn variable(id: &str, prop: &str) -> String {
    let plain: String = format!("{id}_{}", snake_case(prop))
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    match plain.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("SECRET_{plain}"),
        false => plain,
    }
}

/// What an environment variable says.
pub(super) type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

fn put(map: &mut Map, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => drop(map.insert((*last).to_owned(), value)),
        [first, rest @ ..] => {
            let inner = map.entry((*first).to_owned()).or_default();
            if !matches!(inner, Value::Map(_)) {
                *inner = Value::Map(Map::new());
            }
            if let Value::Map(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The call that declares an object.
pub(super) struct Line {
    /// The call, without a semicolon.
    pub(super) call: String,
    /// Its props.
    pub(super) props: Map,
    /// The same as they are recorded.
    pub(super) checked: Checked,
}

/// The line that means this very object: without a name where the one that is made from the id is its name. `adopt` is for
/// scripts that are to take it over. Secrets that nothing shows are those of `variables`; a draft is checked without them.
pub(super) fn line(
    provider: &dyn Provider,
    place: &Place<'_>,
    seen: &Observation,
    adopt: bool,
    variables: &Variables<'_>,
) -> Result<Line, Vec<PropError>> {
    let kind = &provider.schema().kind;
    let functions = functions_of(kind);
    let mut given = provider.declarable(seen);
    let mut written = given.clone();
    for hidden in hidden(provider, seen, place.id) {
        let name = Value::from(hidden.variable.as_str());
        let mark = Map::from([(VARIABLE.to_owned(), name)]);
        put(&mut written, hidden.path, Value::Map(mark));
        let value = variables(&hidden.variable).unwrap_or_else(|| hidden.variable.clone());
        put(&mut given, hidden.path, Value::Secret(Secret::plain(value)));
    }
    let mut problems = Vec::new();
    for named in [false, true] {
        for (function, block) in &functions {
            let mut name = Map::new();
            if named {
                let Some(prop) = provider.name_prop() else {
                    continue;
                };
                name.insert(prop.to_owned(), Value::from(seen.physical_name.as_str()));
            }
            let mut shown = name.clone();
            shown.extend(written.clone());
            let mut props = name;
            props.extend(given.clone());
            if *block {
                props.insert("naming".to_owned(), Value::from("stage"));
            }
            match means(provider, place, props.clone()) {
                Ok(checked) if checked.physical_name == seen.physical_name => {
                    let call = call(function, place.id, &shown, adopt);
                    return Ok(Line {
                        call,
                        props,
                        checked,
                    });
                }
                Ok(_) => {}
                Err(errors) => problems = errors,
            }
        }
    }
    if problems.is_empty() {
        problems.push(PropError {
            path: Vec::new(),
            message: format!("no function of scripts declares `{kind}` by its name"),
            help: None,
            at_key: false,
        });
    }
    Err(problems)
}

/// The object that these props would mean.
fn means(
    provider: &dyn Provider,
    place: &Place<'_>,
    props: Map,
) -> Result<Checked, Vec<PropError>> {
    let props = validate::validate(provider.schema(), props, &|_| None)?;
    let context = CheckContext {
        fqn: Fqn::new(place.stage, place.scope, place.id),
        stage: place.stage.clone(),
        scope: place.scope.clone(),
        id: place.id.as_str().to_owned(),
        folder: Arc::from(place.folder),
        access: Arc::new(Access::new(place.folder, Permissions::default())),
        kept_name: None,
    };
    provider.check(&context, props)
}

/// A call of a resource function.
pub(super) fn call(function: &str, id: &ResourceId, props: &Map, adopt: bool) -> String {
    let mut shown = props.clone();
    if adopt {
        shown.insert("adopt".to_owned(), Value::Bool(true));
    }
    let id = literal(&Value::from(id.as_str()));
    if shown.is_empty() {
        return format!("{function}({id})");
    }
    format!("{function}({id}, {})", literal(&Value::Map(shown)))
}

/// The lines of a call within its scopes.
pub(super) fn within(scope: &ScopePath, call: &str) -> String {
    let mut out = String::new();
    let depth = scope.parts().len();
    for (level, part) in scope.parts().iter().enumerate() {
        let id = literal(&Value::from(part.as_str()));
        out.push_str(&format!(
            "{}alchemy.run({id}, || {{\n",
            "    ".repeat(level)
        ));
    }
    out.push_str(&format!("{}{call};\n", "    ".repeat(depth)));
    for level in (0..depth).rev() {
        out.push_str(&format!("{}}});\n", "    ".repeat(level)));
    }
    out
}

/// A value as the script language writes it.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) if map.is_empty() => "#{}".to_owned(),
        Value::Map(map) if map.contains_key(MARK) => bound(map),
        Value::Map(map) if map.contains_key(VARIABLE) => {
            let name = map.get(VARIABLE).map(literal).unwrap_or_default();
            format!("secret(env({name}))")
        }
        Value::Map(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", key_text(key), literal(value)))
                .collect();
            format!("#{{ {} }}", items.join(", "))
        }
        // Nothing that a provider shows is anything else.
        _ => "()".to_owned(),
    }
}

/// A binding that is no value.
fn bound(map: &Map) -> String {
    let mut fields = map.clone();
    let kind = fields.remove(MARK).unwrap_or_default();
    match fields.is_empty() {
        true => format!("Binding({})", literal(&kind)),
        false => format!(
            "Binding({}, {})",
            literal(&kind),
            literal(&Value::Map(fields))
        ),
    }
}

fn key_text(key: &str) -> String {
    let plain = key
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    // Words of the language are keys only in quotes.
    const WORDS: [&str; 10] = [
        "default", "type", "match", "in", "is", "fn", "for", "if", "private", "export",
    ];
    if plain && !key.is_empty() && !WORDS.contains(&key) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// A comment line. What objects are called must not end it.
pub(super) fn comment(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("// {line}\n")
}

/// A word of a command line as a POSIX shell reads it.
pub(super) fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An id for an object: its name without the stage's, apart from those in `taken`.
pub(super) fn id_for(
    name: &str,
    function: &str,
    stage: &str,
    taken: &mut BTreeSet<String>,
) -> ResourceId {
    let plain = name
        .strip_suffix(&format!("-{stage}"))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name);
    let plain: String = plain
        .chars()
        .map(|c| {
            if c.is_control() || "/\\:*".contains(c) {
                '-'
            } else {
                c
            }
        })
        .collect();
    let plain = plain.trim_end_matches('-').to_owned();
    let function = function.to_lowercase();
    let candidates = [plain.clone(), format!("{plain}-{function}")]
        .into_iter()
        .chain((2..).map(|number: u64| format!("{function}-{number}")));
    for candidate in candidates {
        // Ids that differ only by case share a folder on some file systems.
        let free = !taken.contains(&candidate.to_lowercase());
        if let Some(id) = ResourceId::new(candidate.as_str()).ok().filter(|_| free) {
            taken.insert(candidate.to_lowercase());
            return id;
        }
    }
    unreachable!("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_resources() {
        for (id, prop, expected) in [
            ("db", "password", "DB_PASSWORD"),
            ("my-db", "accessClientSecret", "MY_DB_ACCESS_CLIENT_SECRET"),
            ("1/größe", "value", "SECRET_1_GR__E_VALUE"),
        ] {
            assert_eq!(variable(id, prop), expected);
        }
    }

    #[test]
    fn values_are_written_as_scripts_write_them() {
        let value = Value::from_plain_json(serde_json::json!({
            "a": ["x\"y\n", 1, 2.0, true], "default": {}, "two words": null
        }));
        assert_eq!(
            literal(&value),
            r#"#{ a: ["x\"y\n", 1, 2.0, true], "default": #{}, "two words": () }"#
        );
    }

    #[test]
    fn a_comment_ends_with_its_line() {
        let text = comment("named `a\nevil();\r`");
        assert_eq!(text, "// named `a evil(); `\n");
    }

    #[test]
    fn ids_drop_the_stage_and_stay_apart() {
        let mut taken = BTreeSet::new();
        let mut id = |name| id_for(name, "KV", "dev", &mut taken).as_str().to_owned();
        assert_eq!(id("cache-dev"), "cache");
        assert_eq!(id("cache"), "cache-kv");
        assert_eq!(id("Cache"), "kv-2");
        assert_eq!(id("a/b"), "a-b");
        assert_eq!(id("example.com/*"), "example.com");
        assert_eq!(id("resources"), "resources-kv");
    }
}
