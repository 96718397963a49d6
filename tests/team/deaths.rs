//! Many runs at once, runs that are stopped for longer than their lease, and runs that are killed.

use std::process::{Child, Command};

use super::{SHOP, WAITS, address, folder, project_at, start_waiting};
use crate::{kill::in_the_cloud, support::s3};

#[test]
fn of_many_runs_at_once_one_makes_the_resource() {
    let Some(server) = s3::server() else { return };
    for runners in [2, 4, 8, 16] {
        let project = project_at(SHOP, &address(&server.endpoint, &folder()));
        let children: Vec<Child> = (0..runners).map(|_| project.start(["run"])).collect();
        let mut made = 0;
        for child in children {
            let output = project.output(child.wait_with_output().unwrap());
            match output.code {
                Some(0) => made += usize::from(output.last_line().starts_with("1 created")),
                code => assert_eq!(code, Some(75), "{}", output.stderr),
            }
        }
        assert_eq!(made, 1, "of {runners}");
        assert_eq!(in_the_cloud(&project).len(), 1);
        let after = project.alch(["run"]).success();
        assert!(
            after.last_line().ends_with("0 API calls)"),
            "{}",
            after.stderr
        );
        project.alch(["scope", "validate"]).success();
    }
}

#[test]
fn runs_that_wait_go_one_after_the_other() {
    let Some(server) = s3::server() else { return };
    let project = project_at(SHOP, &address(&server.endpoint, &folder()));
    let children: Vec<Child> = (0..4)
        .map(|_| project.start(["run", "--lock-timeout", "60000"]))
        .collect();
    for child in children {
        let output = project.output(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
    assert_eq!(in_the_cloud(&project).len(), 1);
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_run_that_was_stopped_past_its_lease_writes_nothing_more() {
    let Some(server) = s3::server() else { return };
    let mut project = project_at(SHOP, &address(&server.endpoint, &folder()));
    project.env("ALCHEMY_LOCK_TTL", "3000");
    project.file("waits.rhai", WAITS);
    let zombie = start_waiting(&project, "waits.rhai");
    // Whoever waits for less than a lease cannot tell that it is over, however busy this machine is.
    let refused = project.alch(["run", "--lock-timeout", "1500"]).code(75);
    assert!(refused.stderr.contains("waits.rhai"), "{}", refused.stderr);
    signal(&zombie, "-STOP");
    let taken = project.alch(["run", "--lock-timeout", "30000"]).success();
    assert!(
        taken.last_line().starts_with("0 created"),
        "{}",
        taken.stderr
    );
    signal(&zombie, "-CONT");
    project.file("go", "");
    let output = project.output(zombie.wait_with_output().unwrap());
    assert_eq!(output.code, Some(75), "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains("error[E0405]: this run lost stage shop/dev"),
        "{}",
        output.stderr
    );
    // Nothing of what it wanted was begun.
    assert_eq!(in_the_cloud(&project).len(), 1);
    let listed = project.alch(["state", "ls"]).success();
    assert!(!listed.stdout.contains("second"), "{}", listed.stdout);
    let after = project.alch(["run"]).success();
    assert!(
        after.last_line().ends_with("0 API calls)"),
        "{}",
        after.stderr
    );
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_run_that_was_killed_is_taken_over_at_once() {
    let Some(server) = s3::server() else { return };
    let project = project_at(SHOP, &address(&server.endpoint, &folder()));
    project.file("waits.rhai", WAITS);
    for round in 0..3 {
        let mut child = start_waiting(&project, "waits.rhai");
        child.kill().unwrap();
        child.wait().unwrap();
        let locks = project.alch(["scope", "locks"]).success();
        assert!(
            locks.stdout.contains("dead"),
            "round {round}: {}",
            locks.stdout
        );
    }
    let after = project.alch(["run"]).success();
    assert!(
        after.last_line().ends_with("0 API calls)"),
        "{}",
        after.stderr
    );
    assert_eq!(in_the_cloud(&project).len(), 1);
}

#[test]
fn kills_in_the_middle_of_many_changes_lose_and_double_nothing() {
    let Some(server) = s3::server() else { return };
    let script = r#"
alchemy("many");
for i in 0..40 { KV(`kv-${i}`); Queue(`queue-${i}`); }
"#;
    let project = project_at(script, &address(&server.endpoint, &folder()));
    // Killed when so many have ended, as its events say; each time it goes on from there.
    for killed_after in [1, 7, 20] {
        let mut command = project.command(["run", "--json"]);
        command.env("ALCH_LOCAL_LATENCY_MS", "50");
        let mut child = command.spawn().unwrap();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let ended = std::io::BufRead::lines(stdout)
            .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
            .filter(|event| event["type"] == "apply_complete")
            .take(killed_after);
        assert_eq!(ended.count(), killed_after);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    project.alch(["run"]).success();
    let there = in_the_cloud(&project);
    assert_eq!(there.len(), 80, "nothing twice");
    let after = project.alch(["run"]).success();
    assert!(
        after.last_line().contains("80 unchanged"),
        "{}",
        after.stderr
    );
    assert!(
        after.last_line().ends_with("0 API calls)"),
        "{}",
        after.stderr
    );
    project.alch(["destroy", "--yes"]).success();
    assert!(in_the_cloud(&project).is_empty());
}
