//! Scopes in the hands of a script: `alchemy`, what `alchemy(..)` returns, and what closures are given.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, NativeCallContext};

use crate::{
    engine::{Event, Phase, Run},
    model::{Diagnostic, ResourceId, ScopePath, diagnostic::codes},
};

use super::{
    fault::{self, Fault, Outcome},
    host::Host,
    lazy::Lazy,
    options::Options,
    report,
};

/// A scope of the run. Without a path it stands for the scope that the script is in: that is the constant `alchemy`.
#[derive(Debug, Clone)]
pub(super) struct ScopeRef {
    pub(super) path: Option<ScopePath>,
}

impl ScopeRef {
    /// The constant `alchemy`.
    pub(super) fn ambient() -> Self {
        Self { path: None }
    }

    pub(super) fn path(&self, host: &Host) -> ScopePath {
        self.path.clone().unwrap_or_else(|| host.scope())
    }
}

/// Checks an id of the script.
pub(super) fn resource_id(id: &str) -> Outcome<ResourceId> {
    ResourceId::new(id).map_err(|error| {
        fault::fail_with_help(
            codes::BAD_ID,
            error.to_string(),
            "choose another id; it becomes part of names and of folders in state",
        )
    })
}

/// Calls a closure that takes the scope or nothing.
pub(super) fn call_with_scope(
    context: &NativeCallContext,
    function: &FnPtr,
    scope: ScopePath,
) -> Outcome<Dynamic> {
    let scope = Dynamic::from(ScopeRef { path: Some(scope) });
    function.call_raw_with_extra_args::<0, 1>(context.fn_name(), context, None, [], [scope], None)
}

/// Runs a closure inside a scope, and steps out of it whatever happens.
pub(super) fn inside(
    host: &Host,
    context: &NativeCallContext,
    scope: ScopePath,
    function: &FnPtr,
) -> Outcome<Dynamic> {
    host.state().scopes.push(scope.clone());
    let result = call_with_scope(context, function, scope);
    host.state().scopes.pop();
    result
}

/// `run(id, [options], closure)`.
fn enter(
    host: &Host,
    context: &NativeCallContext,
    parent: &ScopePath,
    id: &str,
    options: rhai::Map,
    function: &FnPtr,
) -> Outcome<Dynamic> {
    let run = host.run("run")?;
    let mut options = Options::new("run", options, &["onFailure"])?;
    let cleanup = match options.string("onFailure")?.as_deref() {
        None | Some("keep") => false,
        Some("cleanup") => true,
        Some(other) => {
            let diagnostic = Diagnostic::error(
                codes::WRONG_TYPE,
                format!("\"{other}\" is no value for option `onFailure` of `run`"),
            )
            .with_help("one of \"keep\", \"cleanup\"");
            return Err(Fault::option(diagnostic, "onFailure", false).raise());
        }
    };
    let id = resource_id(id)?;
    let scope = if run.options().phase == Phase::Destroy {
        parent.child(id)
    } else {
        run.enter_scope(parent, &id, host.position(context))
            .map_err(|error| report::declare_error(host, context, &error))?
    };
    match inside(host, context, scope.clone(), function) {
        Ok(value) => {
            if cleanup && run.options().phase == Phase::Up {
                end_cleanly(host, context, &run, &scope)?;
            }
            Ok(value)
        }
        Err(error) => {
            if let Some(unknown) = decided_in_plan(host, &error, &scope) {
                return Ok(Dynamic::from(unknown));
            }
            if cleanup && run.options().phase == Phase::Up && error.is_catchable() {
                cleanup_scope(host, context, &run, &scope)?;
            }
            Err(error)
        }
    }
}

/// Waits for all that a scope with `onFailure: "cleanup"` declared. Where something failed that the script did not hear of, the
/// scope is removed again, and its failure is the script's.
fn end_cleanly(
    host: &Host,
    context: &NativeCallContext,
    run: &Arc<Run>,
    scope: &ScopePath,
) -> Outcome<()> {
    let Some(failure) = host.wait(context.engine(), run.failure_in(scope))? else {
        return Ok(());
    };
    cleanup_scope(host, context, run, scope)?;
    let diagnostic = report::failure(&failure, &host.sources);
    Err(Fault::failure(diagnostic, failure).raise())
}

fn cleanup_scope(
    host: &Host,
    context: &NativeCallContext,
    run: &Arc<Run>,
    scope: &ScopePath,
) -> Outcome<()> {
    let cleaned = host.wait(context.engine(), run.cleanup_scope(scope))?;
    cleaned.map_err(|error| fault::fail(codes::STATE_IO, error.to_string()))
}

/// In a plan, an error that comes from looking into an unknown value ends the scope only: warns, and answers an unknown value.
pub(super) fn decided_in_plan(
    host: &Host,
    error: &EvalAltResult,
    scope: &ScopePath,
) -> Option<Lazy> {
    if host.phase() != Some(Phase::Plan) {
        return None;
    }
    let (warning, reference) = report::forced_in_plan(host, error)?;
    let place = if scope.parts().is_empty() {
        "the plan ends here".to_owned()
    } else {
        format!("the rest of scope `{scope}` is left out of the plan")
    };
    host.state().forced = None;
    host.mark_conditional();
    host.emit(Event::Diagnostic(Box::new(warning.with_note(format!(
        "{place}; what is declared behind it may come otherwise"
    )))));
    Some(Lazy::new(reference))
}

/// `registerResource` keeps an id for the script's own use; `hasResource` knows it and every declared id.
fn register_ids(engine: &mut Engine, host: &Arc<Host>) {
    for name in ["registerResource", "register_resource"] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext,
                  scope: &mut ScopeRef,
                  id: ImmutableString|
                  -> Outcome<()> {
                let run = on.run("registerResource")?;
                let path = scope.path(&on);
                let id = resource_id(&id)?;
                run.enter_scope(&path, &id, on.position(&context))
                    .map_err(|error| report::declare_error(&on, &context, &error))?;
                on.state().registered.insert((path, id.as_str().to_owned()));
                Ok(())
            },
        );
    }
    for name in ["hasResource", "has_resource"] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |scope: &mut ScopeRef, id: ImmutableString| -> Outcome<bool> {
                let run = on.run("hasResource")?;
                let path = scope.path(&on);
                let registered = on
                    .state()
                    .registered
                    .contains(&(path.clone(), id.to_string()));
                Ok(registered || run.has_resource(&path, &id))
            },
        );
    }
}

/// `run` and `test`, as methods and as free functions.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine.register_type_with_name::<ScopeRef>("scope");
    let on = Arc::clone(host);
    engine.register_fn(
        "run",
        move |context: NativeCallContext,
              scope: &mut ScopeRef,
              id: ImmutableString,
              function: FnPtr| {
            enter(
                &on,
                &context,
                &scope.path(&on),
                &id,
                rhai::Map::new(),
                &function,
            )
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "run",
        move |context: NativeCallContext,
              scope: &mut ScopeRef,
              id: ImmutableString,
              options: rhai::Map,
              function: FnPtr| {
            enter(&on, &context, &scope.path(&on), &id, options, &function)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "run",
        move |context: NativeCallContext, id: ImmutableString, function: FnPtr| {
            enter(&on, &context, &on.scope(), &id, rhai::Map::new(), &function)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "run",
        move |context: NativeCallContext,
              id: ImmutableString,
              options: rhai::Map,
              function: FnPtr| {
            enter(&on, &context, &on.scope(), &id, options, &function)
        },
    );
    engine
        .register_fn("to_string", |scope: &mut ScopeRef| {
            scope
                .path
                .as_ref()
                .map_or_else(|| "alchemy".to_owned(), ToString::to_string)
        })
        .register_fn("to_debug", |scope: &mut ScopeRef| {
            scope
                .path
                .as_ref()
                .map_or_else(|| "alchemy".to_owned(), |path| format!("scope({path})"))
        });
    register_ids(engine, host);
}
