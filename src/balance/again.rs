//! A second try: which seat it keeps off, from when, and until when it may wait.
//!
//! A request that was *refused* (its connection was not accepted) has been sent to nobody: whatever its method, it may
//! try as often as there is time. One that *broke* was perhaps begun: whoever asks for another try of it has made
//! sure that it does no harm twice, and the [`Budget`](super::budget::Budget) agrees.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::seat::Seat;

/// How long a second try keeps off the seat it failed on. The supervisor sees a death, and pools lose the seat, long
/// before; what is still there afterwards is alive.
pub(super) const SHUN: Duration = Duration::from_millis(250);
/// Before a broken request is sent again. Where one worker died others may have in the same moment (out of memory, a
/// careless `kill`): by then they are known to be gone, and the one further try is not spent on a dead one.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The right to try once more, and what is known from the try before.
#[derive(Clone, Debug)]
pub struct Again {
    seat: Arc<Seat>,
    not_before: Instant,
    shun_until: Instant,
    /// When there is no more patience: the queue's timeout after the first failure.
    pub(super) until: Instant,
}

impl Again {
    /// The connection was not accepted.
    pub(super) fn refused(seat: &Arc<Seat>, until: Instant) -> Self {
        let now = Instant::now();
        Self { seat: Arc::clone(seat), not_before: now, shun_until: now + SHUN, until }
    }

    /// The connection broke.
    pub(super) fn broke(seat: &Arc<Seat>, until: Instant) -> Self {
        let now = Instant::now();
        Self { seat: Arc::clone(seat), not_before: now + PAUSE, shun_until: now + SHUN, until }
    }

    /// When it may look for a seat, if that is not now.
    pub(super) fn pause(&self) -> Option<Instant> {
        (Instant::now() < self.not_before).then_some(self.not_before)
    }

    /// The seat it keeps off, as long as it does.
    pub(super) fn shunned(&self) -> Option<&Arc<Seat>> {
        (Instant::now() < self.shun_until).then_some(&self.seat)
    }
}
