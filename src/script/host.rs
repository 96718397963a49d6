//! What the functions of one script share: its options, the run behind it, the scope it is in, and the way to wait.

use std::{
    collections::{BTreeMap, HashSet},
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};
use tokio::{runtime::Handle, sync::mpsc};
use zeroize::Zeroizing;

use crate::{
    engine::{Cancel, Event, EventSink, NodeId, Phase, Run},
    model::{
        AppName, Diagnostic, Fqn, Position, Reference, ScopePath, Secret, SourceFile, StageName,
        StagePath, Value, diagnostic::codes,
    },
    provider::{Access, Meter, Registry},
    secret::Redactor,
};

use super::{
    engine::Limits,
    fault::{self, Fault, Outcome},
    lazy::{Lazy, SecretValue, Tokens},
    natives::store::StoreDeclaration,
    sources::Sources,
};

/// What the command gives a script to work with.
#[derive(Clone)]
pub struct HostOptions {
    /// The project folder: free to read and write, and what relative paths are relative to.
    pub project: PathBuf,
    /// What the script may touch beyond it.
    pub access: Arc<Access>,
    /// The environment that `env(..)` reads, `--env-file` included.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Bounds on time and memory.
    pub limits: Limits,
    /// Learns every secret.
    pub redactor: Redactor,
    /// Resource kinds; the script's own are added.
    pub registry: Arc<Registry>,
    /// Where `print` and `log` go.
    pub events: Arc<dyn EventSink>,
    /// How the user stops the script.
    pub cancel: Cancel,
    /// Counts calls that leave the process.
    pub meter: Meter,
    /// What the user wrote behind `--` on the command line: `alchemy.arguments`.
    pub arguments: Vec<String>,
}

/// The options of `alchemy(name, #{ .. })`. What is absent was not written.
#[derive(Debug, Clone, Default)]
pub struct AppOptions {
    /// `stage`.
    pub stage: Option<StageName>,
    /// `phase`: `up`, `destroy` or `read`.
    pub phase: Option<Phase>,
    /// `password` that encrypts secrets in state.
    pub password: Option<Zeroizing<String>>,
    /// `target`: `local`, `cloudflare`.
    pub target: Option<String>,
    /// `adopt`.
    pub adopt: Option<bool>,
    /// `force`.
    pub force: Option<bool>,
    /// `profile`.
    pub profile: Option<String>,
    /// `quiet`.
    pub quiet: Option<bool>,
    /// `concurrency`.
    pub concurrency: Option<usize>,
    /// `deleteAdopted`.
    pub delete_adopted: Option<bool>,
    /// `stateStore`: a bucket for the application's state.
    pub state_store: Option<StoreDeclaration>,
}

/// Starts runs for a script. Called on the script thread; may block on the runtime.
pub trait Launcher: Send + Sync {
    /// Starts the run that `alchemy(app, options)` asks for.
    ///
    /// # Errors
    /// Why it cannot start.
    fn launch(&self, app: AppName, options: AppOptions) -> Result<Arc<Run>, Diagnostic>;

    /// Starts a run of a test's stage; `None` when there is no state to destroy.
    ///
    /// # Errors
    /// Why it cannot start.
    fn launch_test(&self, stage: StagePath, phase: Phase) -> Result<Option<Arc<Run>>, Diagnostic>;
}

/// What is only there while a script runs, not while it is checked.
pub(super) struct Session {
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) runtime: Handle,
}

/// Work that only the script thread can do: a closure of a script-defined kind.
pub(super) type Job = Box<dyn FnOnce(&Engine) + Send>;

/// What changes while the script runs.
#[derive(Default)]
pub(super) struct State {
    /// The run behind `alchemy(..)`.
    pub(super) run: Option<Arc<Run>>,
    /// The scopes entered, innermost last.
    pub(super) scopes: Vec<ScopePath>,
    /// Whether the script decided on something that a plan cannot know.
    pub(super) conditional: bool,
    /// A decision of that sort whose warning was not given yet.
    pub(super) forced: Option<(Reference, Option<Position>)>,
    /// The unknown value that was read last.
    pub(super) last_unknown: Option<Reference>,
    /// Whether another one was read before it: then it may not be the one that an error without a name is about.
    pub(super) several_unknown: bool,
    /// What the script called `moved` with.
    pub(super) renames: Vec<Rename>,
    /// Ids that the script keeps for itself with `registerResource`.
    pub(super) registered: HashSet<(ScopePath, String)>,
}

/// A call of `moved`.
pub(super) struct Rename {
    /// As written.
    pub(super) call: String,
    /// What the new name can mean.
    pub(super) names: Vec<Fqn>,
    pub(super) position: Option<Position>,
    pub(super) run: Arc<Run>,
}

/// Shared by every function of one script.
pub(super) struct Host {
    pub(super) options: HostOptions,
    pub(super) sources: Arc<Sources>,
    pub(super) session: Option<Session>,
    pub(super) tokens: Tokens,
    /// The script as diagnostics name it.
    pub(super) main: Option<String>,
    state: Mutex<State>,
    jobs: mpsc::Sender<Job>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Job>>,
}

/// The token of a script that ends early and well: phase `destroy` needs nothing after the kinds are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop;

impl Host {
    pub(super) fn new(
        options: HostOptions,
        sources: Arc<Sources>,
        session: Option<Session>,
        main: &str,
    ) -> Arc<Self> {
        // Waiting jobs are bounded by the run's concurrency; the bound here only keeps a runaway from growing.
        let (jobs, queue) = mpsc::channel(64);
        Arc::new(Self {
            options,
            sources,
            session,
            tokens: Tokens::new(),
            main: Some(main.to_owned()),
            state: Mutex::default(),
            jobs,
            queue: tokio::sync::Mutex::new(queue),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn jobs(&self) -> mpsc::Sender<Job> {
        self.jobs.clone()
    }

    pub(super) fn session(&self) -> Outcome<&Session> {
        self.session
            .as_ref()
            .ok_or_else(|| fault::fail(codes::NO_APP, "nothing can be done while checking"))
    }

    /// The run that resources belong to. `what` is named when there is none.
    pub(super) fn run(&self, what: &str) -> Outcome<Arc<Run>> {
        self.state().run.clone().ok_or_else(|| {
            fault::fail_with_help(
                codes::NO_APP,
                format!("`{what}` stands before `alchemy(..)`"),
                "begin the script with `let app = alchemy(\"my-app\");`",
            )
        })
    }

    /// The innermost scope entered.
    pub(super) fn scope(&self) -> ScopePath {
        self.state().scopes.last().cloned().unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        self.state().run.as_ref().map(|run| run.options().phase)
    }

    pub(super) fn emit(&self, event: Event) {
        self.options.events.emit(event);
    }

    /// Where a native is called.
    pub(super) fn position(&self, context: &NativeCallContext) -> Option<Position> {
        self.sources
            .position(context.call_source(), context.call_position())
    }

    pub(super) fn source_file(&self, name: &str) -> Option<Arc<SourceFile>> {
        self.sources
            .get(name)
            .map(|loaded| Arc::clone(&loaded.file))
    }

    /// Waits on the script thread. Closures of script-defined kinds are served meanwhile; Ctrl-C ends the wait.
    pub(super) fn wait<T>(&self, engine: &Engine, future: impl Future<Output = T>) -> Outcome<T> {
        let soft = self.options.cancel.soft.clone();
        self.serve(engine, future, async move { soft.cancelled().await })?
            .ok_or_else(cancelled)
    }

    /// Waits for the end of a run: only the future itself decides when that is.
    pub(super) fn wait_to_end<T>(
        &self,
        engine: &Engine,
        future: impl Future<Output = T>,
    ) -> Outcome<T> {
        self.serve(engine, future, std::future::pending())?
            .ok_or_else(cancelled)
    }

    fn serve<T>(
        &self,
        engine: &Engine,
        future: impl Future<Output = T>,
        cancel: impl Future<Output = ()>,
    ) -> Outcome<Option<T>> {
        enum Step<T> {
            Done(T),
            Job(Job),
            Cancelled,
        }
        let runtime = self.session()?.runtime.clone();
        let mut future = Box::pin(future);
        let mut cancel = Box::pin(cancel);
        loop {
            let step = runtime.block_on(async {
                let job = async {
                    // Released before the job runs: a job may wait itself, and then serves the others.
                    let mut queue = self.queue.lock().await;
                    queue.recv().await
                };
                tokio::select! {
                    biased;
                    value = &mut future => Step::Done(value),
                    Some(job) = job => Step::Job(job),
                    () = &mut cancel => Step::Cancelled,
                }
            });
            match step {
                Step::Done(value) => return Ok(Some(value)),
                Step::Job(job) => job(engine),
                Step::Cancelled => return Ok(None),
            }
        }
    }

    /// Waits until a resource stands, and notes that the script knows it.
    pub(super) fn settle(&self, engine: &Engine, run: &Arc<Run>, node: NodeId) -> Outcome<()> {
        let settled = self.wait(engine, run.settle(node))?;
        match settled {
            Ok(()) => {
                run.note_read(node);
                Ok(())
            }
            Err(failure) => {
                let diagnostic = super::report::failure(&failure, &self.sources);
                Err(Fault::failure(diagnostic, failure).raise())
            }
        }
    }

    /// The script looks into a value that is not known: refuses, and marks what follows in a plan as conditional.
    pub(super) fn force(&self, lazy: &Lazy, context: &NativeCallContext) -> Box<EvalAltResult> {
        self.refuse(lazy, self.position(context))
    }

    /// As [`Host::force`], at a place.
    pub(super) fn refuse(&self, lazy: &Lazy, position: Option<Position>) -> Box<EvalAltResult> {
        let Some(reference) = lazy.reference() else {
            return fault::fail(codes::FORCED_UNKNOWN, "cannot decide on this value");
        };
        self.mark_forced(&reference, position);
        Fault::forced(self.forced_diagnostic(Some(&reference)), reference).raise()
    }

    /// As [`Host::force`], for the first reference in a value that text or a request is made of.
    pub(super) fn force_value(
        &self,
        value: &Value,
        context: &NativeCallContext,
    ) -> Option<Box<EvalAltResult>> {
        let mut first = None;
        value.visit_references(&mut |reference| {
            first.get_or_insert_with(|| reference.clone());
        });
        let reference = first?;
        if reference.path.is_empty() {
            return Some(fault::fail_with_help(
                codes::WRONG_ARGUMENTS,
                format!(
                    "the handle of `{}` cannot be written as text",
                    reference.fqn.id()
                ),
                "pass one of its attributes, such as `.name` or `.id`",
            ));
        }
        Some(self.force(&Lazy::new(reference), context))
    }

    /// Remembers which unknown value the script read.
    pub(super) fn note_unknown(&self, reference: Option<Reference>) {
        let mut state = self.state();
        state.several_unknown |= state.last_unknown.is_some() && state.last_unknown != reference;
        state.last_unknown = reference;
    }

    /// Marks what follows as conditional and remembers that a warning is due.
    pub(super) fn mark_forced(&self, reference: &Reference, position: Option<Position>) {
        if self.phase() == Some(Phase::Plan) {
            self.mark_conditional();
            let mut state = self.state();
            state.forced = Some((reference.clone(), position));
        }
    }

    /// From here on the plan only shows what may be.
    pub(super) fn mark_conditional(&self) {
        let mut state = self.state();
        state.conditional = true;
        if let Some(run) = &state.run {
            run.set_partial();
        }
    }

    /// The words for a decision on an unknown value.
    pub(super) fn forced_diagnostic(&self, reference: Option<&Reference>) -> Diagnostic {
        let what = reference.map_or_else(
            || "an output that is not known yet".to_owned(),
            |reference| format!("`{reference}`"),
        );
        if self.phase() == Some(Phase::Plan) {
            Diagnostic::error(
                codes::FORCED_UNKNOWN,
                format!("cannot decide on {what} in a plan: only the provider will know it"),
            )
            .with_help("pass it on in props or text as it is; `alch run` waits for it and decides")
        } else {
            let read = reference.map_or_else(
                || "the attribute".to_owned(),
                |reference| format!("`.{}`", reference.path.join(".")),
            );
            Diagnostic::error(
                codes::FORCED_UNKNOWN,
                format!("cannot decide on {what}: `ref` passes it on without knowing it"),
            )
            .with_help(format!("read {read} of the resource to wait for it"))
        }
    }

    /// Wraps text as a secret and keeps it out of all output.
    pub(super) fn secret(&self, text: &str) -> Outcome<SecretValue> {
        self.options.redactor.add(text);
        Ok(SecretValue(Secret::plain(text)))
    }

    /// Keeps a secret out of all output.
    pub(super) fn keep_secret(&self, secret: &Secret) {
        if let Secret::Plain(text) = secret {
            self.options.redactor.add(text);
        }
    }
}

/// The error that ends a script that the user stopped. No `try` catches it.
pub(super) fn cancelled() -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorTerminated(
        Dynamic::from(Fault::new(Diagnostic::error(
            codes::CANCELLED,
            "the run was stopped",
        ))),
        rhai::Position::NONE,
    ))
}
