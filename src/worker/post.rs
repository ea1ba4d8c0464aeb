//! One worker in one slot: its life, what it was made from, and what lives of it now.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::balance::{Address, Pipes, Seat};

use super::Plan;
use super::command::Place;
use super::slot::{self, Order, Slot, State};
use super::status::Row;

/// What a worker is to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The slot's own.
    Main,
    /// Will be, once it is ready.
    Successor,
    /// Was, and is finishing.
    Leaving,
}

/// Why a process was started: the `reason` label of `worker_starts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Initial,
    Crash,
    MaxRequests,
    MaxLifetime,
    MaxRss,
    /// It refused connections, or was stopped.
    Unhealthy,
    /// It answered nobody for longer than a request may take.
    Deadline,
    Reload,
    Scale,
}

impl Why {
    pub(super) const ALL: [Self; 9] = [
        Self::Initial,
        Self::Crash,
        Self::MaxRequests,
        Self::MaxLifetime,
        Self::MaxRss,
        Self::Unhealthy,
        Self::Deadline,
        Self::Reload,
        Self::Scale,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Crash => "crash",
            Self::MaxRequests => "max_requests",
            Self::MaxLifetime => "max_lifetime",
            Self::MaxRss => "max_rss",
            Self::Unhealthy => "unhealthy",
            Self::Deadline => "deadline",
            Self::Reload => "reload",
            Self::Scale => "scale",
        }
    }
}

/// What came in. `generation` tells the process it is about, so that news of an earlier one is not taken for
/// news of this one.
#[derive(Debug)]
pub(super) struct News {
    pub(super) post: u64,
    pub(super) generation: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The probe passed, at this address.
    Answered(Address),
    /// The probe failed.
    Silent(super::probe::Failure),
    /// The process ended, or the upstream was lost.
    Ended(Result<std::process::ExitStatus, String>),
    /// It was asked to stop, and has answered or had its time.
    Dismissed,
    /// It was ready and does not answer any more: why the next one is started, and what is wrong.
    Hung(Why, String),
    /// It should be replaced.
    Worn(Why),
    /// Straight to the table.
    Slot(slot::Event),
}

/// How far App Engine's `/_ah/stop` has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dismissal {
    #[default]
    Unasked,
    Asked,
    Over,
}

/// A worker. Dropping it ends the tasks that look after it.
#[derive(Debug)]
pub(super) struct Post {
    /// The slot's number.
    pub(super) worker: usize,
    pub(super) role: Role,
    pub(super) slot: Slot,
    pub(super) plan: Arc<Plan>,
    /// Why the next process is started.
    pub(super) why: Why,
    /// The last process started.
    pub(super) generation: u64,
    pub(super) live: Option<Live>,
    /// What the last process did, and which it was, for messages.
    pub(super) last: Arc<str>,
    pub(super) last_pid: Option<u32>,
    /// Timers and watchers of the current process or rest.
    pub(super) tasks: JoinSet<()>,
}

/// What there is of a worker while it runs.
#[derive(Debug)]
pub(super) struct Live {
    /// None for an attached upstream.
    pub(super) pid: Option<u32>,
    pub(super) place: Option<Place>,
    pub(super) address: Option<Address>,
    pub(super) seat: Option<Arc<Seat>>,
    pub(super) ears: Ears,
    pub(super) began: Instant,
    pub(super) started_at: SystemTime,
    /// Resident memory above which it is replaced.
    pub(super) max_rss: Option<u64>,
    /// It was asked to stop: its SIGTERM follows.
    pub(super) dismissed: Dismissal,
    /// We have sent SIGKILL: the signal is no surprise.
    pub(super) killed: bool,
}

/// What its seat needs to know which request its output is for, and the other way round.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Its standard output and standard error, for its seat.
    pub(super) pipes: Option<Pipes>,
    /// Its seat, for the readers of its output.
    pub(super) seat: Arc<OnceLock<Arc<Seat>>>,
}

impl Post {
    pub(super) fn new(worker: usize, role: Role, why: Why, plan: Arc<Plan>) -> Self {
        Self {
            worker,
            role,
            slot: Slot::new(),
            plan,
            why,
            generation: 0,
            live: None,
            last: "nothing yet".into(),
            last_pid: None,
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.live.as_ref()?.pid
    }

    /// One line in the log for each change; a start is told where its process is known.
    pub(super) fn tell(&self, was: State, order: Order) {
        let (worker, pid) = (self.worker, self.pid().or(self.last_pid));
        let (state, was, last) = (self.slot.state.word(), was.word(), &self.last);
        match (self.slot.state, order) {
            (State::Starting, _) => {}
            (_, Order::Rest(rest)) => {
                let next_try_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
                warn!(worker, pid, was, state, %last, next_try_ms, "worker ended");
            }
            (State::Failed, _) => warn!(worker, pid, was, state, %last, "worker is given up"),
            (State::Gone, _) => info!(worker, pid, was, %last, "worker stopped"),
            _ => info!(worker, pid, was, state, "worker changed state"),
        }
    }

    pub(super) fn row(&self, restarts: u64) -> Row {
        let live = self.live.as_ref();
        Row {
            worker: self.worker,
            pid: self.pid(),
            state: self.slot.state,
            address: live.and_then(|live| live.address.clone()),
            restarts,
            started_at: live.filter(|live| live.pid.is_some()).map(|live| live.started_at),
            seat: live.and_then(|live| live.seat.clone()),
        }
    }
}

/// A number from 0 to 1, for jitter: the standard library's hash keys are random, which is enough for that.
pub(super) fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// `limit` with ±10 %, so that workers that started together do not end together.
pub(super) fn spread(limit: u64) -> u64 {
    let tenth = limit / 10;
    // Far below 2^52, so the rounding of a float does no harm; a limit beyond it is no limit.
    let offset = (chance() * 2.0 * tenth as f64) as u64;
    (limit - tenth).saturating_add(offset).max(1)
}

pub(super) fn spread_time(limit: Duration) -> Duration {
    Duration::from_millis(spread(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        for _ in 0..1000 {
            assert!((900..=1100).contains(&spread(1000)));
            assert!((0.0..=1.0).contains(&chance()));
            assert_eq!(spread(1), 1);
        }
    }
}
