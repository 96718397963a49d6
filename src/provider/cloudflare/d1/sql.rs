//! A look at SQL text, just deep enough to tell its statements apart: for messages, and to append a statement safely.

/// One statement of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// Line of its first word, from 1.
    pub(super) line: usize,
    /// Its text, without the `;`.
    pub(super) text: &'a str,
    /// Whether a `;` ends it.
    pub(super) closed: bool,
}

/// The statements of `sql`; comments and blanks between them are left out.
pub(super) fn statements(sql: &str) -> Vec<Statement<'_>> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let mut start: Option<usize> = None;
    let mut end = 0;
    let mut block = Block::default();
    let mut at = 0;
    while at < bytes.len() {
        let next = match bytes[at] {
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = skip_to(sql, at, "\n");
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = skip_to(sql, at + 2, "*/");
                continue;
            }
            b'\'' | b'"' | b'`' => skip_quoted(bytes, at, bytes[at]),
            b'[' => skip_to(sql, at, "]"),
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
                    .count();
                block.word(&sql[at..at + length]);
                at + length
            }
            b';' if !block.open() => {
                if let Some(from) = start.take() {
                    out.push(statement(sql, from, end, true));
                }
                block = Block::default();
                at += 1;
                continue;
            }
            _ => at + 1,
        };
        start.get_or_insert(at);
        at = next;
        end = at;
    }
    if let Some(from) = start {
        out.push(statement(sql, from, end, false));
    }
    out
}

/// Follows `CREATE TRIGGER .. BEGIN ..; END`, whose body holds `;`.
#[derive(Default)]
struct Block {
    words: usize,
    create: bool,
    trigger: bool,
    depth: usize,
}

impl Block {
    fn word(&mut self, word: &str) {
        self.words += 1;
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if self.words == 1 {
            self.create = is("create");
        } else if self.create && self.words <= 3 && is("trigger") {
            self.trigger = true;
        } else if self.trigger && (is("begin") || is("case")) {
            self.depth += 1;
        } else if self.trigger && is("end") {
            self.depth = self.depth.saturating_sub(1);
        }
    }

    fn open(&self) -> bool {
        self.depth > 0
    }
}

fn statement(sql: &str, from: usize, to: usize, closed: bool) -> Statement<'_> {
    Statement {
        line: sql[..from].bytes().filter(|byte| *byte == b'\n').count() + 1,
        text: &sql[from..to],
        closed,
    }
}

fn skip_to(sql: &str, from: usize, end: &str) -> usize {
    sql[from..]
        .find(end)
        .map_or(sql.len(), |at| from + at + end.len())
}

/// The place after a quoted text; a doubled quote stands for itself.
fn skip_quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    bytes.len()
}

/// The statement that an error message of SQLite is most likely about: the only one there is, or the only one that
/// holds what the message names.
pub(super) fn culprit<'a>(sql: &'a str, message: &str) -> Option<Statement<'a>> {
    let mut all = statements(sql);
    if all.len() == 1 {
        return all.pop();
    }
    let named = named(message)?;
    let holds = |statement: &&Statement<'_>| {
        statement
            .text
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word.eq_ignore_ascii_case(named))
    };
    let mut matching = all.iter().filter(holds);
    let first = matching.next()?;
    matching.next().is_none().then(|| first.clone())
}

/// What a message of SQLite names: `near "x"`, `no such table: x`, `table x already exists`.
fn named(message: &str) -> Option<&str> {
    let word = |text: &str, from: usize| {
        let length = text[from..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len() - from);
        from + length
    };
    for before in [
        "near \"",
        "no such table: ",
        "no such column: ",
        "no such function: ",
        "duplicate column name: ",
        "table ",
        "index ",
    ] {
        if let Some(at) = message.find(before) {
            let from = at + before.len();
            let name = &message[from..word(message, from)];
            if !name.is_empty() {
                return Some(name);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<(usize, &str, bool)> {
        statements(sql)
            .into_iter()
            .map(|s| (s.line, s.text, s.closed))
            .collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_quotes_comments_and_triggers() {
        assert_eq!(texts("-- only; a comment\n"), []);
        assert_eq!(
            texts("-- a;\nINSERT INTO t VALUES (';', 'it''s');\n/* ; */ SELECT 1 -- ;\n"),
            [
                (2, "INSERT INTO t VALUES (';', 'it''s')", true),
                (3, "SELECT 1", false)
            ]
        );
        let trigger = "CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = CASE 1 WHEN 1 THEN 2 END; SELECT 1; END";
        assert_eq!(
            texts(&format!("{trigger};SELECT 2;")),
            [(1, trigger, true), (1, "SELECT 2", true)]
        );
        assert_eq!(texts("SELECT 'open"), [(1, "SELECT 'open", false)]);
    }

    #[test]
    fn the_statement_that_a_message_is_about_is_found_when_it_is_certain() {
        let sql = "CREATE TABLE a(x);\nCREATE TABEL b(y);\nINSERT INTO missing VALUES (1);";
        let line = |message: &str| culprit(sql, message).map(|s| s.line);
        assert_eq!(
            line("near \"TABEL\": syntax error at offset 7: SQLITE_ERROR"),
            Some(2)
        );
        assert_eq!(line("no such table: missing: SQLITE_ERROR"), Some(3));
        assert_eq!(line("near \"CREATE\": syntax error"), None);
        assert_eq!(line("too big"), None);
        assert_eq!(culprit("SELECT x", "too big").map(|s| s.line), Some(1));
    }
}
