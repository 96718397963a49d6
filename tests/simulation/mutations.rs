//! Whether the gate would notice: the store is made to leave out one fsync, rename, intent or fence check after the other, and
//! some case of the gate must fail each time.
//!
//! What is left out is left out between the store and its disk, or between the engine and its store, so that nothing is
//! compiled anew. `docs/reliability.md` lists what was tried and which invariant told.

use std::collections::BTreeMap;

use alch::state::Operation;

use super::{
    generate::measured,
    places::Omission,
    races,
    report::{IS_WHOLE, Tally, notices},
    scenario::{Blow, Case, CloudFault, Lost, Moment},
};

/// What a store that is whole does at each place, and what is known to tell when it does not.
const OMISSIONS: &[Omission] = &[
    Omission::Disk("sync", "journal"),
    Omission::Disk("rename", "journal"),
    Omission::Disk("truncate", "journal"),
    Omission::Disk("sync", "stage record"),
    Omission::Disk("rename", "stage record"),
    Omission::Disk("sync folder", "stage folder"),
    Omission::Disk("sync folder", "application folder"),
    Omission::Disk("sync folder", "root folder"),
    Omission::Disk("sync folder", "project folder"),
    Omission::Disk("create whole", "application record"),
    Omission::Disk("sync", "record"),
    Omission::Disk("rename", "record"),
    Omission::Disk("sync folder", "record folder"),
    Omission::Disk("sync", "backup"),
    Omission::Disk("rename", "backup"),
    Omission::Disk("sync", "deployment"),
    Omission::Disk("rename", "deployment"),
    Omission::Disk("rename", "lock"),
    Omission::Intent(Operation::Create),
    Omission::Intent(Operation::Adopt),
    Omission::Intent(Operation::Update),
    Omission::Intent(Operation::Delete),
    Omission::Result,
    Omission::Fence,
];

/// The blows that are tried at a scenario, the likeliest to tell first.
fn blows(requests: u64, effects: u64) -> impl Iterator<Item = Blow> {
    let power = |moment, lost: fn(u64) -> Lost| {
        (1..=effects).map(move |effect| Blow::Power {
            effect,
            moment,
            lost: lost(effect),
        })
    };
    let cloud = |fault| (0..requests).map(move |request| Blow::Cloud { request, fault });
    power(Moment::After, |_| Lost::Everything)
        .chain(cloud(CloudFault::DieAfter))
        .chain(cloud(CloudFault::DieTorn))
        .chain(power(Moment::Torn, |_| Lost::Nothing))
        .chain(power(Moment::Torn, Lost::Some))
        .chain(power(Moment::After, Lost::Some))
}

/// The first case of the gate that tells.
fn catcher(omission: &Omission) -> Option<(String, String)> {
    if *omission == Omission::Fence {
        return races::tells(omission).map(|error| ("zombies".to_owned(), error));
    }
    for measured in measured() {
        let scenario = &measured.scenario;
        for blow in blows(measured.requests, measured.effects) {
            let mut steps = scenario.before.clone();
            steps.push(scenario.step.struck(blow));
            // Once more, and then without power: what only the next life would miss.
            steps.push(scenario.step.struck(Blow::Outage {
                lost: Lost::Everything,
            }));
            steps[scenario.before.len() + 1].meddling.clear();
            let case = Case { seed: 3, steps };
            if let Some(error) = notices(&case, omission) {
                let line = error.lines().next().unwrap_or_default();
                let short: String = line.chars().take(110).collect();
                return Some((scenario.name.to_owned(), short));
            }
        }
    }
    None
}

#[test]
fn every_omission_is_noticed() {
    let mut tally = Tally::new("mutations");
    let mut missed = Vec::new();
    let mut told = BTreeMap::new();
    // A build that is not optimised tries some of them.
    let pace = if IS_WHOLE { 1 } else { OMISSIONS.len() - 1 };
    for omission in OMISSIONS.iter().step_by(pace) {
        match catcher(omission) {
            Some((scenario, error)) => {
                told.insert(format!("{omission:?}"), format!("{scenario}: {error}"));
            }
            None => missed.push(format!("{omission:?}")),
        }
    }
    for (omission, error) in &told {
        tally.count(format!("{omission} is told by {error}"));
    }
    tally.tell();
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
