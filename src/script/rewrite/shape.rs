//! Brackets and comments of a text that need not be right.

use super::lexer::{Lexer, Until};

/// Brackets and comments of a text: what an error of the parser is told with.
#[derive(Debug, Default)]
pub(in crate::script) struct Shape {
    chars: Vec<char>,
    open: Vec<(usize, char)>,
    comments: Vec<(usize, usize)>,
    open_comment: Option<usize>,
}

impl Shape {
    /// Looks through `text`, which need not be right.
    pub(in crate::script) fn of(text: &str) -> Self {
        let mut lexer = Lexer::new(text);
        lexer.code(Until::End);
        Self {
            chars: lexer.chars,
            open: lexer.open,
            comments: lexer.comments,
            open_comment: lexer.open_comment,
        }
    }

    /// The innermost bracket that nothing closes and that `close` would close: line and column from 1.
    pub(in crate::script) fn unclosed(&self, close: char) -> Option<(u32, u32)> {
        let open = match close {
            ')' => '(',
            ']' => '[',
            '}' => '{',
            _ => return None,
        };
        let (at, _) = self.open.iter().rev().find(|(_, c)| *c == open)?;
        Some(self.place(*at))
    }

    /// A comment that nothing closes. Rhai takes the rest of the text for a comment without a word.
    pub(in crate::script) fn unclosed_comment(&self) -> Option<(u32, u32)> {
        Some(self.place(self.open_comment?))
    }

    /// Behind the last token in front of a place.
    pub(in crate::script) fn end_before(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let mut at = self.offset(line, column)?;
        loop {
            if let Some((start, _)) = self.comments.iter().find(|(_, end)| *end == at) {
                at = *start;
            } else if at > 0 && self.chars[at - 1].is_whitespace() {
                at -= 1;
            } else {
                return (at > 0).then(|| self.place(at));
            }
        }
    }

    fn offset(&self, line: u32, column: u32) -> Option<usize> {
        let mut lines = 1;
        let mut start = 0;
        for (index, c) in self.chars.iter().enumerate() {
            if lines == line {
                break;
            }
            if *c == '\n' {
                lines += 1;
                start = index + 1;
            }
        }
        let at = start + column as usize - 1;
        (lines == line && at <= self.chars.len()).then_some(at)
    }

    fn place(&self, at: usize) -> (u32, u32) {
        let before = &self.chars[..at.min(self.chars.len())];
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        (
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_tells_what_is_open_and_where_tokens_end() {
        let shape = Shape::of("run(`${f([])}`, || {\n  a(1) // no; brackets (\n\n");
        assert_eq!(shape.unclosed('}'), Some((1, 20)));
        assert_eq!(shape.unclosed(')'), Some((1, 4)));
        assert_eq!(shape.unclosed(']'), None);
        assert_eq!(shape.end_before(3, 1), Some((2, 7)));
        assert_eq!(shape.unclosed_comment(), None);
        let shape = Shape::of("a /* b */\n /* c /* d */");
        assert_eq!(shape.unclosed_comment(), Some((2, 2)));
        assert_eq!(shape.end_before(2, 2), Some((1, 2)));
    }
}
