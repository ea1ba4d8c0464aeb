//! What becomes of a request that failed on a seat: its second try, on a paused clock.

use tokio::time::advance;

use super::again::{PAUSE, SHUN};
use super::tests::{Waiting, poll, pool_of, seat, waiting};
use super::*;

/// A request that broke on a seat, a while ago.
async fn broken(pool: &Pool, failed_on: &Arc<Seat>) -> Again {
    let again = Again::broke(failed_on, pool.0.patience());
    advance(PAUSE).await;
    again
}

fn waiting_again(pool: &Pool, again: &Again) -> Waiting {
    let (pool, again) = (pool.clone(), again.clone());
    Box::pin(async move { pool.lease(Some(&again)).await })
}

async fn second_try(pool: &Pool, failed_on: &Arc<Seat>) -> Waiting {
    waiting_again(pool, &broken(pool, failed_on).await)
}

#[tokio::test(start_paused = true)]
async fn a_second_try_in_the_queue_is_not_given_the_seat_it_failed_on_while_others_are() {
    let (pool, seats) = pool_of(2, 1, 4);
    let (first, held) = (pool.try_lease(None).expect("a place"), pool.try_lease(None).expect("a place"));
    assert_eq!((first.slot, held.slot), (0, 1));
    drop(first);
    let mut again = second_try(&pool, &seats[0]).await;
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
    let _held = second_try(&pool, &seats[0]).await.await.expect("a place");
    let mut again = second_try(&pool, &seats[0]).await;
    assert!(poll(&mut again).is_none());

    advance(SHUN + Duration::from_millis(1)).await;

    assert_eq!(poll(&mut again).expect("its turn").expect("a lease").slot, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_after_a_refusal_of_the_only_seat_waits_for_its_successor() {
    let (pool, _) = pool_of(1, 4, 4);
    let again = pool.try_lease(None).expect("a place").refused(None);
    let mut again = waiting_again(&pool, &again);
    assert!(poll(&mut again).is_none());

    pool.withdraw(0, 0);
    pool.admit(seat(7));

    assert_eq!(poll(&mut again).expect("its turn").expect("a lease").slot, 7);
}

#[tokio::test(start_paused = true)]
async fn those_whose_workers_all_died_at_once_wait_for_the_successors_in_their_order() {
    let (pool, _) = pool_of(2, 2, 8);
    let (a, b) = (pool.try_lease(None).expect("a place"), pool.try_lease(None).expect("a place"));
    let mut first = waiting_again(&pool, &a.broke().expect("there is a budget"));
    assert!(poll(&mut first).is_none(), "the other may have died too: it looks a moment later");
    let mut second = waiting_again(&pool, &b.refused(None));
    drop((a, b));
    pool.withdraw(0, 0);
    pool.withdraw(1, 1);
    advance(PAUSE).await;
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    let mut newcomer = waiting(&pool);

    pool.admit(seat(7));

    assert!(poll(&mut first).expect("its turn").is_ok());
    assert!(poll(&mut second).expect("its turn").is_ok());
    assert!(poll(&mut newcomer).expect("there is room again").is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_who_is_refused_again_and_again_loses_patience_once() {
    let (pool, _) = pool_of(2, 4, 4);
    let began = Instant::now();
    let mut last: Option<Again> = None;
    let mut tries = 0;
    let busy = loop {
        match pool.lease(last.as_ref()).await {
            Ok(lease) => last = Some(lease.refused(last.as_ref())),
            Err(busy) => break busy,
        }
        tries += 1;
    };
    assert_eq!((busy, began.elapsed()), (Busy::QueueTimeout, Duration::from_secs(10)));
    assert!((10..40).contains(&tries), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn a_second_try_without_time_to_wait_takes_what_there_is() {
    let (pool, seats) = pool_of(2, 1, 4);
    pool.set_limits(Limits { queue_timeout: Duration::ZERO, ..pool.limits() });
    let _held = second_try(&pool, &seats[0]).await.await.expect("a place");

    let rather = second_try(&pool, &seats[0]).await.await.expect("rather the seat it failed on");

    assert_eq!(rather.slot, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_prefers_another_seat_and_the_head_of_the_line() {
    let (pool, seats) = pool_of(2, 1, 0);
    assert_eq!(second_try(&pool, &seats[0]).await.await.expect("the other").slot, 1);
    pool.withdraw(1, 1);
    assert_eq!(second_try(&pool, &seats[0]).await.await.expect("better than none").slot, 0);

    let (pool, _) = pool_of(1, 1, 1);
    let held = pool.try_lease(None);
    let mut waits = waiting(&pool);
    let mut second = second_try(&pool, &seat(9)).await;
    assert!(poll(&mut second).is_none());
    drop(held);
    assert!(poll(&mut waits).is_none());
    assert!(poll(&mut second).expect("its turn").is_ok());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_nothing_is_tried_again() {
    let (pool, _) = pool_of(1, 1, 1);
    let mut again = 0;
    for _ in 0..300 {
        if pool.try_lease(None).expect("a place").broke().is_some() {
            again += 1;
            drop(pool.try_lease(None));
        }
    }
    assert!((158..=160).contains(&again), "100 to begin with, and a fifth of 300: {again}");
    let over = pool.0.metrics.upstream_retries.with_label_values(&["reset", "over_budget"]).get();
    assert_eq!(over, 300 - again);
}
