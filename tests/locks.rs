//! Two runs and one stage: who works, who waits, who is refused, and what becomes of the lock of a run that died.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ExitStatus},
};

use serde_json::{Value, json};
use snapbox::str;

use crate::support::{Output, Project};

/// The first line of this script waits in the middle of a run, with the lock held, until the file `go` is there.
const WAITS: &str = r#"
let app = alchemy("shop");
wait(KV("cache"));
print("ready");
while glob("go").is_empty() { sleep(0.02); }
"#;

/// A run that holds the lock until [`Waiting::go`].
struct Waiting<'a> {
    project: &'a Project,
    child: Child,
}

impl<'a> Waiting<'a> {
    /// Starts [`WAITS`] and comes back when it holds the lock.
    fn start(project: &'a Project) -> Self {
        let mut child = project.start(["run", "waits.rhai"]);
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { project, child }
    }

    /// Lets it end.
    fn go(mut self) -> ExitStatus {
        self.project.file("go", "");
        self.child.wait().unwrap()
    }
}

fn shop() -> Project {
    let project = Project::with_script("alchemy(\"shop\"); KV(\"cache\");");
    project.file("waits.rhai", WAITS);
    project
}

/// The lock file as it is, changed.
fn change_lock(project: &Project, change: impl FnOnce(&mut Value)) {
    let name = ".alchemy/locks/shop/dev.lock";
    let mut lock: Value = serde_json::from_str(&project.read(name)).unwrap();
    change(&mut lock);
    project.file(name, lock.to_string());
}

/// What was said, without process ids and host names.
fn said(output: Output, waiting: &Waiting<'_>) -> Output {
    let lock: Value =
        serde_json::from_str(&waiting.project.read(".alchemy/locks/shop/dev.lock")).unwrap();
    let host = format!("@{}", lock["host"].as_str().unwrap());
    output
        .replacing(&format!("pid {}", waiting.child.id()), "pid [PID]")
        .replacing(&host, "@[HOST]")
}

#[test]
fn the_second_run_of_a_stage_is_refused_and_told_who_works() {
    let project = shop();
    let waiting = Waiting::start(&project);
    let lock: Value = serde_json::from_str(&project.read(".alchemy/locks/shop/dev.lock")).unwrap();
    assert_eq!(lock["pid"], waiting.child.id());
    assert_eq!(lock["owner"], "tester");
    assert_eq!(lock["epoch"], 1);
    assert_eq!(lock["ttl_ms"], 60_000);
    said(project.alch(["run"]), &waiting).check(str![[r#"
exit 75
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0401]: stage shop/dev is locked by tester@[HOST] (pid [PID], `alch run waits.rhai`, since [MOMENT])
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: wait for it with `--lock-timeout 60000`, or look with `alch scope locks --app shop --stage dev`

"#]]);
    for command in [
        &["destroy", "--yes"][..],
        &["state", "rm", "cache", "--yes"],
    ] {
        let refused = project.alch(command).code(75);
        let holder = format!("(pid {}, `alch run waits.rhai`", waiting.child.id());
        assert!(refused.stderr.contains(&holder), "{}", refused.stderr);
    }
    // What only reads needs no lock.
    project.alch(["plan"]).success();
    project.alch(["state", "ls"]).success();
    assert!(waiting.go().success());
    assert!(!project.path(".alchemy/locks/shop/dev.lock").exists());
    let after = project.alch(["run"]).success();
    assert!(after.last_line().ends_with("0 API calls)"));
}

#[test]
fn locks_are_listed_and_a_living_one_is_not_given_away() {
    let project = shop();
    let waiting = Waiting::start(&project);
    said(project.alch(["scope", "locks"]), &waiting).check(str![[r#"
exit 0
-- stdout
STAGE     HOLDER IS  HELD FOR  LAST SIGN  HELD BY
shop/dev  alive      [..]tester@[HOST] (pid [PID], `alch run waits.rhai`, since [MOMENT])

"#]]);
    let alias = project.alch(["scope", "list-locks"]).success();
    assert!(alias.stdout.contains("shop/dev  alive"), "{}", alias.stdout);
    said(project.alch(["scope", "unlock"]), &waiting).check(str![[r#"
exit 75
-- stderr
error[E0401]: stage shop/dev is locked by tester@[HOST] (pid [PID], `alch run waits.rhai`, since [MOMENT])
 = note: nothing was changed
 = help: if you are sure that it does no more: `alch scope unlock --app shop --stage dev --force`

"#]]);
    let forced = project.alch(["scope", "unlock", "--force"]).success();
    assert_eq!(forced.stdout, "removed the lock of shop/dev\n");
    // The run that lost its lock may write no more, and says so.
    project.file("go", "");
    let output = waiting.child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(
        stderr.contains("error[E0405]: this run lost stage shop/dev"),
        "{stderr}"
    );
    project.alch(["run"]).success();
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_run_may_wait_for_another_one() {
    let project = shop();
    let waiting = Waiting::start(&project);
    let late = project.alch(["run", "--lock-timeout", "1"]).code(75);
    assert!(
        late.stderr.contains("waiting for the lock"),
        "{}",
        late.stderr
    );
    let mut second = project.start(["run", "--lock-timeout", "60000", "--json"]);
    let mut events = BufReader::new(second.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"type\":\"lock_wait\"") {
        line.clear();
        assert_ne!(events.read_line(&mut line).unwrap(), 0, "it did not wait");
    }
    assert!(waiting.go().success());
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(second.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("\"unchanged\":1"), "{rest}");
}

#[test]
fn the_lock_of_a_dead_run_is_taken_over_at_once() {
    let project = shop();
    let mut waiting = Waiting::start(&project);
    waiting.child.kill().unwrap();
    waiting.child.wait().unwrap();
    let listed = project.alch(["scope", "locks", "--json"]).success();
    assert_eq!(listed.messages()[1]["locks"][0]["alive"], json!(false));
    let next = project.alch(["run"]).success();
    assert!(!next.stderr.contains("waiting for"), "{}", next.stderr);
    assert!(!project.path(".alchemy/locks/shop/dev.lock").exists());
}

#[test]
fn the_lock_of_a_dead_run_can_be_removed_without_force() {
    let project = shop();
    let mut waiting = Waiting::start(&project);
    waiting.child.kill().unwrap();
    waiting.child.wait().unwrap();
    let removed = project.alch(["scope", "unlock"]).success();
    assert_eq!(removed.stdout, "removed the lock of shop/dev\n");
}

#[test]
fn a_process_id_that_was_given_again_is_not_the_holder() {
    let project = shop();
    let waiting = Waiting::start(&project);
    // As if the holder had died and its number gone to a process that started later.
    change_lock(&project, |lock| lock["pid_start"] = json!(1));
    project.alch(["run"]).success();
    assert_eq!(waiting.go().code(), Some(75), "it lost the stage");
}

#[test]
fn the_lock_of_another_host_is_believed_until_its_lease_is_over() {
    let project = shop();
    let mut waiting = Waiting::start(&project);
    waiting.child.kill().unwrap();
    waiting.child.wait().unwrap();
    change_lock(&project, |lock| {
        lock["host"] = json!("elsewhere");
        lock["ttl_ms"] = json!(300);
        lock["pid"] = json!(4711);
        lock["acquired_at"] = json!("2026-01-02T03:04:05Z");
    });
    project.alch(["run"]).check(str![[r#"
exit 75
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0401]: stage shop/dev is locked by tester@elsewhere (pid 4711, `alch run waits.rhai`, since [MOMENT])
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: wait for it with `--lock-timeout 60000`, or look with `alch scope locks --app shop --stage dev`
  = help: if you are sure that nothing runs on `elsewhere` any more: `alch scope unlock --app shop --stage dev --force`

"#]]);
    let listed = project.alch(["scope", "locks", "--json"]).success();
    assert_eq!(listed.messages()[1]["locks"][0]["alive"], Value::Null);
    project.alch(["scope", "unlock"]).code(75);
    project.alch(["run", "--lock-timeout", "30000"]).success();
}

#[test]
fn two_stages_at_once_both_work() {
    let project = shop();
    let waiting = Waiting::start(&project);
    project.alch(["run", "--stage", "other"]).success();
    let listed = project.alch(["scope", "locks", "--json"]).success();
    assert_eq!(listed.messages()[1]["locks"].as_array().unwrap().len(), 1);
    assert!(waiting.go().success());
}

#[test]
fn the_lock_of_a_test_is_listed_and_removed_by_the_name_of_the_test() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
KV("cache");
alchemy.test("smoke", || {
    wait(KV("k"));
    print("ready");
    while glob("go").is_empty() { sleep(0.02); }
});
"#,
    );
    let mut child = project.start(["run"]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let listed = project.alch(["scope", "locks", "--json"]).success();
    let locks = listed.messages()[1]["locks"].clone();
    let stages: Vec<&str> = locks
        .as_array()
        .unwrap()
        .iter()
        .map(|lock| lock["stage"]["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["dev", "test:smoke:dev"], "{locks}");
    for lock in locks.as_array().unwrap() {
        assert_eq!(lock["holder"]["pid"], child.id());
        assert_eq!(lock["alive"], true);
        assert!(lock["held_ms"].is_u64() && lock["heartbeat_age_ms"].is_u64());
    }
    let refused = project
        .alch(["scope", "unlock", "--test", "smoke"])
        .code(75);
    let help = "`alch scope unlock --app shop --stage dev --test smoke --force`";
    assert!(refused.stderr.contains(help), "{}", refused.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
    let removed = project
        .alch(["scope", "unlock", "--test", "smoke"])
        .success();
    assert_eq!(removed.stdout, "removed the lock of shop/test:smoke:dev\n");
}
