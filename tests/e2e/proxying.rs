//! Bodies and connections on their way through: streaming both ways with backpressure, sizes, time-outs, old and
//! new versions of HTTP, websockets, and what happens when either side leaves.

use std::time::{Duration, Instant};

use crate::harness::client::{Connection, Framing};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, h2c, wait_for};

const MIB: usize = 1024 * 1024;

fn app(origin: &Origin) -> App {
    App::new().handlers("- url: /.*\n  script: main.app\n").upstream(origin)
}

fn start(origin: &Origin) -> Proxy {
    app(origin).start()
}

#[test]
fn a_plain_program_behind_attach_mode_is_served() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let response = proxy.request("POST", "/hello?a=b", &[("Content-Type", "text/plain")], b"body");
    let json = response.json();
    assert_eq!(
        (json["method"].as_str(), json["target"].as_str(), json["body"].as_str()),
        (Some("POST"), Some("/hello?a=b"), Some("body"))
    );
    assert_eq!(response.seen("content-length").as_deref(), Some("4"));
}

#[test]
fn an_app_on_a_unix_socket_is_served() {
    let app = App::new().handlers("- url: /.*\n  script: main.app\n");
    let origin = Origin::on_unix(&app.beside("app.sock"));
    let proxy = app.upstream(&origin).start();
    assert_eq!(proxy.get("/x").json()["target"], "/x");
    assert_eq!(proxy.request("POST", "/size", &[], &[1; 100_000]).text(), "100000");
    let status = proxy.status();
    assert!(
        status["workers"][0]["address"].as_str().is_some_and(|address| address.contains("app.sock")),
        "{status:#}"
    );
    assert!(status["workers"][0]["pid"].is_null());
}

#[test]
fn the_proxy_listens_on_a_unix_socket_too() {
    let origin = Origin::start();
    let app = app(&origin);
    let socket = format!("unix:{}", app.beside("front.sock").display());
    let proxy = app.args(["--listen", &socket, "--listen", "127.0.0.1:0"]).start();
    assert_eq!(proxy.addresses().len(), 2, "{:?}", proxy.addresses());
    for _ in 0..3 {
        let mut connection = Connection::open(&socket);
        connection.request("GET", "/x", &[], b"");
        let response = connection.response_to("GET").expect("an answer");
        assert_eq!(response.json()["target"], "/x");
    }
    let tcp = proxy.addresses().iter().find(|address| !address.contains("sock")).expect("a TCP address");
    let mut connection = Connection::open(tcp);
    connection.request("GET", "/y", &[], b"");
    assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
}

#[test]
fn connections_to_the_client_and_to_the_app_are_kept() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--threads", "1"]).start();
    let before = origin.connections();
    let mut connection = proxy.connect();
    for number in 0..20 {
        connection.request("GET", &format!("/{number}"), &[], b"");
        assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
    }
    // The probe may have opened one more meanwhile.
    assert!(origin.connections() - before <= 3, "{} connections", origin.connections() - before);
}

#[test]
fn pipelined_requests_are_answered_in_order_or_the_rest_dropped() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    let one = |number: u32| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.send((0..3).map(one).collect::<String>());
    let answers = connection.all_responses(Duration::from_millis(500));
    assert!(!answers.is_empty());
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.json()["target"], format!("/{number}"));
    }
}

#[test]
fn an_http_1_0_client_gets_a_whole_answer_without_chunks() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for path in ["/x", "/stream/3/1", "/chunks/100000", "/answer?length=no&body=hello"] {
        let response = proxy.raw(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status, 200, "{path}: {response}");
        assert_ne!(response.framing, Framing::Chunked, "{path}: {response}");
        match path {
            "/stream/3/1" => assert_eq!(response.text(), "piece 0\npiece 1\npiece 2\n"),
            "/chunks/100000" => assert_eq!(response.body.len(), 100_000),
            "/x" => assert_eq!(response.json()["target"], "/x"),
            _ => assert_eq!(response.text(), "hello"),
        }
    }
    let mut connection = proxy.connect();
    connection.send("GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
}

#[test]
fn head_has_the_length_and_no_body() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    connection.request("HEAD", "/big/1000", &[], b"");
    let response = connection.response_to("HEAD").expect("an answer");
    assert_eq!((response.status, response.header("content-length")), (200, Some("1000")));
    connection.request("GET", "/big/10", &[], b"");
    assert_eq!(connection.response_to("GET").expect("nothing lies before it").body.len(), 10);
    assert_eq!(origin.seen()[0].method, "HEAD");
}

#[test]
fn empty_answers_stay_empty_and_the_connection_lives_on() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    for status in [204, 304, 200, 404, 500] {
        connection.request("GET", &format!("/status/{status}"), &[], b"");
        let response = connection.response_to("GET").expect("an answer");
        assert_eq!((response.status, response.body.len()), (status, 0), "{response}");
        if status == 204 {
            assert_eq!(
                (response.header("content-length"), response.header("transfer-encoding")),
                (None, None)
            );
        }
    }
}

#[test]
fn bodies_arrive_in_either_framing() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let body: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let response = proxy.request("POST", "/size", &[], &body);
    assert_eq!(response.text(), "200000");
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Transfer-Encoding", "chunked")], b"");
    for piece in body.chunks(7_777) {
        connection.send(format!("{:x}\r\n", piece.len()));
        connection.send(piece);
        connection.send("\r\n");
    }
    connection.send("0\r\n\r\n");
    assert_eq!(connection.response_to("POST").expect("an answer").text(), "200000");
    for seen in origin.seen() {
        assert!(seen.complete && seen.body == body, "{} bytes", seen.length);
        let framings = [seen.header("content-length"), seen.header("transfer-encoding")];
        assert_eq!(framings.iter().flatten().count(), 1, "{framings:?}");
    }
    assert_eq!(proxy.request("POST", "/size", &[], b"").text(), "0");
    assert_eq!(proxy.request("PUT", "/size", &[("Content-Length", "0")], b"").text(), "0");
}

#[test]
fn a_streamed_answer_arrives_piece_by_piece() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    let started = Instant::now();
    connection.request("GET", "/stream/4/300", &[], b"");
    let head = connection.head().expect("a head");
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    assert_eq!(connection.chunk().expect("a chunk").as_deref(), Some(&b"piece 0\n"[..]));
    let first = started.elapsed();
    let mut pieces = 1;
    while connection.chunk().expect("a chunk").is_some() {
        pieces += 1;
    }
    let whole = started.elapsed();
    assert_eq!(pieces, 4);
    assert!(whole - first >= Duration::from_millis(700), "first after {first:?}, all after {whole:?}");
}

#[test]
fn a_large_answer_to_a_slow_reader_is_held_back_at_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    let size = 200 * MIB as u64;
    let before = rss(proxy.pid());
    connection.request("GET", &format!("/big/{size}"), &[], b"");
    assert_eq!(connection.head().expect("a head").header("content-length"), Some(size.to_string().as_str()));
    // Nothing is read: the app can write what fits into buffers, and no more.
    let mut last = 0;
    wait_for(
        "the app is held back",
        || {
            let now = origin.written();
            std::thread::sleep(Duration::from_millis(300));
            let held = now == last && now > 0;
            last = now;
            held
        },
        || proxy.output(),
    );
    assert!(last < size / 4, "{last} bytes were taken from the app although nobody reads them");
    let grown = rss(proxy.pid()).saturating_sub(before);
    assert!(grown < 32 * MIB as u64, "memory grew by {grown} bytes");
    // And when it is read, all of it comes.
    let mut left = size;
    while left > 0 {
        let now = left.min(MIB as u64);
        connection.exactly(usize::try_from(now).expect("small")).expect("the rest");
        left -= now;
    }
    let grown = rss(proxy.pid()).saturating_sub(before);
    assert!(grown < 48 * MIB as u64, "memory grew by {grown} bytes");
}

#[test]
fn a_large_upload_to_a_slow_app_is_held_back_at_the_client() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-request-body", "64MiB"]).start();
    let size = 50 * MIB;
    let before = rss(proxy.pid());
    let mut connection = proxy.connect();
    let sent = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let counter = &sent;
        let writer = scope.spawn(move || {
            connection.request("POST", "/hold", &[("Content-Length", &size.to_string())], b"");
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..size / piece.len() {
                connection.try_send(&piece).expect("the upload goes on");
                counter.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
            }
            connection.response_to("POST").expect("an answer").text()
        });
        let mut last = 0;
        wait_for(
            "the client is held back",
            || {
                let now = sent.load(std::sync::atomic::Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300));
                let held = now == last && now > 0;
                last = now;
                held
            },
            || proxy.output(),
        );
        let grown = rss(proxy.pid()).saturating_sub(before);
        origin.release();
        assert!(last < size / 2, "{last} bytes were taken although the app reads none");
        assert!(grown < 32 * MIB as u64, "memory grew by {grown} bytes");
        assert_eq!(writer.join().expect("no panic"), size.to_string());
    });
}

fn rss(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-request-body", "100KiB", "--h2c"]).start();
    assert_eq!(proxy.request("POST", "/size", &[], &vec![0; 100 * 1024]).text(), "102400");
    origin.clear();
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Content-Length", "102401")], b"");
    assert_eq!(connection.response_to("POST").expect("an answer before the body").status, 413);
    assert!(origin.seen().is_empty());

    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Transfer-Encoding", "chunked")], b"");
    for _ in 0..11 {
        connection.send(format!("2800\r\n{}\r\n", "x".repeat(0x2800)));
    }
    connection.send("0\r\n\r\n");
    assert_eq!(connection.response_to("POST").expect("an answer").status, 413);
    assert!(connection.is_closed(), "the rest of the body must not become a request");
    wait_for(
        "the app saw the end of it",
        || origin.seen().iter().all(|seen| !seen.complete),
        || format!("{:?}", origin.seen()),
    );
    let line = proxy.wait_access("413", |line| line["status"] == 413);
    assert_eq!(line["reason"], "body_too_large", "{line}");

    let post = http::Request::post("http://localhost/size").body(()).expect("a request");
    match h2c::request(proxy.address(), post, &vec![0; 150 * 1024]) {
        Ok(response) => assert_eq!(response.status, 413),
        Err(error) => println!("the stream was reset: {error}"),
    }
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn expect_100_continue_works_both_ways() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-request-body", "1KiB"]).start();
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Expect", "100-continue"), ("Content-Length", "5")], b"");
    let interim = connection.head().expect("an interim answer");
    assert_eq!(interim.status, 100);
    connection.send("hello");
    assert_eq!(connection.response_to("POST").expect("an answer").text(), "5");
    // One that does not wait.
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Expect", "100-continue")], b"hello");
    assert_eq!(connection.response_to("POST").expect("an answer").text(), "5");
    // A refusal needs no body.
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Expect", "100-continue"), ("Content-Length", "5000")], b"");
    let response = connection.response_to("POST").expect("an answer");
    assert_eq!((response.status, response.interim.len()), (413, 0));
    let mut connection = proxy.connect();
    connection.request("POST", "/early/403", &[("Expect", "100-continue"), ("Content-Length", "5")], b"");
    assert_eq!(connection.response_to("POST").expect("an answer").status, 403);
}

#[test]
fn an_answer_before_the_end_of_the_body_reaches_the_client() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    connection.request("POST", "/early/403", &[("Content-Length", "1000000")], b"only a part");
    let response = connection.response_to("POST").expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (403, "early"));
}

#[test]
fn failures_of_the_app_are_told_apart() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--request-timeout", "700ms"]).start();
    for (path, status, reason) in [
        ("/close-before-response", 502, "upstream_reset"),
        ("/close-in-head", 502, "upstream_reset"),
        ("/garbage", 502, "upstream_reset"),
        ("/reset", 502, "upstream_reset"),
        ("/slow/5000", 504, "upstream_timeout"),
    ] {
        let response = proxy.get(path);
        assert_eq!(response.status, status, "{path}: {response}");
        let line = proxy.wait_access(path, |line| line["path"] == path);
        assert_eq!(line["reason"], reason, "{line}");
        let series = format!("compat_proxy_responses_generated_total{{reason=\"{reason}\"}}");
        assert!(proxy.metric(&series) > 0.0, "{path}");
    }
    // Silence in the middle of an answer ends it.
    let mut connection = proxy.connect();
    connection.request("GET", "/stream/2/3000", &[], b"");
    assert!(connection.response_to("GET").is_err(), "a cut answer must not look whole");
    let mut connection = proxy.connect();
    connection.request("GET", "/close-in-body", &[], b"");
    assert!(connection.response_to("GET").is_err(), "a cut answer must not look whole");
    assert_eq!(proxy.get("/x").status, 200, "the worker is still there");
}

#[test]
fn an_app_that_is_gone_is_502_or_503_and_comes_back() {
    let origin = Origin::start();
    let address = origin.address();
    let proxy = app(&origin).args(["--queue-timeout", "300ms"]).start();
    assert_eq!(proxy.get("/x").status, 200);
    drop(origin);
    let response = proxy.get("/x");
    assert!(matches!(response.status, 502 | 503), "{response}");
    proxy.wait_until("it is not ready", |status| status["state"] != "ready");
    let response = proxy.get("/x");
    assert_eq!((response.status, response.header("retry-after").is_some()), (503, true), "{response}");
    let _origin = Origin::at(&address);
    proxy.wait_ready();
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn of_two_upstreams_the_living_one_serves_everything() {
    let (first, second) = (Origin::start(), Origin::start());
    let proxy = app(&first).upstream(&second).start();
    proxy.wait_until("both are ready", |status| {
        status["workers"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["state"] == "ready"))
    });
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    assert!(!first.seen().is_empty() && !second.seen().is_empty(), "both have work");
    drop(first);
    for number in 0..20 {
        let response = proxy.get(&format!("/{number}"));
        assert_eq!(response.status, 200, "{response}\n{}", proxy.output());
    }
    assert_eq!(proxy.admin("/readyz").status, 200, "one is enough");
}

#[test]
fn a_client_that_leaves_a_stream_ends_it_at_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    connection.request("GET", "/chunks/1000000000", &[], b"");
    assert!(connection.chunk_after_head().is_some());
    drop(connection);
    let mut before = u64::MAX;
    wait_for(
        "the app writes no more",
        || {
            let now = origin.written();
            std::thread::sleep(Duration::from_millis(100));
            now == std::mem::replace(&mut before, now)
        },
        || proxy.output(),
    );
    assert!(origin.written() < 500_000_000, "{} bytes", origin.written());
    wait_for("its place is free", || proxy.status()["queue"]["in_flight"] == 0, || proxy.output());
}

#[test]
fn a_websocket_is_echoed_and_may_be_silent_for_longer_than_the_request_timeout() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--request-timeout", "600ms"]).start();
    let mut connection = proxy.connect();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    connection.request("GET", "/websocket", &headers, b"");
    let response = connection.response_to("GET").expect("an answer");
    assert_eq!(response.status, 101, "{response}");
    assert_eq!(response.header("sec-websocket-accept"), Some("mirror"));
    assert!(response.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    connection.send("first");
    assert_eq!(connection.exactly(5).expect("the echo"), b"first");
    // Three times the request time-out without a byte: this is the condition itself, not a wait for one.
    connection.read_timeout(Duration::from_millis(1800));
    let silent = connection.exactly(1).expect_err("nothing was said");
    assert!(
        matches!(silent.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        "{silent}"
    );
    connection.read_timeout(Duration::from_secs(20));
    let large = vec![b'y'; 300_000];
    let mut got = Vec::new();
    for piece in large.chunks(30_000) {
        connection.send(piece);
        got.extend(connection.exactly(piece.len()).expect("the echo"));
    }
    assert!(got == large);
    drop(connection);
    let line = proxy.wait_access("the websocket", |line| line["path"] == "/websocket");
    assert_eq!(line["status"], 101, "{line}");
    wait_for("its place is free", || proxy.status()["queue"]["in_flight"] == 0, || proxy.output());
}

#[test]
fn an_upgrade_that_the_app_declines_is_an_ordinary_answer() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    connection.request("GET", "/no-upgrade", &headers, b"");
    let response = connection.response_to("GET").expect("an answer");
    assert_eq!((response.status, response.json()["target"].as_str()), (200, Some("/no-upgrade")));
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--concurrency", "1", "--queue-timeout", "20s"]).start();
    let mut connection = proxy.connect();
    connection.request("GET", "/slow/15000", &[], b"");
    wait_for("the app has it", || !origin.seen().is_empty(), || proxy.output());
    drop(connection);
    // The only place is free again long before the app would have answered.
    let started = Instant::now();
    assert_eq!(proxy.get("/next").status, 200);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let line = proxy.wait_access("the one that left", |line| line["path"] == "/slow/15000");
    assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client_gone".into()), "{line}");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_is_no_request_to_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = proxy.connect();
    connection.request("POST", "/size", &[("Content-Length", "100000")], b"a part");
    wait_for("the app has the head", || !origin.seen().is_empty(), || proxy.output());
    drop(connection);
    proxy.wait_access("the one that left", |line| line["path"] == "/size");
    assert!(!origin.seen()[0].complete);
    assert_eq!(proxy.get("/x").status, 200);
    // Of a small one the app does not even see the head.
    origin.clear();
    let mut connection = proxy.connect();
    connection.request("POST", "/small", &[("Content-Length", "1000")], b"a part");
    drop(connection);
    let line = proxy.wait_access("the one that left", |line| line["path"] == "/small");
    assert_eq!(line["status"], 499, "{line}");
    assert!(origin.seen().is_empty());
}

#[test]
fn many_connections_at_once_are_all_served() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--concurrency", "4"]).start();
    std::thread::scope(|scope| {
        for client in 0..16 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut connection = proxy.connect();
                for round in 0..10 {
                    let path = format!("/slow/5?{client}-{round}");
                    connection.request("GET", &path, &[], b"");
                    let response = connection.response_to("GET").expect("an answer");
                    assert_eq!(
                        (response.status, response.json()["target"].as_str()),
                        (200, Some(path.as_str()))
                    );
                }
            });
        }
    });
    assert_eq!(origin.seen().len(), 160);
    wait_for("nothing is in flight", || proxy.status()["queue"]["in_flight"] == 0, || proxy.output());
}

#[test]
fn twenty_megabytes_arrive_whole_in_both_directions() {
    let origin = Origin::start();
    let proxy = app(&origin).arg("--h2c").start();
    let body = vec![b'z'; 20 * MIB];
    assert_eq!(proxy.request("POST", "/size", &[], &body).text(), body.len().to_string());
    for path in ["/big", "/chunks"] {
        let response = proxy.get(&format!("{path}/{}", 20 * MIB));
        assert_eq!(response.body.len(), 20 * MIB, "{path}");
        let right =
            response.body.iter().enumerate().all(|(at, byte)| *byte == b'a' + (at % (64 * 1024) % 26) as u8);
        assert!(right, "{path}: bytes differ");
    }
    let response = h2c::get(proxy.address(), &format!("/big/{}", 20 * MIB), &[]).expect("an answer");
    assert_eq!(response.body.len(), 20 * MIB);
}
