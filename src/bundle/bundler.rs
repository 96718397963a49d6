//! The seam: what a bundler is asked for, and what it answers.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use crate::util::{fs::FsError, npm::PackageError};

/// Modules of Node.js that may be imported without `node:`; what lies below them (`fs/promises`) too.
pub const NODE_MODULES: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// Makes bundles.
pub trait Bundler: fmt::Debug + Send + Sync {
    /// Bundles an entrypoint, or answers what is remembered of the last time when nothing has changed since. It blocks for
    /// as long as that takes: to be called off the asynchronous runtime.
    ///
    /// # Errors
    /// [`BundleError`]: mistakes in the code with their places, or a bundler that cannot be had.
    fn bundle(&self, request: &Request<'_>) -> Result<Bundle, BundleError>;
}

/// What is to be bundled.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The folder that names of sources are relative to.
    pub project: &'a Path,
    /// The module to begin with.
    pub entrypoint: &'a Path,
    /// How.
    pub options: &'a Options,
    /// Whether a bundler that came with the project may be run.
    pub trusted: bool,
}

/// The shape of the code that comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// ES modules.
    #[default]
    Modules,
    /// One script that registers event listeners.
    Script,
}

/// How to bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The shape of the code.
    pub format: Format,
    /// Whether modules of Node.js are there at run time.
    pub node: bool,
    /// Whether the code is made small.
    pub minify: bool,
    /// Whether a source map comes with it.
    pub source_map: bool,
    /// Imports that are left as they are; `*` stands for anything.
    pub external: Vec<String>,
    /// Expressions that take the place of global names.
    pub define: BTreeMap<String, String>,
    /// Packages that take the place of others.
    pub alias: BTreeMap<String, String>,
    /// What files are taken for, by extension (`.svg` as `text`).
    pub loader: BTreeMap<String, String>,
    /// More conditions for `exports` of packages, before `workerd`, `worker` and `browser`.
    pub conditions: Vec<String>,
    /// What JSX becomes: `automatic`, `transform` or `preserve`; else what `tsconfig.json` says.
    pub jsx: Option<String>,
    /// The package whose functions JSX calls with `automatic`.
    pub jsx_import_source: Option<String>,
    /// The version of JavaScript.
    pub target: Option<String>,
}

/// One module of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// What an upload declares it as.
    pub content_type: &'static str,
    /// The content.
    pub content: Vec<u8>,
}

/// What came out: the same bytes for the same sources, without any path of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The modules, the main one first.
    pub modules: Vec<Module>,
    /// The files that went in, absolute.
    pub inputs: Vec<PathBuf>,
}

/// A mistake in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// File, line and column, from 1, where they are known.
    pub place: Option<(String, u32, u32)>,
    /// What is wrong.
    pub text: String,
    /// What to do, where there is something to say.
    pub help: Option<String>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The code has mistakes.
    #[error("the code cannot be bundled")]
    Code(Vec<Message>),
    /// The bundler cannot be had.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The bundler does not do its work.
    #[error("esbuild (`{}`) failed: {reason}", path.display())]
    Failed {
        /// The binary.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FsError),
}
