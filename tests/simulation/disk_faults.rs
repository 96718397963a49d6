//! Every call of the disk in a whole life of a stage fails, with each of nine errors, and with half of the bytes written.
//!
//! The run ends with a typed error or goes on, never in a panic; state stays readable; the next run makes everything good.

use super::{
    cases::Course,
    generate::ERRNOS,
    report::{IS_WHOLE, Tally, is_custom},
    scenario::{Blow, Case, Kind, Lost, Program, Step, Thing, thing},
};

fn twelve(value: i64) -> Vec<Thing> {
    let mut things: Vec<Thing> = (0..12)
        .map(|index| {
            let id = match index % 4 {
                0 => format!("t{index}"),
                1 => format!("web/t{index}"),
                _ => format!("web/in/t{index}"),
            };
            let mut one = thing(&id, value).kind(Kind::ALL[index % 3]);
            if index == 5 {
                one = one.with_secret("canary-of-twelve");
            }
            one
        })
        .collect();
    for index in 1..12 {
        let earlier = things[index / 2].id.clone();
        if index % 3 != 0 {
            things[index].uses = vec![earlier];
        }
    }
    things
}

/// A deploy of twelve things; an update, a replacement and deletes; a destroy.
fn lives() -> Vec<(&'static str, Vec<Step>, Step)> {
    let deploy = Step::up(Program::of(twelve(1)));
    let mut changed = twelve(2);
    changed.truncate(8);
    changed[7].place = "there".to_owned();
    let change = Step::up(Program::of(changed));
    vec![
        ("deploy", vec![], deploy.clone()),
        ("change", vec![deploy.clone()], change),
        ("destroy", vec![deploy], Step::destroy()),
    ]
}

#[test]
fn every_call_of_the_disk_may_fail_with_any_error() {
    let mut tally = Tally::new("faults of the disk");
    for (name, before, step) in lives() {
        let mut prepared = Course::new(5, None);
        for step in &before {
            prepared.step(step).unwrap();
        }
        let calls = prepared.fork().step(&step).unwrap().disk_calls;
        tally.each(0..calls, |call, tally| {
            for (index, errno) in ERRNOS.into_iter().enumerate() {
                // A build that is not optimised tries one error a call.
                if !IS_WHOLE && (call as usize) % (4 * ERRNOS.len()) != index {
                    continue;
                }
                for short in [false, true] {
                    let fault = Blow::Disk { call, errno, short };
                    let mut struck = step.struck(fault);
                    // And then, every other time, the power fails as well.
                    if (call as usize + index).is_multiple_of(2) {
                        struck = struck.struck(Blow::Outage {
                            lost: Lost::Everything,
                        });
                    }
                    let mut course = prepared.fork();
                    let result = course.step(&struck).and_then(|ended| {
                        tally.count(match &ended.result {
                            Some(Ok(_)) => format!("{name}: went on"),
                            Some(Err(_)) => format!("{name}: ended with an error"),
                            None => format!("{name}: died"),
                        });
                        course.settle(&step)
                    });
                    if let Err(error) = result {
                        let mut steps = before.clone();
                        steps.push(struck);
                        tally.fail(&Case { seed: 5, steps }, error);
                        continue;
                    }
                    tally.note(&course.finish());
                }
            }
        });
    }
    tally.tell();
    if IS_WHOLE && !is_custom() {
        assert!(tally.cases() > 2_000, "only {}", tally.cases());
    }
    for name in ["deploy", "change", "destroy"] {
        assert!(
            tally.of(&format!("{name}: ended with an error")) > 5,
            "{name}"
        );
        assert_eq!(tally.of(&format!("{name}: died")), 0, "{name}");
    }
}
