//! What was asked, what came of it, and which promises were broken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The books of one soak.
pub struct Tally {
    began: Instant,
    time: Duration,
    /// Set when it is over before its time.
    pub over: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
    broken: Mutex<Vec<String>>,
    slowest: Mutex<BTreeMap<&'static str, Duration>>,
}

impl Tally {
    pub fn new(time: Duration) -> Self {
        Self {
            began: Instant::now(),
            time,
            over: AtomicBool::new(false),
            counts: Mutex::default(),
            broken: Mutex::default(),
            slowest: Mutex::default(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero() || self.over.load(Ordering::SeqCst)
    }

    pub fn left(&self) -> Duration {
        self.time.saturating_sub(self.began.elapsed())
    }

    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sleeps, but not beyond the end; whether there is time left.
    pub fn rest(&self, time: Duration) -> bool {
        std::thread::sleep(time.min(self.left()));
        !self.is_over()
    }

    /// One more of a kind: `get 200`, `killed`.
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &str, number: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_owned()).or_default() += number;
    }

    /// How long something took, the longest of its kind.
    pub fn took(&self, what: &'static str, time: Duration) {
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slowest.entry(what).or_default();
        *known = time.max(*known);
    }

    /// A promise was broken.
    pub fn broke(&self, what: String) {
        println!("BROKEN after {:?}: {what}", self.age());
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Requests so far.
    pub fn line(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: u64 = counts.iter().filter(|(what, _)| is_answer(what)).map(|(_, count)| count).sum();
        format!(
            "{requests} requests, {} broken",
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).len()
        )
    }

    /// Prints everything; whether all promises were kept.
    pub fn report(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        println!("\nanswers by kind and status:");
        counts
            .iter()
            .filter(|(what, _)| is_answer(what))
            .for_each(|(what, count)| println!("  {what:<28} {count}"));
        println!("what happened:");
        counts
            .iter()
            .filter(|(what, _)| !is_answer(what))
            .for_each(|(what, count)| println!("  {what:<28} {count}"));
        println!("slowest:");
        for (what, time) in self.slowest.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("  {what:<28} {time:?}");
        }
        println!("{}", if broken.is_empty() { "every promise was kept" } else { "promises were BROKEN:" });
        broken.iter().take(50).for_each(|what| println!("  {what}"));
        broken.is_empty()
    }
}

/// `kind 200`.
fn is_answer(what: &str) -> bool {
    what.rsplit(' ')
        .next()
        .is_some_and(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()))
}
