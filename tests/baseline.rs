//! Migrations of a database that had its tables before: what counts as applied is the user's word.

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud};

/// A cloud with a database `orders` that has the tables of the first two migrations, made by another tool.
fn setting(props: &str) -> (ServedCloud, Project) {
    let cloud = ServedCloud::quick();
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    let id = result(&cloud, "d1/database", r#"{"name":"orders"}"#)["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let query = format!("d1/database/{id}/query");
    let sql = r#"{"sql":"CREATE TABLE users(id INTEGER); CREATE TABLE orders(id INTEGER); INSERT INTO users VALUES (1)"}"#;
    result(&cloud, &query, sql);
    project
        .file(
            "migrations/0001_users.sql",
            "CREATE TABLE users(id INTEGER);",
        )
        .file(
            "migrations/0002_orders.sql",
            "CREATE TABLE orders(id INTEGER);",
        )
        .file(
            "migrations/0003_items.sql",
            "CREATE TABLE items(id INTEGER);",
        );
    declare(&project, props);
    (cloud, project)
}

fn declare(project: &Project, props: &str) {
    let script = format!(
        "alchemy(\"shop\");\nDatabase(\"orders\", #{{ name: \"orders\", migrations: \"migrations\"{props} }});\n"
    );
    project.file("alchemy.run.rhai", script);
}

fn result(cloud: &ServedCloud, path: &str, body: &'static str) -> serde_json::Value {
    let (status, answer) = cloud.call("POST", path, body);
    assert_eq!(status, 200, "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str::<serde_json::Value>(body).unwrap()["result"].clone()
}

/// The names of the tables and of the applied migrations.
fn holds(cloud: &ServedCloud) -> (Vec<String>, Vec<String>) {
    holds_in(cloud, "orders")
}

fn holds_in(cloud: &ServedCloud, name: &str) -> (Vec<String>, Vec<String>) {
    let (_, answer) = cloud.call("GET", &format!("d1/database?name={name}"), "");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let listed: serde_json::Value = serde_json::from_str(body).unwrap();
    let id = listed["result"][0]["uuid"].as_str().unwrap();
    let sql = r#"{"sql":"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> 'd1_migrations' ORDER BY name; SELECT name FROM d1_migrations ORDER BY id"}"#;
    let found = result(cloud, &format!("d1/database/{id}/query"), sql);
    let names = |index: usize| {
        let rows = found[index]["results"].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    (names(0), names(1))
}

fn alch(project: &Project, command: &str) -> Output {
    project.alch([command, "--target", "cloudflare"])
}

const ALL: [&str; 3] = ["0001_users.sql", "0002_orders.sql", "0003_items.sql"];

#[test]
fn an_adopted_database_with_tables_is_not_migrated_without_a_word() {
    let (cloud, project) = setting(", adopt: true");
    alch(&project, "run").check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  orders (cloudflare::D1Database)
  failed    orders  the D1 database `orders` has tables already (`orders`, `users`), and its table `d1_migrations` names no applied migration
error[E0301]: `orders` (cloudflare::D1Database): create failed: the D1 database `orders` has tables already (`orders`, `users`), and its table `d1_migrations` names no applied migration
 --> alchemy.run.rhai:2:1
  |
2 | Database("orders", #{ name: "orders", migrations: "migrations", adopt: true });
  | ^^^^^^^^ declared here
  |
  = help: pass `baseline: "0003_items.sql"` when the migrations up to that file made them (`baseline: true`: all of them), or `baseline: false` to apply every migration to the database as it is
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    assert_eq!(
        holds(&cloud),
        (vec!["orders".to_owned(), "users".to_owned()], Vec::new())
    );

    // The plan shows the choice, and the run makes it true.
    declare(&project, ", adopt: true, baseline: \"0002\"");
    alch(&project, "plan").check(str![[r#"
exit 0
-- stdout
  + orders (cloudflare::D1Database)  orders  # its creation did not finish
      + baseline: "0002_orders.sql"
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    alch(&project, "run").check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  orders (cloudflare::D1Database)
  ..        orders  2 migrations count as applied, from `0001_users.sql` to `0002_orders.sql`
  ..        orders  applying migration `0003_items.sql`
  adopted   orders  orders  [TIME]
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 4 API calls)

"#]]);
    let (tables, applied) = holds(&cloud);
    assert_eq!(tables, ["items", "orders", "users"]);
    assert_eq!(applied, ALL);

    // From here on the table knows; later migrations are applied whatever the prop says.
    project.file("migrations/0004_more.sql", "CREATE TABLE more(id INTEGER);");
    declare(&project, ", adopt: true, baseline: true");
    alch(&project, "run").success();
    assert_eq!(holds(&cloud).0, ["items", "more", "orders", "users"]);
    assert_eq!(
        alch(&project, "run").success().last_line(),
        "0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
}

#[test]
fn all_migrations_or_none_can_count_as_applied() {
    let (cloud, project) = setting(", baseline: true");
    project
        .alch(["run", "--target", "cloudflare", "--adopt"])
        .success();
    let (tables, applied) = holds(&cloud);
    assert_eq!(tables, ["orders", "users"]);
    assert_eq!(applied, ALL);

    let (_cloud, project) = setting(", adopt: true, baseline: false");
    let error = alch(&project, "run").code(4);
    assert!(
        error.stderr.contains("migration `0001_users.sql`, line 1, `CREATE TABLE users(id INTEGER)` failed: table users already exists"),
        "{}",
        error.stderr
    );
}

#[test]
fn a_new_database_is_migrated_whole_whatever_the_baseline() {
    let (cloud, project) = setting(", baseline: true");
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\");\nDatabase(\"fresh\", #{ migrations: \"migrations\", baseline: true });\n",
    );
    alch(&project, "run").success();
    let (tables, applied) = holds_in(&cloud, "fresh-dev");
    assert_eq!(tables, ["items", "orders", "users"]);
    assert_eq!(applied, ALL);
}

#[test]
fn a_baseline_that_names_no_migration_is_told_with_those_there_are() {
    let (_cloud, project) = setting(", baseline: \"0009\"");
    alch(&project, "run").check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
error[E0202]: `baseline` of cloudflare::D1Database: no migration begins with `0009`
 --> alchemy.run.rhai:2:75
  |
2 | Database("orders", #{ name: "orders", migrations: "migrations", baseline: "0009" });
  |                                                                           ^^^^^^
  |
  = help: there are `0001_users.sql`, `0002_orders.sql`, `0003_items.sql`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    let script = "alchemy(\"shop\");\nDatabase(\"orders\", #{ baseline: true });\n";
    project.file("alchemy.run.rhai", script);
    alch(&project, "run").check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
error[E0202]: `baseline` of cloudflare::D1Database: it says which migrations count as applied, and there are no `migrations`
 --> alchemy.run.rhai:2:23
  |
2 | Database("orders", #{ baseline: true });
  |                       ^^^^^^^^
  |
  = help: give `migrations`, or take it away
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}
