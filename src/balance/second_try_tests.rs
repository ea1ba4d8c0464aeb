//! What becomes of a request that failed on a seat: its second try, on a paused clock.

use tokio::time::advance;

use super::tests::{Waiting, poll, pool_of, seat, waiting};
use super::*;

fn second_try(pool: &Pool, failed_on: &Arc<Seat>) -> Waiting {
    let (pool, seat) = (pool.clone(), Arc::clone(failed_on));
    Box::pin(async move { pool.lease(Some(&seat)).await })
}

#[tokio::test(start_paused = true)]
async fn a_second_try_in_the_queue_is_not_given_the_seat_it_failed_on_while_others_are() {
    let (pool, seats) = pool_of(2, 1, 4);
    let (first, held) = (pool.try_lease(None).expect("a place"), pool.try_lease(None).expect("a place"));
    assert_eq!((first.slot, held.slot), (0, 1));
    drop(first);
    let mut again = second_try(&pool, &seats[0]);
    assert!(poll(&mut again).is_none(), "the free place is on the seat it failed on");

    let newcomer = pool.lease(None).await.expect("the free place is for others");
    assert_eq!(newcomer.slot, 0);
    drop(newcomer);
    assert!(poll(&mut again).is_none());
    drop(held);
    assert_eq!(poll(&mut again).expect("its turn").expect("a lease").slot, 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_takes_the_seat_it_failed_on_rather_than_none() {
    let (pool, seats) = pool_of(2, 1, 4);
    let _held = pool.lease(Some(&seats[0])).await.expect("a place");
    let mut again = second_try(&pool, &seats[0]);
    assert!(poll(&mut again).is_none());

    advance(SHUN + Duration::from_millis(1)).await;

    assert_eq!(poll(&mut again).expect("its turn").expect("a lease").slot, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_after_a_refusal_of_the_only_seat_waits_for_its_successor() {
    let (pool, seats) = pool_of(1, 4, 4);
    seats[0].unreachable(1);
    let mut again = second_try(&pool, &seats[0]);
    assert!(poll(&mut again).is_none());

    pool.withdraw(0, 0);
    pool.admit(seat(7));

    assert_eq!(poll(&mut again).expect("its turn").expect("a lease").slot, 7);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_without_time_to_wait_takes_what_there_is() {
    let (pool, seats) = pool_of(1, 4, 4);
    pool.set_limits(Limits { queue_timeout: Duration::ZERO, ..pool.limits() });
    seats[0].unreachable(1);

    assert_eq!(pool.lease(Some(&seats[0])).await.expect("rather the seat it failed on").slot, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_prefers_another_seat_and_the_head_of_the_line() {
    let (pool, seats) = pool_of(2, 1, 0);
    assert_eq!(pool.lease(Some(&seats[0])).await.expect("the other").slot, 1);
    pool.withdraw(1, 1);
    assert_eq!(pool.lease(Some(&seats[0])).await.expect("better than none").slot, 0);

    let (pool, _) = pool_of(1, 1, 1);
    let held = pool.try_lease(None);
    let mut waits = waiting(&pool);
    let again = pool.clone();
    let avoided = seat(9);
    let mut second: Waiting = Box::pin(async move { again.lease(Some(&avoided)).await });
    assert!(poll(&mut second).is_none());
    drop(held);
    assert!(poll(&mut waits).is_none());
    assert!(poll(&mut second).expect("its turn").is_ok());
}
