//! Deaths that follow one another: in the run, in the recovery from it, in the recovery from that.

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    generate::{self, measured},
    report::{IS_WHOLE, Tally, is_custom, seeds},
    scenario::Case,
};

/// Two to four deaths in a row; sometimes the script is another one by then.
pub(crate) fn chain(seed: u64) -> (Case, &'static str) {
    let mut rng = generate::rng(1, seed);
    let measured = measured().choose(&mut rng).unwrap();
    let scenario = &measured.scenario;
    let mut steps = scenario.before.clone();
    let mut step = scenario.step.clone();
    for index in 0..rng.random_range(2..=4) {
        if index > 0 {
            step.meddling.clear();
            // Recoveries are shorter than what they recover from, so that the whole of them is met more often.
            // A name that a move gave up is not used again without a word.
            if rng.random_bool(0.1) && step.program.moved.is_empty() {
                step.program = generate::program(&mut rng);
            }
        }
        let blow = generate::death(&mut rng, measured.requests, measured.effects);
        steps.push(step.struck(blow));
    }
    (Case { seed, steps }, scenario.name)
}

#[test]
fn deaths_in_a_row_are_survived() {
    let mut tally = Tally::new("chains of deaths");
    tally.each(seeds(10_000), |seed, tally| {
        let (case, name) = chain(seed);
        let done = tally.run(&case);
        tally.count(format!("{} steps struck", done.struck));
        tally.count(format!("scenario {name}"));
    });
    tally.tell();
    if IS_WHOLE && !is_custom() {
        let pairs = tally.of("2 steps struck") + tally.of("3 steps struck");
        assert!(pairs > 4_000, "only {pairs} chains met");
    }
}
