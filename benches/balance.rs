//! A place on a worker: the best of many is chosen, taken and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use compat_proxy::balance::{Address, Limits, Pool, Seat};
use compat_proxy::telemetry::metrics::Metrics;
use divan::{Bencher, black_box};

fn pool(workers: usize) -> Pool {
    let limits = Limits { concurrency: 25, queue_depth: 100, queue_timeout: Duration::from_secs(1) };
    let pool = Pool::new(limits, Arc::new(Metrics::new().unwrap()));
    for slot in 0..workers {
        let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
        pool.admit(Arc::new(Seat::new(slot, slot as u64, address, None)));
    }
    // So that the first one measured is like the others.
    (0..100).for_each(|_| drop(pool.try_lease(None)));
    pool
}

#[divan::bench(args = [1, 4, 16, 64])]
fn lease(bencher: Bencher<'_, '_>, workers: usize) {
    let pool = pool(workers);
    bencher.bench_local(|| drop(black_box(pool.try_lease(None).unwrap())));
}

/// With requests on every worker but one.
#[divan::bench(args = [4, 16, 64])]
fn lease_of_the_only_idle_one(bencher: Bencher<'_, '_>, workers: usize) {
    let pool = pool(workers);
    let held: Vec<_> = (1..workers).map(|_| pool.try_lease(None).unwrap()).collect();
    bencher.bench_local(|| drop(black_box(pool.try_lease(None).unwrap())));
    drop(held);
}

#[divan::bench(threads = [1, 2])]
fn lease_of_four_by_threads(bencher: Bencher<'_, '_>) {
    let pool = pool(4);
    bencher.bench(|| drop(black_box(pool.try_lease(None).unwrap())));
}
