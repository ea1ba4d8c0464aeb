//! Which request is alone at a worker, so that a line the worker prints meanwhile can be told to be that request's.
//!
//! Written by the request itself when it begins and ends, read by whoever reads the worker's output: a sequence lock of
//! plain atomics, for no request may wait here. Whether it is alone is for the seat to say.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;

use crate::telemetry::Asked;

/// A worker that has had no request for so long says nothing more of the last one, such as gunicorn's access line. It also
/// bounds how often the pipes are looked at, which is a system call.
const QUIET: Duration = Duration::from_millis(10);
/// The request's id and its trace, four words each, the span, and whether it is sampled.
const WORDS: usize = 10;
/// Set in `state` when the request has ended.
const ENDED: u64 = 1;

/// A worker's standard output and standard error.
#[derive(Debug)]
pub struct Pipes {
    /// To look into.
    pub ends: [OwnedFd; 2],
    /// Bytes read from them so far, kept by whoever reads.
    pub read: Arc<[AtomicU64; 2]>,
}

/// A request that was alone at its worker from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// Its own among the worker's requests.
    pub number: u64,
    /// Who it is.
    pub asked: Asked,
    /// Bytes the worker had printed to each of its pipes when the request ended, at least; none while it is there.
    pub printed: Option<[u64; 2]>,
}

/// The request that began alone last, if its worker had nothing unread in its pipes by then.
#[derive(Debug)]
pub(super) struct Sole {
    /// Which request the words are of: its number, counted by the seat, times two, and [`ENDED`]; 0 is none.
    state: AtomicU64,
    words: [AtomicU64; WORDS],
    printed: [AtomicU64; 2],
    pipes: OnceLock<Pipes>,
    epoch: Instant,
    /// When the last request ended, in microseconds since `epoch`; 0 when none did.
    ended: AtomicU64,
}

impl Sole {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            printed: [const { AtomicU64::new(0) }; 2],
            pipes: OnceLock::new(),
            epoch: Instant::now(),
            ended: AtomicU64::new(0),
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
        let ended = self.ended.load(Ordering::Relaxed);
        let is_quiet = ended == 0 || self.micros(now).saturating_sub(ended) >= QUIET.as_micros() as u64;
        if !is_quiet || pipes.unread() != Some([0, 0]) {
            return;
        }
        self.state.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words_of(asked)) {
            word.store(value, Ordering::Relaxed);
        }
        self.state.store(number << 1, Ordering::Release);
    }

    /// A request ends; `alone` says whether the one of this number still is, and has not given its place back.
    pub(super) fn end(&self, alone: impl Fn(u64) -> bool) {
        let Some(pipes) = self.pipes.get() else { return };
        self.ended.store(self.micros(Instant::now()).max(1), Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        if state == 0 || state & ENDED != 0 {
            return;
        }
        let look = || {
            let Some(printed) = pipes.printed() else { return false };
            fence(Ordering::Release);
            for (cell, bytes) in self.printed.iter().zip(printed) {
                cell.store(bytes, Ordering::Relaxed);
            }
            // Had another one begun meanwhile, it could have printed some of them.
            alone(state >> 1)
        };
        let ended = alone(state >> 1) && look();
        self.state.store(if ended { state | ENDED } else { 0 }, Ordering::Release);
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether this is still what is known.
    pub(super) fn is(&self, number: u64) -> bool {
        self.state.load(Ordering::Acquire) == number << 1
    }

    /// What is known.
    pub(super) fn get(&self) -> Option<Alone> {
        let state = self.state.load(Ordering::Acquire);
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        let printed = self.printed.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if state == 0 || self.state.load(Ordering::Relaxed) != state {
            return None;
        }
        let printed = (state & ENDED != 0).then_some(printed);
        Some(Alone { number: state >> 1, asked: asked_of(&words), printed })
    }
}

impl Pipes {
    /// Bytes nobody has read yet.
    fn unread(&self) -> Option<[u64; 2]> {
        let [out, err] = &self.ends;
        Some([ioctl_fionread(out).ok()?, ioctl_fionread(err).ok()?])
    }

    /// Bytes printed so far. In this order: what is read in between is left out rather than counted twice.
    fn printed(&self) -> Option<[u64; 2]> {
        let [out, err] = self.read.each_ref().map(|read| read.load(Ordering::Acquire));
        let unread = self.unread()?;
        Some([out + unread[0], err + unread[1]])
    }
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
