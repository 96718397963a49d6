//! The imports of a JavaScript module, read without a parser: just deep enough to know strings, comments, templates and
//! regular expressions apart.

/// One `import`, `export .. from` or `import(..)` of a fixed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import<'a> {
    /// What is imported.
    pub(super) specifier: &'a str,
    /// Line, from 1.
    pub(super) line: usize,
}

/// The token before the one that is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before<'a> {
    Start,
    Word(&'a str),
    Mark(u8),
    Literal,
}

/// All imports of `source`, in order.
pub(super) fn imports(source: &str) -> Vec<Import<'_>> {
    let bytes = source.as_bytes();
    let mut out = Vec::new();
    let mut before = Before::Start;
    let mut earlier = Before::Start;
    // Open braces inside each open `${`, so that its end is known.
    let mut templates: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let from = at;
        let token = match byte {
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = source[at..].find('\n').map_or(bytes.len(), |n| at + n);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = source[at + 2..]
                    .find("*/")
                    .map_or(bytes.len(), |n| at + n + 4);
                continue;
            }
            b'/' if begins_expression(before) => {
                at = skip_regex(bytes, at);
                Before::Literal
            }
            b'"' | b'\'' => {
                at = skip_string(bytes, at);
                let imported = match before {
                    Before::Word("from" | "import") => !matches!(earlier, Before::Mark(b'.')),
                    Before::Mark(b'(') => earlier == Before::Word("import"),
                    _ => false,
                };
                let text = source.get(from + 1..at.saturating_sub(1));
                if let Some(specifier) = text.filter(|_| imported) {
                    out.push(Import {
                        specifier,
                        line: source[..from].bytes().filter(|b| *b == b'\n').count() + 1,
                    });
                }
                Before::Literal
            }
            b'`' => {
                at = skip_template(bytes, at + 1, &mut templates);
                Before::Literal
            }
            b'}' if templates.last() == Some(&0) => {
                templates.pop();
                at = skip_template(bytes, at + 1, &mut templates);
                Before::Literal
            }
            _ if byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'$')
                || !byte.is_ascii() =>
            {
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric()
                        || matches!(bytes[at], b'_' | b'$')
                        || !bytes[at].is_ascii())
                {
                    at += 1;
                }
                Before::Word(&source[from..at])
            }
            _ => {
                if let Some(depth) = templates.last_mut() {
                    match byte {
                        b'{' => *depth += 1,
                        b'}' => *depth -= 1,
                        _ => {}
                    }
                }
                at += 1;
                Before::Mark(byte)
            }
        };
        earlier = before;
        before = token;
    }
    out
}

/// Whether a `/` after `before` begins a regular expression and is no division.
fn begins_expression(before: Before<'_>) -> bool {
    match before {
        Before::Start => true,
        Before::Mark(mark) => !matches!(mark, b')' | b']' | b'}'),
        Before::Word(word) => matches!(
            word,
            "return"
                | "typeof"
                | "case"
                | "in"
                | "of"
                | "do"
                | "else"
                | "void"
                | "delete"
                | "await"
        ),
        Before::Literal => false,
    }
}

/// The place after a string; one that is not closed ends with its line.
fn skip_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' => return at,
            byte if byte == bytes[from] => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn skip_regex(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    let mut class = false;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => class = true,
            b']' => class = false,
            b'\n' => return at,
            b'/' if !class => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The place after a template's text: after its end, or after a `${`, which is then open.
fn skip_template(bytes: &[u8], from: usize, templates: &mut Vec<usize>) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'`' => return at + 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                templates.push(0);
                return at + 2;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<&str> {
        imports(source).into_iter().map(|i| i.specifier).collect()
    }

    #[test]
    fn every_form_of_import_is_seen() {
        let source = r#"
            import "./a.js";
            import b, { c as d } from './b.js'
            export * from "./c.js";
            const e = await import("./e.js");
        "#;
        assert_eq!(found(source), ["./a.js", "./b.js", "./c.js", "./e.js"]);
        assert_eq!(imports(source)[1].line, 3);
    }

    #[test]
    fn text_comments_and_expressions_are_no_imports() {
        let source = r#"
            // import "./no1.js"
            /* import "./no2.js" */
            const a = 'import "./no3.js"', b = `import "./no4.js" ${c ? `x ${"}"}` : "import './no5.js'"} import "./no6.js"`;
            const r = /["'`]/, q = a / b / 2; Array.from("./no7.js"); x.import("./yes?");
            const o = { from: "./no8.js" };
            import "./yes.js";
        "#;
        assert_eq!(found(source), ["./yes?", "./yes.js"]);
    }

    #[test]
    fn broken_text_ends() {
        for source in ["'", "`${", "/*", "/[", "import \"", "\\", "import '\\"] {
            assert!(found(source).len() <= 1, "{source}");
        }
    }
}
