//! Two that believe to hold the stage: only one of them writes.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{World, deployment, flaky::Fault, fqn, header, load, names, open, try_open};
use crate::state::{
    Session, StateError, Store as _,
    tests_support::{intent, put, removed, stage},
};

fn is_fenced<T>(result: &Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::Fenced { .. }))
}

/// What a run does before it is stopped, or another one after it took over.
async fn work(session: &dyn Session, steps: usize, tag: &str) {
    for step in 0..steps {
        match step {
            0 | 1 => {
                let name = format!("app/dev/{tag}{step}");
                session.append(vec![put(&name, 1)]).await.unwrap();
            }
            2 => session.checkpoint(header(&[])).await.unwrap(),
            _ => {
                let name = format!("app/dev/{tag}{step}");
                session.append(vec![intent(&name)]).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_overtaken_writes_nothing_wherever_it_was_stopped() {
    for before in 0..5 {
        for after in 0..5 {
            let world = World::new();
            let zombie = open(&world.process("here")).await;
            work(zombie.as_ref(), before, "old").await;
            world.kill_all();
            let store = world.process("here");
            let session = open(&store).await;
            assert!(session.epoch() > zombie.epoch());
            work(session.as_ref(), after, "new").await;
            let objects = world.bucket.objects_of_stages().await;

            let place = format!("stopped after {before}, the next one is at {after}");
            let appended = zombie.append(vec![put("app/dev/zombie", 1)]).await;
            assert!(is_fenced(&appended), "{place}");
            assert!(
                zombie
                    .checkpoint(header(&["app/dev/zombie"]))
                    .await
                    .is_err(),
                "{place}"
            );
            assert!(zombie.record_deployment(deployment("01Z")).await.is_err());
            zombie.release().await.unwrap();
            assert_eq!(world.bucket.objects_of_stages().await, objects, "{place}");

            // The same where it goes straight for the checkpoint.
            session.append(vec![put("app/dev/more", 1)]).await.unwrap();
            session.checkpoint(header(&[])).await.unwrap();
            session.release().await.unwrap();
            let state = load(&store).await.unwrap().unwrap();
            assert!(state.records.contains_key(&fqn("app/dev/more")));
            assert!(!state.records.contains_key(&fqn("app/dev/zombie")));
            let old = names(&state)
                .iter()
                .filter(|name| name.starts_with("old"))
                .count();
            assert_eq!(old, before.min(2), "{place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_a_run_that_was_overtaken_is_refused_by_the_bucket() {
    for before in 0..4 {
        let world = World::new();
        let zombie = open(&world.process("here")).await;
        work(zombie.as_ref(), before, "old").await;
        world.kill_all();
        let session = open(&world.process("here")).await;
        let objects = world.bucket.objects_of_stages().await;
        let result = zombie.checkpoint(header(&["app/dev/zombie"])).await;
        assert!(is_fenced(&result), "after {before}");
        assert_eq!(world.bucket.objects_of_stages().await, objects);
        session.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_just_before_the_seal_counts() {
    let world = World::new();
    let late: Arc<dyn Session> = open(&world.process("here")).await.into();
    late.append(vec![put("app/dev/a", 1)]).await.unwrap();
    world.kill_all();
    let writes = Arc::clone(&late);
    world.bucket.before_write_of(
        "/journal/",
        Box::new(move || {
            async move {
                writes.append(vec![put("app/dev/b", 1)]).await.unwrap();
            }
            .boxed()
        }),
    );
    let store = world.process("here");
    let session = open(&store).await;
    assert_eq!(names(&session.take_state()), ["a", "b"]);
    assert!(is_fenced(&late.append(vec![put("app/dev/c", 1)]).await));
    session.release().await.unwrap();
    assert_eq!(names(&load(&store).await.unwrap().unwrap()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_written_just_before_the_taker_s_counts() {
    let world = World::new();
    let late: Arc<dyn Session> = open(&world.process("here")).await.into();
    late.append(vec![put("app/dev/a", 1)]).await.unwrap();
    world.kill_all();
    let writes = Arc::clone(&late);
    world.bucket.before_write_of(
        "/states/",
        Box::new(move || {
            async move {
                writes.checkpoint(header(&["app/dev/a"])).await.unwrap();
            }
            .boxed()
        }),
    );
    let store = world.process("here");
    let session = open(&store).await;
    let state = session.take_state();
    assert_eq!(
        (names(&state), state.header.clone()),
        (vec!["a"], header(&["app/dev/a"]))
    );
    assert!(is_fenced(&late.append(vec![put("app/dev/c", 1)]).await));
    session.append(vec![removed("app/dev/a")]).await.unwrap();
    session.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_taker_that_dies_is_taken_over_in_turn() {
    for cut in 0..12 {
        let world = World::new();
        let first = open(&world.process("here")).await;
        first.append(vec![put("app/dev/a", 1)]).await.unwrap();
        world.kill_all();
        // The second one loses its network, and its life, in the middle of taking over.
        world
            .bucket
            .spoil(move |number, _| (number >= cut).then_some(Fault::Lost));
        let second = try_open(&world.process("here"), 0).await;
        world.bucket.mend();
        world.kill_all();
        let store = world.process("here");
        let third = open(&store).await;
        assert_eq!(names(&third.take_state()), ["a"], "cut at {cut}");
        assert!(is_fenced(&first.append(vec![put("app/dev/b", 1)]).await));
        if let Ok(second) = second {
            assert!(is_fenced(&second.append(vec![put("app/dev/b", 1)]).await));
        }
        third.append(vec![put("app/dev/c", 1)]).await.unwrap();
        third.checkpoint(header(&[])).await.unwrap();
        third.release().await.unwrap();
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
        assert_eq!(names(&load(&store).await.unwrap().unwrap()), ["a", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_elsewhere_is_taken_over_after_a_lease_without_a_heartbeat() {
    let world = World::new();
    let way = world.bucket.beside();
    let there = open(&world.process_by(&way, "there")).await;
    let store = world.process("here");
    // It lives: its heartbeats are seen, for as long as one likes to wait.
    let error = try_open(&store, 300).await.err().unwrap();
    assert!(
        matches!(error, StateError::Locked { alive: None, .. }),
        "{error}"
    );
    // It is cut off, or stopped.
    way.spoil(|_, _| Some(Fault::Lost));
    let before = tokio::time::Instant::now();
    let session = try_open(&store, 300).await.unwrap();
    let waited = before.elapsed().as_secs();
    assert!((60..65).contains(&waited), "waited {waited} s");
    way.mend();
    assert!(is_fenced(&there.append(vec![put("app/dev/a", 1)]).await));
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    session.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_its_lease_stops_by_itself() {
    let world = World::new();
    let session = open(&world.process("here")).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    world
        .bucket
        .spoil(|_, key| key.contains("/locks/").then_some(Fault::Lost));
    tokio::time::sleep(std::time::Duration::from_secs(55)).await;
    // The journal could be written; the lease could not be renewed.
    let error = session.append(vec![put("app/dev/b", 1)]).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Bucket { place, .. } if place.contains("/locks/")),
        "{error}"
    );
    let objects = world.bucket.objects_of_stages().await;
    let journal = |key: &str| key.contains("/journal/");
    assert_eq!(
        objects
            .iter()
            .filter(|(key, _)| journal(key.as_ref()))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn of_many_that_want_a_stage_one_has_it() {
    let world = Arc::new(World::new());
    for round in 0..50 {
        let takers = (0..16).map(|_| {
            let store = world.process("here");
            async move { try_open(&store, 0).await }
        });
        let results = futures::future::join_all(takers).await;
        let mut winners = Vec::new();
        for result in results {
            match result {
                Ok(session) => winners.push(session),
                Err(StateError::Locked { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let winner = winners.pop().unwrap();
        assert_eq!(winner.epoch(), round + 1);
        if round % 3 == 0 {
            world.kill_all();
        } else {
            winner.release().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_was_removed_stays_closed_to_who_knew_it() {
    let world = World::new();
    let before_all = open(&world.process("here")).await;
    world.kill_all();
    let store = world.process("here");
    let session = open(&store).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    session.checkpoint(header(&[])).await.unwrap();
    session.append(vec![removed("app/dev/a")]).await.unwrap();
    session.remove_stage().await.unwrap();
    session.release().await.unwrap();
    let objects = world.bucket.objects_of_stages().await;
    let late = before_all.append(vec![put("app/dev/b", 1)]).await;
    assert!(is_fenced(&late));
    assert!(before_all.checkpoint(header(&["app/dev/b"])).await.is_err());
    assert_eq!(world.bucket.objects_of_stages().await, objects);
    assert!(load(&store).await.unwrap().is_none());
}
