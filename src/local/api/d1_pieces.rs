//! Cuts SQL into pieces of whole statements: SQLite copies all of the text that it is given for each statement that it takes
//! from it, so that a long dump must not be given to it at once.
//!
//! Where a statement ends is decided as SQLite's own `sqlite3_complete` does: at a semicolon outside of quotes and comments,
//! and in a trigger at `; END ;`. Text that is no SQL ends up in pieces that SQLite refuses as it would refuse the whole.

use std::io::{self, Read};

/// Where in a statement the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing of it yet, or `EXPLAIN`.
    Start,
    /// After `CREATE`, or `CREATE TEMP`.
    Create,
    /// In one that ends at the next semicolon.
    Plain,
    /// In a trigger.
    Trigger,
    /// In a trigger, after a semicolon.
    TriggerPause,
    /// In a trigger, after `; END`.
    TriggerEnd,
}

impl Place {
    fn after_word(self, word: &[u8]) -> Self {
        let is = |names: &[&str]| {
            names
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        match self {
            Self::Start if is(&["EXPLAIN", "QUERY", "PLAN"]) => Self::Start,
            Self::Start if is(&["CREATE"]) => Self::Create,
            Self::Create if is(&["TEMP", "TEMPORARY"]) => Self::Create,
            Self::Create if is(&["TRIGGER"]) => Self::Trigger,
            Self::TriggerPause if is(&["END"]) => Self::TriggerEnd,
            other => other.after_token(),
        }
    }

    fn after_token(self) -> Self {
        match self {
            Self::Start | Self::Create | Self::Plain => Self::Plain,
            Self::Trigger | Self::TriggerPause | Self::TriggerEnd => Self::Trigger,
        }
    }

    /// After a semicolon; [`Place::Start`] where the statement is over.
    fn after_semicolon(self) -> Self {
        match self {
            Self::Trigger | Self::TriggerPause => Self::TriggerPause,
            _ => Self::Start,
        }
    }
}

/// The pieces of what `source` reads, which together are all of it. Each but the last has at least `least` bytes. Only the
/// piece at hand and what is read ahead are in memory.
pub(super) struct Reading<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next piece begins.
    from: usize,
    ended: bool,
    least: usize,
}

impl<R: Read> Reading<R> {
    pub(super) fn new(source: R, least: usize) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            from: 0,
            ended: false,
            least,
        }
    }

    /// The next piece, whatever bytes it has; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let ahead = &self.buffer[self.from..];
            // What stands behind a piece has no part in where it ends.
            let found = complete(ahead, self.least);
            let length = match found {
                Some(length) => length,
                None if self.ended && ahead.is_empty() => return Ok(None),
                None if self.ended => ahead.len(),
                None => {
                    self.read_on()?;
                    continue;
                }
            };
            let begin = self.from;
            self.from += length;
            return Ok(Some(&self.buffer[begin..self.from]));
        }
    }

    /// Reads as much again as there is, so that a long statement is not looked through too often.
    fn read_on(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.from);
        self.from = 0;
        let wanted = self.buffer.len().max(self.least).max(1) as u64;
        let read = self
            .source
            .by_ref()
            .take(wanted)
            .read_to_end(&mut self.buffer)?;
        self.ended = (read as u64) < wanted;
        Ok(())
    }
}

/// Where the first piece ends, if a semicolon ends it.
fn complete(bytes: &[u8], least: usize) -> Option<usize> {
    let mut place = Place::Start;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest[0] {
            byte if byte.is_ascii_whitespace() => 1,
            b'-' if rest.starts_with(b"--") => until(rest, 2, b"\n"),
            b'/' if rest.starts_with(b"/*") => until(rest, 2, b"*/"),
            b';' => {
                place = place.after_semicolon();
                if place == Place::Start && at + 1 >= least {
                    return Some(at + 1);
                }
                1
            }
            byte if is_word(byte) => {
                let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                place = place.after_word(&rest[..length]);
                length
            }
            byte => {
                place = place.after_token();
                match byte {
                    // A quote within is doubled, and so begins the next text at once.
                    b'\'' | b'"' | b'`' => until(rest, 1, &[byte]),
                    b'[' => until(rest, 1, b"]"),
                    _ => 1,
                }
            }
        };
    }
    None
}

/// The length up to and with `mark`, looked for from `from` on; all where there is none.
fn until(text: &[u8], from: usize, mark: &[u8]) -> usize {
    let found = text[from..]
        .windows(mark.len())
        .position(|window| window == mark);
    found.map_or(text.len(), |index| from + index + mark.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces of a text that is looked at whole.
    fn pieces(sql: &str, least: usize) -> Vec<&str> {
        let mut rest = sql;
        let mut out = Vec::new();
        while !rest.is_empty() {
            let end = complete(rest.as_bytes(), least).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at(end);
            out.push(piece);
            rest = behind;
        }
        out
    }

    fn check(statements: &[&str]) {
        let sql = statements.concat();
        let found = pieces(&sql, 1);
        assert_eq!(found, statements);
    }

    #[test]
    fn each_statement_is_a_piece() {
        check(&["SELECT 1;", " SELECT 2;", "\n-- done"]);
        check(&["SELECT ';', \"a;\"\"b;\", `;`, [;], 'it''s;';", "SELECT é;"]);
        check(&[
            "/* ; */ SELECT 1 -- ; '\n;",
            "SELECT '-- ' ;",
            "/* ' */;",
            ";",
        ]);
        check(&["SELECT 1 / 2 - 1;", "SELECT 'open; SELECT 3;"]);
        check(&["SELECT 1;", "/* open; SELECT 3;"]);
        check(&[]);
    }

    #[test]
    fn a_trigger_ends_at_its_end() {
        let body = "ON t BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; ; SELECT ';END;'; -- ; END;\n END /* x */ ;";
        for head in [
            "CREATE TRIGGER g AFTER INSERT",
            "create temp trigger g after insert",
            " EXPLAIN /* a */ CREATE TEMPORARY TRIGGER g AFTER DELETE",
        ] {
            let trigger = format!("{head} {body}");
            check(&["SELECT 1;", &trigger, "SELECT 2;"]);
        }
        check(&[
            "CREATE TABLE trigger_(a);",
            "CREATE INDEX trigger ON t(a);",
            "END;",
        ]);
        check(&["CREATE TRIGGER g BEGIN END; SELECT 1;"]);
    }

    #[test]
    fn pieces_hold_as_many_statements_as_they_need() {
        let found = pieces("SELECT 1;SELECT 2;SELECT 3;", 10);
        assert_eq!(found, ["SELECT 1;SELECT 2;", "SELECT 3;"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(sql in "[;'\"`\\[\\]/*\\-a-cé \n]{0,60}", least in 0_usize..20) {
            let found = pieces(&sql, least);
            prop_assert_eq!(found.concat(), sql);
        }

        #[test]
        fn reading_finds_the_same_pieces(sql in "([;'\"`\\[\\]/*\\-a-cé \n]|CREATE TRIGGER|END;){0,60}", least in 0_usize..20) {
            let expected = pieces(&sql, least);
            let mut reading = Reading::new(sql.as_bytes(), least);
            let mut found = Vec::new();
            while let Some(piece) = reading.next().unwrap() {
                found.push(String::from_utf8(piece.to_vec()).unwrap());
            }
            prop_assert_eq!(found, expected);
        }
    }
}
