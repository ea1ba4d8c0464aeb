//! What the pool promises, one call at a time on a paused clock, and for all orders of events.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::time::advance;

use super::*;

pub(super) fn pool(concurrency: u32, queue_depth: usize) -> Pool {
    let limits = Limits { concurrency, queue_depth, queue_timeout: Duration::from_secs(10) };
    Pool::new(limits, Arc::new(Metrics::new().expect("metrics")))
}

pub(super) fn seat(slot: usize) -> Arc<Seat> {
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
    Arc::new(Seat::new(slot, slot as u64, address, None))
}

pub(super) fn pool_of(seats: usize, concurrency: u32, queue_depth: usize) -> (Pool, Vec<Arc<Seat>>) {
    let pool = pool(concurrency, queue_depth);
    let seats: Vec<_> = (0..seats).map(seat).collect();
    seats.iter().for_each(|seat| pool.admit(Arc::clone(seat)));
    (pool, seats)
}

pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<Lease, Busy>>>>;

pub(super) fn waiting(pool: &Pool) -> Waiting {
    let pool = pool.clone();
    let mut future: Waiting = Box::pin(async move { pool.lease(None).await });
    assert!(poll(&mut future).is_none(), "nothing should be free");
    future
}

pub(super) fn poll(future: &mut Waiting) -> Option<Result<Lease, Busy>> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_seat_with_the_fewest_requests_is_chosen_and_the_cap_holds() {
    let (pool, seats) = pool_of(2, 2, 0);
    let leases: Vec<_> = (0..4).map(|_| pool.try_lease(None).expect("a free place")).collect();
    assert_eq!(leases.iter().map(|lease| lease.slot).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert!(pool.try_lease(None).is_none());
    assert_eq!(pool.in_flight(), 4);
    assert_eq!(pool.0.metrics.concurrency_in_use.get(), 4);
    assert_eq!(pool.0.metrics.concurrency_limit.get(), 4);

    drop(leases);
    assert_eq!((pool.in_flight(), seats[0].requests()), (0, 2));
    assert_eq!(pool.0.metrics.concurrency_in_use.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_equal_seats_the_longest_rested_is_next() {
    let (pool, _) = pool_of(3, 4, 0);
    let (a, b, c) = (pool.try_lease(None), pool.try_lease(None), pool.try_lease(None));
    drop((b, c, a));
    let order: Vec<_> = (0..3).map(|_| pool.try_lease(None).expect("a free place")).collect();
    assert_eq!(order.iter().map(|lease| lease.slot).collect::<Vec<_>>(), [1, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_freed_place_goes_to_the_first_in_line_and_never_to_a_newcomer() {
    let (pool, _) = pool_of(1, 1, 10);
    let held = pool.try_lease(None);
    let (mut first, mut second) = (waiting(&pool), waiting(&pool));
    drop(held);
    assert!(pool.try_lease(None).is_none(), "it was given away");
    assert!(poll(&mut second).is_none());
    let lease = poll(&mut first).expect("its turn").expect("a lease");
    assert_eq!(pool.queue_len(), 1);
    drop(lease);
    assert!(poll(&mut second).expect("its turn").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_a_late_one_at_its_deadline() {
    let (pool, _) = pool_of(1, 1, 1);
    let _held = pool.try_lease(None);
    let mut first = waiting(&pool);
    assert_eq!(pool.lease(None).await.err(), Some(Busy::QueueFull));
    advance(Duration::from_millis(9_999)).await;
    assert!(poll(&mut first).is_none());
    advance(Duration::from_millis(1)).await;
    assert_eq!(poll(&mut first).expect("too late").err(), Some(Busy::QueueTimeout));
    assert_eq!(pool.queue_len(), 0);
    let rejected = |reason| pool.0.metrics.queue_rejected.with_label_values(&[reason]).get();
    assert_eq!((rejected("full"), rejected("timeout"), rejected("draining")), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_seat_a_request_waits_for_one() {
    let pool = pool(1, 1);
    let mut early = waiting(&pool);
    pool.admit(seat(0));
    let lease = poll(&mut early).expect("its turn").expect("a lease");
    pool.withdraw(0, 0);
    assert_eq!(pool.lease(None).await.err(), Some(Busy::NoWorker));
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_gives_the_turn_on() {
    let (pool, _) = pool_of(1, 1, 10);
    let held = pool.try_lease(None);
    let (first, mut second, third) = (waiting(&pool), waiting(&pool), waiting(&pool));
    drop(third);
    drop(held);
    // The place is the first one's already; it leaves without having looked.
    drop(first);
    let _lease = poll(&mut second).expect("its turn").expect("a lease");
    assert_eq!((pool.queue_len(), pool.in_flight()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_granted_at_the_very_deadline_is_used() {
    let (pool, _) = pool_of(1, 1, 10);
    let held = pool.try_lease(None);
    let mut late = waiting(&pool);
    advance(Duration::from_secs(10)).await;
    drop(held);
    assert!(poll(&mut late).expect("it is over").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_seat_finishes_what_it_holds() {
    let (pool, seats) = pool_of(1, 2, 0);
    let lease = pool.try_lease(None).expect("a free place");
    pool.withdraw(0, 0);
    assert!(pool.try_lease(None).is_none());
    {
        let mut idle = pin!(seats[0].idle());
        let mut context = Context::from_waker(Waker::noop());
        assert!(idle.as_mut().poll(&mut context).is_pending());
        drop(lease);
        assert!(idle.as_mut().poll(&mut context).is_ready());
    }
    pool.admit(Arc::clone(&seats[0]));
    assert!(pool.try_lease(None).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_seat_that_refuses_is_passed_over_for_a_growing_moment() {
    let (pool, _) = pool_of(2, 8, 0);
    let lease = pool.try_lease(None).expect("a free place");
    assert_eq!(lease.slot, 0);
    let mut rest = 100;
    for _ in 0..6 {
        // Those that were under way together count as one.
        drop((lease.refused(None), lease.refused(None)));
        advance(Duration::from_millis(rest - 2)).await;
        let others: Vec<_> = (0..3).map(|_| pool.try_lease(None).expect("a free place")).collect();
        assert!(others.iter().all(|lease| lease.slot == 1), "after {rest} ms");
        advance(Duration::from_millis(2)).await;
        assert!((0..3).map(|_| pool.try_lease(None)).any(|lease| lease.is_some_and(|lease| lease.slot == 0)));
        rest = (rest * 2).min(1000);
    }
    drop(lease.refused(None));
    lease.reached();
    drop(lease);
    let both = [pool.try_lease(None).expect("a free place"), pool.try_lease(None).expect("a free place")];
    assert!(both.iter().any(|lease| lease.slot == 0), "it is forgiven");
}

#[tokio::test(start_paused = true)]
async fn when_all_seats_refuse_the_first_that_has_rested_is_tried() {
    let (pool, seats) = pool_of(2, 2, 1);
    seats[0].unreachable(1);
    seats[0].unreachable(101);
    seats[1].unreachable(1);
    let began = Instant::now();
    assert_eq!(pool.lease(None).await.expect("one is tried").slot, 1);
    assert!((95..=105).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_notices_that_a_rest_is_over() {
    let (pool, seats) = pool_of(2, 1, 4);
    seats[1].unreachable(1);
    let _held = pool.try_lease(None);
    let began = Instant::now();
    assert_eq!(pool.lease(None).await.expect("it rested enough").slot, 1);
    assert!(began.elapsed() <= Duration::from_millis(150));
}

#[tokio::test(start_paused = true)]
async fn a_silent_seat_is_passed_over_as_long_as_another_speaks() {
    let (pool, seats) = pool_of(2, 1, 4);
    seats[0].set_silent();
    let held = pool.try_lease(None).expect("a free place");
    assert_eq!(held.slot, 1);
    assert!(pool.try_lease(None).is_none(), "rather wait for one that speaks");
    seats[1].set_silent();
    assert_eq!(pool.try_lease(None).expect("when none speaks, all are alike").slot, 0);
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_replaced_at_any_time() {
    let (pool, _) = pool_of(1, 1, 4);
    let _held = pool.try_lease(None);
    let mut waits = waiting(&pool);
    pool.set_limits(Limits { concurrency: 3, ..pool.limits() });
    let _second = poll(&mut waits).expect("there is room").expect("a lease");
    pool.set_limits(Limits { concurrency: 0, ..pool.limits() });
    assert_eq!(pool.limits().concurrency, 1);
    assert!(pool.try_lease(None).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_sends_everybody_away() {
    let (pool, _) = pool_of(1, 1, 4);
    let _held = pool.try_lease(None);
    let mut waits = waiting(&pool);
    let (other, _) = pool_of(2, 4, 4);
    other.close();
    assert!(other.try_lease(None).is_none());
    pool.close();
    assert_eq!(poll(&mut waits).expect("told").err(), Some(Busy::Draining));
    assert_eq!(pool.lease(None).await.err(), Some(Busy::Draining));
}

#[tokio::test(start_paused = true)]
async fn a_seat_tells_when_it_has_had_its_number_of_requests() {
    let pool = pool(8, 0);
    let address = Address::Unix("/run/x.sock".into());
    let seat = Arc::new(Seat::new(0, 1, address, Some(2)));
    pool.admit(Arc::clone(&seat));
    drop(pool.try_lease(None));
    let mut spent = pin!(seat.spent());
    let mut context = Context::from_waker(Waker::noop());
    assert!(spent.as_mut().poll(&mut context).is_pending());
    drop(pool.try_lease(None));
    assert!(spent.as_mut().poll(&mut context).is_ready());
}

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
