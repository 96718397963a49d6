//! Runs that stand still past the end of their lease, as a laptop does that was shut: what they may still do when they go on.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::Arc,
    time::{Duration, Instant},
};

use alch::{
    model::{AppName, Fqn, StageName, StagePath},
    state::{
        FileStore, JournalEntry, LockRequest, Session, StageHeader, Store as _,
        disk::RealDisk,
        file::{Process, SystemProcesses},
    },
    util::{clock::SystemClock, ids::SystemIds},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Output, Project, cloud::ServedCloud};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that deploys one thing, waits for the file `go`, and deploys another.
const TWO_STEPS: &str = r#"
let app = alchemy("shop");
wait(KV("first"));
print("ready");
while glob("go").is_empty() { sleep(0.02); }
wait(KV("second"));
"#;

const LOCK: &str = ".alchemy/locks/shop/dev.lock";

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Stops a process and comes back when it stands.
fn stop(child: &Child) {
    signal(child, Signal::STOP);
    let stat = format!("/proc/{}/stat", child.id());
    poll("it stands still", || {
        let text = std::fs::read_to_string(&stat).unwrap();
        text.rsplit_once(") ").unwrap().1.starts_with('T')
    });
}

#[track_caller]
fn poll(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not before long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A project whose locks last a second.
fn shop(script: &str) -> Project {
    let mut project = Project::with_script(script);
    project.env("ALCHEMY_LOCK_TTL", "1000");
    project
}

/// Starts [`TWO_STEPS`] and comes back when the first step is done.
fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut child = project.start(arguments);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn end(project: &Project, child: Child) -> Output {
    project.output(child.wait_with_output().unwrap())
}

fn dev() -> StagePath {
    StagePath::new(
        AppName::new("shop").unwrap(),
        StageName::new("dev").unwrap(),
    )
}

/// The state of a project as another machine sees it that has the same folder mounted.
fn from_another_host(project: &Project) -> FileStore {
    FileStore::over(
        project.path(".alchemy"),
        Arc::new(RealDisk),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
        Process {
            owner: "somebody".to_owned(),
            host: "elsewhere".to_owned(),
            boot_id: "another".to_owned(),
            pid: 1,
            pid_start: 1,
        },
        Arc::new(SystemProcesses),
    )
}

/// Takes the stage over from another machine, as soon as that may be.
async fn taken_over(project: &Project) -> Box<dyn Session> {
    let request = LockRequest {
        wait: PATIENCE,
        command: "alch run".to_owned(),
    };
    from_another_host(project)
        .open(&dev(), request)
        .await
        .unwrap()
}

fn lock(project: &Project) -> Value {
    serde_json::from_str(&project.read(LOCK)).unwrap()
}

#[test]
fn a_run_that_stood_still_while_another_host_took_its_stage_makes_no_call_more() {
    // The operation has several calls: the database is made, then its migrations are applied.
    let cloud = ServedCloud::with_gate(2, "POST d1/database");
    let mut project = shop(
        r#"
        let app = alchemy("shop");
        Database("main", #{ migrations: "./migrations" });
        "#,
    );
    project.file("migrations/0001.sql", "CREATE TABLE items(name TEXT);");
    cloud.serve_to(&mut project);
    let run = project.start(["run", "--target", "cloudflare"]);
    cloud.wait_until_held(1);
    stop(&run);
    let elsewhere = Runtime::new().unwrap();
    let taker = elsewhere.block_on(taken_over(&project));
    assert_eq!(taker.epoch(), 2);
    // The answer to the call that was on its way arrives at a process that stands still.
    cloud.open_gate();
    poll("the database is there", || {
        cloud
            .ask("GET", "d1/database", "")
            .as_array()
            .unwrap()
            .len()
            == 1
    });
    cloud.take_calls();
    signal(&run, Signal::CONT);
    let zombie = end(&project, run).code(75);
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
    assert!(
        zombie.stderr.contains(
            "error[E0405]: this run lost stage shop/dev: epoch 1 was overtaken by epoch 2"
        ),
        "{}",
        zombie.stderr
    );

    // What it began is an intent without a result, which the next run resolves: nothing twice, nothing lost.
    let state = taker.take_state();
    assert_eq!((state.records.len(), state.open_intents.len()), (0, 1));
    elsewhere.block_on(taker.release()).unwrap();
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(
        cloud
            .ask("GET", "d1/database", "")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    cloud.take_calls();
    project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_run_that_stood_still_writes_nothing_into_the_state_of_its_successor() {
    let project = shop(TWO_STEPS);
    let run = start(&project, &["run"]);
    stop(&run);
    let elsewhere = Runtime::new().unwrap();
    let taker = elsewhere.block_on(taken_over(&project));
    let removed = JournalEntry::Removed {
        fqn: Fqn::parse("shop/dev/first").unwrap(),
    };
    elsewhere.block_on(taker.append(vec![removed])).unwrap();
    project.file("go", "");
    signal(&run, Signal::CONT);
    end(&project, run).code(75);
    elsewhere
        .block_on(taker.checkpoint(StageHeader::default()))
        .unwrap();
    elsewhere.block_on(taker.release()).unwrap();
    let state = elsewhere
        .block_on(from_another_host(&project).load(&dev()))
        .unwrap()
        .unwrap();
    assert_eq!((state.epoch, state.records.len()), (2, 0), "{state:?}");
    assert!(state.open_intents.is_empty(), "{state:?}");
    project.alch(["scope", "validate"]).success();
}

#[test]
fn on_the_same_host_a_run_that_stands_still_keeps_its_stage() {
    let project = shop(TWO_STEPS);
    let run = start(&project, &["run"]);
    stop(&run);
    // Longer than the lease.
    let other = project.alch(["run", "--lock-timeout", "2500"]).code(75);
    assert!(
        other.stderr.contains("stage shop/dev is locked by tester@"),
        "{}",
        other.stderr
    );
    let listed = project.alch(["scope", "locks", "--json"]).success();
    let listed = &listed.messages()[1]["locks"][0];
    assert_eq!(listed["alive"], json!(true));
    assert!(listed["heartbeat_age_ms"].as_u64().unwrap() > 1_000);
    project.file("go", "");
    signal(&run, Signal::CONT);
    end(&project, run).success();
    project.alch(["run"]).success();
}

#[test]
fn a_run_whose_heartbeats_go_through_outlives_its_lease_many_times() {
    let project = shop(TWO_STEPS);
    let run = start(&project, &["run"]);
    poll("a dozen heartbeats", || {
        // Renamed into place, so it can always be read.
        lock(&project)["heartbeat"].as_u64() > Some(12)
    });
    project.file("go", "");
    end(&project, run).success();
}

#[test]
fn a_run_whose_heartbeats_fail_ends_and_says_why() {
    let project = shop(TWO_STEPS);
    let run = start(&project, &["run"]);
    // Something else stands where the locks were.
    let locks = project.path(".alchemy/locks");
    std::fs::rename(&locks, project.path("aside")).unwrap();
    project.file(".alchemy/locks", "");
    project.file("go", "");
    let ended = end(&project, run);
    assert_ne!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains(".alchemy/locks"), "{}", ended.stderr);
    std::fs::remove_file(&locks).unwrap();
    std::fs::rename(project.path("aside"), &locks).unwrap();
    let next = project.alch(["run"]).success();
    assert!(next.last_line().starts_with("1 created"), "{}", next.stderr);
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_run_whose_lock_was_removed_with_its_folder_ends_as_one_that_lost_its_stage() {
    let project = shop(TWO_STEPS);
    let run = start(&project, &["run"]);
    std::fs::remove_dir_all(project.path(".alchemy/locks")).unwrap();
    project.file("go", "");
    let ended = end(&project, run).code(75);
    assert!(ended.stderr.contains("E0405"), "{}", ended.stderr);
    project.alch(["run"]).success();
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_lease_that_is_too_short_to_keep_is_refused() {
    let mut project = Project::with_script("alchemy(\"shop\");");
    project.env("ALCHEMY_LOCK_TTL", "999");
    let refused = project.alch(["run"]).code(2);
    assert!(
        refused
            .stderr
            .contains("`$ALCHEMY_LOCK_TTL` is `999`, expected at least 1000 milliseconds"),
        "{}",
        refused.stderr
    );
}
