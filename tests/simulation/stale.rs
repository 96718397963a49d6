//! Looks at the cloud that see it as it was up to a minute ago: what was made is missing, what was removed still stands.

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    generate::{self, measured},
    report::{Tally, seeds},
    scenario::{Blow, Case, Command, Step},
};

/// A death, and a run right after it that looks at an old cloud.
fn case(way: usize, seed: u64) -> Case {
    let mut rng = generate::rng(30 + way as u64, seed);
    let measured = measured().choose(&mut rng).unwrap();
    let scenario = &measured.scenario;
    let mut steps = scenario.before.clone();
    let seconds = rng.random_range(0..=60);
    let stale = Blow::Stale { seconds };
    let again = Step {
        pause: rng.random_range(1..=60),
        meddling: Vec::new(),
        ..scenario.step.clone()
    };
    match way {
        // What the recovery looks for may not be visible yet.
        0 => {
            let death = generate::death(&mut rng, measured.requests, measured.effects);
            steps.push(scenario.step.struck(death));
            steps.push(again.struck(stale));
        }
        // The run itself looks after an answer was lost, and dies on top of it.
        1 => {
            let death = generate::death(&mut rng, measured.requests, measured.effects);
            steps.push(
                scenario
                    .step
                    .struck(stale)
                    .struck(generate::blow_of_cloud(&mut rng)),
            );
            steps.push(again.struck(stale).struck(death));
            steps.push(again.struck(stale));
        }
        // Those who look at everything look right after everything changed.
        _ => {
            steps.push(scenario.step.clone());
            let command = *[Command::Refresh, Command::Repair]
                .choose(&mut rng)
                .unwrap();
            steps.push(Step { command, ..again }.struck(stale));
        }
    }
    Case { seed, steps }
}

#[test]
fn old_looks_double_nothing_and_lose_nothing() {
    let mut tally = Tally::new("stale looks");
    let all = (0..3).flat_map(|way| seeds(500).map(move |seed| (way, seed)));
    tally.each(all, |(way, seed), tally| {
        let done = tally.run(&case(way, seed));
        let way = ["after a death", "after a lost answer", "at once"][way];
        tally.count(format!("{way}, {} steps struck", done.struck));
    });
    tally.tell();
}
