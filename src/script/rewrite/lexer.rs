//! Reads a script just deep enough to tell code from text and comments, and finds the places that get wrapped in calls, the
//! brackets that are open, and the comments.

use super::{DECIDED, INTERPOLATE, RENAMED};

/// Deeper nesting of interpolations and switches is left alone: Rhai refuses it anyway.
pub(super) const MAX_NESTING: usize = 500;

/// The sort of the last token, to tell a block from the cases of a `switch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Previous {
    Operator,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    End,
    /// Behind the bracket that closes the one just opened.
    Close,
    /// In front of the `{` that opens the cases of a `switch`.
    Cases,
}

pub(super) struct Lexer {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    /// Offset in the original text and what stands in front of it in the rewritten one.
    pub(super) inserts: Vec<(usize, String)>,
    pub(super) previous: Previous,
    /// Whether the last word was `fn`.
    pub(super) defines: bool,
    /// How many `${` and `switch` are open; beyond [`MAX_NESTING`] the rest of the text is skipped.
    pub(super) nesting: usize,
    /// Brackets that are open, with their offsets.
    pub(super) open: Vec<(usize, char)>,
    /// Where comments begin and end.
    pub(super) comments: Vec<(usize, usize)>,
    /// A comment that the end of the text closed.
    pub(super) open_comment: Option<usize>,
}

impl Lexer {
    pub(super) fn new(text: &str) -> Self {
        Self {
            chars: text.chars().collect(),
            at: 0,
            inserts: Vec::new(),
            previous: Previous::Operator,
            defines: false,
            nesting: 0,
            open: Vec::new(),
            comments: Vec::new(),
            open_comment: None,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Walks code. Iterative over brackets, so that deep nesting costs no stack; only `${` and `switch` recurse.
    pub(super) fn code(&mut self, until: Until) {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            self.at = self.chars.len();
            return;
        }
        self.tokens(until);
        if self.nesting <= MAX_NESTING {
            self.nesting -= 1;
        }
    }

    fn tokens(&mut self, until: Until) {
        let mut depth = 0_usize;
        // Blocks that belong to an `if` or `switch` within the value, and not to the `switch` around it.
        let mut blocks = 0_usize;
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.quoted('"'),
                '\'' => self.quoted('\''),
                '`' => self.template(),
                '#' if matches!(self.peek(1), Some('"' | '#')) => self.raw(),
                '#' if self.peek(1) == Some('{') => {
                    self.open.push((self.at, '{'));
                    self.at += 2;
                    depth += 1;
                    self.previous = Previous::Operator;
                }
                '{' if until == Until::Cases
                    && depth == 0
                    && self.previous == Previous::Value
                    && blocks == 0 =>
                {
                    return;
                }
                '(' | '[' | '{' => {
                    if depth == 0 && c == '{' && self.previous == Previous::Value {
                        blocks = blocks.saturating_sub(1);
                    }
                    self.open.push((self.at, c));
                    self.at += 1;
                    depth += 1;
                    self.previous = Previous::Operator;
                }
                ')' | ']' | '}' => {
                    if depth == 0 && until != Until::End {
                        // The end of a `${..}`, or a `switch` without cases.
                        return;
                    }
                    self.open.pop();
                    self.at += 1;
                    depth = depth.saturating_sub(1);
                    self.previous = Previous::Value;
                }
                c if c.is_alphabetic() || c == '_' => {
                    if self.word() && depth == 0 {
                        blocks += 1;
                    }
                }
                c if c.is_whitespace() => self.at += 1,
                c if c.is_ascii_digit() => {
                    self.at += 1;
                    self.previous = Previous::Value;
                }
                _ => {
                    self.at += 1;
                    self.previous = Previous::Operator;
                }
            }
        }
    }

    /// Steps over a word; answers whether a block belongs to it.
    fn word(&mut self) -> bool {
        let start = self.at;
        let is_property = start > 0 && self.chars[start - 1] == '.';
        while self
            .peek(0)
            .is_some_and(|c| c.is_alphanumeric() || c == '_')
        {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        self.previous = match word.as_str() {
            "in" | "return" | "throw" | "else" | "if" | "while" | "loop" | "do" | "switch"
                if !is_property =>
            {
                Previous::Operator
            }
            _ => Previous::Value,
        };
        let defined = std::mem::replace(&mut self.defines, word == "fn" && !is_property);
        if !defined && let Some((_, renamed)) = RENAMED.iter().find(|(name, _)| *name == word) {
            self.rename(start, renamed);
        }
        if word == "switch" && !is_property {
            self.switch();
            return true;
        }
        !is_property && matches!(word.as_str(), "if" | "while" | "for")
    }

    /// Writes another name of the same length over a call: not over keys, variables and functions of modules.
    fn rename(&mut self, start: usize, renamed: &str) {
        let qualified = start >= 2 && self.chars[start - 2..start] == [':', ':'];
        let called = self.chars[self.at..]
            .iter()
            .find(|c| !c.is_whitespace())
            .is_some_and(|c| *c == '(');
        if called && !qualified {
            for (slot, c) in self.chars[start..].iter_mut().zip(renamed.chars()) {
                *slot = c;
            }
        }
    }

    fn switch(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let slot = self.inserts.len();
        self.inserts.push((self.at, format!("{DECIDED}(")));
        self.code(Until::Cases);
        // Right in front of the `{`: a comment that runs to the end of the line is over there.
        if self.peek(0) == Some('{') {
            self.inserts.push((self.at, ")".to_owned()));
        } else {
            self.inserts.remove(slot);
        }
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
        self.comments.push((start, self.at));
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => {
                    depth += 1;
                    self.at += 2;
                }
                ('*', Some('/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        self.comments.push((start, self.at));
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.open_comment = Some(start);
    }

    fn quoted(&mut self, quote: char) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' => self.at += 1,
                // A `'` that opens no character and a string that is left open end with the line, unless it is continued.
                '\n' if quote == '\'' => break,
                c if c == quote => break,
                _ => {}
            }
        }
        self.previous = Previous::Value;
    }

    fn raw(&mut self) {
        let mut hashes = 0;
        while self.peek(hashes) == Some('#') {
            hashes += 1;
        }
        if self.peek(hashes) != Some('"') {
            self.at += hashes;
            return;
        }
        self.at += hashes + 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                break;
            }
        }
        self.previous = Previous::Value;
    }

    fn template(&mut self) {
        let start = self.at;
        let slot = self.inserts.len();
        let mut interpolated = false;
        self.at += 1;
        while let Some(c) = self.peek(0) {
            match c {
                '`' if self.peek(1) == Some('`') => self.at += 2,
                '`' => {
                    self.at += 1;
                    break;
                }
                '$' if self.peek(1) == Some('{') => {
                    interpolated = true;
                    self.open.push((self.at + 1, '{'));
                    self.at += 2;
                    self.previous = Previous::Operator;
                    self.code(Until::Close);
                    if self.peek(0).is_some() {
                        self.open.pop();
                        self.at += 1;
                    }
                }
                _ => self.at += 1,
            }
        }
        if interpolated {
            self.inserts
                .insert(slot, (start, format!("{INTERPOLATE}(")));
            self.inserts.push((self.at, ")".to_owned()));
        }
        self.previous = Previous::Value;
    }
}
