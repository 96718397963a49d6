//! Finds and loads what `import` names: standard modules inside the binary, files relative to the importing one or to the project.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use include_dir::{Dir, include_dir};
use rhai::{
    Dynamic, Engine, EvalAltResult, GlobalRuntimeState, Module, ModuleResolver, Position, Scope,
    Shared,
};

use crate::{
    model::{Diagnostic, diagnostic::codes},
    util::text,
};

use super::{
    fault::Fault,
    host::Host,
    permissions::{self, Access},
    program,
    sources::Loaded,
};

static STDLIB: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/stdlib");

/// What an import leads to.
pub(super) enum Found {
    /// A module inside the binary: its name and text.
    Standard(String, &'static str),
    /// A file.
    File(PathBuf),
}

/// The names of the standard modules: `alch/blocks`.
pub(super) fn standard() -> Vec<String> {
    let mut names: Vec<String> = STDLIB
        .files()
        .filter_map(|file| file.path().file_stem()?.to_str())
        .map(|stem| format!("alch/{stem}"))
        .collect();
    names.sort();
    names
}

/// Finds the module that `path` names in the file `importer`.
pub(super) fn find(
    host: &Host,
    importer: Option<&Loaded>,
    path: &str,
) -> Result<Found, Diagnostic> {
    if let Some(name) = path.strip_prefix("alch/") {
        let name = name.strip_suffix(".rhai").unwrap_or(name);
        let file = STDLIB.get_file(format!("{name}.rhai"));
        return match file.and_then(|file| file.contents_utf8()) {
            Some(text) => Ok(Found::Standard(format!("alch/{name}"), text)),
            None => {
                let names = standard();
                let near = text::suggestions(path, names.iter().map(String::as_str), 1);
                let help = match near.first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", names.join(", ")),
                };
                Err(
                    Diagnostic::error(codes::MODULE, format!("no standard module `{path}`"))
                        .with_help(help),
                )
            }
        };
    }
    let base = if path.starts_with("./") || path.starts_with("../") {
        importer
            .and_then(|loaded| loaded.path.as_deref())
            .and_then(Path::parent)
            .unwrap_or(&host.options.project)
    } else {
        &host.options.project
    };
    let mut file = base.join(path);
    if file.extension().is_none_or(|extension| extension != "rhai") {
        let mut name = file.into_os_string();
        name.push(".rhai");
        file = name.into();
    }
    let shown = permissions::resolve(&file).to_string_lossy().into_owned();
    permissions::check_path(
        &host.options.permissions,
        &host.options.project,
        &shown,
        Access::Read,
    )
    .map_err(|error| match super::fault::find(&error) {
        Some(fault) => fault.diagnostic().clone(),
        None => Diagnostic::error(codes::PERMISSION, error.to_string()),
    })?;
    match file.canonicalize() {
        Ok(real) => Ok(Found::File(real)),
        Err(_) => Err(Diagnostic::error(codes::MODULE, format!("no module `{path}`"))
            .with_note(format!("looked for `{}`", program::display_name(&plain(&file))))
            .with_help(
                "`./x` and `../x` are relative to the importing file, `x` to the project, `alch/x` is built in",
            )),
    }
}

/// A path without its `.` parts.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect()
}

/// Loads a module unless it is loaded already.
pub(super) fn load(
    host: &Host,
    engine: &Engine,
    found: &Found,
) -> Result<Arc<Loaded>, Vec<Diagnostic>> {
    match found {
        Found::Standard(name, text) => match host.sources.get(name) {
            Some(loaded) => Ok(loaded),
            None => program::compile(host, engine, name, None, (*text).to_owned()),
        },
        Found::File(path) => {
            let name = program::display_name(path);
            match host.sources.get(&name) {
                Some(loaded) => Ok(loaded),
                None => {
                    let text = program::read(path, host.options.limits.script_bytes)
                        .map_err(|diagnostic| vec![diagnostic])?;
                    program::compile(host, engine, &name, Some(path.clone()), text)
                }
            }
        }
    }
}

/// The resolver behind `import` at run time.
pub(super) struct Resolver {
    host: Arc<Host>,
    ready: Mutex<HashMap<String, Shared<Module>>>,
    /// Modules being evaluated, outermost first: a second visit is a cycle.
    loading: Mutex<Vec<String>>,
}

impl Resolver {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            ready: Mutex::default(),
            loading: Mutex::default(),
        }
    }

    fn raise(diagnostic: Diagnostic, position: Position) -> Box<EvalAltResult> {
        Box::new(EvalAltResult::ErrorRuntime(
            Dynamic::from(Fault::new(diagnostic)),
            position,
        ))
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let importer = source.and_then(|name| self.host.sources.get(name));
        let found = find(&self.host, importer.as_deref(), path)
            .map_err(|diagnostic| Self::raise(diagnostic, position))?;
        let loaded = load(&self.host, engine, &found).map_err(|diagnostics| {
            let first = diagnostics.into_iter().next();
            let diagnostic = first.unwrap_or_else(|| {
                Diagnostic::error(codes::MODULE, format!("cannot load `{path}`"))
            });
            Self::raise(diagnostic, position)
        })?;
        let name = loaded.file.name.clone();
        if let Some(module) = self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name)
        {
            return Ok(Arc::clone(module));
        }
        {
            let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(start) = loading.iter().position(|other| *other == name) {
                return Err(Self::raise(cycle(&loading[start..], &name), position));
            }
            loading.push(name.clone());
        }
        let module = Module::eval_ast_as_new(Scope::new(), &loaded.ast, engine);
        self.loading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| *other != name);
        let module: Shared<Module> = module
            .map_err(|error| Box::new(EvalAltResult::ErrorInModule(name.clone(), error, position)))?
            .into();
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Arc::clone(&module));
        Ok(module)
    }

    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        _scope: &mut Scope<'_>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let source = global.source().map(str::to_owned);
        self.resolve(engine, source.as_deref(), path, position)
    }
}

/// The words for modules that import each other.
pub(super) fn cycle(chain: &[String], back_to: &str) -> Diagnostic {
    let mut names: Vec<&str> = chain.iter().map(String::as_str).collect();
    names.push(back_to);
    Diagnostic::error(codes::MODULE, "modules import each other in a circle")
        .with_note(names.join(" imports "))
        .with_help("move what both need into a third module")
}
