//! Many processes that want one stage at the same moment: one gets it, the others are told so.
//!
//! `ALCH_RACE_ROUNDS` sets the number of rounds; `docs/reliability.md` says what was counted.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use crate::support::Project;

/// Rounds where no variable says otherwise.
const ROUNDS: usize = 60;

/// How long a round may take before the test gives up: two winners would wait for each other for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Holds the stage until the file `go` is there.
const HOLDS: &str = r#"
alchemy("shop");
print("holding");
while glob("go").is_empty() { sleep(0.005); }
"#;

fn rounds() -> usize {
    std::env::var("ALCH_RACE_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

/// How many processes take part: mostly few, now and then up to 16.
fn contenders(round: usize) -> usize {
    match round % 20 {
        19 => 16,
        9 => 8,
        few => 2 + few % 3,
    }
}

/// Waits until all but one have ended; answers the one.
fn last_of(mut children: Vec<Child>, round: usize) -> Child {
    let begin = Instant::now();
    while children.len() > 1 {
        let mut index = 0;
        while index < children.len() {
            if children[index].try_wait().unwrap().is_none() {
                index += 1;
                continue;
            }
            let status = children.swap_remove(index).wait().unwrap();
            assert_eq!(status.code(), Some(75), "round {round}");
        }
        let left = children.len();
        assert!(
            begin.elapsed() < PATIENCE,
            "round {round}: {left} processes hold the stage or hang"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    children
        .pop()
        .unwrap_or_else(|| panic!("round {round}: nobody got the stage"))
}

#[test]
fn of_many_processes_one_gets_the_stage_and_the_others_exit_75() {
    let project = Project::with_script(HOLDS);
    let go = project.path("go");
    let rounds = rounds();
    let (mut processes, mut killed) = (0, 0);
    for round in 0..rounds {
        let count = contenders(round);
        processes += count;
        // Every other time the losers wait for a moment.
        let timeout = if round % 2 == 0 { "0" } else { "40" };
        let children = (0..count)
            .map(|_| project.start(["run", "--lock-timeout", timeout]))
            .collect();
        let mut winner = last_of(children, round);
        let mut line = String::new();
        BufReader::new(winner.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "holding\n", "round {round}");
        if round % 5 == 4 {
            // The next round begins with the lock of a dead process.
            winner.kill().unwrap();
            winner.wait().unwrap();
            killed += 1;
        } else {
            project.file("go", "");
            assert_eq!(winner.wait().unwrap().code(), Some(0), "round {round}");
            std::fs::remove_file(&go).unwrap();
        }
    }
    project.file("go", "");
    project.alch(["run"]).success();
    project.alch(["scope", "validate"]).success();
    let listed = project.alch(["scope", "locks", "--json"]).success();
    assert_eq!(listed.messages()[1]["locks"].as_array().unwrap().len(), 0);
    println!("{rounds} rounds, {processes} processes, {rounds} winners, {killed} of them killed");
}

#[test]
fn disjoint_stages_are_held_at_the_same_time() {
    let project = Project::with_script(HOLDS);
    let mut holders: Vec<Child> = (0..16)
        .map(|index| project.start(["run", "--stage", &format!("s{index}")]))
        .collect();
    for holder in &mut holders {
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "holding\n");
    }
    project.file("go", "");
    for mut holder in holders {
        assert_eq!(holder.wait().unwrap().code(), Some(0));
    }
}
