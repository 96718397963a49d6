//! `alch destroy` and deletes in general: what refuses, what is kept, what is left and how it goes on.

use snapbox::str;

use crate::support::{Project, cloud::ServedCloud};

/// A bucket, a cache and a Worker that is bound to both.
const SCRIPT: &str = r#"
let app = alchemy("shop");
let files = Bucket("files");
let cache = KV("cache");
let api = Worker("api", #{ script: "export default {}", bindings: #{ FILES: files, CACHE: cache } });
"#;

/// A project that is deployed to a served cloud.
fn deployed(script: &str) -> (Project, ServedCloud) {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    project
        .alch(["run", "--target", "cloudflare", "--concurrency", "1"])
        .success();
    cloud.take_calls();
    (project, cloud)
}

/// The calls that delete something.
fn deletes(cloud: &ServedCloud) -> Vec<String> {
    cloud
        .take_calls()
        .into_iter()
        .filter(|call| call.starts_with("DELETE "))
        .collect()
}

#[test]
fn what_cannot_be_deleted_is_named_and_the_next_destroy_goes_on() {
    let (project, cloud) = deployed(SCRIPT);
    let object = "r2/buckets/files-dev/objects/notes/today.txt";
    assert_eq!(cloud.call("PUT", object, "remember the milk").0, 200);
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  api (cloudflare::Worker)
  deleted   api  api-dev  [TIME]
- deleting  cache (cloudflare::KVNamespace)
  deleted   cache  cache-dev  [TIME]
- deleting  files (cloudflare::R2Bucket)
  failed    files  The bucket you tried to delete is not empty.
error[E0301]: `files` (cloudflare::R2Bucket): delete failed: The bucket you tried to delete is not empty. [10008]
 --> alchemy.run.rhai:3:13
  |
3 | let files = Bucket("files");
  |             ^^^^^^ declared here
  |
  = note: the call was DELETE /accounts/../r2/buckets/files-dev, answered with HTTP 409
  = help: pass `empty: true` so that a delete removes the objects first
still there:
  files
0 created, 0 updated, 2 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN             KIND                  PHYSICAL NAME  STATUS
shop/dev/files  cloudflare::R2Bucket  files-dev      deleting

"#]]);
    // Trying again without mending changes nothing.
    project.alch(["destroy", "--yes"]).code(4);
    assert_eq!(cloud.call("GET", object, "").0, 200, "the object went");
    assert_eq!(cloud.call("DELETE", object, "").0, 200);
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  files (cloudflare::R2Bucket)
  deleted   files  files-dev  [TIME]
0 created, 0 updated, 1 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
    assert_eq!(cloud.call("GET", "r2/buckets/files-dev", "").0, 404);
    project.alch(["stages"]).check(str![[r#"
exit 0
-- stdout
no stage has state here

"#]]);
    project.alch(["destroy", "--yes"]).code(6);
}

#[test]
fn a_failing_delete_keeps_what_it_depends_on() {
    let (project, cloud) = deployed(SCRIPT);
    cloud.refuse(Some(("DELETE", "workers/scripts")));
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  api (cloudflare::Worker)
  failed    api  not today
error[E0301]: `api` (cloudflare::Worker): delete failed: not today [10001]
 --> alchemy.run.rhai:5:11
  |
5 | let api = Worker("api", #{ script: "export default {}", bindings: #{ FILES: files, CACHE: cac...
  |           ^^^^^^ declared here
  |
  = note: the call was DELETE /accounts/../workers/scripts/api-dev, answered with HTTP 400
still there:
  api
  cache
  files
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    let tried = deletes(&cloud);
    assert_eq!(
        tried,
        ["DELETE workers/scripts/api-dev"],
        "bucket and cache are still bound to the Worker"
    );
    cloud.refuse(None);
    let summary = project.alch(["destroy", "--yes"]).success().last_line();
    assert!(
        summary.starts_with("0 created, 0 updated, 3 deleted"),
        "{summary}"
    );
}

#[test]
fn destroy_stops_at_the_first_failure_when_asked() {
    let (mut project, cloud) =
        deployed("alchemy(\"shop\");\nBucket(\"one\");\nBucket(\"two\");\nBucket(\"three\");\n");
    cloud.refuse(Some(("DELETE", "three-dev")));
    project.env("ALCHEMY_DESTROY_CONTINUE_ON_ERROR", "false");
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  three (cloudflare::R2Bucket)
  failed    three  not today
error[E0301]: `three` (cloudflare::R2Bucket): delete failed: not today [10001]
 --> alchemy.run.rhai:4:1
  |
4 | Bucket("three");
  | ^^^^^^ declared here
  |
  = note: the call was DELETE /accounts/../r2/buckets/three-dev, answered with HTTP 400
still there:
  one
  three
  two
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    assert_eq!(deletes(&cloud), ["DELETE r2/buckets/three-dev"]);
}

#[test]
fn a_dry_run_names_everything_and_deletes_nothing() {
    let (mut project, cloud) = deployed(SCRIPT);
    project.env("ALCHEMY_DESTROY_DRY_RUN", "true");
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stdout
  - api (cloudflare::Worker)  api-dev  # the stage goes
  - cache (cloudflare::KVNamespace)  cache-dev  # the stage goes
  - files (cloudflare::R2Bucket)  files-dev  # the stage goes
Plan: 0 to create, 0 to update, 3 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(deletes(&cloud), Vec::<String>::new());
}

#[test]
fn what_is_gone_already_is_no_failure() {
    let (project, cloud) = deployed(SCRIPT);
    assert_eq!(cloud.call("DELETE", "workers/scripts/api-dev", "").0, 200);
    assert_eq!(cloud.call("DELETE", "r2/buckets/files-dev", "").0, 200);
    let summary = project.alch(["destroy", "--yes"]).success().last_line();
    assert!(
        summary.starts_with("0 created, 0 updated, 3 deleted"),
        "{summary}"
    );
}

#[test]
fn an_orphan_that_cannot_be_deleted_is_tried_again_by_the_next_run() {
    let (project, cloud) = deployed(SCRIPT);
    assert_eq!(
        cloud
            .call("PUT", "r2/buckets/files-dev/objects/a", "text")
            .0,
        200
    );
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nKV(\"cache\");\n",
    );
    project
        .alch(["run", "--target", "cloudflare"])
        .check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
- deleting  api (cloudflare::Worker)
  deleted   api  api-dev  [TIME]
- deleting  files (cloudflare::R2Bucket)
  failed    files  The bucket you tried to delete is not empty.
error[E0301]: `files` (cloudflare::R2Bucket): delete failed: The bucket you tried to delete is not empty. [10008]
 = note: the call was DELETE /accounts/../r2/buckets/files-dev, answered with HTTP 409
 = help: pass `empty: true` so that a delete removes the objects first
still there:
  files
0 created, 0 updated, 1 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN             KIND                     PHYSICAL NAME  STATUS
shop/dev/files  cloudflare::R2Bucket     files-dev      deleting
shop/dev/cache  cloudflare::KVNamespace  cache-dev      ready

"#]]);
    cloud.call("DELETE", "r2/buckets/files-dev/objects/a", "");
    let summary = project
        .alch(["run", "--target", "cloudflare"])
        .success()
        .last_line();
    assert!(
        summary.starts_with("0 created, 0 updated, 1 deleted, 1 unchanged"),
        "{summary}"
    );
}

#[test]
fn protected_resources_stay_until_they_are_released() {
    let protected = SCRIPT.replace("Bucket(\"files\")", "Bucket(\"files\", #{ protect: true })");
    let (project, cloud) = deployed(&protected);
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  api (cloudflare::Worker)
  deleted   api  api-dev  [TIME]
- deleting  cache (cloudflare::KVNamespace)
  deleted   cache  cache-dev  [TIME]
  failed    files  it is protected (`protect: true`)
error[E0307]: `files` (cloudflare::R2Bucket) is protected: it would be deleted
 --> alchemy.run.rhai:3:13
  |
3 | let files = Bucket("files", #{ protect: true });
  |             ^^^^^^ declared here
  |
  = help: remove `protect: true` from the resource, run, and try again
still there:
  files
0 created, 0 updated, 2 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    assert_eq!(cloud.call("GET", "r2/buckets/files-dev", "").0, 200);
    // Neither by leaving the script.
    project.file("alchemy.run.rhai", "let app = alchemy(\"shop\");\n");
    project
        .alch(["run", "--target", "cloudflare"])
        .check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
  failed    files  it is protected (`protect: true`)
error[E0307]: `files` (cloudflare::R2Bucket) is protected: it would be deleted
 = help: remove `protect: true` from the resource, run, and try again
still there:
  files
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(cloud.call("GET", "r2/buckets/files-dev", "").0, 200);
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run", "--target", "cloudflare"]).success();
    project.alch(["destroy", "--yes"]).success();
    assert_eq!(cloud.call("GET", "r2/buckets/files-dev", "").0, 404);
}

#[test]
fn adopted_objects_are_kept_unless_told_otherwise() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(
        "let app = alchemy(\"shop\");\nKV(\"mine\");\nKV(\"theirs\", #{ title: \"theirs\" });\n",
    );
    cloud.serve_to(&mut project);
    let theirs = ("POST", "storage/kv/namespaces", r#"{"title":"theirs"}"#);
    assert_eq!(cloud.call(theirs.0, theirs.1, theirs.2).0, 200);
    let run = ["run", "--target", "cloudflare", "--concurrency", "1"];
    project.alch(run).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  mine (cloudflare::KVNamespace)
  created   mine  mine-dev  [TIME]
+ creating  theirs (cloudflare::KVNamespace)
  failed    theirs  a namespace with this account ID and title already exists: theirs
error[E0302]: `theirs` (cloudflare::KVNamespace): create failed: a namespace with this account ID and title already exists: theirs [10014]
 --> alchemy.run.rhai:3:1
  |
3 | KV("theirs", #{ title: "theirs" });
  | ^^ declared here
  |
  = note: the call was POST /accounts/../storage/kv/namespaces, answered with HTTP 400
  = help: take it over with `adopt: true` (or `--adopt`), or choose another `name`
1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    project
        .alch(run.into_iter().chain(["--adopt"]))
        .check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  theirs (cloudflare::KVNamespace)
  adopted   theirs  theirs  [TIME]
0 created, 0 updated, 0 deleted, 1 unchanged, 1 adopted in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN              KIND                     PHYSICAL NAME  STATUS
shop/dev/mine    cloudflare::KVNamespace  mine-dev       ready
shop/dev/theirs  cloudflare::KVNamespace  theirs         ready, adopted

"#]]);
    project.alch(["destroy"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: delete 1 resource of stage shop/dev on target cloudflare? Kept: 1 adopted object (`--delete-adopted` deletes them too).
 = help: `alch destroy --app shop --stage dev --yes`

"#]]);
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
  forgotten theirs  theirs  [TIME]
- deleting  mine (cloudflare::KVNamespace)
  deleted   mine  mine-dev  [TIME]
0 created, 0 updated, 1 deleted, 0 unchanged, 1 forgotten in [TIME] (critical path [TIME], 1 API call)

"#]]);
    let titles = |cloud: &ServedCloud| cloud.call("GET", "storage/kv/namespaces", "").1;
    assert!(titles(&cloud).contains("theirs"), "{}", titles(&cloud));
    assert!(!titles(&cloud).contains("mine"), "{}", titles(&cloud));
    project.alch(run.into_iter().chain(["--adopt"])).success();
    project
        .alch(["destroy", "--yes", "--delete-adopted"])
        .success();
    assert!(!titles(&cloud).contains("theirs"), "{}", titles(&cloud));
}

#[test]
fn delete_false_leaves_the_object_to_itself() {
    let (project, cloud) = deployed(
        "let app = alchemy(\"shop\");\nBucket(\"files\", #{ delete: false });\nBucket(\"more\");\n",
    );
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase destroy, target cloudflare
- deleting  more (cloudflare::R2Bucket)
  deleted   more  more-dev  [TIME]
  forgotten files  files-dev  [TIME]
0 created, 0 updated, 1 deleted, 0 unchanged, 1 forgotten in [TIME] (critical path [TIME], 1 API call)

"#]]);
    assert_eq!(cloud.call("GET", "r2/buckets/files-dev", "").0, 200);
    assert_eq!(cloud.call("GET", "r2/buckets/more-dev", "").0, 404);
}

#[test]
fn consent_names_what_goes_and_a_pipe_gives_none() {
    let (project, cloud) = deployed(SCRIPT);
    let mut command = project.command(["destroy"]);
    command.stdin(std::process::Stdio::piped());
    project.output_of(&mut command).check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: delete 3 resources of stage shop/dev on target cloudflare?
 = help: `alch destroy --app shop --stage dev --yes`

"#]]);
    project.alch(["destroy", "--json"]).code(2);
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn a_stage_without_state_is_named_with_those_that_have() {
    let project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 6
-- stderr
error[E0406]: no state in `[ROOT]/project/.alchemy`
 = help: `alch run` deploys a script; state-only commands run in its folder

"#]]);
    for stage in ["dev", "pr-123", "prod"] {
        project.alch(["run", "--stage", stage]).success();
    }
    project
        .alch(["destroy", "--stage", "pr-12", "--yes"])
        .check(str![[r#"
exit 6
-- stderr
error[E0406]: stage shop/pr-12 has no state
 = note: stages with state: `shop/dev`, `shop/pr-123`, `shop/prod`
 = help: choose one with `--stage NAME`

"#]]);
    project
        .alch(["run", "--destroy", "--stage", "pr-12"])
        .check(str![[r#"
exit 6
-- stderr
alch: app shop, stage pr-12, phase destroy, target local
error[E0406]: stage shop/pr-12 has no state
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = help: stages with state: dev, pr-123, prod

"#]]);
    project
        .alch(["destroy", "--app", "shoop", "--yes"])
        .check(str![[r#"
exit 6
-- stderr
error[E0406]: stage shoop/dev has no state
 = note: stages with state: `shop/dev`, `shop/pr-123`, `shop/prod`
 = help: choose one with `--app NAME`

"#]]);
}

#[test]
fn a_stage_is_destroyed_at_the_target_that_it_was_deployed_to() {
    let (project, cloud) = deployed(SCRIPT);
    project
        .alch(["destroy", "--yes", "--target", "local"])
        .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase destroy, target local
error[E0410]: stage shop/dev was deployed to `cloudflare`, this run is for `local`
 = note: nothing was changed
 = help: go on with `--target cloudflare`
 = help: or use another `--stage`, or destroy this one on its own target first

"#]]);
    project.alch(["destroy", "--yes"]).success();
    assert_eq!(deletes(&cloud).len(), 3);
}
