//! Connections to workers for requests that need nothing but HTTP/1.1 with a known body: opened, kept, reused.
//!
//! 1. `stream`: a TCP or unix socket as one type.
//! 2. `response`: the head of an answer, and how its end is known.
//! 3. `body`: the pieces of an answer.
//!
//! Each proxy thread has its own [`Connections`], so a kept connection never wakes another thread. What is sent and
//! when something is tried again is decided by `proxy`; upgrades, chunked requests, HTTP/1.0 and HTTP/2 clients are
//! carried by pingora.

mod body;
mod response;
mod stream;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::balance::Seat;

pub use body::Body;
pub use response::{Framing, Head, parse};
pub use stream::{Reading, Stream, Writing};

/// An unused connection is closed after this long: below the 2 s after which gunicorn closes it by default, so that
/// a request does not meet a connection its worker is just closing.
const IDLE: Duration = Duration::from_millis(1500);
/// Unused connections that are kept for each worker. More than requests in flight there can be none.
const KEPT: usize = 1024;

/// What a worker sent is not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the worker's answer is not HTTP/1.1: {0}")]
pub struct Malformed(pub &'static str);

/// The unused connections of one proxy thread. Cheap to clone; all clones are one store.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By the generation of the seat, so that no request goes to a predecessor of its worker.
    idle: HashMap<u64, Vec<Idle>>,
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Instant,
}

impl Connections {
    /// A kept connection to this worker, the one used last first.
    #[must_use]
    pub fn take(&self, seat: &Seat) -> Option<Stream> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = kept.idle.get_mut(&seat.generation)?;
        while let Some(Idle { stream, since }) = idle.pop() {
            if since.elapsed() < IDLE && stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    /// Opens a connection to this worker and sends the start of `first`; how much of it is told.
    ///
    /// # Errors
    /// What the operating system says; `TimedOut` after `limit`.
    pub async fn open(&self, seat: &Seat, limit: Duration, first: &[u8]) -> io::Result<(Stream, usize)> {
        match tokio::time::timeout(limit, Stream::connect(&seat.address, first)).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn give(&self, seat: &Seat, stream: Stream) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = kept.idle.entry(seat.generation).or_default();
        if idle.len() < KEPT {
            idle.push(Idle { stream, since: Instant::now() });
        }
        if !kept.swept {
            kept.swept = true;
            drop(kept);
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Closes what was not used for long, until nothing is left.
    async fn sweep(self) {
        loop {
            tokio::time::sleep(IDLE).await;
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for idle in kept.idle.values_mut() {
                // The oldest stand first.
                let spent = idle.partition_point(|idle| idle.since.elapsed() >= IDLE);
                idle.drain(..spent);
            }
            kept.idle.retain(|_, idle| !idle.is_empty());
            if kept.idle.is_empty() {
                kept.swept = false;
                return;
            }
        }
    }
}
