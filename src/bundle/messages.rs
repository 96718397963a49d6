//! What `esbuild` says about mistakes, read from its terminal output: a headline, the place, a frame, notes.

use super::bundler::Message;

const HEADLINE: &str = "✘ [ERROR] ";

/// The mistakes, in order.
pub(super) fn parse(text: &str) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if let Some(headline) = line.strip_prefix(HEADLINE) {
            out.push(Message {
                place: None,
                text: headline.trim_end_matches('.').to_owned(),
                help: help(headline),
            });
            open = true;
            continue;
        }
        // The headline of a warning or of a summary.
        if !line.starts_with(' ') && !line.is_empty() {
            open = false;
        }
        if open
            && let Some(message) = out.last_mut()
            && message.place.is_none()
            && let Some(found) = place(line)
        {
            message.place = Some(found);
        }
    }
    out
}

/// `    src/a.ts:1:21:`, whose column counts from 0.
fn place(line: &str) -> Option<(String, u32, u32)> {
    let rest = line.strip_prefix("    ")?.strip_suffix(':')?;
    let (rest, column) = rest.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    let column: u32 = column.parse().ok()?;
    Some((file.to_owned(), line.parse().ok()?, column + 1))
}

fn help(headline: &str) -> Option<String> {
    let name = headline.strip_prefix("Could not resolve \"")?;
    let name = name.strip_suffix('"')?;
    if name.starts_with('.') || name.starts_with('/') {
        return Some("correct the path".to_owned());
    }
    let mut parts = name.split('/');
    let first = parts.next().unwrap_or_default();
    if super::NODE_MODULES.contains(&first) {
        return Some(
            "it is a module of Node.js: add `compatibility: \"node\"` to the Worker".to_owned(),
        );
    }
    let package = match parts.next() {
        Some(second) if first.starts_with('@') => format!("{first}/{second}"),
        _ => first.to_owned(),
    };
    Some(format!("install the package: `npm install {package}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headlines_places_and_next_steps_are_read() {
        let text = "\
✘ [ERROR] Could not resolve \"@scope/tool/part\"

    src/a.tsx:11:34:
      11 │ import x from \"@scope/tool/part\";
         ╵               ~~~~~~~~~~~~~~~~~

  You can mark the path as external.

▲ [WARNING] Something else

    src/b.ts:1:0:

✘ [ERROR] Expected \"...\" but found \"hi\"

    src/with space.ts:2:0:
      2 │ hi

    src/note.ts:3:4:
";
        let place = |file: &str, line, column| Some((file.to_owned(), line, column));
        assert_eq!(
            parse(text),
            [
                Message {
                    place: place("src/a.tsx", 11, 35),
                    text: "Could not resolve \"@scope/tool/part\"".to_owned(),
                    help: Some("install the package: `npm install @scope/tool`".to_owned()),
                },
                Message {
                    place: place("src/with space.ts", 2, 1),
                    text: "Expected \"...\" but found \"hi\"".to_owned(),
                    help: None,
                },
            ]
        );
        assert_eq!(parse("panic: no"), []);
    }

    #[test]
    fn what_to_do_depends_on_what_is_missing() {
        let told = |name: &str| help(&format!("Could not resolve \"{name}\"")).unwrap();
        assert_eq!(told("./x"), "correct the path");
        assert_eq!(told("hono/jsx"), "install the package: `npm install hono`");
        assert!(told("fs/promises").contains("compatibility"));
    }
}
