//! Several processes on one stage: only one at a time, and one that was stopped for longer than its lease writes nothing more.
//!
//! A stopped process wakes up again with an old epoch. Two ways of stopping are tried: `SIGSTOP`, through which the monotonic
//! clock runs on, and a machine that is suspended, whose monotonic clock stands still. And a run is overtaken at each of the
//! points between its looks at the lock, by a process that takes it for dead: neither lease nor clock tells it.

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
    generate::{self, Measured, measured},
    harness::{Actor, Contest},
    places::Omission,
    report::{Tally, seeds},
    scenario::{Blow, CloudFault, Kind, Program, Step, thing},
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

    fn since_boot(&self) -> Duration {
        self.clock.since_boot()
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
    // Somewhere else it is made anew: by two requests, between which nothing is written.
    let place = ["here", "there"][rng.random_range(0..2)];
    Program::of([
        thing("a", rng.random_range(0..3)),
        thing("b", rng.random_range(0..3))
            .kind(Kind::Note)
            .at(place)
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
            Write::Request(who) if holder != Some(*who) => {
                return Err(format!(
                    "I7: process {who} changes the cloud while process {holder:?} holds the stage"
                ));
            }
            Write::State(..) | Write::Request(_) => {}
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
    course.look()?;
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
    course.look()?;
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
    tally.each(seeds(1_000), |seed, tally| {
        match zombie(seed, None) {
            Ok(true) => tally.count("thrown out"),
            Ok(false) => tally.count("was through before it was stopped"),
            Err(error) => panic!("zombies, seed {seed}: {error}"),
        }
        tally.note_plain();
    });
    tally.tell();
    assert!(tally.of("thrown out") > 0);
}

#[test]
fn one_of_a_crowd_wins() {
    let mut tally = Tally::new("crowds");
    tally.each(seeds(1_000), |seed, tally| {
        match crowd(seed) {
            Ok(0) => tally.count("all had their turn"),
            Ok(_) => tally.count("some were turned away"),
            Err(error) => panic!("crowds, seed {seed}: {error}"),
        }
        tally.note_plain();
    });
    tally.tell();
    assert!(tally.of("some were turned away") > 0);
}

/// A run is overtaken as it asks for the guard of its stage the n-th time. Answers whether it came so far.
fn overtaken(measured: &Measured, guard: u64, omission: Option<Omission>) -> Result<bool, String> {
    let mut course = Course::new(7, omission);
    for step in &measured.scenario.before {
        course.step(step)?;
    }
    // One operation at a time, so that nothing is on its way meanwhile, which no lock could call back.
    let first = Step {
        concurrency: 1,
        meddling: Vec::new(),
        ..measured.scenario.step.clone()
    };
    let second = Step {
        concurrency: 1,
        ..Step::up(Program::of([
            thing("p", 6),
            thing("n", 5).kind(Kind::Note).uses(&["p"]),
        ]))
    };
    let writes = Arc::<Mutex<Vec<Write>>>::default();
    let (result, other) = course.simulation.overtake(&first, guard, &second, &writes);
    let Some(other) = other else {
        return Ok(false);
    };
    fenced(&writes.lock().unwrap())?;
    course.look()?;
    match other {
        Ok(summary) if summary.outcome == Outcome::Succeeded => {}
        Ok(summary) if !summary.failed.is_empty() => {}
        other => return Err(format!("I7: who took the stage over ended with {other:?}")),
    }
    if let Err(RunError::State(StateError::Corrupt { .. })) = result {
        return Err(format!("I7: who was overtaken ended with {result:?}"));
    }
    course.settle(&second)?;
    Ok(true)
}

#[test]
fn a_run_that_is_overtaken_anywhere_does_nothing_more() {
    let mut tally = Tally::new("overtaken");
    tally.each(measured(), |measured, tally| {
        for guard in 0.. {
            match overtaken(measured, guard, None) {
                Ok(true) => tally.count(format!("scenario {}", measured.scenario.name)),
                Ok(false) => break,
                Err(error) => panic!("{}, at guard {guard}: {error}", measured.scenario.name),
            }
            tally.note_plain();
        }
    });
    tally.tell();
    assert!(tally.cases() > 100, "only {}", tally.cases());
}

/// A call of the disk fails in a run that takes long, after half of the bytes; another one asks for the stage meanwhile and is
/// turned away, whatever became of the lock file.
fn cut_short(call: u64, omission: Option<Omission>) -> Result<(), String> {
    let mut course = Course::new(8, omission);
    let first = Step {
        blows: vec![
            Blow::Cloud {
                request: 0,
                fault: CloudFault::Slow(40),
            },
            Blow::Disk {
                call,
                errno: 28,
                short: true,
            },
        ],
        ..Step::up(Program::of([thing("a", 1)]))
    };
    let second = Step::up(Program::of([thing("a", 2)]));
    let actor = |step: &Step, seconds| Actor {
        step: step.clone(),
        // Where whoever comes afterwards knows that both are gone.
        host: "sim",
        starts: Duration::from_secs(seconds),
        lock_wait: Duration::ZERO,
        clock: Box::new(|clock| clock),
    };
    let actors = vec![actor(&first, 0), actor(&second, 25)];
    let writes = Arc::<Mutex<Vec<Write>>>::default();
    let results = course.simulation.contend(Contest { actors }, &writes);
    fenced(&writes.lock().unwrap())?;
    course.look()?;
    let overtaken = format!("{:?}", results[0]).contains("Fenced");
    let through = matches!(&results[0], Ok(summary) if summary.outcome == Outcome::Succeeded);
    if overtaken || (through && !is_locked(&results[1])) {
        return Err("I7: a run that lives lost its stage".to_owned());
    }
    course.settle(&second)
}

/// More calls than a short run makes.
const CALLS: u64 = 150;

#[test]
fn a_write_that_is_cut_short_gives_no_stage_away() {
    let mut tally = Tally::new("lock files cut short");
    tally.each(0..CALLS, |call, tally| {
        let result = cut_short(call, None);
        result.unwrap_or_else(|error| panic!("call {call}: {error}"));
        tally.note_plain();
    });
    tally.tell();
}

/// Whether anybody notices when a lock is not renamed into its place.
pub(crate) fn tells_of_locks(omission: &Omission) -> Option<String> {
    (0..CALLS).find_map(|call| cut_short(call, Some(omission.clone())).err())
}

/// Whether a store that does not look at the lock before it writes, or an engine that does not look at its lease, is told.
pub(crate) fn tells(omission: &Omission) -> Option<(&'static str, String)> {
    for measured in measured() {
        for guard in 0.. {
            match overtaken(measured, guard, Some(omission.clone())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Some(("a run that is overtaken", error)),
            }
        }
    }
    let zombies = (0..1_000).find_map(|seed| zombie(seed, Some(omission.clone())).err());
    zombies.map(|error| ("zombies", error))
}
