//! SIGKILL at every request of a run, at random times, and once more in the recovery: nothing is lost, doubled or forgotten.
//!
//! A case is one scenario on one cloud with one or two kills. After each kill state must be readable and hold every result that
//! the run had printed; then one clean run must bring the cloud to where a run without a kill does, object by object, without
//! making anything anew, and the run after it must call nothing. `scripts/kills` runs many with the release binary:
//!
//! * `ALCH_KILLS`: how many kills (40);
//! * `ALCH_KILLS_SEED`: which ones (1);
//! * `ALCH_KILLS_CASE`: just this case, as a failure prints it;
//! * `ALCH_TEST_BINARY`: the binary that is killed (that of the tests).

mod case;
mod inventory;
pub(crate) mod proxy;
mod scenarios;

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use self::case::{Case, Sound, Tally, play, sound};
use crate::support::binary;

/// Kills of a plain `cargo test`.
const FEW: usize = 40;

/// A number from the environment.
fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// What a range of cases came to.
#[derive(Default)]
struct Results {
    tally: Tally,
    cases: usize,
    failures: Vec<String>,
}

/// Plays cases on as many threads as there are cores until `enough`.
fn play_all(
    case: impl Fn(usize) -> Option<Case> + Sync,
    sounds: &[Sound],
    enough: usize,
) -> Results {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Results::default());
    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        while lock().tally.kills < enough && lock().failures.len() < 5 {
            let Some(case) = case(next.fetch_add(1, Ordering::SeqCst)) else {
                return;
            };
            let mut tally = Tally::default();
            let result = play(&case, &sounds[case.scenario], &mut tally);
            let mut results = lock();
            results.cases += 1;
            results.tally.add(&tally);
            if let Err(problem) = result {
                results.failures.push(format!("{case}\n{problem}"));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_is_lost_by_kills() {
    let wanted = number("ALCH_KILLS", FEW);
    let seed = number("ALCH_KILLS_SEED", 1) as u64;
    let sounds: Vec<Sound> = scenarios::ALL.iter().map(sound).collect();

    let (results, points) = match std::env::var("ALCH_KILLS_CASE") {
        Ok(text) => {
            let case: Case = text.parse().unwrap_or_else(|problem: String| {
                panic!("ALCH_KILLS_CASE is no case: {problem}: {text}")
            });
            let just = |index| (index == 0).then(|| case.clone());
            (play_all(just, &sounds, usize::MAX), 0)
        }
        Err(_) => {
            let points = case::points(&sounds, seed);
            // Four times as many cases as kills: some runs end before they are killed.
            let bounded =
                |index| (index < wanted * 4).then(|| case::nth(index, &points, &sounds, seed));
            (play_all(bounded, &sounds, wanted), points.len())
        }
    };

    let tally = &results.tally;
    let mut report = format!(
        "{} kills of {} in {} cases (seed {seed}): state readable {} of {}, orphans {}, duplicates {}, lost results {}, \
         not converged {}; {} runs were quicker than their kill\n",
        tally.kills,
        binary().display(),
        results.cases,
        tally.readable,
        tally.kills,
        tally.orphans,
        tally.duplicates,
        tally.lost,
        tally.not_converged,
        tally.quicker,
    );
    write!(
        report,
        "at a request: {} before the cloud saw it, {} after its work, {} in the body of the answer; at a random time: {}; \
         second kills, in the recovery: {}",
        tally.before, tally.after, tally.body, tally.timed, tally.second,
    )
    .unwrap();
    if points > 0 {
        write!(report, "; single points of all scenarios: {points}").unwrap();
    }
    // Past the capture of the harness: the counts are the point.
    writeln!(std::io::stderr(), "\n{report}").unwrap();
    for failure in &results.failures {
        let case = failure.lines().next().unwrap_or_default();
        writeln!(
            std::io::stderr(),
            "\nFAILED (seed {seed}), again with: scripts/kills --case '{case}'\n{failure}"
        )
        .unwrap();
    }
    assert!(
        results.failures.is_empty(),
        "{}",
        results.failures.join("\n\n")
    );
    assert_eq!(tally.readable, tally.kills);
    assert_eq!(
        (
            tally.orphans,
            tally.duplicates,
            tally.lost,
            tally.not_converged
        ),
        (0, 0, 0, 0)
    );
    if points > 0 {
        assert!(tally.kills >= wanted, "only {} kills", tally.kills);
    }
}

/// An update that is cut short may have done anything up to its kill; a script that asks for none of it undoes it.
#[test]
fn settings_that_are_taken_back_after_a_kill_are_as_they_were() {
    const NAME: &str = "settings-taken-back";
    let scenario = scenarios::ALL.iter().find(|one| one.name == NAME).unwrap();
    let sound = sound(scenario);
    assert!(sound.requests > 8, "only {} requests", sound.requests);
    let failures: Vec<String> = (1..=sound.requests)
        .filter_map(|nth| {
            let case: Case = format!("{NAME}/served/after:{nth}").parse().unwrap();
            let problem = play(&case, &sound, &mut Tally::default()).err()?;
            Some(format!("{case}\n{problem}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
