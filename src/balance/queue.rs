//! The waiting line: who is next. It knows nothing of seats.
//!
//! A waiter is the sending half of a one-shot channel; its [`Ticket`] takes it out of the line when the
//! waiting future is dropped, at whatever point that happens. One-shot channels wake a task of any runtime,
//! and drop a value that nobody came for, so a place granted to a client that just left goes back by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::oneshot;

/// One line for all seats, first come, first served.
#[derive(Debug)]
pub(super) struct Queue<T> {
    line: Mutex<Line<T>>,
    /// The length of the line, readable without the lock.
    waiting: AtomicUsize,
    gauge: IntGauge,
}

#[derive(Debug)]
struct Line<T> {
    waiters: VecDeque<Waiter<T>>,
    next: u64,
    closed: bool,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    id: u64,
    hand: oneshot::Sender<T>,
}

impl<T> Waiter<T> {
    /// Hands `value` over; gives it back if nobody waits any more.
    pub(super) fn give(self, value: T) -> Result<(), T> {
        self.hand.send(value)
    }
}

/// Why nobody may join the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(gauge: IntGauge) -> Self {
        let line = Mutex::new(Line { waiters: VecDeque::new(), next: 0, closed: false });
        Self { line, waiting: AtomicUsize::new(0), gauge }
    }

    fn lock(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins the line: at its end if it is shorter than `depth`, or, for one who has stood in it before,
    /// at its head and without a limit.
    pub(super) fn join(&self, depth: usize, again: bool) -> Result<Ticket<'_, T>, Refused> {
        let (hand, granted) = oneshot::channel();
        let mut line = self.lock();
        if line.closed {
            return Err(Refused::Closed);
        }
        if !again && line.waiters.len() >= depth {
            return Err(Refused::Full);
        }
        let id = line.next;
        line.next += 1;
        let waiter = Waiter { id, hand };
        if again {
            line.waiters.push_front(waiter)
        } else {
            line.waiters.push_back(waiter)
        }
        self.count(&line);
        Ok(Ticket { queue: self, id, granted })
    }

    /// Takes the first waiter out of the line together with what `find` found for it; leaves it there if
    /// nothing was found. `find` runs under the lock, so two callers cannot turn the order round.
    pub(super) fn next<F: FnOnce() -> Option<T>>(&self, find: F) -> Option<(Waiter<T>, T)> {
        let mut line = self.lock();
        let first = line.waiters.pop_front()?;
        match find() {
            Some(found) => {
                self.count(&line);
                Some((first, found))
            }
            None => {
                line.waiters.push_front(first);
                None
            }
        }
    }

    /// Nobody joins any more; those who wait are told that the channel closed.
    pub(super) fn close(&self) {
        let mut line = self.lock();
        line.closed = true;
        let waiters = std::mem::take(&mut line.waiters);
        self.count(&line);
        drop(line);
        // Dropped outside the lock: a waker may run foreign code.
        drop(waiters);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn leave(&self, id: u64) {
        let mut line = self.lock();
        let Some(at) = line.waiters.iter().position(|waiter| waiter.id == id) else { return };
        let waiter = line.waiters.remove(at);
        self.count(&line);
        drop(line);
        drop(waiter);
    }

    fn count(&self, line: &Line<T>) {
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        self.gauge.set(i64::try_from(line.waiters.len()).unwrap_or(i64::MAX));
    }
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Ticket<'a, T> {
    queue: &'a Queue<T>,
    id: u64,
    /// Resolves when it is our turn; an error when the line was closed.
    pub(super) granted: oneshot::Receiver<T>,
}

impl<T> Ticket<'_, T> {
    /// Leaves the line; what was granted at the last moment is not lost.
    pub(super) fn last_look(mut self) -> Option<T> {
        self.queue.leave(self.id);
        self.granted.try_recv().ok()
    }
}

impl<T> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}
