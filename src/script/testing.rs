//! What the tests of this module share: fake kinds, a stage in memory, and a way to run a script and see what came of it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    engine::{
        Action, Cancel, DeleteOptions, Event, EventSink, Phase, Run, RunOptions, Summary,
        World as EngineWorld,
    },
    model::{
        AppName, Attribute, DeletePolicy, Diagnostic, KindSchema, Map, Prop, PropType,
        ReplaceOrder, SourceFile, StageName, StagePath, Value,
    },
    provider::{
        Access, CheckContext, Checked, Existing, FailureKind, Found, Meter, OperationContext,
        Permissions, PropError, Provider, ProviderError, Registry,
    },
    secret::{KeyMaterial, Redactor},
    state::{SharedStore, memory::MemoryStore},
    util::{clock::SystemClock, ids::SystemIds},
};

use super::{AppOptions, HostOptions, Launcher, Limits, ScriptResult, load_text, run};

/// A kind that makes objects out of nothing. `fail` makes it refuse, `wait` makes it slow.
pub(super) struct Fake {
    schema: KindSchema,
    log: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn kind(kind: &str, log: &Arc<Mutex<Vec<String>>>) -> Arc<Self> {
        Arc::new(Self {
            schema: KindSchema {
                kind: kind.into(),
                doc: String::new(),
                props: vec![
                    Prop::new("name", PropType::String, "Its name."),
                    Prop::new("migrations", PropType::String, "Folder of migrations."),
                    Prop::new("size", PropType::Integer { min: 0, max: 10 }, "Its size."),
                    Prop::new("public", PropType::Bool, "Whether all may read."),
                    Prop::new(
                        "bindings",
                        PropType::MapOf(Box::new(PropType::Binding)),
                        "What it is bound to.",
                    ),
                    Prop::new("tags", PropType::List(Box::new(PropType::Any)), "Tags."),
                    Prop::new("text", PropType::String, "Any text.").secret(),
                    Prop::new(
                        "placement",
                        PropType::Object(vec![Prop::new(
                            "mode",
                            PropType::OneOf(&["smart", "off"]),
                            "How.",
                        )]),
                        "Where.",
                    ),
                    Prop::new("fail", PropType::String, "Refuse with this message."),
                    Prop::new("naming", PropType::String, "How it is named."),
                ],
                open_props: false,
                attributes: vec![
                    Attribute::identity("id", "Its id."),
                    Attribute::new("databaseId", "Its id again."),
                    Attribute::new("size", "Its size."),
                    Attribute::new("tags", "Tags."),
                    Attribute::new("flag", "A truth value."),
                    Attribute::new("meta", "A map."),
                    Attribute::new("comment", "Never there."),
                    Attribute::new("token", "A secret."),
                ],
                open_attributes: false,
                replace: ReplaceOrder::CreateFirst,
                delete: DeletePolicy::Disposable,
                name_limit: 63,
            },
            log: Arc::clone(log),
        })
    }

    fn outputs(&self, context: &OperationContext, props: &Map) -> Map {
        let id = format!("id-of-{}", context.fqn.id());
        Map::from([
            ("id".to_owned(), id.clone().into()),
            ("databaseId".to_owned(), id.into()),
            (
                "size".to_owned(),
                props.get("size").cloned().unwrap_or(Value::Int(3)),
            ),
            ("flag".to_owned(), true.into()),
            (
                "tags".to_owned(),
                Value::Array(vec!["a".into(), "b".into()]),
            ),
            (
                "meta".to_owned(),
                Value::Map(Map::from([("region".to_owned(), "weur".into())])),
            ),
            (
                "token".to_owned(),
                Value::Secret(crate::model::Secret::plain("sesame-open")),
            ),
        ])
    }

    fn note(&self, verb: &str, context: &OperationContext, props: &Map) {
        let props: Map = props
            .iter()
            .filter(|(name, _)| name.as_str() != "naming")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let props = Value::Map(props).to_display_json();
        self.log
            .lock()
            .unwrap()
            .push(format!("{verb} {} {props}", context.fqn.within_stage()));
    }
}

#[async_trait]
impl Provider for Fake {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let explicit = crate::provider::text_prop(&props, "name").map(str::to_owned);
        let physical_name = explicit
            .clone()
            .unwrap_or_else(|| format!("{}-{}", context.id, context.stage.stage.plain()));
        Ok(Checked {
            identity: Some(format!("{}:{physical_name}", self.schema.kind)),
            explicit_name: explicit.is_some(),
            known: Map::from([("name".to_owned(), physical_name.clone().into())]),
            physical_name,
            props,
        })
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        self.note("create", context, props);
        if let Some(message) = crate::provider::text_prop(props, "fail") {
            let mut error = ProviderError::new(FailureKind::Refused, message);
            error.code = Some("7502".to_owned());
            return Err(error);
        }
        Ok(self.outputs(context, props))
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Map, ProviderError> {
        self.note("update", context, props);
        Ok(self.outputs(context, props))
    }

    async fn delete(
        &self,
        context: &OperationContext,
        _existing: &Existing,
    ) -> Result<(), ProviderError> {
        self.note("delete", context, &Map::new());
        Ok(())
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}

/// Keeps what was printed, planned and warned of.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl EventSink for Lines {
    fn emit(&self, event: Event) {
        let line = match event {
            Event::Print(text) => text,
            Event::Log { message, .. } => format!("log: {message}"),
            Event::Diagnostic(diagnostic) => render(&diagnostic),
            Event::Planned(action) if action.action != Action::Unchanged => format!(
                "{} {}{}",
                action.action.sign(),
                action.fqn.within_stage(),
                if action.conditional {
                    " (conditional)"
                } else {
                    ""
                }
            ),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A diagnostic in one compact text: everything a frame would show.
pub(super) fn render(diagnostic: &Diagnostic) -> String {
    let mut out = String::new();
    let severity = match diagnostic.severity {
        crate::model::Severity::Error => "",
        crate::model::Severity::Warning => "warning ",
    };
    let code = diagnostic
        .code
        .map(|code| code.to_string())
        .unwrap_or_default();
    write!(out, "{severity}{code}: {}", diagnostic.message).unwrap();
    for label in &diagnostic.labels {
        let line = label
            .source
            .text
            .lines()
            .nth(label.line as usize - 1)
            .unwrap_or("");
        let at: String = line
            .chars()
            .skip(label.column as usize - 1)
            .take(12)
            .collect();
        let at = at.trim_end();
        write!(
            out,
            "\n  {}{}:{} `{at}` {}",
            if label.primary { "--> " } else { "    " },
            label.line,
            label.column,
            label.text
        )
        .unwrap();
        out = out.trim_end().to_owned();
    }
    for note in &diagnostic.notes {
        write!(out, "\n  note: {note}").unwrap();
    }
    for help in &diagnostic.help {
        write!(out, "\n  help: {help}").unwrap();
    }
    out
}

/// A stage in memory that scripts are run against, again and again.
pub(super) struct Stage {
    runtime: tokio::runtime::Runtime,
    store: MemoryStore,
    pub(super) calls: Arc<Mutex<Vec<String>>>,
    pub(super) project: tempfile::TempDir,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) permissions: Permissions,
    pub(super) limits: Limits,
    pub(super) cancel: Cancel,
}

type Sources = Box<dyn Fn(&str) -> Option<Arc<SourceFile>>>;

/// What came of a script.
pub(super) struct Ran {
    project: String,
    sources: Sources,
    pub(super) result: ScriptResult,
    pub(super) lines: Vec<String>,
}

impl Ran {
    /// Lines printed and the error, in one text.
    pub(super) fn text(&self) -> String {
        let mut lines = self.lines.clone();
        lines.extend(self.result.error.as_ref().map(render));
        if let Some(summary) = &self.result.summary
            && summary.failed.len() > summary.handled
        {
            let failures = summary.failed.iter();
            lines.extend(failures.map(|failure| render(&failure.diagnostic(&*self.sources))));
        }
        lines.join("\n").replace(&self.project, "[PROJECT]")
    }

    pub(super) fn summary(&self) -> &Summary {
        self.result.summary.as_ref().expect("a run was started")
    }
}

struct Start {
    world: EngineWorld,
    phase: Phase,
    runtime: tokio::runtime::Handle,
}

impl Start {
    fn start(&self, stage: StagePath, phase: Phase) -> Result<Arc<Run>, Diagnostic> {
        let options = RunOptions {
            phase,
            adopt: false,
            force: false,
            refresh: false,
            concurrency: 8,
            allow_data_loss: true,
            delete_adopted: false,
            target: "local".to_owned(),
            folder: Path::new("/").into(),
            access: Arc::new(Access::new(Path::new("/"), Permissions::all())),
            script: None,
            command: "test".to_owned(),
            actor: "test".to_owned(),
            host: "test".to_owned(),
            lock_wait: Duration::ZERO,
            delete: DeleteOptions::default(),
            rebuild: false,
            expected_plan: None,
        };
        let key = KeyMaterial::Password(Zeroizing::new("pass".to_owned()));
        self.runtime
            .block_on(Run::start(self.world.clone(), stage, key, options))
            .map_err(|error| error.diagnostic())
    }
}

impl Launcher for Start {
    fn launch(&self, app: AppName, options: AppOptions) -> Result<Arc<Run>, Diagnostic> {
        let stage = options
            .stage
            .unwrap_or_else(|| StageName::new("dev").unwrap());
        let stage = StagePath::new(app, stage);
        self.start(stage, options.phase.unwrap_or(self.phase))
    }

    fn launch_test(&self, stage: StagePath, phase: Phase) -> Result<Option<Arc<Run>>, Diagnostic> {
        let state = self.runtime.block_on(self.world.store.load(&stage));
        match (phase, state) {
            (Phase::Destroy, Ok(None)) => Ok(None),
            _ => self.start(stage, phase).map(Some),
        }
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            store: MemoryStore::new(Arc::new(SystemClock), Arc::new(SystemIds)),
            calls: Arc::default(),
            project: tempfile::tempdir().unwrap(),
            environment: BTreeMap::new(),
            permissions: Permissions::default(),
            limits: Limits {
                // Tests of one process share its memory, and so does the measure of it.
                memory_bytes: u64::MAX,
                ..Limits::default()
            },
            cancel: Cancel::default(),
        }
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        let registry = Registry::new();
        for kind in ["D1Database", "R2Bucket", "KVNamespace", "Queue", "Worker"] {
            registry.add(Fake::kind(&format!("cloudflare::{kind}"), &self.calls));
        }
        for kind in ["Exec", "File", "HttpRequest"] {
            registry.add(Fake::kind(&format!("std::{kind}"), &self.calls));
        }
        Arc::new(registry)
    }

    fn options(&self, lines: &Arc<Lines>) -> HostOptions {
        HostOptions {
            project: self.project.path().to_owned(),
            access: Arc::new(Access::new(self.project.path(), self.permissions.clone())),
            environment: Arc::new(self.environment.clone()),
            limits: self.limits,
            redactor: Redactor::default(),
            registry: self.registry(),
            events: Arc::clone(lines) as Arc<dyn EventSink>,
            cancel: self.cancel.clone(),
            meter: Meter::default(),
            arguments: vec!["one".to_owned()],
        }
    }

    /// The problems that are found before anything runs.
    pub(super) fn check(&self, text: &str) -> String {
        match load_text("main.rhai", text, &self.options(&Arc::default())) {
            Ok(_) => String::new(),
            Err(problems) => problems.iter().map(render).collect::<Vec<_>>().join("\n"),
        }
    }

    /// Loads a file of the project and runs it.
    pub(super) fn run_file(&self, name: &str, phase: Phase) -> Ran {
        let lines = Arc::new(Lines::default());
        let options = self.options(&lines);
        let loaded = super::load(&self.project.path().join(name), &options);
        self.finish(loaded, options, &lines, phase)
    }

    /// Runs a script. What the static check finds is reported as its error.
    pub(super) fn run(&self, text: &str, phase: Phase) -> Ran {
        let lines = Arc::new(Lines::default());
        let options = self.options(&lines);
        let loaded = load_text("main.rhai", text, &options);
        self.finish(loaded, options, &lines, phase)
    }

    fn finish(
        &self,
        loaded: Result<super::Program, Vec<Diagnostic>>,
        options: HostOptions,
        lines: &Lines,
        phase: Phase,
    ) -> Ran {
        let mut sources: Sources = Box::new(|_| None);
        let result = match loaded {
            Err(problems) => ScriptResult {
                value: Value::Null,
                error: problems.into_iter().next(),
                summary: None,
            },
            Ok(program) => {
                sources = Box::new(program.sources());
                let world = EngineWorld {
                    redact: Arc::new(str::to_owned),
                    store: Arc::new(self.store.clone()) as SharedStore,
                    registry: Arc::clone(&options.registry),
                    clock: Arc::new(SystemClock),
                    ids: Arc::new(SystemIds),
                    events: Arc::clone(&options.events),
                    meter: options.meter.clone(),
                    cancel: options.cancel.clone(),
                };
                let runtime = self.runtime.handle().clone();
                let launcher = Arc::new(Start {
                    world,
                    phase,
                    runtime: runtime.clone(),
                });
                run(&program, options, launcher, runtime)
            }
        };
        Ran {
            project: self.project.path().to_string_lossy().into_owned(),
            sources,
            result,
            lines: lines.0.lock().unwrap().clone(),
        }
    }

    pub(super) fn up(&self, text: &str) -> Ran {
        self.run(
            &format!("let app = alchemy(\"my-app\");\n{text}"),
            Phase::Up,
        )
    }

    pub(super) fn plan(&self, text: &str) -> Ran {
        self.run(
            &format!("let app = alchemy(\"my-app\");\n{text}"),
            Phase::Plan,
        )
    }

    pub(super) fn take_calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort();
        calls
    }
}
