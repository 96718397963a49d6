//! The arrows between modules point one way, and some names stay where they belong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What each top-level module may use of the others. A module that is not listed fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    ("util", &[]),
    ("model", &["util"]),
    ("secret", &["util", "model", "state"]),
    ("state", &["util", "model"]),
    ("provider", &["util", "model", "local", "bundle"]),
    ("bundle", &["util", "model"]),
    ("local", &["util", "model"]),
    ("engine", &["util", "model", "state", "secret", "provider"]),
    (
        "script",
        &["util", "model", "state", "secret", "provider", "engine"],
    ),
    (
        "release",
        &[
            "util", "model", "state", "secret", "provider", "engine", "bundle",
        ],
    ),
    ("ui", &["util", "model", "secret", "state", "engine"]),
    (
        "repl",
        &[
            "util", "model", "state", "secret", "provider", "engine", "script", "release", "ui",
        ],
    ),
    (
        "dev",
        &[
            "util", "model", "state", "secret", "provider", "engine", "script", "release", "ui",
        ],
    ),
];

fn source_files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The code of a file without comments and without its unit tests, which may have a file `tests.rs` of their own.
fn code(path: &Path) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    let text = snapbox::Data::read_from(path, None)
        .render()
        .unwrap_or_default();
    let text = text
        .split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .to_owned();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The top-level modules that a piece of code names, through `crate::x` or a `use crate::{x, ..}` group.
fn used_modules(code: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (index, _) in code.match_indices("crate::") {
        let rest = &code[index + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut word = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (character.is_alphanumeric() || character == '_') {
                    word.push(character);
                } else {
                    // Only names right after the brace or a comma are modules; what follows `::` is inside one.
                    if known.contains(&word) {
                        used.insert(word.clone());
                    }
                    word.clear();
                }
            }
            if known.contains(&word) {
                used.insert(word);
            }
        } else {
            let word: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if known.contains(&word) {
                used.insert(word);
            }
        }
    }
    used
}

#[test]
fn imports_point_down_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut known: BTreeSet<String> = allowed.keys().map(|name| (*name).to_owned()).collect();
    known.insert("cli".to_owned());
    let mut wrong = Vec::new();
    for path in source_files(&root) {
        let relative = path.strip_prefix(&root).unwrap();
        let Some(module) = relative.components().next() else {
            continue;
        };
        let module = module
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        if matches!(module.as_str(), "main" | "lib" | "cli") {
            continue;
        }
        let Some(allowed) = allowed.get(module.as_str()) else {
            wrong.push(format!(
                "{}: no rule for module `{module}`",
                relative.display()
            ));
            continue;
        };
        for used in used_modules(&code(&path), &known) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!(
                    "{}: `{module}` may not use `{used}`",
                    relative.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_knows_no_concrete_provider() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    for path in source_files(&root) {
        let code = code(&path);
        for name in [
            "provider::cloudflare",
            "provider::std",
            "provider::kubernetes",
        ] {
            assert!(!code.contains(name), "{} names {name}", path.display());
        }
    }
}

#[test]
fn only_the_script_host_names_rhai() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in source_files(&root) {
        let relative = path.strip_prefix(&root).unwrap().display().to_string();
        let names_rhai = code(&path).contains("rhai::");
        assert!(
            !names_rhai || relative.starts_with("script/") || relative.starts_with("repl/"),
            "{relative} names rhai"
        );
    }
}

#[test]
fn every_source_file_says_what_lives_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in source_files(&root) {
        let text = snapbox::Data::read_from(&path, None)
            .render()
            .unwrap_or_default();
        assert!(
            text.starts_with("//!"),
            "{} has no first paragraph",
            path.display()
        );
    }
}
