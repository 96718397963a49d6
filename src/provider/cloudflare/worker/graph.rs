//! JavaScript modules as they are: an entrypoint and what it imports by relative path, without any bundler.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{
    imports::imports,
    modules::{JAVASCRIPT, Module},
};
use crate::{bundle::NODE_MODULES, provider::Access, util::fs};

/// Most modules of one Worker.
const MODULE_LIMIT: usize = 2000;

/// Why modules cannot be uploaded as they are.
#[derive(Debug)]
pub(super) struct Problem {
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) help: Option<String>,
    /// Whether a bundler may know how to deal with it.
    pub(super) bundling: bool,
}

impl Problem {
    fn new(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
            bundling: false,
        }
    }

    fn for_a_bundler(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self {
            bundling: true,
            ..Self::new(message, help)
        }
    }
}

/// The file of the entrypoint.
pub(super) fn main_file(folder: &Path, entrypoint: &str) -> Result<PathBuf, Problem> {
    let main = clean(&folder.join(entrypoint));
    if main.is_file() {
        return Ok(main);
    }
    let message = if main.is_dir() {
        format!("`{}` is a folder", main.display())
    } else {
        format!("the file `{}` does not exist", main.display())
    };
    let help = format!("correct the path; it is relative to `{}`", folder.display());
    Err(Problem::new(message, help))
}

/// The modules, the main one first.
pub(super) fn collect(
    folder: &Path,
    access: &Access,
    entrypoint: &str,
) -> Result<Vec<Module>, Problem> {
    let main = main_file(folder, entrypoint)?;
    if kind_of(&main)? != JAVASCRIPT {
        return Err(Problem::new(
            format!("`{}` is no JavaScript module", main.display()),
            "point `entrypoint` at a `.js`, `.mjs` or `.ts` file".to_owned(),
        ));
    }
    let mut contents: BTreeMap<PathBuf, (&'static str, Vec<u8>)> = BTreeMap::new();
    let mut waiting = vec![main.clone()];
    while let Some(path) = waiting.pop() {
        if contents.contains_key(&path) {
            continue;
        }
        if contents.len() == MODULE_LIMIT {
            return Err(Problem::for_a_bundler(
                format!("`{entrypoint}` imports more than {MODULE_LIMIT} modules"),
                "leave out `bundle: false`, so that they become one".to_owned(),
            ));
        }
        let content_type = kind_of(&path)?;
        let real = access
            .read(&path)
            .map_err(|denied| Problem::new(denied.message, denied.help))?;
        let content = fs::read(&real)
            .map_err(|error| Problem::new(format!("{error}: {}", error.source), None))?;
        if content_type == JAVASCRIPT {
            waiting.extend(follow(&path, &content)?);
        }
        contents.insert(path, (content_type, content));
    }
    let root = contents.keys().filter_map(|path| path.parent()).fold(
        main.parent().map(Path::to_owned).unwrap_or_default(),
        common,
    );
    let module = |path: &Path,
                  (content_type, content): (&'static str, Vec<u8>)|
     -> Result<Module, Problem> {
        let below = path.strip_prefix(&root).unwrap_or(path);
        let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
        let parts = parts.ok_or_else(|| {
            Problem::new(
                format!("the name of `{}` is not UTF-8", path.display()),
                "rename the file".to_owned(),
            )
        })?;
        Ok(Module {
            name: parts.join("/"),
            content_type,
            content,
        })
    };
    let mut out = Vec::with_capacity(contents.len());
    if let Some(content) = contents.remove(&main) {
        out.push(module(&main, content)?);
    }
    for (path, content) in contents {
        out.push(module(&path, content)?);
    }
    Ok(out)
}

/// The files that a module imports.
fn follow(path: &Path, content: &[u8]) -> Result<Vec<PathBuf>, Problem> {
    let source = std::str::from_utf8(content).map_err(|_| {
        Problem::new(
            format!("`{}` is not UTF-8", path.display()),
            "save it as UTF-8".to_owned(),
        )
    })?;
    let mut out = Vec::new();
    for import in imports(source) {
        let place = format!("`{}`, line {}", path.display(), import.line);
        if import.specifier.starts_with("./") || import.specifier.starts_with("../") {
            let target = clean(
                &path
                    .parent()
                    .unwrap_or(Path::new(""))
                    .join(import.specifier),
            );
            if !target.is_file() {
                let message = format!(
                    "{place} imports `{}`, and `{}` does not exist",
                    import.specifier,
                    target.display()
                );
                let help = "write the whole file name, with its extension".to_owned();
                return Err(Problem::for_a_bundler(message, help));
            }
            out.push(target);
        } else {
            let name = import.specifier.split('/').next().unwrap_or_default();
            let built_in = import.specifier.starts_with("node:")
                || import.specifier.starts_with("cloudflare:")
                || NODE_MODULES.contains(&name);
            if !built_in {
                return Err(Problem::for_a_bundler(
                    format!("{place} imports the package `{}`", import.specifier),
                    "leave out `bundle: false`, so that packages are bundled".to_owned(),
                ));
            }
        }
    }
    Ok(out)
}

fn kind_of(path: &Path) -> Result<&'static str, Problem> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.unwrap_or_default() {
        "js" | "mjs" => Ok(JAVASCRIPT),
        "wasm" => Ok("application/wasm"),
        "txt" | "html" | "sql" | "md" | "css" => Ok("text/plain"),
        "bin" => Ok("application/octet-stream"),
        "ts" | "tsx" | "mts" | "cts" | "jsx" => Err(Problem::for_a_bundler(
            format!("`{}` is TypeScript or JSX", path.display()),
            "leave out `bundle: false`, so that it is compiled".to_owned(),
        )),
        _ => Err(Problem::for_a_bundler(
            format!(
                "`{}` is no kind of module that a Worker takes",
                path.display()
            ),
            "modules end in .js, .mjs, .wasm, .txt, .html, .css, .md, .sql or .bin".to_owned(),
        )),
    }
}

/// The path without `.` and `..`, by text: names of modules must not depend on links.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn common(a: PathBuf, b: &Path) -> PathBuf {
    let mut root = a;
    while !b.starts_with(&root) {
        if !root.pop() {
            break;
        }
    }
    root
}
