//! The request budget of one token: Cloudflare allows 1200 requests in five minutes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

/// Requests that may go out at once.
const BURST: f64 = 600.0;
/// Requests a second after that: together never more than 1200 in any five minutes.
const REFILL: f64 = 2.0;

/// A token bucket that also heeds the `Ratelimit` header.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    seen: Instant,
    /// Nothing goes out before this moment, because an answer said that the window is used up.
    closed_until: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                tokens: BURST,
                seen: Instant::now(),
                closed_until: None,
            }),
        }
    }
}

impl Budget {
    /// Takes one request out of the budget and tells how long to wait before it is sent.
    pub fn take(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(state.seen).as_secs_f64();
        state.tokens = (state.tokens + elapsed * REFILL).min(BURST) - 1.0;
        state.seen = now;
        // Debt is allowed: each waiter gets its own later moment, so that they do not all wake at once.
        let debt = if state.tokens < 0.0 {
            Duration::from_secs_f64(-state.tokens / REFILL)
        } else {
            Duration::ZERO
        };
        let closed = state
            .closed_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        debt.max(closed)
    }

    /// Reads the `Ratelimit: "default";r=50;t=30` header of an answer: with nothing remaining, nothing is sent for
    /// that many seconds.
    pub fn observe(&self, headers: &HeaderMap) {
        let Some(header) = headers.get("ratelimit").and_then(|v| v.to_str().ok()) else {
            return;
        };
        let field = |name: &str| {
            header.split(';').find_map(|part| {
                let (key, value) = part.trim().split_once('=')?;
                (key == name).then(|| value.trim().parse::<u64>().ok())?
            })
        };
        if let (Some(0), Some(seconds)) = (field("r"), field("t")) {
            let until = Instant::now() + Duration::from_secs(seconds.min(300));
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.closed_until = Some(state.closed_until.map_or(until, |old| old.max(until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn never_more_than_1200_requests_go_out_in_five_minutes() {
        let budget = Budget::default();
        let waits: Vec<Duration> = (0..1500).map(|_| budget.take()).collect();
        let within = |limit: u64| {
            waits
                .iter()
                .filter(|wait| **wait < Duration::from_secs(limit))
                .count()
        };
        assert_eq!(within(1), 601);
        assert!(within(300) <= 1200, "{}", within(300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_window_closes_the_budget_until_it_reopens() {
        let budget = Budget::default();
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", "\"default\";r=50;t=30".parse().unwrap());
        budget.observe(&headers);
        assert_eq!(budget.take(), Duration::ZERO);
        headers.insert("ratelimit", "\"default\";r=0;t=30".parse().unwrap());
        budget.observe(&headers);
        assert_eq!(budget.take(), Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(budget.take(), Duration::ZERO);
    }
}
