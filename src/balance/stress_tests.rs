//! Many runtimes at once, as the proxy threads are: real threads, real races.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;

use super::tests::{pool, seat};
use super::*;

const THREADS: usize = 6;
const TASKS: usize = 12;
const ROUNDS: usize = 150;
const CAP: u32 = 2;

fn on_a_runtime<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), work)
}

/// Requests of which every third gives up while it waits, on seats that come and go.
#[test]
fn under_load_from_many_runtimes_the_cap_holds_and_every_place_comes_back() {
    let pool = pool(CAP, usize::MAX);
    let seats: Arc<Vec<_>> = Arc::new((0..3).map(seat).collect());
    seats.iter().for_each(|seat| pool.admit(Arc::clone(seat)));
    let running: Arc<Vec<_>> = Arc::new((0..3).map(|_| AtomicU32::new(0)).collect());
    let served = Arc::new(AtomicU64::new(0));
    let given_up = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));

    let flapping = {
        let (pool, seats, over) = (pool.clone(), Arc::clone(&seats), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                pool.withdraw(2, 2);
                thread::yield_now();
                pool.admit(Arc::clone(&seats[2]));
                thread::yield_now();
            }
        })
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (pool, running) = (pool.clone(), Arc::clone(&running));
            let (served, given_up) = (Arc::clone(&served), Arc::clone(&given_up));
            thread::spawn(move || {
                on_a_runtime(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    for task in 0..TASKS {
                        let (pool, running) = (pool.clone(), Arc::clone(&running));
                        let (served, given_up) = (Arc::clone(&served), Arc::clone(&given_up));
                        tasks.spawn_local(async move {
                            for round in 0..ROUNDS {
                                let patience = if (task + round) % 3 == 0 { 20 } else { 60_000_000 };
                                let patience = Duration::from_micros(patience);
                                let Ok(lease) = tokio::time::timeout(patience, pool.lease(None)).await else {
                                    given_up.fetch_add(1, Ordering::Relaxed);
                                    continue;
                                };
                                let lease = lease.expect("nothing is full, late or closed");
                                let now = running[lease.slot].fetch_add(1, Ordering::SeqCst) + 1;
                                assert!(now <= CAP, "{now} at once on one seat");
                                tokio::task::yield_now().await;
                                running[lease.slot].fetch_sub(1, Ordering::SeqCst);
                                served.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                    while let Some(result) = tasks.join_next().await {
                        result.expect("no task may fail");
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no thread may fail"));
    over.store(true, Ordering::Relaxed);
    flapping.join().expect("no thread may fail");

    let total = served.load(Ordering::Relaxed) + given_up.load(Ordering::Relaxed);
    assert_eq!(total, (THREADS * TASKS * ROUNDS) as u64);
    assert_eq!((pool.in_flight(), pool.queue_len()), (0, 0));
    assert!(seats.iter().all(|seat| seat.in_flight() == 0));
    assert_eq!(pool.0.metrics.concurrency_in_use.get(), 0);
}
