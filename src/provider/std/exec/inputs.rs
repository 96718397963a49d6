//! What a command depends on: the files that `memoize` names, as one hash in the props.

use std::path::Path;

use globset::{Glob, GlobSetBuilder};
use walkdir::WalkDir;

use crate::{
    model::{Map, Value},
    provider::{PropError, text_prop},
    util::fs,
};

/// Most files that are hashed for one command.
const FILE_LIMIT: usize = 50_000;
/// Folders that are looked into only when a pattern names them.
const SKIPPED: [&str; 4] = [".git", ".alchemy", "node_modules", "target"];

fn mistake(path: &[&str], message: String, help: &str) -> PropError {
    PropError {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        message,
        help: Some(help.to_owned()),
        at_key: false,
    }
}

/// Puts `hash` into the props: of the matched files, or, for a command that always runs, of something new each time.
pub(super) fn normalise(folder: &Path, props: &mut Map) -> Result<(), PropError> {
    let hash = match props.get("memoize") {
        Some(Value::Bool(false)) => uuid::Uuid::new_v4().to_string(),
        Some(Value::Map(map)) => {
            let patterns: Vec<&str> = map
                .get("patterns")
                .and_then(Value::as_array)
                .unwrap_or_default()
                .iter()
                .map(|pattern| {
                    pattern.as_str().ok_or_else(|| {
                        mistake(
                            &["memoize", "patterns"],
                            "patterns must be known before the run".to_owned(),
                            "write the patterns themselves",
                        )
                    })
                })
                .collect::<Result<_, _>>()?;
            let base = match props.get("cwd") {
                None => folder.to_owned(),
                Some(_) => match text_prop(props, "cwd") {
                    Some(cwd) => folder.join(cwd),
                    None => {
                        return Err(mistake(
                            &["cwd"],
                            "`cwd` must be known before the run when files are hashed in it"
                                .to_owned(),
                            "write the path itself",
                        ));
                    }
                },
            };
            hash(&base, &patterns)?
        }
        _ => {
            props.remove("memoize");
            return Ok(());
        }
    };
    props.insert("hash".to_owned(), Value::String(hash));
    Ok(())
}

/// One hash of the names and contents of all files below `base` that match.
fn hash(base: &Path, patterns: &[&str]) -> Result<String, PropError> {
    let at = &["memoize", "patterns"];
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = Glob::new(pattern.trim_start_matches("./")).map_err(|error| {
            mistake(
                at,
                format!("`{pattern}`: {}", error.kind()),
                "correct the pattern",
            )
        })?;
        set.add(glob);
    }
    let set = set.build().map_err(|error| {
        mistake(
            at,
            error.kind().to_string(),
            "give fewer or simpler patterns",
        )
    })?;
    if !base.is_dir() {
        return Err(mistake(
            &["cwd"],
            format!("the folder `{}` does not exist", base.display()),
            "correct `cwd`; it is relative to the script",
        ));
    }
    let wanted = |name: &str| patterns.iter().any(|pattern| pattern.contains(name));
    let walk = WalkDir::new(base)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0
                || !entry.file_type().is_dir()
                || entry
                    .file_name()
                    .to_str()
                    .is_none_or(|name| !SKIPPED.contains(&name) || wanted(name))
        });
    let mut hasher = blake3::Hasher::new();
    let mut count = 0;
    for entry in walk {
        let entry =
            entry.map_err(|error| mistake(at, error.to_string(), "make the folder readable"))?;
        let below = entry.path().strip_prefix(base).unwrap_or(entry.path());
        if entry.file_type().is_dir() || !set.is_match(below) || !entry.path().is_file() {
            continue;
        }
        count += 1;
        if count > FILE_LIMIT {
            return Err(mistake(
                at,
                format!("more than {FILE_LIMIT} files match"),
                "give narrower patterns",
            ));
        }
        let content = fs::read(entry.path()).map_err(|error| {
            mistake(
                at,
                format!("{error}: {}", error.source),
                "make the file readable, or leave it out",
            )
        })?;
        let name = below.to_string_lossy();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(blake3::hash(&content).as_bytes());
    }
    if count == 0 {
        return Err(mistake(
            at,
            format!("no file below `{}` matches", base.display()),
            "correct the patterns; they are relative to `cwd`",
        ));
    }
    Ok(hasher.finalize().to_hex().to_string())
}
