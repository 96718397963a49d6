//! Random valid state, random program, random faults, random command.

use rand::RngExt as _;

use super::{
    generate,
    report::{IS_WHOLE, Tally, is_custom, seeds},
    scenario::{Case, Step},
};

/// One life or two without faults, then one to three steps of all sorts.
pub(crate) fn fixture(seed: u64) -> Case {
    let mut rng = generate::rng(40, seed);
    let mut last = generate::program(&mut rng);
    let mut steps = vec![Step::up(last.clone())];
    let mut is_renamed = false;
    for _ in 0..rng.random_range(1..=3) {
        // Half of the time the script has changed by then, now and then by a rename.
        // After one it stays: a name that was given up is not used again without a word.
        last = match rng.random_range(0..10) {
            0..=3 => last,
            _ if is_renamed => last,
            4 => {
                is_renamed = true;
                generate::renamed(&mut rng, last)
            }
            _ => generate::program(&mut rng),
        };
        steps.push(generate::step(&mut rng, last.clone(), 0.5));
    }
    Case { seed, steps }
}

#[test]
fn random_states_programs_faults_and_commands_converge() {
    let mut tally = Tally::new("fixtures");
    tally.each(seeds(10_000), |seed, tally| {
        let case = fixture(seed);
        let commands = case.steps.iter().map(|step| format!("{:?}", step.command));
        for command in commands.collect::<Vec<_>>() {
            tally.count(command.to_lowercase());
        }
        if seed % 10 == 0 {
            tally.run_twice(&case);
        } else {
            tally.run(&case);
        }
    });
    tally.tell();
    if IS_WHOLE && !is_custom() {
        assert!(tally.of("run twice (I9)") >= 1_000);
    }
}
