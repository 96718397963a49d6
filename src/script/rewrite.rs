//! Rewrites a script so that values that are not known yet cannot be lost without a word.
//!
//! Rhai turns interpolated strings into plain text and compares `switch` values by hash, and neither can be overloaded. So
//! every back-tick string with `${` in it becomes ``__interpolate(`..`)`` and every `switch` value becomes `__decided(..)`.
//! Both functions answer ordinary values untouched. Lines never move; a [`SourceMap`] leads columns back to the user's.

/// What an interpolated string is wrapped in.
pub(super) const INTERPOLATE: &str = "__interpolate";
/// What the value of a `switch` is wrapped in.
pub(super) const DECIDED: &str = "__decided";

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
    /// Where a comment begins that never ends, as offset in characters. Rhai takes the rest of the text for comment then.
    pub(super) open_comment: Option<usize>,
}

/// Rewrites `text`. Text that Rhai would refuse may come out in any form: the caller parses the original first then.
pub(super) fn rewrite(text: &str) -> Rewritten {
    if !["${", "switch", "/*"]
        .iter()
        .any(|part| text.contains(part))
    {
        return Rewritten {
            text: text.to_owned(),
            map: SourceMap::default(),
            open_comment: None,
        };
    }
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        inserts: Vec::new(),
        previous: Previous::Operator,
        nesting: 0,
        open_comment: None,
    };
    lexer.code(Until::End);
    if lexer.nesting > MAX_NESTING {
        lexer.inserts.clear();
    }
    lexer.apply()
}

/// Deeper nesting of interpolations and switches is left alone: Rhai refuses it anyway.
const MAX_NESTING: usize = 500;

/// The sort of the last token, to tell a block from the cases of a `switch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Previous {
    Operator,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    /// Behind the bracket that closes the one just opened.
    Close,
    /// In front of the `{` that opens the cases of a `switch`.
    Cases,
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    /// Offset in the original text and what stands in front of it in the rewritten one.
    inserts: Vec<(usize, String)>,
    previous: Previous,
    /// How many `${` and `switch` are open; beyond [`MAX_NESTING`] the rest of the text is skipped.
    nesting: usize,
    open_comment: Option<usize>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Walks code. Iterative over brackets, so that deep nesting costs no stack; only `${` and `switch` recurse.
    fn code(&mut self, until: Until) {
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
                    self.at += 1;
                    depth += 1;
                    self.previous = Previous::Operator;
                }
                ')' | ']' | '}' => {
                    if depth == 0 && until != Until::End {
                        // The end of a `${..}`, or a `switch` without cases.
                        return;
                    }
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
        if word == "switch" && !is_property {
            self.switch();
            return true;
        }
        !is_property && matches!(word.as_str(), "if" | "while" | "for")
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
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let begin = self.at;
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
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.open_comment = Some(begin);
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
                    self.at += 2;
                    self.previous = Previous::Operator;
                    self.code(Until::Close);
                    self.at += usize::from(self.peek(0).is_some());
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

    fn apply(self) -> Rewritten {
        let mut text = String::with_capacity(self.chars.len() + self.inserts.len() * 16);
        let mut map = SourceMap::default();
        let mut inserts = self.inserts.iter().peekable();
        let (mut line, mut column) = (1_u32, 1_u32);
        for (offset, c) in self.chars.iter().enumerate() {
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
        Rewritten {
            text,
            map,
            open_comment: self.open_comment,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rhai::{Dynamic, Engine, OptimizationLevel};

    use super::*;

    fn engine() -> Engine {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        engine.register_fn(INTERPOLATE, |value: Dynamic| value);
        engine.register_fn(DECIDED, |value: Dynamic| value);
        engine
    }

    #[test]
    fn interpolations_and_switches_are_wrapped() {
        for (text, expected) in [
            ("`a`", "`a`"),
            ("`a${1}`", "__interpolate(`a${1}`)"),
            (
                "`a${`b${2}`}c`",
                "__interpolate(`a${__interpolate(`b${2}`)}c`)",
            ),
            ("\"${1}\"", "\"${1}\""),
            ("// `${1}`\n1", "// `${1}`\n1"),
            ("/* /* `${1}` */ switch */ 1", "/* /* `${1}` */ switch */ 1"),
            ("#\"`${1}` \" # \"#", "#\"`${1}` \" # \"#"),
            ("'`' + `${1}`", "'`' + __interpolate(`${1}`)"),
            ("`a``${1}`", "__interpolate(`a``${1}`)"),
            ("switch x { 1 => 2 }", "switch __decided(x ){ 1 => 2 }"),
            (
                "switch #{a: 1}.a { 1 => 2 }",
                "switch __decided(#{a: 1}.a ){ 1 => 2 }",
            ),
            (
                "switch {1} { 1 => `${2}` }",
                "switch __decided({1} ){ 1 => __interpolate(`${2}`) }",
            ),
            ("x.switch", "x.switch"),
        ] {
            assert_eq!(rewrite(text).text, expected, "{text}");
        }
    }

    #[test]
    fn scripts_mean_the_same_after_rewriting() {
        for text in [
            "let a = 1; `x-${a}-${`y${a + 1}`}`",
            "let f = |x| `<${x}>`; f.call(`${f.call(1)}`)",
            "switch 3 { 1 => `a`, 2 | 3 if true => `b${1}`, _ => `c` }",
            "switch (switch 1 { 1 => 2, _ => 3 }) { 2 => `two`, _ => `other` }",
            "let s = #\"`${1}`\"#; s + `${s}` + '`' + \"`${\\\"\"",
            "`a${#{b: [1, `${2}`]}.b[1]}}`",
            "`line one\n${1 +\n 2}\nline two`",
            "let r = []; for i in 0..3 { r.push(switch i { 0 => `z`, 1..3 => `n${i}`, _ => () }) } r.len()",
            "switch `k${1}` { \"k1\" => 1, _ => 2 }",
            "/* ` */ `${1}` // `",
            "switch if true { 1 } else { 2 } { 1 => 10, _ => 20 }",
        ] {
            let engine = engine();
            let plain = engine.eval::<Dynamic>(text).map(|v| v.to_string());
            let rewritten = rewrite(text).text;
            let after = engine.eval::<Dynamic>(&rewritten).map(|v| v.to_string());
            assert_eq!(plain.unwrap(), after.expect(&rewritten), "{text}");
        }
    }

    #[test]
    fn columns_lead_back() {
        let text = "let x = `a${1}`; switch x { 1 => missing };";
        let rewritten = rewrite(text);
        for name in ["x =", "`a", "1}", "switch", "x {", "missing"] {
            let original = text.find(name).unwrap() as u32 + 1;
            let name = name.split(' ').next().unwrap();
            let moved = rewritten
                .text
                .find(&format!("{name} "))
                .or(rewritten.text.find(name));
            let moved = match name {
                "x" if original > 20 => rewritten.text.find("x ){").unwrap(),
                _ => moved.unwrap(),
            } as u32
                + 1;
            assert_eq!(rewritten.map.column(1, moved), original, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_rewritten_without_panic_and_leads_back(text in "[a-z`$\\{\\}()\\[\\]#\"'/*\\\\ \n]{0,60}|(switch |`\\$\\{|\\}`|\\{|x ){0,12}") {
            let rewritten = rewrite(&text);
            // Taking the inserts out again gives the text.
            let stripped = rewritten.text.replace("__interpolate(", "").replace("__decided(", "");
            prop_assert!(stripped.len() >= text.len());
            for (index, line) in rewritten.text.lines().enumerate() {
                let original = text.lines().nth(index).unwrap_or("");
                let line_number = u32::try_from(index).unwrap() + 1;
                for column in 1..=u32::try_from(line.chars().count()).unwrap() {
                    let back = rewritten.map.column(line_number, column);
                    prop_assert!(back >= 1 && back as usize <= original.chars().count() + 1);
                }
            }
        }
    }
}
