//! How many requests may be sent a second time: a fifth of those that came, as Envoy and linkerd have it, and a few
//! more where there are few. Without it a broken application is asked twice as much by all its clients at once.
//!
//! A bucket of tokens that is only looked at when something broke: requests that went well cost nothing here.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What one request adds.
const SHARE: f64 = 0.2;
/// What one second adds.
const A_SECOND: f64 = 10.0;
/// What is kept at most, and there at the start: ten seconds' worth. Where the workers hold more, as many as they
/// hold, for all of them may die at once.
const KEPT: f64 = 100.0;

/// The tokens.
#[derive(Debug)]
pub(super) struct Budget(Mutex<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: f64,
    most: f64,
    /// Requests that had come when it was last looked at, and when that was.
    came: u64,
    at: Instant,
    /// Second tries so far: they end as requests do and add nothing.
    spent: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Tokens { left: KEPT, most: KEPT, came: 0, at: Instant::now(), spent: 0 }))
    }

    /// The workers hold up to so many requests.
    pub(super) fn hold(&self, places: usize) {
        // Far below 2^52.
        let most = (places as f64).max(KEPT);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if most > tokens.most {
            tokens.left += most - tokens.most;
            tokens.most = most;
        }
    }

    /// One more second try, if there may be; `tries` counts all that were ever made, first and second.
    pub(super) fn spend(&self, tries: u64) -> bool {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (came, now) = (tries.saturating_sub(tokens.spent), Instant::now());
        let requests = came.saturating_sub(tokens.came) as f64;
        let seconds = now.saturating_duration_since(tokens.at).as_secs_f64();
        tokens.left = (tokens.left + requests * SHARE + seconds * A_SECOND).min(tokens.most);
        (tokens.came, tokens.at) = (came.max(tokens.came), now);
        let enough = tokens.left >= 1.0;
        if enough {
            tokens.left -= 1.0;
            tokens.spent += 1;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn when_everything_breaks_a_fifth_is_tried_again() {
        let budget = Budget::new();
        let (mut tries, mut again) = (0, 0_u64);
        for _ in 0..10_000 {
            tries += 1;
            if budget.spend(tries) {
                tries += 1;
                again += 1;
            }
        }
        assert!((2000..=2100).contains(&again), "{again}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_tried_again_where_there_are_few() {
        let budget = Budget::new();
        assert_eq!((0..500).filter(|_| budget.spend(0)).count(), 100);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((0..500).filter(|_| budget.spend(0)).count(), 20);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..500).filter(|_| budget.spend(1_000_000)).count(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_the_workers_hold_may_be_tried_again_at_once() {
        let budget = Budget::new();
        budget.hold(50);
        budget.hold(400);
        budget.hold(0);
        assert_eq!((0..500).filter(|_| budget.spend(0)).count(), 400);
    }
}
