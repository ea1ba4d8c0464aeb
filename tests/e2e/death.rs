//! Workers that die: all at once, again and again, and for a reason that lasts. What is lost, how long it takes until
//! others serve, and what goes on without any.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::fleet::{cpu_time, fleet, send_signal, workers_of};
use crate::harness::load::{Ask, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

/// The fixture with a static file beside its scripts.
const WITH_FILES: &str = "runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n\
     - url: /static\n  static_dir: static\n- url: /private\n  script: main.app\n  login: admin\n\
     - url: /.*\n  script: main.app\n";

fn with_files(workers: usize) -> App {
    fleet(workers).yaml(WITH_FILES).file("static/a.txt", "a file")
}

/// What needs no worker is answered.
#[track_caller]
fn the_rest_goes_on(proxy: &Proxy) {
    assert_eq!(proxy.get("/static/a.txt").text(), "a file");
    assert_eq!(proxy.get("/private").status, 404);
    assert_eq!(proxy.admin("/livez").status, 200);
}

/// Kills all workers in one moment; returns how long it took until as many others were ready.
fn kill_all(proxy: &Proxy, count: usize) -> Duration {
    let before = proxy.wait_workers(count);
    let began = Instant::now();
    before.iter().for_each(|worker| send_signal(worker.pid, Signal::KILL));
    the_rest_goes_on(proxy);
    proxy.wait_other_workers(count, &before);
    began.elapsed()
}

#[test]
fn all_workers_killed_in_one_moment_under_load_fail_no_get() {
    let proxy = with_files(2).start();
    let load = Load::start(&proxy, 64, Ask::gets);
    let mut slowest = Duration::ZERO;

    // Each time the pause before the next start is twice as long.
    for _ in 0..5 {
        load.wait_answered(100);
        slowest = slowest.max(kill_all(&proxy, 2));
    }
    load.wait_answered(100);

    let report = load.stop();
    println!("kill -9 of both at once, GET: full strength after {slowest:?} at most; {report}");
    report.expect_all_good(&proxy);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn no_post_is_ever_run_twice_and_only_those_in_flight_fail() {
    let proxy = with_files(2).file("posts", "").args(["--concurrency", "8"]).start();
    let load = Load::start(&proxy, 64, Ask::mixed);

    for round in 0..6 {
        load.wait_answered(100);
        if round % 2 == 0 {
            kill_all(&proxy, 2);
        } else {
            let before = proxy.wait_workers(2);
            send_signal(before[0].pid, Signal::KILL);
            proxy.wait_until("it is back", |status| {
                let all = workers_of(status);
                all.len() == 2 && all.iter().all(|new| new.state == "ready" && new.pid != before[0].pid)
            });
        }
    }

    let report = load.stop();
    let ran = std::fs::read_to_string(proxy.path().join("posts")).unwrap();
    let different: BTreeSet<_> = ran.lines().collect();
    println!("kill -9, mixed: {} POSTs ran, {} of them once; {report}", ran.lines().count(), different.len());
    assert_eq!(ran.lines().count(), different.len(), "a POST ran twice");
    report.expect_only_cut(&proxy);
    let failed = report.with_status(502);
    assert_eq!(report.with_status(200) + failed, report.total(), "{report}");
    assert!(failed <= 9 * 8, "more than the victims held: {report}");
    for line in proxy.access().iter().filter(|line| line["status"] == 502) {
        assert_eq!((&line["method"], &line["reason"]), (&"POST".into(), &"upstream_reset".into()), "{line}");
    }
}

/// Two workers that can never start again, and are cured after fifteen seconds.
#[test]
fn a_crash_loop_costs_little_is_seen_answers_what_it_can_and_is_over_soon_after_its_cure() {
    let proxy = with_files(2).args(["--queue-timeout", "300ms"]).start();
    let before = proxy.wait_workers(2);
    let starts = || proxy.metric_sum("compat_proxy_worker_starts_total", &[]);
    let (first, cpu, began) = (starts(), cpu_time(proxy.pid()), Instant::now());

    proxy.open_gate("broken");
    before.iter().for_each(|worker| send_signal(worker.pid, Signal::KILL));
    wait_for("readiness is gone", || proxy.admin("/readyz").status == 503, || proxy.output());
    proxy.wait_until("it can be seen", |status| workers_of(status).iter().any(|one| one.state == "backoff"));
    let mut refused = 0;
    while began.elapsed() < Duration::from_secs(15) {
        let asked = Instant::now();
        let answer = proxy.get("/");
        assert_eq!(answer.status, 503, "{answer}\n{}", proxy.output());
        assert!(answer.header("retry-after").is_some(), "{answer}");
        assert!(asked.elapsed() < Duration::from_secs(3), "the wait is bounded: {:?}", asked.elapsed());
        refused += 1;
        the_rest_goes_on(&proxy);
        std::thread::sleep(Duration::from_millis(200));
    }
    let started = starts() - first;
    let now = cpu_time(proxy.pid());
    let (own, children) = (now.0 - cpu.0, now.1 - cpu.1);
    let backoff = proxy.metric("compat_proxy_workers{state=\"backoff\"}");
    proxy.remove("broken");
    let cured = Instant::now();
    let tries = starts();
    wait_for("it is tried again", || starts() > tries, || proxy.output());
    let tried = cured.elapsed();
    proxy.wait_ready();
    let took = cured.elapsed();
    proxy.wait_workers(2);

    println!(
        "crash loop of two, 15 s: {started} starts, CPU {own:?} of ours and {children:?} of theirs, {refused} \
         answers 503; tried again {tried:?} after the cure, ready after {took:?}, both after {:?}",
        cured.elapsed()
    );
    assert!((4.0..20.0).contains(&started), "{started} starts");
    assert!(own + children < Duration::from_secs(3), "a fifth of a core: {own:?} and {children:?}");
    assert!(backoff > 0.5, "{backoff} in backoff");
    // How long Python takes to start is a matter of who else uses this machine.
    assert!(tried < Duration::from_secs(5), "{tried:?}");
    assert!(took - tried < Duration::from_secs(10), "{tried:?} {took:?}");
    assert_eq!(proxy.get("/").status, 200);
    let status = proxy.wait_access("a 503", |line| line["reason"] == "no_ready_worker");
    assert_eq!(status["status"], 503);
}

#[test]
fn when_every_answer_breaks_no_more_than_a_fifth_is_asked_again() {
    let origin = Origin::start();
    let app = App::new().handlers("- url: /.*\n  script: main.app").upstream(&origin);
    let proxy = app.start();
    let load =
        Load::start(&proxy, 32, |_, _| Ask { path: "/close-before-response".to_owned(), ..Ask::get("x", 1) });
    let began = Instant::now();

    load.wait_answered(2000);

    let report = load.stop();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let (asked, came) = (report.total() as f64, origin.seen().len() as f64);
    let allowed = 1.2f64.mul_add(asked, 100.0) + 10.0 * began.elapsed().as_secs_f64();
    let over = proxy.metric("compat_proxy_upstream_retries_total{reason=\"reset\",result=\"over_budget\"}");
    let failed = proxy.metric("compat_proxy_upstream_retries_total{reason=\"reset\",result=\"failed\"}");
    println!("{asked} GETs broke: {failed} were sent again, {over} were not; the app was asked {came} times");
    report.expect_none_lost(&proxy);
    assert_eq!(report.with_status(502), report.total(), "{report}");
    assert!(came <= allowed + 1.0, "{came} of {asked}, allowed {allowed}");
    assert!(failed >= asked / 5.0, "the budget is used: {failed} of {asked}");
    assert!((failed + over - asked).abs() < 1.5, "each is counted: {failed} and {over} of {asked}");
}
