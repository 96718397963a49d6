//! SQL on D1 databases: `query` (rows as objects) and `raw` (rows as arrays).
//!
//! One request is one transaction: a statement that fails undoes those before it. Statements that would leave the
//! database's own file or end the transaction are refused before they run.

use std::time::Instant;

use rusqlite::{
    Batch, Connection, Statement, StatementStatus, Transaction, TransactionBehavior,
    fallible_iterator::FallibleIterator as _,
    types::{Value as Sql, ValueRef},
};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, into_object},
    d1::{self, INVALID},
    d1_guard,
    envelope::{ApiResult, ok},
    error::ApiError,
};
use crate::local::{Cloud, data, layout};

const FAILED: u32 = 7500;
/// The most parameters of one statement.
const PARAMETERS_LIMIT: usize = 100;
/// The most statements of one request.
const STATEMENTS_LIMIT: usize = 10_000;
/// The most bytes of values in one answer.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Objects,
    Arrays,
}

/// `POST …/query`.
pub(super) fn query(cloud: &Cloud, call: &Call) -> ApiResult {
    execute(cloud, call, Shape::Objects)
}

/// `POST …/raw`.
pub(super) fn raw(cloud: &Cloud, call: &Call) -> ApiResult {
    execute(cloud, call, Shape::Arrays)
}

fn execute(cloud: &Cloud, call: &Call, shape: Shape) -> ApiResult {
    let database = d1::find(cloud, call)?;
    let queries = queries(call.object(INVALID)?)?;
    let connection = data::open(&layout::d1_file(&cloud.folder, &database.uuid))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    call.interrupt.watch(&connection);
    let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
    let mut answer = Answer {
        shape,
        results: Vec::new(),
        bytes: 0,
    };
    for (sql, parameters) in &queries {
        answer.run(&connection, sql, parameters)?;
    }
    transaction.commit().map_err(|error| sql_error(&error))?;
    if answer.results.is_empty() {
        return Err(failed("No SQL statements detected."));
    }
    let size = connection.query_row(
        "SELECT (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())",
        [],
        |row| row.get::<_, i64>(0),
    )?;
    for result in &mut answer.results {
        result["meta"]["size_after"] = json!(size);
    }
    ok(&Value::Array(answer.results))
}

/// The statements and parameters of a body: `{sql, params}` or `{batch: [{sql, params}]}`.
fn queries(mut body: Map<String, Value>) -> Result<Vec<(String, Vec<Sql>)>, ApiError> {
    let Some(batch) = body.remove("batch") else {
        return Ok(vec![one_query(body)?]);
    };
    let Value::Array(batch) = batch else {
        return Err(invalid("invalid property: batch must be an array"));
    };
    if batch.is_empty() || batch.len() > STATEMENTS_LIMIT {
        return Err(invalid(format!(
            "invalid property: batch must hold 1 to {STATEMENTS_LIMIT} statements"
        )));
    }
    batch
        .into_iter()
        .map(|query| one_query(into_object(query, INVALID)?))
        .collect()
}

fn one_query(mut body: Map<String, Value>) -> Result<(String, Vec<Sql>), ApiError> {
    let Some(Value::String(sql)) = body.remove("sql") else {
        return Err(invalid(
            "invalid property: sql is required and must be a string",
        ));
    };
    if sql.contains('\0') {
        // SQLite would stop there and say nothing of the rest.
        return Err(failed("the SQL holds a NUL character: SQLITE_ERROR"));
    }
    let parameters = match body.remove("params") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values
            .into_iter()
            .map(parameter)
            .collect::<Result<Vec<_>, _>>()?,
        Some(_) => return Err(invalid("invalid property: params must be an array")),
    };
    if parameters.len() > PARAMETERS_LIMIT {
        return Err(failed("too many SQL variables: SQLITE_ERROR"));
    }
    Ok((sql, parameters))
}

fn parameter(value: Value) -> Result<Sql, ApiError> {
    Ok(match value {
        Value::Null => Sql::Null,
        Value::Bool(value) => Sql::Integer(value.into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Sql::Integer(integer),
            (None, Some(real)) => Sql::Real(real),
            (None, None) => return Err(invalid(format!("invalid property: params: {number}"))),
        },
        Value::String(text) => Sql::Text(text),
        Value::Array(bytes) => Sql::Blob(
            bytes
                .iter()
                .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    invalid("invalid property: params: an array must hold bytes, 0 to 255")
                })?,
        ),
        Value::Object(_) => {
            return Err(invalid("invalid property: params must not hold objects"));
        }
    })
}

struct Answer {
    shape: Shape,
    results: Vec<Value>,
    bytes: usize,
}

impl Answer {
    fn run(
        &mut self,
        connection: &Connection,
        sql: &str,
        parameters: &[Sql],
    ) -> Result<(), ApiError> {
        let mut batch = Batch::new(connection, sql);
        let mut count = 0;
        while let Some(mut statement) = batch.next().map_err(|error| sql_error(&error))? {
            count += 1;
            if count > 1 && !parameters.is_empty() {
                return Err(failed(
                    "A prepared SQL statement must contain only one statement.: SQLITE_ERROR",
                ));
            }
            if self.results.len() == STATEMENTS_LIMIT {
                return Err(failed(format!("more than {STATEMENTS_LIMIT} statements")));
            }
            d1_guard::check(&statement).map_err(failed)?;
            let result = self.step(connection, &mut statement, parameters)?;
            self.results.push(result);
        }
        Ok(())
    }

    fn step(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        parameters: &[Sql],
    ) -> Result<Value, ApiError> {
        if statement.parameter_count() != parameters.len() {
            return Err(failed(
                "Wrong number of parameter bindings for SQL query.: SQLITE_ERROR",
            ));
        }
        for (index, value) in parameters.iter().enumerate() {
            statement
                .raw_bind_parameter(index + 1, value)
                .map_err(|error| sql_error(&error))?;
        }
        let read_only = statement.readonly();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let before = connection.total_changes();
        let start = Instant::now();
        let mut rows = Vec::new();
        let mut cursor = statement.raw_query();
        while let Some(row) = cursor.next().map_err(|error| sql_error(&error))? {
            let mut values = Vec::with_capacity(columns.len());
            for (index, name) in columns.iter().enumerate() {
                if self.shape == Shape::Objects {
                    self.bytes += name.len();
                }
                let value = row.get_ref(index).map_err(|error| sql_error(&error))?;
                values.push(self.value(value)?);
            }
            rows.push(match self.shape {
                Shape::Arrays => Value::Array(values),
                Shape::Objects => Value::Object(columns.iter().cloned().zip(values).collect()),
            });
        }
        drop(cursor);
        let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
        let changes = connection.total_changes() - before;
        let scanned = statement.get_status(StatementStatus::FullscanStep);
        // SQLite counts scanned rows only for full scans; at least the rows answered have been read.
        let rows_read = rows.len().max(usize::try_from(scanned).unwrap_or(0));
        let results = match self.shape {
            Shape::Objects => Value::Array(rows),
            Shape::Arrays => json!({"columns": columns, "rows": rows}),
        };
        Ok(json!({
            "success": true,
            "results": results,
            "meta": {
                "served_by": "local",
                "served_by_region": "LOCAL",
                "served_by_primary": true,
                "duration": milliseconds,
                "timings": {"sql_duration_ms": milliseconds},
                "changes": changes,
                "last_row_id": connection.last_insert_rowid(),
                "changed_db": !read_only,
                "rows_read": rows_read,
                "rows_written": changes,
            },
        }))
    }

    fn value(&mut self, value: ValueRef<'_>) -> Result<Value, ApiError> {
        // A byte of a blob becomes a JSON number, which takes far more than a byte.
        self.bytes += match value {
            ValueRef::Text(bytes) => bytes.len() + 16,
            ValueRef::Blob(bytes) => bytes.len().saturating_mul(32),
            _ => 32,
        };
        if self.bytes > ANSWER_LIMIT {
            return Err(failed("the result is too large: SQLITE_TOOBIG"));
        }
        Ok(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(value) => json!(value),
            ValueRef::Real(value) => json!(value),
            ValueRef::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
            ValueRef::Blob(bytes) => json!(bytes),
        })
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn failed(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(FAILED, message)
}

fn sql_error(error: &rusqlite::Error) -> ApiError {
    failed(sql_message(error))
}

/// What a client is told of a failure of SQLite.
pub(super) fn sql_message(error: &rusqlite::Error) -> String {
    let name = error
        .sqlite_error()
        .map_or("SQLITE_ERROR", |failure| error_name(failure.extended_code));
    match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => {
            format!("{msg} at offset {offset}: {name}")
        }
        rusqlite::Error::SqliteFailure(_, Some(message)) => format!("{message}: {name}"),
        other => format!("{other}: {name}"),
    }
}

/// The names of SQLite's primary result codes.
fn error_name(extended: i32) -> &'static str {
    use rusqlite::ffi;
    match extended & 0xff {
        ffi::SQLITE_AUTH => "SQLITE_AUTH",
        ffi::SQLITE_BUSY => "SQLITE_BUSY",
        ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
        ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_INTERRUPT => "SQLITE_INTERRUPT",
        ffi::SQLITE_IOERR => "SQLITE_IOERR",
        ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_NOMEM => "SQLITE_NOMEM",
        ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
        ffi::SQLITE_RANGE => "SQLITE_RANGE",
        ffi::SQLITE_READONLY => "SQLITE_READONLY",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        _ => "SQLITE_ERROR",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::local::testing::Client;

    async fn database() -> (Client, String) {
        let client = Client::new();
        let path = "/accounts/local/d1/database";
        let created = client.ok("POST", path, Some(json!({"name": "main"}))).await;
        let uuid = created["result"]["uuid"].as_str().unwrap();
        let path = format!("{path}/{uuid}/query");
        (client, path)
    }

    async fn rows(client: &Client, path: &str, sql: &str) -> Value {
        let answer = client.ok("POST", path, Some(json!({"sql": sql}))).await;
        answer["result"][0]["results"].clone()
    }

    #[tokio::test]
    async fn many_statements_run_and_each_has_a_result() {
        let (client, path) = database().await;
        let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); -- comment; with semicolon\n
                   CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET name = upper(name); SELECT 1; END;
                   INSERT INTO t(name) VALUES('a;b'), ('c'); SELECT id, name FROM t;";
        let answer = client.ok("POST", &path, Some(json!({"sql": sql}))).await;
        let results = answer["result"].as_array().unwrap();
        assert_eq!(results.len(), 4);
        assert_eq!(
            results[3]["results"],
            json!([{"id": 1, "name": "A;B"}, {"id": 2, "name": "C"}])
        );
        assert_eq!(results[2]["meta"]["last_row_id"], 2);
        assert_eq!(results[2]["meta"]["changed_db"], true);
        assert_eq!(results[3]["meta"]["changed_db"], false);
        assert_eq!(results[3]["meta"]["rows_read"], 2);
        assert!(results[3]["meta"]["size_after"].as_i64().unwrap() > 0);
    }

    #[tokio::test]
    async fn parameters_of_every_type_come_back() {
        let (client, path) = database().await;
        let body = json!({"sql": "SELECT ? a, ? b, ? c, ? d, ? e, ? f",
                          "params": [1, 2.5, "x", null, true, [0, 255]]});
        let answer = client
            .ok("POST", &path.replace("/query", "/raw"), Some(body))
            .await;
        assert_eq!(
            answer["result"][0]["results"],
            json!({"columns": ["a", "b", "c", "d", "e", "f"],
                   "rows": [[1, 2.5, "x", null, 1, [0, 255]]]})
        );
        for body in [
            json!({"sql": "SELECT ?", "params": []}),
            json!({"sql": "SELECT 1", "params": [1]}),
            json!({"sql": "SELECT ?; SELECT 2", "params": [1]}),
        ] {
            assert_eq!(client.fails("POST", &path, Some(body)).await, (400, 7500));
        }
        for body in [
            json!({}),
            json!({"sql": 1}),
            json!({"sql": "SELECT ?", "params": [{}]}),
            json!({"sql": "SELECT ?", "params": [[256]]}),
            json!({"batch": []}),
            json!({"batch": [1]}),
        ] {
            assert_eq!(client.fails("POST", &path, Some(body)).await, (400, 7400));
        }
    }

    #[tokio::test]
    async fn a_request_is_one_transaction() {
        let (client, path) = database().await;
        rows(&client, &path, "CREATE TABLE t(id INTEGER PRIMARY KEY)").await;
        let sql = "INSERT INTO t VALUES(1); INSERT INTO t VALUES(1);";
        let (status, body) = client.call("POST", &path, Some(json!({"sql": sql}))).await;
        assert_eq!(status.as_u16(), 400);
        assert_eq!(
            body["errors"][0],
            json!({"code": 7500, "message": "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT"})
        );
        assert_eq!(rows(&client, &path, "SELECT * FROM t").await, json!([]));
        let batch = json!({"batch": [
            {"sql": "INSERT INTO t VALUES(?)", "params": [7]}, {"sql": "SELECT count(*) n FROM t"}]});
        let answer = client.ok("POST", &path, Some(batch)).await;
        assert_eq!(answer["result"][1]["results"], json!([{"n": 1}]));
    }

    #[tokio::test]
    async fn sql_errors_name_the_place() {
        let (client, path) = database().await;
        let (_, body) = client
            .call("POST", &path, Some(json!({"sql": "SELEC 1"})))
            .await;
        assert_eq!(
            body["errors"][0]["message"],
            "near \"SELEC\": syntax error at offset 0: SQLITE_ERROR"
        );
        for sql in ["", " ; -- nothing", "SELECT * FROM missing"] {
            let body = json!({"sql": sql});
            assert_eq!(client.fails("POST", &path, Some(body)).await, (400, 7500));
        }
    }

    #[tokio::test]
    async fn what_leaves_the_database_is_refused() {
        let (client, path) = database().await;
        for sql in [
            "ATTACH 'x.db' AS x",
            "/* a */ attach database ':memory:' as x",
            "EXPLAIN QUERY PLAN ATTACH 'x' AS x",
            "VACUUM INTO 'copy.db'",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA main . writable_schema = 1",
            "BEGIN",
            ";; BEGIN",
            "\u{feff}ATTACH 'x' AS x",
            "PRAGMA \"journal_mode\" = DELETE",
            "SELECT 1 \0; ATTACH 'x' AS x",
            "SELECT 1; COMMIT",
            "SAVEPOINT a",
            "CREATE TABLE _cf_KV(a)",
            "CREATE TABLE [_CF_x](a)",
            "CREATE TABLE '_cf_x'(a)",
        ] {
            let body = json!({"sql": sql});
            assert_eq!(
                client.fails("POST", &path, Some(body)).await,
                (400, 7500),
                "{sql}"
            );
        }
        for sql in [
            "PRAGMA table_info(t)",
            "PRAGMA defer_foreign_keys = on",
            "SELECT name FROM sqlite_master WHERE name NOT LIKE '_cf_%'",
            "SELECT 'BEGIN'",
        ] {
            rows(&client, &path, sql).await;
        }
    }

    #[tokio::test]
    async fn foreign_keys_hold() {
        let (client, path) = database().await;
        rows(
            &client,
            &path,
            "CREATE TABLE p(id PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id));",
        )
        .await;
        let body = json!({"sql": "INSERT INTO c VALUES(1)"});
        assert_eq!(client.fails("POST", &path, Some(body)).await, (400, 7500));
    }
}
