//! Handles in phase `read`: outputs from state, and nothing is changed.

use snapbox::str;

use crate::errors::shop;

const SCRIPT: &str = "let db = Database(\"main\");
let cache = KV(\"cache\");
print(`${db.name} ${db.fqn} ${db.id.len() == 36} ${cache.id == db.id}`);
print(db.jurisdiction ?? \"everywhere\");
print(app.phase);";

/// Every file of the state, with its bytes.
fn state(project: &crate::support::Project) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walkdir::WalkDir::new(project.path(".alchemy"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file())
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn outputs_come_from_state_and_nothing_changes() {
    let project = shop(SCRIPT);
    project.alch(["run"]).success();
    let before = state(&project);
    project.alch(["read"]).check(str![[r#"
exit 0
-- stdout
main-dev shop/dev/main true false
everywhere
read
-- stderr
alch: app shop, stage dev, phase read, target local

"#]]);
    assert_eq!(
        project.alch(["read"]).stdout,
        project.alch(["run", "--read"]).stdout
    );
    // Other props are not applied, and what is no longer declared stays.
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nprint(KV(\"cache\", #{ title: \"other\" }).name);\n",
    );
    project.alch(["read"]).check(str![[r#"
exit 0
-- stdout
cache-dev
-- stderr
alch: app shop, stage dev, phase read, target local

"#]]);
    assert!(before == state(&project), "`read` changed state");
}

#[test]
fn a_resource_that_was_never_deployed() {
    let project = shop("let cache = KV(\"cache\");");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nlet cache = KV(\"cache\");\nlet jobs = Queue(\"jobs\");\nprint(jobs.id);\n",
    );
    project.alch(["read"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase read, target local
error[E0411]: `jobs` was never deployed
 --> alchemy.run.rhai:3:12
  |
3 | let jobs = Queue("jobs");
  |            ^^^^^
  |
  = help: deploy it first: alch run --stage dev

"#]]);
}

#[test]
fn a_stage_that_was_never_deployed() {
    let project = shop(SCRIPT);
    project.alch(["read", "--stage", "prod"]).check(str![[r#"
exit 6
-- stderr
alch: app shop, stage prod, phase read, target local
error[E0406]: stage shop/prod has no state
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = help: no stage of this application has state here; deploy one with `alch run`

"#]]);
}

#[test]
fn an_attribute_that_the_kind_lacks() {
    let project = shop("let cache = KV(\"cache\");");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nprint(KV(\"cache\").titel);\n",
    );
    project.alch(["read"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase read, target local
error[E0207]: cloudflare::KVNamespace has no attribute `titel`
 --> alchemy.run.rhai:2:19
  |
2 | print(KV("cache").titel);
  |                   ^^^^^
  |
  = help: did you mean `title`?

"#]]);
}

#[test]
fn references_are_read_through() {
    let project = shop(
        "let db = Database(\"main\");\nlet note = File(\"note\", #{ path: \"note.txt\", content: db.ref(\"id\") });",
    );
    project.alch(["run"]).success();
    std::fs::remove_file(project.path("note.txt")).unwrap();
    project.alch(["read"]).success();
    assert!(!project.path("note.txt").exists(), "`read` wrote a file");
}
