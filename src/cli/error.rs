//! The one place where typed errors become what the user sees: a diagnostic with a next step, and an exit code.

use std::sync::Arc;

use crate::{
    cli::exit::Exit,
    engine::{
        RunError,
        diagnose::{rename_diagnostic, state_diagnostic, vault_diagnostic},
        rename::RenameError,
    },
    model::{Diagnostic, ErrorCode, Label, NameError, SourceFile, StagePath, diagnostic::codes},
    secret::VaultError,
    state::StateError,
    util::fs::FsError,
};

/// Why a command ended badly.
#[derive(Debug)]
pub struct CliError {
    /// What the user sees; several for a script with several mistakes.
    pub diagnostics: Vec<Diagnostic>,
    /// How the program ends.
    pub exit: Exit,
}

impl CliError {
    /// An error with an id; the exit follows from it.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Diagnostic::error(code, message).into()
    }

    /// A command line that does not make sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(codes::USAGE, message)
    }

    /// The same with a next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        if let Some(last) = self.diagnostics.last_mut() {
            last.help.push(help.into());
        }
        self
    }

    /// The same with a fact.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        if let Some(last) = self.diagnostics.last_mut() {
            last.notes.push(note.into());
        }
        self
    }

    /// The same with another exit.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same with a place in a file.
    #[must_use]
    pub fn at(mut self, name: String, text: String, line: u32, column: u32) -> Self {
        if let Some(last) = self.diagnostics.last_mut() {
            last.labels.push(Label {
                source: Arc::new(SourceFile { name, text }),
                line,
                column,
                length: 0,
                text: String::new(),
                primary: true,
            });
        }
        self
    }

    /// A stage without state.
    #[must_use]
    pub fn no_stage(stage: &StagePath, others: &[StagePath]) -> Self {
        let error = Self::new(codes::NO_STAGE, format!("stage {stage} has no state"));
        if others.is_empty() {
            return error.with_help("`alch run` deploys it");
        }
        let names: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
        let flag = if others.iter().any(|other| other.app == stage.app) {
            "--stage NAME"
        } else {
            "--app NAME"
        };
        error
            .with_note(format!("stages with state: {}", names.join(", ")))
            .with_help(format!("choose one with `{flag}`"))
    }
}

impl From<Diagnostic> for CliError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            exit: Exit::of_diagnostic(&diagnostic),
            diagnostics: vec![diagnostic],
        }
    }
}

impl From<Vec<Diagnostic>> for CliError {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            exit: diagnostics.first().map_or(Exit::Error, Exit::of_diagnostic),
            diagnostics,
        }
    }
}

impl From<FsError> for CliError {
    fn from(error: FsError) -> Self {
        Self::new(codes::STATE_IO, error.to_string()).with_note(error.source.to_string())
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        Self::new(codes::BAD_ID, error.to_string())
            .with_help("choose another name; it becomes part of names and of folders in state")
            .with_exit(Exit::Usage)
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        state_diagnostic(&error).into()
    }
}

impl From<VaultError> for CliError {
    fn from(error: VaultError) -> Self {
        vault_diagnostic(&error).into()
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        error.diagnostic().into()
    }
}

impl From<RenameError> for CliError {
    fn from(error: RenameError) -> Self {
        let diagnostic = rename_diagnostic(&error);
        match error {
            RenameError::Missing(_) => Self::from(diagnostic).with_exit(Exit::NotFound),
            _ => diagnostic.into(),
        }
    }
}
