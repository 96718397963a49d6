//! Requests that are lost, refused for now, or answered by nobody.

use super::{World, deployment, flaky::Fault, fqn, header, load, names, open, try_open};
use crate::state::{
    Session, StateError, Store as _,
    tests_support::{intent, put, stage},
};

/// A run of three resources. Answers the names whose making was begun, as their intents were durable.
pub(super) async fn run(session: &dyn Session) -> (Vec<&'static str>, Result<(), StateError>) {
    let mut begun = Vec::new();
    let mut result = Ok(());
    for name in ["a", "b", "c"] {
        let fqn = format!("app/dev/{name}");
        if let Err(error) = session.append(vec![intent(&fqn)]).await {
            result = result.and(Err(error));
            continue;
        }
        begun.push(name);
        if let Err(error) = session.append(vec![put(&fqn, 1)]).await {
            result = result.and(Err(error));
        }
    }
    let order = ["app/dev/a", "app/dev/b", "app/dev/c"];
    if result.is_ok() {
        result = session.checkpoint(header(&order)).await;
    }
    if result.is_ok() {
        result = session.record_deployment(deployment("01A")).await;
    }
    let released = session.release().await;
    (begun, result.and(released))
}

#[tokio::test(start_paused = true)]
async fn a_run_gets_over_any_one_lost_request_or_answer() {
    let world = World::new();
    world.bucket.spoil(|_, _| None);
    let (_, result) = run(open(&world.process("here")).await.as_ref()).await;
    result.unwrap();
    let all = world.bucket.count();
    assert!(all > 10);
    for fault in [Fault::Lost, Fault::AnswerLost, Fault::Busy] {
        for spoilt in 0..all {
            let world = World::new();
            world
                .bucket
                .spoil(move |number, _| (number == spoilt).then_some(fault));
            let store = world.process("here");
            let place = format!("{fault:?} at request {spoilt} of {all}");
            let session = try_open(&store, 0).await;
            let session = session.unwrap_or_else(|error| panic!("{place}: {error}"));
            let (_, result) = run(session.as_ref()).await;
            result.unwrap_or_else(|error| panic!("{place}: {error}"));
            let state = load(&store).await.unwrap().unwrap();
            assert_eq!(
                (names(&state), state.epoch),
                (vec!["a", "b", "c"], 1),
                "{place}"
            );
            assert!(state.open_intents.is_empty());
            let next = open(&store).await;
            assert_eq!(next.epoch(), 2, "{place}");
            next.release().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_when_the_network_went_away_is_saved_by_the_next_run() {
    let mut lost_something = 0;
    for last_answer in [Fault::Lost, Fault::AnswerLost] {
        for cut in 0..24 {
            let world = World::new();
            world.bucket.spoil(move |number, _| match number {
                number if number < cut => None,
                number if number == cut => Some(last_answer),
                _ => Some(Fault::Lost),
            });
            let store = world.process("here");
            let begun = match try_open(&store, 0).await {
                Ok(session) => {
                    let (begun, result) = run(session.as_ref()).await;
                    if begun.len() == 3 && result.is_err() {
                        lost_something += 1;
                    }
                    begun
                }
                Err(_) => Vec::new(),
            };
            world.bucket.mend();
            world.kill_all();
            let store = world.process("here");
            let session = open(&store).await;
            let state = session.take_state();
            let place = format!("{last_answer:?} at {cut}");
            // Whatever was begun has its result, and nothing else has one.
            assert_eq!(names(&state), begun, "{place}");
            for open in state.open_intents.keys() {
                assert!(!begun.contains(&open.within_stage()), "{place}: {open}");
            }
            let (_, result) = run(session.as_ref()).await;
            result.unwrap();
            let state = load(&store).await.unwrap().unwrap();
            assert_eq!(names(&state), ["a", "b", "c"], "{place}");
            assert!(
                open(&store).await.notes().is_empty(),
                "kept things are saved once"
            );
        }
    }
    assert!(lost_something > 3, "{lost_something}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_arrived_without_an_answer_are_our_own() {
    let world = World::new();
    let store = world.process("here");
    let session = open(&store).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    // For a whole lease every heartbeat arrives, and no answer does.
    world
        .bucket
        .spoil(|_, key| key.contains("/locks/").then_some(Fault::AnswerLost));
    tokio::time::sleep(std::time::Duration::from_secs(70)).await;
    world.bucket.mend();
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    session.checkpoint(header(&[])).await.unwrap();
    session.release().await.unwrap();
    assert!(store.locks(&stage("app/dev").app).await.unwrap().is_empty());
    assert_eq!(names(&load(&store).await.unwrap().unwrap()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_gives_way_where_the_stage_moved_on() {
    let world = World::new();
    let session = open(&world.process("here")).await;
    session.append(vec![intent("app/dev/a")]).await.unwrap();
    session.append(vec![intent("app/dev/b")]).await.unwrap();
    world.bucket.spoil(|_, _| Some(Fault::Lost));
    let error = session.append(vec![put("app/dev/a", 1)]).await.unwrap_err();
    assert!(
        error.to_string().contains("what was done is kept in `"),
        "{error}"
    );
    session.append(vec![put("app/dev/b", 1)]).await.unwrap_err();
    session.release().await.unwrap();
    world.bucket.mend();

    // Somebody elsewhere waits the lease out, finds the first object, and thinks nothing of the second.
    let there = try_open(&world.process("there"), 100).await.unwrap();
    let state = there.take_state();
    assert_eq!(state.open_intents.len(), 2);
    there
        .append(vec![
            put("app/dev/a", 7),
            crate::state::tests_support::removed("app/dev/b"),
        ])
        .await
        .unwrap();
    there.checkpoint(header(&["app/dev/a"])).await.unwrap();
    there.release().await.unwrap();

    let store = world.process("here");
    let session = open(&store).await;
    let notes = session.notes();
    assert!(
        notes[0].starts_with("another run has worked on the stage"),
        "{notes:?}"
    );
    let state = session.take_state();
    assert_eq!(names(&state), ["a"]);
    let record = &state.records[&fqn("app/dev/a")];
    assert_eq!(
        record.props["size"],
        crate::model::Value::Int(7),
        "theirs stands"
    );
    assert!(
        state.open_intents.contains_key(&fqn("app/dev/b")),
        "it is looked up"
    );
    session.release().await.unwrap();
    assert!(open(&store).await.notes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bucket_without_conditional_writes_is_refused() {
    let world = World::new();
    let store = world.process("here");
    // It forgets at once what was created under a condition, as one that ignores conditions seems to.
    let bucket = std::sync::Arc::clone(&world.bucket);
    world.bucket.before_write_of(
        "store.json",
        Box::new(move || {
            let again = std::sync::Arc::clone(&bucket);
            Box::pin(async move {
                let forget = std::sync::Arc::clone(&again);
                again.before_write_of(
                    "store.json",
                    Box::new(move || {
                        Box::pin(async move {
                            let key = object_store::path::Path::from("alch/store.json");
                            object_store::ObjectStoreExt::delete(&forget.inner, &key)
                                .await
                                .unwrap();
                        })
                    }),
                );
            })
        }),
    );
    let error = try_open(&store, 0).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot use `s3://team/alch/store.json`: it does not keep to `If-None-Match`"
    );
    assert!(store.locks(&stage("app/dev").app).await.unwrap().is_empty());
}
