//! Objects that are cut, changed, gone or from the future: told, or harmless; never taken for no state.

use object_store::{ObjectStoreExt as _, path::Path};

use super::{World, header, load, names, open, try_open};
use crate::state::{
    StateError,
    file::envelope::{seal, unseal},
    tests_support::put,
};

/// A stage with a checkpoint, and two segments of a run that died.
async fn worn() -> World {
    let world = World::new();
    let store = world.process("here");
    let session = open(&store).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    session.checkpoint(header(&["app/dev/a"])).await.unwrap();
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    session.append(vec![put("app/dev/c", 1)]).await.unwrap();
    drop(session);
    world.kill_all();
    world
}

fn is_told(error: &StateError) -> bool {
    matches!(
        error,
        StateError::Corrupt { .. } | StateError::TooNew { .. }
    )
}

/// The objects that a stage cannot do without.
async fn vital(world: &World) -> Vec<(Path, bytes::Bytes)> {
    let mut objects = world.bucket.objects().await;
    objects.retain(|(key, _)| {
        ["/locks/", "/states/", "/journal/"]
            .iter()
            .any(|part| key.as_ref().contains(part))
    });
    assert_eq!(objects.len(), 4);
    objects
}

#[tokio::test(start_paused = true)]
async fn every_truncation_and_changed_byte_is_told_or_harmless() {
    let world = worn().await;
    for (key, good) in vital(&world).await {
        let lengths = (0..good.len()).step_by(7).chain([good.len() - 2]);
        let mut bad: Vec<Vec<u8>> = lengths.map(|length| good[..length].to_vec()).collect();
        for at in 0..good.len() {
            let mut changed = good.to_vec();
            changed[at] ^= 1 << (at % 8);
            bad.push(changed);
        }
        for bytes in bad {
            world
                .bucket
                .inner
                .put(&key, bytes.clone().into())
                .await
                .unwrap();
            match load(&world.process("here")).await {
                Err(error) => assert!(is_told(&error), "{key}: {error}"),
                Ok(state) => {
                    let state = state.unwrap_or_else(|| panic!("{key}: taken for no state"));
                    assert_eq!(names(&state), ["a", "b", "c"], "{key}");
                }
            }
        }
        for bytes in [Vec::new(), good[..good.len() / 2].to_vec()] {
            world.bucket.inner.put(&key, bytes.into()).await.unwrap();
            let error = try_open(&world.process("here"), 0).await.err().unwrap();
            assert!(is_told(&error), "{key}: {error}");
        }
        world.bucket.inner.put(&key, good.into()).await.unwrap();
    }
    let session = open(&world.process("here")).await;
    assert_eq!(names(&session.take_state()), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_told() {
    let world = worn().await;
    for (key, good) in vital(&world).await {
        // The last segment could as well never have been written, and a lock says only who works.
        if key.as_ref().ends_with("00000002.json") || key.as_ref().contains("/locks/") {
            continue;
        }
        world.bucket.inner.delete(&key).await.unwrap();
        let error = load(&world.process("here")).await.unwrap_err();
        assert!(is_told(&error), "{key}: {error}");
        let error = try_open(&world.process("here"), 0).await.err().unwrap();
        assert!(is_told(&error), "{key}: {error}");
        world.bucket.inner.put(&key, good.into()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_of_the_checkpoint_is_told() {
    let world = World::new();
    let store = world.process("here");
    let state = Path::from("alch/app/states/dev.json");
    let mut old = None;
    for version in 1..3 {
        let session = open(&store).await;
        session
            .append(vec![put("app/dev/a", version)])
            .await
            .unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();
        let objects = world.bucket.objects().await;
        let found = objects.into_iter().find(|(key, _)| *key == state);
        old = old.or(found);
    }
    let (key, bytes) = old.unwrap();
    world.bucket.inner.put(&key, bytes.into()).await.unwrap();
    let error = load(&store).await.unwrap_err();
    assert!(
        error.to_string().contains("an old copy was put back"),
        "{error}"
    );
    assert!(try_open(&store, 0).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_object_of_a_newer_alch_is_refused() {
    let world = worn().await;
    for (key, good) in vital(&world).await {
        let (json, _) = unseal(&good).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(json).unwrap();
        record["format"] = 99.into();
        record["invented"] = true.into();
        let (newer, _) = seal(&record).unwrap();
        world.bucket.inner.put(&key, newer.into()).await.unwrap();
        for error in [
            load(&world.process("here")).await.err().unwrap(),
            try_open(&world.process("here"), 0).await.err().unwrap(),
        ] {
            assert!(
                matches!(error, StateError::TooNew { found: 99, .. }),
                "{error}"
            );
        }
        world.bucket.inner.put(&key, good.into()).await.unwrap();
    }
}
