//! Waiting and trying again. Ctrl-C ends both at once.

use std::{sync::Arc, time::Duration};

use rhai::{Dynamic, Engine, FnPtr, NativeCallContext};

use crate::model::diagnostic::codes;

use super::super::{
    fault::{self, Outcome},
    host::Host,
};

fn sleep(host: &Host, context: &NativeCallContext, seconds: f64) -> Outcome<()> {
    let duration = Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(|error| fault::fail(codes::WRONG_ARGUMENTS, error.to_string()))?;
    // The timer belongs to the runtime, so it is made there.
    host.wait(context.engine(), async move {
        tokio::time::sleep(duration).await;
    })
}

fn retry(
    host: &Host,
    context: &NativeCallContext,
    times: i64,
    delay: f64,
    function: &FnPtr,
) -> Outcome<Dynamic> {
    let mut left = times.max(1);
    loop {
        left -= 1;
        match function.call_within_context::<Dynamic>(context, ()) {
            Ok(value) => return Ok(value),
            Err(error) if left == 0 || !error.is_catchable() => return Err(error),
            // Trying again cannot make a plan know what only the provider will know.
            Err(error)
                if fault::find(&error).is_some_and(|fault| fault.forced_reference().is_some()) =>
            {
                return Err(error);
            }
            Err(_) => sleep(host, context, delay)?,
        }
    }
}

/// Registers `sleep(seconds)` and `retry(times, [seconds between], closure)`.
#[expect(clippy::cast_precision_loss, reason = "whole seconds far below 2^53")]
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn("sleep", move |context: NativeCallContext, seconds: i64| {
        sleep(&on, &context, seconds as f64)
    });
    let on = Arc::clone(host);
    engine.register_fn("sleep", move |context: NativeCallContext, seconds: f64| {
        sleep(&on, &context, seconds)
    });
    let on = Arc::clone(host);
    engine.register_fn(
        "retry",
        move |context: NativeCallContext, times: i64, function: FnPtr| {
            retry(&on, &context, times, 0.0, &function)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "retry",
        move |context: NativeCallContext, times: i64, seconds: f64, function: FnPtr| {
            retry(&on, &context, times, seconds, &function)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "retry",
        move |context: NativeCallContext, times: i64, seconds: i64, function: FnPtr| {
            retry(&on, &context, times, seconds as f64, &function)
        },
    );
}
