//! Ctrl-C in two steps: the first lets calls in flight end and be recorded, the second stops at once.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
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
};

const NONE: u8 = 0;
const INTERRUPTED: u8 = 1;
const TERMINATED: u8 = 2;

/// Remembers whether a second signal came, and which.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Watches SIGINT and SIGTERM until the runtime ends.
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
        let (cancel, ui) = (cancel.clone(), Arc::clone(ui));
        let second = Arc::clone(&signals.0);
        // Ends with the runtime, which lives as long as the command.
        tokio::spawn(async move {
            let mut count = 0_u32;
            loop {
                let which = tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
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
            _ => Some(Exit::Interrupted),
        }
    }
}
