//! Kinds that the script defines: `resource("my::Kind", #{ create: |ctx, id, props| .., .. })`.
//!
//! Their closures run on the script thread, one at a time. The engine asks for them from its own tasks, so a [`ScriptKind`] sends
//! each call as a job that the script thread takes whenever it waits.

use std::sync::Arc;

use async_trait::async_trait;
#[expect(
    deprecated,
    reason = "Rhai marks this as volatile; Cargo.toml pins the version"
)]
use rhai::NativeCallContextStore;
use rhai::{Dynamic, Engine, FnPtr, ImmutableString, Map as ScriptMap, NativeCallContext};
use tokio::sync::{mpsc, oneshot};

use crate::{
    model::{
        Attribute, DeletePolicy, Diagnostic, KindSchema, Map, Prop, PropType, ReplaceOrder, Value,
        diagnostic::codes,
    },
    provider::{
        Change, CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError,
        Provider, ProviderError,
    },
    util::text,
};

use super::{
    super::{
        convert,
        fault::{self, Fault, Outcome},
        host::{Host, Job},
        options::Options,
        report,
        scope::ScopeRef,
    },
    resources::{self, Place},
};

/// What `resource(..)` returns: `Kind.declare("id", #{ .. })` declares a resource of the kind.
#[derive(Debug, Clone)]
struct Kind(Arc<str>);

/// The closures of a kind, and the place they were written in.
#[expect(
    deprecated,
    reason = "Rhai marks this as volatile; Cargo.toml pins the version"
)]
struct Closures {
    create: FnPtr,
    update: Option<FnPtr>,
    delete: Option<FnPtr>,
    read: Option<FnPtr>,
    /// Closures find their bodies through the place that they were written in, a module for example.
    written: NativeCallContextStore,
}

/// A kind that the script defines.
struct ScriptKind {
    schema: KindSchema,
    replace_on: Vec<String>,
    closures: Arc<Closures>,
    jobs: mpsc::Sender<Job>,
    /// The host holds the registry, which holds this kind.
    host: std::sync::Weak<Host>,
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
            text::fit_name(
                &text::sanitise(&name.join("-")),
                self.schema.name_limit,
                context.fqn.as_str(),
            )
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

/// `resource(kind, definition)`.
fn define(
    host: &Arc<Host>,
    context: &NativeCallContext,
    kind: &str,
    definition: ScriptMap,
) -> Outcome<Kind> {
    let refuse = |message: String, help: &str| {
        Fault::new(Diagnostic::error(codes::CUSTOM_KIND, message).with_help(help)).raise()
    };
    if !kind.contains("::") || kind.split("::").any(|part| part.trim().is_empty()) {
        return Err(refuse(
            format!("`{kind}` is no name for a kind"),
            "write it with a namespace of your own: `my::Kind`",
        ));
    }
    let mut options = Options::new(
        "resource",
        definition,
        &[
            "create",
            "update",
            "delete",
            "read",
            "schema",
            "replaceOn",
            "outputs",
        ],
    )?;
    let mut closure = |name: &'static str| -> Outcome<Option<FnPtr>> {
        match options.take(name) {
            None => Ok(None),
            Some(value) => match value.clone().try_cast::<FnPtr>() {
                Some(function) => Ok(Some(function)),
                None => Err(refuse(
                    format!(
                        "`{name}` of `{kind}` must be a closure, found {}",
                        convert::type_words(value.type_name())
                    ),
                    "write it as `|ctx, id, props| #{ .. }`",
                )),
            },
        }
    };
    let (create, update) = (closure("create")?, closure("update")?);
    let (delete, read) = (closure("delete")?, closure("read")?);
    let Some(create) = create else {
        return Err(refuse(
            format!("`{kind}` has no `create`"),
            "add `create: |ctx, id, props| #{ .. }`, which answers the outputs",
        ));
    };
    let names = |options: &mut Options<'_>, name: &'static str| -> Outcome<Option<Vec<String>>> {
        let Some(value) = options.take(name) else {
            return Ok(None);
        };
        let list = value.into_typed_array::<ImmutableString>();
        match list {
            Ok(list) => Ok(Some(list.iter().map(ToString::to_string).collect())),
            Err(_) => Err(refuse(
                format!("`{name}` of `{kind}` must be a list of names"),
                "write it as `[\"id\", \"url\"]`",
            )),
        }
    };
    let replace_on = names(&mut options, "replaceOn")?.unwrap_or_default();
    let outputs = names(&mut options, "outputs")?;
    let props = match options.take("schema") {
        None => None,
        Some(value) => Some(schema_props(&value).ok_or_else(|| {
            refuse(
                format!("`schema` of `{kind}` must be a map of prop names to types"),
                "write it as `#{ size: \"int\", label: \"string?\" }`; the types are any, string, int, number, bool, array, map",
            )
        })?),
    };
    #[expect(
        deprecated,
        reason = "Rhai marks this as volatile; Cargo.toml pins the version"
    )]
    let written = context.store_data();
    let kind: Arc<str> = kind.into();
    let provider = ScriptKind {
        schema: KindSchema {
            kind: Arc::clone(&kind),
            doc: "Defined by the script.".to_owned(),
            open_props: props.is_none(),
            props: props.unwrap_or_default(),
            open_attributes: outputs.is_none(),
            attributes: outputs
                .unwrap_or_default()
                .into_iter()
                .map(|name| Attribute::new(leak(name), "Defined by the script."))
                .collect(),
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: 200,
        },
        replace_on,
        closures: Arc::new(Closures {
            create,
            update,
            delete,
            read,
            written,
        }),
        jobs: host.jobs(),
        host: Arc::downgrade(host),
    };
    if !host.options.registry.add(Arc::new(provider)) {
        return Err(refuse(
            format!("the kind `{kind}` exists already"),
            "choose another name",
        ));
    }
    Ok(Kind(kind))
}

/// Schemas name props by static text. Kinds live as long as the process, and a script defines a handful.
fn leak(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

fn schema_props(value: &Dynamic) -> Option<Vec<Prop>> {
    let map = value.read_lock::<ScriptMap>()?;
    map.iter()
        .map(|(name, ty)| {
            let ty = ty.read_lock::<ImmutableString>()?;
            let (word, optional) = match ty.strip_suffix('?') {
                Some(word) => (word, true),
                None => (ty.as_str(), false),
            };
            let ty = match word {
                "any" => PropType::Any,
                "string" => PropType::String,
                "int" => PropType::Integer {
                    min: i64::MIN,
                    max: i64::MAX,
                },
                "number" => PropType::Number,
                "bool" => PropType::Bool,
                "array" => PropType::List(Box::new(PropType::Any)),
                "map" => PropType::MapOf(Box::new(PropType::Any)),
                _ => return None,
            };
            let prop = Prop::new(leak(name.to_string()), ty, "Defined by the script.").secret();
            Some(if optional { prop } else { prop.required() })
        })
        .collect()
}

/// Registers `resource`, `declare` and the method `declare` of kinds and scopes.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<Kind>("kind")
        .register_fn("to_string", |kind: &mut Kind| kind.0.to_string())
        .register_fn("to_debug", |kind: &mut Kind| kind.0.to_string());
    let on = Arc::clone(host);
    engine.register_fn(
        "resource",
        move |context: NativeCallContext, kind: ImmutableString, definition: ScriptMap| {
            define(&on, &context, &kind, definition)
        },
    );
    let on = Arc::clone(host);
    let declare = move |context: &NativeCallContext,
                        scope: Option<crate::model::ScopePath>,
                        kind: &str,
                        id: &str,
                        props: &ScriptMap|
          -> Outcome<Dynamic> {
        if on.options.registry.get(kind).is_none() {
            let kinds = on.options.registry.kinds();
            let near = text::suggestions(kind, kinds.iter().map(AsRef::as_ref), 1);
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => "define it first with `resource(\"my::Kind\", #{ create: .. })`".to_owned(),
            };
            return Err(fault::fail_with_help(
                codes::UNKNOWN_KIND,
                format!("no resource kind `{kind}`"),
                help,
            ));
        }
        let place = Place {
            scope,
            function: "declare",
            kind,
            block: false,
        };
        resources::declare(&on, context, &place, id, props)
    };
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext, kind: &mut Kind, id: ImmutableString| {
            on(&context, None, &kind.0, &id, &ScriptMap::new())
        },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              kind: &mut Kind,
              id: ImmutableString,
              props: ScriptMap| { on(&context, None, &kind.0, &id, &props) },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext, kind: ImmutableString, id: ImmutableString| {
            on(&context, None, &kind, &id, &ScriptMap::new())
        },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              kind: ImmutableString,
              id: ImmutableString,
              props: ScriptMap| { on(&context, None, &kind, &id, &props) },
    );
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              scope: &mut ScopeRef,
              kind: ImmutableString,
              id: ImmutableString,
              props: ScriptMap| {
            declare(&context, scope.path.clone(), &kind, &id, &props)
        },
    );
}
