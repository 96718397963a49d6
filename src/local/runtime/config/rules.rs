//! The files `_headers` and `_redirects` of static assets, as the simulator of assets takes them.
//!
//! Lines that make no sense are left out, as Cloudflare does with files that it accepts; nothing here fails.

use serde_json::{Map, Value, json};

/// Most rules of `_headers`.
const HEADERS_LIMIT: usize = 100;
/// Most rules of `_redirects` for one path, and with placeholders.
const STATIC_LIMIT: usize = 2000;
const DYNAMIC_LIMIT: usize = 100;
/// The longest line.
const LINE_LIMIT: usize = 2000;

/// `_headers`: a path, and below it, indented, the headers that answers get or (`! Name`) lose.
pub(super) fn headers(text: &str) -> Value {
    let mut rules: Map<String, Value> = Map::new();
    let mut path: Option<String> = None;
    for line in lines(text) {
        let indented = line.starts_with(char::is_whitespace);
        let line = line.trim();
        if !indented && is_path(line) {
            let fits = rules.len() < HEADERS_LIMIT || rules.contains_key(line);
            path = fits.then(|| line.to_owned());
            continue;
        }
        let Some(path) = &path else {
            continue;
        };
        let (set, unset) = match line.strip_prefix('!') {
            Some(name) => (None, Some(name.trim())),
            None => (line.split_once(':'), None),
        };
        let known = |name: &str| {
            let name = name.trim();
            !name.is_empty() && !name.contains(char::is_whitespace)
        };
        let rule = rules
            .entry(path.clone())
            .or_insert_with(|| json!({"set": {}, "unset": []}));
        if let Some((name, value)) = set.filter(|(name, _)| known(name)) {
            let slot = &mut rule["set"][name.trim().to_ascii_lowercase()];
            *slot = match slot.as_str() {
                Some(before) => json!(format!("{before}, {}", value.trim())),
                None => json!(value.trim()),
            };
        }
        if let Some(name) = unset.filter(|name| known(name))
            && let Some(names) = rule["unset"].as_array_mut()
        {
            names.push(json!(name));
        }
    }
    json!({"version": 2, "rules": rules})
}

/// `_redirects`: `from to [status]` on every line.
pub(super) fn redirects(text: &str) -> Value {
    let mut fixed: Map<String, Value> = Map::new();
    let mut patterns: Map<String, Value> = Map::new();
    for (number, line) in (1_u32..).zip(text.lines()) {
        let Some(line) = content(line) else {
            continue;
        };
        let mut words = line.split_whitespace();
        let (Some(from), Some(to)) = (words.next(), words.next()) else {
            continue;
        };
        let status = match words.next() {
            None => 302,
            Some(word) => match word.parse::<u16>() {
                Ok(status @ (200 | 301 | 302 | 303 | 307 | 308)) => status,
                _ => continue,
            },
        };
        let target = to.starts_with('/') || to.starts_with("https://") || to.starts_with("http://");
        if !from.starts_with('/') || !target || (status == 200 && !to.starts_with('/')) {
            continue;
        }
        let pattern = from.contains('*') || from.split('/').any(|part| part.starts_with(':'));
        if pattern {
            if patterns.len() < DYNAMIC_LIMIT && !patterns.contains_key(from) {
                patterns.insert(from.to_owned(), json!({"status": status, "to": to}));
            }
        } else if fixed.len() < STATIC_LIMIT && !fixed.contains_key(from) {
            let rule = json!({"status": status, "to": to, "lineNumber": number});
            fixed.insert(from.to_owned(), rule);
        }
    }
    json!({"version": 1, "staticRules": fixed, "rules": patterns})
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| content(line).map(|_| line))
}

/// What a line says, when it says something.
fn content(line: &str) -> Option<&str> {
    let plain = line.trim();
    (!plain.is_empty() && !plain.starts_with('#') && line.len() <= LINE_LIMIT).then_some(plain)
}

fn is_path(line: &str) -> bool {
    line.starts_with('/') || line.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_set_joined_and_taken_away() {
        let text = "X-Lost: no path\n# text\n/a/*\n  X-One: 1\n\tX-One: 2\n  ! Cache-Control\n  no colon\n  bad name: x\n\n/b\n  Link: <https://x>; rel=preload\n";
        assert_eq!(
            headers(text),
            json!({"version": 2, "rules": {
                "/a/*": {"set": {"x-one": "1, 2"}, "unset": ["Cache-Control"]},
                "/b": {"set": {"link": "<https://x>; rel=preload"}, "unset": []},
            }})
        );
    }

    #[test]
    fn redirects_have_a_status_and_patterns_stand_apart() {
        let text = "# text\n/a /b\n/c/* /d/:splat 301\n/:x/y https://z.example/:x 308\n/e /f 404\nrelative /x\n/a /second\n/g /h 200\n/i https://x.example 200\n";
        assert_eq!(
            redirects(text),
            json!({"version": 1,
                "staticRules": {
                    "/a": {"status": 302, "to": "/b", "lineNumber": 2},
                    "/g": {"status": 200, "to": "/h", "lineNumber": 8},
                },
                "rules": {
                    "/c/*": {"status": 301, "to": "/d/:splat"},
                    "/:x/y": {"status": 308, "to": "https://z.example/:x"},
                },
            })
        );
    }
}
