//! Whether the gate would notice: the store is made to leave out one fsync, rename, intent, result or fence check after the other,
//! and some case of the gate must fail each time.
//!
//! What is left out is left out between the store and its disk, or between the engine and its store, so that nothing is
//! compiled anew. Nobody lists the places: they are those at which the store was seen to make something durable while the
//! scenarios ran and were struck, so that a new fsync is tried as soon as it is there.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use alch::state::Operation;

use super::{
    cases::{self, Course, text_of},
    chains, fixtures,
    generate::{Measured, measured},
    places::{Omission, Site, Work, place},
    protocol, races,
    report::{IS_WHOLE, Tally},
    scenario::{Blow, Case, CloudFault, Lost, Moment, Step},
};

/// What may be left out, and why nothing depends on it.
const NEEDLESS: &[(&str, &str)] = &[];

/// What a build that is not optimised tries.
const SAMPLE: &[&str] = &[
    "sync journal, after append journal",
    "the look at the lock, Append",
];

/// A site is looked for in recoveries from so many deaths.
const DEATHS: usize = 6;

/// Where a site was seen: the scenario, and the death from which it was recovered then.
struct Seen {
    scenario: usize,
    death: Option<Blow>,
    /// Whether the death was at something that is done in the same place: the recovery may be there to do just that again.
    is_near: bool,
}

fn course(measured: &Measured, omission: Option<Omission>) -> Result<Course, String> {
    let mut course = Course::new(3, omission);
    for step in &measured.scenario.before {
        course.step(step)?;
    }
    Ok(course)
}

/// What the step is when it is done a second time: nobody meddles again.
fn again(measured: &Measured) -> Step {
    Step {
        meddling: Vec::new(),
        ..measured.scenario.step.clone()
    }
}

fn power(effect: u64, moment: Moment, lost: Lost) -> Blow {
    Blow::Power {
        effect,
        moment,
        lost,
    }
}

/// Every place at which the scenarios, and recoveries in them, make something durable.
fn sites(tally: &mut Tally) -> BTreeMap<Site, Vec<Seen>> {
    let found = std::sync::Mutex::new(BTreeMap::<Site, Vec<Seen>>::new());
    let all = measured().iter().enumerate();
    tally.each(all, |(number, measured), _| {
        let prepared = course(measured, None).unwrap();
        let look = |blow: Option<Blow>| {
            let mut course = prepared.fork();
            course.simulation.disk.sites = Default::default();
            if blow.is_none() {
                // What came before belongs to the scenario as well.
                course.simulation.disk.sites = prepared.simulation.disk.sites.clone();
            }
            let step = match blow {
                Some(blow) => measured.scenario.step.struck(blow),
                None => measured.scenario.step.clone(),
            };
            course.step(&step).unwrap();
            let trace = course.simulation.disk.trace();
            let path = trace.last().and_then(|last| last.rsplit(' ').next());
            let died_at = path.map(|path| place(Path::new(path)));
            course.settle(&measured.scenario.step).unwrap();
            let mut found = found.lock().unwrap();
            for site in course.simulation.disk.sites.lock().unwrap().iter() {
                found.entry(site.clone()).or_default().push(Seen {
                    scenario: number,
                    death: blow,
                    is_near: died_at == Some(site.place),
                });
            }
        };
        look(None);
        // The few that a build that is not optimised tries are seen without any death.
        let effects = if IS_WHOLE { measured.effects } else { 0 };
        for effect in 1..=effects {
            look(Some(power(effect, Moment::Torn, Lost::Nothing)));
            look(Some(power(effect, Moment::Before, Lost::Nothing)));
            look(Some(power(effect, Moment::After, Lost::Nothing)));
            look(Some(power(effect, Moment::After, Lost::Everything)));
        }
    });
    let mut found = found.into_inner().unwrap();
    for seen in found.values_mut() {
        seen.sort_by_key(|seen| (seen.death.is_some(), !seen.is_near, seen.scenario));
    }
    found
}

/// The blows that are tried at a step, the likeliest to tell first.
fn blows(requests: u64, effects: u64) -> impl Iterator<Item = Blow> {
    let powers = move |moment, lost: fn(u64) -> Lost| {
        (1..=effects).map(move |effect| power(effect, moment, lost(effect)))
    };
    let cloud = move |fault| (0..requests).map(move |request| Blow::Cloud { request, fault });
    let everything = Lost::Everything;
    std::iter::once(Blow::Outage { lost: everything })
        .chain(powers(Moment::After, |_| Lost::Everything))
        .chain(cloud(CloudFault::DieAfter))
        .chain(cloud(CloudFault::DieTorn))
        .chain(powers(Moment::Torn, |_| Lost::Nothing))
        .chain((0..8).map(|seed| Blow::Outage {
            lost: Lost::Some(seed),
        }))
        .chain(powers(Moment::Torn, Lost::Some))
        .chain((0..4).flat_map(move |seed| {
            (1..=effects)
                .map(move |effect| power(effect, Moment::After, Lost::Some(effect + 1_000 * seed)))
        }))
}

/// Strikes the step, and once more when it is done again, and then lets it settle; or settles where it is taken back.
fn strike(measured: &Measured, prepared: &Course, first: Blow, second: Blow) -> Result<(), String> {
    let mut course = prepared.fork();
    let result = catch_unwind(AssertUnwindSafe(|| {
        course.step(&measured.scenario.step.struck(first))?;
        let mut back = course.fork();
        course.step(&again(measured).struck(second))?;
        course.settle(&measured.scenario.step)?;
        back.settle(&measured.scenario.taken_back())
    }));
    result.unwrap_or_else(|panic| Err(format!("panic: {}", text_of(panic.as_ref()))))
}

/// The first case of a scenario that tells.
fn tells(omission: &Omission, number: usize, deaths: &[Blow]) -> Option<String> {
    let measured = &measured()[number];
    let (requests, effects) = (measured.requests, measured.effects);
    let prepared = match course(measured, Some(omission.clone())) {
        Ok(prepared) => prepared,
        Err(error) => return Some(error),
    };
    let outage = Blow::Outage {
        lost: Lost::Everything,
    };
    let once = blows(requests, effects).map(|blow| (blow, outage));
    // What only a recovery does is struck there.
    let twice = deaths.iter().flat_map(|death| {
        let blows = blows(requests, effects + 20);
        blows.map(|blow| (*death, blow))
    });
    let mut all: Box<dyn Iterator<Item = (Blow, Blow)>> = if deaths.is_empty() {
        Box::new(once)
    } else {
        Box::new(twice)
    };
    all.find_map(|(first, second)| strike(measured, &prepared, first, second).err())
}

/// The first case of the gate that tells, and how.
fn catcher(omission: &Omission, seen: Option<&[Seen]>) -> Option<(String, String)> {
    if matches!(omission, Omission::Fence(_) | Omission::Lease) {
        return races::tells(omission).map(|(class, error)| (class.to_owned(), error));
    }
    let scenarios: Vec<usize> = match seen {
        Some(seen) => {
            let mut numbers: Vec<usize> = seen.iter().map(|seen| seen.scenario).collect();
            numbers.dedup();
            let mut once = std::collections::BTreeSet::new();
            numbers.retain(|number| once.insert(*number));
            numbers
        }
        None => (0..measured().len()).collect(),
    };
    let name = |number: usize| measured()[number].scenario.name.to_owned();
    for number in &scenarios {
        if let Some(error) = tells(omission, *number, &[]) {
            return Some((name(*number), error));
        }
    }
    for number in &scenarios {
        let deaths = seen.into_iter().flatten();
        let deaths = deaths.filter(|seen| seen.scenario == *number);
        let deaths: Vec<Blow> = deaths.filter_map(|seen| seen.death).take(DEATHS).collect();
        if deaths.is_empty() {
            continue;
        }
        if let Some(error) = tells(omission, *number, &deaths) {
            return Some((format!("{}, struck twice", name(*number)), error));
        }
    }
    let told = protocol::tells(omission).map(|error| ("subsets", error));
    let told = told.or_else(|| races::tells_of_locks(omission).map(|error| ("cut short", error)));
    let told = told.or_else(|| seeded(omission));
    told.map(|(class, error)| (class.to_owned(), error))
}

/// The first of the gate's seeded cases that tells.
fn seeded(omission: &Omission) -> Option<(&'static str, String)> {
    let chains = (0..10_000).map(|seed| ("chains", chains::chain(seed).0));
    let fixtures = (0..10_000).map(|seed| ("fixtures", fixtures::fixture(seed)));
    let tells = |(class, case): (_, Case)| {
        let verdict = cases::run(&case, Some(omission));
        verdict.err().map(|error| (class, error))
    };
    chains.chain(fixtures).find_map(tells)
}

#[test]
fn every_omission_is_noticed() {
    let mut tally = Tally::new("mutations");
    let sites = sites(&mut tally);
    let mut all: Vec<Omission> = sites.keys().cloned().map(Omission::Disk).collect();
    all.extend(
        [
            Operation::Create,
            Operation::Adopt,
            Operation::Update,
            Operation::Delete,
        ]
        .map(Omission::Intent),
    );
    all.extend([Omission::Result, Omission::Renamed]);
    all.extend([Work::Append, Work::Checkpoint, Work::Deployment].map(Omission::Fence));
    all.extend([Work::Heartbeat, Work::RemoveStage].map(Omission::Fence));
    all.push(Omission::Lease);
    let needless = |omission: &Omission| {
        let name = omission.to_string();
        NEEDLESS.iter().find(|(needless, _)| *needless == name)
    };
    // A build that is not optimised tries some of them.
    let tried = |omission: &&Omission| IS_WHOLE || SAMPLE.contains(&omission.to_string().as_str());
    let tried: Vec<&Omission> = all.iter().filter(tried).collect();
    assert!(tried.len() >= SAMPLE.len(), "{tried:?}");
    tally.each(tried, |omission, tally| {
        let seen = match omission {
            Omission::Disk(site) => sites.get(site).map(Vec::as_slice),
            _ => None,
        };
        tally.note_plain();
        if needless(omission).is_some() {
            return;
        }
        let found = match catcher(omission, seen) {
            Some((scenario, error)) => {
                let line = error.lines().next().unwrap_or_default();
                let short: String = line.chars().take(110).collect();
                format!("{omission}: told by {scenario}: {short}")
            }
            None => format!("{MISSED}{omission}"),
        };
        // At once: looking for the next may take long.
        tally.say(&found);
        tally.count(found);
    });
    tally.tell();
    let missed = tally.starting_with(MISSED);
    assert!(missed.is_empty(), "nobody noticed:\n{}", missed.join("\n"));
    if IS_WHOLE {
        let names: Vec<String> = all.iter().map(Omission::to_string).collect();
        for (name, _) in NEEDLESS {
            assert!(
                names.iter().any(|other| other == name),
                "there is no {name}"
            );
        }
    }
}

const MISSED: &str = "!! nobody noticed: ";
