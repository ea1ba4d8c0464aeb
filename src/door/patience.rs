//! How long a client may keep us waiting: a pure value, asked once a second while nothing moves.

use std::time::Duration;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// A body may pause for so many looks.
const BODY_PAUSE: u32 = 30;
/// From this age on a body must have come at [`BODY_RATE`] on average.
const BODY_AGE: u32 = 30;
/// Bytes a second.
const BODY_RATE: u64 = 500;
/// An answer may wait to be taken for so many looks.
const ANSWER_PAUSE: u32 = 60;
/// With others waiting for the worker, for so many.
const PRESSED: u32 = 2;
/// With others waiting, less than this in a look counts as nothing.
const PRESSED_RATE: u64 = 1024;

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
    looks: u32,
    /// Looks in a row without a byte.
    silent: u32,
    /// Looks in a row with hardly a byte.
    slow: u32,
    moved: u64,
    total: u64,
}

impl Patience {
    /// So many bytes came, or went.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// A second has passed; whether the client is still waited for. `pressed`: it holds a worker, and others wait.
    pub(super) fn look(&mut self, awaited: Awaited, pressed: bool) -> bool {
        let moved = std::mem::take(&mut self.moved);
        self.total += moved;
        self.looks = self.looks.saturating_add(1);
        self.silent = if moved == 0 { self.silent + 1 } else { 0 };
        self.slow = if moved < PRESSED_RATE { self.slow + 1 } else { 0 };
        if pressed && self.slow >= PRESSED {
            return false;
        }
        match awaited {
            Awaited::Taking => self.silent < ANSWER_PAUSE,
            Awaited::Body => {
                let crawls = self.looks >= BODY_AGE && self.total < u64::from(self.looks) * BODY_RATE;
                self.silent < BODY_PAUSE && !crawls
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The look at which patience ends, with so many bytes between two.
    fn ends(awaited: Awaited, pressed: bool, bytes: usize) -> Option<u32> {
        let mut patience = Patience::default();
        (1..=1000).find(|_| {
            patience.moved(bytes);
            !patience.look(awaited, pressed)
        })
    }

    #[test]
    fn silence_and_crawling_end_a_body_and_a_slow_line_does_not() {
        assert_eq!(ends(Awaited::Body, false, 0), Some(30));
        assert_eq!(ends(Awaited::Body, false, 1), Some(30));
        assert_eq!(ends(Awaited::Body, false, 499), Some(30));
        assert_eq!(ends(Awaited::Body, false, 500), None);
    }

    #[test]
    fn an_answer_may_be_taken_slowly_but_not_left_standing() {
        assert_eq!(ends(Awaited::Taking, false, 0), Some(60));
        assert_eq!(ends(Awaited::Taking, false, 1), None);
    }

    #[test]
    fn while_others_wait_a_worker_is_not_kept_waiting() {
        for awaited in [Awaited::Body, Awaited::Taking] {
            assert_eq!(ends(awaited, true, 0), Some(2));
            assert_eq!(ends(awaited, true, 1), Some(2));
            assert_eq!(ends(awaited, true, 2000), None);
        }
    }

    #[test]
    fn a_pause_is_forgotten_when_something_comes() {
        let mut patience = Patience::default();
        for _ in 0..10 {
            (0..20).for_each(|_| assert!(patience.look(Awaited::Body, false)));
            patience.moved(20_000);
        }
    }
}
