//! The shortest case that still fails: steps, blows, things and their traits are taken away as long as it does.

use super::{
    cases,
    scenario::{Blow, Case, Kind, Step, thing},
};

/// How many cases are tried.
const TRIES: usize = 1_500;

/// The invariant that a violation is about, so that a case does not shrink into another failure.
pub(crate) fn sort_of(error: &str) -> &str {
    let of_panic = error.contains("panic:");
    let invariant = (1..=10).rev().find_map(|number| {
        let found = error.find(&format!("I{number}:"))?;
        error[found..].split(':').next()
    });
    invariant.unwrap_or(if of_panic { "panic" } else { "" })
}

/// Shrinks a failing case. Answers it and how it fails.
pub(crate) fn shrink(case: &Case, error: &str) -> (Case, String) {
    let sort = sort_of(error);
    let (mut best, mut told) = (case.clone(), error.to_owned());
    let mut tries = 0;
    loop {
        let mut found = None;
        for smaller in smaller(&best) {
            tries += 1;
            if tries > TRIES {
                break;
            }
            if let Err(error) = cases::run(&smaller, None)
                && sort_of(&error) == sort
            {
                found = Some((smaller, error));
                break;
            }
        }
        match found {
            Some((case, error)) => (best, told) = (case, error),
            None => return (best, told),
        }
    }
}

fn with_step(case: &Case, index: usize, change: impl FnOnce(&mut Step)) -> Case {
    let mut case = case.clone();
    change(&mut case.steps[index]);
    case
}

/// Cases that are a little simpler, the much simpler ones first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut out = Vec::new();
    for index in 0..case.steps.len() {
        if case.steps.len() > 1 {
            let mut shorter = case.clone();
            shorter.steps.remove(index);
            out.push(shorter);
        }
    }
    for (index, step) in case.steps.iter().enumerate() {
        for at in 0..step.blows.len() {
            out.push(with_step(case, index, |step| {
                step.blows.remove(at);
            }));
        }
        for at in 0..step.meddling.len() {
            out.push(with_step(case, index, |step| {
                step.meddling.remove(at);
            }));
        }
        for at in 0..step.program.moved.len() {
            out.push(with_step(case, index, |step| {
                step.program.moved.remove(at);
            }));
        }
        for at in 0..step.program.things.len() {
            out.push(with_step(case, index, |step| {
                let gone = step.program.things.remove(at).id;
                for thing in &mut step.program.things {
                    thing.uses.retain(|id| *id != gone);
                }
            }));
        }
        let plain = Step {
            deletes: Default::default(),
            concurrency: 0,
            pause: 0,
            planned: false,
            ..step.clone()
        };
        if plain != *step {
            out.push(with_step(case, index, |step| *step = plain));
        }
        for (at, blow) in step.blows.iter().enumerate() {
            let earlier = match *blow {
                Blow::Cloud { request, fault } if request > 0 => Blow::Cloud {
                    request: request - 1,
                    fault,
                },
                _ => continue,
            };
            out.push(with_step(case, index, |step| step.blows[at] = earlier));
        }
    }
    // Traits go from all steps at once, or one step would differ from another by them.
    let ids: std::collections::BTreeSet<&String> = case
        .steps
        .iter()
        .flat_map(|step| &step.program.things)
        .map(|thing| &thing.id)
        .collect();
    for id in ids {
        let mut without = |change: fn(&mut super::scenario::Thing)| {
            let mut simpler = case.clone();
            let things = simpler.steps.iter_mut();
            for thing in things.flat_map(|step| &mut step.program.things) {
                if thing.id == *id {
                    change(thing);
                }
            }
            if simpler != *case {
                out.push(simpler);
            }
        };
        without(|thing| thing.uses.clear());
        without(|thing| thing.kind = Kind::Thing);
        without(|thing| thing.secret = None);
        without(|thing| thing.name = None);
        without(|one| {
            let plain = thing("", 0);
            one.protect = plain.protect;
            one.adopt = plain.adopt;
            one.retain = plain.retain;
        });
        without(|one| one.place = thing("", 0).place);
        without(|one| one.soil = thing("", 0).soil);
        without(|thing| thing.value = 0);
    }
    out
}
