//! Death between every two effects: the next clean run converges, the one after it calls nothing.
//!
//! An effect is a request that leaves, a commit in the cloud, an answer that arrives, and every durable operation of the
//! disk. Each scenario is a step from one program to the next; the kill is enumerated over all effects of the step.

use alch::engine::{DeleteStrategy, Phase};

use super::{
    harness::{Life, Simulation, Thing, thing},
    world::Fate,
};

struct Scenario {
    name: &'static str,
    before: Vec<Thing>,
    after: Vec<Thing>,
    life: Life,
}

fn scenarios() -> Vec<Scenario> {
    let chain = || vec![thing("a", 1), thing("b", 2).uses(&["a"]), thing("c", 3)];
    let scenario = |name, before, after| Scenario { name, before, after, life: Life::default() };
    vec![
        scenario("create", vec![], chain()),
        scenario("update", chain(), vec![thing("a", 9), thing("b", 8).uses(&["a"]), thing("c", 3)]),
        scenario("delete", chain(), vec![thing("a", 1)]),
        scenario(
            "create, update and delete at once",
            chain(),
            vec![thing("a", 7), thing("d", 4).uses(&["a"])],
        ),
        scenario(
            "replace",
            chain(),
            vec![thing("a", 1).at("there"), thing("b", 2).uses(&["a"]), thing("c", 3)],
        ),
        Scenario {
            life: Life { phase: Phase::Destroy, ..Life::default() },
            ..scenario("destroy", chain(), vec![])
        },
        Scenario {
            life: Life { deletes: DeleteStrategy::Parallel, ..Life::default() },
            ..scenario("delete in parallel", chain(), vec![])
        },
    ]
}

/// Prepares the step's beginning, dies at each of `kills` in turn, then runs clean. `None` when a kill was beyond the end.
fn die_and_recover(scenario: &Scenario, seed: u64, kills: &[u64]) -> Option<()> {
    let context = || format!("{} killed at {kills:?}, seed {seed}", scenario.name);
    let mut simulation = Simulation::new(seed);
    if !scenario.before.is_empty() {
        simulation.live(&scenario.before, &Life::default()).unwrap().summary();
    }
    for kill in kills {
        let life = Life { fate: Fate::at(*kill), ..scenario.life.clone() };
        if let Some(ended) = simulation.live(&scenario.after, &life) {
            ended.summary();
            return None;
        }
    }
    let destroys = scenario.life.phase == Phase::Destroy;
    // A destroy that had removed everything before it died leaves no stage to destroy.
    if !destroys || !simulation.state().is_empty() {
        let ended = simulation.live(&scenario.after, &scenario.life).unwrap();
        assert!(
            ended.result.as_ref().is_ok_and(|summary| summary.failed.is_empty()),
            "{}: {:?}\n{}",
            context(),
            ended.result,
            ended.events.join("\n")
        );
    }
    simulation.assert_settled(&scenario.after, &context());
    if !destroys {
        let again = simulation.live(&scenario.after, &Life::default()).unwrap();
        again.summary();
        assert_eq!(again.calls, 0, "{}: the run after the recovery called", context());
    }
    Some(())
}

#[test]
fn every_single_death_is_survived() {
    let mut total = 0;
    for scenario in scenarios() {
        for seed in 0..3 {
            let mut kill = 0;
            while die_and_recover(&scenario, seed, &[kill]).is_some() {
                kill += 1;
            }
            assert!(kill > 10, "{}: only {kill} effects were seen", scenario.name);
            total += kill;
        }
    }
    assert!(total > 500, "only {total} deaths were tried");
}

#[test]
fn a_death_during_recovery_is_survived() {
    for scenario in scenarios() {
        // Every third first death, every fifth second one: primes to each other, so that the pairs spread over the grid.
        for first in (0..).step_by(3) {
            let mut survived_first = true;
            for second in (first % 5..).step_by(5) {
                match die_and_recover(&scenario, 7, &[first, second]) {
                    Some(()) => survived_first = false,
                    None => break,
                }
            }
            if survived_first && die_and_recover(&scenario, 7, &[first]).is_none() {
                break;
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for scenario in scenarios() {
        let events = |_| {
            let mut simulation = Simulation::new(21);
            let mut log = Vec::new();
            for things in [&scenario.before, &scenario.after] {
                log.extend(simulation.live(things, &Life::default()).unwrap().events);
            }
            log
        };
        assert_eq!(events(0), events(1), "{}", scenario.name);
    }
}
