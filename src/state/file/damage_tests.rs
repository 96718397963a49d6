//! Every truncation and every flipped bit of every file of a stage: told or harmless, never a panic, never "no state".

use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

use super::{
    FileStore,
    crash_tests::{Model, Step, World, dev, request, run, same},
};
use crate::state::{
    Deployment, JournalEntry, Snapshot, StageState, StateError, Store,
    disk::Disk,
    tests_support::{intent, put, removed},
};

/// Two records in files, one of them twice; a backup, a deployment; a journal of three batches.
fn steps() -> Vec<Step> {
    vec![
        Step::Append(vec![put("app/dev/a", 1), put("app/dev/s/b", 1)]),
        Step::Checkpoint("first"),
        Step::Append(vec![put("app/dev/a", 2)]),
        Step::Checkpoint("second"),
        Step::Deployment,
        Step::Append(vec![intent("app/dev/c")]),
        Step::Append(vec![put("app/dev/c", 1), put("app/dev/d", 1)]),
        Step::Append(vec![removed("app/dev/s/b")]),
    ]
}

/// The states that a journal cut short may stand for: those after each of its entries.
fn prefixes() -> Vec<StageState> {
    let mut state = StageState::default();
    for entry in [put("app/dev/a", 2), put("app/dev/s/b", 1)] {
        state.apply(&entry);
    }
    state.header = super::crash_tests::header("second");
    let mut out = vec![state.clone()];
    let entries: [JournalEntry; 4] = [
        intent("app/dev/c"),
        put("app/dev/c", 1),
        put("app/dev/d", 1),
        removed("app/dev/s/b"),
    ];
    for entry in &entries {
        state.apply(entry);
        out.push(state.clone());
    }
    out
}

/// What a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Application,
    Stage,
    Journal,
    Record,
    Backup,
    Deployment,
}

impl Class {
    fn of(path: &Path) -> Option<Self> {
        let text = path.to_string_lossy();
        Some(match text.strip_prefix(".alchemy/")? {
            "app/state.json" => Self::Application,
            "app/dev/state.json" => Self::Stage,
            "app/dev/journal.wal" => Self::Journal,
            name if name.contains("/backups/") => Self::Backup,
            name if name.contains("/deployments/") => Self::Deployment,
            name if name.contains("/resources/") => Self::Record,
            _ => return None,
        })
    }
}

/// What reading comes to.
#[derive(Debug, PartialEq)]
enum Read {
    State(Option<Box<Snapshot>>),
    Deployments(Vec<Deployment>),
}

async fn read(store: &FileStore, path: &Path, class: Class) -> Result<Read, StateError> {
    let state = |found: Option<Snapshot>| Read::State(found.map(Box::new));
    match class {
        Class::Backup => {
            let name = path.file_name().unwrap().to_string_lossy();
            Ok(state(Some(store.backup(&dev(), &name).await?)))
        }
        Class::Deployment => store.deployments(&dev(), 9).await.map(Read::Deployments),
        _ => {
            let found = store.load(&dev()).await?;
            Ok(state(found.map(|found| Snapshot::of(&dev(), &found))))
        }
    }
}

#[derive(Default)]
struct Counts {
    bytes: usize,
    truncations: usize,
    flips: usize,
    told: usize,
    harmless: usize,
}

#[tokio::test(start_paused = true)]
async fn every_truncation_and_every_flipped_bit_is_told_or_harmless() {
    let world = World::new();
    let mut model = Model::new();
    run(&world, &steps(), &mut model).await.unwrap();
    let whole = model.last();
    let prefixes = prefixes();
    assert!(same(prefixes.last().unwrap(), &whole));
    let store = world.start();
    let mut counts: BTreeMap<Class, Counts> = BTreeMap::new();
    for (path, bytes) in world.disk.files() {
        let Some(class) = Class::of(&path) else {
            continue;
        };
        let good = read(&store, &path, class).await.unwrap();
        let count = counts.entry(class).or_default();
        count.bytes += bytes.len();
        let cuts = (0..bytes.len()).map(|to| (true, bytes[..to].to_vec()));
        let flips = (0..bytes.len() * 8).map(|bit| {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            (false, bad)
        });
        for (number, (cut, bad)) in cuts.chain(flips).enumerate() {
            let case = format!("{} {number} (cut: {cut})", path.display());
            world.disk.write(&path, &bad).unwrap();
            *if cut {
                &mut count.truncations
            } else {
                &mut count.flips
            } += 1;
            match read(&store, &path, class).await {
                Err(StateError::Corrupt { .. }) => count.told += 1,
                Err(error) => panic!("{case}: {error}"),
                Ok(found) if found == good => count.harmless += 1,
                // A write that was cut short is no damage: what it was about was never promised.
                Ok(Read::State(Some(found))) if class == Class::Journal && cut => {
                    let found = found.into_state();
                    assert!(prefixes.iter().any(|state| same(state, &found)), "{case}");
                    count.harmless += 1;
                }
                Ok(found) => panic!("{case}: read as {found:?}"),
            }
        }
        world.disk.write(&path, &bytes).unwrap();
    }
    // The checkpoint keeps what it was told of, and so does a run that takes the stage after all this.
    let session = store.open(&dev(), request(Duration::ZERO)).await.unwrap();
    assert!(same(&session.take_state(), &whole));

    let mut report = String::from("\ndamage: every truncation, every flipped bit");
    for (class, count) in &counts {
        assert_eq!(count.truncations, count.bytes);
        assert_eq!(count.flips, count.bytes * 8);
        // The journal speaks for the records that it names: their files are not even read.
        assert!(count.told > 0, "{class:?}");
        report += &format!(
            "\n  {class:?}: {} truncations, {} bits: {} told, {} harmless",
            count.truncations, count.flips, count.told, count.harmless
        );
    }
    assert_eq!(counts.len(), 6, "each class of files");
    // Past the capture of the harness: the counts are the point.
    writeln!(std::io::stderr(), "{report}").unwrap();
}

/// Files that are there and hold nothing, or that are gone, are not "no state" either.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_is_missed() {
    let world = World::new();
    let mut model = Model::new();
    run(&world, &steps(), &mut model).await.unwrap();
    let store = world.start();
    for (path, bytes) in world.disk.files() {
        if !matches!(
            Class::of(&path),
            Some(Class::Application | Class::Stage | Class::Journal | Class::Record)
        ) {
            continue;
        }
        world.disk.remove_file(&path).unwrap();
        match store.load(&dev()).await {
            Err(StateError::Corrupt { .. }) => {}
            Ok(Some(found)) => assert!(same(&found, &model.last()), "{}", path.display()),
            other => panic!("{} is gone: {other:?}", path.display()),
        }
        world.disk.write(&path, &bytes).unwrap();
    }
}

/// What is left of a stage that was removed: how far it had come is told, or that this cannot be told.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_removed_stage_is_read_as_it_was_or_missed() {
    let world = World::new();
    let mut model = Model::new();
    let steps = [
        Step::Append(vec![put("app/dev/a", 1)]),
        Step::Checkpoint("first"),
        Step::Append(vec![removed("app/dev/a")]),
        Step::RemoveStage,
    ];
    run(&world, &steps, &mut model).await.unwrap();
    let store = world.start();
    let good = store.removed(&dev()).await.unwrap().unwrap();
    let path = Path::new(".alchemy/app/dev/removed.json");
    let files = world.disk.files();
    let bytes = files.iter().find(|(found, _)| *found == path).unwrap();
    let bytes = bytes.1.clone();
    let cuts = (0..bytes.len()).map(|to| bytes[..to].to_vec());
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    });
    for (number, bad) in cuts.chain(flips).enumerate() {
        world.disk.write(path, &bad).unwrap();
        match store.removed(&dev()).await {
            Err(StateError::Corrupt { .. }) => {
                // Nor is a stage made anew that may be older than what was.
                let session = store.open(&dev(), request(Duration::ZERO)).await;
                assert!(session.is_err(), "{number}");
                assert!(store.load(&dev()).await.is_err(), "{number}");
                let problems = store.validate(&dev()).await.unwrap();
                assert_eq!(problems.len(), 1, "{number}");
            }
            found => assert_eq!(found.unwrap().as_ref(), Some(&good), "{number}"),
        }
    }
    world.disk.write(path, &bytes).unwrap();
    let session = store.open(&dev(), request(Duration::ZERO)).await.unwrap();
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    session.release().await.unwrap();
    let anew = store.load(&dev()).await.unwrap().unwrap();
    assert_eq!((&anew.lineage, anew.serial), (&good.lineage, good.serial));
    assert!(!world.disk.files().iter().any(|(found, _)| *found == path));
}
