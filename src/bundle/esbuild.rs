//! The bundler that runs the `esbuild` binary.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, runtime::Builder, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    bundler::{Bundle, BundleError, Bundler, Message, Request},
    command::{self, Paths},
    memory::Memory,
    messages,
    outputs::{self, Outputs},
    package::{self, Binary, Places},
};
use crate::util::fs::FsError;

/// How long one run may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);

type Progress = Box<dyn Fn(String) + Send + Sync>;

/// Bundles with `esbuild`.
pub struct Esbuild {
    places: Places,
    memory: Memory,
    progress: Progress,
    cancel: CancellationToken,
}

impl fmt::Debug for Esbuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Esbuild")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl Esbuild {
    /// A bundler that finds its binary at `places` and remembers bundles in `memory`, a folder that it makes. `progress`
    /// gets a line for what takes time.
    #[must_use]
    pub fn new(
        places: Places,
        memory: PathBuf,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        Self {
            places,
            memory: Memory::new(memory),
            progress: Box::new(progress),
            cancel: CancellationToken::new(),
        }
    }

    /// The same, whose work ends when `cancel` does: the process that runs is killed, and is not left behind.
    #[must_use]
    pub fn until(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    fn make(
        &self,
        binary: &Binary,
        project: &Path,
        request: &Request<'_>,
    ) -> Result<Outputs, BundleError> {
        let scratch = tempfile::Builder::new()
            .prefix("alch-bundle-")
            .tempdir()
            .map_err(|source| FsError::new("make a folder in", &std::env::temp_dir(), source))?;
        let folder = real(scratch.path())?;
        let paths = Paths {
            project,
            entrypoint: request.entrypoint,
            output: &folder.join("out"),
            report: &folder.join("report.json"),
        };
        let mut arguments = command::arguments(&paths, request.options);
        self.run(binary, project, &arguments)?;
        let mut made = outputs::read(&paths, request.options)?;
        // What packages ask for by `require` is there only when the code has such a function.
        if request.options.node && made.requires {
            arguments.push(command::REQUIRE.to_owned());
            self.run(binary, project, &arguments)?;
            made = outputs::read(&paths, request.options)?;
        }
        Ok(made)
    }

    fn run(
        &self,
        binary: &Binary,
        project: &Path,
        arguments: &[String],
    ) -> Result<(), BundleError> {
        let failed = |reason: String| BundleError::Failed {
            path: binary.path.clone(),
            reason,
        };
        let output = self
            .on_a_thread(timeout(
                TIME_LIMIT,
                Command::new(&binary.path)
                    .args(arguments)
                    .current_dir(project)
                    // Would let it find packages that another machine has not.
                    .env_remove("NODE_PATH")
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .output(),
            ))?
            .map_err(|_| failed(format!("no answer after {} s", TIME_LIMIT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let messages = messages::parse(&text);
        if messages.is_empty() {
            let first = text.lines().find(|line| !line.trim().is_empty());
            let reason = first.map_or_else(|| output.status.to_string(), str::to_owned);
            return Err(failed(reason));
        }
        Err(BundleError::Code(messages))
    }

    /// Waits for `future` on a thread of its own, so that the caller may be on an asynchronous runtime or not.
    fn on_a_thread<T: Send>(
        &self,
        future: impl Future<Output = T> + Send,
    ) -> Result<T, BundleError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| FsError::new("start a thread for", Path::new("esbuild"), source))?;
        let ended = |reason: &str| BundleError::Failed {
            path: PathBuf::from("esbuild"),
            reason: reason.to_owned(),
        };
        let work = self.cancel.run_until_cancelled(future);
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join())
            .map_err(|_| ended("the thread that waited for it ended"))?
            .ok_or_else(|| ended("it was stopped"))
    }
}

impl Bundler for Esbuild {
    fn bundle(&self, request: &Request<'_>) -> Result<Bundle, BundleError> {
        // Links resolved, as esbuild resolves those of every file: names of sources are relative to it.
        let project = real(request.project)?;
        if let Some(binary) = package::find(&self.places, request.trusted)?
            && let Some(bundle) = self.memory.recall(&project, request, &binary)
        {
            return Ok(bundle);
        }
        let binary = self.on_a_thread(package::obtain_binary(
            &self.places,
            request.trusted,
            &*self.progress,
        ))??;
        let made = self.make(&binary, &project, request)?;
        if !request.options.node && !made.node_imports.is_empty() {
            let message = |(file, module): &(String, String)| Message {
                place: None,
                text: format!("`{file}` imports `{module}`, a module of Node.js"),
                help: Some(
                    "add `compatibility: \"node\"` to the Worker, which makes those available"
                        .to_owned(),
                ),
            };
            return Err(BundleError::Code(
                made.node_imports.iter().map(message).collect(),
            ));
        }
        self.memory.keep(&project, request, &binary, &made.bundle);
        Ok(made.bundle)
    }
}

fn real(path: &Path) -> Result<PathBuf, BundleError> {
    path.canonicalize()
        .map_err(|source| FsError::new("find", path, source).into())
}
