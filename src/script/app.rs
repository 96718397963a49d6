//! `alchemy(name, options)`, the constant `alchemy`, and what both offer: stage, phase, environment, secrets, tests, finalize.

use std::sync::Arc;

use rhai::{Dynamic, Engine, FnPtr, ImmutableString, Map, Module, NativeCallContext};

use crate::{
    engine::{Event, Outcome as EngineOutcome, Phase, Run, diagnose::label},
    model::{AppName, Diagnostic, ScopePath, StageName, StagePath, diagnostic::codes},
    util::text,
};

use super::{
    fault::{self, Fault, Outcome},
    host::{Host, Rename},
    lazy::{Lazy, SecretValue},
    options,
    scope::{self, ScopeRef},
};

/// `alchemy.env`.
#[derive(Debug, Clone, Copy)]
struct Environment;

/// `alchemy(name, options)`.
fn start(host: &Host, name: &str, map: Map) -> Outcome<ScopeRef> {
    let app = AppName::new(name).map_err(|error| {
        fault::fail_with_help(
            codes::BAD_ID,
            error.to_string(),
            "choose another name; it becomes part of names and of folders in state",
        )
    })?;
    let options = options::app_options(map)?;
    if let Some(password) = &options.password {
        host.options.redactor.add(password);
    }
    if let Some(run) = host.state().run.clone() {
        if run.stage().app == app {
            return Ok(ScopeRef {
                path: Some(ScopePath::root()),
            });
        }
        return Err(fault::fail_with_help(
            codes::RUNTIME,
            format!("`alchemy(..)` was called for `{}` already", run.stage().app),
            "one script deploys one application; write a second script for the other one",
        ));
    }
    let run = host
        .session()?
        .launcher
        .launch(app, options)
        .map_err(|diagnostic| Fault::new(diagnostic).raise())?;
    let mut state = host.state();
    state.run = Some(run);
    state.scopes = vec![ScopePath::root()];
    Ok(ScopeRef {
        path: Some(ScopePath::root()),
    })
}

/// `env(name)`.
fn env(host: &Host, name: &str) -> Outcome<String> {
    host.options
        .environment
        .get(name)
        .cloned()
        .ok_or_else(|| {
            let near = crate::util::text::suggestions(
                name,
                host.options.environment.keys().map(String::as_str),
                1,
            );
            let mut help = format!(
                "set it, put it into a file for `--env-file`, or give a default: `env(\"{name}\", \"..\")`"
            );
            if let Some(near) = near.first() {
                help = format!("`{near}` is set; or {help}");
            }
            fault::fail_with_help(
                codes::MISSING_ENV,
                format!("environment variable `{name}` is not set"),
                help,
            )
        })
}

/// `secret(value)`.
fn secret(host: &Host, context: &NativeCallContext, value: &Dynamic) -> Outcome<SecretValue> {
    if let Some(lazy) = value.read_lock::<Lazy>() {
        return Err(host.force(&lazy, context));
    }
    if let Some(secret) = value.read_lock::<SecretValue>() {
        return Ok(secret.clone());
    }
    let empty = || {
        fault::fail_with_help(
            codes::RUNTIME,
            "`secret(..)` was given nothing to keep secret",
            "read the value with `env(\"NAME\")`, which says when it is missing",
        )
    };
    if value.is_unit() {
        return Err(empty());
    }
    let Some(text) = value.read_lock::<ImmutableString>() else {
        return Err(fault::fail(
            codes::WRONG_ARGUMENTS,
            format!("a secret is text; `secret` was given {}", value.type_name()),
        ));
    };
    if text.is_empty() {
        return Err(empty());
    }
    host.secret(&text)
}

/// `test(id, closure)`: the closure in a run of its own, in a stage of its own, which is destroyed before and afterwards.
fn test(host: &Host, context: &NativeCallContext, id: &str, function: &FnPtr) -> Outcome<Dynamic> {
    let outer = host.run("test")?;
    // A rebuild makes nothing, and a test would.
    if outer.options().phase != Phase::Up || outer.options().rebuild {
        return Ok(Dynamic::UNIT);
    }
    let id = scope::resource_id(id)?;
    let stage = StageName::test(&id, &outer.stage().stage).ok_or_else(|| {
        fault::fail_with_help(
            codes::RUNTIME,
            format!("test `{id}` stands inside another test"),
            "put it behind the other one; within a test, `alchemy.run(\"..\", || ..)` groups resources",
        )
    })?;
    let stage = StagePath::new(outer.stage().app.clone(), stage);
    let engine = context.engine();
    // What an interrupted test left would let this one pass for nothing.
    sweep(host, engine, &stage)?;
    let Some(run) = launch(host, &stage, Phase::Up)? else {
        return Ok(Dynamic::UNIT);
    };
    let scopes = {
        let mut state = host.state();
        state.run = Some(Arc::clone(&run));
        std::mem::replace(&mut state.scopes, vec![ScopePath::root()])
    };
    let result = scope::call_with_scope(context, function, ScopePath::root());
    {
        let mut state = host.state();
        state.run = Some(outer);
        state.scopes = scopes;
    }
    let ended = host.wait_to_end(engine, run.finalize(result.is_ok()))?;
    // A stopped program deletes nothing any more; the next run of the test begins with that.
    let stopped = host.options.cancel.soft.is_cancelled();
    let swept = match stopped {
        true => Ok(()),
        false => sweep(host, engine, &stage),
    };
    let whole = matches!(&ended, Ok(summary) if summary.outcome == EngineOutcome::Succeeded);
    let message = match (result.is_ok() && whole, &swept) {
        (true, Ok(())) => format!("test `{id}`: passed"),
        (true, Err(_)) => {
            format!("test `{id}`: passed, but what it made could not be deleted")
        }
        (false, _) if stopped => {
            format!("test `{id}`: stopped; what it made stays until its next run")
        }
        (false, _) => format!("test `{id}`: failed"),
    };
    host.emit(Event::Log {
        message,
        position: None,
    });
    let value = result?;
    ended.map_err(|error| Fault::new(error.diagnostic()).raise())?;
    if !whole {
        return Err(fault::fail_with_help(
            codes::RUNTIME,
            format!("test `{id}` failed: a resource in it did"),
            "the errors above say why",
        ));
    }
    swept?;
    Ok(value)
}

fn launch(host: &Host, stage: &StagePath, phase: Phase) -> Outcome<Option<Arc<Run>>> {
    host.session()?
        .launcher
        .launch_test(stage.clone(), phase)
        .map_err(|diagnostic| Fault::new(diagnostic).raise())
}

/// Destroys all that state has of a test.
fn sweep(host: &Host, engine: &Engine, stage: &StagePath) -> Outcome<()> {
    let Some(run) = launch(host, stage, Phase::Destroy)? else {
        return Ok(());
    };
    let summary = host
        .wait_to_end(engine, run.destroy())?
        .map_err(|error| Fault::new(error.diagnostic()).raise())?;
    if summary.left.is_empty() {
        return Ok(());
    }
    Err(fault::fail_with_help(
        codes::RUNTIME,
        format!(
            "{} of a test could not be deleted",
            text::plural(summary.left.len(), "resource")
        ),
        "the errors above say why; the next run of the test tries again",
    ))
}

/// `moved(from, to)`: answers whether anything moved.
fn moved(
    host: &Host,
    context: &NativeCallContext,
    scope: &ScopePath,
    from: &str,
    to: &str,
) -> Outcome<bool> {
    let run = host.run("moved")?;
    let moved = host
        .wait(context.engine(), run.moved(scope, from, to))?
        .map_err(|error| Fault::new(error.diagnostic()).raise())?;
    let rename = Rename {
        call: format!("moved(\"{from}\", \"{to}\")"),
        names: moved.names,
        position: host.position(context),
        run,
    };
    host.state().renames.push(rename);
    Ok(moved.moved)
}

/// A rename whose new name nobody declared does nothing, or loses what it moved: most likely one of the names is wrong.
pub(super) fn warn_of_lost_renames(host: &Host) {
    let renames = std::mem::take(&mut host.state().renames);
    for rename in renames {
        let phase = rename.run.options().phase;
        let known = rename.names.iter().any(|name| rename.run.is_declared(name));
        if known || rename.run.is_partial() || !matches!(phase, Phase::Up | Phase::Plan) {
            continue;
        }
        let names: Vec<String> = rename
            .names
            .iter()
            .map(|name| format!("`{}`", name.within_stage()))
            .collect();
        let mut warning = Diagnostic::warning(
            codes::NOT_IN_STATE,
            format!(
                "`{}`: the script does not declare {}",
                rename.call,
                names.join(" or ")
            ),
        )
        .with_help("correct the new name, within the scope or the stage, or remove the line");
        warning.labels.extend(label(
            rename.position.as_ref(),
            &|name| host.source_file(name),
            "",
            true,
        ));
        host.emit(Event::Diagnostic(Box::new(warning)));
    }
}

/// Puts the constant `alchemy` in front of every script and module.
pub(super) fn constant() -> Module {
    let mut module = Module::new();
    module.set_var("alchemy", ScopeRef::ambient());
    module
}

/// Makes everything about the application known to the script.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn("alchemy", move |name: ImmutableString| {
        start(&on, &name, Map::new())
    });
    let on = Arc::clone(host);
    engine.register_fn("alchemy", move |name: ImmutableString, options: Map| {
        start(&on, &name, options)
    });
    register_attributes(engine, host);
    register_environment(engine, host);
    register_methods(engine, host);
}

fn register_attributes(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_get("stage", move |_: &mut ScopeRef| -> Outcome<String> {
        Ok(on.run("alchemy.stage")?.stage().stage.plain())
    });
    let on = Arc::clone(host);
    engine.register_get("name", move |scope: &mut ScopeRef| -> Outcome<String> {
        let run = on.run("alchemy.name")?;
        Ok(match scope.path(&on).parts().last() {
            Some(last) => last.to_string(),
            None => run.stage().app.to_string(),
        })
    });
    let on = Arc::clone(host);
    engine.register_get("phase", move |_: &mut ScopeRef| -> Outcome<String> {
        // A plan works out what `up` would do, so the script must not tell the two apart.
        Ok(match on.run("alchemy.phase")?.options().phase {
            Phase::Plan => Phase::Up.as_str().to_owned(),
            phase => phase.as_str().to_owned(),
        })
    });
    let on = Arc::clone(host);
    engine.register_get("target", move |_: &mut ScopeRef| -> Outcome<String> {
        Ok(on.run("alchemy.target")?.options().target.clone())
    });
    let on = Arc::clone(host);
    engine.register_get("arguments", move |_: &mut ScopeRef| -> rhai::Array {
        let arguments = on.options.arguments.iter();
        arguments.map(|text| text.clone().into()).collect()
    });
}

fn register_environment(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<Environment>("environment")
        .register_get("env", |_: &mut ScopeRef| Environment)
        .register_fn("to_string", |_: &mut Environment| "environment")
        .register_fn("to_debug", |_: &mut Environment| "environment");
    let on = Arc::clone(host);
    engine.register_indexer_get(move |_: &mut Environment, name: ImmutableString| env(&on, &name));
    let on = Arc::clone(host);
    engine.register_fn("env", move |name: ImmutableString| env(&on, &name));
    let on = Arc::clone(host);
    engine.register_fn("env", move |_: &mut ScopeRef, name: ImmutableString| {
        env(&on, &name)
    });
    let or_default = |host: &Host, name: &str, default: Dynamic| -> Dynamic {
        match host.options.environment.get(name) {
            Some(value) => value.clone().into(),
            None => default,
        }
    };
    let on = Arc::clone(host);
    engine.register_fn("env", move |name: ImmutableString, default: Dynamic| {
        or_default(&on, &name, default)
    });
    let on = Arc::clone(host);
    engine.register_fn(
        "env",
        move |_: &mut ScopeRef, name: ImmutableString, default: Dynamic| {
            or_default(&on, &name, default)
        },
    );
}

fn register_methods(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn(
        "secret",
        move |context: NativeCallContext, value: Dynamic| secret(&on, &context, &value),
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "secret",
        move |context: NativeCallContext, _: &mut ScopeRef, value: Dynamic| {
            secret(&on, &context, &value)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "test",
        move |context: NativeCallContext, id: ImmutableString, function: FnPtr| {
            test(&on, &context, &id, &function)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "test",
        move |context: NativeCallContext,
              _: &mut ScopeRef,
              id: ImmutableString,
              function: FnPtr| { test(&on, &context, &id, &function) },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "moved",
        move |context: NativeCallContext, from: ImmutableString, to: ImmutableString| {
            moved(&on, &context, &on.scope(), &from, &to)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "moved",
        move |context: NativeCallContext,
              scope: &mut ScopeRef,
              from: ImmutableString,
              to: ImmutableString| { moved(&on, &context, &scope.path(&on), &from, &to) },
    );
    // The end of the script finalizes; a call before it sets how.
    let on = Arc::clone(host);
    engine.register_fn("finalize", move |_: &mut ScopeRef| -> Outcome<()> {
        on.run("finalize").map(drop)
    });
    let on = Arc::clone(host);
    engine.register_fn(
        "finalize",
        move |_: &mut ScopeRef, options: Map| -> Outcome<()> {
            let run = on.run("finalize")?;
            let options = options::delete_options(options, &run.options().delete)?;
            run.set_delete_options(options);
            Ok(())
        },
    );
}
