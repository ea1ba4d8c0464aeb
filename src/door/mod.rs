//! The door: every connection of a client from accept to close, and what can be said of it before and beside requests.
//!
//! 1. `entrance`: counts connections, turns away what is above the limit, and hands the rest to pingora.
//! 2. `visitor`: one connection as pingora sees it; knows whether a head, a body or the taking of an answer is awaited, and
//!    for how long. `papers`: what pingora asks of it besides.
//! 3. `sending`: what is written to it, in as few calls as may be. `patience` and `rest`: how long is
//!    too long.
//! 4. `farewell`: the answer to a connection that never made a request: pingora gives its own without a line in the log.
//!
//! What a request means is decided elsewhere; nothing here looks at a header.

mod entrance;
mod farewell;
mod papers;
mod patience;
mod rest;
mod sending;
mod visitor;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::telemetry::Log;
use crate::telemetry::metrics::{HandlerKind, HandlerMetrics, Metrics};

pub use entrance::Entrance;
pub use visitor::{Visitor, of, refuse, unread};

/// An idle connection is closed after this long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// From the first byte of a head to its last.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a head that are read before it is given up: above what `headers::strict` allows, so that a head that is just
/// too large gets its answer there.
const HEAD_MOST: usize = 96 * 1024;
/// How long what a client still sends is taken after the last answer: a connection closed with bytes unread is reset,
/// and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(2);
/// Connections above the limit that may linger at a time.
const LINGERERS: usize = 64;

/// What all connections share.
pub struct Door {
    metrics: Arc<Metrics>,
    log: Log,
    internal: HandlerMetrics,
    limit: usize,
    open: AtomicUsize,
    /// Connections that keep a worker waiting for their client.
    stalled: AtomicUsize,
    lingerers: AtomicUsize,
}

impl Door {
    /// A door for at most `limit` connections at a time.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, log: Log, limit: usize) -> Arc<Self> {
        metrics.connections_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let internal = metrics.handler("_internal", HandlerKind::Internal);
        let [open, stalled, lingerers] = [0, 0, 0].map(AtomicUsize::new);
        Arc::new(Self { metrics, log, internal, limit, open, stalled, lingerers })
    }

    /// A place for one more connection, if there is one.
    fn enter(self: &Arc<Self>) -> Option<Ticket> {
        self.metrics.connections_total.inc();
        let ticket = Ticket(Arc::clone(self));
        // Counted before it is looked at: two that come at the same time do not both take the last place.
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
        (before < self.limit).then_some(ticket)
    }

    /// Whether requests wait for a worker while more than half of the places are held by clients that stall theirs: then
    /// some of these have to go.
    fn is_besieged(&self) -> bool {
        let stalled = i64::try_from(self.stalled.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.metrics.queue_depth.get() > 0 && stalled > self.metrics.concurrency_limit.get() / 2
    }
}

/// One connection's place.
struct Ticket(Arc<Door>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.dec();
    }
}
