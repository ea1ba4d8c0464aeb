//! Choosing a seat, claiming a place on it, and the lease that gives the place back.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;

use super::Limits;
use super::queue::Queue;
use super::seat::Seat;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) seats: ArcSwap<Vec<Arc<Seat>>>,
    pub(super) limits: ArcSwap<Limits>,
    /// `limits.concurrency`, one load away.
    pub(super) cap: AtomicU32,
    pub(super) queue: Queue<Lease, Shunned>,
    /// Counts ended requests; orders the seats by how long they have rested.
    pub(super) ended: AtomicU64,
    /// The breaker's clock starts here.
    pub(super) epoch: Instant,
    pub(super) metrics: Arc<Metrics>,
}

/// The seat a request failed on. Until it has been seen whether that worker is dead, another one is waited for.
#[derive(Debug)]
pub(super) struct Shunned {
    pub(super) seat: Arc<Seat>,
    pub(super) until: Instant,
}

impl Shunned {
    fn seat_now(&self) -> Option<&Arc<Seat>> {
        (Instant::now() < self.until).then_some(&self.seat)
    }
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
    /// The seat itself, for [`Pool::lease`]'s `avoid`.
    #[must_use]
    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// How long the request stood in the queue.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The worker did not accept the connection: pass its seat over for a moment (100 ms, growing to 1 s).
    pub fn unreachable(&self) {
        self.seat.unreachable(self.pool.now());
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
        while let Some((waiter, lease)) =
            self.queue.next(|shunned| self.pick(shunned.and_then(Shunned::seat_now)))
        {
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

    fn now(&self) -> u64 {
        // Never 0, which stands for "not resting".
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn tell_limit(&self) {
        let places = self.seats.load().len().saturating_mul(self.cap.load(Ordering::SeqCst) as usize);
        self.metrics.concurrency_limit.set(i64::try_from(places).unwrap_or(i64::MAX));
    }
}

/// The seat with the fewest requests below `cap`, of equal ones the longest rested, and the load it was seen with.
///
/// A seat that refuses connections is passed over even if the others are full; when all of them do, the one
/// whose rest ends first is tried. `avoid` is taken only when there is no other and it does not rest.
fn best<'a>(
    seats: &'a [Arc<Seat>],
    cap: u32,
    avoid: Option<&Arc<Seat>>,
    now: impl Fn() -> u64,
) -> Option<(&'a Arc<Seat>, u32)> {
    let alone = seats.len() == 1;
    let mut fit_exists = false;
    let (mut fit, mut resting) = (None, None);
    for seat in seats {
        let Some(load) = seat.open_load() else { continue };
        let rest = seat.resting(&now);
        if avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, seat)) && (!alone || rest.is_some()) {
            continue;
        }
        fit_exists |= rest.is_none();
        if load >= cap {
            continue;
        }
        let (place, rank) = match rest {
            None => (&mut fit, (u64::from(load), seat.freed())),
            Some(until) => (&mut resting, (until, u64::from(load))),
        };
        if place.as_ref().is_none_or(|(_, _, best)| rank < *best) {
            *place = Some((seat, load, rank));
        }
    }
    if fit_exists { fit } else { resting }.map(|(seat, load, _)| (seat, load))
}
