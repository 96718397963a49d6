//! What is said when `alch` itself is at fault: a panic, on whatever thread.
//!
//! A panic's message may hold any value, so it goes through the redactor like all else that leaves the process. It goes straight to
//! stderr and not to the printing thread, which may be the one that panicked.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write as _},
    panic::PanicHookInfo,
};

use crate::secret::Redactor;

/// Replaces what Rust prints about a panic, for the rest of the process.
pub fn install(redactor: Redactor) {
    std::panic::set_hook(Box::new(move |info| {
        let text = text(info, &Backtrace::capture());
        // In one piece, so that no other line comes between. Nobody is left to be told that stderr is gone.
        drop(io::stderr().write_all(redactor.redact(&text).as_bytes()));
    }));
}

fn text(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}"),
        _ => "  = help: `RUST_BACKTRACE=1` shows how it came to that\n".to_owned(),
    };
    format!(
        "error: alch itself is at fault: thread `{thread}` panicked at {place}: {message}\n  \
           = note: what was reported as done is in state, and the next run looks up what was in flight\n{trace}"
    )
}
