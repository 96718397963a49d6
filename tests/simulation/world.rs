//! The simulated world but for its cloud and its disk: the fate of a process, a clock, ids and an ear for events.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alch::{
    engine::{Event, EventSink},
    util::{clock::Clock, ids::Ids},
};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Whether and when the process died, as far as the world can tell.
#[derive(Default)]
pub(crate) struct Fate {
    dead: AtomicBool,
    died: tokio::sync::Notify,
}

impl Fate {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Ends the process.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
        self.died.notify_one();
    }

    /// Waits until the process has died.
    pub(crate) async fn death(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }
}

/// Simulated time: wall clock and monotonic clock move with tokio's paused time.
pub(crate) struct SimClock {
    base: Timestamp,
    /// `None` where time stands still.
    start: Option<tokio::time::Instant>,
}

impl SimClock {
    /// A clock that runs with the runtime it is made in.
    pub(crate) fn starting_at(seconds: i64) -> Self {
        Self {
            start: Some(tokio::time::Instant::now()),
            ..Self::standing_at(seconds)
        }
    }

    /// A clock that always says the same.
    pub(crate) fn standing_at(seconds: i64) -> Self {
        Self {
            base: Timestamp::from_second(seconds).unwrap(),
            start: None,
        }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.base + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Ids from a seed.
pub(crate) struct SimIds(Mutex<StdRng>);

impl SimIds {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Ids for SimIds {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(bytes);
    }
}

/// Keeps every event.
#[derive(Default)]
pub(crate) struct EventLog(pub(crate) Mutex<Vec<Event>>);

impl EventSink for EventLog {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// An event as one line, for comparing runs; nothing of those that tell no more.
pub(crate) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Started { fqn, action, .. } => format!("{} {fqn}", action.progressive()),
        Event::Finished { fqn, action, .. } => format!("{} {fqn}", action.past()),
        Event::Unchanged { fqn, .. } => format!("unchanged {fqn}"),
        Event::Failed(failure) => format!("failed {}: {}", failure.fqn, failure.cause),
        Event::Skipped { fqn, because } => format!("skipped {fqn} because of {because}"),
        Event::Planned(planned) => format!("plan {} {}", planned.action.verb(), planned.fqn),
        _ => return None,
    })
}
