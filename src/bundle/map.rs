//! Source maps whose sources are named relative to the project, and not to the folder that they were made in.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// The map that lies in `folder`, with sources relative to `project`. What is no map stays as it is.
pub(super) fn relative(map: &[u8], folder: &Path, project: &Path) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(map) else {
        return map.to_vec();
    };
    if let Some(sources) = value.get_mut("sources").and_then(Value::as_array_mut) {
        for source in sources {
            if let Some(name) = source.as_str() {
                *source = Value::from(from_project(name, folder, project));
            }
        }
    }
    serde_json::to_vec(&value).unwrap_or_else(|_| map.to_vec())
}

fn from_project(source: &str, folder: &Path, project: &Path) -> String {
    let mut path = PathBuf::new();
    for part in folder.join(source).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    let shared = path
        .components()
        .zip(project.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = project.components().count() - shared;
    let mut parts: Vec<String> = vec!["..".to_owned(); up];
    parts.extend(
        path.components()
            .skip(shared)
            .map(|part| part.as_os_str().to_string_lossy().into_owned()),
    );
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_from_the_project() {
        let map = br#"{"version":3,"sources":["../../home/me/app/src/a.ts","../../home/me/node_modules/x/i.js"],"mappings":"A"}"#;
        let out = relative(map, Path::new("/tmp/out"), Path::new("/home/me/app"));
        assert_eq!(
            serde_json::from_slice::<Value>(&out).unwrap(),
            serde_json::json!({
                "version": 3,
                "sources": ["src/a.ts", "../node_modules/x/i.js"],
                "mappings": "A",
            })
        );
        assert_eq!(
            relative(b"no map", Path::new("/a"), Path::new("/b")),
            b"no map"
        );
    }
}
