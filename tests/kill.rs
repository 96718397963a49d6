//! SIGKILL in the middle of a run, and what the next run makes of it: nothing doubled, nothing orphaned, nothing forgotten.
//!
//! The moments are those of the event stream and of the journal's growth, never of a clock.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Child,
};

use alch::local::layout;
use serde_json::Value;

use crate::support::Project;

/// 200 resources of four kinds, and a Worker that needs one of the last.
const MANY: &str = r#"
let app = alchemy("many");
let last = ();
for i in 0..50 {
    KV(`kv-${i}`);
    Database(`db-${i}`);
    Bucket(`bucket-${i}`);
    last = Queue(`queue-${i}`);
}
Worker("api", #{ script: "export default {}", bindings: #{ JOBS: last } });
"#;

/// How many resources [`MANY`] declares.
const COUNT: usize = 201;

/// Starts a command against a local cloud whose every call takes 50 ms.
fn start_slow(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(arguments.iter().chain(&["--concurrency", "50"]));
    command.env("ALCH_LOCAL_LATENCY_MS", "50");
    command.spawn().unwrap()
}

/// What the local cloud itself says that there is, as kind and name.
pub(crate) fn in_the_cloud(project: &Project) -> Vec<(String, String)> {
    let control = project.path(".alchemy/local/control.sqlite");
    let connection = rusqlite::Connection::open(control).unwrap();
    let mut out = Vec::new();
    for (kind, query) in [
        ("cloudflare::D1Database", "SELECT name FROM d1_databases"),
        ("cloudflare::KVNamespace", "SELECT title FROM kv_namespaces"),
        ("cloudflare::Queue", "SELECT name FROM queues"),
        ("cloudflare::R2Bucket", "SELECT name FROM r2_buckets"),
        ("cloudflare::Worker", "SELECT name FROM scripts"),
    ] {
        let mut statement = connection.prepare(query).unwrap();
        let names = statement
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap();
        out.extend(names.map(|name| (kind.to_owned(), name.unwrap())));
    }
    out.sort();
    out
}

/// The files of D1 databases that no database has.
fn stray_databases(project: &Project) -> Vec<String> {
    let folder = project.path(".alchemy/local");
    let connection = rusqlite::Connection::open(folder.join("control.sqlite")).unwrap();
    let mut statement = connection.prepare("SELECT uuid FROM d1_databases").unwrap();
    let known: BTreeSet<_> = statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(|uuid| layout::d1_file(&folder, &uuid.unwrap()))
        .collect();
    walkdir::WalkDir::new(folder.join("d1"))
        .into_iter()
        // There is no folder where there never was a database.
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "sqlite"))
        .filter(|entry| !known.contains(entry.path()))
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// What state says that there is, as kind and name. Ends the test where something is not ready.
#[track_caller]
fn in_state(project: &Project) -> Vec<(String, String)> {
    let listed = project.alch(["state", "ls", "--json"]).success();
    let resources = listed.messages()[1]["resources"].clone();
    let mut out: Vec<(String, String)> = resources
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| {
            assert_eq!(resource["status"], "ready", "{resource}");
            let text = |name: &str| resource[name].as_str().unwrap().to_owned();
            (text("kind"), text("physical_name"))
        })
        .collect();
    out.sort();
    out
}

/// Ends the test unless cloud and state agree on `count` objects, and the next run does nothing at all.
#[track_caller]
fn converged(project: &Project, count: usize) {
    let cloud = in_the_cloud(project);
    assert_eq!(cloud.len(), count);
    assert_eq!(cloud, in_state(project));
    assert_eq!(stray_databases(project), Vec::<String>::new());
    let next = project.alch(["run"]).success();
    assert_eq!(
        next.last_line(),
        format!(
            "0 created, 0 updated, 0 deleted, {count} unchanged in [TIME] (critical path [TIME], 0 API calls)"
        )
    );
    project.alch(["scope", "validate"]).success();
}

/// Kills the process with the signal that it cannot catch; ends the test if it was quicker.
#[track_caller]
fn kill(child: &mut Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was quicker");
}

/// Runs a command and kills it at the `nth` event of a type.
#[track_caller]
pub(crate) fn killed_at(project: &Project, arguments: &[&str], event: &str, nth: usize) {
    let mut child = start_slow(project, &[arguments, &["--json"]].concat());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    for line in stdout.lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_ne!(message["type"], "diagnostic", "{message}");
        if message["type"] == event {
            seen += 1;
        }
        if seen == nth {
            kill(&mut child);
            return;
        }
    }
    let ended = child.wait().unwrap();
    panic!("the run ended after {seen} times `{event}`: {ended}");
}

/// Runs a command and kills it as soon as the journal is longer than `bytes`: in the middle of a batch, as it falls.
#[track_caller]
fn killed_at_length(project: &Project, bytes: u64) {
    let journal = project.path(".alchemy/many/dev/journal.wal");
    let mut child = start_slow(project, &["run", "--quiet"]);
    loop {
        if std::fs::metadata(&journal).is_ok_and(|journal| journal.len() > bytes) {
            kill(&mut child);
            return;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the run ended before");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_creation_is_taken_up_at_every_event() {
    for (event, nth) in [
        ("apply_start", 1),
        ("apply_start", 50),
        ("apply_complete", 1),
        ("apply_complete", 75),
        ("apply_complete", 180),
    ] {
        let project = Project::with_script(MANY);
        killed_at(&project, &["run"], event, nth);
        let again = project.alch(["run", "--concurrency", "50"]).success();
        assert!(!again.stderr.contains("panicked"), "{}", again.stderr);
        converged(&project, COUNT);
    }
}

#[test]
fn a_killed_creation_is_taken_up_at_every_length_of_the_journal() {
    for bytes in [200, 10_000, 40_000, 80_000, 110_000] {
        let project = Project::with_script(MANY);
        killed_at_length(&project, bytes);
        project.alch(["run", "--concurrency", "50"]).success();
        converged(&project, COUNT);
    }
}

#[test]
fn a_recovery_that_is_killed_as_well_is_taken_up() {
    let project = Project::with_script(MANY);
    killed_at(&project, &["run"], "apply_complete", 40);
    killed_at(&project, &["run"], "apply_start", 1);
    killed_at(&project, &["run"], "apply_complete", 40);
    project.alch(["run", "--concurrency", "50"]).success();
    converged(&project, COUNT);
}

#[test]
fn a_killed_update_is_done_by_the_next_run() {
    const TITLES: &str = r#"
let app = alchemy("many");
for i in 0..60 { KV(`kv-${i}`, #{ title: `$-title-${i}` }); }
Worker("api", #{ script: "export default {}", bindings: #{ WHO: "$" } });
"#;
    let project = Project::with_script(&TITLES.replace('$', "old").replace("old{", "${"));
    project.alch(["run", "--concurrency", "50"]).success();
    project.file(
        "alchemy.run.rhai",
        TITLES.replace('$', "new").replace("new{", "${"),
    );
    killed_at(&project, &["run"], "apply_complete", 20);
    project.alch(["run", "--concurrency", "50"]).success();
    converged(&project, 61);
    let titles = in_the_cloud(&project);
    let new = titles
        .iter()
        .filter(|(_, name)| name.starts_with("new-title-"));
    assert_eq!(new.count(), 60);
}

#[test]
fn a_killed_destroy_is_done_by_the_next_one() {
    let project = Project::with_script(MANY);
    project.alch(["run", "--concurrency", "50"]).success();
    killed_at(&project, &["destroy", "--yes"], "apply_complete", 2);
    let rest = in_the_cloud(&project).len();
    assert!(rest < COUNT && rest > 0, "{rest} are left");
    project.alch(["destroy", "--yes"]).success();
    assert_eq!(in_the_cloud(&project), Vec::new());
    assert_eq!(stray_databases(&project), Vec::<String>::new());
    project.alch(["destroy", "--yes"]).code(6);
}

#[test]
fn a_killed_first_run_leaves_the_key_of_its_secrets() {
    let script = r#"
let app = alchemy("many", #{ password: "correct horse" });
for i in 0..40 {
    Worker(`api-${i}`, #{ script: "export default {}", bindings: #{ KEY: secret(`canary-${i}`) } });
}
"#;
    let project = Project::with_script(script);
    killed_at(&project, &["run"], "apply_complete", 5);
    let salt = |project: &Project| {
        let shown = project.alch(["scope", "inspect", "--json"]).success();
        shown.messages()[1]["key"]["id"].clone()
    };
    let before = salt(&project);
    assert!(before.is_string(), "no key in state: {before}");
    project.file(
        "alchemy.run.rhai",
        script.replace("correct horse", "wrong horse"),
    );
    project.alch(["run"]).code(3);
    project.file("alchemy.run.rhai", script);
    project.alch(["run", "--concurrency", "50"]).success();
    assert_eq!(salt(&project), before);
    converged(&project, 40);
}

#[test]
fn a_killed_first_run_leaves_its_target() {
    let project = Project::with_script(MANY);
    killed_at(&project, &["run"], "apply_complete", 5);
    let shown = project.alch(["scope", "inspect", "--json"]).success();
    let stage = &shown.messages()[1];
    assert_eq!(stage["target"], "local");
    assert_eq!(stage["script"], "alchemy.run.rhai");
    let mut other = project.command(["run", "--target", "cloudflare"]);
    other
        .env("CLOUDFLARE_API_TOKEN", "none")
        .env("CLOUDFLARE_ACCOUNT_ID", "none")
        .env("CLOUDFLARE_BASE_URL", "http://127.0.0.1:9/client/v4");
    let refused = other.output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("E0410"), "{said}");
}
