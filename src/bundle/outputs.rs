//! What `esbuild` made: read, named, and freed from everything that is of this machine.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::{
    bundler::{Bundle, BundleError, Format, Module, Options},
    command::{MAIN, Paths},
    map,
};
use crate::util::fs;

/// The report of `esbuild`, as far as it is used: its metafile.
#[derive(Debug, Deserialize)]
struct Report {
    inputs: std::collections::BTreeMap<String, Input>,
}

#[derive(Debug, Deserialize)]
struct Input {
    imports: Vec<Import>,
}

#[derive(Debug, Deserialize)]
struct Import {
    path: String,
    kind: String,
    #[serde(default)]
    external: bool,
}

/// A bundle, and what it needs of the runtime.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) bundle: Bundle,
    /// Whether something asks by `require` for what is not in the bundle.
    pub(super) requires: bool,
    /// File and module of every import of a module of Node.js.
    pub(super) node_imports: Vec<(String, String)>,
}

/// Reads what one run made.
pub(super) fn read(paths: &Paths<'_>, options: &Options) -> Result<Outputs, BundleError> {
    let report: Report =
        serde_json::from_slice(&fs::read(paths.report)?).map_err(|error| BundleError::Failed {
            path: PathBuf::from("esbuild"),
            reason: format!("its report cannot be read: {error}"),
        })?;
    let mut inputs = BTreeSet::new();
    let mut node_imports = BTreeSet::new();
    let mut requires = false;
    for (name, input) in &report.inputs {
        // `<define:..>` and other things that are no files; `add.wasm?module` is `add.wasm`.
        if !name.starts_with('<') && !name.contains(": ") {
            let path = name.split_once('?').map_or(name.as_str(), |(path, _)| path);
            inputs.insert(clean(&paths.project.join(path)));
        }
        for import in input.imports.iter().filter(|import| import.external) {
            requires |= import.kind == "require-call";
            if import.path.starts_with("node:") {
                node_imports.insert((name.clone(), import.path.clone()));
            }
        }
    }
    Ok(Outputs {
        bundle: Bundle {
            modules: modules(paths, options)?,
            inputs: inputs.into_iter().collect(),
        },
        requires,
        node_imports: node_imports.into_iter().collect(),
    })
}

fn modules(paths: &Paths<'_>, options: &Options) -> Result<Vec<Module>, BundleError> {
    let main = format!("{MAIN}.js");
    let map = format!("{main}.map");
    let mut code = Vec::new();
    let mut others = Vec::new();
    for path in fs::list(paths.output)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let content = fs::read(&path)?;
        if name == main {
            code = content;
            continue;
        }
        let content = match name == map {
            true => map::relative(&content, paths.output, paths.project),
            false => content,
        };
        let content_type = match path.extension().and_then(|extension| extension.to_str()) {
            Some("map") => "application/source-map",
            Some("wasm") => "application/wasm",
            Some("txt" | "html" | "sql" | "md" | "css") => "text/plain",
            _ => "application/octet-stream",
        };
        others.push(Module {
            name,
            content_type,
            content,
        });
    }
    // `import wasm from "./add.wasm?module"` means the same, but there is no such module.
    let mut text = String::from_utf8_lossy(&code).into_owned();
    for module in &others {
        text = text.replace(
            &format!("\"./{}?module\"", module.name),
            &format!("\"./{}\"", module.name),
        );
    }
    let mut modules = vec![Module {
        name: main,
        content_type: match options.format {
            Format::Modules => "application/javascript+module",
            Format::Script => "application/javascript",
        },
        content: text.into_bytes(),
    }];
    modules.extend(others);
    Ok(modules)
}

/// The path without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
