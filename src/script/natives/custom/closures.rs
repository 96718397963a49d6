//! Kinds of the script as providers: their operations are closures.
//!
//! Closures run on the script thread, one at a time. The engine asks for them from its own tasks, so a [`ScriptKind`] sends
//! each call as a job that the script thread takes whenever it waits.

use std::sync::Arc;

use async_trait::async_trait;
#[expect(
    deprecated,
    reason = "Rhai marks this as volatile; Cargo.toml pins the version"
)]
use rhai::NativeCallContextStore;
use rhai::{Dynamic, Engine, FnPtr, ImmutableString, Map as ScriptMap};
use tokio::sync::{mpsc, oneshot};

use super::super::super::{
    convert,
    host::{Host, Job},
    report,
};
use crate::{
    model::{KindSchema, Map, Value},
    provider::{
        Change, CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError,
        Provider, ProviderError,
    },
    util::text,
};

/// The closures of a kind, and the place they were written in.
#[expect(
    deprecated,
    reason = "Rhai marks this as volatile; Cargo.toml pins the version"
)]
pub(super) struct Closures {
    pub(super) create: FnPtr,
    pub(super) update: Option<FnPtr>,
    pub(super) delete: Option<FnPtr>,
    pub(super) read: Option<FnPtr>,
    /// Closures find their bodies through the place that they were written in, a module for example.
    pub(super) written: NativeCallContextStore,
}

/// A kind that the script defines.
pub(super) struct ScriptKind {
    pub(super) schema: KindSchema,
    pub(super) replace_on: Vec<String>,
    pub(super) closures: Arc<Closures>,
    pub(super) jobs: mpsc::Sender<Job>,
    /// The host holds the registry, which holds this kind.
    pub(super) host: std::sync::Weak<Host>,
}

/// Which closure is called.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Update,
    Delete,
    Read,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
        }
    }
}

impl ScriptKind {
    fn closure(&self, call: Call) -> Option<&FnPtr> {
        match call {
            Call::Create => Some(&self.closures.create),
            // A kind without `update` is one whose `create` is idempotent.
            Call::Update => Some(
                self.closures
                    .update
                    .as_ref()
                    .unwrap_or(&self.closures.create),
            ),
            Call::Delete => self.closures.delete.as_ref(),
            Call::Read => self.closures.read.as_ref(),
        }
    }

    async fn call(
        &self,
        call: Call,
        context: &OperationContext,
        props: Map,
        output: Option<Map>,
    ) -> Result<Option<Map>, ProviderError> {
        let Some(function) = self.closure(call).cloned() else {
            return Ok(output);
        };
        let host = self.host.upgrade().ok_or_else(gone)?;
        context.meter.count();
        let closures = Arc::clone(&self.closures);
        let context = context.clone();
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |engine| {
            let result = invoke(
                &host,
                engine,
                &closures,
                &function,
                call,
                &context,
                props,
                output.as_ref(),
            );
            // The engine may have given up on the call: then nobody wants the answer.
            drop(answer.send(result));
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> ProviderError {
    ProviderError::new(FailureKind::Cancelled, "the script has ended")
}

/// Calls a closure on the script thread.
#[expect(
    clippy::too_many_arguments,
    reason = "one call with all that it passes on"
)]
fn invoke(
    host: &Host,
    engine: &Engine,
    closures: &Closures,
    function: &FnPtr,
    call: Call,
    context: &OperationContext,
    props: Map,
    output: Option<&Map>,
) -> Result<Option<Map>, ProviderError> {
    let mut ctx = ScriptMap::new();
    let phase = match call {
        Call::Create | Call::Update | Call::Delete => call.name(),
        Call::Read => "read",
    };
    ctx.insert("phase".into(), phase.into());
    ctx.insert("fqn".into(), context.fqn.as_str().to_owned().into());
    ctx.insert("stage".into(), context.fqn.stage().stage.plain().into());
    ctx.insert("physicalName".into(), context.physical_name.clone().into());
    ctx.insert(
        "idempotencyKey".into(),
        context.idempotency_key.clone().into(),
    );
    let output_value = match output {
        Some(map) => Dynamic::from_map(convert::from_map(host, map.clone())),
        None => Dynamic::UNIT,
    };
    ctx.insert("output".into(), output_value);
    let arguments: (Dynamic, ImmutableString, Dynamic) = (
        Dynamic::from_map(ctx),
        context.fqn.id().into(),
        Dynamic::from_map(convert::from_map(host, props)),
    );
    #[expect(
        deprecated,
        reason = "Rhai marks this as volatile; Cargo.toml pins the version"
    )]
    let native = closures.written.create_context(engine);
    let answer = function
        .call_within_context::<Dynamic>(&native, arguments)
        .map_err(|error| refused(host, engine, call, error))?;
    if matches!(call, Call::Delete) {
        return Ok(None);
    }
    if matches!(call, Call::Read) && answer.is_unit() {
        return Ok(None);
    }
    let value = convert::to_value(host, &answer).map_err(|error| {
        ProviderError::new(
            FailureKind::Refused,
            format!(
                "`{}` answered something that cannot be kept: {} at `{}`",
                call.name(),
                error.message,
                error.path.join(".")
            ),
        )
    })?;
    match value {
        Value::Map(map) if !Value::Map(map.clone()).has_references() => Ok(Some(map)),
        Value::Null => Ok(Some(Map::new())),
        Value::Map(_) => Err(ProviderError::new(
            FailureKind::Refused,
            format!(
                "`{}` answered a handle or an output that is not known yet; outputs are plain values",
                call.name()
            ),
        )),
        other => Err(ProviderError::new(
            FailureKind::Refused,
            format!(
                "`{}` must answer a map of outputs, found {}",
                call.name(),
                other.type_name()
            ),
        )),
    }
}

fn refused(
    host: &Host,
    engine: &Engine,
    call: Call,
    error: Box<rhai::EvalAltResult>,
) -> ProviderError {
    let diagnostic = report::evaluation(error, &host.sources, engine, None);
    let place = diagnostic.labels.first().map_or_else(String::new, |label| {
        format!(" ({}:{}:{})", label.source.name, label.line, label.column)
    });
    let mut out = ProviderError::new(
        FailureKind::Refused,
        format!("`{}` failed: {}{place}", call.name(), diagnostic.message),
    );
    out.help = diagnostic.help.first().cloned();
    out
}

#[async_trait]
impl Provider for ScriptKind {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        let explicit = props.get("name").and_then(Value::as_str).map(str::to_owned);
        let mut name = vec![context.stage.app.to_string()];
        name.extend(context.scope.parts().iter().map(ToString::to_string));
        name.push(context.id.clone());
        name.push(context.stage.stage.plain());
        let physical_name = explicit.clone().unwrap_or_else(|| {
            let limits = 1..=self.schema.name_limit;
            text::made_name(&name.join("-"), limits, true, context.fqn.as_str())
        });
        Ok(Checked {
            props,
            physical_name,
            explicit_name: explicit.is_some(),
            known: Map::new(),
            identity: None,
        })
    }

    fn diff(&self, prior: &Map, next: &Map) -> Change {
        if prior == next {
            return Change::None;
        }
        let reasons: Vec<String> = self
            .replace_on
            .iter()
            .filter(|name| prior.get(*name) != next.get(*name))
            .cloned()
            .collect();
        if reasons.is_empty() {
            Change::Update
        } else {
            Change::Replace(reasons)
        }
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let outputs = Some(existing.outputs.clone());
        self.call(Call::Read, context, existing.props.clone(), outputs)
            .await
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let made = self
            .call(Call::Create, context, props.clone(), None)
            .await?;
        Ok(made.unwrap_or_default())
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let outputs = Some(existing.outputs.clone());
        let changed = self
            .call(Call::Update, context, props.clone(), outputs)
            .await?;
        Ok(changed.unwrap_or_default())
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let outputs = Some(existing.outputs.clone());
        self.call(Call::Delete, context, existing.props.clone(), outputs)
            .await
            .map(drop)
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        // Only the script could look, and `read` needs outputs to begin with.
        Ok(None)
    }

    fn needs_script(&self) -> bool {
        true
    }
}
