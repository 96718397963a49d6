//! Questions to the person at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::Ui;

/// Whether somebody is there to answer.
#[must_use]
pub fn interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that only the exact `answer` consents to.
///
/// # Errors
/// When the terminal cannot be read.
pub fn confirm(ui: &Ui, question: &str, answer: &str) -> io::Result<bool> {
    ui.note(format!("{question}\ntype `{answer}` to go on:"));
    ui.flush();
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    Ok(typed.trim() == answer)
}
