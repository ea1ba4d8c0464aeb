//! Choosing a seat, claiming a place on it, and the lease that gives the place back.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;

use super::again::Again;
use super::budget::Budget;
use super::queue::Queue;
use super::seat::Seat;
use super::{FAR, Limits};

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) seats: ArcSwap<Vec<Arc<Seat>>>,
    pub(super) limits: ArcSwap<Limits>,
    /// `limits.concurrency`, one load away.
    pub(super) cap: AtomicU32,
    pub(super) queue: Queue<Lease, Again>,
    /// Counts ended requests; orders the seats by how long they have rested.
    pub(super) ended: AtomicU64,
    /// The breaker's clock starts here.
    pub(super) epoch: Instant,
    pub(super) budget: Budget,
    pub(super) metrics: Arc<Metrics>,
}

/// The right to send one request to one worker. Given back by dropping it, so a panic, a time-out and a client
/// that left all give it back too.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Inner>,
    seat: Arc<Seat>,
    pub(super) waited: Duration,
    quiet: bool,
}

impl Lease {
    /// The seat itself.
    #[must_use]
    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// How long the request stood in the queue.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The worker did not accept the connection: its seat is passed over for a moment (100 ms, growing to 1 s), and
    /// the request may try again, as often as its patience allows. `earlier` is its last try's, if there was one.
    #[must_use]
    pub fn refused(&self, earlier: Option<&Again>) -> Again {
        self.seat.unreachable(self.pool.now());
        Again::refused(&self.seat, earlier.map_or_else(|| self.pool.patience(), |earlier| earlier.until))
    }

    /// The connection broke before an answer, and the request does no harm when it is sent twice: the right to try
    /// it again, if the budget for that is not used up.
    #[must_use]
    pub fn broke(&self) -> Option<Again> {
        // This try has not ended yet, as its lease is still held.
        if self.pool.budget.spend(self.pool.ended.load(Ordering::Relaxed) + 1) {
            return Some(Again::broke(&self.seat, self.pool.patience()));
        }
        self.pool.metrics.upstream_retries.with_label_values(&["reset", "over_budget"]).inc();
        None
    }

    /// The request had no answer in its time.
    pub fn timed_out(&self) {
        self.seat.timed_out();
    }

    /// Something moved between the request and its worker: that one lives.
    pub fn moved(&self) {
        self.seat.moved();
    }

    /// The worker accepted a connection or answered: forget earlier refusals.
    pub fn reached(&self) {
        self.seat.reached();
    }
}

impl Deref for Lease {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.metrics.concurrency_in_use.dec();
        self.seat.release(self.pool.ended.fetch_add(1, Ordering::Relaxed));
        if !self.quiet && self.pool.queue.len() != 0 {
            self.pool.dispatch();
        }
    }
}

impl Inner {
    /// Gives free places to those who wait, in their order, until either runs out.
    pub(super) fn dispatch(self: &Arc<Self>) {
        while let Some((waiter, lease)) = self.queue.next(|again| self.pick(again.and_then(Again::shunned))) {
            if let Err(mut lease) = waiter.give(lease) {
                // It left this very moment. The loop gives its place to the next one; the lease must not
                // start a loop of its own.
                lease.quiet = true;
            }
        }
    }

    /// Claims a place on the best seat. A failed claim means that somebody else made progress: look again.
    pub(super) fn pick(self: &Arc<Self>, avoid: Option<&Arc<Seat>>) -> Option<Lease> {
        let seats = self.seats.load();
        loop {
            let (seat, seen) = best(&seats, self.cap.load(Ordering::SeqCst), avoid, || self.now())?;
            if seat.claim(seen) {
                self.metrics.concurrency_in_use.inc();
                let (pool, seat) = (Arc::clone(self), Arc::clone(seat));
                return Some(Lease { pool, seat, waited: Duration::ZERO, quiet: false });
            }
        }
    }

    /// Until when one who begins to wait now may do so.
    pub(super) fn patience(&self) -> Instant {
        Instant::now() + self.limits.load().queue_timeout.min(FAR)
    }

    /// When the next seat has rested enough; nothing else tells of it.
    pub(super) fn rested(&self) -> Option<Instant> {
        let seats = self.seats.load();
        let next = seats.iter().filter_map(|seat| seat.resting(|| self.now())).min()?;
        Some(self.epoch + Duration::from_millis(next))
    }

    fn now(&self) -> u64 {
        // Never 0, which stands for "not resting".
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn tell_limit(&self) {
        let places = self.seats.load().len().saturating_mul(self.cap.load(Ordering::SeqCst) as usize);
        self.budget.hold(places);
        self.metrics.concurrency_limit.set(i64::try_from(places).unwrap_or(i64::MAX));
    }
}

/// The seat with the fewest requests below `cap`, of equal ones the longest rested, and the load it was seen with.
///
/// A seat that refuses connections is not taken before it has rested. One that is silent is passed over even if the
/// others are full, unless all are silent; so is `avoid`, unless there is no other.
fn best<'a>(
    seats: &'a [Arc<Seat>],
    cap: u32,
    avoid: Option<&Arc<Seat>>,
    now: impl Fn() -> u64,
) -> Option<(&'a Arc<Seat>, u32)> {
    let alone = seats.len() == 1;
    let mut fit_exists = false;
    let (mut fit, mut silent) = (None, None);
    for seat in seats {
        let Some(load) = seat.open_load() else { continue };
        if seat.resting(&now).is_some() || (!alone && avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, seat))) {
            continue;
        }
        let speaks = !seat.is_silent();
        fit_exists |= speaks;
        if load >= cap {
            continue;
        }
        let place = if speaks { &mut fit } else { &mut silent };
        let rank = (load, seat.freed());
        if place.as_ref().is_none_or(|(_, _, best)| rank < *best) {
            *place = Some((seat, load, rank));
        }
    }
    if fit_exists { fit } else { silent }.map(|(seat, load, _)| (seat, load))
}
