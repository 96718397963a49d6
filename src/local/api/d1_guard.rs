//! What SQL may not do on a D1 database.
//!
//! SQLite itself splits the statements; this looks at the words of one prepared statement before it runs.

use rusqlite::Statement;

/// The longest single statement, in bytes.
const STATEMENT_LIMIT: usize = 100_000;
const TOO_LONG: &str = "statement too long: SQLITE_TOOBIG";
const NOT_AUTHORISED: &str = "not authorized: SQLITE_AUTH";
/// What may be asked with PRAGMA; all others could change the file behind the API's back.
const PRAGMAS: [&str; 18] = [
    "case_sensitive_like",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "function_list",
    "ignore_check_constraints",
    "index_info",
    "index_list",
    "index_xinfo",
    "legacy_alter_table",
    "optimize",
    "quick_check",
    "recursive_triggers",
    "reverse_unordered_selects",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Refuses a statement that would leave the database's own file, end the request's transaction, change how the file is
/// written, or touch what the platform keeps in it. The error is the message for the client.
pub(super) fn check(statement: &Statement<'_>) -> Result<(), String> {
    // Before anything is bound this is the text of this one statement.
    let Some(text) = statement.expanded_sql() else {
        return Err(TOO_LONG.to_owned());
    };
    if text.len() > STATEMENT_LIMIT {
        return Err(TOO_LONG.to_owned());
    }
    let tokens = tokens(&text);
    // SQLite takes empty statements before this one for a part of it.
    let mut words = tokens
        .iter()
        .map(|token| token.text.to_ascii_lowercase())
        .skip_while(|word| word == ";");
    let mut first = words.next().unwrap_or_default();
    if first == "explain" {
        first = words.next().unwrap_or_default();
        if first == "query" {
            words.next();
            first = words.next().unwrap_or_default();
        }
    }
    match first.as_str() {
        "begin" | "commit" | "end" | "rollback" | "savepoint" | "release" => {
            return Err("To execute a transaction, send the statements in one request: each request is one transaction. \
                 BEGIN, COMMIT and SAVEPOINT are not available.: SQLITE_AUTH".to_owned());
        }
        "attach" | "detach" | "vacuum" => return Err(NOT_AUTHORISED.to_owned()),
        "pragma" => {
            let name = words.next().unwrap_or_default();
            // `PRAGMA main.table_info(x)`: the schema comes first.
            let name = match words.next().as_deref() {
                Some(".") => words.next().unwrap_or_default(),
                _ => name,
            };
            if !PRAGMAS.contains(&name.as_str()) {
                return Err(NOT_AUTHORISED.to_owned());
            }
        }
        _ => {}
    }
    if let Some(token) = tokens.iter().find(|token| {
        token.is_name
            && token
                .text
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case("_cf_"))
    }) {
        return Err(format!(
            "access to {} is prohibited: SQLITE_AUTH",
            token.text
        ));
    }
    Ok(())
}

struct Token {
    text: String,
    /// Whether it can name a table: a bare word or one in double quotes, backticks or brackets.
    is_name: bool,
}

/// The tokens of a statement, without comments; only as exact as the checks above need.
fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first == '\u{feff}' {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(close) = closing_quote(first) {
            let inner = &rest[1..];
            let (text, after) = inner.split_once(close).unwrap_or((inner, ""));
            // SQLite takes a text literal for a name where only a name can stand.
            let after_keyword = tokens.last().is_some_and(|token| {
                [
                    "from", "join", "into", "update", "table", "exists", "on", ".",
                ]
                .contains(&token.text.to_ascii_lowercase().as_str())
            });
            tokens.push(Token {
                text: text.to_owned(),
                is_name: first != '\'' || after_keyword,
            });
            rest = after;
        } else {
            let word = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                .unwrap_or(rest.len());
            let length = if word == 0 { first.len_utf8() } else { word };
            tokens.push(Token {
                text: rest[..length].to_owned(),
                is_name: word > 0,
            });
            rest = &rest[length..];
        }
    }
    tokens
}

fn closing_quote(open: char) -> Option<char> {
    match open {
        '\'' | '"' | '`' => Some(open),
        '[' => Some(']'),
        _ => None,
    }
}
