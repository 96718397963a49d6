//! The colours, named for what they mean. Whether they reach the terminal is decided where the stream is.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

use crate::engine::Action;

/// Something new, or something that went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something that changes.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Something that goes, or that went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Something taken over.
pub const TAKEN: Style = AnsiColor::Cyan.on_default();
/// Something that matters less.
pub const FAINT: Style = Style::new().dimmed();
/// Something that matters more.
pub const STRONG: Style = Style::new().bold();

/// The style of an action.
#[must_use]
pub fn of_action(action: Action) -> Style {
    match action {
        Action::Create => GOOD,
        Action::Update | Action::Replace => CHANGE,
        Action::Delete => BAD,
        Action::Adopt => TAKEN,
        Action::Unchanged | Action::Forget => FAINT,
    }
}

/// `text` in `style`.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
