//! Dumps into D1 databases: `init` gives a link to upload to, `ingest` runs what was uploaded, `poll` asks how it went.
//!
//! A dump runs within its `ingest` and in one transaction, so that nothing is ever under way when somebody polls, and a dump
//! that fails leaves the database as it was. Whatever becomes of it, the upload goes: it is the user's data.

use std::{
    io::{self, Read},
    time::Instant,
};

use rusqlite::{
    Batch, Connection, Transaction, TransactionBehavior, fallible_iterator::FallibleIterator as _,
};
use serde_json::{Value, json};

use super::{
    call::Call,
    d1::{self, INVALID},
    d1_guard,
    d1_pieces::Reading,
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

/// How much SQL is given to SQLite at once, unless a single statement is longer.
const PIECE: usize = 16 * 1024;

/// What a client is told that polls for an import of which nothing is known.
const IDLE: &str = "Not currently importing anything.";

/// `POST …/import`.
pub(super) fn import(cloud: &Cloud, call: &Call) -> ApiResult {
    let database = d1::find(cloud, call)?.uuid;
    let body = call.object(INVALID)?;
    let text = |name: &str| {
        let value = body.get(name).and_then(Value::as_str);
        value.ok_or_else(|| {
            invalid(format!(
                "invalid property: {name} is required and must be a string"
            ))
        })
    };
    match text("action")? {
        "init" => {
            let etag = text("etag")?.to_ascii_lowercase();
            if etag.len() != 32 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid(
                    "invalid property: etag must be the MD5 of the file, 32 hexadecimal digits",
                ));
            }
            signed::sweep(cloud)?;
            let file = signed::file_name(&database, &etag);
            // What was uploaded before, and did not run, need not be uploaded again.
            if signed::path(cloud, &file).exists() {
                return ingest(cloud, call, &database, &file);
            }
            ok(&json!({
                "success": true,
                "type": "import",
                "at_bookmark": bookmark(cloud, &database),
                "messages": [],
                "filename": file,
                "upload_url": signed::link(cloud, call, "PUT", &file)?,
            }))
        }
        "ingest" => {
            let etag = text("etag")?.to_ascii_lowercase();
            let file = signed::file_name(&database, &etag);
            if text("filename")? != file || !signed::path(cloud, &file).exists() {
                return Err(invalid(
                    "invalid property: no file of this name and etag has been uploaded for this database",
                ));
            }
            ingest(cloud, call, &database, &file)
        }
        "poll" => {
            text("current_bookmark")?;
            ok(&json!({
                "success": false,
                "type": "import",
                "status": "error",
                "error": IDLE,
                "errors": [IDLE],
                "messages": [],
            }))
        }
        other => Err(invalid(format!(
            "invalid property: action must be one of init, ingest, poll, not {other}"
        ))),
    }
}

fn ingest(cloud: &Cloud, call: &Call, database: &str, file: &str) -> ApiResult {
    let path = signed::path(cloud, file);
    // What is open can be read to its end when its name is gone.
    let content = fs::open(&path)?;
    fs::remove_file(&path)?;
    let before = bookmark(cloud, database);
    let connection = data::open(&layout::d1_file(&cloud.folder, database))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    call.interrupt.watch(&connection);
    let ran = run(&connection, content);
    let (bookmark, size) = (bookmark(cloud, database), size(&connection)?);
    match ran {
        Ok(ran) => ok(&json!({
            "success": true,
            "type": "import",
            "status": "complete",
            "at_bookmark": before,
            "messages": [format!("Processed {} queries.", ran.queries)],
            "result": {
                "num_queries": ran.queries,
                "final_bookmark": bookmark,
                "meta": {
                    "served_by": "local",
                    "served_by_region": "LOCAL",
                    "served_by_primary": true,
                    "duration": ran.milliseconds,
                    "timings": {"sql_duration_ms": ran.milliseconds},
                    "changes": ran.written,
                    "last_row_id": connection.last_insert_rowid(),
                    "changed_db": true,
                    "size_after": size,
                    "rows_read": ran.read,
                    "rows_written": ran.written,
                },
            },
        })),
        Err(reason) => ok(&json!({
            "success": false,
            "type": "import",
            "status": "error",
            "at_bookmark": before,
            "error": reason,
            "errors": [reason],
            "messages": [],
        })),
    }
}

/// What a dump did.
struct Ran {
    queries: u64,
    read: u64,
    written: u64,
    milliseconds: f64,
}

/// Runs all statements of a dump or none. The error is the message for the client.
fn run(connection: &Connection, content: impl Read) -> Result<Ran, String> {
    let start = Instant::now();
    let failed = |error: rusqlite::Error| sql_message(&error);
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
    let mut ran = Ran {
        queries: 0,
        read: 0,
        written: 0,
        milliseconds: 0.0,
    };
    let mut pieces = Reading::new(content, PIECE);
    let unreadable = |error: io::Error| format!("the file cannot be read: {error}");
    while let Some(piece) = pieces.next().map_err(unreadable)? {
        let sql = std::str::from_utf8(piece)
            .map_err(|error| format!("the file is not UTF-8: {error}"))?;
        if sql.contains('\0') {
            // SQLite would stop there and say nothing of the rest.
            return Err("the SQL holds a NUL character: SQLITE_ERROR".to_owned());
        }
        run_piece(connection, sql, &mut ran)?;
    }
    if ran.queries == 0 {
        return Err("No SQL statements detected.".to_owned());
    }
    transaction.commit().map_err(failed)?;
    ran.milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    Ok(ran)
}

/// Runs the statements of a piece.
fn run_piece(connection: &Connection, sql: &str, ran: &mut Ran) -> Result<(), String> {
    let failed = |error: rusqlite::Error| sql_message(&error);
    let mut batch = Batch::new(connection, sql);
    while let Some(mut statement) = batch.next().map_err(failed)? {
        d1_guard::check(&statement)?;
        if statement.parameter_count() > 0 {
            return Err(
                "Wrong number of parameter bindings for SQL query.: SQLITE_ERROR".to_owned(),
            );
        }
        let before = connection.total_changes();
        let mut rows = statement.raw_query();
        while rows.next().map_err(failed)?.is_some() {
            ran.read += 1;
        }
        ran.written += connection.total_changes() - before;
        ran.queries += 1;
    }
    Ok(())
}

fn size(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row(
        "SELECT (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())",
        [],
        |row| row.get(0),
    )
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use crate::{
        local::{layout, testing::Client},
        util::fs,
    };

    const ALL: &str = "/accounts/local/d1/database";

    async fn database(client: &Client) -> String {
        let created = client.ok("POST", ALL, Some(json!({"name": "main"}))).await;
        format!("{ALL}/{}", created["result"]["uuid"].as_str().unwrap())
    }

    async fn rows(client: &Client, one: &str, sql: &str) -> Value {
        let path = format!("{one}/query");
        let answer = client.ok("POST", &path, Some(json!({"sql": sql}))).await;
        answer["result"][0]["results"].clone()
    }

    /// Follows a link; answers status and text.
    async fn follow(client: &Client, method: &str, link: &str, body: &str) -> (u16, String) {
        let target = link.split_once("://").unwrap().1;
        let target = &target[target.find('/').unwrap()..];
        let request = axum::http::Request::builder().method(method).uri(target);
        let request = request
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap();
        let answer = client.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
        (status, String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    async fn import(client: &Client, one: &str, sql: &str) -> Value {
        use md5::{Digest as _, Md5};
        let etag = hex::encode(Md5::digest(sql));
        let path = format!("{one}/import");
        let begun = json!({"action": "init", "etag": etag});
        let begun = client.ok("POST", &path, Some(begun)).await["result"].clone();
        let Some(link) = begun["upload_url"].as_str() else {
            return begun;
        };
        let (status, text) = follow(client, "PUT", link, sql).await;
        assert_eq!(status, 200, "{text}");
        let ingest = json!({"action": "ingest", "etag": etag, "filename": begun["filename"]});
        client.ok("POST", &path, Some(ingest)).await["result"].clone()
    }

    #[tokio::test]
    async fn a_dump_goes_in_and_comes_out_the_same() {
        let client = Client::new();
        let one = database(&client).await;
        let sql = "PRAGMA defer_foreign_keys=TRUE;
            CREATE TABLE \"odd \"\"name\"(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT, r REAL, b BLOB, twice AS (id * 2));
            CREATE TABLE child(p REFERENCES parent(id));
            CREATE TABLE parent(id INTEGER PRIMARY KEY);
            INSERT INTO child VALUES(7);
            INSERT INTO parent VALUES(7);
            INSERT INTO \"odd \"\"name\"(v, r, b) VALUES('it''s; -- é', 0.1, x'00ff'), (NULL, 1e999, x''), (char(65, 0, 66), -2, NULL);
            CREATE INDEX i ON parent(id);
            CREATE VIEW w AS SELECT * FROM parent;
            CREATE TRIGGER g AFTER INSERT ON parent BEGIN SELECT 1; END;";
        let done = import(&client, &one, sql).await;
        assert_eq!(done["status"], "complete", "{done}");
        assert_eq!(done["result"]["num_queries"], 10);
        assert_eq!(done["result"]["meta"]["rows_written"], 5);
        let asked = "SELECT id, hex(v) v, r, hex(b) b, twice FROM \"odd \"\"name\"";
        let before = rows(&client, &one, asked).await;

        let path = format!("{one}/export");
        let exported = client
            .ok("POST", &path, Some(json!({"output_format": "polling"})))
            .await["result"]
            .clone();
        assert_eq!(exported["status"], "complete", "{exported}");
        let link = exported["result"]["signed_url"].as_str().unwrap();
        let (status, dump) = follow(&client, "GET", link, "").await;
        assert_eq!(status, 200);
        snapbox::assert_data_eq!(
            &dump,
            snapbox::str![[r#"
PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE "odd ""name"(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT, r REAL, b BLOB, twice AS (id * 2));
CREATE TABLE child(p REFERENCES parent(id));
CREATE TABLE parent(id INTEGER PRIMARY KEY);
INSERT INTO "odd ""name" ("id","v","r","b") VALUES(1,'it''s; -- é',0.1,X'00ff');
INSERT INTO "odd ""name" ("id","v","r","b") VALUES(2,NULL,9e999,X'');
INSERT INTO "odd ""name" ("id","v","r","b") VALUES(3,CAST(X'410042' AS TEXT),-2.0,NULL);
INSERT INTO "child" ("p") VALUES(7);
INSERT INTO "parent" ("id") VALUES(7);
DELETE FROM sqlite_sequence;
INSERT INTO "sqlite_sequence" ("name","seq") VALUES('odd "name',3);
CREATE INDEX i ON parent(id);
CREATE VIEW w AS SELECT * FROM parent;
CREATE TRIGGER g AFTER INSERT ON parent BEGIN SELECT 1; END;

"#]]
        );

        let copy = client.ok("POST", ALL, Some(json!({"name": "copy"}))).await;
        let copy = format!("{ALL}/{}", copy["result"]["uuid"].as_str().unwrap());
        let done = import(&client, &copy, &dump).await;
        assert_eq!(done["status"], "complete", "{done}");
        assert_eq!(rows(&client, &copy, asked).await, before);
        assert_eq!(before.as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_dump_of_many_pieces_runs_as_one() {
        let client = Client::new();
        let one = database(&client).await;
        let text = "x".repeat(100);
        let mut sql = "CREATE TABLE t(a, b);".to_owned();
        for index in 0..2000 {
            sql.push_str(&format!("\nINSERT INTO t VALUES({index}, ';{text}');"));
        }
        let count = "SELECT count(*) n, sum(a) s FROM t";
        let failed = import(&client, &one, &format!("{sql} INSERT INTO gone VALUES(1)")).await;
        assert_eq!(failed["error"], "no such table: gone: SQLITE_ERROR");
        let done = import(&client, &one, &sql).await;
        assert_eq!(done["result"]["num_queries"], 2001, "{done}");
        let found = rows(&client, &one, count).await;
        assert_eq!(found, json!([{"n": 2000, "s": 1_999_000}]));
    }

    #[tokio::test]
    async fn a_dump_that_fails_changes_nothing_and_is_not_kept() {
        let client = Client::new();
        let one = database(&client).await;
        let sql = "CREATE TABLE t(a); INSERT INTO t VALUES(1); INSERT INTO gone VALUES(1);";
        let failed = import(&client, &one, sql).await;
        assert_eq!(failed["status"], "error");
        assert_eq!(failed["error"], "no such table: gone: SQLITE_ERROR");
        let transfers = layout::transfers_folder(client.folder.path());
        let kept = || fs::list(&transfers).unwrap().len();
        assert_eq!(kept(), 0);
        assert_eq!(
            rows(&client, &one, "SELECT * FROM sqlite_schema").await,
            json!([])
        );
        rows(&client, &one, "CREATE TABLE gone(a)").await;
        assert_eq!(import(&client, &one, sql).await["status"], "complete");
        for bad in ["COMMIT;", "ATTACH 'x' AS y;", "-- nothing", "SELECT ?;"] {
            assert_eq!(import(&client, &one, bad).await["status"], "error", "{bad}");
        }
        assert_eq!(kept(), 0);
    }

    #[tokio::test]
    async fn a_link_does_one_thing_with_one_file() {
        let client = Client::with_token("secret-token");
        let headers = [("authorization", "Bearer secret-token")];
        let body = json!({"name": "main"}).to_string().into_bytes();
        let (_, created) = client.send("POST", ALL, &headers, body).await;
        let path = format!(
            "{ALL}/{}/import",
            created["result"]["uuid"].as_str().unwrap()
        );
        // The MD5 of nothing.
        let etag = "d41d8cd98f00b204e9800998ecf8427e";
        let body = json!({"action": "init", "etag": etag})
            .to_string()
            .into_bytes();
        let (_, begun) = client.send("POST", &path, &headers, body).await;
        let link = begun["result"]["upload_url"].as_str().unwrap();
        assert_eq!(follow(&client, "PUT", link, "other bytes").await.0, 400);
        assert_eq!(follow(&client, "GET", link, "").await.0, 403);
        for (from, to) in [
            (etag, "d41d8cd98f00b204e9800998ecf84270"),
            ("signature=", "signature=00"),
            ("expires=", "expires=9"),
            ("?", "?x="),
        ] {
            assert_eq!(
                follow(&client, "PUT", &link.replace(from, to), "").await.0,
                403,
                "{from}"
            );
        }
        assert_eq!(follow(&client, "PUT", link, "").await.0, 200);
    }
}
