//! Workers that live and do not answer: out of rotation, then replaced; and that one which is only busy never is.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::fleet::{Worker, fleet, fleet_on_sockets, send_signal, workers_of};
use crate::harness::load::{Ask, Load};
use crate::harness::{App, Proxy, wait_for};

fn replaced_for_silence(proxy: &Proxy) -> f64 {
    proxy.metric_sum("compat_proxy_worker_starts_total", &["reason=\"deadline\""])
}

/// Waits until another process serves in the slot of `old`; returns how long that took.
fn wait_replaced(proxy: &Proxy, old: &Worker) -> Duration {
    let began = Instant::now();
    proxy.wait_until("it is replaced", |status| {
        workers_of(status)
            .iter()
            .any(|new| new.slot == old.slot && new.pid != old.pid && new.state == "ready")
    });
    began.elapsed()
}

/// Waits until it is given no request any more; returns how long that took.
fn wait_out_of_rotation(proxy: &Proxy, old: &Worker) -> Duration {
    let began = Instant::now();
    proxy.wait_until("it is out of rotation", |status| {
        !workers_of(status).iter().any(|worker| worker.pid == old.pid && worker.state == "ready")
    });
    began.elapsed()
}

fn replaced_for_health(proxy: &Proxy) -> f64 {
    proxy.metric_sum("compat_proxy_worker_starts_total", &["reason=\"unhealthy\""])
}

#[test]
fn a_stopped_worker_is_out_of_rotation_within_ten_seconds_and_no_get_fails() {
    let proxy = fleet(2).start();
    let before = proxy.wait_workers(2);
    let load = Load::start(&proxy, 16, Ask::gets);
    load.wait_answered(100);

    send_signal(before[0].pid, Signal::STOP);
    let took = wait_out_of_rotation(&proxy, &before[0]);
    let replaced = took + wait_replaced(&proxy, &before[0]);
    load.wait_answered(100);

    let report = load.stop();
    println!("SIGSTOP of one of two: out of rotation after {took:?}, replaced after {replaced:?}; {report}");
    report.expect_all_good(&proxy);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!((replaced_for_health(&proxy) - 1.0).abs() < 0.5 && replaced_for_silence(&proxy) < 0.5);
    assert!(proxy.output().contains("stopped by a signal"), "{}", proxy.output());
}

#[test]
fn a_stopped_worker_is_found_without_any_request() {
    let proxy = fleet(1).start();
    let before = proxy.wait_workers(1).remove(0);

    send_signal(before.pid, Signal::STOP);
    let took = wait_out_of_rotation(&proxy, &before);
    let replaced = took + wait_replaced(&proxy, &before);

    println!("SIGSTOP of the only one, idle: out of rotation after {took:?}, replaced after {replaced:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn one_that_accepts_and_never_answers_is_passed_over_its_requests_are_504_and_it_is_replaced() {
    let proxy = fleet(2).args(["--request-timeout", "12s"]).start();
    let before = proxy.wait_workers(2);
    proxy.open_gate("mute-1");
    let began = Instant::now();
    // Least in flight: of four, two go to each.
    let asked: Vec<_> = (0..4).map(|_| proxy.send("POST", "/", b"")).collect();
    wait_for(
        "the other one has answered its own",
        || asked.iter().filter(|request| request.is_there()).count() >= 1,
        || proxy.output(),
    );

    // Ten seconds later nobody is sent there any more.
    std::thread::sleep(Duration::from_secs(10).saturating_sub(began.elapsed()));
    let held = proxy.status()["queue"]["in_flight"].clone();
    for _ in 0..20 {
        let answer = proxy.get("/");
        assert_eq!((answer.status, answer.header("x-worker")), (200, Some("0")), "{}", proxy.output());
    }
    assert!(began.elapsed() < Duration::from_secs(12), "the machine is too slow for this test");
    // A place is given back a moment after its answer has arrived.
    proxy.wait_until("none of them is there", |status| status["queue"]["in_flight"] == held);

    let mut statuses: Vec<u16> = asked.into_iter().map(|request| request.answer().status).collect();
    let answered = began.elapsed();
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 504).count() as u64, held, "{statuses:?}");
    assert!(statuses.contains(&504) && answered < Duration::from_secs(16), "{statuses:?} after {answered:?}");
    wait_replaced(&proxy, &before[1]);
    println!(
        "mute: passed over by 10 s, {statuses:?} after {answered:?}, replaced after {:?}",
        began.elapsed()
    );
    assert_eq!(proxy.wait_workers(2)[0], before[0], "the other one is left alone");
}

#[test]
fn one_that_hangs_in_the_launcher_tells_where_before_it_is_killed() {
    // A regular expression that never ends holds the interpreter, so that no thread of it gets on.
    let code = "import re\n\ndef app(environ, start):\n    if environ['PATH_INFO'] == '/hang':\n        \
                gone_round_in_circles()\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n\n\n\
                def gone_round_in_circles():\n    re.match('(a+)+$', 'a' * 64 + 'b')\n";
    let app =
        App::new().yaml("runtime: python39\nhandlers:\n- url: /.*\n  script: auto\n").file("main.py", code);
    let proxy = app.workers(1).args(["--request-timeout", "2s"]).start();
    let before = proxy.wait_workers(1).remove(0);

    let began = Instant::now();
    assert_eq!(proxy.get("/hang").status, 504);
    wait_replaced(&proxy, &before);

    println!("a hanging app under the launcher: replaced after {:?}", began.elapsed());
    assert!((replaced_for_silence(&proxy) - 1.0).abs() < 0.5 && replaced_for_health(&proxy) < 0.5);
    wait_for("it told where", || proxy.output().contains("gone_round_in_circles"), || proxy.output());
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn one_that_runs_and_accepts_nothing_is_replaced_and_requests_wait_for_its_successor() {
    let on_tcp = fleet(1).start();
    let on_socket = fleet_on_sockets(1).start();
    let before = [&on_tcp, &on_socket].map(|proxy| proxy.wait_workers(1).remove(0));
    assert_eq!(on_tcp.get("/close").status, 200);
    std::fs::remove_file(before[1].address.trim_start_matches("unix:")).unwrap();
    // A kept connection still reaches the worker: it must be idle for long enough to be closed.
    std::thread::sleep(Duration::from_secs(2));

    let waiting =
        [&on_tcp, &on_socket].map(|proxy| [proxy.send("GET", "/", b""), proxy.send("POST", "/", b"x")]);
    for (proxy, old) in [&on_tcp, &on_socket].into_iter().zip(&before) {
        println!("refusing: replaced after {:?}", wait_replaced(proxy, old));
    }

    for request in waiting.into_iter().flatten() {
        assert_eq!(request.answer().status, 200, "{}{}", on_tcp.output(), on_socket.output());
    }
}

/// One worker that answers one connection at a time, kept busy for longer than it takes to find a hanging one.
#[test]
fn one_that_is_only_busy_is_never_touched() {
    let single = || fleet(2).file("single", "");
    // Slow to answer, but below its deadline.
    let slow = single().args(["--request-timeout", "30s"]).start();
    // Far above the time-out in all, but something moves now and then: down, and up.
    let drips = single().args(["--request-timeout", "2s"]).start();
    let before = [slow.wait_workers(2), drips.wait_workers(2)];

    let held = slow.send("POST", "/sleep/11000", b"");
    slow.wait_in_flight(1);
    let down = drips.send("GET", "/drip/22/500", b"");
    drips.wait_in_flight(1);
    let mut up = drips.connect();
    up.request("POST", "/echo/x/22", &[("Content-Length", "22")], b"");
    for _ in 0..22 {
        std::thread::sleep(Duration::from_millis(500));
        up.send("x");
        let began = Instant::now();
        assert_eq!(slow.get("/").status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "held up by the busy one: {:?}", began.elapsed());
    }

    assert_eq!(held.answer().status, 200);
    assert_eq!(down.answer().text().lines().count(), 22);
    assert_eq!(up.response_to("POST").unwrap().text().len(), 22);
    for (proxy, before) in [&slow, &drips].into_iter().zip(&before) {
        assert_eq!(&proxy.wait_workers(2), before, "{}", proxy.output());
        assert!(replaced_for_health(proxy) + replaced_for_silence(proxy) < 0.5);
    }
}
