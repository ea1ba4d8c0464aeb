//! What the pool promises, one call at a time on a paused clock.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

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
