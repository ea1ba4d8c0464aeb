//! More requests than the workers can answer, slow ones beside fast ones, and clients that lose patience.

use std::time::{Duration, Instant};

use crate::harness::fleet::fleet;
use crate::harness::load::{Ask, Expected, Load};
use crate::harness::wait_for;

/// A request that keeps a place at a worker for 40 ms.
fn forty_ms(_: usize, _: u64) -> Ask {
    Ask { path: "/sleep/40".to_owned(), expected: Expected::With(""), ..Ask::get("x", 1) }
}

#[test]
fn offered_twice_the_capacity_the_workers_stay_busy_and_the_rest_is_refused_at_once() {
    // Four places, each of which can answer 25 requests a second.
    let proxy = fleet(2).args(["--concurrency", "2", "--queue-depth", "8"]).start();
    proxy.wait_workers(2);
    let mut best = 0.0_f64;
    // What is measured is a share of what the same machine did a moment ago; others may use that machine.
    for round in 0..3 {
        let capacity = rate(&Load::kept(&proxy, 8, forty_ms), Duration::from_secs(2), &proxy, "200");
        let load = Load::paced(&proxy, 64, 2.0 * capacity, forty_ms);
        std::thread::sleep(Duration::from_millis(500));
        let served = rate(&load, Duration::from_secs(3), &proxy, "200");
        let report = load.stop();
        report.expect_none_lost(&proxy);
        let refused = report.with_status(503);
        assert_eq!(report.with_status(200) + refused, report.total(), "{report}");
        best = best.max(served / capacity);
        let slowest = &report.slowest_of;
        println!(
            "round {round}: capacity {capacity:.1}/s, offered {:.1}/s, served {served:.1}/s ({:.1} %), {refused} \
             refused, slowest {slowest:?}",
            2.0 * capacity,
            100.0 * served / capacity
        );
        assert!(refused * 4 > report.total(), "it was not overloaded: {report}");
        if served >= 0.95 * capacity && slowest[&503] < Duration::from_millis(500) {
            return;
        }
    }
    panic!("served at most {best:.3} of capacity");
}

/// Answers a second with this status.
fn rate(load: &Load, time: Duration, proxy: &crate::harness::Proxy, code: &str) -> f64 {
    load.wait_answered(20);
    let count = || proxy.metric_sum("compat_proxy_http_requests_total", &[&format!("code=\"{code}\"")]);
    let (before, began) = (count(), Instant::now());
    std::thread::sleep(time);
    (count() - before) / began.elapsed().as_secs_f64()
}

#[test]
fn a_slow_request_never_holds_back_a_fast_one_on_another_worker() {
    let proxy = fleet(2).args(["--concurrency", "1"]).start();
    proxy.wait_workers(2);
    let slow = proxy.send("GET", "/hold/gate", b"");
    proxy.wait_in_flight(1);
    let load = Load::start(&proxy, 8, Ask::gets);

    load.wait_answered(300);

    let report = load.stop();
    println!("beside a slow request: {report}");
    assert!(!slow.is_there(), "it was slow all the time");
    report.expect_all_good(&proxy);
    assert_eq!(report.workers.len(), 1, "{report}");
    assert!(report.slowest < Duration::from_secs(2), "{report}");
    proxy.open_gate("gate");
    assert_eq!(slow.answer().status, 200);
}

#[test]
fn a_client_that_leaves_with_its_body_unsent_gives_its_turn_back() {
    let proxy = fleet(1).args(["--concurrency", "1", "--queue-depth", "3"]).start();
    let held = proxy.send("GET", "/hold/gate", b"");
    proxy.wait_in_flight(1);
    // With all of its body sent, with a good part of it, with chunks to come: less would not be let into the queue.
    let (large, chunk) = (vec![b'x'; 70_000], b"3\r\nabc\r\n");
    let leavers: Vec<_> = [
        (("Content-Length", "3"), &b"abc"[..]),
        (("Content-Length", "100000"), &large),
        (("Transfer-Encoding", "chunked"), chunk),
    ]
    .into_iter()
    .zip(1..)
    .map(|((framing, body), place)| {
        let mut leaver = proxy.connect();
        leaver.request("POST", "/told/gate/gone", &[framing], body);
        proxy.wait_queue(place);
        leaver
    })
    .collect();
    assert_eq!(proxy.get("/").status, 503, "the queue is full");

    drop(leavers);
    proxy.wait_queue(0);

    let next = proxy.send("POST", "/", b"");
    proxy.wait_queue(1);
    wait_for(
        "three are told",
        || proxy.access().iter().filter(|line| line["reason"] == "client_gone").count() == 3,
        || proxy.output(),
    );
    proxy.open_gate("gate");
    assert_eq!(held.answer().status, 200);
    assert_eq!(next.answer().status, 200);
    assert!(!proxy.stdout_lines().iter().any(|line| line.contains("arrived")), "{}", proxy.output());
}

#[test]
fn a_client_of_http_2_that_gives_up_with_its_body_unsent_gives_its_turn_back() {
    let proxy = fleet(1).args(["--h2c", "--concurrency", "1"]).start();
    let held = proxy.send("GET", "/hold/gate", b"");
    proxy.wait_in_flight(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = proxy.address().to_owned();

    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = http::Request::post("http://localhost/told/gate/gone").body(()).unwrap();
        let (_answer, mut body) = client.send_request(request, false).unwrap();
        while proxy.status()["queue"]["waiting"] != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        body.send_reset(h2::Reason::CANCEL);

        let end = Instant::now() + Duration::from_secs(20);
        while proxy.status()["queue"]["waiting"] != 0 {
            assert!(Instant::now() < end, "{}", proxy.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        driver.abort();
    });

    proxy.open_gate("gate");
    assert_eq!(held.answer().status, 200);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn workers_that_start_slowly_are_left_to_it_while_requests_wait() {
    let proxy = fleet(2).file("wait", "").args(["--start-timeout", "30s"]).launch();
    let waiting: Vec<_> =
        (0..4).map(|number| proxy.send(if number % 2 == 0 { "GET" } else { "POST" }, "/", b"")).collect();
    proxy.wait_queue(4);
    let starts = || proxy.metric_sum("compat_proxy_worker_starts_total", &[]);

    // Longer than anything but `--start-timeout` has patience.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(proxy.admin("/readyz").status, 503);
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!((starts() - 2.0).abs() < 0.5, "{} starts", starts());
    proxy.remove("wait");

    waiting.into_iter().for_each(|request| assert_eq!(request.answer().status, 200));
    proxy.wait_workers(2);
    assert!((starts() - 2.0).abs() < 0.5, "{} starts\n{}", starts(), proxy.output());
}
