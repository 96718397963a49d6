//! How much is run, what is counted, and how a failure is told.
//!
//! Optimised builds run the whole gate; others a twentieth of the seeded cases, so that a plain `cargo test` stays quick.
//! `ALCH_SIMULATION_SEEDS` sets the number of seeds, `ALCH_SIMULATION_SEED` the first one, `ALCH_SIMULATION_CASE` one whole case
//! to replay; `scripts/simulate` sets them.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, Instant},
};

use super::{cases, places::Omission, scenario::Case, shrink};

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

/// The counts of one class.
pub(crate) struct Tally {
    class: &'static str,
    begin: Instant,
    cases: u64,
    lives: u64,
    /// Cases that were struck as they were meant to be.
    struck: u64,
    counts: BTreeMap<String, u64>,
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
        }
    }

    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
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

    /// Runs a case; panics with everything that helps when it fails.
    pub(crate) fn run(&mut self, case: &Case) -> cases::Done {
        match cases::run(case, None) {
            Ok(done) => {
                self.note(&done);
                done
            }
            Err(error) => fail(self.class, case, &error),
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

    /// Prints the counts.
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
    }
}

/// Tells a failure: what is wrong, the shortest case that still shows it, and how to see it again.
pub(crate) fn fail(class: &str, case: &Case, error: &str) -> ! {
    let (short, told) = shrink::shrink(case, error);
    panic!(
        "{class}, seed {}: {error}\n\nthe shortest case that still fails: {told}\n\nsee it again with\n  scripts/simulate --replay '{}'\n",
        case.seed,
        short.to_json()
    );
}

/// Whether a case fails with the store made to leave something out.
pub(crate) fn notices(case: &Case, omission: &Omission) -> Option<String> {
    cases::run(case, Some(omission)).err()
}
