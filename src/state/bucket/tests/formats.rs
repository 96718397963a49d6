//! A bucket of an older format goes through the table of steps: read, gone on with, written in this format, after a backup.

use object_store::ObjectStoreExt as _;
use serde_json::Value as Json;

use super::{World, header, load, names, open};
use crate::{
    model::Fqn,
    state::{
        StateError, Store as _,
        file::envelope::{seal, unseal},
        migrate::older::{Older, rename, step},
        tests_support::{intent, put, stage},
    },
};

/// Every object of the bucket as format 0 had it.
async fn make_older(world: &World) {
    for (key, bytes) in world.bucket.objects().await {
        let mut document: Json = serde_json::from_slice(unseal(&bytes).unwrap().0).unwrap();
        rename(&mut document, true);
        document["format"] = 0.into();
        let (bytes, _) = seal(&document).unwrap();
        world.bucket.inner.put(&key, bytes.into()).await.unwrap();
    }
}

/// A stage with two checkpoints, a backup, and what a run left that died. All of format 0.
async fn older_stage() -> World {
    let world = World::new();
    let store = world.process("here");
    let session = open(&store).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    session.checkpoint(header(&["app/dev/a"])).await.unwrap();
    session.append(vec![put("app/dev/a", 2)]).await.unwrap();
    session.checkpoint(header(&["app/dev/a"])).await.unwrap();
    session
        .append(vec![put("app/dev/b", 1), intent("app/dev/c")])
        .await
        .unwrap();
    drop(session);
    world.kill_all();
    make_older(&world).await;
    world
}

async fn formats(world: &World) -> Vec<(String, u64)> {
    let objects = world.bucket.objects().await;
    let format = |(key, bytes): &(object_store::path::Path, bytes::Bytes)| {
        let document: Json = serde_json::from_slice(unseal(bytes).unwrap().0).unwrap();
        (key.to_string(), document["format"].as_u64().unwrap())
    };
    objects.iter().map(format).collect()
}

#[tokio::test(start_paused = true)]
async fn a_bucket_of_an_older_format_is_read_gone_on_with_and_written_in_this_one() {
    let world = older_stage().await;
    let path = stage("app/dev");
    // Without the step nobody knows that format.
    let unknown = load(&world.process("here")).await.unwrap_err();
    assert!(
        matches!(&unknown, StateError::Corrupt { problem, .. } if problem.contains("which no program wrote")),
        "{unknown}"
    );
    let before = world.bucket.objects().await;

    let _older = Older::with(step);
    let reader = world.process("here");
    let state = load(&reader).await.unwrap().unwrap();
    assert_eq!(names(&state), ["a", "b"]);
    let open_intents: Vec<&str> = state.open_intents.keys().map(Fqn::as_str).collect();
    assert_eq!(open_intents, ["app/dev/c"]);
    assert_eq!(state.serial, 2);
    let backups = reader.backups(&path).await.unwrap();
    let backup = reader.backup(&path, &backups[0].name).await.unwrap();
    assert_eq!(backup.records.len(), 1);
    assert_eq!(
        world.bucket.objects().await,
        before,
        "reading changes nothing"
    );

    // The run that died is taken over, and its work folded into a checkpoint of this format.
    let session = open(&reader).await;
    session.append(vec![put("app/dev/d", 1)]).await.unwrap();
    session.checkpoint(header(&["app/dev/a"])).await.unwrap();
    session.release().await.unwrap();
    let after = load(&world.process("there")).await.unwrap().unwrap();
    assert_eq!(names(&after), ["a", "b", "d"]);
    let written = |key: &str| {
        ["/states/", "/locks/"]
            .iter()
            .any(|part| key.contains(part))
    };
    for (key, format) in formats(&world).await {
        assert!(format == 1 || !written(&key), "{key} is of format {format}");
    }
    let kept = reader.backups(&path).await.unwrap();
    assert!(
        kept.len() > backups.len(),
        "the last state of the older format is a backup"
    );
    for kept in kept {
        reader.backup(&path, &kept.name).await.unwrap();
    }
    assert!(reader.validate(&path).await.unwrap().is_empty());
}
