//! Renames, in the script and in state: what a resource holds stays, whatever it is called.

use snapbox::str;

use crate::{kill::in_the_cloud, support::Project};

/// A project that has deployed `before` and now holds `after`; both stand behind `alchemy("shop")`.
fn changed(before: &str, after: &str) -> Project {
    let project = Project::new();
    script(&project, before);
    project.alch(["run"]).success();
    script(&project, after);
    project
}

fn script(project: &Project, rest: &str) {
    let text = format!("let app = alchemy(\"shop\");\n{rest}\n");
    project.file("alchemy.run.rhai", text);
}

/// The names of all that the local cloud holds.
fn names(project: &Project) -> Vec<String> {
    let objects = in_the_cloud(project).into_iter();
    objects.map(|(_, name)| name).collect()
}

#[test]
fn an_object_that_was_taken_over_under_another_name_is_not_deleted() {
    let project = changed(
        "KV(\"cache\");",
        "alchemy.run(\"storage\", || KV(\"cache\"));",
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  storage/cache (cloudflare::KVNamespace)
  failed    storage/cache  a namespace with this account ID and title already exists: cache-dev
error[E0302]: `storage/cache` (cloudflare::KVNamespace): create failed: a namespace with this account ID and title already exists: cache-dev [10014]
 --> alchemy.run.rhai:2:27
  |
2 | alchemy.run("storage", || KV("cache"));
  |                           ^^ declared here
  |
  = note: the call was POST /accounts/../storage/kv/namespaces, answered with HTTP 400
  = help: state holds it as `cache`; to rename it, write `moved("cache", "storage/cache");` before `storage/cache` is declared
still there:
  cache
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + storage/cache (cloudflare::KVNamespace)  cache-dev  # not in state
  x cache (cloudflare::KVNamespace)  cache-dev  # its object is that of storage/cache
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 1 to forget
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0302]: `cache` and `storage/cache` are one object, `cache-dev`: it looks like a rename
 = note: `alch run` would fail: `cache-dev` exists, and `cache` holds it
 = help: to rename it, write `moved("cache", "storage/cache");` before `storage/cache` is declared

"#]]);
    project.alch(["plan", "--adopt"]).check(str![[r#"
exit 0
-- stdout
  > storage/cache (cloudflare::KVNamespace)  cache-dev  # is there already
  x cache (cloudflare::KVNamespace)  cache-dev  # its object is that of storage/cache
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 to adopt, 1 to forget
-- stderr
alch: app shop, stage dev, phase plan, target local
`cache` is forgotten, not deleted: its object `cache-dev` belongs to `storage/cache`

"#]]);
    project.alch(["run", "--adopt"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  storage/cache (cloudflare::KVNamespace)
  adopted   storage/cache  cache-dev  [TIME]
`cache` is forgotten, not deleted: its object `cache-dev` belongs to `storage/cache`
  forgotten cache  cache-dev  [TIME]
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted, 1 forgotten in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    assert_eq!(names(&project), ["cache-dev"]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN                     KIND                     PHYSICAL NAME  STATUS
shop/dev/storage/cache  cloudflare::KVNamespace  cache-dev      ready

"#]]);
    // It is one of our own, as before, so it goes with the stage.
    project.alch(["destroy", "--yes"]).success();
    assert!(names(&project).is_empty());
}

#[test]
fn a_plan_says_what_looks_like_a_rename() {
    // Named after where it stands, so the new name does not meet the old object.
    let project = changed(
        "KVNamespace(\"cache\");",
        "alchemy.run(\"storage\", || KVNamespace(\"cache\"));",
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + storage/cache (cloudflare::KVNamespace)  shop-storage-cache-dev  # not in state
  - cache (cloudflare::KVNamespace)  shop-cache-dev  # no longer declared
Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
looks like a rename: `cache` goes, `storage/cache` of the same kind and props comes; to rename it, write `moved("cache", "storage/cache");` before `storage/cache` is declared

"#]]);
    // Which of two it was nobody can tell.
    script(&project, "KVNamespace(\"one\");\nKVNamespace(\"two\");");
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + one (cloudflare::KVNamespace)  shop-one-dev  # not in state
  + two (cloudflare::KVNamespace)  shop-two-dev  # not in state
  - cache (cloudflare::KVNamespace)  shop-cache-dev  # no longer declared
Plan: 2 to create, 0 to update, 1 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
}

#[test]
fn a_caught_conflict_leaves_the_object_and_its_record() {
    let project = changed(
        "Database(\"orders\");",
        "try { alchemy.run(\"s\", || Database(\"orders\").id); } catch { log(\"not yet\"); }",
    );
    assert!(project.alch(["run"]).success().stderr.contains("not yet"));
    assert_eq!(names(&project), ["orders-dev"]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN              KIND                    PHYSICAL NAME  STATUS
shop/dev/orders  cloudflare::D1Database  orders-dev     ready

"#]]);
}

#[test]
fn moved_stands_before_what_it_moves() {
    for late in [
        "KV(\"new\");\nmoved(\"old\", \"new\");",
        "app.run(\"s\", || KV(\"a\"));\nmoved(\"old\", \"s\");",
        "KV(\"old\");\nmoved(\"old\", \"new\");",
    ] {
        let project = changed("KV(\"old\");", late);
        let output = project.alch(["run"]).code(1);
        assert!(
            output.stderr.contains("must stand before"),
            "{}",
            output.stderr
        );
        assert!(names(&project).contains(&"old-dev".to_owned()));
    }
    let project = changed("KV(\"old\");", "KV(\"new\");\nmoved(\"old\", \"new\");");
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + new (cloudflare::KVNamespace)  new-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0205]: `moved` must stand before `new` is declared
 --> alchemy.run.rhai:3:1
  |
3 | moved("old", "new");
  | ^^^^^
  |
  = note: `new` is declared at alchemy.run.rhai:2:1
  = help: put `moved(..)` at the top, right behind `alchemy(..)`

"#]]);
}

#[test]
fn moved_is_relative_to_its_scope_first() {
    for (before, after, fqn) in [
        (
            "app.run(\"s\", || KV(\"a\"));",
            "app.run(\"s\", || { moved(\"a\", \"b\"); KV(\"b\") });",
            "s/b",
        ),
        (
            "app.run(\"s\", || KV(\"a\"));",
            "app.run(\"s\", |s| { s.moved(\"a\", \"b\"); s.KV(\"b\") });",
            "s/b",
        ),
        (
            "app.run(\"s\", || KV(\"a\"));",
            "app.run(\"s\", || { moved(\"s/a\", \"s/b\"); KV(\"b\") });",
            "s/b",
        ),
        (
            "KV(\"a\");",
            "app.run(\"s\", || { moved(\"a\", \"s/b\"); KV(\"b\") });",
            "s/b",
        ),
        (
            "app.run(\"s\", || KV(\"a\"));",
            "moved(\"s\", \"t\");\napp.run(\"t\", || KV(\"a\"));",
            "t/a",
        ),
    ] {
        let project = changed(before, after);
        let line = project.alch(["run"]).success().last_line();
        assert!(
            line.starts_with("0 created, 0 updated, 0 deleted, 1 unchanged"),
            "{after}: {line}"
        );
        assert_eq!(names(&project), ["a-dev"]);
        assert!(project.alch(["state", "ls"]).stdout.contains(fqn));
        // Where it was done already it does nothing.
        let again = project.alch(["run"]).success();
        assert!(!again.stderr.contains("warning"), "{}", again.stderr);
    }
}

#[test]
fn a_move_to_a_name_that_nobody_declares_is_told() {
    let project = changed(
        "KV(\"a\");",
        "moved(\"a\", \"b\");\napp.run(\"s\", || moved(\"x\", \"y\"));",
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  - b (cloudflare::KVNamespace)  a-dev  # no longer declared
Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0411]: `moved("a", "b")`: the script does not declare `b`
 --> alchemy.run.rhai:2:1
  |
2 | moved("a", "b");
  | ^^^^^
  |
  = help: correct the new name, within the scope or the stage, or remove the line
warning[E0411]: `moved("x", "y")`: the script does not declare `s/y` or `y`
 --> alchemy.run.rhai:3:17
  |
3 | app.run("s", || moved("x", "y"));
  |                 ^^^^^
  |
  = help: correct the new name, within the scope or the stage, or remove the line

"#]]);
}

#[test]
fn a_name_is_a_resource_or_a_scope() {
    let project = changed(
        "KV(\"keep\");\napp.run(\"storage\", || KV(\"cache\"));",
        "moved(\"keep\", \"storage/cache\");\napp.run(\"storage\", || KV(\"cache\"));",
    );
    project.alch(["state", "mv", "keep", "storage"]).check(str![[r#"
exit 1
-- stderr
error[E0206]: `shop/dev/storage` cannot be: `shop/dev/storage/cache` is in state, and a name is a resource or a scope, not both
 = note: nothing was changed
 = help: choose a name that is free; `alch state ls` lists what is in state

"#]]);
    project.alch(["state", "mv", "storage", "keep"]).check(str![[r#"
exit 1
-- stderr
error[E0206]: `shop/dev/keep/cache` cannot be: `shop/dev/keep` is in state, and a name is a resource or a scope, not both
 = note: nothing was changed
 = help: choose a name that is free; `alch state ls` lists what is in state

"#]]);
    project.alch(["state", "mv", "storage/cache", "keep/cache"]).check(str![[r#"
exit 1
-- stderr
error[E0206]: `shop/dev/keep/cache` cannot be: `shop/dev/keep` is in state, and a name is a resource or a scope, not both
 = note: nothing was changed
 = help: choose a name that is free; `alch state ls` lists what is in state

"#]]);
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
2 resources were not reached and stay
error[E0206]: `shop/dev/storage/cache` is in state already
 --> alchemy.run.rhai:2:1
  |
2 | moved("keep", "storage/cache");
  | ^^^^^
  |
  = note: nothing was changed
  = help: to give up the other `storage/cache`: declare the old name in its place, run (this deletes the object of `storage/cache`), and rename then
  = help: or choose a name that is free; `alch state ls` lists what is in state
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    // A scope of one may become that one.
    project
        .alch(["state", "mv", "storage/cache", "storage"])
        .success();
}
