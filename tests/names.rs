//! Stages and physical names: what is called how, which stage is meant, and who is refused.

use std::path::PathBuf;

use snapbox::str;

use crate::support::{Output, Project};

/// Blocks and raw kinds, at the top and in nested scopes.
const NAMES: &str = r#"
let app = alchemy("shop");
Database("orders");
KV("cache");
run("web", || {
    Bucket("files");
    run("jobs", || {
        Queue("mail");
        D1Database("log");
        R2Bucket("dumps");
        KVNamespace("seen");
        Worker("sender", #{ script: "export default {}" });
    });
});
R2Bucket("raw");
R2Bucket("as-block", #{ naming: "stage" });
Bucket("as-raw", #{ naming: "app" });
Database("named", #{ name: `named-in-${app.stage}` });
"#;

/// The resources of a stage and what they are called, in the order of the script.
#[track_caller]
fn names(project: &Project, stage: &str) -> Vec<(String, String)> {
    let listed = project
        .alch(["state", "ls", "--stage", stage, "--json"])
        .success();
    let text =
        |record: &serde_json::Value, key: &str| record[key].as_str().expect("a text").to_owned();
    listed.messages()[1]["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .map(|record| (text(record, "fqn"), text(record, "physical_name")))
        .collect()
}

/// The bytes of every file of a stage and of the local cloud's data that is named after it.
fn stage_files(project: &Project, stage: &str) -> Vec<(PathBuf, Vec<u8>)> {
    walkdir::WalkDir::new(project.path(&format!(".alchemy/shop/{stage}")))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("a readable entry"))
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).expect("a readable file");
            (entry.into_path(), bytes)
        })
        .collect()
}

fn no_op(output: &Output, count: usize) {
    let line = output.last_line();
    assert!(
        line.starts_with(&format!(
            "0 created, 0 updated, 0 deleted, {count} unchanged in "
        )) && line.ends_with("0 API calls)"),
        "{line}"
    );
}

#[test]
fn every_stage_has_names_of_its_own() {
    let project = Project::with_script(NAMES);
    for stage in ["preview", "prod", "pr-123", "dev"] {
        project.alch(["run", "--stage", stage]).success();
        let expected = [
            ("orders", "orders-[S]"),
            ("cache", "cache-[S]"),
            ("web/files", "files-[S]"),
            ("web/jobs/mail", "mail-[S]"),
            ("web/jobs/log", "shop-web-jobs-log-[S]"),
            ("web/jobs/dumps", "shop-web-jobs-dumps-[S]"),
            ("web/jobs/seen", "shop-web-jobs-seen-[S]"),
            ("web/jobs/sender", "sender-[S]"),
            ("raw", "shop-raw-[S]"),
            ("as-block", "as-block-[S]"),
            ("as-raw", "shop-as-raw-[S]"),
            ("named", "named-in-[S]"),
        ]
        .map(|(id, name)| (format!("shop/{stage}/{id}"), name.replace("[S]", stage)));
        assert_eq!(names(&project, stage), expected);
    }
}

#[test]
fn two_stages_do_not_touch_each_other() {
    let project = Project::with_script(NAMES);
    project.alch(["run", "--stage", "dev"]).success();
    let dev = stage_files(&project, "dev");
    project.alch(["run", "--stage", "pr-123"]).success();
    assert_eq!(dev, stage_files(&project, "dev"), "deploying the other one");
    no_op(&project.alch(["run", "--stage", "dev"]).success(), 12);
    no_op(&project.alch(["run", "--stage", "pr-123"]).success(), 12);
    let dev = stage_files(&project, "dev");
    let gone = project
        .alch(["destroy", "--stage", "pr-123", "--yes"])
        .success();
    assert!(!gone.stderr.contains("-dev"), "{}", gone.stderr);
    assert_eq!(
        dev,
        stage_files(&project, "dev"),
        "destroying the other one"
    );
    no_op(&project.alch(["run", "--stage", "dev"]).success(), 12);
    // `--force` asks the cloud about each object, so all of them are still there.
    assert!(
        project
            .alch(["run", "--stage", "dev", "--force"])
            .success()
            .last_line()
            .starts_with("0 created, 12 updated, 0 deleted")
    );
}

#[test]
fn long_names_are_cut_with_a_hash() {
    let long = "a-name-that-goes-on-and-on-until-no-bucket-can-be-called-that-any-more";
    let project = Project::with_script(&format!(
        "let app = alchemy(\"shop\");\nBucket(\"{long}-1\");\nBucket(\"{long}-2\");\nrun(\"x\", || Bucket(\"{long}-1\"));\n"
    ));
    for stage in ["dev", "pr-123"] {
        project.alch(["run", "--stage", stage]).success();
    }
    let mut all: Vec<String> = names(&project, "dev")
        .into_iter()
        .chain(names(&project, "pr-123"))
        .map(|(_, name)| name)
        .collect();
    for name in &all {
        assert_eq!(name.len(), 63, "{name}");
        let (kept, hash) = name.rsplit_once('-').expect("a hash");
        assert!(long.starts_with(kept), "{name}");
        assert_eq!(hash.len(), 6, "{name}");
        assert!(hash.chars().all(|c| c.is_ascii_hexdigit()), "{name}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "two resources have one name");
    no_op(&project.alch(["run"]).success(), 3);
}

#[test]
fn an_explicit_name_is_used_as_written_and_the_plan_warns() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
Bucket("files", #{ name: "our-files" });
Database("own", #{ name: `own-${app.stage}` });
KV("shared", #{ name: "shared", adopt: true });
"#,
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + files (cloudflare::R2Bucket)  our-files  # not in state
      + name: "our-files"
  + own (cloudflare::D1Database)  own-dev  # not in state
  + shared (cloudflare::KVNamespace)  shared  # not in state
      + name: "shared"
Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `files` is called `our-files` in every stage
 --> alchemy.run.rhai:3:1
  |
3 | Bucket("files", #{ name: "our-files" });
  | ^^^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`

"#]]);
    project.alch(["run"]).success();
    assert_eq!(
        names(&project, "dev"),
        [
            ("files", "our-files"),
            ("own", "own-dev"),
            ("shared", "shared")
        ]
        .map(|(id, name)| (format!("shop/dev/{id}"), name.to_owned()))
    );
    // What this stage has is no news.
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 3 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
    project
        .alch(["run", "--stage", "prod", "--concurrency", "1", "--quiet"])
        .check(str![[r#"
exit 4
-- stderr
error[E0302]: `files` (cloudflare::R2Bucket): create failed: The bucket you tried to create already exists, and you own it. [10004]
 --> alchemy.run.rhai:3:1
  |
3 | Bucket("files", #{ name: "our-files" });
  | ^^^^^^ declared here
  |
  = note: the call was POST /accounts/../r2/buckets, answered with HTTP 409
  = help: take it over with `adopt: true` (or `--adopt`), or choose another `name`
1 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted, 1 failed in [TIME] (critical path [TIME], 4 API calls)

"#]]);
}

#[test]
fn a_name_that_cannot_be_is_refused_at_its_place() {
    let project = Project::with_script(
        "let app = alchemy(\"shop\");\nBucket(\"files\", #{ name: \"Our Files\" });\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `name` of cloudflare::R2Bucket: `Our Files` is no valid name: it must have 3 to 63 characters of `a-z`, `0-9` and `-`, and neither begin nor end with `-`
 --> alchemy.run.rhai:2:26
  |
2 | Bucket("files", #{ name: "Our Files" });
  |                          ^^^^^^^^^^^
  |
  = help: leave `name` out and the name is `files-dev`, or correct it
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn two_resources_that_would_be_one_object_are_refused() {
    let project = Project::with_script(
        r#"let app = alchemy("shop");
let files = Bucket("files");
run("x", || R2Bucket("dumps", #{ name: "files-dev" }));
"#,
    );
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + files (cloudflare::R2Bucket)  files-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0208]: `x/dumps` and `files` would both be `files-dev`
 --> alchemy.run.rhai:3:13
  |
2 | let files = Bucket("files");
  |             ------ the other one
3 | run("x", || R2Bucket("dumps", #{ name: "files-dev" }));
  | ---         ^^^^^^^^
  | |
  | in this closure
  |
  = help: give one of them another `name`

"#]]);
    project.alch(["run", "--quiet"]).check(str![[r#"
exit 1
-- stderr
error[E0208]: `x/dumps` and `files` would both be `files-dev`
 --> alchemy.run.rhai:3:13
  |
2 | let files = Bucket("files");
  |             ------ the other one
3 | run("x", || R2Bucket("dumps", #{ name: "files-dev" }));
  | ---         ^^^^^^^^
  | |
  | in this closure
  |
  = help: give one of them another `name`
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
    // In another stage they have different names.
    project
        .alch(["plan", "--stage", "prod", "--quiet"])
        .success();
    // Blocks are named by id and stage alone, so scopes do not keep them apart.
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nrun(\"a\", || KV(\"cache\"));\nrun(\"b\", || KV(\"cache\"));\n",
    );
    project.alch(["plan", "--stage", "two"]).check(str![[r#"
exit 1
-- stdout
  + a/cache (cloudflare::KVNamespace)  cache-two  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage two, phase plan, target local
error[E0208]: `b/cache` and `a/cache` would both be `cache-two`
 --> alchemy.run.rhai:3:13
  |
2 | run("a", || KV("cache"));
  |             -- the other one
3 | run("b", || KV("cache"));
  | ---         ^^
  | |
  | in this closure
  |
  = help: give one of them another `name`

"#]]);
    // Objects of different kinds may share a name.
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nKV(\"main\");\nrun(\"b\", || Bucket(\"main\"));\nrun(\"d\", || Database(\"main\"));\nrun(\"q\", || Queue(\"main\"));\n",
    );
    project.alch(["run", "--stage", "three"]).success();
}

#[test]
fn the_nearest_source_names_the_stage() {
    let mut project =
        Project::with_script("alchemy(\"shop\", #{ stage: \"script\" });\nKV(\"a\");\n");
    let stage = |project: &Project, more: &[&str]| {
        let output = project.alch(["plan"].iter().chain(more)).success();
        let rest = output.stderr.split("stage ").nth(1).expect("a stage");
        rest.split(',').next().expect("a name").to_owned()
    };
    project
        .env("ALCHEMY_STAGE", "from-alchemy-stage")
        .env("STAGE", "from-stage");
    assert_eq!(stage(&project, &["--stage", "flag"]), "flag");
    assert_eq!(stage(&project, &[]), "script");
    project.file("alchemy.run.rhai", "alchemy(\"shop\");\nKV(\"a\");\n");
    assert_eq!(stage(&project, &["--stage", "flag"]), "flag");
    assert_eq!(stage(&project, &[]), "from-alchemy-stage");
    let mut project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\n");
    assert_eq!(stage(&project, &[]), "dev");
    project.file("stage.env", "STAGE=from-file\n");
    assert_eq!(stage(&project, &["--env-file", "stage.env"]), "from-file");
    project.env("STAGE", "from-stage");
    assert_eq!(stage(&project, &[]), "from-stage");
    assert_eq!(stage(&project, &["--env-file", "stage.env"]), "from-stage");
}

#[test]
fn commands_on_state_follow_the_environment_too() {
    let mut project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\n");
    project.env("ALCHEMY_STAGE", "pr-123");
    project.alch(["run"]).success();
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN            KIND                     PHYSICAL NAME  STATUS
shop/pr-123/a  cloudflare::KVNamespace  a-pr-123       ready

"#]]);
    project.alch(["destroy", "--yes"]).success();
    project.alch(["state", "ls"]).code(6);
}

#[test]
fn bad_stage_names_are_refused_before_anything_is_written() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\n");
    let long = "x".repeat(201);
    for stage in [
        "", " ", "a/b", "a\\b", "a:b", "a*b", "a\nb", "..", ".", "backups", &long,
    ] {
        let arguments = ["run", "--stage", stage];
        let output = project.alch(arguments).code(2);
        assert!(
            output.stderr.contains("error[E0206]: stage name"),
            "{stage:?}: {}",
            output.stderr
        );
        project.alch(["destroy", "--yes", "--stage", stage]).code(2);
    }
    assert!(!project.path(".alchemy").exists());
    project
        .alch(["run", "--stage", "../prod"])
        .check(str![[r#"
exit 2
-- stderr
error[E0206]: stage name `../prod` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 = help: choose another name; it becomes part of names and of folders in state

"#]]);
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\", #{ stage: \"a/b\" });\nKV(\"a\");\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0206]: stage name `a/b` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 --> alchemy.run.rhai:1:27
  |
1 | alchemy("shop", #{ stage: "a/b" });
  |                           ^^^^^
  |
  = help: choose another name; it becomes part of names and of folders in state

"#]]);
    let mut project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\n");
    project.env("STAGE", "a:b");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0206]: stage name `a:b` holds ':', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop");
  | ^^^^^^^
  |
  = note: from `$STAGE`
  = help: choose another name; it becomes part of names and of folders in state

"#]]);
    assert!(!project.path(".alchemy").exists());
}

#[test]
fn an_unknown_attribute_lists_each_one_once() {
    let project =
        Project::with_script("alchemy(\"shop\");\nlet a = KV(\"a\");\nprint(a.zzzzzz);\n");
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + a (cloudflare::KVNamespace)  a-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0207]: cloudflare::KVNamespace has no attribute `zzzzzz`
 --> alchemy.run.rhai:3:9
  |
3 | print(a.zzzzzz);
  |         ^^^^^^
  |
  = help: it has `id`, `namespaceId`, `name`, `title`, `type`, `fqn`, `kind`, `stage`

"#]]);
}
