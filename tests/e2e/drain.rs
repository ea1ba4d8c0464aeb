//! The way out: nothing that was sent is lost, whoever asks is told at once, and nobody can hold the end up.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::client::Connection;
use crate::harness::fleet::{accepts, fleet, fleet_on_sockets, script, send_signal};
use crate::harness::load::{Ask, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

/// Sends the signal, and waits until the proxy has heard it.
fn begin(proxy: &Proxy, signal: Signal) {
    proxy.signal(signal);
    wait_for(
        "it drains",
        || proxy.events().iter().any(|event| event["msg"] == "draining"),
        || proxy.output(),
    );
}

/// Waits until nobody is let in any more.
fn wait_closed(proxy: &Proxy) {
    wait_for("nobody is let in", || !accepts(proxy), || proxy.output());
}

mod under_load {
    use super::*;

    #[track_caller]
    fn loses_nothing(app: App, signal: Signal, ask: fn(usize, u64) -> Ask) {
        let mut proxy = app.start();
        proxy.wait_workers(2);
        let load = Load::start(&proxy, 64, ask);
        load.wait_answered(500);

        begin(&proxy, signal);
        let took = proxy.expect_clean_end(25);

        // The clients find out now that nobody is there.
        std::thread::sleep(Duration::from_millis(20));
        let report = load.stop();
        println!("{signal:?} under load, ended after {took:?}: {report}");
        report.expect_all_good(&proxy);
        assert!(report.refused > 0, "clients went on asking: {report}");
        assert!(report.told_to_close > 0, "kept connections were told: {report}");
    }

    #[test]
    fn sigterm_loses_no_request() {
        loses_nothing(fleet(2), Signal::TERM, Ask::mixed);
    }

    #[test]
    fn sigterm_loses_no_request_with_workers_on_sockets_and_a_full_queue() {
        loses_nothing(fleet_on_sockets(2).args(["--concurrency", "4"]), Signal::TERM, Ask::mixed);
    }

    #[test]
    fn sigterm_with_a_quiet_period_loses_no_request() {
        loses_nothing(fleet(2).args(["--drain-quiet", "300ms"]), Signal::TERM, Ask::mixed);
    }

    /// A machine that is short of CPU, in one moment: the process is stopped while requests arrive that it may not
    /// lose, for it had let their connections in.
    #[test]
    fn a_request_sent_while_the_process_gets_no_cpu_is_answered() {
        let mut proxy = fleet(2).start();
        let mut connections: Vec<Connection> = (0..32).map(|_| proxy.connect()).collect();
        for kept in connections.iter_mut().step_by(2) {
            kept.request("GET", "/echo/x/3", &[], b"");
            kept.response_to("GET").unwrap();
        }
        begin(&proxy, Signal::TERM);

        proxy.signal(Signal::STOP);
        for connection in &mut connections {
            connection.request("POST", "/echo/x/3", &[], b"body");
        }
        std::thread::sleep(Duration::from_millis(500));
        proxy.signal(Signal::CONT);

        let answers = connections.iter_mut().map(|connection| connection.response_to("POST"));
        let failed: Vec<String> = answers
            .enumerate()
            .filter_map(|(number, answer)| match answer {
                Ok(answer) if (answer.status, answer.header("connection")) == (200, Some("close")) => None,
                Ok(answer) => Some(format!("{number}: {answer}")),
                Err(error) => Some(format!("{number}: {error}")),
            })
            .collect();
        assert!(failed.is_empty(), "{failed:#?}\n{}", proxy.output());
        proxy.expect_clean_end(15);
    }

    #[test]
    fn sigint_loses_no_request() {
        loses_nothing(fleet(2).args(["--drain-quiet", "1h"]), Signal::INT, Ask::gets);
    }
}

mod tells {
    use super::*;

    #[test]
    fn readiness_is_gone_at_once_and_the_quiet_period_still_serves() {
        let mut proxy = fleet(1).args(["--drain-quiet", "1500ms"]).start();
        let mut kept = proxy.connect();
        kept.request("GET", "/echo/x/3", &[], b"");
        assert_ne!(kept.response_to("GET").unwrap().header("connection"), Some("close"));
        let began = Instant::now();

        proxy.signal(Signal::TERM);
        wait_for("readiness is gone", || proxy.admin("/readyz").status == 503, || proxy.output());
        println!("/readyz is off after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

        let readyz = proxy.admin("/readyz");
        assert_eq!((readyz.status, readyz.text().as_str()), (503, "draining\n"));
        assert_eq!(proxy.status()["state"], "draining");
        assert_eq!(proxy.admin("/livez").status, 200);
        kept.request("GET", "/echo/x/3", &[], b"");
        let told = kept.response_to("GET").unwrap();
        assert_eq!((told.status, told.header("connection")), (200, Some("close")), "{told}");
        for path in ["/echo/x/3", "/private", "/_ah/health"] {
            let new = proxy.get(path);
            assert_eq!(new.header("connection"), Some("close"), "{path}: {new}");
        }
        assert!(began.elapsed() < Duration::from_millis(1500), "the machine is too slow for this test");
        proxy.expect_clean_end(20);
        assert!(began.elapsed() >= Duration::from_millis(1500), "quiet for {:?}", began.elapsed());
    }

    #[test]
    fn an_idle_process_ends_at_once() {
        let mut proxy = fleet(2).start();
        let idle: Vec<Connection> = (0..20)
            .map(|_| {
                let mut connection = proxy.connect();
                connection.request("GET", "/echo/x/3", &[], b"");
                connection.response_to("GET").unwrap();
                connection
            })
            .collect();

        proxy.signal(Signal::TERM);
        let took = proxy.expect_clean_end(10);

        println!("idle: ended after {took:?}");
        for mut connection in idle {
            assert!(connection.is_closed(), "an idle connection is closed without a word");
        }
    }

    #[test]
    fn those_who_connected_and_never_finished_a_head_hold_nothing_up() {
        let mut proxy = fleet(1).start();
        let silent = proxy.connect();
        let mut half = proxy.connect();
        half.send("GET /echo/x/3 HTTP/1.1\r\nHost: local");

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(10);
        drop((silent, half));
    }

    #[test]
    fn the_same_by_a_unix_socket_whose_path_is_gone_afterwards() {
        let app = fleet(1);
        let path = app.beside("front.sock");
        let mut proxy = app.args(["--listen", &format!("unix:{}", path.display())]).start();
        let held = proxy.send("GET", "/hold/gate", b"");
        proxy.wait_in_flight(1);

        begin(&proxy, Signal::TERM);
        wait_closed(&proxy);
        proxy.open_gate("gate");

        assert_eq!(held.answer().status, 200);
        proxy.expect_clean_end(15);
        assert!(!path.exists());
    }
}

mod in_flight {
    use super::*;

    #[test]
    fn requests_of_every_kind_finish_after_nobody_is_let_in_any_more() {
        let mut proxy = fleet(2).start();
        let mut stream = proxy.connect();
        stream.request("GET", "/stream/gate", &[], b"");
        let head = stream.head().unwrap();
        assert_eq!(stream.chunk().unwrap().as_deref(), Some(&b"first\n"[..]), "{head}");
        let get = proxy.send("GET", "/hold/gate", b"");
        let post = proxy.send("POST", "/hold/gate", b"body");
        let mut upload = proxy.connect();
        upload.request("POST", "/echo/x/6", &[("Content-Length", "6")], b"abc");
        let mut large = proxy.connect();
        large.request("POST", "/echo/x/6", &[("Content-Length", "100000")], &[b'x'; 50_000]);
        proxy.wait_in_flight(4);
        // A small body is whole before a worker is asked, but its request is being handled all the same.
        let handled = || proxy.metric("compat_proxy_http_requests_in_flight");
        wait_for("the upload is in", || handled() > 4.5, || proxy.output());

        begin(&proxy, Signal::TERM);
        wait_closed(&proxy);
        upload.send("def");
        large.send([b'x'; 50_000]);
        proxy.open_gate("gate");

        assert_eq!(large.response_to("POST").unwrap().body.len(), 100_000);
        let uploaded = upload.response_to("POST").unwrap();
        assert_eq!((uploaded.text().as_str(), uploaded.header("connection")), ("abcdef", Some("close")));
        for answer in [get.answer(), post.answer()] {
            assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer}");
        }
        assert_eq!(stream.chunk().unwrap().as_deref(), Some(&b"last\n"[..]));
        assert_eq!(stream.chunk().unwrap(), None);
        proxy.expect_clean_end(15);
    }

    #[test]
    fn requests_that_wait_in_the_queue_are_answered_too() {
        let mut proxy = fleet(1).args(["--concurrency", "1"]).start();
        let all: Vec<_> = (0..6).map(|_| proxy.send("GET", "/hold/gate", b"")).collect();
        proxy.wait_queue(5);

        begin(&proxy, Signal::TERM);
        wait_closed(&proxy);
        proxy.open_gate("gate");

        all.into_iter().for_each(|request| assert_eq!(request.answer().status, 200));
        proxy.expect_clean_end(15);
    }

    #[test]
    fn a_request_beyond_the_grace_period_is_cut_and_the_end_comes() {
        let mut proxy = fleet(1).args(["--grace-period", "400ms"]).start();
        let held = proxy.send("GET", "/hold/never", b"");
        proxy.wait_in_flight(1);

        begin(&proxy, Signal::TERM);
        let took = proxy.expect_clean_end(8);

        println!("cut after {took:?}");
        assert!(took >= Duration::from_millis(400), "{took:?}");
        match held.result() {
            Ok(answer) => assert!(answer.status >= 500, "{answer}"),
            Err(error) => println!("the client saw: {error}"),
        }
        assert!(proxy.output().contains("--grace-period"), "{}", proxy.output());
    }

    #[test]
    fn a_websocket_lives_through_the_grace_period_and_not_longer() {
        let mut proxy = fleet(1).args(["--grace-period", "1s"]).start();
        let mut socket = proxy.connect();
        socket.request("GET", "/websocket", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b"");
        assert_eq!(socket.head().unwrap().status, 101);
        socket.send("before");
        assert_eq!(socket.exactly(6).unwrap(), b"before");

        begin(&proxy, Signal::TERM);
        socket.send("during");
        assert_eq!(socket.exactly(6).unwrap(), b"during");

        let took = proxy.expect_clean_end(8);
        println!("with a websocket: ended after {took:?}");
        assert!(socket.is_closed());
    }

    #[test]
    fn a_reader_that_stopped_reading_does_not_hold_beyond_the_grace_period() {
        let origin = Origin::start();
        let app = App::new().handlers("- url: /.*\n  script: main.app").upstream(&origin);
        let mut proxy = app.args(["--grace-period", "500ms"]).start();
        let mut stuck = proxy.connect();
        stuck.request("GET", "/big/100000000", &[], b"");
        stuck.head().unwrap();

        begin(&proxy, Signal::TERM);

        proxy.expect_clean_end(8);
    }

    #[test]
    fn a_second_interrupt_stops_at_once() {
        for first in [Signal::INT, Signal::TERM] {
            let mut proxy =
                fleet(1).file("stubborn", "").args(["--drain-quiet", "1h", "--grace-period", "1h"]).start();
            let held = proxy.send("GET", "/hold/never", b"");
            proxy.wait_in_flight(1);

            begin(&proxy, first);
            proxy.signal(Signal::INT);
            let began = Instant::now();
            proxy.wait_end();

            println!("second interrupt after {first:?}: ended after {:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}\n{}", began.elapsed(), proxy.output());
            let _ = held.result();
            wait_for("nothing is left", || proxy.family().is_empty(), || format!("{:?}", proxy.family()));
        }
    }

    #[test]
    fn a_second_term_changes_nothing() {
        let mut proxy = fleet(1).start();
        let held = proxy.send("POST", "/hold/gate", b"");
        proxy.wait_in_flight(1);

        begin(&proxy, Signal::TERM);
        proxy.signal(Signal::TERM);
        proxy.signal(Signal::HUP);
        wait_closed(&proxy);
        proxy.signal(Signal::TERM);
        proxy.open_gate("gate");

        assert_eq!(held.answer().status, 200);
        proxy.expect_clean_end(15);
    }

    #[test]
    fn over_h2c_the_connection_gets_goaway_and_its_streams_finish() {
        let mut proxy = fleet(1).arg("--h2c").start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = proxy.address().to_owned();
        let ask = |path: &str| http::Request::get(format!("http://localhost{path}")).body(()).unwrap();
        runtime.block_on(async {
            let limit = Duration::from_secs(20);
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            let over = tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let (held, _) = client.send_request(ask("/hold/gate"), true).unwrap();
            // The connection is driven while we wait for its request to arrive.
            while proxy.status()["queue"]["in_flight"] != 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }

            proxy.signal(Signal::TERM);
            // GOAWAY: the client's own side refuses to open another stream, though one is still open.
            let mut further = client.clone();
            let refused = async {
                loop {
                    further = further.ready().await?;
                    let (answer, _) = further.send_request(ask("/echo/x/3"), true)?;
                    answer.await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let error: Result<(), h2::Error> =
                tokio::time::timeout(limit, refused).await.expect("GOAWAY comes");
            println!("a further request over h2c: {error:?}");
            proxy.open_gate("gate");

            let answer = tokio::time::timeout(limit, held).await.unwrap().expect("the stream finishes");
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let mut bytes = 0;
            while let Some(piece) = body.data().await {
                bytes += piece.expect("the body is whole").len();
            }
            assert!(bytes > 0);
            drop((body, client));
            let end = tokio::time::timeout(limit, over).await.expect("the connection is closed").unwrap();
            assert!(end.is_ok(), "{end:?}");
        });
        proxy.expect_clean_end(15);
    }
}

mod workers {
    use super::*;

    #[test]
    fn are_asked_to_end_only_when_the_last_request_is_answered() {
        let mut proxy = fleet(1).start();
        let held = proxy.send("GET", "/hold/gate", b"");
        proxy.wait_in_flight(1);
        begin(&proxy, Signal::TERM);
        wait_closed(&proxy);
        assert!(!proxy.output().contains("asked to end"), "{}", proxy.output());

        proxy.open_gate("gate");

        assert_eq!(held.answer().status, 200);
        proxy.expect_clean_end(15);
        wait_for("its last words came out", || proxy.output().contains("asked to end"), || proxy.output());
    }

    #[test]
    fn that_ignore_sigterm_are_killed_after_the_stop_timeout_with_their_whole_group() {
        let mut proxy = fleet(2).file("stubborn", "").args(["--stop-timeout", "300ms"]).start();
        proxy.wait_workers(2);
        // Children and grandchildren that would wait for ever.
        assert_eq!(proxy.get("/orphan/never").status, 200);
        assert_eq!(
            proxy.family().len(),
            5,
            "the proxy, its guard, two workers, an orphan: {:?}",
            proxy.family()
        );

        proxy.signal(Signal::TERM);

        let took = proxy.expect_clean_end(8);
        assert!(took >= Duration::from_millis(300), "{took:?}");
        assert_eq!(proxy.family(), []);
    }

    #[test]
    fn made_of_several_processes_leave_nothing_behind() {
        let command = script("master.py {port}");
        let mut proxy = App::from("workers").arg("--upstream-cmd").arg(command).workers(2).start();
        proxy.wait_workers(2);
        assert_eq!(proxy.get("/").status, 200);

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(8);
        assert_eq!(proxy.family(), []);
    }

    #[test]
    fn that_die_during_the_drain_are_replaced_for_those_who_still_wait() {
        let mut proxy = fleet(1).args(["--concurrency", "1"]).start();
        let worker = proxy.wait_workers(1).remove(0);
        let held = proxy.send("POST", "/hold/gate", b"");
        proxy.wait_in_flight(1);
        let waiting = proxy.send("GET", "/echo/x/3", b"");
        proxy.wait_queue(1);
        begin(&proxy, Signal::TERM);
        wait_closed(&proxy);

        send_signal(worker.pid, Signal::KILL);

        assert_eq!(held.answer().status, 502);
        assert_eq!(waiting.answer().status, 200, "{}", proxy.output());
        proxy.expect_clean_end(15);
    }
}

mod during {
    use super::*;

    #[test]
    fn startup_it_ends_at_once() {
        for signal in [Signal::TERM, Signal::INT] {
            let mut proxy = fleet(2).file("wait", "").launch();
            wait_for("workers run", || proxy.family().len() >= 3, || proxy.output());

            proxy.signal(signal);

            proxy.expect_clean_end(8);
            assert_eq!(proxy.family(), []);
        }
    }

    #[test]
    fn startup_it_does_not_wait_longer_than_the_grace_period_for_those_who_wait() {
        let mut proxy = fleet(1).file("wait", "").args(["--grace-period", "300ms"]).launch();
        let waiting = proxy.send("GET", "/", b"");
        proxy.wait_queue(1);

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(8);
        println!("one who waited: {:?}", waiting.result().map(|answer| answer.status));
    }

    #[test]
    fn a_crash_loop_it_ends_at_once() {
        let mut proxy = fleet(2).file("broken-1", "").start();
        wait_for(
            "it crashed a few times",
            || proxy.events_named("worker ended").len() > 3,
            || proxy.output(),
        );

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(8);
    }

    #[test]
    fn a_reload_whose_new_worker_hangs_it_ends_at_once() {
        let mut proxy = fleet(2).start();
        proxy.wait_workers(2);
        proxy.open_gate("wait");
        proxy.hang_up();
        proxy.wait_event("a new worker starts", |event| event["why"] == "reload");

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(8);
        assert_eq!(proxy.family(), []);
    }

    #[test]
    fn a_reload_it_ends_and_loses_no_request() {
        let mut proxy = fleet(2).start();
        proxy.wait_workers(2);
        let load = Load::start(&proxy, 32, Ask::mixed);
        load.wait_answered(200);
        proxy.hang_up();
        wait_for(
            "a new worker starts",
            || proxy.events().iter().any(|event: &Value| event["why"] == "reload"),
            || proxy.output(),
        );

        proxy.signal(Signal::TERM);

        proxy.expect_clean_end(25);
        let report = load.stop();
        println!("TERM during a reload: {report}");
        report.expect_all_good(&proxy);
        assert_eq!(proxy.family(), []);
    }
}
