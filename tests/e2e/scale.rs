//! What a request costs does not depend on how large everything around it is: handlers, workers, connections.
//!
//! Counted is the processor time of the proxy for one request, of a small and a large one that run side by side and are
//! asked in turn; of several rounds the cheapest counts, since what disturbs only ever adds.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::client::Connection;
use crate::harness::crowd::open_files;
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

const ROUNDS: usize = 8;
const REQUESTS: u32 = 150;

/// Processor time of all threads of a process, to the nanosecond (`/proc/PID/stat` counts ten milliseconds).
fn spent(proxy: &Proxy) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("threads").flatten();
    let of = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| of(thread.path())).sum())
}

/// What one request of a round costs, on a connection that is kept.
fn round(proxy: &Proxy, connection: &mut Connection, path: &str) -> Duration {
    let before = spent(proxy);
    for _ in 0..REQUESTS {
        connection.request("GET", path, &[], b"");
        assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
    }
    (spent(proxy) - before) / REQUESTS
}

/// The second may cost at most half more than the first; a cost that grows with size would be many times as much.
fn costs_the_same(what: &str, [(small, few), (large, many)]: [(&Proxy, &str); 2]) {
    let mut connections = [small, large].map(|proxy| proxy.connect());
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (number, (proxy, path)) in [(small, few), (large, many)].into_iter().enumerate() {
            best[number] = best[number].min(round(proxy, &mut connections[number], path));
        }
    }
    println!("{what}: {:?} and {:?} of processor time a request", best[0], best[1]);
    assert!(best[1] < best[0] * 3 / 2, "{what}: {best:?} of processor time a request");
}

/// An app of so many handlers before the one that matches; an app.yaml may have 100.
fn handlers(origin: &Origin, count: usize) -> Proxy {
    let mut list = String::new();
    for number in 1..count {
        let _ = writeln!(list, "- url: /part{number}/([a-z]+)/(\\d+)/.*\n  script: part{number}.app");
    }
    App::new().handlers(&(list + "- url: /last/.*\n  script: main.app\n")).upstream(origin).start()
}

#[test]
fn handlers_99_cost_what_5_do() {
    let origin = Origin::start();
    let (few, many) = (handlers(&origin, 5), handlers(&origin, 99));
    costs_the_same("5 and 99 handlers", [(&few, "/last/x"), (&many, "/last/x")]);
}

#[test]
fn workers_64_cost_what_one_does() {
    let origins: Vec<Origin> = (0..64).map(|_| Origin::start()).collect();
    let before = |count: usize| {
        let app = App::new().handlers("- url: /.*\n  script: main.app\n");
        origins.iter().take(count).fold(app, App::upstream).start()
    };
    let (one, many) = (before(1), before(64));
    many.wait_until("all are ready", |status| {
        let workers = status["workers"].as_array();
        workers.is_some_and(|all| all.len() == 64 && all.iter().all(|worker| worker["state"] == "ready"))
    });
    // Each has had a connection opened to it before anything is counted.
    let mut connection = many.connect();
    for _ in 0..3 {
        let _ = round(&many, &mut connection, "/x");
    }
    costs_the_same("1 and 64 workers", [(&one, "/x"), (&many, "/x")]);
}

#[test]
fn connections_10_000_beside_it_cost_a_request_nothing() {
    let origin = Origin::start();
    // Both ends are counted: half of them in this process.
    let count = 10_000.min(open_files() / 3 * 2);
    let start = || {
        let app = App::new().handlers("- url: /.*\n  script: main.app\n").upstream(&origin);
        app.args(["--max-connections", "20000"]).start()
    };
    let (quiet, crowded) = (start(), start());
    let silent = |proxy: &Proxy, count: usize| -> Vec<TcpStream> {
        let held =
            (0..count).map(|_| TcpStream::connect(proxy.socket_address()).expect("a connection")).collect();
        let all = || proxy.metric("compat_proxy_http_connections") >= count as f64;
        wait_for("all are in", all, || proxy.output());
        held
    };
    let held = [silent(&quiet, 10), silent(&crowded, count)];
    costs_the_same(&format!("10 and {count} connections"), [(&quiet, "/x"), (&crowded, "/x")]);
    assert!(crowded.metric("compat_proxy_http_connections") >= count as f64, "they stayed");
    drop(held);
}
