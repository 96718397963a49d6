//! D1 databases against scripted answers: the exact requests of creation, migrations and recovery.

use std::path::Path;

use super::*;
use crate::{
    provider::{
        FailureKind,
        cloudflare::testing::{Scripted, check_context, context, map, no, ok, raw, with_header},
    },
    util::fs,
};

const ID: &str = "11111111-2222-3333-4444-555555555555";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let migrations = folder.path().join("migrations");
    fs::create_dir_all(&migrations).unwrap();
    for (name, content) in files {
        fs::write_atomic(&migrations.join(name), content.as_bytes()).unwrap();
    }
    folder
}

fn check(kind: &D1Database, folder: &Path, props: Json) -> Result<Checked, Vec<PropError>> {
    let mut context = check_context("app/dev", "thing");
    context.folder = folder.into();
    kind.check(&context, map(props))
}

fn at(folder: &Path, name: &str) -> OperationContext {
    OperationContext {
        folder: folder.into(),
        ..context(name)
    }
}

fn database() -> Json {
    json!({ "uuid": ID, "name": "app-thing-dev", "created_at": "2026-01-02T03:04:05Z", "version": "production" })
}

fn applied(names: &[&str], id_type: &str) -> Json {
    let rows: Vec<Json> = names.iter().map(|name| json!({ "name": name })).collect();
    json!([
        { "results": [], "success": true },
        { "results": [{ "name": "id", "type": id_type }, { "name": "name", "type": "TEXT" }], "success": true },
        { "results": rows, "success": true },
    ])
}

#[tokio::test]
async fn create_applies_the_migrations_in_order_each_with_its_record() {
    let folder = folder(&[
        ("10_last.sql", "INSERT INTO a VALUES (1) -- open"),
        ("2_first.sql", "CREATE TABLE a(x);\n-- done\n"),
        ("readme.md", "no"),
    ]);
    let (transport, client) = Scripted::new(vec![
        ok(database()),
        ok(applied(&[], "INTEGER")),
        ok(json!([])),
        ok(json!([])),
    ]);
    let kind = D1Database::new(client);
    let checked = check(
        &kind,
        folder.path(),
        json!({ "migrationsDir": "./migrations", "primaryLocationHint": "weur" }),
    )
    .unwrap();
    let outputs = kind
        .create(&at(folder.path(), &checked.physical_name), &checked.props)
        .await
        .unwrap();
    assert_eq!(outputs["id"], Value::from(ID));
    let requests = transport.requests();
    assert_eq!(
        requests[0],
        r#"POST d1/database {"name":"app-thing-dev","primary_location_hint":"weur"}"#
    );
    assert!(requests[1].starts_with(&format!(
        r#"POST d1/database/{ID}/query {{"sql":"CREATE TABLE IF NOT EXISTS d1_migrations "#
    )));
    assert_eq!(
        requests[2..],
        [
            format!(
                r#"POST d1/database/{ID}/query {{"sql":"CREATE TABLE a(x);\n-- done\n\nINSERT INTO d1_migrations (name) VALUES ('2_first.sql');"}}"#
            ),
            format!(
                r#"POST d1/database/{ID}/query {{"sql":"INSERT INTO a VALUES (1) -- open\n;\nINSERT INTO d1_migrations (name) VALUES ('10_last.sql');"}}"#
            ),
        ]
    );
}

#[tokio::test]
async fn a_failing_migration_names_file_and_statement_and_the_rest_follows_after_recovery() {
    let folder = folder(&[
        ("1.sql", "CREATE TABLE a(x);"),
        ("2.sql", "CREATE TABLE b(x);\nCREATE TABEL c(x);"),
    ]);
    let (transport, client) = Scripted::new(vec![
        ok(database()),
        ok(applied(&[], "INTEGER")),
        ok(json!([])),
        no(
            400,
            7500,
            "near \"TABEL\": syntax error at offset 7: SQLITE_ERROR",
        ),
        ok(json!([{ "uuid": "other", "name": "app-thing-dev-2" }, database()])),
        ok(applied(&["1.sql"], "TEXT")),
        ok(json!([])),
    ]);
    let kind = D1Database::new(client);
    let checked = check(&kind, folder.path(), json!({ "migrations": "migrations" })).unwrap();
    let context = at(folder.path(), &checked.physical_name);
    let error = kind.create(&context, &checked.props).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Ambiguous);
    assert_eq!(
        error.message,
        "the D1 database `app-thing-dev` was created, but is not complete: migration `2.sql`, line 2, \
         `CREATE TABEL c(x)` failed: near \"TABEL\": syntax error at offset 7: SQLITE_ERROR (1 migration applied before it)"
    );

    let found = kind.find(&context, &checked.props).await.unwrap().unwrap();
    let existing = Existing {
        props: Map::new(),
        outputs: found.outputs,
        physical_name: checked.physical_name,
        settled: true,
        attempted: Map::new(),
    };
    fs::write_atomic(&folder.path().join("migrations/2.sql"), b"SELECT 1;").unwrap();
    let checked = check(&kind, folder.path(), json!({ "migrations": "migrations" })).unwrap();
    kind.update(&context, &checked.props, &existing)
        .await
        .unwrap();
    let requests = transport.requests();
    assert_eq!(
        requests[4],
        "GET d1/database?name=app-thing-dev&page=1&per_page=1000"
    );
    assert_eq!(
        requests[6],
        format!(
            r#"POST d1/database/{ID}/query {{"sql":"SELECT 1;\nINSERT INTO d1_migrations (id, name, applied_at) VALUES ((SELECT printf('%05d', COALESCE(MAX(CAST(id AS INTEGER)), 0) + 1) FROM d1_migrations), '2.sql', datetime('now'));"}}"#
        )
    );
}

#[tokio::test]
async fn an_applied_migration_may_not_change() {
    let folder = folder(&[("1.sql", "SELECT 1;")]);
    let (transport, client) = Scripted::new(vec![]);
    let kind = D1Database::new(client);
    let before = check(&kind, folder.path(), json!({ "migrations": "migrations" })).unwrap();
    fs::write_atomic(&folder.path().join("migrations/1.sql"), b"SELECT 2;").unwrap();
    let after = check(&kind, folder.path(), json!({ "migrations": "migrations" })).unwrap();
    assert_ne!(before.props, after.props);
    let existing = Existing {
        props: before.props,
        outputs: map(json!({ "id": ID, "name": "x" })),
        physical_name: "x".to_owned(),
        settled: true,
        attempted: Map::new(),
    };
    let error = kind
        .update(&at(folder.path(), "x"), &after.props, &existing)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "the migration `1.sql` in `migrations` changed after it was applied"
    );
    assert!(transport.requests().is_empty());
}

#[test]
fn a_missing_folder_and_a_wrong_name_are_both_told() {
    let (_, client) = Scripted::new(vec![]);
    let kind = D1Database::new(client);
    let errors = check(
        &kind,
        Path::new("/nowhere"),
        json!({ "migrations": "sql", "name": "Not good" }),
    )
    .unwrap_err();
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error.path.join("."), error.message.as_str()))
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        told[0],
        (
            "migrations".to_owned(),
            "the folder `/nowhere/sql` does not exist"
        )
    );
    assert_eq!(told[1].0, "name");
}

#[tokio::test]
async fn an_import_is_uploaded_run_and_waited_for() {
    let folder = folder(&[]);
    fs::write_atomic(&folder.path().join("seed.sql"), b"SELECT 1").unwrap();
    let hash = blake3::hash(b"SELECT 1").to_hex();
    let table = "CREATE TABLE IF NOT EXISTS d1_imports (hash TEXT PRIMARY KEY, name TEXT NOT NULL, imported_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL);";
    let body = format!(
        "SELECT 1\n;\n{table}\nINSERT INTO d1_imports (hash, name) VALUES ('{hash}', 'seed.sql');\n"
    );
    let md5 = hex::encode(<md5::Md5 as md5::Digest>::digest(&body));
    let link =
        json!({ "upload_url": "https://storage.example/x?signature=1", "filename": "f.sql" });
    let active = json!({ "success": true, "status": "active", "at_bookmark": "b1", "error": null });
    let (transport, client) = Scripted::new(vec![
        ok(database()),
        ok(link),
        with_header(raw(200, ""), "etag", &format!("\"{md5}\"")),
        ok(active.clone()),
        ok(active),
        ok(json!({ "success": true, "status": "complete", "at_bookmark": "b2", "error": null })),
    ]);
    let kind = D1Database::new(client);
    let checked = check(
        &kind,
        folder.path(),
        json!({ "importFiles": ["./seed.sql"] }),
    )
    .unwrap();
    tokio::time::pause();
    kind.create(&at(folder.path(), &checked.physical_name), &checked.props)
        .await
        .unwrap();
    let import = format!("POST d1/database/{ID}/import");
    assert_eq!(
        transport.requests()[1..],
        [
            format!(r#"{import} {{"action":"init","etag":"{md5}"}}"#),
            format!(
                "PUT https://storage.example/x?signature=1 {}",
                body.trim_end()
            ),
            format!(r#"{import} {{"action":"ingest","etag":"{md5}","filename":"f.sql"}}"#),
            format!(r#"{import} {{"action":"poll","current_bookmark":"b1"}}"#),
            format!(r#"{import} {{"action":"poll","current_bookmark":"b1"}}"#),
        ]
    );
    // The token is for the API alone.
    assert_eq!(transport.header(2, "authorization"), None);
}

#[tokio::test]
async fn an_upload_that_the_storage_refuses_is_told_without_its_link() {
    let folder = folder(&[]);
    fs::write_atomic(&folder.path().join("seed.sql"), b"SELECT 1;").unwrap();
    let link =
        json!({ "upload_url": "https://storage.example/x?signature=1", "filename": "f.sql" });
    let (_, client) = Scripted::new(vec![
        ok(database()),
        ok(link),
        raw(403, "<Error>\n  <Code>ExpiredRequest</Code></Error>"),
        ok(json!([{ "results": [] }, { "results": [] }])),
    ]);
    let kind = D1Database::new(client);
    let checked = check(&kind, folder.path(), json!({ "importFiles": ["seed.sql"] })).unwrap();
    let error = kind
        .create(&at(folder.path(), &checked.physical_name), &checked.props)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "the D1 database `app-thing-dev` was created, but is not complete: the import of `seed.sql` failed: the storage \
         refused the upload with HTTP 403: <Error> <Code>ExpiredRequest</Code></Error>"
    );
    assert_eq!(
        error.call.as_deref(),
        Some("PUT to the upload link that the API gave")
    );
    assert_eq!(
        error.help.as_deref(),
        Some("run again: an upload link is good for an hour")
    );
}

#[test]
fn one_content_is_named_once() {
    let folder = folder(&[]);
    for name in ["a.sql", "b.sql"] {
        fs::write_atomic(&folder.path().join(name), b"SELECT 1;").unwrap();
    }
    let (_, client) = Scripted::new(vec![]);
    let kind = D1Database::new(client);
    let told = |files: Json| {
        let errors = check(&kind, folder.path(), json!({ "importFiles": files })).unwrap_err();
        format!("{}: {}", errors[0].path.join("."), errors[0].message)
    };
    assert_eq!(
        told(json!(["a.sql", "b.sql"])),
        "importFiles.1: `b.sql` has the content of `a.sql`, which stands before it"
    );
    let missing = folder.path().join("c.sql");
    assert_eq!(
        told(json!(["./c.sql"])),
        format!(
            "importFiles.0: cannot open `{}`: No such file or directory (os error 2)",
            missing.display()
        )
    );
}
