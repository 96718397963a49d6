//! The lease of a session, as its holder sees it: may this run still change the world?
//!
//! The lock of a stage fences what is written to state; nothing fences a cloud. So a run asks its own [`Lease`] before each call
//! to a provider. A lease that was confirmed lately answers from memory. One that was not, because the process was stopped, the
//! machine slept or heartbeats failed, is renewed first, and whoever cannot renew it stops before a taker on another machine
//! could begin: at the end of the lease less a margin, by a clock that goes on while the machine sleeps.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::StateError;
use crate::{model::StagePath, util::clock::Clock};

/// How many heartbeats a lease lasts.
pub const HEARTBEATS_PER_TTL: u32 = 6;

/// How many heartbeats may be missing before the lock is looked at again.
const MISSING_HEARTBEATS: u32 = 2;

/// How often a renewal is tried whose answer came too late to be worth anything.
const TRIES: u32 = 3;

/// Proves to the store that the holder lives, and learns whether it still is the holder.
#[async_trait]
pub trait Renewal: Send + Sync {
    /// Renews the lock of a session.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when the lock is another's by now; whatever else when that could not be told.
    async fn renew(&self) -> Result<(), StateError>;

    /// When the last renewal began that succeeded without this lease's doing, by [`Clock::since_boot`]: for stores that renew
    /// their locks themselves.
    fn last_renewed(&self) -> Option<Duration> {
        None
    }
}

/// A shared handle on the lease of a session; clones are the same lease.
#[derive(Clone, Default)]
pub struct Lease(Option<Arc<Inner>>);

struct Inner {
    stage: StagePath,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    renewal: Box<dyn Renewal>,
    /// Held while a renewal is under way, so that they come one after the other.
    turn: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
}

/// What is known of the lease.
struct Held {
    /// When the last renewal began that succeeded, by [`Clock::since_boot`].
    confirmed: Duration,
    /// Why the last renewal failed, if it did.
    problem: Option<String>,
    /// Our epoch and that of the run that has the stage now.
    lost: Option<(u64, u64)>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl Lease {
    /// The lease of a session that nobody can take over, or of a run that holds no lock.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// A lease that was confirmed at `confirmed`, by [`Clock::since_boot`], and lasts `ttl` from each renewal on.
    #[must_use]
    pub fn new(
        stage: StagePath,
        ttl: Duration,
        clock: Arc<dyn Clock>,
        confirmed: Duration,
        renewal: Box<dyn Renewal>,
    ) -> Self {
        Self(Some(Arc::new(Inner {
            stage,
            ttl,
            clock,
            renewal,
            turn: tokio::sync::Mutex::default(),
            held: Mutex::new(Held {
                confirmed,
                problem: None,
                lost: None,
            }),
        })))
    }

    /// Asks whether the run may still change things. Costs nothing while heartbeats go through.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when another run has the stage, [`StateError::Lapsed`] when the lease could not be renewed.
    pub async fn check(&self) -> Result<(), StateError> {
        let Some(inner) = &self.0 else {
            return Ok(());
        };
        for _ in 0..TRIES {
            if inner.is_fresh()? {
                return Ok(());
            }
            let silent = inner.silent();
            let patience = inner.end().saturating_sub(silent).max(inner.beat());
            tokio::select! {
                biased;
                () = inner.renew_in_turn() => {}
                () = inner.clock.sleep(patience) => inner.note("the lock did not answer in time"),
            }
            inner.is_fresh()?;
            if inner.silent() < inner.end() {
                return Ok(());
            }
            if inner.held().problem.is_some() {
                break;
            }
        }
        Err(inner.lapsed())
    }

    /// Renews the lease again and again until it is lost. For the task that a session stops at its end.
    pub async fn keep(&self) {
        let Some(inner) = &self.0 else {
            return;
        };
        loop {
            inner.clock.sleep(inner.beat()).await;
            let turn = inner.turn.lock().await;
            inner.renew().await;
            drop(turn);
            let held = inner.held();
            if let Some((_, theirs)) = held.lost {
                tracing::warn!(stage = %inner.stage, theirs, "the lock was taken over");
                return;
            }
            // The next one may go through; writes check the lock anyway, and calls ask first.
            if let Some(problem) = &held.problem {
                tracing::warn!(stage = %inner.stage, problem, "the heartbeat failed");
            }
        }
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is one assignment, so a panic leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far heartbeats are apart, and how much sooner than a taker the holder counts its lease as over.
    fn beat(&self) -> Duration {
        self.ttl / HEARTBEATS_PER_TTL
    }

    /// How long after the last renewal calls may start without another one.
    fn end(&self) -> Duration {
        self.ttl.saturating_sub(self.beat())
    }

    /// For how long no renewal succeeded.
    fn silent(&self) -> Duration {
        let now = self.clock.since_boot();
        let confirmed = self.held().confirmed;
        now.saturating_sub(confirmed.max(self.renewal.last_renewed().unwrap_or_default()))
    }

    /// Whether the last renewal is so young that nobody needs to ask.
    fn is_fresh(&self) -> Result<bool, StateError> {
        if let Some((ours, theirs)) = self.held().lost {
            return Err(StateError::Fenced {
                stage: self.stage.clone(),
                ours,
                theirs,
            });
        }
        Ok(self.silent() < self.beat() * MISSING_HEARTBEATS)
    }

    async fn renew_in_turn(&self) {
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have done it already.
        if !matches!(self.is_fresh(), Ok(false)) {
            return;
        }
        self.renew().await;
    }

    async fn renew(&self) {
        let begin = self.clock.since_boot();
        let result = self.renewal.renew().await;
        let mut held = self.held();
        match result {
            Ok(()) => {
                held.confirmed = held.confirmed.max(begin);
                held.problem = None;
            }
            Err(StateError::Fenced { ours, theirs, .. }) => held.lost = Some((ours, theirs)),
            Err(StateError::Io {
                operation,
                place,
                source,
            }) => held.problem = Some(format!("cannot {operation} `{place}`: {source}")),
            Err(error) => held.problem = Some(error.to_string()),
        }
    }

    fn note(&self, problem: &str) {
        self.held().problem = Some(problem.to_owned());
    }

    fn lapsed(&self) -> StateError {
        let silent = self.silent();
        let problem = self.held().problem.clone();
        StateError::Lapsed {
            stage: self.stage.clone(),
            silent,
            problem: problem.unwrap_or_else(|| "every renewal came too late".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::state::tests_support::stage;

    const TTL: Duration = Duration::from_secs(60);

    /// A clock whose machine may sleep: only `since_boot` goes on then.
    #[derive(Default)]
    struct Sleepy(AtomicU64);

    #[async_trait]
    impl Clock for Sleepy {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn since_boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
            self.0.fetch_add(duration.as_secs(), Ordering::SeqCst);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Answer {
        Renewed,
        TakenOver,
        Refused,
        Silence,
    }

    /// A lock that answers what it is told to; counts how often it was asked.
    struct Scripted {
        answer: Arc<Mutex<Answer>>,
        asked: Arc<AtomicU64>,
    }

    #[async_trait]
    impl Renewal for Scripted {
        async fn renew(&self) -> Result<(), StateError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = *self.answer.lock().unwrap();
            match answer {
                Answer::Renewed => Ok(()),
                Answer::TakenOver => Err(StateError::Fenced {
                    stage: stage("app/dev"),
                    ours: 1,
                    theirs: 2,
                }),
                Answer::Refused => Err(StateError::Io {
                    operation: "write",
                    place: "dev.lock".to_owned(),
                    source: std::io::ErrorKind::PermissionDenied.into(),
                }),
                Answer::Silence => std::future::pending().await,
            }
        }
    }

    struct Case {
        clock: Arc<Sleepy>,
        answer: Arc<Mutex<Answer>>,
        asked: Arc<AtomicU64>,
        lease: Lease,
    }

    fn case(answer: Answer) -> Case {
        let clock = Arc::new(Sleepy::default());
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::default();
        let renewal = Scripted {
            answer: Arc::clone(&answer),
            asked: Arc::clone(&asked),
        };
        let lease = Lease::new(
            stage("app/dev"),
            TTL,
            Arc::clone(&clock) as _,
            Duration::ZERO,
            Box::new(renewal),
        );
        Case {
            clock,
            answer,
            asked,
            lease,
        }
    }

    impl Case {
        fn pass(&self, seconds: u64) {
            self.clock.0.fetch_add(seconds, Ordering::SeqCst);
        }

        fn asked(&self) -> u64 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_young_lease_asks_nobody() {
        let case = case(Answer::TakenOver);
        case.pass(19);
        case.lease.check().await.unwrap();
        assert_eq!(case.asked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_gap_the_lock_is_looked_at_before_the_next_call() {
        for gap in [20, 50, 61, 86_400] {
            let here = case(Answer::Renewed);
            here.pass(gap);
            here.lease.check().await.unwrap();
            here.lease.check().await.unwrap();
            assert_eq!(here.asked(), 1, "gap of {gap} s");
            let here = case(Answer::TakenOver);
            here.pass(gap);
            let error = here.lease.check().await.unwrap_err();
            assert!(
                matches!(error, StateError::Fenced { theirs: 2, .. }),
                "{error}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_renewed_ends_before_a_taker_may_begin() {
        for answer in [Answer::Refused, Answer::Silence] {
            let case = case(answer);
            case.pass(49);
            let early = case.lease.check().await;
            // Silence is waited for, and that takes the lease over its end.
            assert_eq!(
                early.is_ok(),
                matches!(answer, Answer::Refused),
                "{early:?}"
            );
            case.pass(1);
            let error = case.lease.check().await.unwrap_err();
            assert!(matches!(error, StateError::Lapsed { .. }), "{error}");
            // The lock came back, and is ours still.
            *case.answer.lock().unwrap() = Answer::Renewed;
            case.lease.check().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_stays_lost() {
        let case = case(Answer::TakenOver);
        case.lease.keep().await;
        *case.answer.lock().unwrap() = Answer::Renewed;
        assert!(case.lease.check().await.is_err());
        assert_eq!(case.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_no_lock_may_always_go_on() {
        Lease::always().check().await.unwrap();
        Lease::always().keep().await;
    }
}
