//! Which store, providers, clock and script host stand behind the seams. Nothing is built here before it is needed: a run
//! without changes opens no local cloud and no HTTP client.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    bundle::Bundler,
    cli::{
        Context,
        args::DEFAULT_SCRIPT,
        environment::Environment,
        error::CliError,
        inventory, packages,
        settings::{Settings, Target},
        stores::Stores,
    },
    engine::{Cancel, EventSink, Failure, Phase, Plan, Run, RunError, RunOptions, World},
    local::{Cloud, RouterOptions},
    model::{AppName, Diagnostic, SourceFile, StagePath, diagnostic::codes},
    provider::{
        Access, Meter, OperationContext, Redact, Registry,
        cloudflare::{self, Client},
        std as std_kinds,
    },
    script::{self, AppOptions, HostOptions, Launcher, Limits, Program, ScriptResult},
    secret::Redactor,
    state::{SharedStore, file::log_path},
    ui::{LogPath, Ui, summary::Explain},
    util::{clock::SystemClock, fs, ids::SystemIds},
};

/// Operations at once when nothing names a number.
const CONCURRENCY: usize = 10;

/// The folder of a project's state.
pub(super) const STATE_FOLDER: &str = ".alchemy";

/// The runtime that providers and the store work on.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            CliError::new(codes::STATE_IO, "cannot start worker threads")
                .with_note(error.to_string())
        })
}

/// Where the runs of a project are logged.
pub(super) fn logs(project: &Path) -> LogPath {
    let root = project.join(STATE_FOLDER);
    Arc::new(move |stage, deployment| log_path(&root, stage, deployment))
}

/// How failures become diagnostics: with the frame of their declaration, read from the script as it is now.
pub(super) fn explain(environment: &Environment) -> Explain {
    let folder = environment.folder.clone();
    Arc::new(move |failure: &Failure| {
        failure.diagnostic(&|name| {
            let text = fs::read_to_string(&folder.join(name)).ok()?;
            Some(Arc::new(SourceFile {
                name: name.to_owned(),
                text,
            }))
        })
    })
}

/// What a script runs in.
pub(super) struct Host {
    /// Resource kinds; those of Cloudflare are over the local cloud until a target is chosen.
    pub(super) registry: Arc<Registry>,
    /// How the user stops it.
    pub(super) cancel: Cancel,
    bundler: Arc<dyn Bundler>,
    /// The client of the embedded local cloud.
    client: Arc<Client>,
    meter: Meter,
    options: HostOptions,
}

impl Host {
    /// Puts the parts together for the project in `folder`.
    pub(super) fn new(
        context: &Context,
        settings: &Settings,
        folder: &Path,
        arguments: Vec<String>,
    ) -> Self {
        let registry = Arc::new(Registry::new());
        let cancel = context.cancel.clone();
        let meter = Meter::default();
        let bundler = packages::bundler(context, folder, cancel.hard.clone());
        let client = local_client(folder, settings.local_latency);
        cloudflare::register(&registry, &client, &bundler);
        std_kinds::register(&registry);
        if let Some(password) = settings.environment.get("ALCHEMY_PASSWORD") {
            context.redactor.add(password);
        }
        let options = HostOptions {
            project: folder.to_owned(),
            access: access(settings, folder),
            environment: Arc::clone(&settings.environment.variables),
            limits: Limits::default(),
            redactor: context.redactor.clone(),
            registry: Arc::clone(&registry),
            events: Arc::clone(&context.ui) as _,
            cancel: cancel.clone(),
            meter: meter.clone(),
            arguments,
        };
        Self {
            registry,
            cancel,
            bundler,
            client,
            meter,
            options,
        }
    }

    /// Reads and checks a script.
    pub(super) fn load(&self, path: &Path) -> Result<Program, CliError> {
        Ok(script::load(path, &self.options)?)
    }

    /// The application of the script in the folder of the project. A script that is not there, or does not pass its check, tells
    /// none.
    pub(super) fn application(&self) -> Option<AppName> {
        let path = self.options.project.join(DEFAULT_SCRIPT);
        if !path.is_file() {
            return None;
        }
        let program = script::load(&path, &self.options).ok()?;
        AppName::new(script::application(&program)?).ok()
    }

    /// What calls run in that belong to no resource.
    pub(super) fn operation(&self, context: &Context) -> Result<OperationContext, CliError> {
        let cancel = self.cancel.hard.clone();
        inventory::operation(context, &self.options.project, self.meter.clone(), cancel)
    }

    /// As [`Self::load`], for text that is no file.
    pub(super) fn load_text(&self, name: &str, text: &str) -> Result<Program, CliError> {
        Ok(script::load_text(name, text, &self.options)?)
    }

    /// The same, telling what happens to `events` and not to the user.
    pub(super) fn telling(mut self, events: Arc<dyn EventSink>) -> Self {
        self.options.events = events;
        self
    }

    /// Runs a script to its end.
    pub(super) fn run(
        &self,
        program: &Program,
        launcher: Arc<RunLauncher>,
        runtime: &Runtime,
    ) -> ScriptResult {
        script::run(
            program,
            self.options.clone(),
            launcher,
            runtime.handle().clone(),
        )
    }

    /// Points the kinds of Cloudflare at a target.
    pub(super) fn use_target(
        &self,
        settings: &Settings,
        target: Target,
    ) -> Result<Arc<Client>, CliError> {
        let client = use_target(self.kinds(), &self.options.redactor, settings, target)?;
        Ok(client.unwrap_or_else(|| Arc::clone(&self.client)))
    }

    fn kinds(&self) -> (&Registry, &Arc<dyn Bundler>) {
        (&self.registry, &self.bundler)
    }

    /// The seams for the engine.
    pub(super) fn world(&self, store: SharedStore) -> World {
        World {
            store,
            registry: Arc::clone(&self.registry),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            events: Arc::clone(&self.options.events),
            meter: self.meter.clone(),
            cancel: self.cancel.clone(),
            redact: redact(&self.options.redactor),
        }
    }

    /// What the engine is asked to do.
    pub(super) fn run_options(
        &self,
        context: &Context,
        settings: &Settings,
        target: Target,
        start: Start,
    ) -> RunOptions {
        let folder = Arc::from(self.options.project.as_path());
        run_options(&context.command_line, settings, target, start, folder)
    }
}

fn redact(redactor: &Redactor) -> Redact {
    let redactor = redactor.clone();
    Arc::new(move |text| redactor.redact(text).into_owned())
}

/// What the command line says of a run.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) phase: Phase,
    /// Whether the phase is the command's and not for the script to choose.
    pub(super) fixed_phase: bool,
    pub(super) adopt: bool,
    pub(super) force: bool,
    pub(super) refresh: bool,
    /// Only record what is found.
    pub(super) rebuild: bool,
    /// Operations at once; the script's own when `None`.
    pub(super) concurrency: Option<u16>,
    pub(super) allow_data_loss: bool,
    pub(super) delete_adopted: bool,
    pub(super) script: Option<String>,
    pub(super) plan: Option<Arc<Plan>>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            phase: Phase::Up,
            fixed_phase: true,
            adopt: false,
            force: false,
            refresh: false,
            rebuild: false,
            concurrency: None,
            allow_data_loss: false,
            delete_adopted: false,
            script: None,
            plan: None,
        }
    }
}

fn run_options(
    command: &str,
    settings: &Settings,
    target: Target,
    start: Start,
    folder: Arc<Path>,
) -> RunOptions {
    RunOptions {
        phase: start.phase,
        adopt: start.adopt,
        force: start.force,
        refresh: start.refresh,
        rebuild: start.rebuild,
        concurrency: start.concurrency.map_or(CONCURRENCY, usize::from),
        allow_data_loss: start.allow_data_loss,
        delete_adopted: start.delete_adopted,
        target: target.as_str().to_owned(),
        access: access(settings, &folder),
        folder,
        script: start.script,
        command: command.to_owned(),
        actor: settings
            .environment
            .get("USER")
            .unwrap_or("unknown")
            .to_owned(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        lock_wait: settings.lock_wait,
        delete: settings.delete.clone(),
        expected_plan: start.plan,
    }
}

/// Starts the run that `alchemy(..)` of a script asks for.
pub(super) struct RunLauncher {
    settings: Settings,
    start: Start,
    /// With the store of the project's folder, where tests are.
    world: World,
    stores: Stores,
    bundler: Arc<dyn Bundler>,
    redactor: Redactor,
    ui: Arc<Ui>,
    folder: PathBuf,
    command: String,
    runtime: Handle,
    /// The client of the target; that of the local cloud before one is chosen.
    client: Mutex<Arc<Client>>,
    run: Mutex<Option<Arc<Run>>>,
}

impl RunLauncher {
    pub(super) fn new(
        context: &Context,
        host: &Host,
        settings: Settings,
        start: Start,
        folder: &Path,
        runtime: Handle,
    ) -> Result<Self, CliError> {
        context.ui.keep_logs(logs(folder));
        let stores = Stores::new(context, &settings.environment, folder)?;
        Ok(Self {
            // Replaced by the application's own before its run starts.
            world: host.world(stores.files()),
            settings,
            start,
            stores,
            bundler: Arc::clone(&host.bundler),
            redactor: context.redactor.clone(),
            ui: Arc::clone(&context.ui),
            folder: folder.to_owned(),
            command: context.command_line.clone(),
            runtime,
            client: Mutex::new(Arc::clone(&host.client)),
            run: Mutex::default(),
        })
    }

    /// The client of the target that the run was for.
    pub(super) fn client(&self) -> Arc<Client> {
        let client = self.client.lock();
        Arc::clone(&client.unwrap_or_else(PoisonError::into_inner))
    }

    /// The run that was started, if any.
    pub(super) fn started(&self) -> Option<Arc<Run>> {
        self.run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn start(&self, app: AppName, options: &AppOptions) -> Result<Arc<Run>, CliError> {
        let settings = match &options.profile {
            Some(profile) => self.settings.with_profile(profile)?,
            None => self.settings.clone(),
        };
        let stage = settings.stage(options.stage.as_ref())?;
        let target = settings.target(options.target.as_deref())?;
        let kinds = (&*self.world.registry, &self.bundler);
        if let Some(client) = use_target(kinds, &self.redactor, &settings, target)? {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        }
        let password = options.password.as_ref().map(|password| password.as_str());
        if let Some(password) = password {
            self.redactor.add(password);
        }
        let mut start = self.start.clone();
        if !start.fixed_phase {
            start.phase = options.phase.unwrap_or(Phase::Up);
        }
        start.adopt |= options.adopt.unwrap_or(false);
        start.force |= options.force.unwrap_or(false);
        if options.quiet == Some(true) {
            self.ui.quieten();
        }
        if start.concurrency.is_none() {
            start.concurrency = options
                .concurrency
                .map(|count| u16::try_from(count).unwrap_or(u16::MAX));
        }
        start.delete_adopted |= options.delete_adopted.unwrap_or(false);
        let folder = Arc::from(self.folder.as_path());
        let run_options = run_options(&self.command, &settings, target, start, folder);
        let stage = StagePath::new(app, stage);
        let declared = options.state_store.as_ref();
        let writes = run_options.phase.writes();
        let run = self.runtime.block_on(async {
            let (store, chosen) = tokio::select! {
                biased;
                found = self.stores.for_run(&stage, declared) => found?,
                // Nothing but reads so far.
                () = self.world.cancel.soft.cancelled() => return Err(RunError::Cancelled.into()),
            };
            let world = World {
                store,
                ..self.world.clone()
            };
            let run = Run::start(world, stage, settings.key(password), run_options).await?;
            if writes {
                chosen.remember()?;
            }
            Ok::<_, CliError>(run)
        })?;
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&run));
        Ok(run)
    }
}

impl Launcher for RunLauncher {
    fn launch(&self, app: AppName, options: AppOptions) -> Result<Arc<Run>, Diagnostic> {
        self.start(app, &options).map_err(first)
    }

    fn launch_test(&self, stage: StagePath, phase: Phase) -> Result<Option<Arc<Run>>, Diagnostic> {
        if phase == Phase::Destroy {
            let state = self.runtime.block_on(self.world.store.load(&stage));
            if state.map_err(|error| first(error.into()))?.is_none() {
                return Ok(None);
            }
        }
        let StagePath { app, stage } = stage;
        let options = AppOptions {
            stage: Some(stage),
            ..AppOptions::default()
        };
        let launcher = Self {
            settings: self.settings.for_tests(),
            start: Start {
                concurrency: self.start.concurrency,
                script: self.start.script.clone(),
                phase,
                ..Start::default()
            },
            world: self.world.clone(),
            stores: self.stores.clone(),
            bundler: Arc::clone(&self.bundler),
            redactor: self.redactor.clone(),
            ui: Arc::clone(&self.ui),
            folder: self.folder.clone(),
            command: self.command.clone(),
            runtime: self.runtime.clone(),
            client: Mutex::new(self.client()),
            run: Mutex::default(),
        };
        launcher.start(app, &options).map(Some).map_err(first)
    }
}

fn first(error: CliError) -> Diagnostic {
    error
        .diagnostics
        .into_iter()
        .next()
        .unwrap_or_else(|| Diagnostic::error(codes::USAGE, "the run cannot start"))
}

/// Points the kinds of Cloudflare at a target; answers the client, or none for the local cloud's, which they have already.
fn use_target(
    (registry, bundler): (&Registry, &Arc<dyn Bundler>),
    redactor: &Redactor,
    settings: &Settings,
    target: Target,
) -> Result<Option<Arc<Client>>, CliError> {
    if target == Target::Local {
        return Ok(None);
    }
    let client = Arc::new(account_client(redactor, settings)?);
    if !client.is_local() {
        registry.set_lag(cloudflare::LAG);
    }
    let kinds = Registry::new();
    cloudflare::register(&kinds, &client, bundler);
    for kind in kinds.kinds() {
        if let Some(provider) = kinds.get(&kind) {
            registry.replace(provider);
        }
    }
    Ok(Some(client))
}

/// The client of the account that the settings name.
pub(super) fn account_client(redactor: &Redactor, settings: &Settings) -> Result<Client, CliError> {
    let credentials = settings.cloudflare()?;
    redactor.add(&credentials.token);
    let Some(account) = credentials.account else {
        return Err(CliError::new(
            codes::AUTHENTICATION,
            format!("no Cloudflare account for profile `{}`", settings.profile),
        )
        .with_help("set `CLOUDFLARE_ACCOUNT_ID`"));
    };
    let base_url = credentials
        .base_url
        .as_deref()
        .unwrap_or(cloudflare::PUBLIC_BASE_URL);
    let client = Client::over_http(base_url, account, Some(credentials.token));
    Ok(client.with_zone(credentials.zone))
}

/// Every kind of the program itself, to look at their schemas.
pub(super) fn built_in_kinds(context: &Context) -> Registry {
    let folder = &context.environment.folder;
    let registry = Registry::new();
    let bundler = packages::bundler(context, folder, Cancel::default().hard);
    cloudflare::register(&registry, &local_client(folder, None), &bundler);
    std_kinds::register(&registry);
    registry
}

/// The data folder of a project's local cloud.
pub(super) fn local_folder(project: &Path) -> PathBuf {
    project.join(STATE_FOLDER).join("local")
}

/// The client of the embedded local cloud, which is opened at the first call.
fn local_client(project: &Path, latency: Option<Duration>) -> Arc<Client> {
    let folder = local_folder(project);
    // What cannot be read is told by the first call, which opens the same folder.
    let account = crate::local::account(&folder);
    let account = account.unwrap_or_else(|_| crate::local::DEFAULT_ACCOUNT.to_owned());
    let port = crate::local::workers_port(&folder).unwrap_or(crate::local::DEFAULT_WORKERS_PORT);
    let client = Client::over_router(
        account,
        Box::new(move || {
            let cloud = Cloud::open(&folder).map_err(|error| error.to_string())?;
            let options = RouterOptions {
                token: None,
                latency: latency.unwrap_or_default(),
            };
            Ok(crate::local::router(cloud, options))
        }),
    );
    Arc::new(client.with_workers_port(port))
}

fn access(settings: &Settings, project: &Path) -> Arc<Access> {
    let access = Access::new(project, settings.permissions.clone());
    Arc::new(access.with_remark(settings.untrusted.clone()))
}
