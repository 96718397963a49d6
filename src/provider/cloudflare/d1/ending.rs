//! How a SQL text ends, told without having it whole: whether another statement can follow it, and after what.

/// Follows SQL text piece by piece, as deep as quotes and comments go.
#[derive(Debug, Default)]
pub(super) struct Ending {
    state: State,
    /// Whether a statement has begun that no `;` has ended.
    open: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// After a `-` that may begin a comment.
    Dash,
    /// After a `/` that may begin a comment.
    Slash,
    Line,
    Block,
    /// After a `*` that may end a comment.
    Star,
    /// Within a quoted text, up to this byte. A doubled quote ends one and begins another.
    Quoted(u8),
}

impl Ending {
    /// Reads on.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.state = match (self.state, byte) {
                (State::Dash, b'-') => State::Line,
                (State::Slash, b'*') => State::Block,
                (State::Dash | State::Slash, _) => {
                    self.open = true;
                    self.plain(byte)
                }
                (State::Plain, _) => self.plain(byte),
                (State::Line, b'\n') | (State::Star, b'/') => State::Plain,
                (State::Block | State::Star, b'*') => State::Star,
                (State::Star, _) => State::Block,
                (State::Quoted(end), _) if byte == end => State::Plain,
                (state, _) => state,
            };
        }
    }

    fn plain(&mut self, byte: u8) -> State {
        match byte {
            b'-' => State::Dash,
            b'/' => State::Slash,
            b';' => {
                self.open = false;
                State::Plain
            }
            _ if byte.is_ascii_whitespace() => State::Plain,
            _ => {
                self.open = true;
                match byte {
                    b'\'' | b'"' | b'`' => State::Quoted(byte),
                    b'[' => State::Quoted(b']'),
                    _ => State::Plain,
                }
            }
        }
    }

    /// What has to stand between this text and a statement that follows it; none where a comment or a quoted text would
    /// swallow whatever follows.
    pub(super) fn separator(&self) -> Option<&'static str> {
        match self.state {
            State::Block | State::Star | State::Quoted(_) => None,
            State::Dash | State::Slash => Some("\n;\n"),
            State::Plain | State::Line if self.open => Some("\n;\n"),
            State::Plain | State::Line => Some("\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_told_whatever_the_pieces() {
        for (sql, separator) in [
            ("", Some("\n")),
            ("SELECT 1;", Some("\n")),
            ("SELECT 1; -- done; really", Some("\n")),
            ("SELECT 1 -- done;", Some("\n;\n")),
            ("SELECT 1; /* ; **/ ", Some("\n")),
            ("SELECT 3 / 2 - 1", Some("\n;\n")),
            ("SELECT 1; -", Some("\n;\n")),
            ("SELECT 'it''s; -- no comment';", Some("\n")),
            ("SELECT [a;'b]", Some("\n;\n")),
            ("SELECT \"--\";", Some("\n")),
            ("SELECT 'open;", None),
            ("SELECT 1; /* open *", None),
        ] {
            for size in [1, 2, 3, 100] {
                let mut ending = Ending::default();
                for piece in sql.as_bytes().chunks(size) {
                    ending.feed(piece);
                }
                assert_eq!(ending.separator(), separator, "{sql} in pieces of {size}");
            }
        }
    }
}
