//! How long a client may keep us waiting: a pure value, asked from time to time while nothing moves.

use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks while a worker waits with us.
const LOOK_LEASED: Duration = Duration::from_millis(100);
/// A body may pause for so long.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// From this age on a body must have come at [`BODY_RATE`] on average.
const BODY_AGE: Duration = Duration::from_secs(30);
/// Bytes a second.
const BODY_RATE: f64 = 500.0;
/// An answer may wait to be taken for so long.
const ANSWER_PAUSE: Duration = Duration::from_secs(60);
/// A client that is slow for so long stalls its worker.
const STALL: Duration = Duration::from_millis(200);
/// Fewer bytes a second are slow.
const SLOW: f64 = 1024.0;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// More of the request body.
    Body,
    /// That the client takes the answer.
    Taking,
}

/// The waiting so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    age: Duration,
    /// Time without a byte.
    silent: Duration,
    /// Time with hardly a byte.
    slow: Duration,
    moved: u64,
    total: u64,
}

impl Patience {
    /// When to look again.
    pub(super) const fn pause(leased: bool) -> Duration {
        if leased { LOOK_LEASED } else { LOOK }
    }

    /// So many bytes came, or went.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// Whether a worker would be stalled by this.
    pub(super) fn is_stall(&self) -> bool {
        self.slow >= STALL
    }

    /// `after` has passed since the last look; whether the client is still waited for.
    #[expect(clippy::cast_precision_loss, reason = "rates need not be exact")]
    pub(super) fn look(&mut self, awaited: Awaited, after: Duration) -> bool {
        let moved = std::mem::take(&mut self.moved);
        self.total += moved;
        self.age += after;
        let since = |before: Duration, still: bool| if still { before + after } else { Duration::ZERO };
        self.silent = since(self.silent, moved == 0);
        self.slow = since(self.slow, (moved as f64) < SLOW * after.as_secs_f64());
        match awaited {
            Awaited::Taking => self.silent < ANSWER_PAUSE,
            Awaited::Body => {
                let crawls = (self.total as f64) < BODY_RATE * self.age.as_secs_f64();
                self.silent < BODY_PAUSE && !(self.age >= BODY_AGE && crawls)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which patience ends, with so many bytes in each.
    fn ends(awaited: Awaited, bytes: usize) -> Option<u32> {
        let mut patience = Patience::default();
        (1..=1000).find(|_| {
            patience.moved(bytes);
            !patience.look(awaited, LOOK)
        })
    }

    #[test]
    fn silence_and_crawling_end_a_body_and_a_slow_line_does_not() {
        assert_eq!(ends(Awaited::Body, 0), Some(30));
        assert_eq!(ends(Awaited::Body, 1), Some(30));
        assert_eq!(ends(Awaited::Body, 499), Some(30));
        assert_eq!(ends(Awaited::Body, 500), None);
    }

    #[test]
    fn an_answer_may_be_taken_slowly_but_not_left_standing() {
        assert_eq!(ends(Awaited::Taking, 0), Some(60));
        assert_eq!(ends(Awaited::Taking, 1), None);
    }

    #[test]
    fn a_client_stalls_a_worker_after_two_looks_and_not_once_it_moves() {
        let mut patience = Patience::default();
        for stalls in [false, true, true] {
            assert!(patience.look(Awaited::Taking, LOOK_LEASED));
            assert_eq!(patience.is_stall(), stalls);
        }
        patience.moved(1);
        assert!(patience.look(Awaited::Taking, LOOK_LEASED) && patience.is_stall(), "a byte is nothing");
        patience.moved(1000);
        assert!(patience.look(Awaited::Taking, LOOK_LEASED) && !patience.is_stall());
    }

    #[test]
    fn a_pause_is_forgotten_when_something_comes() {
        let mut patience = Patience::default();
        for _ in 0..10 {
            (0..20).for_each(|_| assert!(patience.look(Awaited::Body, LOOK)));
            patience.moved(20_000);
        }
    }
}
