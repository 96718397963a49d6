//! Calls `scheduled` of the Workers whose time has come, once a minute.
//!
//! A time that passed while nothing ran is not made up for, as at Cloudflare.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{deployments::Deployments, event::Event, inside::Inside, start::Listener};
use crate::{
    local::api::schedules,
    util::{clock::Clock, cron::Schedule},
};

/// The longest sleep: the clock may be set, and the machine may be suspended.
const LONGEST: Duration = Duration::from_secs(5);

/// Watches the clock until it is told to stop.
pub(super) struct Scheduler {
    pub(super) deployments: Deployments,
    pub(super) inside: Arc<Inside>,
    pub(super) listen: Listener,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
}

impl Scheduler {
    pub(super) async fn run(self) {
        let mut done = minute(self.clock.now());
        let mut calls = JoinSet::new();
        loop {
            let wait = until_next(self.clock.now());
            tokio::select! {
                // Calls in work are dropped with the process that they are in.
                () = self.stop.cancelled() => return,
                Some(_) = calls.join_next() => {}
                () = self.clock.sleep(wait.min(LONGEST)) => {}
            }
            let now = self.clock.now();
            if !is_new(done, minute(now)) {
                continue;
            }
            done = minute(now);
            for (worker, cron) in self.due(now).await {
                let inside = Arc::clone(&self.inside);
                let listen = Arc::clone(&self.listen);
                calls.spawn(async move { call(&inside, &listen, &worker, &cron, now).await });
            }
        }
    }

    /// The Workers whose time `now` is, with the expressions that say so.
    async fn due(&self, now: Timestamp) -> Vec<(String, String)> {
        let all = self
            .deployments
            .blocking(|cloud| cloud.control.run(schedules))
            .await;
        match all {
            Ok(mut all) => {
                all.retain(|(_, cron)| {
                    Schedule::parse(cron).is_ok_and(|schedule| schedule.is_due(now))
                });
                all
            }
            Err(error) => {
                (self.listen)(Event::Failed(error.into()));
                Vec::new()
            }
        }
    }
}

async fn call(inside: &Inside, listen: &Listener, worker: &str, cron: &str, now: Timestamp) {
    let time = minute(now) * 60_000;
    // What the Worker throws comes through the tail Worker.
    if let Err(error) = inside.scheduled(worker, cron, time).await {
        listen(Event::Notice(format!(
            "the schedule `{cron}` of the Worker `{worker}` was missed: {error}"
        )));
    }
}

/// The minutes since 1970.
fn minute(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// How long it is to the next minute.
fn until_next(time: Timestamp) -> Duration {
    let into = time.as_millisecond().rem_euclid(60_000);
    Duration::from_millis(u64::try_from(60_000 - into).unwrap_or(60_000))
}

/// Whether the minute `now` has not been looked at, `done` being the last one that was. A clock that was set back by more
/// than a minute begins anew; by less, it does not make a minute come twice.
fn is_new(done: i64, now: i64) -> bool {
    now > done || now < done - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_comes_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(
            until_next(at("2026-07-30T12:00:59.750Z")),
            Duration::from_millis(250)
        );
        assert_eq!(
            until_next(at("2026-07-30T12:00:00Z")),
            Duration::from_secs(60)
        );
        let done = minute(at("2026-07-30T12:00:01Z"));
        for (now, new) in [
            ("2026-07-30T12:00:59Z", false),
            ("2026-07-30T12:01:00Z", true),
            // Suspended for an hour; set back by seconds; set back by an hour.
            ("2026-07-30T13:07:00Z", true),
            ("2026-07-30T11:59:59Z", false),
            ("2026-07-30T11:00:00Z", true),
        ] {
            assert_eq!(is_new(done, minute(at(now))), new, "{now}");
        }
    }
}
