//! Builds the Rhai engine: which packages, which limits, what stops it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rhai::{
    Dynamic, Engine, EvalAltResult, ImmutableString, OptimizationLevel,
    packages::{Package, StandardPackage},
};

use crate::{
    engine::Event,
    model::{Diagnostic, diagnostic::codes},
};

use super::{
    app, fault,
    fault::{Fault, Outcome},
    handle,
    host::Host,
    lazy,
    modules::Resolver,
    natives, scope,
    scope::ScopeRef,
};

/// Bounds on what a script may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations: an endless loop ends after a few seconds.
    pub operations: u64,
    /// Largest script or module in bytes.
    pub script_bytes: usize,
    /// How many bytes the process may grow by while the script computes.
    pub memory_bytes: u64,
    /// Largest single string, array or blob that one call may make.
    pub value_size: usize,
    /// Calls of script functions within each other.
    pub call_depth: usize,
    /// Resources of one run.
    pub resources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 25_000_000,
            script_bytes: 8 << 20,
            memory_bytes: 512 << 20,
            value_size: 64 << 20,
            call_depth: 128,
            resources: 50_000,
        }
    }
}

/// Operations of the script between two looks at the clock and at Ctrl-C, which cost as much as an operation does.
const OPERATIONS_PER_LOOK: u64 = 4;

/// Stack of the thread that parses and runs scripts: 128 nested calls through natives need about 10 MB in a debug build.
pub(super) const STACK_BYTES: usize = 128 << 20;

/// Nesting of expressions at the top level and in functions.
const EXPRESSION_DEPTHS: (usize, usize) = (128, 64);

/// An engine with everything that scripts see.
pub(super) fn build(host: &Arc<Host>) -> Engine {
    let limits = host.options.limits;
    let mut engine = Engine::new_raw();
    engine.register_global_module(StandardPackage::new().as_shared_module());
    engine.register_global_module(app::constant().into());
    // Without optimisation literals keep their places, and conditions that are written out stay checked.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.disable_symbol("eval");
    engine.set_max_call_levels(limits.call_depth);
    engine.set_max_expr_depths(EXPRESSION_DEPTHS.0, EXPRESSION_DEPTHS.1);
    engine.set_max_operations(limits.operations);
    engine.set_module_resolver(Resolver::new(Arc::clone(host)));
    ambient(&mut engine);
    watch(&mut engine, host);
    output(&mut engine, host);
    bounded(&mut engine, limits.value_size);
    fault::register(&mut engine);
    lazy::register(&mut engine, host);
    handle::register(&mut engine, host);
    scope::register(&mut engine, host);
    app::register(&mut engine, host);
    natives::register(&mut engine, host);
    missing(&mut engine, host);
    engine
}

/// The name `alchemy` always means the constant. A closure that captured it like a variable would be refused as soon as it is
/// given to one of its methods.
fn ambient(engine: &mut Engine) {
    #[expect(
        deprecated,
        reason = "Rhai marks this as volatile; Cargo.toml pins the version"
    )]
    engine.on_var(|name, _, _| Ok((name == "alchemy").then(|| Dynamic::from(ScopeRef::ambient()))));
}

/// Ends the script on Ctrl-C and when it eats up memory.
///
/// Rhai's own size limits make every change of a list cost its whole length, so growth of the process is watched instead: at
/// intervals, and whenever one operation took so long that it may have moved a lot of data.
fn watch(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    let start = Instant::now();
    let baseline = resident_bytes().unwrap_or(0);
    let previous = AtomicU64::new(0);
    engine.on_progress(move |operations| {
        if !operations.is_multiple_of(OPERATIONS_PER_LOOK) {
            return None;
        }
        if on.options.cancel.soft.is_cancelled() {
            let fault = Fault::new(Diagnostic::error(codes::CANCELLED, "the run was stopped"));
            return Some(Dynamic::from(fault));
        }
        let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let slow = now.saturating_sub(previous.swap(now, Ordering::Relaxed)) > 500;
        if !slow && !operations.is_multiple_of(1 << 14) {
            return None;
        }
        let grown = resident_bytes()?.saturating_sub(baseline);
        if grown <= on.options.limits.memory_bytes {
            return None;
        }
        let fault = Fault::new(
            Diagnostic::error(
                codes::MEMORY_LIMIT,
                format!(
                    "the script uses more than {} MB",
                    on.options.limits.memory_bytes >> 20
                ),
            )
            .with_help("check what grows in a loop"),
        );
        Some(Dynamic::from(fault))
    });
}

/// Memory of the process that is really there, where the system tells.
fn resident_bytes() -> Option<u64> {
    let text = crate::util::fs::read_to_string(std::path::Path::new("/proc/self/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// `print` and `debug` become events.
fn output(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.on_print(move |text| on.emit(Event::Print(on.tokens.display(text))));
    let on = Arc::clone(host);
    engine.on_debug(move |text, source, position| {
        on.emit(Event::Log {
            message: on.tokens.display(text),
            position: on.sources.position(source, position),
        });
    });
}

/// Calls that could ask for any amount of memory at once are bounded.
fn bounded(engine: &mut Engine, limit: usize) {
    let check = move |size: usize| -> Outcome<()> {
        if size <= limit {
            return Ok(());
        }
        Err(Box::new(EvalAltResult::ErrorTerminated(
            Dynamic::from(Fault::new(Diagnostic::error(
                codes::MEMORY_LIMIT,
                format!("one value of {size} elements is more than a script may make"),
            ))),
            rhai::Position::NONE,
        )))
    };
    let size = |length: i64| usize::try_from(length).unwrap_or(0);
    engine.register_fn("blob", move |length: i64| -> Outcome<rhai::Blob> {
        check(size(length))?;
        Ok(vec![0; size(length)])
    });
    engine.register_fn(
        "blob",
        move |length: i64, value: i64| -> Outcome<rhai::Blob> {
            check(size(length))?;
            Ok(vec![value.to_le_bytes()[0]; size(length)])
        },
    );
    engine.register_fn(
        "pad",
        move |list: &mut rhai::Array, length: i64, value: Dynamic| -> Outcome<()> {
            check(size(length))?;
            if size(length) > list.len() {
                list.resize(size(length), value);
            }
            Ok(())
        },
    );
    engine.register_fn(
        "pad",
        move |bytes: &mut rhai::Blob, length: i64, value: i64| -> Outcome<()> {
            check(size(length))?;
            if size(length) > bytes.len() {
                bytes.resize(size(length), value.to_le_bytes()[0]);
            }
            Ok(())
        },
    );
    let pad = move |text: &mut ImmutableString, length: i64, with: &str| -> Outcome<()> {
        check(size(length))?;
        let missing = size(length).saturating_sub(text.chars().count());
        if missing > 0 && !with.is_empty() {
            let mut out = text.to_string();
            out.extend(with.chars().cycle().take(missing));
            *text = out.into();
        }
        Ok(())
    };
    engine.register_fn(
        "pad",
        move |text: &mut ImmutableString, length: i64, with: char| {
            pad(text, length, with.encode_utf8(&mut [0; 4]))
        },
    );
    engine.register_fn(
        "pad",
        move |text: &mut ImmutableString, length: i64, with: ImmutableString| {
            pad(text, length, &with)
        },
    );
    let replace = move |text: &mut ImmutableString, find: &str, with: &str| -> Outcome<()> {
        let grows = with.len().saturating_sub(find.len());
        if grows > 0 && !find.is_empty() {
            check(text.len() + grows.saturating_mul(text.matches(find).count()))?;
        }
        *text = text.replace(find, with).into();
        Ok(())
    };
    engine.register_fn(
        "replace",
        move |text: &mut ImmutableString, find: ImmutableString, with: ImmutableString| {
            replace(text, &find, &with)
        },
    );
    engine.register_fn(
        "replace",
        move |text: &mut ImmutableString, find: char, with: ImmutableString| {
            replace(text, find.encode_utf8(&mut [0; 4]), &with)
        },
    );
    engine.register_fn(
        "replace",
        move |text: &mut ImmutableString, find: ImmutableString, with: char| {
            replace(text, &find, with.encode_utf8(&mut [0; 4]))
        },
    );
}

/// A call that finds no function and has an unknown value among its arguments looks into it: notes that before a `catch` of the
/// script could hide it. Rhai's own error goes on, as it knows the place.
fn missing(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    #[expect(
        deprecated,
        reason = "Rhai marks this as volatile; Cargo.toml pins the version"
    )]
    engine.on_missing_function(move |name, arguments, _, _| {
        // Rhai looks among natives before it calls a closure.
        if name.starts_with("anon$") {
            return Ok(None);
        }
        for argument in arguments.iter() {
            let lazy = argument.read_lock::<lazy::Lazy>();
            if let Some(reference) = lazy.and_then(|lazy| lazy.reference()) {
                on.mark_forced(&reference, None);
            }
        }
        Ok(None)
    });
}
