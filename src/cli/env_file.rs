//! `--env-file`: `KEY=VALUE` lines with quotes and comments.

use std::collections::BTreeMap;

/// A line that is not `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong there.
    pub problem: String,
}

/// Reads the text of an environment file. Later lines win.
///
/// `export` before a name is accepted. In double quotes `\n`, `\t`, `\r`, `\"`, `\\` and `\$` are escapes, and line breaks
/// may stand; single quotes take everything as it is. Without quotes a value ends at ` #` or the end of the line.
///
/// # Errors
/// [`EnvFileError`] with the place of the first mistake.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, EnvFileError> {
    let mut out = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let at = |rest: &str, problem: String| EnvFileError {
            line: number,
            column: u32::try_from(line.chars().count() - rest.chars().count() + 1)
                .unwrap_or(u32::MAX),
            problem,
        };
        let declaration = trimmed
            .strip_prefix("export ")
            .map_or(trimmed, str::trim_start);
        let Some((name, value)) = declaration.split_once('=') else {
            return Err(at(declaration, "expected `KEY=VALUE`".to_owned()));
        };
        let name = name.trim_end();
        if !is_name(name) {
            return Err(at(
                declaration,
                format!("`{name}` is not a name: letters, digits and `_`, no digit first"),
            ));
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let mut body = value[1..].to_owned();
                loop {
                    if let Some((inside, after)) = quoted(&body, quote) {
                        let after = after.trim_start();
                        if !after.is_empty() && !after.starts_with('#') {
                            return Err(at(value, format!("`{after}` stands after the value")));
                        }
                        break inside;
                    }
                    let Some((_, next)) = lines.next() else {
                        return Err(at(value, format!("the closing {quote} is missing")));
                    };
                    body.push('\n');
                    body.push_str(next);
                }
            }
            _ => plain(value).to_owned(),
        };
        out.insert(name.to_owned(), value);
    }
    Ok(out)
}

fn is_name(name: &str) -> bool {
    name.chars()
        .enumerate()
        .all(|(index, c)| c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit()))
        && !name.is_empty()
}

fn plain(value: &str) -> &str {
    let end = value
        .char_indices()
        .find(|(index, c)| *c == '#' && (*index == 0 || value[..*index].ends_with([' ', '\t'])))
        .map_or(value.len(), |(index, _)| index);
    value[..end].trim_end()
}

/// What stands before the closing quote, and what after; `None` when there is none yet.
fn quoted(body: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut characters = body.char_indices();
    while let Some((index, character)) = characters.next() {
        if character == quote {
            return Some((out, &body[index + 1..]));
        }
        if character != '\\' || quote == '\'' {
            out.push(character);
            continue;
        }
        match characters.next()?.1 {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            escaped @ ('"' | '\\' | '$') => out.push(escaped),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_quotes_and_comments() {
        let text = "\u{feff}# first\nA=1\n\n export B = two words # said\r\nC='it # is $x \\n'\nD=\"a\\nb\\\"c\" # d\nE=\nF=\"one\ntwo\"\nG=a#b\nA=2\n";
        let read = parse(text).unwrap();
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "it # is $x \\n"),
            ("D", "a\nb\"c"),
            ("E", ""),
            ("F", "one\ntwo"),
            ("G", "a#b"),
        ];
        let read: Vec<(&str, &str)> = read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, line, column) in [
            ("A=1\nnonsense\n", 2, 1),
            ("  1A=2\n", 1, 3),
            ("A=\"open\nmore", 1, 3),
            ("A=\"x\" y", 1, 3),
            ("=x", 1, 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(
                (error.line, error.column),
                (line, column),
                "{text:?} {error}"
            );
        }
    }
}
