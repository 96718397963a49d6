//! Diagnostics as text: the code frame at the place in the script, facts, next steps.
//!
//! Positions come from scripts, state files and providers; none of them is trusted to lie within the text.

use std::{ops::Range, sync::Arc};

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet,
    renderer::DEFAULT_TERM_WIDTH,
};
use anstream::adapter::strip_str;

use crate::model::{Diagnostic, Label, Severity, SourceFile};

/// Lines longer than this are not shown: the frame then only says where.
const LONGEST_LINE: usize = 1_000;

/// Labels of one file that lie farther apart than this many lines get frames of their own.
const WINDOW: usize = 400;

/// Renders a diagnostic, with ANSI styles. Ends without a line break.
#[must_use]
pub fn render(diagnostic: &Diagnostic, width: Option<usize>) -> String {
    let renderer = Renderer::styled().term_width(width.unwrap_or(DEFAULT_TERM_WIDTH));
    rendered(&renderer, diagnostic)
}

/// Renders a diagnostic without styles.
#[must_use]
pub fn render_plain(diagnostic: &Diagnostic) -> String {
    rendered(&Renderer::plain(), diagnostic)
}

fn rendered(renderer: &Renderer, diagnostic: &Diagnostic) -> String {
    let text = renderer.render(&[group(diagnostic)]);
    if !diagnostic.labels.is_empty() {
        return text;
    }
    // Without a frame the line that would lead to it is empty, and in the way.
    let title = renderer.render(&[titled(diagnostic)]);
    let below = text.strip_prefix(&title).and_then(|rest| {
        let (rule, below) = rest.strip_prefix('\n')?.split_once('\n')?;
        (strip_str(rule).to_string().trim() == "|").then_some(below)
    });
    match below {
        Some(below) => format!("{title}\n{below}"),
        None => text,
    }
}

/// The first line alone.
fn titled(diagnostic: &Diagnostic) -> Group<'_> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(&diagnostic.message);
    if let Some(code) = diagnostic.code {
        title = title.id(code.to_string());
    }
    Group::with_title(title)
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let mut group = titled(diagnostic);
    for cluster in cluster(&diagnostic.labels) {
        group = match frame(&cluster) {
            Frame::Snippet(snippet) => group.element(snippet),
            Frame::Place(origin) => group.element(origin),
        };
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    group
}

/// Labels by file, the primary one's file first, split where they lie far apart.
fn cluster(labels: &[Label]) -> Vec<Vec<&Label>> {
    let mut ordered: Vec<&Label> = labels.iter().collect();
    ordered.sort_by_key(|label| !label.primary);
    let mut out: Vec<Vec<&Label>> = Vec::new();
    for label in ordered {
        let home = out.iter_mut().find(|cluster| {
            Arc::ptr_eq(&cluster[0].source, &label.source)
                || (cluster[0].source.name == label.source.name
                    && cluster[0].source.text.len() == label.source.text.len())
        });
        match home {
            Some(cluster)
                if cluster
                    .iter()
                    .all(|other| other.line.abs_diff(label.line) as usize <= WINDOW) =>
            {
                cluster.push(label);
            }
            _ => out.push(vec![label]),
        }
    }
    out
}

enum Frame<'a> {
    Snippet(Snippet<'a, Annotation<'a>>),
    Place(Origin<'a>),
}

fn frame<'a>(labels: &[&'a Label]) -> Frame<'a> {
    let source: &'a SourceFile = &labels[0].source;
    let place = || {
        Frame::Place(
            Origin::path(&source.name)
                .line(labels[0].line.max(1) as usize)
                .char_column(labels[0].column.max(1) as usize),
        )
    };
    let first = labels.iter().map(|label| label.line).min().unwrap_or(1);
    let last = labels.iter().map(|label| label.line).max().unwrap_or(1);
    let window = lines(&source.text, first as usize, last as usize);
    if window.text.trim().is_empty() || window.text.lines().any(|line| line.len() > LONGEST_LINE) {
        return place();
    }
    let mut snippet = Snippet::source(window.text)
        .line_start(window.first_line)
        .path(&source.name)
        .fold(true);
    for label in labels {
        let Some(span) = span(window.text, window.first_line, label) else {
            return place();
        };
        let kind = if label.primary {
            AnnotationKind::Primary
        } else {
            AnnotationKind::Context
        };
        let mut annotation = kind.span(span);
        if !label.text.is_empty() {
            annotation = annotation.label(label.text.as_str());
        }
        snippet = snippet.annotation(annotation);
    }
    Frame::Snippet(snippet)
}

struct Window<'a> {
    text: &'a str,
    first_line: usize,
}

/// The lines `first..=last` of `text` with one line around them, so that a large file is not looked through twice.
fn lines(text: &str, first: usize, last: usize) -> Window<'_> {
    let from_line = first.saturating_sub(1).max(1);
    let mut start = if from_line == 1 { Some(0) } else { None };
    let mut end = text.len();
    let mut line = 1;
    for (index, _) in text.match_indices('\n') {
        line += 1;
        if line == from_line {
            start = Some(index + 1);
        }
        if line == last + 2 {
            end = index;
            break;
        }
    }
    match start {
        Some(start) if start <= end => Window {
            text: &text[start..end],
            first_line: from_line,
        },
        _ => Window {
            text: "",
            first_line: from_line,
        },
    }
}

/// The bytes of `text` that a label covers; `None` when its line is not there.
fn span(text: &str, first_line: usize, label: &Label) -> Option<Range<usize>> {
    let index = (label.line.max(1) as usize).checked_sub(first_line)?;
    let mut offset = 0;
    let mut found = None;
    for (number, line) in text.split('\n').enumerate() {
        if number == index {
            found = Some(line.trim_end_matches('\r'));
            break;
        }
        offset += line.len() + 1;
    }
    let line = found?;
    let column = (label.column.max(1) - 1) as usize;
    let start = line
        .char_indices()
        .nth(column)
        .map_or(line.len(), |(byte, _)| byte);
    let rest = &line[start..];
    let length = if label.length == 0 {
        token_length(rest)
    } else {
        rest.char_indices()
            .nth(label.length as usize)
            .map_or(rest.len(), |(byte, _)| byte)
    };
    Some(offset + start..offset + start + length)
}

/// How many bytes the token at the beginning of `rest` has: a path of identifiers, a string, a number, or one character.
fn token_length(rest: &str) -> usize {
    let Some(first) = rest.chars().next() else {
        return 0;
    };
    if first.is_alphanumeric() || first == '_' {
        let mut end = 0;
        let mut characters = rest.char_indices().peekable();
        while let Some((index, character)) = characters.next() {
            let colon = character == ':'
                && rest[index..].starts_with("::")
                && rest[index + 2..]
                    .chars()
                    .next()
                    .is_some_and(|next| next.is_alphabetic() || next == '_');
            if colon {
                characters.next();
            } else if !(character.is_alphanumeric() || character == '_') {
                break;
            }
            end = characters.peek().map_or(rest.len(), |(next, _)| *next);
        }
        return end;
    }
    if matches!(first, '"' | '`' | '\'') {
        let mut escaped = false;
        for (index, character) in rest.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if character == '\\' && first != '`' {
                escaped = true;
            } else if character == first {
                return index + 1;
            }
        }
        return rest.len();
    }
    first.len_utf8()
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;
    use crate::model::diagnostic::codes;

    fn source(text: &str) -> Arc<SourceFile> {
        Arc::new(SourceFile {
            name: "alchemy.run.rhai".to_owned(),
            text: text.to_owned(),
        })
    }

    fn label(source: &Arc<SourceFile>, line: u32, column: u32, text: &str, primary: bool) -> Label {
        Label {
            source: Arc::clone(source),
            line,
            column,
            length: 0,
            text: text.to_owned(),
            primary,
        }
    }

    #[test]
    fn a_frame_underlines_the_token_and_ends_in_the_next_step() {
        let source = source(
            "let app = alchemy(\"shop\");\nlet db = Database(\"main-db\", #{\n    migratons: \"./m\",\n});\n",
        );
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_PROP, "`Database` has no prop `migratons`")
                .with_label(label(&source, 3, 5, "unknown prop", true))
                .with_label(label(&source, 2, 10, "in this resource", false))
                .with_help("did you mean `migrations`?");
        assert_data_eq!(
            render_plain(&diagnostic),
            str![[r#"
error[E0201]: `Database` has no prop `migratons`
 --> alchemy.run.rhai:3:5
  |
2 | let db = Database("main-db", #{
  |          -------- in this resource
3 |     migratons: "./m",
  |     ^^^^^^^^^ unknown prop
  |
  = help: did you mean `migrations`?
"#]]
        );
    }

    #[test]
    fn a_label_in_another_file_gets_its_own_frame() {
        let main = source("import \"blocks\" as blocks;\nblocks::site(\"a\");\n");
        let module = Arc::new(SourceFile {
            name: "blocks.rhai".to_owned(),
            text: "fn site(name) {\n    Worker(name, 3)\n}\n".to_owned(),
        });
        let diagnostic = Diagnostic::error(codes::WRONG_TYPE, "props must be a map")
            .with_label(label(&module, 2, 5, "here", true))
            .with_label(label(&main, 2, 1, "called here", false));
        assert_data_eq!(
            render_plain(&diagnostic),
            str![[r#"
error[E0202]: props must be a map
 --> blocks.rhai:2:5
  |
2 |     Worker(name, 3)
  |     ^^^^^^ here
  |
 ::: alchemy.run.rhai:2:1
  |
2 | blocks::site("a");
  | ------------ called here
"#]]
        );
    }

    #[test]
    fn positions_outside_the_text_never_panic() {
        let texts = ["", "\n", "a", "ä€\r\n\u{1F600}b\n", "x\n\n\n"];
        for text in texts {
            let source = source(text);
            for line in [0, 1, 2, 3, 4, 99, u32::MAX] {
                for column in [0, 1, 2, 3, 99, u32::MAX] {
                    for length in [0, 1, 7, u32::MAX] {
                        let mut at = label(&source, line, column, "here", true);
                        at.length = length;
                        let diagnostic = Diagnostic::error(codes::RUNTIME, "m")
                            .with_label(at)
                            .with_label(label(&source, 1, 1, "", false));
                        assert!(render_plain(&diagnostic).starts_with("error[E0105]: m"));
                    }
                }
            }
        }
    }

    #[test]
    fn tokens_end_where_the_language_ends_them() {
        for (rest, token) in [
            ("Database(\"x\")", "Database"),
            ("blocks::site(1)", "blocks::site"),
            ("a::1", "a"),
            ("\"a\\\"b\", c", "\"a\\\"b\""),
            ("`x ${y}` + 1", "`x ${y}`"),
            ("\"open", "\"open"),
            ("#{ a: 1 }", "#"),
            ("42 + 1", "42"),
            ("größe = 1", "größe"),
        ] {
            assert_eq!(&rest[..token_length(rest)], token, "{rest}");
        }
    }

    #[test]
    fn a_very_long_line_is_named_and_not_shown() {
        let source = source(&"x".repeat(5_000));
        let diagnostic = Diagnostic::error(codes::TOO_LARGE, "too large")
            .with_label(label(&source, 1, 4_000, "", true));
        assert_data_eq!(
            render_plain(&diagnostic),
            str![[r#"
error[E0112]: too large
--> alchemy.run.rhai:1:4000
"#]]
        );
    }
}
