//! Ctrl-C in two steps: the first lets calls in flight end and be recorded, the second stops at once. SIGTERM and the SIGHUP of
//! a terminal that goes away count alike.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::{error::CliError, exit::Exit},
    engine::Cancel,
    model::diagnostic::codes,
    ui::Ui,
    util::fs,
};

const NONE: u8 = 0;
const INTERRUPTED: u8 = 1;
const TERMINATED: u8 = 2;
const HUNG_UP: u8 = 3;

/// Whether whoever started the process wants it to outlive its terminal, as `nohup` does. A handler would undo that.
fn is_hangup_ignored() -> bool {
    // Linux's own words for it; where they are missing, a hangup stops the run in good order.
    fs::read_to_string(Path::new("/proc/self/status")).is_ok_and(|status| ignores_hangup(&status))
}

/// Whether SIGHUP, the lowest bit, is in the mask of ignored signals of `/proc/<pid>/status`.
fn ignores_hangup(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Remembers whether a second signal came, and which.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Watches SIGINT, SIGTERM and SIGHUP until the runtime ends; SIGHUP not where it was ignored from the beginning.
    ///
    /// # Errors
    /// [`CliError`] when the operating system refuses a handler.
    pub(super) fn watch(
        runtime: &Runtime,
        cancel: &Cancel,
        ui: &Arc<Ui>,
    ) -> Result<Self, CliError> {
        let _guard = runtime.enter();
        let refused = |error: std::io::Error| {
            CliError::new(codes::USAGE, "cannot watch for signals").with_note(error.to_string())
        };
        let signals = Self::default();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let mut hangup = match is_hangup_ignored() {
            true => None,
            false => Some(signal(SignalKind::hangup()).map_err(refused)?),
        };
        let (cancel, ui) = (cancel.clone(), Arc::clone(ui));
        let second = Arc::clone(&signals.0);
        // Ends with the runtime, which lives as long as the command.
        tokio::spawn(async move {
            let mut count = 0_u32;
            loop {
                let which = tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                    Some(_) = async { hangup.as_mut()?.recv().await } => HUNG_UP,
                };
                count += 1;
                if count == 1 {
                    ui.note(
                        "stopping: nothing new starts, calls in flight end and are recorded; once more stops at once",
                    );
                    cancel.soft.cancel();
                } else {
                    second.store(which, Ordering::SeqCst);
                    cancel.soft.cancel();
                    cancel.hard.cancel();
                }
            }
        });
        Ok(signals)
    }

    /// The exit that a second signal asks for.
    #[must_use]
    pub(super) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::SeqCst) {
            NONE => None,
            TERMINATED => Some(Exit::Terminated),
            HUNG_UP => Some(Exit::HungUp),
            _ => Some(Exit::Interrupted),
        }
    }

    /// How a command ended that failed: after a second signal with the exit that this asks for.
    #[must_use]
    pub(super) fn stopped(&self, error: CliError) -> CliError {
        match self.exit() {
            Some(exit) => error.with_exit(exit),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        for (status, ignored) in [
            (
                "Name:\talch\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n",
                false,
            ),
            (
                "Name:\talch\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n",
                true,
            ),
            ("SigIgn:\tunreadable\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), ignored, "{status}");
        }
    }
}
