//! How much is run, what is counted, and how a failure is told.
//!
//! Optimised builds run the whole gate; others a twentieth of the seeded cases, so that a plain `cargo test` stays quick.
//! `ALCH_SIMULATION_SEEDS` sets the number of seeds, `ALCH_SIMULATION_SEED` the first one, `ALCH_SIMULATION_CASE` one whole case
//! to replay; `scripts/simulate` sets them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{cases, scenario::Case, shrink};

/// Reads a number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Whether this build is fast enough for all that the gate counts.
pub(crate) const IS_WHOLE: bool = !cfg!(debug_assertions);

/// The seeds of a class that has `whole` of them in the gate.
pub(crate) fn seeds(whole: u64) -> std::ops::Range<u64> {
    let first = number("ALCH_SIMULATION_SEED").unwrap_or(0);
    let default = if IS_WHOLE { whole } else { whole.div_ceil(20) };
    first..first + number("ALCH_SIMULATION_SEEDS").unwrap_or(default)
}

/// Whether somebody asked for seeds of his own: then counts are not compared with those of the gate.
pub(crate) fn is_custom() -> bool {
    number("ALCH_SIMULATION_SEEDS").is_some()
}

/// So many failures of a class are collected before it ends.
const ENOUGH_FAILURES: usize = 20;

/// A case that failed, and how.
struct Failure {
    case: Case,
    error: String,
}

/// The counts of one class.
pub(crate) struct Tally {
    class: &'static str,
    begin: Instant,
    cases: u64,
    lives: u64,
    /// Cases that were struck as they were meant to be.
    struck: u64,
    counts: BTreeMap<String, u64>,
    failures: Vec<Failure>,
}

impl Tally {
    pub(crate) fn new(class: &'static str) -> Self {
        Self {
            class,
            begin: Instant::now(),
            cases: 0,
            lives: 0,
            struck: 0,
            counts: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Does `work` for each of these, side by side on as many threads as there are cores. Each case is one thread's alone, so
    /// that it is the same however many there are.
    pub(crate) fn each<T: Send>(
        &mut self,
        all: impl IntoIterator<Item = T, IntoIter: Send>,
        work: impl Fn(T, &mut Self) + Sync,
    ) {
        let next = Mutex::new(all.into_iter());
        let stop = AtomicBool::new(false);
        let class = self.class;
        let worker = || {
            let mut tally = Self::new(class);
            while !stop.load(Ordering::Relaxed) && tally.failures.len() < ENOUGH_FAILURES {
                let one = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(one) = one else { break };
                work(one, &mut tally);
            }
            tally
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                match worker.join() {
                    Ok(tally) => self.add(tally),
                    Err(panic) => {
                        stop.store(true, Ordering::Relaxed);
                        resume_unwind(panic);
                    }
                }
            }
        });
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.lives += other.lives;
        self.struck += other.struck;
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// The counted names that begin so.
    pub(crate) fn starting_with(&self, prefix: &str) -> Vec<String> {
        let names = self.counts.keys();
        names
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    pub(crate) fn cases(&self) -> u64 {
        self.cases
    }

    /// Notes a case that was run in another way than by [`Tally::run`].
    pub(crate) fn note(&mut self, done: &cases::Done) {
        self.cases += 1;
        self.lives += done.lives as u64;
        self.struck += u64::from(done.struck > 0);
    }

    /// Notes a case that is no [`Case`].
    pub(crate) fn note_plain(&mut self) {
        self.cases += 1;
    }

    /// Notes a case that failed; [`Tally::tell`] tells of it.
    pub(crate) fn fail(&mut self, case: &Case, error: String) {
        self.cases += 1;
        self.failures.push(Failure {
            case: case.clone(),
            error,
        });
    }

    /// Runs a case.
    pub(crate) fn run(&mut self, case: &Case) -> cases::Done {
        match cases::run(case, None) {
            Ok(done) => {
                self.note(&done);
                done
            }
            Err(error) => {
                self.fail(case, error);
                cases::Done::default()
            }
        }
    }

    /// Runs a case twice: the same must happen.
    pub(crate) fn run_twice(&mut self, case: &Case) {
        let first = self.run(case);
        let second = self.run(case);
        self.count("run twice (I9)");
        if first.log != second.log {
            let at = first
                .log
                .iter()
                .zip(&second.log)
                .position(|(one, other)| one != other);
            let at = at.unwrap_or(first.log.len().min(second.log.len()));
            panic!(
                "I9: the same case gives another log from line {at} on: {:?} and {:?}\n{}",
                first.log.get(at),
                second.log.get(at),
                case.to_json()
            );
        }
    }

    /// Prints one line.
    pub(crate) fn say(&self, line: &str) {
        let text = format!("simulation:   {line}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }

    /// Prints the counts; panics with everything that helps when a case failed.
    pub(crate) fn tell(&self) {
        let elapsed = self.begin.elapsed().max(Duration::from_millis(1));
        let rate = self.cases as f64 / elapsed.as_secs_f64();
        let mut text = format!(
            "simulation: {}: {} cases, {} of them struck, {} runs, {:.1} s, {rate:.0} cases/s\n",
            self.class,
            self.cases,
            self.struck,
            self.lives,
            elapsed.as_secs_f64(),
        );
        for (what, count) in &self.counts {
            text += &format!("simulation:   {count:>8} {what}\n");
        }
        // Not `print!`, which the test runner keeps to itself unless a test fails.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        self.tell_failures();
    }

    /// Tells what failed: what is wrong, the shortest case that still shows it, and how to see it again; once for each sort of
    /// failure.
    fn tell_failures(&self) {
        let mut text = String::new();
        let mut sorts = BTreeSet::new();
        for Failure { case, error } in &self.failures {
            if !sorts.insert(shrink::sort_of(error)) {
                let line = error.lines().next().unwrap_or_default();
                text += &format!("\n{}, seed {}: {line}\n", self.class, case.seed);
                continue;
            }
            let (short, told) = shrink::shrink(case, error);
            text += &format!(
                "\n{}, seed {}: {error}\n\nthe shortest case that still fails: {told}\n\nsee it again with\n  scripts/simulate --replay '{}'\n",
                self.class,
                case.seed,
                short.to_json()
            );
        }
        let count = self.failures.len();
        assert!(count == 0, "{count} cases of {} fail\n{text}", self.class);
    }
}
