//! All workers: what comes in goes through the table, and its orders are carried out here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::balance::Pool;
use crate::telemetry::metrics::Metrics;

use super::changes::Changes;
use super::guard::Guard;
use super::output::Output;
use super::place::Places;
use super::post::{News, Post, Role, What, Why, chance};
use super::process;

use super::slot::{Event, Order, Slot, State, jittered, scouting};
use super::status::Board;
use super::usage::Meter;
use super::{Command, Plan, Surroundings};

/// The longest rest of an attached upstream: looking costs nothing.
const ATTACHED_REST: Duration = Duration::from_secs(1);

/// Everything the supervisor holds.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) posts: BTreeMap<u64, Post>,
    pub(super) changes: Changes,
    /// What the slots should be; each post knows what it is.
    pub(super) target: Arc<Plan>,
    pub(super) guard: Guard,
    pub(super) pool: Pool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) output: Output,
    pub(super) places: Places,
    pub(super) news: mpsc::UnboundedSender<News>,
    /// Readers of output; they end with their pipes, not with their workers.
    pub(super) pumps: JoinSet<()>,
    /// What every worker carries in its environment.
    pub(super) token: String,
    /// Processes started, by slot.
    pub(super) starts: BTreeMap<usize, u64>,
    pub(super) board: Arc<Board>,
    /// The last number given to a post or a process.
    last: u64,
    pub(super) ever_ready: bool,
    pub(super) calm: bool,
    /// Some once everything ends; true if at once.
    pub(super) stopping: Option<bool>,
    pub(super) oom_kills: Option<u64>,
    pub(super) changed: bool,
    pub(super) meter: Meter,
}

impl Crew {
    pub(super) fn new(
        plan: Plan,
        pool: Pool,
        metrics: Arc<Metrics>,
        surroundings: Surroundings,
        board: Arc<Board>,
        places: Places,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        // Enough to tell this run from every other on this machine.
        let token = format!("{}-{:08x}", std::process::id(), (chance() * f64::from(u32::MAX)) as u32);
        let mut guard = Guard::new(surroundings.guard, token.clone());
        surroundings.private.iter().for_each(|dir| guard.owns(Some(dir)));
        Self {
            posts: BTreeMap::new(),
            changes: Changes::default(),
            target: Arc::new(plan),
            guard,
            pool,
            output: Output::new(surroundings.sink, metrics.log_dropped.clone()),
            metrics,
            places,
            news,
            pumps: JoinSet::new(),
            token,
            starts: BTreeMap::new(),
            board,
            last: 0,
            ever_ready: false,
            calm: true,
            stopping: None,
            oom_kills: process::oom_kills(),
            changed: true,
            meter: Meter::default(),
        }
    }

    /// Fills the slots.
    pub(super) fn begin(&mut self) {
        self.guard.owns(self.places.dir());
        for worker in 0..self.target.slots() {
            self.add(worker, Role::Main, Why::Initial, Arc::clone(&self.target));
        }
    }

    /// A new post, its process started.
    pub(super) fn add(&mut self, worker: usize, role: Role, why: Why, plan: Arc<Plan>) -> u64 {
        let id = self.number();
        self.posts.insert(id, Post::new(worker, role, why, plan));
        self.changed = true;
        self.start(id);
        id
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Retires every post of which `which` holds.
    pub(super) fn retire_all(&mut self, which: impl Fn(&Post) -> bool) {
        let meant: Vec<u64> = self.posts.iter().filter(|(_, post)| which(post)).map(|(id, _)| *id).collect();
        for id in meant {
            if let Some(post) = self.posts.get_mut(&id) {
                post.role = Role::Leaving;
            }
            self.feed(id, Event::Retire);
        }
    }

    /// Something came in.
    pub(super) fn hear(&mut self, News { post: id, generation, what }: News) {
        let Some(post) = self.posts.get_mut(&id).filter(|post| post.generation == generation) else { return };
        let label = post.worker.to_string();
        let count = |result: &str| {
            self.metrics.worker_health_checks.with_label_values(&[label.as_str(), result]).inc()
        };
        match what {
            What::Answered(address) => {
                count("ok");
                self.seat(id, address);
                self.feed(id, Event::ProbePassed);
            }
            What::Silent(failure) => {
                count(failure.result);
                post.last = failure.what.into();
                self.feed(id, Event::ProbeFailed);
            }
            What::Ended(how) => {
                if how.is_err() && matches!(post.plan.command, Command::Attach(_)) {
                    count("lost");
                }
                self.ended(id, how);
            }
            // One that is leaving has its own deadlines.
            What::Hung(why, what) if post.slot.state == State::Ready => {
                count("hung");
                warn!(worker = post.worker, pid = post.pid(), %what, "worker hangs: replacing it");
                (post.last, post.why) = (what.into(), why);
                self.feed(id, Event::Hung);
            }
            What::Hung(..) => {}
            What::Dismissed => self.terminate(id),
            What::Worn(why) => self.wear(id, why),
            What::Slot(event) => self.feed(id, event),
        }
        self.advance();
    }

    /// Asks the table, and does what it says.
    pub(super) fn feed(&mut self, id: u64, event: Event) {
        let served = self.posts.iter().any(|(other, post)| *other != id && post.slot.state == State::Ready);
        let Some(post) = self.posts.get_mut(&id) else { return };
        let was = post.slot.state;
        let (slot, order) = post.slot.on(event);
        post.slot = slot;
        let order = match order {
            Order::Rest(rest) if matches!(post.plan.command, Command::Attach(_)) => {
                Order::Rest(rest.min(ATTACHED_REST))
            }
            Order::Rest(rest) => {
                let rest = jittered(rest, chance());
                Order::Rest(if served || post.worker > 0 { rest } else { scouting(rest) })
            }
            order => order,
        };
        if was != slot.state {
            self.changed = true;
            post.tell(was, order);
            self.follow(id, was, slot);
        }
        self.carry_out(id, order);
        if slot.state == State::Gone {
            self.posts.remove(&id);
        }
    }

    /// What follows from the new state.
    fn follow(&mut self, id: u64, was: State, Slot { state, .. }: Slot) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        if let Some(seat) = post.live.as_ref().and_then(|live| live.seat.as_ref()) {
            match (was.in_pool(), state.in_pool()) {
                (false, true) => self.pool.admit(Arc::clone(seat)),
                (true, false) => self.pool.withdraw(seat.slot, seat.generation),
                _ => {}
            }
        }
        if state != State::Ready {
            return;
        }
        let (worker, role) = (post.worker, std::mem::replace(&mut post.role, Role::Main));
        self.look_after(id);
        if role == Role::Successor {
            self.retire_all_but(id, worker);
        }
        if !std::mem::replace(&mut self.ever_ready, true) {
            self.board.ever_ready.store(true, Ordering::Relaxed);
            self.feed_all(Event::Hope);
        }
    }

    fn retire_all_but(&mut self, id: u64, worker: usize) {
        let others: Vec<u64> = self.posts.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            if let Some(post) = self.posts.get_mut(&other).filter(|post| post.worker == worker) {
                post.role = Role::Leaving;
                self.feed(other, Event::Retire);
            }
        }
    }

    pub(super) fn feed_all(&mut self, event: Event) {
        for id in self.posts.keys().copied().collect::<Vec<_>>() {
            self.feed(id, event);
        }
    }

    fn carry_out(&mut self, id: u64, order: Order) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let (plan, pid) = (Arc::clone(&post.plan), post.pid());
        match order {
            Order::Nothing => {}
            Order::Spawn => self.start(id),
            Order::Rest(rest) => self.later(id, rest, Event::Rested),
            Order::Drain => {
                let seat = post.live.as_ref().and_then(|live| live.seat.clone());
                self.task(id, async move {
                    let Some(seat) = seat else { return What::Slot(Event::Idle) };
                    match timeout(plan.drain_timeout, seat.idle()).await {
                        Ok(()) => What::Slot(Event::Idle),
                        Err(_) => What::Slot(Event::DrainTimedOut),
                    }
                });
            }
            Order::Terminate | Order::Kill => {
                let Some(group) = pid else { return self.feed(id, Event::Exited { hope: true }) };
                if order == Order::Terminate {
                    return self.dismiss(id);
                }
                if let Some(live) = &mut post.live {
                    live.killed = true;
                }
                process::signal_group(group, Signal::KILL);
            }
        }
    }
}
