//! `alchemy.test`: a test has state, a lock and names of its own, is swept before and after, and meets no stage.

use snapbox::str;

use crate::support::Project;

#[test]
fn a_test_leaves_the_stage_test_alone() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
KV("main").id;
if alchemy.stage == "dev" {
    alchemy.test("smoke", || { let k = KV("main"); print(`${alchemy.stage} ${k.id.len() > 0}: ${k.name}`); });
}
"#,
    );
    project.alch(["run", "--stage", "test"]).success();
    project.alch(["run"]).check(str![[r#"
exit 0
-- stdout
test-smoke-dev true: main-test-smoke-dev
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::KVNamespace)
  created   main  main-dev  [TIME]
alch: app shop, stage test:smoke:dev, phase up, target local
+ creating  main (cloudflare::KVNamespace)
  created   main  main-test-smoke-dev  [TIME]
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 2 API calls)
alch: app shop, stage test:smoke:dev, phase destroy, target local
- deleting  main (cloudflare::KVNamespace)
  deleted   main  main-test-smoke-dev  [TIME]
test `smoke`: passed
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    project.alch(["run", "--stage", "test"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage test, phase up, target local
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.alch(["stages"]).check(str![[r#"
exit 0
-- stdout
APP   STAGE  TARGET  RESOURCES
shop  dev    local   1
shop  test   local   1

"#]]);
    project.alch(["scope", "list"]).check(str![[r#"
exit 0
-- stdout
SCOPE      RESOURCES
shop/dev   1
shop/test  1

"#]]);
}

#[test]
fn a_test_destroys_first_what_an_interrupted_one_left() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
alchemy.test("smoke", || {
    for i in 0..3 { KV(`k${i}`).id; }
    write_file("ready", "");
    sleep(60);
});
"#,
    );
    let mut child = project.start(["run"]);
    wait_for(&project, "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        project
            .path(".alchemy/shop/test/smoke/dev/state.json")
            .exists()
    );
    for command in [["stages", "--json"], ["scope", "list"]] {
        let output = project.alch(command).success();
        assert!(!output.stdout.contains("smoke"), "{}", output.stdout);
    }
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nalchemy.test(\"smoke\", || KV(\"k1\").id.len() > 0);",
    );
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
alch: app shop, stage test:smoke:dev, phase destroy, target local
- deleting  k2 (cloudflare::KVNamespace)
  deleted   k2  k2-test-smoke-dev  [TIME]
- deleting  k1 (cloudflare::KVNamespace)
  deleted   k1  k1-test-smoke-dev  [TIME]
- deleting  k0 (cloudflare::KVNamespace)
  deleted   k0  k0-test-smoke-dev  [TIME]
0 created, 0 updated, 3 deleted, 0 unchanged in [TIME] (critical path [TIME], 3 API calls)
alch: app shop, stage test:smoke:dev, phase up, target local
+ creating  k1 (cloudflare::KVNamespace)
  created   k1  k1-test-smoke-dev  [TIME]
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 4 API calls)
alch: app shop, stage test:smoke:dev, phase destroy, target local
- deleting  k1 (cloudflare::KVNamespace)
  deleted   k1  k1-test-smoke-dev  [TIME]
test `smoke`: passed
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 5 API calls)

"#]]);
    assert!(
        !project
            .path(".alchemy/shop/test/smoke/dev/state.json")
            .exists()
    );
}

#[test]
fn a_test_that_is_stopped_says_what_becomes_of_it() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
alchemy.test("smoke", || {
    KV("k").id;
    write_file("ready", "");
    sleep(60);
});
"#,
    );
    let child = project.start(["run"]);
    wait_for(&project, "ready");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    let told = String::from_utf8(output.stderr).unwrap();
    let line = "test `smoke`: stopped; what it made stays until its next run";
    assert!(told.lines().any(|other| other == line), "{told}");
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nalchemy.test(\"smoke\", || KV(\"k\").id.len() > 0);",
    );
    project.alch(["run"]).success();
    assert!(
        !project
            .path(".alchemy/shop/test/smoke/dev/state.json")
            .exists()
    );
}

/// Waits until the script has written a file.
fn wait_for(project: &Project, name: &str) {
    let path = project.path(name);
    for _ in 0..3000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the script did not come so far");
}

#[test]
fn tests_of_two_stages_and_one_after_the_other_do_not_meet() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
alchemy.test("smoke", || KV("k").name);
try { alchemy.test("outer", || alchemy.test("smoke", || KV("k").name)) } catch (error) { print(error) }
print(alchemy.test("smoke", || KV("k").name));
"#,
    );
    let children: Vec<_> = ["test", "pr-1", "pr-2"]
        .map(|stage| project.start(["run", "--stage", stage]))
        .into_iter()
        .collect();
    let outputs: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    snapbox::assert_data_eq!(
        outputs.join(""),
        str![[r#"
test `smoke` stands inside another test
k-test-smoke-test
test `smoke` stands inside another test
k-test-smoke-pr-1
test `smoke` stands inside another test
k-test-smoke-pr-2

"#]]
    );
}

#[test]
fn a_test_whose_resource_fails_has_failed() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
let Broken = resource("t::Broken", #{ create: |ctx, id, props| throw "no" });
alchemy.test("smoke", || { KV("k").id; Broken.declare("b"); });
"#,
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
alch: app shop, stage test:smoke:dev, phase up, target local
+ creating  k (cloudflare::KVNamespace)
  created   k  k-test-smoke-dev  [TIME]
+ creating  b (t::Broken)
  failed    b  `create` failed: no (alchemy.run.rhai:3:64)
error[E0301]: `b` (t::Broken): create failed: `create` failed: no (alchemy.run.rhai:3:64)
 --> alchemy.run.rhai:4:47
  |
4 | alchemy.test("smoke", || { KV("k").id; Broken.declare("b"); });
  |                                               ^^^^^^^ declared here
1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)
alch: app shop, stage test:smoke:dev, phase destroy, target local
- deleting  k (cloudflare::KVNamespace)
  deleted   k  k-test-smoke-dev  [TIME]
test `smoke`: failed
error[E0105]: test `smoke` failed: a resource in it did
 --> alchemy.run.rhai:4:9
  |
4 | alchemy.test("smoke", || { KV("k").id; Broken.declare("b"); });
  |         ^^^^
  |
  = help: the errors above say why
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 3 API calls)

"#]]);
}
