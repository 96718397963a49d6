//! Death between every two effects: the next clean run converges, the one after it calls nothing.
//!
//! An effect is a request that leaves, a commit in the cloud, an answer that arrives, and every durable operation of the
//! disk. Each scenario is a step from one program to the next; the kill is enumerated over all effects of the step.

use alch::{
    engine::{DeleteStrategy, Phase, RunError},
    state::sim_disk::{Fault, Loss},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::harness::{Kill, Life, Simulation, Thing, thing};

struct Scenario {
    name: &'static str,
    before: Vec<Thing>,
    after: Vec<Thing>,
    life: Life,
}

fn scenarios() -> Vec<Scenario> {
    let chain = || vec![thing("a", 1), thing("b", 2).uses(&["a"]), thing("c", 3)];
    let scenario = |name, before, after| Scenario {
        name,
        before,
        after,
        life: Life::default(),
    };
    vec![
        scenario("create", vec![], chain()),
        scenario(
            "update",
            chain(),
            vec![thing("a", 9), thing("b", 8).uses(&["a"]), thing("c", 3)],
        ),
        scenario("delete", chain(), vec![thing("a", 1)]),
        scenario(
            "create, update and delete at once",
            chain(),
            vec![thing("a", 7), thing("d", 4).uses(&["a"])],
        ),
        scenario(
            "replace",
            chain(),
            vec![
                thing("a", 1).at("there"),
                thing("b", 2).uses(&["a"]),
                thing("c", 3),
            ],
        ),
        Scenario {
            life: Life {
                phase: Phase::Destroy,
                ..Life::default()
            },
            ..scenario("destroy", chain(), vec![])
        },
        Scenario {
            life: Life {
                deletes: DeleteStrategy::Parallel,
                ..Life::default()
            },
            ..scenario("delete in parallel", chain(), vec![])
        },
    ]
}

/// Prepares the step's beginning, dies at each of `kills` in turn, then runs clean. `None` when a kill was beyond the end.
fn die_and_recover(scenario: &Scenario, seed: u64, kills: &[Kill]) -> Option<()> {
    let context = || format!("{} killed at {kills:?}, seed {seed}", scenario.name);
    let mut simulation = Simulation::new(seed);
    if !scenario.before.is_empty() {
        simulation
            .live(&scenario.before, &Life::default())
            .unwrap()
            .summary();
    }
    for kill in kills {
        let life = Life {
            kill: *kill,
            ..scenario.life.clone()
        };
        if let Some(ended) = simulation.live(&scenario.after, &life) {
            // An earlier death may have come after the last thing of a destroy: then there is no stage any more.
            if !matches!(ended.result, Err(RunError::NoSuchStage { .. })) {
                ended.summary();
            }
            return None;
        }
    }
    let destroys = scenario.life.phase == Phase::Destroy;
    // A destroy that had removed everything before it died leaves no stage to destroy.
    if !destroys || !simulation.state().is_empty() {
        let ended = simulation.live(&scenario.after, &scenario.life).unwrap();
        assert!(
            ended
                .result
                .as_ref()
                .is_ok_and(|summary| summary.failed.is_empty()),
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
        assert_eq!(
            again.calls,
            0,
            "{}: the run after the recovery called",
            context()
        );
    }
    Some(())
}

/// A program of up to four things, any of them in one of two places and on one of two soils.
fn program(rng: &mut StdRng) -> Vec<Thing> {
    let mut things: Vec<Thing> = Vec::new();
    for id in ["a", "b", "c", "d"] {
        if rng.random_bool(0.3) {
            continue;
        }
        let mut one = thing(id, rng.random_range(0..3));
        if rng.random_bool(0.3) {
            one = one.at("there");
        }
        if rng.random_bool(0.3) {
            one = one.on("rock");
        }
        if let Some(last) = things.last()
            && rng.random_bool(0.4)
        {
            one = one.uses(&[&last.id]);
        }
        things.push(one);
    }
    things
}

fn brief(things: &[Thing]) -> String {
    let one = |thing: &Thing| {
        let Thing {
            id,
            value,
            place,
            soil,
            uses,
            ..
        } = thing;
        format!("{id}={value} {place} {soil} {uses:?}")
    };
    things.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Whatever was killed, and whatever the script says by then: nothing doubled, nothing orphaned, everything as declared.
#[test]
fn a_death_before_another_script_is_survived() {
    let mut deaths = 0;
    for seed in 0..18 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (first, second, third, last) = (
            program(&mut rng),
            program(&mut rng),
            program(&mut rng),
            program(&mut rng),
        );
        let (step, twice) = (rng.random_range(4..9), rng.random_bool(0.5));
        for (index, way) in ways().into_iter().enumerate() {
            for point in (u64::from(rng.random_range(0..step as u32))..).step_by(step) {
                let mut simulation = Simulation::new(seed);
                simulation.live(&first, &Life::default()).unwrap().summary();
                let killed = |kill| Life {
                    kill,
                    ..Life::default()
                };
                if simulation.live(&second, &killed(way(point))).is_some() {
                    break;
                }
                let other = ways()[(index + 1) % ways().len()];
                if twice && simulation.live(&third, &killed(other(point / 2))).is_none() {
                    deaths += 1;
                }
                deaths += 1;
                let context = format!("seed {seed}, way {index}, point {point}, twice {twice}");
                let ended = simulation.live(&last, &Life::default()).unwrap();
                assert!(
                    ended
                        .result
                        .as_ref()
                        .is_ok_and(|summary| summary.failed.is_empty()),
                    "{context}: {:?}\n{}\n{}\n{}\n{}\n{}",
                    ended.result,
                    ended.events.join("\n"),
                    brief(&first),
                    brief(&second),
                    brief(&third),
                    brief(&last)
                );
                let told = [
                    ("first", brief(&first)),
                    ("killed", brief(&second)),
                    ("killed, if twice", brief(&third)),
                    ("last", brief(&last)),
                ];
                let context = format!("{context}\n{told:#?}\n{}\n", ended.events.join("\n"));
                simulation.assert_settled(&last, &context);
                let again = simulation.live(&last, &Life::default()).unwrap();
                again.summary();
                assert_eq!(
                    again.calls, 0,
                    "{context}: the run after the recovery called"
                );
            }
        }
    }
    assert!(deaths > 500, "only {deaths} deaths were tried");
}

/// The ways in which a life can end at a point.
fn ways() -> Vec<fn(u64) -> Kill> {
    vec![
        Kill::Cloud,
        |effect| Kill::Disk(effect + 1, Fault::CrashBefore, Loss::Everything),
        |effect| Kill::Disk(effect + 1, Fault::CrashTorn, Loss::Some(effect)),
        |effect| Kill::Disk(effect + 1, Fault::CrashTorn, Loss::Nothing),
        |effect| Kill::Disk(effect + 1, Fault::CrashAfter, Loss::Everything),
        |effect| Kill::Disk(effect + 1, Fault::CrashAfter, Loss::Nothing),
    ]
}

#[test]
fn every_single_death_is_survived() {
    let mut total = 0;
    for scenario in scenarios() {
        for way in ways() {
            let mut point = 0;
            while die_and_recover(&scenario, 3, &[way(point)]).is_some() {
                point += 1;
            }
            assert!(
                point > 3,
                "{}: only {point} points were seen",
                scenario.name
            );
            total += point;
        }
    }
    assert!(total > 1_000, "only {total} deaths were tried");
}

#[test]
fn a_death_during_recovery_is_survived() {
    for scenario in scenarios() {
        for (index, way) in ways().into_iter().enumerate() {
            let second_way = ways()[(index + 2) % ways().len()];
            // Every fifth first death, every seventh second one: the pairs spread over the grid.
            for first in (0..).step_by(5) {
                if die_and_recover(&scenario, 7, &[way(first)]).is_none() {
                    break;
                }
                for second in (first % 7..).step_by(7) {
                    let kills = [way(first), second_way(second)];
                    if die_and_recover(&scenario, 7, &kills).is_none() {
                        break;
                    }
                }
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
