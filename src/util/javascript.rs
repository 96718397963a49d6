//! What an ES module exports, told from its text without running it: enough to say that a name is surely not among them.

/// The names that a module exports, when `wanted` is surely not one of them. Where the text leaves it open (everything of
/// another module, escapes, several names in one declaration), none.
#[must_use]
pub fn exports_without(code: &str, wanted: &str) -> Option<Vec<String>> {
    if code.contains("\\u") || wanted == "default" {
        return None;
    }
    let mut names = Vec::new();
    for (at, _) in code.match_indices("export") {
        let before = code[..at].chars().next_back();
        let rest = &code[at + "export".len()..];
        if before.is_some_and(|c| is_part(c) || c == '.') || rest.starts_with(is_part) {
            continue;
        }
        let rest = rest.trim_start();
        if rest.starts_with('*') || rest.starts_with('/') {
            return None;
        }
        if let Some(list) = rest.strip_prefix('{') {
            let list = &list[..list.find('}').unwrap_or(list.len())];
            // A comment may hide the end of the list, or look like a name of it.
            if list.contains('/') || words(list).any(|word| word == wanted) {
                return None;
            }
            let exported = |item: &str| words(item).last().map(str::to_owned);
            names.extend(list.split(',').filter_map(exported));
            continue;
        }
        let mut head = words(rest);
        match head.next() {
            Some("default") => names.push("default".to_owned()),
            // One declaration may have many names.
            Some("const" | "let" | "var") => {
                // Where it ends only a parser can tell.
                if words(rest).any(|word| word == wanted) {
                    return None;
                }
                names.extend(head.next().map(str::to_owned));
            }
            Some("class" | "function" | "async") => {
                let name = head.find(|word| *word != "function");
                let end = rest.find(['{', '(']).unwrap_or(rest.len());
                if name == Some(wanted) || rest[..end].contains('/') {
                    return None;
                }
                names.extend(name.map(str::to_owned));
            }
            // A word in a text or a comment, or something newer than this.
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    Some(names)
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: Option<&[&str]>) {
        let found = exports_without(code, "Room");
        let found: Option<Vec<&str>> = found
            .as_ref()
            .map(|names| names.iter().map(String::as_str).collect());
        assert_eq!(found.as_deref(), expected, "{code}");
    }

    #[test]
    fn what_may_be_exported_is_not_said_to_be_missing() {
        for code in [
            "export class Room {}",
            "export class Room extends Base {}; export default {}",
            "class A {}\nexport { A as Room }",
            "class Room {}\nexport {\n  worker_default as default,\n  Room\n};",
            "export { Room } from './room.js'",
            "export * from './room.js'",
            "export*from'./room.js'",
            "export const Room = make()",
            "export let a = 1, Room = make();",
            "export const { a, Room } = all",
            "export{a as default,b as Room};",
            "export /* here */ class Room {}",
            "export class R\\u006fom {}",
            "export {\nOther, // :-}\nR0 as Room,\n};",
            "export { Other, /* the {old} one */ R0 as Room }",
            "export const helper = () => { let a = 1; return a; }, Room = class extends Base {}",
            "export const SEP = \";\", Room = class {}",
            "export const { f = () => { 1; }, Room } = all;",
            "export class /* chat */ Room {}",
            "export class\n// a room\nRoom {}",
        ] {
            check(code, None);
        }
    }

    #[test]
    fn the_default_export_is_never_said_to_be_missing() {
        assert_eq!(exports_without("export class Room {}", "default"), None);
    }

    #[test]
    fn what_is_exported_is_named_when_the_wanted_one_is_missing() {
        check("", Some(&[]));
        check("class Room {}; export default {}", Some(&["default"]));
        check("export default class Room {}", Some(&["default"]));
        check(
            "class Room {}\nexport class Hall { exports() {} }\nexport { x as default };",
            Some(&["Hall", "default"]),
        );
        check(
            "export async function handle() { return new Room() }",
            Some(&["handle"]),
        );
        check("module.exports = { Room }", Some(&[]));
    }
}
