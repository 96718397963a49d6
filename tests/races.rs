//! Many processes that want one stage at the same moment: one gets it, the others are told so.
//!
//! `scripts/races` runs a thousand rounds with the release binary; `ALCH_RACE_ROUNDS` sets their number, and `tests/team/races.rs` does
//! the same for state in a bucket. `docs/reliability.md` says what was counted.

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

/// A number that a variable sets.
pub(crate) fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// How many processes take part: mostly few, now and then up to 16.
fn contenders(round: usize) -> usize {
    match round % 20 {
        19 => 16,
        9 => 8,
        few => 2 + few % 3,
    }
}

/// What rounds came to.
#[derive(Default)]
pub(crate) struct Counts {
    rounds: usize,
    processes: usize,
    /// Processes that had the stage, one a round.
    winners: usize,
    /// Winners that were killed while they had it.
    killed: usize,
    /// Processes that were turned away with exit 75.
    refused: usize,
    /// From the start of a process until it was turned away.
    longest_wait: Duration,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rounds, {} processes, {} winners ({} of them killed), {} exits 75, longest wait for one {:.2} s",
            self.rounds,
            self.processes,
            self.winners,
            self.killed,
            self.refused,
            self.longest_wait.as_secs_f64()
        )
    }
}

/// Waits until all but one have ended with 75; answers the one.
fn last_of(mut children: Vec<(Child, Instant)>, round: usize, counts: &mut Counts) -> Child {
    let begin = Instant::now();
    while children.len() > 1 {
        let mut index = 0;
        while index < children.len() {
            if children[index].0.try_wait().unwrap().is_none() {
                index += 1;
                continue;
            }
            let (child, started) = children.swap_remove(index);
            counts.longest_wait = counts.longest_wait.max(started.elapsed());
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(75), "round {round}: {said}");
            counts.refused += 1;
        }
        let left = children.len();
        assert!(
            begin.elapsed() < PATIENCE,
            "round {round}: {left} processes hold the stage or hang"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let last = children.pop();
    last.unwrap_or_else(|| panic!("round {round}: nobody got the stage"))
        .0
}

/// Lets processes race for one stage, round after round. Each round has one winner, which holds the stage until all others were
/// turned away; every fifth is then killed, so that the next round begins with the lock of a dead process.
pub(crate) fn race(project: &Project, rounds: usize) -> Counts {
    project.file("alchemy.run.rhai", HOLDS);
    let go = project.path("go");
    let mut counts = Counts::default();
    for round in 0..rounds {
        let count = contenders(round);
        counts.rounds += 1;
        counts.processes += count;
        // Every other time the losers wait for a moment.
        let timeout = if round % 2 == 0 { "0" } else { "40" };
        let children = (0..count)
            .map(|_| {
                let started = Instant::now();
                (project.start(["run", "--lock-timeout", timeout]), started)
            })
            .collect();
        let mut winner = last_of(children, round, &mut counts);
        let mut line = String::new();
        BufReader::new(winner.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "holding\n", "round {round}");
        counts.winners += 1;
        if round % 5 == 4 {
            winner.kill().unwrap();
            winner.wait().unwrap();
            counts.killed += 1;
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
    assert_eq!(counts.processes, counts.winners + counts.refused);
    counts
}

#[test]
fn of_many_processes_one_gets_the_stage_and_the_others_exit_75() {
    let rounds = number("ALCH_RACE_ROUNDS", ROUNDS);
    let counts = race(&Project::new(), rounds);
    println!("state in a folder: {counts}");
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
