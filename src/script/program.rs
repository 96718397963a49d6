//! A loaded and checked script: read, parsed, rewritten and looked through before anything is touched.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rhai::{AST, Engine};

use crate::{
    model::{Diagnostic, SourceFile, diagnostic::codes},
    util::fs,
};

use super::{
    check, engine,
    host::{Host, HostOptions},
    report,
    rewrite::{self, SourceMap},
    sources::{Loaded, Sources},
};

/// A script and its modules, ready to run.
pub struct Program {
    pub(super) main: Arc<Loaded>,
    pub(super) sources: Arc<Sources>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({})", self.main.file.name)
    }
}

impl Program {
    /// The script as diagnostics name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.main.file.name
    }

    /// Looks up the text of the script or of a module by the name that diagnostics use.
    pub fn sources(&self) -> impl Fn(&str) -> Option<Arc<SourceFile>> + use<> {
        let sources = Arc::clone(&self.sources);
        move |name| sources.get(name).map(|loaded| Arc::clone(&loaded.file))
    }

    /// The files that the script is made of, itself first: what a watcher looks at.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.main.path.iter().cloned().collect();
        for loaded in self.sources.all() {
            if let Some(path) = &loaded.path
                && !files.contains(path)
            {
                files.push(path.clone());
            }
        }
        files
    }
}

/// Reads, parses and checks a script and every module that it imports by a literal name.
///
/// # Errors
/// Everything that can be found before anything is touched.
pub fn load(path: &Path, options: &HostOptions) -> Result<Program, Vec<Diagnostic>> {
    let text = read(path, options.limits.script_bytes).map_err(|diagnostic| vec![diagnostic])?;
    let real = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = real.canonicalize().unwrap_or(real);
    let program = load_named(&display_name(path), Some(real), text, options)?;
    if program.main.ast.statements().is_empty() {
        let message = format!("`{}` holds nothing that runs", program.name());
        return Err(vec![
            Diagnostic::error(codes::NO_SCRIPT, message)
                .with_note(
                    "nothing was changed; an empty script is never taken for \"delete everything\"",
                )
                .with_help(
                    "begin with `let app = alchemy(\"name\");`; `alch destroy` deletes a stage",
                ),
        ]);
    }
    Ok(program)
}

/// As [`load`], for text that is no file. `name` is what diagnostics call it.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    name: &str,
    text: &str,
    options: &HostOptions,
) -> Result<Program, Vec<Diagnostic>> {
    load_named(name, None, text.to_owned(), options)
}

fn load_named(
    name: &str,
    path: Option<PathBuf>,
    text: String,
    options: &HostOptions,
) -> Result<Program, Vec<Diagnostic>> {
    let sources = Arc::new(Sources::default());
    let host = Host::new(options.clone(), Arc::clone(&sources), None, name);
    let name = name.to_owned();
    on_large_stack(move || {
        let engine = engine::build(&host);
        let main = compile(&host, &engine, &name, path, text)?;
        let problems = check::program(&host, &engine, &main);
        if problems.is_empty() {
            Ok(Program { main, sources })
        } else {
            Err(problems)
        }
    })
    .map_err(|error| vec![error])?
}

/// Parsing and running nest deeply: both happen on a thread with room for that.
pub(super) fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Diagnostic> {
    let thread = std::thread::Builder::new()
        .name("script".to_owned())
        .stack_size(engine::STACK_BYTES)
        .spawn(work)
        .map_err(|error| {
            let message = format!("cannot start a thread for the script: {error}");
            Diagnostic::error(codes::MEMORY_LIMIT, message)
                .with_help("end other programs, or raise the limits on memory and threads")
        })?;
    match thread.join() {
        Ok(value) => Ok(value),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The text of a script file.
pub(super) fn read(path: &Path, limit: usize) -> Result<String, Diagnostic> {
    let shown = display_name(path);
    let mut bytes = fs::read(path).map_err(|error| {
        let diagnostic = Diagnostic::error(codes::NO_SCRIPT, format!("cannot read `{shown}`"))
            .with_note(error.source.to_string());
        if error.is_not_found() {
            diagnostic.with_help("name the script: alch run path/to/alchemy.run.rhai")
        } else {
            diagnostic
        }
    })?;
    if bytes.len() > limit {
        return Err(Diagnostic::error(
            codes::TOO_LARGE,
            format!(
                "`{shown}` is {} bytes long; at most {limit} are accepted",
                bytes.len()
            ),
        )
        .with_help(
            "read data from a file with `json(file(\"data.json\"))` instead of writing it out",
        ));
    }
    // The byte order mark that some editors write belongs to the file and not to its text.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        Diagnostic::error(codes::ENCODING, format!("`{shown}` is not UTF-8 text"))
            .with_note(format!(
                "the first byte that is not text stands in line {line}"
            ))
            .with_help("save the file as UTF-8")
    })
}

/// A path as diagnostics name it: relative to the working folder where possible.
pub(super) fn display_name(path: &Path) -> String {
    let folder = std::env::current_dir().ok();
    let short = folder
        .as_deref()
        .and_then(|folder| path.strip_prefix(folder).ok())
        .filter(|short| !short.as_os_str().is_empty());
    let shown = short.unwrap_or(path).to_string_lossy();
    shown.strip_prefix("./").unwrap_or(&shown).to_owned()
}

/// Parses text, in its rewritten form, and keeps it.
pub(super) fn compile(
    host: &Host,
    engine: &Engine,
    name: &str,
    path: Option<PathBuf>,
    text: String,
) -> Result<Arc<Loaded>, Vec<Diagnostic>> {
    let file = Arc::new(SourceFile {
        name: name.to_owned(),
        text,
    });
    let (mut ast, map) = parse(engine, &file).map_err(|diagnostic| vec![diagnostic])?;
    ast.set_source(name);
    Ok(host.sources.add(Loaded {
        file,
        path,
        map,
        ast,
    }))
}

fn parse(engine: &Engine, file: &Arc<SourceFile>) -> Result<(AST, SourceMap), Diagnostic> {
    // Only inside a comment is the end of one no syntax error.
    if let Some(diagnostic) = report::open_comment(file)
        && engine.compile(format!("{}\n*/", file.text)).is_ok()
    {
        return Err(diagnostic);
    }
    let rewritten = rewrite::rewrite(&file.text);
    if let Ok(ast) = engine.compile(&rewritten.text) {
        return Ok((ast, rewritten.map));
    }
    // Either the user's text is wrong, and then its own places are the ones to report, or the rewriting did not
    // understand it.
    match engine.compile(&file.text) {
        Ok(ast) => Ok((ast, SourceMap::default())),
        Err(error) => Err(report::parse(&error, file)),
    }
}
