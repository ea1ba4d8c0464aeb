//! Who gets which request: the least busy worker, a cap that holds, one queue in order, and what becomes of
//! requests that find no worker.

use std::time::{Duration, Instant};

use crate::harness::fleet::{Pending, fleet, fleet_on_sockets};
use crate::harness::load::{Ask, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

/// One worker with one place, which is taken until the file `gate` is there.
fn one_busy_worker(app: App) -> (Proxy, Pending) {
    let proxy = app.args(["--concurrency", "1"]).start();
    let held = proxy.send("GET", "/hold/gate", b"");
    proxy.wait_in_flight(1);
    (proxy, held)
}

mod spread {
    use super::*;

    #[test]
    fn both_workers_are_busy_under_64_connections() {
        let proxy = fleet(2).start();
        proxy.wait_workers(2);
        let load = Load::kept(&proxy, 64, Ask::mixed);

        load.wait_answered(2000);

        let report = load.stop();
        println!("64 connections: {report}");
        report.expect_all_good(&proxy);
        for worker in ["0", "1"] {
            assert!(report.workers[worker] * 4 > report.total(), "worker {worker} is idle: {report}");
        }
    }

    #[test]
    fn a_request_goes_to_the_worker_with_the_fewest() {
        let proxy = fleet(2).start();
        proxy.wait_workers(2);
        let first = proxy.send("GET", "/hold/first", b"");
        proxy.wait_in_flight(1);
        let second = proxy.send("GET", "/hold/second", b"");
        proxy.wait_in_flight(2);
        proxy.open_gate("first");
        let free = first.answer().header("x-worker").unwrap().to_owned();
        proxy.wait_in_flight(1);

        for _ in 0..10 {
            assert_eq!(proxy.get("/").header("x-worker"), Some(free.as_str()));
            proxy.wait_in_flight(1);
        }

        proxy.open_gate("second");
        assert_ne!(second.answer().header("x-worker"), Some(free.as_str()));
    }

    #[test]
    fn no_worker_ever_holds_more_than_its_cap() {
        let proxy = fleet(2).args(["--concurrency", "3"]).start();
        proxy.wait_workers(2);
        let load = Load::start(&proxy, 64, |client, number| match number % 3 {
            0 => Ask {
                path: "/sleep/3".to_owned(),
                expected: crate::harness::load::Expected::With(""),
                ..Ask::get("x", 1)
            },
            _ => Ask::mixed(client, number),
        });
        load.wait_answered(1000);
        load.stop().expect_all_good(&proxy);

        let mut peaks = [None; 2];
        wait_for(
            "both told their peak",
            || {
                let answer = proxy.get("/peak");
                let worker: usize = answer.header("x-worker").unwrap().parse().unwrap();
                peaks[worker] = answer.text().parse().ok();
                peaks.iter().all(Option::is_some)
            },
            || proxy.output(),
        );
        assert_eq!(peaks, [Some(3); 2], "the cap is used and holds");
        wait_for(
            "every place was given back",
            || proxy.metric("compat_proxy_concurrency_in_use").abs() < 0.5,
            || proxy.output(),
        );
    }

    #[test]
    fn a_request_its_worker_did_not_accept_is_sent_to_another_whatever_its_method() {
        let proxy = fleet_on_sockets(2).start();
        let workers = proxy.wait_workers(2);
        std::fs::remove_file(workers[0].address.trim_start_matches("unix:")).unwrap();

        for _ in 0..6 {
            let answer = proxy.request("POST", "/echo/x/3", &[], b"abc");
            assert_eq!((answer.status, answer.text().as_str()), (200, "abc"), "{}", proxy.output());
        }

        let retried = proxy.wait_access("sent to another", |line| line["retries"] == 1);
        assert_eq!((&retried["status"], &retried["worker"]), (&200.into(), &1.into()), "{retried}");
        assert!(proxy.metric_sum("compat_proxy_upstream_retries_total", &["connect_error", "ok"]) >= 1.0);
    }
}

mod queue {
    use super::*;

    #[test]
    fn is_first_come_first_served() {
        let (proxy, held) = one_busy_worker(fleet(1));
        let waiting: Vec<_> = (1..=10)
            .map(|place| {
                let request = proxy.send("GET", &format!("/told/gate/{place}"), b"");
                proxy.wait_queue(place);
                request
            })
            .collect();

        proxy.open_gate("gate");

        assert_eq!(held.answer().status, 200);
        waiting.into_iter().for_each(|request| assert_eq!(request.answer().status, 200));
        let arrived = || -> Vec<String> {
            let lines = proxy.stdout_lines().into_iter();
            lines
                .filter_map(|line| {
                    Some(line.split_once("arrived /told/gate/")?.1.split('"').next()?.to_owned())
                })
                .collect()
        };
        wait_for("all arrivals are told", || arrived().len() == 10, || proxy.output());
        assert_eq!(arrived(), (1..=10).map(|place| place.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn that_is_full_answers_503_at_once() {
        let (proxy, held) = one_busy_worker(fleet(1).args(["--queue-depth", "2"]));
        let waiting: Vec<_> = (1..=2)
            .map(|place| {
                let request = proxy.send("GET", "/", b"");
                proxy.wait_queue(place);
                request
            })
            .collect();

        for _ in 0..3 {
            let answer = proxy.get("/");
            assert_eq!(answer.status, 503, "{answer}");
            let after: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
            assert!(after > 0, "{answer}");
        }

        proxy.open_gate("gate");
        assert_eq!(held.answer().status, 200);
        waiting.into_iter().for_each(|request| assert_eq!(request.answer().status, 200));
        proxy.expect_reason("queue_full", 503, 3);
        let rejected = proxy.metric("compat_proxy_queue_rejected_total{reason=\"full\"}");
        assert!((rejected - 3.0).abs() < 0.5, "{rejected}");
    }

    #[test]
    fn that_takes_too_long_answers_503() {
        let (proxy, held) = one_busy_worker(fleet(1).args(["--queue-timeout", "200ms"]));

        let began = Instant::now();
        let answer = proxy.request("POST", "/", &[], b"body");

        assert_eq!(answer.status, 503, "{answer}");
        assert!(answer.header("retry-after").is_some(), "{answer}");
        assert!((200..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        proxy.expect_reason("queue_timeout", 503, 1);
        proxy.open_gate("gate");
        assert_eq!(held.answer().status, 200);
        assert_eq!(proxy.get("/").status, 200);
    }

    #[test]
    fn is_where_requests_wait_for_workers_that_start_slowly() {
        let proxy = fleet(2).file("wait", "").launch();
        let waiting: Vec<_> = (0..3).map(|_| proxy.send("GET", "/", b"")).collect();
        proxy.wait_queue(3);
        let readyz = proxy.admin("/readyz");
        assert_eq!((readyz.status, readyz.text().contains("no worker is ready")), (503, true), "{readyz}");
        assert_eq!(proxy.admin("/startupz").status, 503);
        assert_eq!(proxy.admin("/livez").status, 200);

        proxy.remove("wait");

        waiting.into_iter().for_each(|request| assert_eq!(request.answer().status, 200));
        assert_eq!(proxy.admin("/readyz").status, 200);
        assert_eq!(proxy.admin("/startupz").status, 200);
    }

    #[test]
    fn says_when_no_worker_got_ready_in_time() {
        let proxy = fleet(1).file("wait", "").args(["--queue-timeout", "150ms"]).launch();

        let answer = proxy.get("/");

        assert_eq!(answer.status, 503, "{answer}");
        assert!(answer.header("retry-after").is_some(), "{answer}");
        proxy.expect_reason("no_ready_worker", 503, 1);
        assert_eq!(proxy.get("/_ah/health").status, 503);
        proxy.remove("wait");
        proxy.wait_ready();
        assert_eq!(proxy.get("/_ah/health").text(), "healthy");
    }

    #[test]
    fn is_left_by_a_client_that_leaves() {
        let (proxy, held) = one_busy_worker(fleet(1));
        let mut leaver = proxy.connect();
        leaver.request("GET", "/told/gate/gone", &[], b"");
        proxy.wait_queue(1);

        drop(leaver);

        proxy.wait_queue(0);
        proxy.wait_access("a client that left", |line| {
            line["status"] == 499 && line["reason"] == "client_gone"
        });
        proxy.open_gate("gate");
        assert_eq!(held.answer().status, 200);
        assert_eq!(proxy.get("/").status, 200);
        assert!(!proxy.stdout_lines().iter().any(|line| line.contains("arrived")), "{}", proxy.output());
    }

    #[test]
    fn and_caps_do_not_hold_up_what_needs_no_worker() {
        let (proxy, held) = one_busy_worker(fleet(1).args(["--queue-depth", "0"]));

        assert_eq!(proxy.get("/private").status, 404);
        assert_eq!(proxy.get("/_ah/health").status, 200);

        proxy.open_gate("gate");
        held.answer();
    }
}

mod failures {
    use super::*;

    #[test]
    fn a_worker_that_is_silent_too_long_is_504_and_stays() {
        let proxy = fleet(1).args(["--request-timeout", "300ms"]).start();
        let before = proxy.wait_workers(1);

        let began = Instant::now();
        let answer = proxy.get("/hold/never");

        assert_eq!(answer.status, 504, "{answer}");
        assert!((300..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        proxy.expect_reason("upstream_timeout", 504, 1);
        assert_eq!(proxy.get("/").status, 200);
        assert_eq!(proxy.wait_workers(1), before);
    }

    #[test]
    fn nobody_accepting_is_503_after_a_bounded_wait() {
        let proxy = fleet_on_sockets(1).args(["--queue-timeout", "400ms"]).start();
        let worker = proxy.wait_workers(1).remove(0);
        std::fs::remove_file(worker.address.trim_start_matches("unix:")).unwrap();

        for method in ["GET", "POST"] {
            let began = Instant::now();
            let answer = proxy.request(method, "/", &[], b"");
            assert_eq!(answer.status, 503, "{answer}");
            assert!(answer.header("retry-after").is_some(), "{answer}");
            assert!((400..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        }

        proxy.expect_reason("connect_error", 503, 2);
    }

    #[test]
    fn a_place_is_given_back_after_every_way_to_fail() {
        let origin = Origin::start();
        let proxy = App::new()
            .handlers("- url: /.*\n  script: main.app")
            .upstream(&origin)
            .args(["--concurrency", "1", "--request-timeout", "1500ms", "--queue-timeout", "10s"])
            .start();

        for path in
            ["/close-before-response", "/close-in-head", "/close-in-body", "/reset", "/garbage", "/slow/2500"]
        {
            let mut connection = proxy.connect();
            connection.request("POST", path, &[], b"x");
            let _ = connection.response_to("POST");
            let answer = proxy.get("/");
            assert_eq!(answer.status, 200, "after {path}: {answer}\n{}", proxy.output());
        }
        let mut leaver = proxy.connect();
        leaver.request("GET", "/stream/1000/10", &[], b"");
        leaver.head().unwrap();
        drop(leaver);

        assert_eq!(proxy.get("/").status, 200, "{}", proxy.output());
    }
}

mod attached {
    use super::*;

    fn before(origin: &Origin) -> App {
        App::new()
            .handlers(
                "- url: /private\n  script: main.app\n  login: required\n- url: /.*\n  script: main.app",
            )
            .upstream(origin)
    }

    #[track_caller]
    fn serves(origin: Origin) {
        let proxy = before(&origin).start();

        let answer = proxy.request("POST", "/some/path?query", &[], b"body");

        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(
            (&answer.json()["target"], &answer.json()["body"]),
            (&"/some/path?query".into(), &"body".into())
        );
        assert_eq!(proxy.get("/private").status, 404);
        assert_eq!(origin.targets(), ["/some/path?query"]);
        let worker = &proxy.status()["workers"][0];
        assert!(worker["pid"].is_null(), "{worker}");
        assert_eq!((&worker["state"], &worker["address"]), (&"ready".into(), &origin.address().into()));
        let (code, output) = proxy.terminate();
        assert_eq!(code, Some(0), "{output}");
    }

    #[test]
    fn to_a_server_on_tcp() {
        serves(Origin::start());
    }

    #[test]
    fn to_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        serves(Origin::on_unix(&folder.path().join("app.sock")));
    }

    #[test]
    fn to_two_servers_spreads_and_survives_the_loss_of_one() {
        let (one, two) = (Origin::start(), Origin::start());
        let proxy = before(&one).upstream(&two).start();
        proxy.wait_workers(2);
        (0..10).for_each(|_| assert_eq!(proxy.get("/").status, 200));
        assert!(
            one.seen().len() > 2 && two.seen().len() > 2,
            "{} and {}",
            one.seen().len(),
            two.seen().len()
        );

        one.stop();

        (0..10).for_each(|_| assert_eq!(proxy.get("/").status, 200, "{}", proxy.output()));
        assert_eq!(proxy.admin("/readyz").status, 200);
    }

    #[test]
    fn to_a_server_that_goes_away_and_comes_back() {
        let origin = Origin::start();
        let proxy = before(&origin).args(["--queue-timeout", "300ms"]).start();
        let address = origin.address();
        assert_eq!(proxy.get("/").status, 200);

        origin.stop();
        let answer = proxy.get("/");
        assert!(matches!(answer.status, 502 | 503), "{answer}");
        wait_for("readiness is gone", || proxy.admin("/readyz").status == 503, || proxy.output());
        let answer = proxy.get("/");
        assert_eq!(answer.status, 503, "{answer}");
        assert!(answer.header("retry-after").is_some(), "{answer}");
        proxy.wait_access("the reason", |line| line["reason"] == "no_ready_worker" && line["status"] == 503);

        let _again = Origin::at(&address);
        proxy.wait_ready();
        assert_eq!(proxy.get("/").status, 200);
    }

    #[test]
    fn to_a_server_that_comes_later() {
        let place = Origin::start();
        let address = place.address();
        place.stop();
        let proxy = before(&place).launch();
        let waiting = proxy.send("GET", "/", b"");
        proxy.wait_queue(1);

        let _origin = Origin::at(&address);

        assert_eq!(waiting.answer().status, 200);
    }

    #[test]
    fn to_a_plain_http_server_of_python() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("page.txt"), "a page").unwrap();
        let mut server = std::process::Command::new(crate::harness::fleet::python())
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line)
            .unwrap();
        let port =
            line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).expect(&line).to_owned();
        let proxy = App::new()
            .handlers("- url: /.*\n  script: main.app")
            .args(["--upstream", &format!("127.0.0.1:{port}")])
            .start();

        for _ in 0..20 {
            assert_eq!(proxy.get("/page.txt").text(), "a page");
        }
        assert_eq!(proxy.get("/missing").status, 404);

        drop(proxy);
        server.kill().unwrap();
        server.wait().unwrap();
    }

    #[test]
    fn upstreams_that_are_slow_to_accept_do_not_stop_the_rest() {
        let origin = Origin::start();
        // Its backlog is never emptied: connections hang, they are not refused.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = before(&origin)
            .args(["--upstream", &deaf.local_addr().unwrap().to_string(), "--request-timeout", "500ms"])
            .start();
        proxy.wait_workers(2);

        let began = Instant::now();
        let answers: Vec<u16> = (0..6).map(|_| proxy.get("/").status).collect();

        assert!(answers.iter().all(|status| matches!(status, 200 | 504)), "{answers:?}");
        assert!(answers.contains(&200), "{answers:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
