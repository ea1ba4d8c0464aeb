//! What the pool promises for all orders of events: nobody waits beside a free place, and nothing is ever lost.

use proptest::prelude::*;

use super::tests::{Waiting, poll, pool, seat};
use super::*;

/// One thing that may happen to a pool.
#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive,
    /// The waiter at this place (from the front, modulo) hangs up.
    HangUp(usize),
    /// The request at this place ends.
    End(usize),
    /// The waiter at this place looks whether it is its turn.
    Look(usize),
    Admit(usize),
    Withdraw(usize),
    Cap(u32),
    /// The seat refuses a connection.
    Refuse(usize),
    /// The supervisor finds it silent, or not any more.
    Hush(usize),
    Trust(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Arrive),
        2 => (0..16_usize).prop_map(Step::HangUp),
        4 => (0..16_usize).prop_map(Step::End),
        3 => (0..16_usize).prop_map(Step::Look),
        1 => (0..4_usize).prop_map(Step::Admit),
        1 => (0..4_usize).prop_map(Step::Withdraw),
        1 => (1..4_u32).prop_map(Step::Cap),
        1 => (0..4_usize).prop_map(Step::Refuse),
        1 => (0..4_usize).prop_map(Step::Hush),
        1 => (0..4_usize).prop_map(Step::Trust),
    ]
}

/// A world in which every future is polled by hand.
struct World {
    pool: Pool,
    seats: Vec<Arc<Seat>>,
    admitted: Vec<bool>,
    waiters: Vec<(usize, Waiting)>,
    leases: Vec<Lease>,
    arrived: usize,
    lowered: bool,
}

impl World {
    fn new() -> Self {
        let seats = (0..4).map(seat).collect();
        let admitted = vec![false; 4];
        Self {
            pool: pool(2, 6),
            seats,
            admitted,
            waiters: vec![],
            leases: vec![],
            arrived: 0,
            lowered: false,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arrive => {
                let pool = self.pool.clone();
                let mut future: Waiting = Box::pin(async move { pool.lease(None).await });
                let line = self.pool.queue_len();
                match poll(&mut future) {
                    None => self.waiters.push((self.arrived, future)),
                    Some(Ok(lease)) => {
                        assert_eq!(line, 0, "a newcomer overtook somebody");
                        self.leases.push(lease);
                    }
                    Some(Err(busy)) => assert_eq!((busy, line), (Busy::QueueFull, 6)),
                }
                self.arrived += 1;
            }
            Step::HangUp(at) if !self.waiters.is_empty() => {
                drop(self.waiters.remove(at % self.waiters.len()))
            }
            Step::End(at) if !self.leases.is_empty() => drop(self.leases.remove(at % self.leases.len())),
            Step::Look(at) if !self.waiters.is_empty() => {
                let at = at % self.waiters.len();
                if let Some(result) = poll(&mut self.waiters[at].1) {
                    self.leases.push(result.expect("only a lease ends a wait here"));
                    drop(self.waiters.remove(at));
                }
            }
            Step::Admit(at) if !self.admitted[at] => {
                self.admitted[at] = true;
                self.pool.admit(Arc::clone(&self.seats[at]));
            }
            Step::Withdraw(at) => {
                self.admitted[at] = false;
                self.pool.withdraw(at, at as u64);
            }
            Step::Cap(concurrency) => {
                self.lowered |= concurrency < self.pool.limits().concurrency;
                self.pool.set_limits(Limits { concurrency, ..self.pool.limits() });
            }
            Step::Refuse(at) => self.seats[at].unreachable(1),
            Step::Hush(at) => self.seats[at].set_silent(),
            Step::Trust(at) => self.seats[at].trust(),
            _ => {}
        }
        if matches!(step, Step::Refuse(_) | Step::Hush(_) | Step::Trust(_)) {
            // No event tells of these: those who wait look by themselves, four times a second.
            self.pool.0.dispatch();
        }
        self.check();
    }

    /// Whether a request may be given to this seat, as things are: no time passes here, so a rest never ends.
    fn may_take(&self, at: usize) -> bool {
        let open = |at: usize| self.admitted[at] && self.seats[at].resting(|| 1).is_none();
        let speaks = |at: usize| !self.seats[at].is_silent();
        open(at) && (speaks(at) || !(0..4).any(|other| open(other) && speaks(other)))
    }

    fn check(&self) {
        let cap = self.pool.limits().concurrency;
        let free = (0..4).any(|at| self.may_take(at) && self.seats[at].in_flight() < cap);
        assert!(self.pool.queue_len() == 0 || !free, "somebody waits although there is a free place");
        if !self.lowered {
            assert!(self.seats.iter().all(|seat| seat.in_flight() <= cap), "above the cap");
        }
    }

    /// Ends everything; whoever waits must get a turn, in the order of arrival.
    fn finish(mut self) {
        self.take(Step::Withdraw(0));
        // With a clean record.
        self.take(Step::Admit(0));
        let mut served = Vec::new();
        while !self.waiters.is_empty() {
            self.leases.clear();
            let before = served.len();
            let mut still = Vec::new();
            for (number, mut future) in std::mem::take(&mut self.waiters) {
                match poll(&mut future) {
                    Some(result) => {
                        self.leases.push(result.expect("a turn"));
                        served.push(number);
                    }
                    None => still.push((number, future)),
                }
            }
            self.waiters = still;
            assert!(served.len() > before, "nobody moves on");
        }
        assert!(served.is_sorted(), "the order was broken: {served:?}");
        self.leases.clear();
        assert!(self.seats.iter().all(|seat| seat.in_flight() == 0));
        assert_eq!(self.pool.0.metrics.concurrency_in_use.get(), 0);
        assert_eq!(self.pool.0.metrics.queue_depth.get(), 0);
    }
}

proptest! {
    #[test]
    fn nobody_waits_beside_a_free_place_and_nothing_is_ever_lost(steps in prop::collection::vec(step(), 0..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async move {
            let mut world = World::new();
            steps.into_iter().for_each(|step| world.take(step));
            world.finish();
        });
    }
}
