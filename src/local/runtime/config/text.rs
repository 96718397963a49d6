//! Strings and files as the language of the configuration wants them.

use std::path::Path;

/// A string as the language of the configuration wants it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

pub(super) fn embed(path: &Path) -> String {
    format!("embed {}", quoted(&path.to_string_lossy()))
}
