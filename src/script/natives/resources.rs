//! One function per resource kind: `Database("main")`, `Database("main", #{ .. })`, and the same on scopes.

use std::sync::Arc;

use rhai::{Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use crate::{
    engine::{Declaration, DeclareError, Phase, ResourceOptions},
    model::{Diagnostic, Map as Props, ScopePath, Value, diagnostic::codes},
    provider::PropError,
};

use super::super::{
    convert,
    fault::{Fault, Outcome},
    handle::Resource,
    host::{Host, Stop},
    report,
    scope::{self, ScopeRef},
};

/// A function of scripts that declares a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct ResourceFunction {
    /// Its name.
    pub(in super::super) name: &'static str,
    /// The kind it declares.
    pub(in super::super) kind: &'static str,
    /// Whether it is a block: named `<id>-<stage>`.
    pub(in super::super) block: bool,
}

const fn block(name: &'static str, kind: &'static str) -> ResourceFunction {
    ResourceFunction {
        name,
        kind,
        block: true,
    }
}

const fn raw(name: &'static str, kind: &'static str) -> ResourceFunction {
    ResourceFunction {
        name,
        kind,
        block: false,
    }
}

/// Every resource function, blocks first.
pub(in super::super) const FUNCTIONS: [ResourceFunction; 29] = [
    block("Database", "cloudflare::D1Database"),
    block("Bucket", "cloudflare::R2Bucket"),
    block("KV", "cloudflare::KVNamespace"),
    block("Queue", "cloudflare::Queue"),
    block("DurableObject", "cloudflare::DurableObjectNamespace"),
    block("Workflow", "cloudflare::Workflow"),
    block("AlchemyWorkflow", "cloudflare::Workflow"),
    block("Domain", "cloudflare::CustomDomain"),
    block("Route", "cloudflare::Route"),
    raw("D1Database", "cloudflare::D1Database"),
    raw("R2Bucket", "cloudflare::R2Bucket"),
    raw("R2Object", "cloudflare::R2Object"),
    raw("KVNamespace", "cloudflare::KVNamespace"),
    raw(
        "DurableObjectNamespace",
        "cloudflare::DurableObjectNamespace",
    ),
    raw("QueueConsumer", "cloudflare::QueueConsumer"),
    raw("Worker", "cloudflare::Worker"),
    raw("CustomDomain", "cloudflare::CustomDomain"),
    raw("DnsRecords", "cloudflare::DnsRecords"),
    raw("AiGateway", "cloudflare::AiGateway"),
    raw("Tunnel", "cloudflare::Tunnel"),
    raw("Hyperdrive", "cloudflare::Hyperdrive"),
    raw("Secret", "cloudflare::Secret"),
    raw("SecretsStore", "cloudflare::SecretsStore"),
    raw("VectorizeIndex", "cloudflare::VectorizeIndex"),
    raw("Zone", "cloudflare::Zone"),
    raw("Exec", "std::Exec"),
    raw("File", "std::File"),
    raw("RandomString", "std::RandomString"),
    raw("HttpRequest", "std::HttpRequest"),
];

/// Options that every resource takes beside the props of its kind.
pub(in super::super) const COMMON_OPTIONS: [&str; 3] = ["adopt", "protect", "delete"];

/// The function of that name.
pub(in super::super) fn function(name: &str) -> Option<ResourceFunction> {
    FUNCTIONS.into_iter().find(|function| function.name == name)
}

/// Where and how a resource is declared.
pub(super) struct Place<'a> {
    /// The scope; the innermost one when `None`.
    pub(super) scope: Option<ScopePath>,
    /// The function that declares it, for messages.
    pub(super) function: &'a str,
    /// The kind.
    pub(super) kind: &'a str,
    /// Whether it is a block.
    pub(super) block: bool,
}

/// Declares a resource and answers its handle.
pub(super) fn declare(
    host: &Host,
    context: &NativeCallContext,
    place: &Place<'_>,
    id: &str,
    props: &Map,
) -> Outcome<Dynamic> {
    let run = host.run(place.function)?;
    if run.options().phase == Phase::Destroy {
        // The kinds that the script defines are known now, and that is all a destroy needs.
        return Err(Box::new(rhai::EvalAltResult::ErrorTerminated(
            Dynamic::from(Stop),
            rhai::Position::NONE,
        )));
    }
    let most = host.options.limits.resources;
    if run.declared() >= most {
        let message =
            format!("the script declares more than {most} resources; it probably loops for ever");
        let diagnostic = Diagnostic::error(codes::OPERATION_LIMIT, message)
            .with_help("check the loop's condition, or split the application");
        return Err(Fault::new(diagnostic).raise());
    }
    let id = scope::resource_id(id)?;
    let fail = |errors: Vec<PropError>| {
        report::declare_error(
            host,
            context,
            &DeclareError::Props {
                kind: place.kind.into(),
                errors,
            },
        )
    };
    let mut props = convert::to_map(host, props).map_err(|error| {
        fail(vec![PropError {
            path: error.path,
            message: error.message,
            help: Some("pass plain values, handles or secrets".to_owned()),
            at_key: false,
        }])
    })?;
    let options = take_options(&mut props).map_err(fail)?;
    if place.block {
        props
            .entry("naming".to_owned())
            .or_insert_with(|| "stage".into());
    }
    let declaration = Declaration {
        scope: place.scope.clone().unwrap_or_else(|| host.scope()),
        id,
        kind: place.kind.into(),
        props,
        options,
        position: host.position(context),
        conditional: host.state().conditional,
    };
    let entered = host.session()?.runtime.enter();
    let declared = run.declare(declaration);
    drop(entered);
    let node = declared.map_err(|error| report::declare_error(host, context, &error))?;
    let info = run.info(node);
    if run.options().phase == Phase::Plan && run.could_collide(node) {
        report::shared_name(host, context, &info);
    }
    Ok(Dynamic::from(Resource {
        run,
        node,
        fqn: info.fqn,
        kind: info.kind,
    }))
}

/// Takes the options that every resource has out of the props.
fn take_options(props: &mut Props) -> Result<ResourceOptions, Vec<PropError>> {
    let mut errors = Vec::new();
    let mut take = |name: &str| match props.remove(name) {
        None | Some(Value::Null) => None,
        Some(Value::Bool(value)) => Some(value),
        Some(other) => {
            errors.push(PropError {
                path: vec![name.to_owned()],
                message: format!("expected true or false, found {}", other.type_name()),
                help: None,
                at_key: false,
            });
            None
        }
    };
    let options = ResourceOptions {
        adopt: take("adopt"),
        protect: take("protect"),
        retain: take("delete").map(|delete| !delete),
    };
    if errors.is_empty() {
        Ok(options)
    } else {
        Err(errors)
    }
}

/// Registers every resource function in its four forms.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    for function in FUNCTIONS {
        let on = Arc::clone(host);
        let call = move |context: &NativeCallContext,
                         scope: Option<ScopePath>,
                         id: &str,
                         props: &Map|
              -> Outcome<Dynamic> {
            let place = Place {
                scope,
                function: function.name,
                kind: function.kind,
                block: function.block,
            };
            declare(&on, context, &place, id, props)
        };
        register_forms(engine, function.name, call);
    }
}

/// The forms `f(id)`, `f(id, props)`, `scope.f(id)`, `scope.f(id, props)`.
fn register_forms(
    engine: &mut Engine,
    name: &str,
    call: impl Fn(&NativeCallContext, Option<ScopePath>, &str, &Map) -> Outcome<Dynamic>
    + Clone
    + Send
    + Sync
    + 'static,
) {
    let on = call.clone();
    engine.register_fn(
        name,
        move |context: NativeCallContext, id: ImmutableString| on(&context, None, &id, &Map::new()),
    );
    let on = call.clone();
    engine.register_fn(
        name,
        move |context: NativeCallContext, id: ImmutableString, props: Map| {
            on(&context, None, &id, &props)
        },
    );
    let on = call.clone();
    engine.register_fn(
        name,
        move |context: NativeCallContext, scope: &mut ScopeRef, id: ImmutableString| {
            on(&context, scope.path.clone(), &id, &Map::new())
        },
    );
    engine.register_fn(
        name,
        move |context: NativeCallContext, scope: &mut ScopeRef, id: ImmutableString, props: Map| {
            call(&context, scope.path.clone(), &id, &props)
        },
    );
}
