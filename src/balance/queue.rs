//! The waiting line: who is next. It knows nothing of seats.
//!
//! A waiter may be choosy: it names something it does not want. One that is not takes anything, so where it gets
//! nothing nobody behind it does; a choosy one that gets nothing lets those behind it go first.
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
pub(super) struct Queue<T, A> {
    line: Mutex<Line<T, A>>,
    /// The length of the line, readable without the lock.
    waiting: AtomicUsize,
    gauge: IntGauge,
}

#[derive(Debug)]
struct Line<T, A> {
    waiters: VecDeque<Waiter<T, A>>,
    next: u64,
    closed: bool,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<T, A> {
    id: u64,
    unwanted: Option<A>,
    hand: oneshot::Sender<T>,
}

impl<T, A> Waiter<T, A> {
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

impl<T, A> Queue<T, A> {
    pub(super) fn new(gauge: IntGauge) -> Self {
        let line = Mutex::new(Line { waiters: VecDeque::new(), next: 0, closed: false });
        Self { line, waiting: AtomicUsize::new(0), gauge }
    }

    fn lock(&self) -> MutexGuard<'_, Line<T, A>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins the line: at its end if it is shorter than `depth`, or, for a choosy one, who has had a turn before,
    /// at the end of those at its head and without a limit.
    pub(super) fn join(&self, depth: usize, unwanted: Option<A>) -> Result<Ticket<'_, T, A>, Refused> {
        let (hand, granted) = oneshot::channel();
        let mut line = self.lock();
        if line.closed {
            return Err(Refused::Closed);
        }
        if unwanted.is_none() && line.waiters.len() >= depth {
            return Err(Refused::Full);
        }
        let id = line.next;
        line.next += 1;
        let behind = match unwanted {
            Some(_) => line.waiters.iter().position(|waiter| waiter.unwanted.is_none()),
            None => None,
        };
        let at = behind.unwrap_or(line.waiters.len());
        line.waiters.insert(at, Waiter { id, unwanted, hand });
        self.count(&line);
        Ok(Ticket { queue: self, id, granted })
    }

    /// Takes the first waiter for whom `find` finds something out of the line, together with that; changes
    /// nothing if there is none. `find` runs under the lock, so two callers cannot turn the order round.
    pub(super) fn next(&self, mut find: impl FnMut(Option<&A>) -> Option<T>) -> Option<(Waiter<T, A>, T)> {
        let mut line = self.lock();
        for at in 0..line.waiters.len() {
            let unwanted = line.waiters.get(at)?.unwanted.as_ref();
            match find(unwanted) {
                Some(found) => {
                    let waiter = line.waiters.remove(at);
                    self.count(&line);
                    return waiter.map(|waiter| (waiter, found));
                }
                None if unwanted.is_none() => return None,
                None => {}
            }
        }
        None
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

    fn count(&self, line: &Line<T, A>) {
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        self.gauge.set(i64::try_from(line.waiters.len()).unwrap_or(i64::MAX));
    }
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Ticket<'a, T, A> {
    queue: &'a Queue<T, A>,
    id: u64,
    /// Resolves when it is our turn; an error when the line was closed.
    pub(super) granted: oneshot::Receiver<T>,
}

impl<T, A> Ticket<'_, T, A> {
    /// Leaves the line; what was granted at the last moment is not lost.
    pub(super) fn last_look(mut self) -> Option<T> {
        self.queue.leave(self.id);
        self.granted.try_recv().ok()
    }
}

impl<T, A> Drop for Ticket<'_, T, A> {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}
