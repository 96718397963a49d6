//! Random graphs of dependencies come to the same state whatever runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, rngs::StdRng};

use super::{
    cases::Course,
    generate,
    report::{Tally, seeds},
    scenario::{Case, Kind, Program, Step, Thing, thing},
};

const CONCURRENCY: [usize; 4] = [1, 2, 8, 64];

fn graph(rng: &mut StdRng, size: usize) -> Vec<Thing> {
    let mut things: Vec<Thing> = Vec::new();
    let density = rng.random_range(0..4);
    for index in 0..size {
        let mut one = thing(&format!("t{index}"), rng.random_range(0..2))
            .kind(Kind::ALL[rng.random_range(0..3)]);
        for _ in 0..density {
            if index > 0 && rng.random_bool(0.6) {
                let earlier = &things[rng.random_range(0..index)].id;
                if !one.uses.contains(earlier) {
                    one.uses.push(earlier.clone());
                }
            }
        }
        things.push(one);
    }
    things
}

/// A graph, and what becomes of it: other values, other places, some things gone.
fn case(seed: u64) -> Case {
    let mut rng = generate::rng(50, seed);
    // Most are small; one in twenty is as large as they come.
    let largest = if seed.is_multiple_of(20) { 200 } else { 30 };
    let size = rng.random_range(1..=largest);
    let first = graph(&mut rng, size);
    let mut second = first.clone();
    let gone: BTreeSet<String> = first
        .iter()
        .filter(|_| rng.random_bool(0.1))
        .map(|thing| thing.id.clone())
        .collect();
    second.retain(|thing| !gone.contains(&thing.id));
    for thing in &mut second {
        thing.uses.retain(|id| !gone.contains(id));
        thing.value = rng.random_range(0..2);
        if rng.random_bool(0.1) {
            thing.place = "there".to_owned();
        }
    }
    let steps = [first, second].map(|things| Step::up(Program::of(things)));
    Case {
        seed,
        steps: steps.to_vec(),
    }
}

/// What is left, without what depends on the order: ids and times.
fn essence(course: &Course) -> BTreeMap<String, String> {
    let state = course.simulation.state();
    let stock = course.simulation.cloud.stock.lock().unwrap();
    let mut out = BTreeMap::new();
    for record in state.records.values() {
        let uses: BTreeSet<&str> = record.depends_on.iter().map(|fqn| fqn.as_str()).collect();
        out.insert(
            record.fqn.to_string(),
            format!(
                "{} {} {uses:?} {:?}",
                record.status, record.physical_name, record.props
            ),
        );
    }
    for object in stock.all() {
        let key = format!("{} {}", object.kind.name(), object.name);
        out.insert(key, format!("{:?} {:?}", object.value, object.soil));
    }
    out
}

#[test]
fn every_concurrency_comes_to_the_same_state() {
    let mut tally = Tally::new("graphs");
    tally.each(seeds(1_000), |seed, tally| {
        let mut first: Option<BTreeMap<String, String>> = None;
        for concurrency in CONCURRENCY {
            let mut case = case(seed);
            for step in &mut case.steps {
                step.concurrency = concurrency;
            }
            let mut course = Course::new(seed, None);
            let result = case
                .steps
                .iter()
                .try_for_each(|step| course.step(step).map(drop))
                .and_then(|()| course.settle(&case.steps[1]));
            if let Err(error) = result {
                tally.fail(&case, error);
                return;
            }
            let essence = essence(&course);
            let most = *course.simulation.cloud.most_in_flight.lock().unwrap();
            assert!(most <= concurrency, "{most} requests at once");
            match &first {
                None => first = Some(essence),
                Some(first) => assert_eq!(
                    *first,
                    essence,
                    "seed {seed}: {concurrency} at once come to another state: {}",
                    case.to_json()
                ),
            }
            tally.count(format!("{concurrency} at once"));
            tally.note(&course.finish());
        }
    });
    tally.tell();
}
