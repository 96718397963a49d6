//! Death at every effect of every scenario: before it, in the middle, after it; of the cloud, of the disk, of the lock.
//!
//! After each, one clean run brings everything to where the scenario was to go, and the next one calls and writes nothing. So it does
//! when somebody takes the change back instead.

use std::path::Path;

use super::{
    cases::Course,
    places::place,
    report::{IS_WHOLE, Tally, is_custom},
    scenario::{Blow, Case, CloudFault, Lost, Moment, Scenario, Step, scenarios},
};

const SEED: u64 = 3;

/// What the effect was that a struck step ended at.
fn class_of(trace: &[String], moment: Moment) -> String {
    let last = trace.last().map_or("", String::as_str);
    let path = last.rsplit_once(' ').map_or("", |(_, path)| path);
    let operation = last.strip_suffix(path).unwrap_or("").trim();
    let place = place(Path::new(path));
    format!("{moment:?}: {operation} {place}").to_lowercase()
}

/// The world as the scenario's step finds it.
fn prepare(scenario: &Scenario) -> Course {
    let mut course = Course::new(SEED, None);
    for step in &scenario.before {
        let done = course.step(step);
        done.unwrap_or_else(|error| panic!("before {}: {error}", scenario.name));
    }
    course
}

fn whole(scenario: &Scenario, step: &Step) -> Case {
    let mut steps = scenario.before.clone();
    steps.push(step.clone());
    Case { seed: SEED, steps }
}

/// Strikes, and settles. Answers what was struck, and nothing where the blow was beyond the end.
fn strike(scenario: &Scenario, prepared: &Course, blow: Blow, tally: &mut Tally) -> bool {
    let step = scenario.step.struck(blow);
    let mut course = prepared.fork();
    let mut inner = || -> Result<bool, String> {
        let ended = course.step(&step)?;
        if !ended.died() {
            return Ok(false);
        }
        match blow {
            Blow::Power { moment, .. } => {
                tally.count(class_of(&course.simulation.disk.trace(), moment));
            }
            _ => tally.count(
                format!("{blow:?}")
                    .split("fault: ")
                    .nth(1)
                    .map_or_else(String::new, |fault| {
                        format!("request: {}", fault.trim_end_matches(" }").to_lowercase())
                    }),
            ),
        }
        let mut back = course.fork();
        course.settle(&scenario.step)?;
        back.settle(&scenario.taken_back())
            .map_err(|error| format!("taken back: {error}"))?;
        Ok(true)
    };
    match inner() {
        Ok(struck) => {
            tally.note(&course.finish());
            struck
        }
        Err(error) => {
            let mut case = whole(scenario, &step);
            if error.starts_with("taken back") {
                case.steps.push(scenario.taken_back());
            }
            tally.fail(&case, error);
            true
        }
    }
}

/// The step comes to its end, and then the power fails.
fn outage(scenario: &Scenario, prepared: &Course, seed: u64, tally: &mut Tally) {
    let lost = match seed {
        0 => Lost::Everything,
        seed => Lost::Some(seed),
    };
    let step = scenario.step.struck(Blow::Outage { lost });
    let mut course = prepared.fork();
    let result = course.step(&step).map(drop);
    match result.and_then(|()| course.settle(&scenario.step)) {
        Ok(()) => {
            tally.count("power failed after the end");
            tally.note(&course.finish());
        }
        Err(error) => tally.fail(&whole(scenario, &step), error),
    }
}

/// Every kill point of a scenario.
fn enumerate(scenario: &Scenario, tally: &mut Tally) {
    let prepared = prepare(scenario);
    for fault in [
        CloudFault::DieBefore,
        CloudFault::DieTorn,
        CloudFault::DieAfter,
    ] {
        let blow = |request| Blow::Cloud { request, fault };
        let points = (0..).take_while(|request| strike(scenario, &prepared, blow(*request), tally));
        let points = points.count();
        // A move alone sends few.
        assert!(points > 0, "{}: no request was seen", scenario.name);
    }
    for seed in 0..8 {
        outage(scenario, &prepared, seed, tally);
    }
    for moment in Moment::ALL {
        for way in 0..3 {
            let blow = |effect| Blow::Power {
                effect,
                moment,
                lost: match way {
                    0 => Lost::Everything,
                    1 => Lost::Nothing,
                    _ => Lost::Some(effect),
                },
            };
            let points =
                (1..).take_while(|effect| strike(scenario, &prepared, blow(*effect), tally));
            let points = points.count();
            assert!(
                points > 8,
                "{}: only {points} effects were seen",
                scenario.name
            );
        }
    }
}

#[test]
fn every_death_at_every_effect_of_every_scenario_is_survived() {
    let mut tally = Tally::new("kill points");
    tally.each(scenarios(), |scenario, tally| {
        let before = tally.cases();
        enumerate(&scenario, tally);
        let count = tally.cases() - before;
        tally.count(format!("scenario {}: {count} cases", scenario.name));
    });
    tally.tell();
    for place in [
        "journal",
        "lock",
        "record",
        "stage record",
        "application record",
        "backup",
    ] {
        for moment in ["before", "torn", "after"] {
            let counted = tally.of(&format!("{moment}: rename {place}"))
                + tally.of(&format!("{moment}: write {place}"))
                + tally.of(&format!("{moment}: create {place}"));
            assert!(counted > 0, "{moment} {place}");
        }
    }
    for fault in ["diebefore", "dietorn", "dieafter"] {
        assert!(tally.of(&format!("request: {fault}")) > 0, "{fault}");
    }
    if IS_WHOLE && !is_custom() {
        assert!(tally.cases() > 4_000, "only {} deaths", tally.cases());
    }
}
