//! Imports of SQL files into D1 databases: once each, whatever happens between the steps.

use serde_json::json;
use snapbox::str;

use super::{
    Setting,
    proxy::{Fault, Plan},
};
use crate::support::served::until;

const SCRIPT: &str = r#"
let app = alchemy("shop");
Database("main", #{ migrations: "migrations", importFiles: ["./seed.sql", "more/prices.sql"] });
"#;

fn setting() -> Setting {
    let setting = Setting::new(SCRIPT);
    setting.project.file(
        "more/prices.sql",
        "CREATE TABLE prices(name TEXT, price INTEGER);\nINSERT INTO prices VALUES ('one', 1); -- the end",
    );
    setting
}

/// The rows of the two tables, as one value.
fn rows(setting: &Setting) -> serde_json::Value {
    let id = setting.ask("GET", "d1/database", "")[0]["uuid"].clone();
    let path = format!("d1/database/{}/query", id.as_str().unwrap());
    let sql = r#"{"sql": "SELECT name FROM items ORDER BY rowid; SELECT name, price FROM prices"}"#;
    let answer = setting.ask("POST", &path, sql);
    json!([answer[0]["results"], answer[1]["results"]])
}

fn expected() -> serde_json::Value {
    json!([
        [{"name": "one"}, {"name": "two"}, {"name": "seed"}],
        [{"name": "one", "price": 1}],
    ])
}

#[test]
fn files_are_imported_once_in_order_and_cost_nothing_afterwards() {
    let setting = setting();
    setting.run().success();
    assert_eq!(rows(&setting), expected());
    let sent = setting.proxy.take();
    // For each file: begin, upload, run.
    let imports = "POST d1/database/{id}/import";
    assert_eq!(sent.iter().filter(|request| *request == imports).count(), 4);
    assert_eq!(sent.iter().filter(|request| *request == "PUT ").count(), 2);
    setting.run().success();
    assert_eq!(setting.proxy.take(), Vec::<String>::new());

    // What leaves the script stays in the database, and is not imported anew when it comes back.
    let script = setting.project.read("alchemy.run.rhai");
    let without = script.replace("\"./seed.sql\", ", "");
    setting.project.file("alchemy.run.rhai", without);
    setting.run().success();
    setting.project.file("alchemy.run.rhai", &script);
    setting.run().success();
    assert!(
        !setting
            .proxy
            .take()
            .iter()
            .any(|request| request == imports)
    );
    assert_eq!(rows(&setting), expected());

    // Nor is what was imported under another name.
    setting
        .project
        .file("first.sql", setting.project.read("seed.sql"));
    let renamed = script.replace("./seed.sql", "first.sql");
    setting.project.file("alchemy.run.rhai", renamed);
    setting.run().success();
    assert_eq!(rows(&setting), expected());
    assert!(
        !setting
            .proxy
            .take()
            .iter()
            .any(|request| request == imports)
    );
}

#[test]
fn a_file_that_changed_after_its_import_is_refused() {
    let setting = setting();
    setting.run().success();
    setting
        .project
        .file("seed.sql", "INSERT INTO items VALUES ('other');");
    setting.proxy.take();
    // Told without a call, by the plan as well.
    setting
        .project
        .alch(["plan", "--target", "cloudflare"])
        .check(str![[r#"
exit 4
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare
  failed    main  the file `seed.sql` changed after it was imported
error[E0301]: `main` (cloudflare::D1Database): update failed: the file `seed.sql` changed after it was imported
 --> alchemy.run.rhai:3:1
  |
3 | Database("main", #{ migrations: "migrations", importFiles: ["./seed.sql", "more/prices.sql"] });
  | ^^^^^^^^ declared here
  |
  = help: restore `seed.sql`, and import what is new from a file with another name

"#]]);
    assert_eq!(setting.proxy.take(), Vec::<String>::new());
    setting.run().check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
  failed    main  the file `seed.sql` changed after it was imported
error[E0301]: `main` (cloudflare::D1Database): update failed: the file `seed.sql` changed after it was imported
 --> alchemy.run.rhai:3:1
  |
3 | Database("main", #{ migrations: "migrations", importFiles: ["./seed.sql", "more/prices.sql"] });
  | ^^^^^^^^ declared here
  |
  = help: restore `seed.sql`, and import what is new from a file with another name
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(rows(&setting), expected());
}

#[test]
fn an_import_that_fails_leaves_nothing_and_is_made_again_when_it_is_corrected() {
    let setting = setting();
    let good = setting.project.read("more/prices.sql");
    let bad = format!("{good}\nINSERT INTO price VALUES ('two', 2);");
    setting.project.file("more/prices.sql", bad);
    setting.run().check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  main (cloudflare::D1Database)
  ..        main  applying migration `0001_items.sql`
  ..        main  applying migration `0002_more.sql`
  ..        main  importing `seed.sql`
  ..        main  importing `more/prices.sql`
  ..        main  importing `more/prices.sql`
  failed    main  the import of `more/prices.sql` failed: no such table: price: SQLITE_ERROR
error[E0301]: `main` (cloudflare::D1Database): create failed: the import of `more/prices.sql` failed: no such table: price: SQLITE_ERROR
 --> alchemy.run.rhai:3:1
  |
3 | Database("main", #{ migrations: "migrations", importFiles: ["./seed.sql", "more/prices.sql"] });
  | ^^^^^^^^ declared here
  |
  = help: correct `more/prices.sql` and run again: nothing of it was imported, and what came before it is kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 18 API calls)

"#]]);
    setting.project.file("more/prices.sql", "SELECT 'open");
    setting.run().check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  main (cloudflare::D1Database)
  ..        main  importing `more/prices.sql`
  failed    main  the file `more/prices.sql` ends within a comment or a quoted text
error[E0301]: `main` (cloudflare::D1Database): create failed: the file `more/prices.sql` ends within a comment or a quoted text
 --> alchemy.run.rhai:3:1
  |
3 | Database("main", #{ migrations: "migrations", importFiles: ["./seed.sql", "more/prices.sql"] });
  | ^^^^^^^^ declared here
  |
  = help: complete `more/prices.sql` and run again
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    setting.project.file("more/prices.sql", good);
    setting.run().success();
    assert_eq!(rows(&setting), expected());
    setting.proxy.take();
    setting.run().success();
    assert_eq!(setting.proxy.take(), Vec::<String>::new());
}

#[test]
fn a_run_that_is_killed_at_any_step_imports_nothing_twice() {
    let imports = "POST d1/database/{id}/import";
    for (target, nth) in [
        (imports, 0),
        ("PUT ", 0),
        (imports, 1),
        (imports, 2),
        ("PUT ", 1),
        (imports, 3),
    ] {
        let setting = setting();
        setting.proxy.spoil(Plan {
            target: target.to_owned(),
            nth,
            fault: Fault::Held,
            for_ever: false,
        });
        let mut run = setting.project.start(["run", "--target", "cloudflare"]);
        until(|| (setting.proxy.held() == 1).then_some(()));
        run.kill().unwrap();
        run.wait().unwrap();
        setting.proxy.heal();
        setting.run().success();
        assert_eq!(rows(&setting), expected(), "{target} {nth}");
        setting.proxy.take();
        setting.run().success();
        assert_eq!(setting.proxy.take(), Vec::<String>::new());
    }
}
