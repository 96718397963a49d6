//! Runs a loaded script: evaluates it on a thread of its own and ends the run behind it.

use std::sync::Arc;

use rhai::{AST, ASTNode, Dynamic, Engine, EvalAltResult, Expr, Map, Position, Scope};
use tokio::runtime::Handle;

use crate::{
    engine::{DeleteOptions, Phase, Run, RunError, Summary},
    model::{Diagnostic, ScopePath, Value, diagnostic::codes},
};

use super::{
    app, convert, engine,
    fault::{self, Outcome},
    host::{Host, HostOptions, Launcher, Session, Stop},
    options,
    program::{Program, on_large_stack},
    report, scope,
};

/// How a script ended.
#[derive(Debug)]
pub struct ScriptResult {
    /// What its last expression gave.
    pub value: Value,
    /// Why it failed, if it did.
    pub error: Option<Diagnostic>,
    /// The end of the run, if one was started.
    pub summary: Option<Summary>,
}

/// Runs a script to its end. Blocks: call it outside the runtime, or on a thread that may block.
///
/// The script is evaluated, then the run that it started is finalized; closures of kinds that the script defines are served all
/// the while.
#[must_use]
pub fn run(
    program: &Program,
    options: HostOptions,
    launcher: Arc<dyn Launcher>,
    runtime: Handle,
) -> ScriptResult {
    let session = Session { launcher, runtime };
    let name = program.main.file.name.clone();
    let host = Host::new(options, Arc::clone(&program.sources), Some(session), &name);
    let main = Arc::clone(&program.main);
    on_large_stack(move || {
        let engine = engine::build(&host);
        let evaluated = engine.eval_ast_with_scope::<Dynamic>(&mut Scope::new(), &main.ast);
        finish(&host, &engine, &main.ast, evaluated)
    })
    .unwrap_or_else(|error| ScriptResult {
        value: Value::Null,
        error: Some(error),
        summary: None,
    })
}

fn finish(
    host: &Arc<Host>,
    engine: &Engine,
    ast: &AST,
    evaluated: Result<Dynamic, Box<EvalAltResult>>,
) -> ScriptResult {
    let mut result = ScriptResult {
        value: Value::Null,
        error: None,
        summary: None,
    };
    let mut failed = None;
    match evaluated {
        Ok(value) => result.value = convert::to_value(host, &value).unwrap_or_default(),
        Err(error) if is_stop(&error) => {
            if let Err(error) = read_ahead(host, ast) {
                result.error = Some(report::evaluation(
                    error,
                    &host.sources,
                    engine,
                    host.main.as_deref(),
                ));
            }
        }
        Err(error) => {
            if scope::decided_in_plan(host, &error, &ScopePath::root()).is_none() {
                failed = fault::find(&error).and_then(|fault| fault.failed().cloned());
                result.error = Some(report::evaluation(
                    error,
                    &host.sources,
                    engine,
                    host.main.as_deref(),
                ));
            }
        }
    }
    let run = host.state().run.clone();
    let Some(run) = run else {
        return result;
    };
    warn_of_hidden_decision(host);
    match &failed {
        // What ended the script was not handled by it.
        Some(failure) => run.not_handled(&failure.fqn),
        None if result.error.is_none() => app::warn_of_lost_renames(host),
        None => {}
    }
    match conclude(host, engine, &run, result.error.is_none()) {
        Ok(summary) => {
            // The failure that ended the script is in the summary, with its place; once is enough.
            if let Some(failure) = failed
                && summary.failed.iter().any(|other| other.fqn == failure.fqn)
            {
                result.error = None;
            }
            result.summary = Some(summary);
        }
        Err(diagnostic) => {
            result.error.get_or_insert(diagnostic);
        }
    }
    result
}

/// A `catch` of the script swallowed a decision on an unknown value: the plan says so all the same.
fn warn_of_hidden_decision(host: &Host) {
    let Some((reference, position)) = host.state().forced.take() else {
        return;
    };
    let mut diagnostic = host.forced_diagnostic(Some(&reference));
    diagnostic.severity = crate::model::Severity::Warning;
    if let Some(position) = position
        && let Some(source) = host.source_file(&position.file)
    {
        diagnostic.labels.push(crate::model::Label {
            source,
            line: position.line,
            column: position.column,
            length: 0,
            text: "decided here".to_owned(),
            primary: true,
        });
    }
    host.emit(crate::engine::Event::Diagnostic(Box::new(
        diagnostic.with_note("the script caught it; what is declared behind it may come otherwise"),
    )));
}

/// A destroy ends the script at its first resource, so it does not come to a `finalize(#{ .. })` at the end. Its options hold
/// all the same: they are read from the text, and what is not plain there stops the destroy before it deletes.
fn read_ahead(host: &Host, ast: &AST) -> Outcome<()> {
    let run = host.run("finalize")?;
    if run.has_delete_options() {
        return Ok(());
    }
    let mut calls: Vec<(Option<Map>, Position)> = Vec::new();
    ast.walk(&mut |nodes: &[ASTNode]| {
        if let Some(ASTNode::Expr(
            Expr::MethodCall(call, position) | Expr::FnCall(call, position),
        )) = nodes.last()
            && call.name == "finalize"
            && let Some(options) = call.args.last()
        {
            let options = options.get_literal_value(None).and_then(Dynamic::try_cast);
            calls.push((options, *position));
        }
        true
    });
    let mut found: Option<DeleteOptions> = None;
    for (options, position) in calls {
        let Some(map) = options else {
            let mut error = fault::fail_with_help(
                codes::RUNTIME,
                "a destroy does not come to this `finalize`, and cannot read its options from the text",
                "put it right behind `alchemy(..)`, or write its values out; nothing was deleted",
            );
            error.set_position(position);
            return Err(error);
        };
        let base = found.as_ref().unwrap_or(&run.options().delete);
        let dry_run = found.as_ref().is_some_and(|options| options.dry_run);
        let mut options = options::delete_options(map, base)?;
        // Which of several calls would be reached is not known here; what deletes nothing wins.
        options.dry_run |= dry_run;
        found = Some(options);
    }
    if let Some(options) = found {
        run.set_delete_options(options);
    }
    Ok(())
}

fn is_stop(error: &EvalAltResult) -> bool {
    match error {
        EvalAltResult::ErrorTerminated(token, _) => token.is::<Stop>(),
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => is_stop(inner),
        _ => false,
    }
}

fn conclude(
    host: &Arc<Host>,
    engine: &Engine,
    run: &Arc<Run>,
    succeeded: bool,
) -> Result<Summary, Diagnostic> {
    let ended: Result<Result<Summary, RunError>, Box<EvalAltResult>> =
        if run.options().phase == Phase::Destroy && succeeded {
            host.wait_to_end(engine, run.destroy())
        } else {
            host.wait_to_end(engine, run.finalize(succeeded))
        };
    match ended {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err(error)) => Err(error.diagnostic()),
        Err(error) => Err(Diagnostic::error(codes::RUNTIME, error.to_string())),
    }
}
