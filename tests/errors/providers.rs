//! Errors of providers: the frame shows the declaration, and the summary what was done beside it.

use snapbox::str;

use super::shop;

#[test]
fn a_migration_that_is_not_sql() {
    let project = shop("let db = Database(\"main\", #{ migrations: \"./migrations\" });");
    project.file(
        "migrations/0001_users.sql",
        "CREATE TABLE users (id INTEGER PRIMARY KEY);\nCREATE TABEL posts (id INTEGER);\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::D1Database)
  ..        main  applying migration `0001_users.sql`
  ..        main  applying migration `0001_users.sql`
  failed    main  migration `0001_users.sql`, line 2, `CREATE TABEL posts (id INTEGER)` failed: near "TABEL": syntax error at offset 8: SQLITE_ERROR
error[E0301]: `main` (cloudflare::D1Database): create failed: migration `0001_users.sql`, line 2, `CREATE TABEL posts (id INTEGER)` failed: near "TABEL": syntax error at offset 8: SQLITE_ERROR [7500]
 --> alchemy.run.rhai:2:10
  |
2 | let db = Database("main", #{ migrations: "./migrations" });
  |          ^^^^^^^^ declared here
  |
  = note: the call was POST /accounts/../d1/database/[..]/query, answered with HTTP 400
  = help: correct `0001_users.sql` and run again: nothing of it was applied, and what came before it is kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 6 API calls)

"#]]);
}

#[test]
fn a_name_that_is_taken() {
    let project = shop("let cache = KV(\"cache\", #{ title: \"shared\" });");
    project.alch(["run"]).success();
    project.file(
        "other.rhai",
        "let app = alchemy(\"blog\");\nlet mine = KV(\"mine\", #{ title: \"shared\" });\n",
    );
    project.alch(["run", "other.rhai"]).check(str![[r#"
exit 4
-- stderr
alch: app blog, stage dev, phase up, target local
+ creating  mine (cloudflare::KVNamespace)
  failed    mine  a namespace with this account ID and title already exists: shared
error[E0302]: `mine` (cloudflare::KVNamespace): create failed: a namespace with this account ID and title already exists: shared [10014]
 --> other.rhai:2:12
  |
2 | let mine = KV("mine", #{ title: "shared" });
  |            ^^ declared here
  |
  = note: the call was POST /accounts/../storage/kv/namespaces, answered with HTTP 400
  = help: take it over with `adopt: true` (or `--adopt`), or choose another `name`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.alch(["run", "other.rhai", "--adopt"]).success();
}

#[test]
fn what_depends_on_a_failure_is_skipped_and_the_rest_goes_on() {
    let project = shop(
        "let db = Database(\"main\", #{ migrations: \"./migrations\" });\nWorker(\"api\", #{ script: \"export default {}\", bindings: #{ DB: db } });\nKV(\"cache\");",
    );
    project.file("migrations/0001.sql", "nonsense;");
    let output = project.alch(["run"]).code(4);
    let lines = output.sorted_lines();
    let told = lines.join("\n");
    snapbox::assert_data_eq!(
        told,
        str![[r#"
  ..        main  applying migration `0001.sql`
  ..        main  applying migration `0001.sql`
  = help: correct `0001.sql` and run again: nothing of it was applied, and what came before it is kept
  = note: the call was POST /accounts/../d1/database/[..]/query, answered with HTTP 400
  created   cache  cache-dev  [TIME]
  failed    main  migration `0001.sql`, line 1, `nonsense` failed: near "nonsense": syntax error at offset 0: SQLITE_ERROR
  skipped   api  because main failed
  |
  |
  |          ^^^^^^^^ declared here
 --> alchemy.run.rhai:2:10
+ creating  cache (cloudflare::KVNamespace)
+ creating  main (cloudflare::D1Database)
1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed, 1 skipped in [TIME] (critical path [TIME], 7 API calls)
2 | let db = Database("main", #{ migrations: "./migrations" });
alch: app shop, stage dev, phase up, target local
error[E0301]: `main` (cloudflare::D1Database): create failed: migration `0001.sql`, line 1, `nonsense` failed: near "nonsense": syntax error at offset 0: SQLITE_ERROR [7500]
"#]]
    );
}

#[test]
fn a_failure_that_is_read_is_told_once() {
    let project =
        shop("let db = Database(\"main\", #{ migrations: \"./migrations\" });\nprint(db.id);");
    project.file("migrations/0001.sql", "nonsense;");
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::D1Database)
  ..        main  applying migration `0001.sql`
  ..        main  applying migration `0001.sql`
  failed    main  migration `0001.sql`, line 1, `nonsense` failed: near "nonsense": syntax error at offset 0: SQLITE_ERROR
error[E0301]: `main` (cloudflare::D1Database): create failed: migration `0001.sql`, line 1, `nonsense` failed: near "nonsense": syntax error at offset 0: SQLITE_ERROR [7500]
 --> alchemy.run.rhai:2:10
  |
2 | let db = Database("main", #{ migrations: "./migrations" });
  |          ^^^^^^^^ declared here
  |
  = note: the call was POST /accounts/../d1/database/[..]/query, answered with HTTP 400
  = help: correct `0001.sql` and run again: nothing of it was applied, and what came before it is kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 6 API calls)

"#]]);
}

#[test]
fn a_command_that_fails() {
    shop("Exec(\"build\", #{ command: \"echo no rule >&2; exit 3\" });")
        .alch(["run", "--allow-exec"])
        .check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  build (std::Exec)
  ..        build  no rule
  failed    build  `echo no rule >&2; exit 3` ended with exit code 3:
error[E0301]: `build` (std::Exec): create failed: `echo no rule >&2; exit 3` ended with exit code 3:
              no rule
 --> alchemy.run.rhai:2:1
  |
2 | Exec("build", #{ command: "echo no rule >&2; exit 3" });
  | ^^^^ declared here
  |
  = help: run it by hand in `[ROOT]/project`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn a_protected_resource_is_not_deleted() {
    let project = shop("KV(\"cache\", #{ protect: true });");
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", "let app = alchemy(\"shop\");\n");
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
  failed    cache  it is protected (`protect: true`)
error[E0307]: `cache` (cloudflare::KVNamespace) is protected: it would be deleted
 = help: remove `protect: true` from the resource, run, and try again
still there:
  cache
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}
