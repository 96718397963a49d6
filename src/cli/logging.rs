//! `ALCH_LOG`: what the parts of the program note for those who look for a fault, through the face and its redactor.

use std::{io, sync::Arc};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{cli::environment::Environment, ui::Ui};

/// Writes whole lines to the face.
#[derive(Clone)]
struct ToUi(Arc<Ui>);

impl io::Write for ToUi {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.note(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ToUi {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Starts logging when `ALCH_LOG` asks for it: `debug`, `alch::provider=trace`.
pub(super) fn start(environment: &Environment, ui: &Arc<Ui>) {
    let Some(filter) = environment.get("ALCH_LOG") else {
        return;
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(ToUi(Arc::clone(ui)))
        .try_init();
    if let Err(error) = started {
        ui.note(format!("`ALCH_LOG` has no effect: {error}"));
    }
}
