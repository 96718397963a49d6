//! Repairs on the simulated disk: what can be saved of damaged files, and a repair that dies at every effect.

use std::{path::Path, time::Duration};

use super::crash_tests::{CRASHES, LOSSES, World, dev, header, request, same};
use crate::{
    model::Fqn,
    state::{
        JournalEntry, Salvage, StageState, StateError, Store,
        disk::Disk,
        tests_support::{intent, put, removed, replaced},
    },
};

const STAGE: &str = ".alchemy/app/dev";

/// A stage with a checkpoint, a backup, and a journal that goes on.
async fn stage_with_history() -> World {
    let world = World::new();
    let store = world.start();
    let session = store.open(&dev(), request(Duration::ZERO)).await.unwrap();
    session
        .append(vec![put("app/dev/a", 1), put("app/dev/s/b", 1)])
        .await
        .unwrap();
    session.checkpoint(header("first")).await.unwrap();
    session
        .append(vec![put("app/dev/a", 2), put("app/dev/s/c", 1)])
        .await
        .unwrap();
    session.checkpoint(header("second")).await.unwrap();
    session
        .append(vec![
            put("app/dev/d", 1),
            removed("app/dev/s/c"),
            intent("app/dev/e"),
        ])
        .await
        .unwrap();
    session.release().await.unwrap();
    world
}

fn damage(world: &World, file: &str) {
    let path = Path::new(STAGE).join(file);
    world.disk.write(&path, b"{\"checksum\":\"bla").unwrap();
    world.disk.sync_file(&path).unwrap();
}

async fn salvaged(world: &World) -> Salvage {
    world.start().salvage(&dev()).await.unwrap()
}

fn versions(salvage: &Salvage) -> Vec<String> {
    let records = salvage.snapshot.records.values();
    records
        .map(|record| {
            let size = record
                .props
                .get("size")
                .and_then(crate::model::Value::as_int);
            format!("{}={}", record.fqn.within_stage(), size.unwrap_or(-1))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_damaged_the_rest_is_saved() {
    let whole = ["a=2", "d=1", "s/b=1"];
    let world = stage_with_history().await;
    assert_eq!(versions(&salvaged(&world).await), whole);

    damage(&world, "state.json");
    let salvage = salvaged(&world).await;
    // Nobody says any more what the checkpoint held, but the journal says what was removed since.
    assert_eq!(versions(&salvage), whole);
    assert!(!salvage.has_index && salvage.lineage.is_some());
    assert!(
        salvage
            .snapshot
            .open_intents
            .contains_key(&Fqn::parse("app/dev/e").unwrap())
    );

    let world = stage_with_history().await;
    damage(&world, "s/resources/b/state.json");
    let salvage = salvaged(&world).await;
    assert_eq!(versions(&salvage), ["a=2", "d=1"]);
    assert_eq!(salvage.lost, [Fqn::parse("app/dev/s/b").unwrap()]);

    let world = stage_with_history().await;
    damage(&world, "journal.wal");
    let salvage = salvaged(&world).await;
    assert_eq!(versions(&salvage), ["a=2", "s/b=1", "s/c=1"]);
    assert!(salvage.lost.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_entry_ends_what_the_journal_gives() {
    let world = stage_with_history().await;
    let path = Path::new(STAGE).join("journal.wal");
    let mut bytes = world.disk.read(&path).unwrap();
    // The last entry is the intent; one of its bytes changes.
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    world.disk.write(&path, &bytes).unwrap();
    let salvage = salvaged(&world).await;
    assert_eq!(versions(&salvage), ["a=2", "d=1", "s/b=1"]);
    assert!(salvage.snapshot.open_intents.is_empty());
}

/// Sets the stage aside and puts two records in its place.
async fn repair(world: &World) -> Result<(), StateError> {
    let store = world.start();
    let salvage = store.salvage(&dev()).await?;
    let (session, _) = store
        .set_aside(&dev(), &salvage.snapshot, request(Duration::ZERO))
        .await?;
    let entry = replaced(&dev(), &[("app/dev/a", 9), ("app/dev/s/b", 9)]);
    session.append(vec![entry]).await?;
    session.checkpoint(header("repaired")).await?;
    session.release().await
}

fn repaired() -> StageState {
    let mut state = StageState::default();
    state.apply(&replaced(&dev(), &[("app/dev/a", 9), ("app/dev/s/b", 9)]));
    state.apply(&JournalEntry::Header(header("repaired").into()));
    state
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_dies_anywhere_never_leaves_an_empty_stage() {
    let begin = stage_with_history().await.disk.effects();
    let world = stage_with_history().await;
    damage(&world, "state.json");
    let before = world.disk.effects();
    repair(&world).await.unwrap();
    let effects = world.disk.effects() - before;
    assert!(effects > 20, "{effects} effects after {begin}");
    for at in 1..=effects {
        for fault in CRASHES {
            for loss in LOSSES {
                let world = stage_with_history().await;
                damage(&world, "state.json");
                world.disk.strike(at, fault);
                let result = repair(&world).await;
                assert!(result.is_err() && world.disk.is_down(), "{at} of {effects}");
                let case = format!(
                    "{fault:?} at {at}, {loss:?}: {:?}",
                    world.disk.trace().last()
                );
                world.disk.reboot(loss);
                match world.start().load(&dev()).await {
                    Err(StateError::Corrupt { .. }) => {}
                    Ok(Some(state)) => assert!(same(&state, &repaired()), "{case}: {state:#?}"),
                    other => panic!("{case}: {other:?}"),
                }
                let again = repair(&world).await;
                again.unwrap_or_else(|error| panic!("{case}: again: {error}"));
                let state = world.start().load(&dev()).await.unwrap().unwrap();
                assert!(same(&state, &repaired()), "{case}: {state:#?}");
                let problems = world.start().validate(&dev()).await.unwrap();
                assert!(problems.is_empty(), "{case}: {problems:#?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_damaged_files_are_kept() {
    let world = stage_with_history().await;
    damage(&world, "journal.wal");
    repair(&world).await.unwrap();
    let files = world.disk.files();
    let kept: Vec<String> = files
        .keys()
        .filter_map(|path| path.strip_prefix(Path::new(STAGE).join("backups")).ok())
        .map(|path| {
            path.components()
                .skip(1)
                .collect::<std::path::PathBuf>()
                .display()
                .to_string()
        })
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        kept,
        [
            "journal.wal",
            "resources/a/state.json",
            "s/resources/b/state.json",
            "s/resources/c/state.json",
            "s/state.json",
            "state.json"
        ]
    );
}
