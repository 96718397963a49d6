//! Several processes on one stage: only one at a time, and one that was stopped for longer than its lease writes nothing more.
//!
//! A stopped process wakes up again with an old epoch. Two ways of stopping are tried: `SIGSTOP`, through which the monotonic
//! clock runs on, and a machine that is suspended, whose monotonic clock stands still, so that the process has no way to know.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alch::{
    engine::{Outcome, RunError, Summary},
    state::StateError,
    util::clock::Clock,
};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::{RngExt as _, rngs::StdRng};

use super::{
    cases::Course,
    disk::Write,
    generate,
    harness::{Actor, Contest},
    places::Omission,
    report::{Tally, seeds},
    scenario::{Kind, Program, Step, thing},
};

/// A clock of a process that is stopped from one moment to another.
struct Stopped {
    clock: Arc<dyn Clock>,
    from: Duration,
    to: Duration,
    /// Whether the monotonic clock stands still meanwhile.
    suspended: bool,
}

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        let now = self.clock.monotonic();
        if !self.suspended || now <= self.from {
            return now;
        }
        now.saturating_sub(self.to - self.from).max(self.from)
    }

    async fn sleep(&self, duration: Duration) {
        let begin = self.clock.monotonic();
        let end = begin + duration;
        // A timer of a suspended machine goes on where it stood.
        let end = if begin <= self.from && end > self.from {
            if self.suspended {
                end + (self.to - self.from)
            } else {
                end.max(self.to)
            }
        } else {
            end
        };
        self.clock.sleep(end.saturating_sub(begin)).await;
    }
}

fn program(rng: &mut StdRng) -> Program {
    Program::of([
        thing("a", rng.random_range(0..3)),
        thing("b", rng.random_range(0..3))
            .kind(Kind::Note)
            .uses(&["a"]),
        thing("c", rng.random_range(0..3)).uses(&["b"]),
        thing("d", rng.random_range(0..3)).kind(Kind::Rock),
        thing("e", rng.random_range(0..3)).uses(&["d"]),
    ])
}

/// Nobody writes state after another has taken the stage over from him.
fn fenced(writes: &[Write]) -> Result<(), String> {
    let mut holder = None;
    for write in writes {
        match write {
            Write::Lock(who) => holder = Some(*who),
            Write::State(who, what) if holder != Some(*who) => {
                return Err(format!(
                    "I7: process {who} writes {what} while process {holder:?} holds the stage"
                ));
            }
            Write::State(..) => {}
        }
    }
    Ok(())
}

fn is_locked(result: &Result<Summary, RunError>) -> bool {
    matches!(result, Err(RunError::State(StateError::Locked { .. })))
}

/// One process is stopped in the middle of its run, another takes the stage, and the first one wakes up. Answers whether it
/// was thrown out.
fn zombie(seed: u64, omission: Option<Omission>) -> Result<bool, String> {
    let mut rng = generate::rng(60, seed);
    let mut course = Course::new(seed, omission);
    course.step(&Step::up(program(&mut rng)))?;
    let from = Duration::from_millis(rng.random_range(1..250));
    let to = from + Duration::from_secs(rng.random_range(70..400));
    let suspended = rng.random_bool(0.5);
    let first = Step::up(program(&mut rng));
    let second = Step::up(program(&mut rng));
    let contest = Contest {
        actors: vec![
            Actor {
                step: first,
                host: "one",
                starts: Duration::ZERO,
                lock_wait: Duration::ZERO,
                clock: Box::new(move |clock| {
                    Arc::new(Stopped {
                        clock,
                        from,
                        to,
                        suspended,
                    })
                }),
            },
            Actor {
                step: second.clone(),
                host: "two",
                starts: Duration::from_millis(rng.random_range(1..2_000)),
                lock_wait: Duration::from_secs(600),
                clock: Box::new(|clock| clock),
            },
        ],
    };
    let writes = Arc::<Mutex<Vec<Write>>>::default();
    let results = course.simulation.contend(contest, &writes);
    fenced(&writes.lock().unwrap())?;
    let thrown_out = match &results[0] {
        Ok(summary) => summary.outcome != Outcome::Succeeded,
        Err(_) => true,
    };
    if let Err(error) = &results[1] {
        return Err(format!("I7: who waited for the stage failed: {error}"));
    }
    course.settle(&second)?;
    Ok(thrown_out)
}

/// So many start at about the same time and do not wait. Answers how many were turned away.
fn crowd(seed: u64) -> Result<usize, String> {
    let mut rng = generate::rng(61, seed);
    let mut course = Course::new(seed, None);
    let waits = rng.random_bool(0.3);
    let actors = (0..rng.random_range(2..=16)).map(|_| Actor {
        step: Step::up(program(&mut rng)),
        host: "one",
        starts: Duration::from_millis(rng.random_range(0..200)),
        lock_wait: Duration::from_secs(if waits { 600 } else { 0 }),
        clock: Box::new(|clock| clock),
    });
    let actors: Vec<Actor> = actors.collect();
    let last = actors[0].step.clone();
    let writes = Arc::<Mutex<Vec<Write>>>::default();
    let results = course.simulation.contend(Contest { actors }, &writes);
    fenced(&writes.lock().unwrap())?;
    let locked = results.iter().filter(|result| is_locked(result)).count();
    for result in &results {
        match result {
            Ok(summary) if summary.outcome == Outcome::Succeeded => {}
            result if is_locked(result) && !waits => {}
            other => return Err(format!("I7: one of a crowd ended with {other:?}")),
        }
    }
    course.settle(&last)?;
    Ok(locked)
}

#[test]
fn a_stopped_process_that_wakes_up_writes_nothing() {
    let mut tally = Tally::new("zombies");
    for seed in seeds(1_000) {
        match zombie(seed, None) {
            Ok(true) => tally.count("thrown out"),
            Ok(false) => tally.count("was through before it was stopped"),
            Err(error) => panic!("zombies, seed {seed}: {error}"),
        }
        tally.note_plain();
    }
    tally.tell();
    assert!(tally.of("thrown out") > 0);
}

#[test]
fn one_of_a_crowd_wins() {
    let mut tally = Tally::new("crowds");
    for seed in seeds(1_000) {
        match crowd(seed) {
            Ok(0) => tally.count("all had their turn"),
            Ok(_) => tally.count("some were turned away"),
            Err(error) => panic!("crowds, seed {seed}: {error}"),
        }
        tally.note_plain();
    }
    tally.tell();
    assert!(tally.of("some were turned away") > 0);
}

/// Whether a store that does not look at the lock before it writes is told.
pub(crate) fn tells(omission: &Omission) -> Option<String> {
    (0..200).find_map(|seed| zombie(seed, Some(omission.clone())).err())
}
