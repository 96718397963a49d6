//! Stacks in terms of the source: the places that `workerd` names are looked up in the source maps of the version.
//!
//! A version without source maps, and a place that a map does not know, are left as they are.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use sourcemap::SourceMap;

use crate::{
    local::{Cloud, api::source_maps, control::ControlError, layout},
    util::fs,
};

/// How many versions' maps are kept.
const KEPT: usize = 16;

/// The maps of a version, by the module that each is for.
type Maps = Arc<BTreeMap<String, SourceMap>>;

/// The source maps that were used last.
#[derive(Default)]
pub(super) struct Stacks {
    kept: Mutex<VecDeque<(String, Maps)>>,
}

impl Stacks {
    /// Maps the stacks of an event of `version` in place; blocks.
    pub(super) fn map(&self, cloud: &Cloud, version: &str, item: &mut Value) {
        let Some(exceptions) = item["exceptions"].as_array_mut() else {
            return;
        };
        if exceptions.is_empty() {
            return;
        }
        let maps = match self.maps(cloud, version) {
            Ok(maps) => maps,
            Err(error) => {
                // Unmapped is better than nothing.
                tracing::warn!("source maps cannot be read: {error}");
                return;
            }
        };
        for exception in exceptions {
            if let Some(stack) = exception["stack"].as_str() {
                exception["stack"] = json!(mapped(stack, &maps));
            }
        }
    }

    fn maps(&self, cloud: &Cloud, version: &str) -> Result<Maps, ControlError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, maps)) = kept.iter().find(|(id, _)| id == version) {
            return Ok(Arc::clone(maps));
        }
        let modules = cloud
            .control
            .run(|connection| source_maps(connection, version))?;
        let maps = modules
            .into_iter()
            .filter_map(|(name, hash)| {
                let module = name.strip_suffix(".map")?.to_owned();
                Some((
                    module,
                    read(&layout::modules_folder(cloud.folder()).join(hash))?,
                ))
            })
            .collect();
        let maps = Arc::new(maps);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((version.to_owned(), Arc::clone(&maps)));
        Ok(maps)
    }
}

/// A source map; none when it is none, which is the business of whoever uploaded it.
fn read(path: &Path) -> Option<SourceMap> {
    let bytes = fs::read_if_present(path).ok().flatten()?;
    SourceMap::from_slice(&bytes).ok()
}

fn mapped(stack: &str, maps: &BTreeMap<String, SourceMap>) -> String {
    let lines: Vec<String> = stack
        .lines()
        .map(|line| frame(line, maps).unwrap_or_else(|| line.to_owned()))
        .collect();
    lines.join("\n")
}

/// A line such as `    at inner (index.js:5:57)` or `    at index.js:5:57`, in terms of the source.
fn frame(line: &str, maps: &BTreeMap<String, SourceMap>) -> Option<String> {
    let place = line.trim_end().trim_end_matches(')');
    let start = place.rfind(['(', ' '])? + 1;
    let mut parts = place[start..].rsplitn(3, ':');
    let column: u32 = parts.next()?.parse().ok()?;
    let row: u32 = parts.next()?.parse().ok()?;
    let module = parts.next()?;
    let module = module.strip_prefix("file:///").unwrap_or(module);
    let token = maps
        .get(module)?
        .lookup_token(row.checked_sub(1)?, column.checked_sub(1)?)?;
    let source = tidy(token.get_source()?);
    let (row, column) = (token.get_src_line() + 1, token.get_src_col() + 1);
    let after = &line[place.len()..];
    Some(format!("{}{source}:{row}:{column}{after}", &line[..start]))
}

/// The path of a source without the steps upwards from where the bundle was written.
fn tidy(source: &str) -> &str {
    let mut source = source;
    while let Some(rest) = source
        .strip_prefix("../")
        .or_else(|| source.strip_prefix("./"))
    {
        source = rest;
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_the_source() {
        // Line 1, columns 1 and 11 of the module are line 3, column 5 and line 8, column 1 of the source.
        let map =
            br#"{"version":3,"sources":["../src/server.ts"],"names":[],"mappings":"AAEI,UAKJ"}"#;
        let maps = BTreeMap::from([("index.js".to_owned(), SourceMap::from_slice(map).unwrap())]);
        for (line, expected) in [
            ("    at f (index.js:1:1)", "    at f (src/server.ts:3:5)"),
            (
                "    at async index.js:1:15",
                "    at async src/server.ts:8:1",
            ),
            ("    at file:///index.js:1:11", "    at src/server.ts:8:1"),
            ("    at f (other.js:1:1)", "    at f (other.js:1:1)"),
            ("    at <anonymous>", "    at <anonymous>"),
            ("TypeError: a:b", "TypeError: a:b"),
            ("", ""),
        ] {
            assert_eq!(mapped(line, &maps), expected);
        }
    }
}
