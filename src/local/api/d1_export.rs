//! Dumps out of D1 databases: SQL that makes the same database again, behind a link for an hour.
//!
//! A dump is made within the request, so that the first answer is the last.

use std::io::Write as _;

use rusqlite::{Connection, Transaction, TransactionBehavior, types::ValueRef};
use serde_json::{Map, Value, json};

use super::{
    call::Call,
    d1::{self, INVALID},
    d1_query::sql_message,
    d1_time_travel::bookmark,
    envelope::{ApiResult, ok},
    error::ApiError,
    signed,
};
use crate::{
    local::{Cloud, data, layout},
    util::fs,
};

/// The most bytes of a dump.
const DUMP_LIMIT: usize = 512 * 1024 * 1024;

/// The table of how far each id was counted up.
const SEQUENCE: &str = "sqlite_sequence";

/// What goes into a dump.
struct Choice {
    schema: bool,
    data: bool,
    /// The tables; all when there are none.
    tables: Vec<String>,
}

impl Choice {
    fn of(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let none = Map::new();
        let options = match body.get("dump_options") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(options)) => options,
            Some(_) => return Err(invalid("dump_options must be an object")),
        };
        let flag = |name: &str| match options.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(invalid(&format!("dump_options.{name} must be a boolean"))),
        };
        let tables = match options.get("tables") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(tables)) => tables
                .iter()
                .map(|table| table.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| invalid("dump_options.tables must be a list of names"))?,
            Some(_) => return Err(invalid("dump_options.tables must be a list of names")),
        };
        Ok(Self {
            schema: !flag("no_schema")?,
            data: !flag("no_data")?,
            tables,
        })
    }

    fn wants(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|name| name == table)
    }
}

/// `POST …/export`.
pub(super) fn export(cloud: &Cloud, call: &Call) -> ApiResult {
    let database = d1::find(cloud, call)?.uuid;
    let body = call.object(INVALID)?;
    if body.get("output_format").and_then(Value::as_str) != Some("polling") {
        return Err(invalid("output_format is required and must be polling"));
    }
    let choice = Choice::of(&body)?;
    signed::sweep(cloud)?;
    let connection = data::open(&layout::d1_file(&cloud.folder, &database))?;
    call.interrupt.watch(&connection);
    let bookmark = bookmark(cloud, &database);
    match dump(&connection, &choice) {
        Ok(sql) => {
            let file = format!(
                "{database}-{bookmark}-{}.sql",
                uuid::Uuid::new_v4().simple()
            );
            let path = signed::path(cloud, &file);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write_private(&path, &sql)?;
            ok(&json!({
                "success": true,
                "type": "export",
                "status": "complete",
                "at_bookmark": bookmark,
                "messages": [],
                "result": {
                    "filename": file,
                    "signed_url": signed::link(cloud, call, "GET", &file)?,
                },
            }))
        }
        Err(reason) => ok(&json!({
            "success": false,
            "type": "export",
            "status": "error",
            "at_bookmark": bookmark,
            "error": reason,
            "messages": [],
        })),
    }
}

/// The SQL of a database at one moment. The error is the message for the client.
fn dump(connection: &Connection, choice: &Choice) -> Result<Vec<u8>, String> {
    let failed = |error: rusqlite::Error| sql_message(&error);
    // All is read in one transaction: what others write meanwhile is not in it.
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Deferred).map_err(failed)?;
    let mut dump = Dump {
        bytes: Vec::new(),
        line: String::new(),
    };
    dump.line("PRAGMA defer_foreign_keys=TRUE;")?;
    let objects = objects(connection).map_err(failed)?;
    for wanted in &choice.tables {
        if !objects
            .iter()
            .any(|object| object.is_table() && object.name == *wanted)
        {
            return Err(format!("no such table: {wanted}"));
        }
    }
    let tables: Vec<&Object> = objects
        .iter()
        .filter(|object| object.is_table() && choice.wants(&object.name))
        .collect();
    // All tables before any row: a row may refer to a table that was made later.
    for table in tables.iter().filter(|table| !table.is_sequence()) {
        if is_virtual(&table.sql) {
            return Err(format!(
                "cannot export databases with virtual tables: {}",
                table.name
            ));
        }
        if choice.schema {
            dump.statement(&table.sql)?;
        }
    }
    if choice.data {
        for table in tables.iter().filter(|table| !table.is_sequence()) {
            dump.rows(connection, &table.name)?;
        }
        // The rows above have counted it up, though not always to where it was.
        if tables.iter().any(|table| table.is_sequence()) {
            dump.line("DELETE FROM sqlite_sequence;")?;
            dump.rows(connection, SEQUENCE)?;
        }
    }
    if choice.schema {
        for object in objects
            .iter()
            .filter(|object| !object.is_table() && choice.wants(&object.table))
        {
            dump.statement(&object.sql)?;
        }
    }
    drop(transaction);
    Ok(dump.bytes)
}

/// An entry of the schema that was written by the user.
struct Object {
    kind: String,
    name: String,
    /// The table that it belongs to.
    table: String,
    sql: String,
}

impl Object {
    fn is_table(&self) -> bool {
        self.kind == "table"
    }

    /// Whether SQLite itself makes it, with the first table that counts up its ids.
    fn is_sequence(&self) -> bool {
        self.name == SEQUENCE
    }
}

fn is_virtual(sql: &str) -> bool {
    sql.get(..14)
        .is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL"))
}

/// What the schema holds, without what the platform or SQLite itself keeps there. Indexes without SQL come with their table.
fn objects(connection: &Connection) -> Result<Vec<Object>, rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND (name = 'sqlite_sequence' OR name NOT LIKE 'sqlite\\_%' ESCAPE '\\')
           AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'
         ORDER BY rowid",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Object {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    })?;
    rows.collect()
}

struct Dump {
    bytes: Vec<u8>,
    /// Used for each row again.
    line: String,
}

impl Dump {
    fn line(&mut self, text: &str) -> Result<(), String> {
        if self.bytes.len() + text.len() > DUMP_LIMIT {
            return Err(format!("the dump is larger than {} MiB", DUMP_LIMIT >> 20));
        }
        writeln!(self.bytes, "{text}").map_err(|error| error.to_string())
    }

    fn statement(&mut self, sql: &str) -> Result<(), String> {
        // A comment at the end would swallow the semicolon.
        let end = if sql.lines().last().is_some_and(|line| line.contains("--")) {
            "\n;"
        } else {
            ";"
        };
        self.line(&format!("{sql}{end}"))
    }

    fn rows(&mut self, connection: &Connection, table: &str) -> Result<(), String> {
        let failed = |error: rusqlite::Error| sql_message(&error);
        let columns = columns(connection, table).map_err(failed)?;
        let head = format!("INSERT INTO {} ({columns}) VALUES(", name(table));
        let sql = format!("SELECT {columns} FROM {}", name(table));
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        let count = statement.column_count();
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut line = std::mem::take(&mut self.line);
            line.clear();
            line.push_str(&head);
            for index in 0..count {
                if index > 0 {
                    line.push(',');
                }
                literal(&mut line, row.get_ref(index).map_err(failed)?);
            }
            line.push_str(");");
            self.line(&line)?;
            self.line = line;
        }
        Ok(())
    }
}

/// The columns of a table that hold values of their own, as a list for SQL.
fn columns(connection: &Connection, table: &str) -> Result<String, rusqlite::Error> {
    let mut statement = connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let names = statement
        .query_map([table], |row| row.get::<_, String>(0))?
        .map(|column| column.map(|column| name(&column)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(names.join(","))
}

/// A name in quotes.
fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Writes a value as SQL that gives the very same value.
fn literal(out: &mut String, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push_str("NULL"),
        ValueRef::Integer(number) => out.push_str(&number.to_string()),
        ValueRef::Real(number) if number.is_infinite() => {
            out.push_str(if number > 0.0 { "9e999" } else { "-9e999" });
        }
        // The shortest text that reads back as the same number, always with a point or an exponent.
        ValueRef::Real(number) => out.push_str(&format!("{number:?}")),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => {
                out.push('\'');
                out.push_str(&text.replace('\'', "''"));
                out.push('\'');
            }
            // A literal ends at a NUL, and SQL is UTF-8.
            _ => {
                out.push_str("CAST(");
                blob(out, bytes);
                out.push_str(" AS TEXT)");
            }
        },
        ValueRef::Blob(bytes) => blob(out, bytes),
    }
}

fn blob(out: &mut String, bytes: &[u8]) {
    out.push_str("X'");
    out.push_str(&hex::encode(bytes));
    out.push('\'');
}

fn invalid(message: &str) -> ApiError {
    ApiError::bad_request(INVALID, format!("invalid property: {message}"))
}
