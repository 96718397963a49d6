//! Questions to the person at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

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

/// Asks a question that any line answers.
///
/// # Errors
/// When the terminal cannot be read.
pub fn line(ui: &Ui, question: &str) -> io::Result<String> {
    ui.note(question);
    ui.flush();
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    Ok(typed)
}

/// Longest secret that is read.
const SECRET_LIMIT: usize = 4096;

/// Gives the terminal its settings back.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // A terminal that went away needs no settings.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// Asks for a secret: what is typed is not shown.
///
/// # Errors
/// Of kind `Interrupted` after Ctrl-C, and when the terminal cannot be read.
pub fn hidden(ui: &Ui, question: &str) -> io::Result<Zeroizing<String>> {
    let shown = tcgetattr(io::stdin())?;
    let mut quiet = shown.clone();
    // Ctrl-C comes as a byte, so that it cannot end the program before the terminal is as it was.
    quiet
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
    quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
    let restore = Restore(shown);
    tcsetattr(io::stdin(), OptionalActions::Now, &quiet)?;
    // Asked once nothing is shown any more: an answer may come at once.
    ui.note(question);
    ui.flush();
    let mut typed = Zeroizing::new(Vec::with_capacity(SECRET_LIMIT));
    for byte in io::stdin().lock().bytes() {
        match byte? {
            b'\n' | b'\r' | 4 => break,
            3 => return Err(io::ErrorKind::Interrupted.into()),
            8 | 127 => {
                typed.pop();
            }
            byte if typed.len() < SECRET_LIMIT => typed.push(byte),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    drop(restore);
    let text = str::from_utf8(&typed).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}
