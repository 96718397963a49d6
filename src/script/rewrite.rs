//! Rewrites a script so that values that are not known yet cannot be lost without a word.
//!
//! Rhai turns interpolated strings into plain text and compares `switch` values by hash, and neither can be overloaded. So
//! every back-tick string with `${` in it becomes ``__interpolate(`..`)`` and every `switch` value becomes `__decided(..)`.
//! Both functions answer ordinary values untouched. Rhai also needs `to_string`, `to_debug` and `type_of` for itself, so calls
//! of the script go to functions of the same length that know unknown values. Lines never move; a [`SourceMap`] leads columns back to the user's.
//! Where something is inserted is found out by `lexer`; what else it sees of a text is kept as a [`Shape`].

mod lexer;
mod shape;

pub(super) use shape::Shape;

use lexer::{Lexer, MAX_NESTING, Until};

/// What an interpolated string is wrapped in.
pub(super) const INTERPOLATE: &str = "__interpolate";
/// What the value of a `switch` is wrapped in.
pub(super) const DECIDED: &str = "__decided";

/// What calls of the script go to instead of Rhai's own functions. As long as these, so that no column moves.
pub(super) const TO_STRING: &str = "__to_text";
/// As [`TO_STRING`], for `to_debug`.
pub(super) const TO_DEBUG: &str = "__to_dbg";
/// As [`TO_STRING`], for `type_of`.
pub(super) const TYPE_OF: &str = "__typeo";

const RENAMED: [(&str, &str); 3] = [
    ("to_string", TO_STRING),
    ("to_debug", TO_DEBUG),
    ("type_of", TYPE_OF),
];

/// The name of a function as the script writes it.
pub(super) fn written(name: &str) -> &str {
    RENAMED
        .iter()
        .find(|(_, renamed)| *renamed == name)
        .map_or(name, |(written, _)| written)
}

/// Leads columns of the rewritten text back to the user's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceMap {
    /// Per line (from 1): where text was inserted, as (column in the rewritten line, length), ascending.
    lines: std::collections::HashMap<u32, Vec<(u32, u32)>>,
}

impl SourceMap {
    /// The user's column for a column of the rewritten text; both count characters from 1.
    pub(super) fn column(&self, line: u32, column: u32) -> u32 {
        let Some(inserts) = self.lines.get(&line) else {
            return column;
        };
        let mut shift = 0;
        for (at, length) in inserts {
            if column < *at {
                break;
            }
            // A place inside inserted text stands for the text behind it.
            shift += (column - at).min(*length);
        }
        column - shift
    }
}

/// The rewritten text and the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) map: SourceMap,
}

/// Rewrites `text`. Text that Rhai would refuse may come out in any form: the caller parses the original first then.
pub(super) fn rewrite(text: &str) -> Rewritten {
    let plain = !text.contains("${")
        && !text.contains("switch")
        && !RENAMED.iter().any(|(name, _)| text.contains(name));
    if plain {
        return Rewritten {
            text: text.to_owned(),
            map: SourceMap::default(),
        };
    }
    let mut lexer = Lexer::new(text);
    lexer.code(Until::End);
    if lexer.nesting > MAX_NESTING {
        lexer.inserts.clear();
    }
    apply(&lexer)
}

/// The text with everything inserted.
fn apply(lexer: &Lexer) -> Rewritten {
    let mut text = String::with_capacity(lexer.chars.len() + lexer.inserts.len() * 16);
    let mut map = SourceMap::default();
    let mut inserts = lexer.inserts.iter().peekable();
    let (mut line, mut column) = (1_u32, 1_u32);
    for (offset, c) in lexer.chars.iter().enumerate() {
        while let Some((_, insert)) = inserts.next_if(|(at, _)| *at == offset) {
            let length = u32::try_from(insert.len()).unwrap_or(0);
            map.lines.entry(line).or_default().push((column, length));
            text.push_str(insert);
            column += length;
        }
        text.push(*c);
        if *c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    for (_, insert) in inserts {
        let length = u32::try_from(insert.len()).unwrap_or(0);
        map.lines.entry(line).or_default().push((column, length));
        text.push_str(insert);
        column += length;
    }
    Rewritten { text, map }
}

#[cfg(test)]
mod tests;
