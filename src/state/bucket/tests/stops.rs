//! The user does not want to wait for the bucket any more.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{World, faults::run, flaky::Fault, load, names, open, try_open};
use crate::state::{BucketFault, StateError, Store as _};

/// What is granted to requests under way.
const GRACE: Duration = Duration::from_secs(1);

/// Stops a command a while after its beginning; answers when.
async fn stop_after(time: Duration, stop: &CancellationToken) -> Instant {
    tokio::time::sleep(time).await;
    stop.cancel();
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_hangs_at_any_request_is_left_at_once_and_nothing_is_lost() {
    let mut kept = 0;
    for silence in [
        Fault::Silent,
        Fault::AnswerAfter(Duration::from_secs(3600)),
        Fault::Busy,
    ] {
        for cut in 0..24 {
            let place = format!("{silence:?} from request {cut} on");
            let world = World::new();
            world
                .bucket
                .spoil(move |number, _| (number >= cut).then_some(silence));
            let stop = CancellationToken::new();
            let store = world.process("here").stopped_by(stop.clone());
            let working = async {
                let result = match try_open(&store, 0).await {
                    Ok(session) => {
                        let (begun, result) = run(session.as_ref()).await;
                        (begun, result, session.left())
                    }
                    Err(error) => (Vec::new(), Err(error), None),
                };
                (result, Instant::now())
            };
            let (((begun, result, left), ended), stopped) =
                tokio::join!(working, stop_after(Duration::from_millis(250), &stop));
            if ended > stopped {
                assert!(ended - stopped <= GRACE, "{place}: {:?}", ended - stopped);
                if let Err(error) = &result {
                    let is_stop = matches!(
                        error,
                        StateError::Bucket {
                            fault: BucketFault::Stopped,
                            ..
                        }
                    );
                    assert!(is_stop, "{place}: {error}");
                    let said = format!("{error} {}", left.unwrap_or_default());
                    kept += u32::from(said.contains("what was done is kept in `"));
                    assert!(
                        said.contains("ends by itself within")
                            || cut < 2
                            || said.contains("store.json"),
                        "{place}: {said}"
                    );
                }
            }
            world.bucket.mend();
            world.kill_all();
            let session = open(&world.process("here")).await;
            let state = session.take_state();
            assert_eq!(names(&state), begun, "{place}");
            let (_, result) = run(session.as_ref()).await;
            result.unwrap();
            let state = load(&world.process("here")).await.unwrap().unwrap();
            assert_eq!(names(&state), ["a", "b", "c"], "{place}");
        }
    }
    assert!(kept > 5, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_works_still_gets_what_is_under_way_and_its_lock() {
    let world = World::new();
    let stop = CancellationToken::new();
    let store = world.process("here").stopped_by(stop.clone());
    let session = open(&store).await;
    world
        .bucket
        .spoil(|_, _| Some(Fault::AnswerAfter(Duration::from_millis(200))));
    let entry = crate::state::tests_support::put("app/dev/a", 1);
    let (written, _) = tokio::join!(
        session.append(vec![entry]),
        stop_after(Duration::from_millis(100), &stop)
    );
    written.unwrap();
    session.release().await.unwrap();
    assert_eq!(session.left(), None);
    world.bucket.mend();
    let there = world.process("there");
    let app = crate::state::tests_support::stage("app/dev").app;
    assert!(there.locks(&app).await.unwrap().is_empty());
    assert_eq!(names(&open(&there).await.take_state()), ["a"]);
    // Whoever has stopped asks for nothing more.
    tokio::time::sleep(GRACE).await;
    let before = world.bucket.count();
    load(&store).await.unwrap_err();
    assert_eq!(world.bucket.count(), before);
}
