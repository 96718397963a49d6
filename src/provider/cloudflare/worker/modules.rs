//! The modules of a Worker: inline code, or an entrypoint and what it imports by relative path.
//!
//! State keeps names and hashes, never the content.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{
    super::props::{known_text, mistake},
    imports::imports,
};
use crate::{
    model::{Map, Value},
    provider::{Access, FailureKind, PropError, ProviderError, text_prop},
    util::fs,
};

/// Name of the module that inline code becomes.
const INLINE: &str = "worker.js";
/// Most modules of one Worker.
const MODULE_LIMIT: usize = 2000;
const JAVASCRIPT: &str = "application/javascript+module";

/// Modules of Node.js that may be imported without `node:`.
const NODE: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "console",
    "crypto",
    "diagnostics_channel",
    "dns",
    "events",
    "fs",
    "http",
    "https",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "stream",
    "string_decoder",
    "timers",
    "tls",
    "url",
    "util",
    "zlib",
];

/// One module, ready to be uploaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Path below the folder that all modules share.
    pub(super) name: String,
    /// What the upload declares it as.
    pub(super) content_type: &'static str,
    /// The content.
    pub(super) content: Vec<u8>,
}

impl Module {
    fn hash(&self) -> String {
        blake3::hash(&self.content).to_hex().to_string()
    }
}

/// Message and help.
type Problem = (String, Option<String>);

/// Puts names and hashes of the modules into `modules`.
pub(super) fn normalise(
    folder: &Path,
    access: &Access,
    props: &mut Map,
    errors: &mut Vec<PropError>,
) {
    match (
        props.contains_key("script"),
        props.contains_key("entrypoint"),
    ) {
        (true, false) => return,
        (false, true) => {}
        (both, _) => {
            errors.push(mistake(
                if both { &["script"] } else { &[] },
                if both {
                    "`script` and `entrypoint` cannot both be given"
                } else {
                    "the Worker has no code"
                },
                "give `entrypoint: \"./src/worker.js\"`, or the code itself as `script`".to_owned(),
            ));
            return;
        }
    }
    let entrypoint = match known_text(props, "entrypoint") {
        Ok(entrypoint) => entrypoint.unwrap_or_default().to_owned(),
        Err(error) => {
            errors.push(error);
            return;
        }
    };
    match collect(folder, access, &entrypoint) {
        Ok(modules) => {
            props.insert("modules".to_owned(), listing(&modules));
        }
        Err((message, help)) => errors.push(mistake(&["entrypoint"], message, help)),
    }
}

fn listing(modules: &[Module]) -> Value {
    let item = |module: &Module| {
        Value::Map(Map::from([
            ("name".to_owned(), Value::from(module.name.as_str())),
            ("hash".to_owned(), Value::from(module.hash())),
        ]))
    };
    Value::Array(modules.iter().map(item).collect())
}

/// The modules that checked props mean, the main one first.
pub(super) fn load(
    folder: &Path,
    access: &Access,
    props: &Map,
) -> Result<Vec<Module>, ProviderError> {
    if let Some(script) = text_prop(props, "script") {
        return Ok(vec![Module {
            name: INLINE.to_owned(),
            content_type: JAVASCRIPT,
            content: script.as_bytes().to_vec(),
        }]);
    }
    let entrypoint = text_prop(props, "entrypoint").unwrap_or_default();
    let modules = collect(folder, access, entrypoint).map_err(|(message, help)| ProviderError {
        help,
        ..ProviderError::new(FailureKind::Refused, message)
    })?;
    if props.get("modules") != Some(&listing(&modules)) {
        return Err(ProviderError::new(
            FailureKind::Refused,
            format!("the modules of `{entrypoint}` changed during the run"),
        )
        .with_help("run again"));
    }
    Ok(modules)
}

fn collect(folder: &Path, access: &Access, entrypoint: &str) -> Result<Vec<Module>, Problem> {
    let main = clean(&folder.join(entrypoint));
    if !main.is_file() {
        let message = if main.is_dir() {
            format!("`{}` is a folder", main.display())
        } else {
            format!("the file `{}` does not exist", main.display())
        };
        let help = format!("correct the path; it is relative to `{}`", folder.display());
        return Err((message, Some(help)));
    }
    if kind_of(&main)? != JAVASCRIPT {
        return Err((
            format!("`{}` is no JavaScript module", main.display()),
            Some("point `entrypoint` at a `.js` or `.mjs` file".to_owned()),
        ));
    }
    let mut contents: BTreeMap<PathBuf, (&'static str, Vec<u8>)> = BTreeMap::new();
    let mut waiting = vec![main.clone()];
    while let Some(path) = waiting.pop() {
        if contents.contains_key(&path) {
            continue;
        }
        if contents.len() == MODULE_LIMIT {
            return Err((
                format!("`{entrypoint}` imports more than {MODULE_LIMIT} modules"),
                Some("bundle them into one file first".to_owned()),
            ));
        }
        let content_type = kind_of(&path)?;
        let real = access
            .read(&path)
            .map_err(|denied| (denied.message, Some(denied.help)))?;
        let content =
            fs::read(&real).map_err(|error| (format!("{error}: {}", error.source), None))?;
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
            (
                format!("the name of `{}` is not UTF-8", path.display()),
                Some("rename the file".to_owned()),
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
        (
            format!("`{}` is not UTF-8", path.display()),
            Some("save it as UTF-8".to_owned()),
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
                return Err((
                    format!(
                        "{place} imports `{}`, and `{}` does not exist",
                        import.specifier,
                        target.display()
                    ),
                    Some("write the whole file name, with its extension".to_owned()),
                ));
            }
            out.push(target);
        } else {
            let name = import.specifier.split('/').next().unwrap_or_default();
            let built_in = import.specifier.starts_with("node:")
                || import.specifier.starts_with("cloudflare:")
                || NODE.contains(&name);
            if !built_in {
                return Err((
                    format!(
                        "{place} imports the package `{}`, and this version does not bundle packages",
                        import.specifier
                    ),
                    Some(
                        "bundle the Worker into one JavaScript file and point `entrypoint` at that"
                            .to_owned(),
                    ),
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
        "ts" | "tsx" | "mts" | "cts" | "jsx" => Err((
            format!(
                "`{}` is TypeScript or JSX, which this version does not compile",
                path.display()
            ),
            Some("compile it first and point `entrypoint` at the JavaScript module".to_owned()),
        )),
        _ => Err((
            format!(
                "`{}` is no kind of module that a Worker takes",
                path.display()
            ),
            Some(
                "modules end in .js, .mjs, .wasm, .txt, .html, .css, .md, .sql or .bin".to_owned(),
            ),
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
