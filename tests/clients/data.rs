//! wrangler on databases, namespaces, buckets and queues. No Worker runs, so that none of this needs the runtime.

use serde_json::json;
use snapbox::str;

use super::{Session, assert_holds};
use crate::support::Project;

#[test]
fn wrangler_drives_d1() {
    let Some(session) = Session::start(Project::new()) else {
        return;
    };
    let w = |line: &str| session.wrangler(&line.split(' ').collect::<Vec<_>>());

    assert_holds(&w("whoami"), &["local@localhost", super::ACCOUNT]);
    assert_holds(&w("d1 create shop"), &["Successfully created DB 'shop'"]);
    assert_holds(
        &session.wrangler_fails(&["d1", "create", "shop"]),
        &["already exists"],
    );
    let listed = session.wrangler_json(&["d1", "list", "--json"]);
    assert_eq!(listed[0]["name"], "shop");
    let id = listed[0]["uuid"].as_str().unwrap();
    session.project.file(
        "wrangler.jsonc",
        json!({
            "name": "shop",
            "d1_databases": [{"binding": "DB", "database_name": "shop", "database_id": id}],
        })
        .to_string(),
    );

    // Migrations, each once.
    session
        .project
        .file(
            "migrations/0001_init.sql",
            "CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT);",
        )
        .file(
            "migrations/0002_row.sql",
            "INSERT INTO items(name) VALUES ('from a migration');",
        );
    assert_holds(
        &w("d1 migrations list shop --remote"),
        &["0001_init.sql", "0002_row.sql"],
    );
    assert_holds(
        &w("d1 migrations apply shop --remote"),
        &["0001_init.sql", "✅"],
    );
    assert_holds(
        &w("d1 migrations apply shop --remote"),
        &["No migrations to apply"],
    );

    // SQL by word and by file.
    let inserted = session.wrangler_json(&[
        "d1",
        "execute",
        "shop",
        "--remote",
        "--yes",
        "--json",
        "--command",
        "INSERT INTO items(name) VALUES ('it''s'); SELECT name FROM items",
    ]);
    assert_eq!(
        inserted[1]["results"],
        json!([{"name": "from a migration"}, {"name": "it's"}])
    );
    session.project.file(
        "more.sql",
        "CREATE TABLE more(a REAL, b BLOB);\nINSERT INTO more VALUES (0.5, x'00ff');\n",
    );
    assert_holds(
        &w("d1 execute shop --remote --yes --file more.sql"),
        &["Executed 2 queries", "1 rows written"],
    );
    session.project.file(
        "bad.sql",
        "INSERT INTO more VALUES (1, NULL);\nINSERT INTO missing VALUES (1);\n",
    );
    assert_holds(
        &session.wrangler_fails(&[
            "d1", "execute", "shop", "--remote", "--yes", "--file", "bad.sql",
        ]),
        &["no such table: missing"],
    );

    // What failed left nothing; a dump shows it all.
    w("d1 export shop --remote --output dump.sql");
    let dump = session.project.read("dump.sql");
    let lines: Vec<&str> = dump
        .lines()
        // The client's own table holds the moment of each migration.
        .filter(|line| !line.contains("d1_migrations") && !line.starts_with([' ', '\t', ')']))
        .collect();
    snapbox::assert_data_eq!(
        lines.join("\n"),
        str![[r#"
PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE more(a REAL, b BLOB);
INSERT INTO "items" ("id","name") VALUES(1,'from a migration');
INSERT INTO "items" ("id","name") VALUES(2,'it''s');
INSERT INTO "more" ("a","b") VALUES(0.5,X'00ff');
DELETE FROM sqlite_sequence;
"#]]
    );
    w("d1 export shop --remote --no-data --table items --output schema.sql");
    snapbox::assert_data_eq!(
        session.project.read("schema.sql"),
        str![[r#"
PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT);

"#]]
    );

    let info = session.wrangler_json(&["d1", "info", "shop", "--json"]);
    assert_eq!(
        (
            info["name"].as_str(),
            &info["num_tables"],
            &info["rows_read_24h"]
        ),
        (Some("shop"), &json!(3), &json!(0))
    );
    let now = session.wrangler_json(&["d1", "time-travel", "info", "shop", "--json"]);
    let bookmark = now["bookmark"].as_str().unwrap();
    let back = [
        "d1",
        "time-travel",
        "restore",
        "shop",
        "--json",
        "--bookmark",
    ];
    let restored = session.wrangler_json(&[&back[..], &[bookmark]].concat());
    assert_eq!(restored["bookmark"], bookmark);
    assert_holds(
        &session.wrangler_fails(&[&back[..], &["00000000-0"]].concat()),
        &["no history is available"],
    );

    assert_holds(&w("d1 delete shop -y"), &["Deleted 'shop' successfully"]);
    session.assert_empty();
}

#[test]
fn wrangler_drives_kv_r2_and_queues() {
    let Some(session) = Session::start(Project::new()) else {
        return;
    };
    let w = |line: &str| session.wrangler(&line.split(' ').collect::<Vec<_>>());

    assert_holds(&w("kv namespace create cache"), &["Success", "\"id\""]);
    assert_holds(
        &session.wrangler_fails(&["kv", "namespace", "create", "cache"]),
        &["already exists"],
    );
    let listed = session.wrangler_json(&["kv", "namespace", "list"]);
    assert_eq!(listed[0]["title"], "cache");
    let id = listed[0]["id"].as_str().unwrap();
    let kv = |line: &str| w(&format!("kv {line} --remote --namespace-id {id}"));
    kv("key put greeting hello --metadata {\"a\":1}");
    assert_eq!(kv("key get greeting"), "hello");
    session.project.file(
        "bulk.json",
        json!([{"key": "one", "value": "1"}, {"key": "two/é", "value": "2", "expiration_ttl": 3600}])
            .to_string(),
    );
    kv("bulk put bulk.json");
    let keys = format!("kv key list --remote --namespace-id {id}");
    let keys = || session.wrangler_json(&keys.split(' ').collect::<Vec<_>>());
    let listed = keys();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["name"])
        .collect();
    assert_eq!(names, ["greeting", "one", "two/é"]);
    assert_eq!(listed[0]["metadata"], json!({"a": 1}));
    assert_eq!(kv("key get two/é"), "2");
    kv("key delete greeting");
    session
        .project
        .file("gone.json", json!(["one"]).to_string());
    kv("bulk delete gone.json --force");
    assert_eq!(keys()[0]["name"], "two/é");
    w(&format!("kv namespace delete -y --namespace-id {id}"));

    assert_holds(&w("r2 bucket create files"), &["Created bucket 'files'"]);
    assert_holds(&w("r2 bucket list"), &["name:           files"]);
    session.project.file("note.txt", "contents of a note\n");
    w("r2 object put files/deep/note.txt --remote --file note.txt --content-type text/plain");
    assert_eq!(
        w("r2 object get files/deep/note.txt --remote --pipe"),
        "contents of a note\n"
    );
    assert_holds(
        &w("r2 bucket info files"),
        &["object_count:           1", "bucket_size:            19 B"],
    );
    session.project.file(
        "cors.json",
        json!({"rules": [{"allowed": {"origins": ["https://example.com"], "methods": ["GET"]}}]})
            .to_string(),
    );
    w("r2 bucket cors set files --file cors.json --force");
    assert_holds(
        &w("r2 bucket cors list files"),
        &["https://example.com", "GET"],
    );
    w("r2 bucket cors delete files --force");
    w("r2 bucket lifecycle add files --name old --prefix tmp/ --expire-days 10 --force");
    assert_holds(
        &w("r2 bucket lifecycle list files"),
        &["Default Multipart Abort Rule", "tmp/", "after 10 days"],
    );
    w("r2 bucket lifecycle remove files --name old");
    w("queues create uploads");
    w(
        "r2 bucket notification create files --event-type object-create --queue uploads --prefix in/ --suffix .txt",
    );
    assert_holds(
        &w("r2 bucket notification list files"),
        &["uploads", "in/", ".txt", "PutObject"],
    );
    w("r2 bucket notification delete files --queue uploads");
    assert_holds(
        &session.wrangler_fails(&["r2", "bucket", "notification", "list", "files"]),
        &["11015"],
    );
    w("queues delete uploads");
    assert_holds(
        &session.wrangler_fails(&["r2", "bucket", "delete", "files"]),
        &["10008"],
    );
    w("r2 object delete files/deep/note.txt --remote");
    w("r2 bucket delete files");

    assert_holds(&w("queues create jobs"), &["Created queue 'jobs'"]);
    assert_holds(&w("queues list"), &["jobs"]);
    w("queues update jobs --delivery-delay-secs 5");
    assert_holds(
        &w("queues info jobs"),
        &["Queue Name: jobs", "Number of Consumers: 0"],
    );
    w("queues consumer http add jobs");
    assert_holds(&w("queues info jobs"), &["Number of Consumers: 1"]);
    w("queues consumer http remove jobs");
    w("queues delete jobs");
    session.assert_empty();
}
