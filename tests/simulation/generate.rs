//! Random programs, blows and commands, from a seed.

use std::sync::OnceLock;

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    harness::Simulation,
    scenario::{
        Blow, CloudFault, Command, Deletes, Kind, Lost, Meddling, Moment, Program, Scenario, Step,
        Thing, scenarios, thing,
    },
};

/// The errors of the file system that are tried: ENOENT, EINTR, EIO, EACCES, EXDEV, EMFILE, ENOSPC, EROFS, EDQUOT.
pub(crate) const ERRNOS: [i32; 9] = [2, 4, 5, 13, 18, 24, 28, 30, 122];

pub(crate) fn rng(class: u64, seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(64).wrapping_add(class))
}

const IDS: [&str; 7] = ["a", "b", "c", "d", "web/e", "web/f", "web/in/g"];

/// A program of up to seven things. Only `c` is ever protected, only `d` is ever kept when it leaves the program.
pub(crate) fn program(rng: &mut StdRng) -> Program {
    let mut things: Vec<Thing> = Vec::new();
    for (index, id) in IDS.into_iter().enumerate() {
        if rng.random_bool(0.4) {
            continue;
        }
        let mut one = thing(id, rng.random_range(0..3));
        // Most things stay of their kind.
        let kind = if rng.random_bool(0.05) {
            rng.random_range(0..3)
        } else {
            index % 3
        };
        one.kind = Kind::ALL[kind];
        if rng.random_bool(0.3) {
            one = one.at("there");
        }
        if rng.random_bool(0.2) {
            one = one.on("rock");
        }
        if rng.random_bool(0.1) {
            one = one.with_secret(&format!("canary-{:08x}", rng.next_u32()));
        }
        if rng.random_bool(0.08) {
            let letter = ["x", "y"].choose(rng).unwrap();
            one = one.named(&format!("{letter}-{}", id.replace('/', ".")));
        }
        for earlier in &things {
            if one.uses.len() < 4 && rng.random_bool(0.3) {
                one.uses.push(earlier.id.clone());
            }
        }
        if id == "c" && rng.random_bool(0.1) {
            one = one.protected();
        }
        if id == "d" {
            one.adopt = true;
            one.retain = rng.random_bool(0.5);
        }
        things.push(one);
    }
    Program::of(things)
}

/// The same with one thing renamed, and told so.
pub(crate) fn renamed(rng: &mut StdRng, mut program: Program) -> Program {
    let plain: Vec<usize> = (0..program.things.len())
        .filter(|index| {
            let thing = &program.things[*index];
            thing.name.is_none() && !thing.adopt && !thing.protect
        })
        .collect();
    let Some(index) = plain.choose(rng) else {
        return program;
    };
    let from = program.things[*index].id.clone();
    let to = (*["n", "web/n", "other/n"].choose(rng).unwrap()).to_owned();
    for thing in &mut program.things {
        for id in &mut thing.uses {
            if *id == from {
                id.clone_from(&to);
            }
        }
    }
    program.things[*index].id.clone_from(&to);
    program.moved.push((from, to));
    program
}

fn lost(rng: &mut StdRng) -> Lost {
    match rng.random_range(0..3) {
        0 => Lost::Nothing,
        1 => Lost::Everything,
        _ => Lost::Some(rng.random_range(0..1_000)),
    }
}

/// A death at one of so many requests and effects.
pub(crate) fn death(rng: &mut StdRng, requests: u64, effects: u64) -> Blow {
    if rng.random_bool(0.4) && requests > 0 {
        let faults = [
            CloudFault::DieBefore,
            CloudFault::DieTorn,
            CloudFault::DieAfter,
        ];
        return Blow::Cloud {
            request: rng.random_range(0..requests),
            fault: *faults.choose(rng).unwrap(),
        };
    }
    Blow::Power {
        effect: rng.random_range(1..=effects.max(1)),
        moment: *Moment::ALL.choose(rng).unwrap(),
        lost: lost(rng),
    }
}

/// Anything that can go wrong.
pub(crate) fn blow(rng: &mut StdRng) -> Blow {
    match rng.random_range(0..11) {
        0..=4 => death(rng, 12, 70),
        5..=7 => blow_of_cloud(rng),
        8 => Blow::Outage { lost: lost(rng) },
        _ => Blow::Disk {
            call: rng.random_range(0..150),
            errno: *ERRNOS.choose(rng).unwrap(),
            short: rng.random_bool(0.3),
        },
    }
}

/// Anything that can go wrong with a request and leaves the process alive.
pub(crate) fn blow_of_cloud(rng: &mut StdRng) -> Blow {
    let faults = [
        CloudFault::Slow(40),
        CloudFault::Refuse,
        CloudFault::LostBefore,
        CloudFault::LostAfter,
        CloudFault::TooSlowAfter,
        CloudFault::Vanished,
        CloudFault::Contended,
        CloudFault::Expired,
        CloudFault::Strange,
    ];
    Blow::Cloud {
        request: rng.random_range(0..12),
        fault: *faults.choose(rng).unwrap(),
    }
}

/// One step of a random life.
pub(crate) fn step(rng: &mut StdRng, program: Program, struck: f64) -> Step {
    let command = match rng.random_range(0..20) {
        0..=12 => Command::Up,
        13 | 14 => Command::Refresh,
        15 => Command::Plan,
        16 | 17 => Command::Repair,
        _ => Command::Destroy,
    };
    let mut step = Step {
        command,
        deletes: *[Deletes::Sequential, Deletes::Parallel, Deletes::Batched]
            .choose(rng)
            .unwrap(),
        concurrency: *[0, 0, 1, 2, 64].choose(rng).unwrap(),
        planned: rng.random_bool(0.2),
        ..Step::up(program)
    };
    while step.blows.len() < 3 && rng.random_bool(struck) {
        step.blows.push(blow(rng));
    }
    if matches!(command, Command::Refresh | Command::Repair) && rng.random_bool(0.7) {
        let id = (*IDS.choose(rng).unwrap()).to_owned();
        step.meddling.push(if rng.random_bool(0.5) {
            Meddling::Remove { id }
        } else {
            Meddling::Change { id, value: 77 }
        });
    }
    step
}

/// A scenario with the number of requests, effects and calls of the disk that its step has when nothing goes wrong.
pub(crate) struct Measured {
    pub(crate) scenario: Scenario,
    pub(crate) requests: u64,
    pub(crate) effects: u64,
}

/// All scenarios, measured.
pub(crate) fn measured() -> &'static [Measured] {
    static MEASURED: OnceLock<Vec<Measured>> = OnceLock::new();
    MEASURED.get_or_init(|| {
        let all = scenarios().into_iter();
        all.map(|scenario| {
            let mut simulation = Simulation::new(0);
            for step in &scenario.before {
                simulation.live(step);
            }
            let before = simulation.disk.trace().len();
            let calls = simulation.live(&scenario.step).calls;
            let effects = simulation.disk.trace().len() - before;
            Measured {
                scenario,
                requests: calls,
                effects: effects as u64,
            }
        })
        .collect()
    })
}
