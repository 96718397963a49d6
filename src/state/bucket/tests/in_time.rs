//! A holder never writes on the strength of a lease that is over, however long requests take.

use std::{collections::BTreeSet, time::Duration};

use super::{World, deployment, flaky::Fault, header, open};
use crate::state::{
    Session, StateError,
    bucket::DEFAULT_TTL,
    tests_support::{intent, put},
};

const SECOND: Duration = Duration::from_secs(1);
/// The last sixth of a lease is no time to write.
const END: Duration = Duration::from_secs(50);

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// Entries, pauses and at last a checkpoint, until something fails.
async fn work(session: &dyn Session, dice: &mut Dice) -> Result<(), StateError> {
    for number in 0..12 {
        tokio::time::sleep(SECOND * u32::try_from(dice.below(30)).unwrap()).await;
        let fqn = format!("app/dev/r{number}");
        session.append(vec![intent(&fqn), put(&fqn, 1)]).await?;
    }
    session.checkpoint(header(&[])).await?;
    session.record_deployment(deployment("01A")).await
}

#[tokio::test(start_paused = true)]
async fn no_write_is_sent_when_the_lease_is_over_or_nearly_so() {
    let mut what_happened = BTreeSet::new();
    for seed in 1..=400_u64 {
        let world = World::new();
        let session = open(&world.process("here")).await;
        // From bad to hopeless.
        let well = 10 + seed % 80;
        world.bucket.spoil(move |number, key| {
            let mut dice = Dice((seed << 20) + number * 2 + u64::from(key.contains("/locks/")));
            dice.below(2);
            if dice.below(100) < well {
                return None;
            }
            let seconds = SECOND * u32::try_from(1 + dice.below(25)).unwrap();
            Some(match dice.below(5) {
                0 => Fault::Silent,
                1 => Fault::AnswerAfter(seconds),
                2 => Fault::AnswerLost,
                3 => Fault::Busy,
                _ => Fault::LostAfter(seconds),
            })
        });
        let result = work(session.as_ref(), &mut Dice(seed * 7919)).await;
        what_happened.insert(match &result {
            Ok(()) => "all was written",
            Err(StateError::Bucket { .. }) => "the bucket was lost",
            Err(_) => "something else",
        });
        let mut renewed = None;
        for write in world.bucket.take_writes() {
            if write.key.contains("/locks/") {
                if write.is_done {
                    renewed = Some(write.at);
                }
            } else if !write.is_done
                && let Some(renewed) = renewed
            {
                let age = write.at - renewed;
                assert!(age < END, "seed {seed}: {} at age {age:?}", write.key);
            }
        }
        assert!(renewed.is_some());
    }
    let expected = BTreeSet::from(["all was written", "the bucket was lost"]);
    assert_eq!(what_happened, expected);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_all_its_tries_takes_half_a_lease_at_most() {
    for fault in [
        Fault::Silent,
        Fault::Busy,
        Fault::Lost,
        Fault::LostAfter(20 * SECOND),
        Fault::LostAfter(29 * SECOND),
    ] {
        let spoilt = async || {
            let world = World::new();
            let store = world.process("here");
            let session = open(&store).await;
            session.append(vec![put("app/dev/a", 1)]).await.unwrap();
            world.bucket.spoil(move |_, _| Some(fault));
            (world, store, session, tokio::time::Instant::now())
        };
        let (_world, store, _session, begin) = spoilt().await;
        super::load(&store).await.unwrap_err();
        let read = begin.elapsed();
        assert!(read <= DEFAULT_TTL / 2, "{fault:?}: {read:?}");
        let (_world, _store, session, begin) = spoilt().await;
        session.append(vec![put("app/dev/b", 1)]).await.unwrap_err();
        let written = begin.elapsed();
        assert!(written <= DEFAULT_TTL / 2, "{fault:?}: {written:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_arrived_long_ago_without_an_answer_renews_nothing_now() {
    let world = World::new();
    let session = open(&world.process("here")).await;
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    world.bucket.spoil(|number, _| match number {
        0 => Some(Fault::AnswerLost),
        _ => Some(Fault::Lost),
    });
    tokio::time::sleep(55 * SECOND).await;
    world.bucket.mend();
    world.bucket.take_writes();
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    let writes = world.bucket.take_writes();
    let first = writes.iter().find(|write| write.is_done).unwrap();
    assert!(
        first.key.contains("/locks/"),
        "first the lock, then the entry: {writes:?}"
    );
}
