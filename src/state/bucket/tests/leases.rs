//! What a run may still do outside the store: it asks the lease of its session.

use std::time::Duration;

use super::{World, flaky::Fault, open};
use crate::state::StateError;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn while_heartbeats_go_through_the_question_costs_no_request() {
    let world = World::new();
    let session = open(&world.process("here")).await;
    let lease = session.lease();
    for _ in 0..30 {
        tokio::time::sleep(7 * SECOND).await;
        let before = world.bucket.count();
        lease.check().await.unwrap();
        assert_eq!(world.bucket.count(), before);
    }
    session.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_overtaken_is_told_so_when_it_asks() {
    let world = World::new();
    let zombie = open(&world.process("here")).await;
    let lease = zombie.lease();
    lease.check().await.unwrap();
    world.kill_all();
    let session = open(&world.process("here")).await;
    tokio::time::sleep(25 * SECOND).await;
    let asked = lease.check().await;
    assert!(matches!(asked, Err(StateError::Fenced { .. })), "{asked:?}");
    session.lease().check().await.unwrap();
    session.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_network_stops_before_a_taker_may_begin() {
    let world = World::new();
    let session = open(&world.process("here")).await;
    let lease = session.lease();
    world.bucket.spoil(|_, _| Some(Fault::Lost));
    let begin = tokio::time::Instant::now();
    let mut last = Duration::ZERO;
    let error = loop {
        match lease.check().await {
            Ok(()) => last = begin.elapsed(),
            Err(error) => break error,
        }
        tokio::time::sleep(SECOND / 4).await;
    };
    assert!(matches!(error, StateError::Lapsed { .. }), "{error}");
    assert!(last < 50 * SECOND, "{last:?}");
    // The bucket is back, and nobody was faster.
    world.bucket.mend();
    lease.check().await.unwrap();
    session.release().await.unwrap();
}
