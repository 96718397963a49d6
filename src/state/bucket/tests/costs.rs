//! How many requests a run makes, as the module's page states it.

use std::sync::Arc;

use futures::future::join_all;

use super::{World, deployment, header, load, open};
use crate::state::{
    BucketStore, Session,
    tests_support::{intent, put},
};

/// Reads, writes, lists and deletes of some work.
async fn requests_of(store: &BucketStore, work: impl AsyncFnOnce()) -> [u64; 4] {
    let before = store.requests().counts();
    work().await;
    let after = store.requests().counts();
    std::array::from_fn(|index| after[index] - before[index])
}

#[tokio::test(start_paused = true)]
async fn a_run_makes_as_many_requests_as_stated() {
    let world = World::new();
    let store = world.process("here");
    let first = open(&store).await;
    first
        .append(vec![intent("app/dev/a"), put("app/dev/a", 1)])
        .await
        .unwrap();
    first.checkpoint(header(&["app/dev/a"])).await.unwrap();
    first.release().await.unwrap();

    let nothing_changed = requests_of(&store, async || {
        let session = open(&store).await;
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();
    });
    assert_eq!(nothing_changed.await, [2, 2, 0, 0]);

    let only_read = requests_of(&store, async || {
        assert!(load(&store).await.unwrap().is_some());
    });
    assert_eq!(only_read.await, [2, 0, 0, 0]);

    let one_change = requests_of(&store, async || {
        let session = open(&store).await;
        session.append(vec![intent("app/dev/a")]).await.unwrap();
        session.append(vec![put("app/dev/a", 2)]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.record_deployment(deployment("01A")).await.unwrap();
        session.release().await.unwrap();
    });
    assert_eq!(one_change.await, [2, 7, 0, 1]);

    // A hundred resources, ten at a time, as an engine does it: intent, call, result, the next one.
    let hundred_changes = requests_of(&store, async || {
        let session: Arc<dyn Session> = open(&store).await.into();
        let workers = (0..10).map(|worker| {
            let session = Arc::clone(&session);
            async move {
                for index in 0..10 {
                    let name = format!("app/dev/r{worker}x{index}");
                    session.append(vec![intent(&name)]).await.unwrap();
                    session.append(vec![put(&name, 1)]).await.unwrap();
                }
            }
        });
        join_all(workers).await;
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.record_deployment(deployment("01B")).await.unwrap();
        session.release().await.unwrap();
    });
    let [reads, writes, lists, deletes] = hundred_changes.await;
    assert_eq!((reads, lists, deletes), (2, 0, 1));
    // Two times ten waits of ten workers at once, one segment each.
    assert_eq!(writes, 5 + 20);
    assert_eq!(load(&store).await.unwrap().unwrap().records.len(), 101);

    // A hundred independent ones at once.
    let at_once = requests_of(&store, async || {
        let session = open(&store).await;
        let names: Vec<String> = (0..100).map(|index| format!("app/dev/s{index}")).collect();
        join_all(names.iter().map(|name| session.append(vec![intent(name)]))).await;
        join_all(names.iter().map(|name| session.append(vec![put(name, 1)]))).await;
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.record_deployment(deployment("01C")).await.unwrap();
        session.release().await.unwrap();
    });
    assert_eq!(at_once.await, [2, 7, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_lying_around() {
    let world = World::new();
    let store = world.process("here");
    for version in 1..20 {
        let session = open(&store).await;
        session
            .append(vec![put("app/dev/a", version)])
            .await
            .unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();
    }
    let objects = world.bucket.objects().await;
    let keys: Vec<&str> = objects.iter().map(|(key, _)| key.as_ref()).collect();
    let backups = keys.iter().filter(|key| key.contains("/backups/")).count();
    assert_eq!(backups, 10);
    // Store, application, lock, checkpoint.
    assert_eq!(keys.len(), backups + 4, "{keys:#?}");
}
