//! Which request is alone at a worker, so that a line the worker prints meanwhile can be told to be that request's.
//!
//! Written by the request itself when it begins, read by whoever reads the worker's output: a sequence lock of plain
//! atomics, for no request may wait here. Whether it is alone, and still there, is for the seat to say.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::telemetry::Asked;

/// A look at the pipes is a system call: not more often than this, however many requests there are.
const LOOK: Duration = Duration::from_millis(1);
/// The request's id and its trace, four words each, the span, and whether it is sampled.
const WORDS: usize = 10;

/// A worker's standard output and standard error, to look into.
pub type Pipes = [OwnedFd; 2];

/// The request that began alone, if its worker had nothing unread in its pipes by then.
#[derive(Debug)]
pub(super) struct Sole {
    /// Which request the words are of, counted by the seat; 0 is none.
    number: AtomicU64,
    words: [AtomicU64; WORDS],
    pipes: OnceLock<Pipes>,
    epoch: Instant,
    /// When the pipes were last looked at, in microseconds since `epoch`.
    looked: AtomicU64,
}

impl Sole {
    pub(super) fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            pipes: OnceLock::new(),
            epoch: Instant::now(),
            looked: AtomicU64::new(0),
        }
    }

    pub(super) fn listen(&self, pipes: Pipes) {
        // A seat is of one process, which has one pair of them.
        let _ = self.pipes.set(pipes);
    }

    /// Request `number` begins, alone, and has not been sent yet: what the worker has printed and nobody read is not its.
    /// One caller at a time: it is alone.
    pub(super) fn begin(&self, number: u64, asked: &Asked, now: Instant) {
        let Some(pipes) = self.pipes.get() else { return };
        let at = u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        if looked != 0 && at.saturating_sub(looked) < LOOK.as_micros() as u64 {
            return;
        }
        self.looked.store(at.max(1), Ordering::Relaxed);
        if !are_empty(pipes) {
            return;
        }
        self.number.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words_of(asked)) {
            word.store(value, Ordering::Relaxed);
        }
        self.number.store(number, Ordering::Release);
    }

    /// A request ended: whoever is there now was not alone all the time.
    pub(super) fn end(&self) {
        if self.number.load(Ordering::Relaxed) != 0 {
            self.number.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The request, if none began or ended meanwhile.
    pub(super) fn get(&self) -> Option<(u64, Asked)> {
        let number = self.number();
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (number != 0 && self.number.load(Ordering::Relaxed) == number).then(|| (number, asked_of(&words)))
    }
}

/// Nobody has anything to read there. Where that cannot be told, somebody may.
fn are_empty(pipes: &Pipes) -> bool {
    let [out, err] = pipes;
    let mut looks = [PollFd::new(out, PollFlags::IN), PollFd::new(err, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut looks, Some(&at_once)).is_ok()
        && !looks.iter().any(|look| look.revents().contains(PollFlags::IN))
}

fn words_of(asked: &Asked) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let ids = asked.request.chunks_exact(8).chain(asked.trace.chunks_exact(8));
    for (word, bytes) in words.iter_mut().zip(ids) {
        *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
    }
    words[8] = asked.span;
    words[9] = u64::from(asked.sampled);
    words
}

fn asked_of(words: &[u64; WORDS]) -> Asked {
    let text = |words: &[u64]| {
        let mut text = [0; 32];
        for (bytes, word) in text.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        text
    };
    Asked { request: text(&words[..4]), trace: text(&words[4..8]), span: words[8], sampled: words[9] != 0 }
}

#[cfg(test)]
#[path = "sole_tests.rs"]
mod tests;
