//! Who serves the next request: a pool of seats and one queue before them.
//!
//! 1. `seat`: one ready worker, its load under a hard cap, and its breaker.
//! 2. `queue`: one bounded line for all, first come, first served.
//! 3. `lease`: choosing a seat, claiming a place on it, and giving it back.
//! 4. `again`: a second try, `budget`: how many of them there may be.
//! 5. `sole`: which request is alone at a worker, for the log.
//!
//! The way of most requests takes no lock: scan the few seats, claim a place on the one with the fewest requests
//! by compare-and-swap. Only when every place is taken does a request join the queue. A free place and a
//! waiter never exist at the same time, because whoever frees a place (or brings a seat) hands it to the
//! first in line before anything else, and a newcomer does not look at the seats while someone waits.
//!
//! Any number of runtimes may use one pool at the same time. What was taken is given back by dropping it.
//! Nothing here starts, stops or restarts a worker.

mod again;
mod budget;
#[cfg(test)]
mod invariant_tests;
mod lease;
mod queue;
mod seat;
#[cfg(test)]
mod second_try_tests;
mod sole;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::telemetry::metrics::Metrics;

pub use again::Again;
use budget::Budget;
use lease::Inner;
pub use lease::Lease;
use queue::{Queue, Refused};
pub use seat::{Address, Seat};
pub use sole::{Alone, Pipes};

/// How often one who waits looks by itself: no event tells of a seat that is not shunned or not silent any more.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Stands for "no limit" where adding a length of time to a moment would overflow.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// What the pool allows. Replaceable while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight per seat, at least 1.
    pub concurrency: u32,
    /// Requests that may wait, over all seats.
    pub queue_depth: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Busy {
    /// As many requests wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// Every worker stayed busy for as long as one may wait.
    #[error("no worker became free in time")]
    QueueTimeout,
    /// As `QueueTimeout`, and no worker was ready at its end.
    #[error("no worker is ready")]
    NoWorker,
    /// The workers are being stopped.
    #[error("the workers are being stopped")]
    Draining,
}

/// The ready workers and the queue before them. Cheap to clone; all clones are one pool.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

impl Pool {
    /// A pool without seats.
    #[must_use]
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        let pool = Self(Arc::new(Inner {
            seats: ArcSwap::from_pointee(Vec::new()),
            limits: ArcSwap::from_pointee(limits),
            cap: AtomicU32::new(1),
            queue: Queue::new(metrics.queue_depth.clone()),
            ended: AtomicU64::new(0),
            epoch: Instant::now(),
            budget: Budget::new(),
            metrics,
        }));
        pool.set_limits(limits);
        pool
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        **self.0.limits.load()
    }

    /// Replaces the limits. Requests in flight above a lowered cap stay; those who wait keep their deadline.
    pub fn set_limits(&self, limits: Limits) {
        let limits = Limits { concurrency: limits.concurrency.max(1), ..limits };
        self.0.cap.store(limits.concurrency, Ordering::SeqCst);
        self.0.limits.store(Arc::new(limits));
        self.0.metrics.queue_limit.set(i64::try_from(limits.queue_depth).unwrap_or(i64::MAX));
        self.0.tell_limit();
        self.0.dispatch();
    }

    /// Publishes a seat: it takes requests from now on, those that wait first. Its breaker is reset.
    pub fn admit(&self, seat: Arc<Seat>) {
        seat.open(self.0.metrics.worker_in_flight.with_label_values(&[&seat.slot.to_string()]));
        self.0.seats.rcu(|seats| {
            let mut seats: Vec<_> =
                seats.iter().filter(|other| !Arc::ptr_eq(other, &seat)).cloned().collect();
            seats.push(Arc::clone(&seat));
            seats
        });
        self.0.tell_limit();
        self.0.dispatch();
    }

    /// Retracts a seat: it is given no request any more. Leases on it live on; [`Seat::idle`] tells when the
    /// last is gone.
    pub fn withdraw(&self, slot: usize, generation: u64) {
        let is_meant = |seat: &&Arc<Seat>| seat.slot == slot && seat.generation == generation;
        let before = self
            .0
            .seats
            .rcu(|seats| seats.iter().filter(|seat| !is_meant(seat)).cloned().collect::<Vec<_>>());
        before.iter().filter(is_meant).for_each(|seat| seat.close());
        self.0.tell_limit();
        // Seats that were passed over for this one may now be the best.
        self.0.dispatch();
    }

    /// Gives nobody a lease any more and sends those who wait away. For the end of the process.
    pub fn close(&self) {
        self.0.seats.swap(Arc::default()).iter().for_each(|seat| seat.close());
        self.0.queue.close();
        self.0.tell_limit();
    }

    /// The right to send one request. Waits in the queue when every place is taken.
    ///
    /// `again` is what came of the try before, when this is not the request's first: as it has had its turn already, it
    /// waits at the head of the line, for a moment only for other seats.
    /// Dropping the future at any point leaves the line and loses nothing.
    ///
    /// # Errors
    /// [`Busy`] says why there is none.
    pub async fn lease(&self, again: Option<&Again>) -> Result<Lease, Busy> {
        let result = match self.try_lease(again) {
            Some(lease) => Ok(lease),
            None => self.wait(again).await,
        };
        let metrics = &self.0.metrics;
        match &result {
            Ok(lease) => metrics.queue_wait.observe(lease.waited.as_secs_f64()),
            Err(busy) => metrics.queue_rejected.with_label_values(&[busy.label()]).inc(),
        }
        result
    }

    /// The right to send one request if there is a free place at once and nobody waits.
    #[must_use]
    pub fn try_lease(&self, again: Option<&Again>) -> Option<Lease> {
        let waits = again.map_or_else(|| self.0.queue.len() != 0, |again| again.pause().is_some());
        if waits { None } else { self.0.pick(again.and_then(Again::shunned)) }
    }

    /// Seats that are admitted.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.0.seats.load().len()
    }

    /// Requests in flight on admitted seats.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.seats.load().iter().map(|seat| u64::from(seat.in_flight())).sum()
    }

    /// Requests that wait.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.0.queue.len()
    }

    async fn wait(&self, again: Option<&Again>) -> Result<Lease, Busy> {
        let began = Instant::now();
        let mut lease = self.stand(again).await?;
        lease.waited = began.elapsed();
        Ok(lease)
    }

    async fn stand(&self, again: Option<&Again>) -> Result<Lease, Busy> {
        let deadline = again.map_or_else(|| self.0.patience(), |again| again.until);
        if let Some(pause) = again.and_then(Again::pause) {
            sleep_until(pause).await;
            if let Some(lease) = self.try_lease(again) {
                return Ok(lease);
            }
        }
        let depth = self.limits().queue_depth;
        let mut ticket = self.0.queue.join(depth, again.cloned()).map_err(|refused| match refused {
            Refused::Full => Busy::QueueFull,
            Refused::Closed => Busy::Draining,
        })?;
        // A place may have become free between looking and joining.
        self.0.dispatch();
        loop {
            let look = Instant::now() + LOOK_AGAIN;
            let until = deadline.min(self.0.rested().map_or(look, |rested| rested.min(look)));
            match timeout_at(until, &mut ticket.granted).await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(_)) => return Err(Busy::Draining),
                Err(_) if until < deadline => self.0.dispatch(),
                Err(_) => {
                    // Rather the seat it failed on than none.
                    let last = || again.and_then(|_| self.0.pick(None));
                    return ticket.last_look().or_else(last).ok_or_else(|| self.late());
                }
            }
        }
    }

    fn late(&self) -> Busy {
        match self.ready() {
            _ if self.0.queue.is_closed() => Busy::Draining,
            0 => Busy::NoWorker,
            _ => Busy::QueueTimeout,
        }
    }
}

impl Busy {
    /// The `reason` label of `queue_rejected`.
    const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "full",
            Self::QueueTimeout | Self::NoWorker => "timeout",
            Self::Draining => "draining",
        }
    }
}
