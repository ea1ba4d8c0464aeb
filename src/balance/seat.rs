//! A seat: one ready worker as the pool sees it, and its breaker.
//!
//! How many requests it holds, whether it may take more, and whether it is resting because it refused a
//! connection a moment ago. Choosing between seats is the pool's work.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::telemetry::Asked;

use super::sole::{Alone, Pipes, Sole};

/// The first rest after a refused connection; each further one is twice as long.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest rest.
const REST_MOST: Duration = Duration::from_secs(1);
/// How soon it is asked again whether a half open seat's probe got through, in milliseconds.
const PROBE: u64 = 20;
/// Set in `load` while the seat is not in the pool. A bit of the same word, so that no claim can slip in
/// between looking and taking.
const CLOSED: u32 = 1 << 31;

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address, mostly on the loopback.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A ready worker as the pool sees it.
#[derive(Debug)]
pub struct Seat {
    /// The number of the slot, from 0: the `worker` label.
    pub slot: usize,
    /// Different for each process ever started: the group key of the connection pool, so that no request
    /// goes down a connection to a predecessor.
    pub generation: u64,
    /// Where it listens.
    pub address: Address,
    /// The same as text, for the log.
    pub label: String,
    /// Requests after which [`Seat::spent`] resolves.
    retire_after: u64,
    load: AtomicU32,
    requests: AtomicU64,
    /// The pool's counter when the last request ended: the smallest has rested longest.
    freed: AtomicU64,
    failures: AtomicU32,
    /// Milliseconds on the pool's clock until which the seat is passed over; 0 when it is not resting.
    rest_until: AtomicU64,
    /// Something has moved between the worker and its requests since that was last asked.
    moved: AtomicBool,
    /// A request has had no answer in its time.
    doubted: AtomicBool,
    /// The supervisor has found it silent.
    silent: AtomicBool,
    /// After a rest, one request has been given to it and has not got through yet.
    probing: AtomicBool,
    /// The request that is alone here.
    sole: Sole,
    idle: Notify,
    spent: Notify,
    gauge: OnceLock<IntGauge>,
}

impl Seat {
    /// A seat that holds nothing yet; it takes requests once a pool admits it.
    #[must_use]
    pub fn new(slot: usize, generation: u64, address: Address, retire_after: Option<u64>) -> Self {
        Self {
            slot,
            generation,
            label: address.to_string(),
            address,
            retire_after: retire_after.unwrap_or(u64::MAX),
            load: AtomicU32::new(CLOSED),
            requests: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            rest_until: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            sole: Sole::new(),
            idle: Notify::new(),
            spent: Notify::new(),
            gauge: OnceLock::new(),
        }
    }

    /// Requests it holds now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.load(Ordering::SeqCst) & !CLOSED
    }

    /// Requests it was ever given.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections refused in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Notes that something moved between the worker and a request. Reads before it writes, as this is every
    /// request's path.
    pub fn moved(&self) {
        if !self.moved.load(Ordering::Relaxed) {
            self.moved.store(true, Ordering::Relaxed);
        }
    }

    /// Whether something has moved since this was last asked.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }

    /// A request has had no answer in its time.
    pub(super) fn timed_out(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether a request has had no answer in its time since the seat was last trusted.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Passes the seat over, as long as any other speaks.
    pub fn set_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// It lives: it is neither silent nor doubted.
    pub fn trust(&self) {
        self.doubted.store(false, Ordering::Relaxed);
        self.silent.store(false, Ordering::Relaxed);
    }

    /// Whether it is passed over for its silence.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Where the worker prints to, for telling which request a line was printed for.
    pub fn listen(&self, pipes: Pipes) {
        self.sole.listen(pipes);
    }

    /// The request that holds a place since a moment, and has not been sent yet, says who it is. Told of if it is alone.
    pub fn begun(&self, asked: &Asked, now: Instant) {
        // In this order: another one that begins meanwhile makes the number too old or the load too high.
        let number = self.requests();
        if self.in_flight() == 1 {
            self.sole.begin(number, asked, now);
        }
    }

    /// The request that began last when nothing else was here and nothing printed was unread, if nothing else has begun
    /// before it ended. Between two calls that give the same number nothing else was here as long as it was.
    #[must_use]
    pub fn sole(&self) -> Option<Alone> {
        let found = self.sole.get()?;
        // Asked last: who has ended has said so before its place was free.
        let holds = found.printed.is_some() || (self.is_alone(found.number) && self.sole.is(found.number));
        holds.then_some(found)
    }

    /// Whether request `number` was the last to begin, and there is no other.
    fn is_alone(&self, number: u64) -> bool {
        self.in_flight() == 1 && self.requests() == number
    }

    /// Waits until a seat that was withdrawn holds no request any more. Never resolves while it is admitted
    /// and busy; the caller sets the deadline.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Waits until the seat was given as many requests as it was made for.
    pub async fn spent(&self) {
        if self.requests() < self.retire_after {
            self.spent.notified().await;
        }
    }

    /// The load when the seat is open.
    pub(super) fn open_load(&self) -> Option<u32> {
        let load = self.load.load(Ordering::SeqCst);
        (load & CLOSED == 0).then_some(load)
    }

    /// Takes one place if the load is still `seen`.
    pub(super) fn claim(&self, seen: u32) -> bool {
        let claimed = self.load.compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if claimed {
            if self.rest_until.load(Ordering::Relaxed) != 0 {
                self.probing.store(true, Ordering::Relaxed);
            }
            if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == self.retire_after {
                self.spent.notify_one();
            }
            if let Some(gauge) = self.gauge.get() {
                gauge.inc();
            }
        }
        claimed
    }

    /// Gives one place back.
    pub(super) fn release(&self, now: u64) {
        self.sole.end(|number| self.is_alone(number));
        self.freed.store(now, Ordering::Relaxed);
        if self.rest_until.load(Ordering::Relaxed) != 0 {
            // Were it not the probe that ended, one more is let through: no harm.
            self.probing.store(false, Ordering::Relaxed);
        }
        if let Some(gauge) = self.gauge.get() {
            gauge.dec();
        }
        if self.load.fetch_sub(1, Ordering::SeqCst) == CLOSED | 1 {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    /// Takes requests from now on, with a clean record.
    pub(super) fn open(&self, gauge: IntGauge) {
        // A seat keeps the gauge it was first admitted with: its slot never changes.
        let _ = self.gauge.set(gauge);
        self.reached();
        self.trust();
        self.load.fetch_and(!CLOSED, Ordering::SeqCst);
    }

    /// Takes no request from now on; those it holds stay.
    pub(super) fn close(&self) {
        self.load.fetch_or(CLOSED, Ordering::SeqCst);
        if self.in_flight() == 0 {
            self.idle.notify_waiters();
        }
    }

    /// A connection was refused at `now` (milliseconds of the pool's clock): rest for a moment. Requests that were
    /// on their way together count as one.
    pub(super) fn unreachable(&self, now: u64) {
        let seen = self.rest_until.load(Ordering::SeqCst);
        if seen != 0 && now < seen {
            return;
        }
        let failures = self.failures.load(Ordering::Relaxed).min(10);
        let rest = REST_FIRST.saturating_mul(1 << failures).min(REST_MOST).as_millis();
        let until = now.saturating_add(u64::try_from(rest).unwrap_or(u64::MAX));
        if self.rest_until.compare_exchange(seen, until, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.probing.store(false, Ordering::Relaxed);
    }

    /// A connection was made: the past is forgotten. Reads before it writes, as this is every request's path.
    pub(super) fn reached(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.rest_until.store(0, Ordering::SeqCst);
            self.probing.store(false, Ordering::Relaxed);
        }
    }

    /// Until when it is passed over. After a rest it is half open: one request at a time, until one got through. `now`
    /// is asked only if it has to be: the clock is not free.
    pub(super) fn resting(&self, now: impl FnOnce() -> u64) -> Option<u64> {
        let until = self.rest_until.load(Ordering::SeqCst);
        if until == 0 {
            return None;
        }
        let now = now();
        if now < until {
            return Some(until);
        }
        self.probing.load(Ordering::Relaxed).then_some(now + PROBE)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn after_a_rest_one_request_at_a_time_tries_until_one_gets_through() {
        let seat = Seat::new(0, 1, Address::Unix(PathBuf::from("/s")), None);
        seat.open(IntGauge::new("gauge", "help").unwrap());
        assert!(seat.claim(0) && seat.claim(1), "it holds two");
        seat.unreachable(1000);
        let rest = seat.resting(|| 1050).expect("it rests");
        assert!(seat.resting(|| rest).is_none(), "one may try");
        assert!(seat.claim(2));
        assert!(seat.resting(|| rest).is_some(), "and nobody else meanwhile");
        seat.unreachable(rest);
        let longer = seat.resting(|| rest).expect("it rests again, for longer");
        assert!(longer - rest > rest - 1000);
        assert!(seat.resting(|| longer).is_none() && seat.claim(3) && seat.resting(|| longer).is_some());
        // The one that tried left without a word: the next may try.
        seat.release(1);
        assert!(seat.resting(|| longer).is_none() && seat.claim(3));
        seat.reached();
        assert!(seat.resting(|| longer).is_none() && seat.claim(4), "it got through: all may come");
        assert!(seat.resting(|| longer).is_none());
    }
}
