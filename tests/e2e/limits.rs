//! Every limit has a clear answer: a status, a reason in the log and in the metrics, and room for the next client. Also
//! what pingora's parser refuses by itself.

use std::time::{Duration, Instant};

use crate::harness::client::{Connection, Response};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, h2c, wait_for};

fn app(origin: &Origin) -> App {
    App::new().handlers("- url: /.*\n  script: main.app\n").upstream(origin)
}

/// Access lines with this reason, and how the metric counts them: both must be `count`, with `status`.
#[track_caller]
fn expect(proxy: &Proxy, reason: &str, status: u16, count: usize) {
    let of = |line: &serde_json::Value| line["reason"] == reason && line["status"] == status;
    wait_for(
        &format!("{count} lines with {reason} {status}"),
        || proxy.access().iter().filter(|line| of(line)).count() >= count,
        || proxy.output(),
    );
    assert_eq!(proxy.access().iter().filter(|line| of(line)).count(), count, "{}", proxy.output());
}

/// Sends `start`, then a byte of `drip` every 300 ms, until there is an answer or the connection ends.
fn dripping(proxy: &Proxy, start: &str, drip: &str) -> (Duration, Result<Response, String>) {
    let mut connection = proxy.connect();
    connection.send(start);
    let began = Instant::now();
    connection.read_timeout(Duration::from_millis(300));
    for byte in drip.bytes().cycle() {
        match connection.response_to("GET") {
            Ok(response) => return (began.elapsed(), Ok(response)),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return (began.elapsed(), Err(error.to_string())),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no end in sight\n{}", proxy.output());
        if !drip.is_empty() {
            connection.send([byte]);
        }
    }
    unreachable!("a cycle has no end")
}

#[test]
fn a_head_has_ten_seconds_however_it_comes() {
    let origin = Origin::start();
    let proxy = app(&origin).arg("--h2c").start();
    let plain = app(&origin).start();
    let heads = [
        ("G", "E"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", "a"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "A:b\r\n"),
        ("PRI ", "x"),
    ];
    std::thread::scope(|scope| {
        for (start, drip) in heads {
            for proxy in [&proxy, &plain] {
                scope.spawn(move || {
                    let (took, answer) = dripping(proxy, start, drip);
                    let answer =
                        answer.unwrap_or_else(|error| panic!("{start:?}: {error}\n{}", proxy.output()));
                    assert_eq!(answer.status, 408, "{start:?}: {answer}");
                    let seconds = took.as_secs_f64();
                    assert!((9.0..16.0).contains(&seconds), "{start:?} after {seconds} s");
                });
            }
        }
        // The second request of a connection has no more time than the first.
        scope.spawn(|| {
            let mut connection = plain.connect();
            connection.request("GET", "/first", &[], b"");
            assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
            connection.send("GET /second HTTP/1.1\r\nHo");
            let began = Instant::now();
            assert_eq!(connection.response_to("GET").expect("an answer").status, 408);
            assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
            assert!(connection.is_closed());
        });
    });
    expect(&plain, "request_timeout", 408, heads.len() + 1);
    expect(&proxy, "request_timeout", 408, heads.len());
    assert_eq!(plain.generated("request_timeout"), 5.0);
    let line = plain.wait_access("the second", |line| line["path"] == "/second");
    assert_eq!((&line["method"], &line["handler"]), (&"GET".into(), &"_internal".into()), "{line}");
    assert_eq!(origin.targets(), ["/first"]);
}

#[test]
fn heads_and_targets_that_are_too_large_are_told_so() {
    let origin = Origin::start();
    let proxy = app(&origin).start();
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let long = |count: usize| format!("/{}", "x".repeat(count));
    let lines = |count: usize| "A: b\r\n".repeat(count);
    let fits = [
        get(&long(16 * 1024 - 1), ""),
        get("/", &lines(99)),
        get("/", &format!("A: {}\r\n", "x".repeat(60_000))),
    ];
    for request in &fits {
        assert_eq!(proxy.raw(request).status, 200, "{} bytes", request.len());
    }
    let large = [
        get("/", &format!("A: {}\r\n", "x".repeat(70_000))),
        get("/", &format!("A: {}\r\n", "x".repeat(300_000))),
        get("/", &format!("A: {}\r\n", "x".repeat(3_000_000))),
        get("/", &lines(100)),
        get("/", &lines(255)),
        get("/", &lines(256)),
        get("/", &lines(5000)),
        get("/", &lines(50_000)),
    ];
    for request in &large {
        let response = proxy.raw(request);
        assert_eq!(response.status, 431, "{} bytes: {response}", request.len());
    }
    let targets = [long(16 * 1024), long(17_000), long(65_000), long(70_000), long(300_000), long(2_000_000)];
    for target in &targets {
        let response = proxy.raw(get(target, ""));
        assert_eq!(response.status, 414, "{} bytes: {response}", target.len());
    }
    expect(&proxy, "head_too_large", 431, large.len());
    expect(&proxy, "uri_too_long", 414, targets.len());
    assert_eq!(origin.seen().len(), fits.len());
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn what_the_parser_refuses_is_answered_counted_and_logged_too() {
    let origin = Origin::start();
    let proxy = app(&origin).start();
    let bad = [
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03 a TLS client hello\r\n\r\n",
    ];
    for request in bad {
        let response = proxy.raw(request);
        assert_eq!(response.status, 400, "{request:?}: {response}");
        assert_eq!(response.header("connection"), Some("close"), "{response}");
        assert_eq!(response.header("server"), None, "{response}");
    }
    let response = proxy.raw("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert_eq!((response.status, response.header("allow").is_some()), (405, true), "{response}");
    expect(&proxy, "bad_request", 400, bad.len());
    expect(&proxy, "method_refused", 405, 1);
    assert_eq!(proxy.generated("bad_request"), bad.len() as f64);
    let internal = ["handler=\"_internal\"", "code=\"400\""];
    assert_eq!(proxy.metric_sum("compat_proxy_http_requests_total", &internal), bad.len() as f64);
    let line = proxy.wait_access("CONNECT", |line| line["method"] == "CONNECT");
    assert_eq!(line["client_ip"], "127.0.0.1", "{line}");
    assert!(origin.seen().is_empty());
}

#[test]
fn control_characters_in_a_request_line_are_refused() {
    let origin = Origin::start();
    let proxy = app(&origin).start();
    for line in [
        "GET /a\tb HTTP/1.1",
        "GET /a\x0bb HTTP/1.1",
        "GET /a\x7fb HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /\x01a HTTP/1.1",
    ] {
        let response = proxy.raw(format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status, 400, "{line:?}: {response}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.targets());
}

#[test]
fn only_the_methods_of_app_engine_pass() {
    let origin = Origin::start();
    let proxy = app(&origin).start();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(proxy.request(method, "/x", &[], b"").status, 200, "{method}");
    }
    let passed = origin.seen().len();
    for (method, status) in [
        ("TRACE", 405),
        ("CONNECT", 405),
        ("FOO", 501),
        ("get", 501),
        ("PROPFIND", 501),
        ("LINK", 501),
        ("PURGE", 501),
        ("QUERY", 501),
        ("G", 501),
        ("GETT", 501),
    ] {
        let response = proxy.raw(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(
            response.status == status || (method == "CONNECT" && response.status == 400),
            "{method}: {response}"
        );
        assert_eq!(response.header("allow").is_some(), response.status == 405, "{method}: {response}");
    }
    assert_eq!(origin.seen().len(), passed);
    wait_for("all are logged", || proxy.access().len() == 17, || proxy.output());
    let series = "compat_proxy_http_requests_total";
    assert_eq!(proxy.metric_sum(series, &["method=\"OTHER\""]), 10.0, "{}", proxy.admin("/metrics").text());
}

#[test]
fn one_connection_too_many_is_told_so_and_there_is_room_again() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-connections", "5"]).start();
    assert_eq!(proxy.metric("compat_proxy_http_connections_limit"), 5.0);
    let mut held: Vec<Connection> = (0..5).map(|_| proxy.connect()).collect();
    for connection in &mut held {
        connection.request("GET", "/x", &[], b"");
        assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
    }
    assert_eq!(proxy.metric("compat_proxy_http_connections"), 5.0);
    for _ in 0..20 {
        let mut connection = proxy.connect();
        connection.request("GET", "/y", &[], b"");
        let response = connection.response_to("GET").expect("an answer");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response}");
    }
    expect(&proxy, "connection_limit", 503, 20);
    assert_eq!(proxy.generated("connection_limit"), 20.0);
    // Those inside notice nothing.
    for connection in &mut held {
        connection.request("GET", "/x", &[], b"");
        assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
    }
    drop(held);
    wait_for("they are gone", || proxy.metric("compat_proxy_http_connections") < 0.5, || proxy.output());
    assert_eq!(proxy.get("/z").status, 200);
    assert_eq!(proxy.metric("compat_proxy_http_connections_total"), 26.0);
}

#[test]
fn a_client_that_first_sends_everything_still_reads_why_it_was_refused() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-request-body", "100KiB"]).start();
    let body = vec![b'x'; 3 << 20];
    // Announced, in chunks, to a file handler's 404, and with a head that is too large before it.
    let long = "x".repeat(70_000);
    let chunk = format!("{:x}\r\n{}\r\n", body.len(), String::from_utf8_lossy(&body));
    let cases = [
        (
            format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
            &body[..],
            413,
        ),
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            chunk.as_bytes(),
            413,
        ),
        (
            format!("POST /x HTTP/1.1\r\nHost: a\r\nX: {long}\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes(),
            &body,
            431,
        ),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n".to_vec(), &body, 400),
    ];
    for (head, body, status) in cases {
        for _ in 0..3 {
            let mut connection = proxy.connect();
            connection.send(&head);
            connection
                .try_send(body)
                .unwrap_or_else(|error| panic!("{status}: the upload broke off: {error}"));
            let response = connection.response_to("POST").unwrap_or_else(|error| panic!("{status}: {error}"));
            assert_eq!(response.status, status, "{response}");
            assert!(connection.is_closed(), "{status}: the rest of the body is no request");
        }
    }
    assert!(origin.seen().iter().all(|seen| !seen.complete));
    wait_for("all are gone", || proxy.metric("compat_proxy_http_connections") < 0.5, || proxy.output());
}

#[test]
fn a_small_body_is_whole_before_a_worker_is_asked() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--concurrency", "1"]).start();
    // Twenty clients that do not get on with their bodies hold nobody up.
    let slow: Vec<Connection> = (0..20)
        .map(|_| {
            let mut connection = proxy.connect();
            connection.request("POST", "/slow", &[("Content-Length", "60000")], b"a part");
            connection
        })
        .collect();
    wait_for("all are in", || proxy.metric("compat_proxy_http_requests_in_flight") > 19.5, || proxy.output());
    for _ in 0..10 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    assert!(origin.seen().iter().all(|seen| seen.target == "/x"), "{:?}", origin.targets());
    // Those that leave leave nothing behind, and one that goes on is served.
    let mut last = slow.into_iter().next_back().expect("twenty");
    last.send(vec![b'b'; 60_000 - 6]);
    let answer = last.response_to("POST").expect("an answer").json();
    assert_eq!(answer["body"].as_str().map(str::len), Some(60_000));
    assert!(answer["body"].as_str().is_some_and(|body| body.starts_with("a partbbb")));
    wait_for(
        "all are gone",
        || proxy.metric("compat_proxy_http_requests_in_flight") < 0.5,
        || proxy.output(),
    );
    assert_eq!(origin.seen().len(), 11);
}

#[test]
fn while_others_wait_clients_that_stall_most_of_the_workers_lose_some() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--concurrency", "4", "--queue-timeout", "20s"]).start();
    // Two clients that send nothing of a large body, and two that take nothing of a large answer: no place is left.
    let _writers: Vec<Connection> = (1..=2)
        .map(|number| {
            let mut connection = proxy.connect();
            connection.request("POST", "/size", &[("Content-Length", "1000000")], b"a part");
            proxy.wait_in_flight(number);
            connection
        })
        .collect();
    let _readers: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = proxy.connect();
            connection.request("GET", "/chunks/200000000", &[], b"");
            connection
        })
        .collect();
    proxy.wait_in_flight(4);
    // Nobody waits for a worker, and they are let be.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(proxy.status()["queue"]["in_flight"], 4, "{}", proxy.output());
    // Workers are busy, so another large body has to bring something first: it waits, but not for a worker.
    let mut crawling = proxy.connect();
    crawling.request("POST", "/size", &[("Content-Length", "1000000")], b"a part");
    wait_for("it is in", || proxy.metric("compat_proxy_http_requests_in_flight") > 4.5, || proxy.output());
    assert_eq!(proxy.status()["queue"]["waiting"], 0);
    // Somebody waits.
    let began = Instant::now();
    assert_eq!(proxy.get("/x").status, 200);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let gone = || {
        let lost =
            |line: &serde_json::Value| line["reason"] == "request_timeout" || line["reason"] == "client_slow";
        proxy.access().iter().filter(|line| lost(line)).count()
    };
    wait_for("the ones that went are logged", || gone() > 0, || proxy.output());
    assert!(gone() <= 2, "half of the places may be held\n{}", proxy.output());
    // It goes on, and is served whole.
    crawling.send(vec![b'x'; 1_000_000 - 6]);
    assert_eq!(crawling.response_to("POST").expect("an answer").text(), "1000000");
}

#[test]
fn a_client_that_has_sent_its_body_is_not_the_one_who_stalls() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--concurrency", "2", "--queue-timeout", "20s"]).start();
    // The app takes its time; the clients have done their part, whichever way their bodies came.
    let early = [10_usize, 60_000, 1_000_000].map(|size| proxy.send("POST", "/slow/2500", &vec![b'x'; size]));
    let waiting: Vec<_> = (0..3).map(|_| proxy.send("GET", "/x", b"")).collect();
    for one in early.into_iter().chain(waiting) {
        assert_eq!(one.answer().status, 200, "{}", proxy.output());
    }
}

#[test]
fn http_2_has_its_limits_set() {
    let origin = Origin::start();
    let proxy = app(&origin).arg("--h2c").start();
    let settings = h2c::settings(proxy.address());
    // RFC 9113, section 6.5.2: streams, window, frame, header list.
    for (identifier, value) in [(3, 100), (4, 65_536), (5, 16_384), (6, 65_536)] {
        let told = settings.iter().find(|(known, _)| *known == identifier).map(|(_, value)| *value);
        // What is the default of the protocol need not be said.
        assert!(told == Some(value) || (told.is_none() && identifier == 5), "{identifier}: {settings:?}");
    }
    let long = "x".repeat(15_000);
    let many: Vec<(String, &str)> = (0..10).map(|number| (format!("x-{number}"), long.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let refused = h2c::get(proxy.address(), "/large", &many);
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 431));
    assert!(origin.seen().is_empty());
    assert_eq!(h2c::get(proxy.address(), "/x", &[]).expect("an answer").status, 200);
}

#[test]
fn with_h2c_a_request_shorter_than_the_preface_is_answered() {
    let origin = Origin::start();
    let proxy = app(&origin).arg("--h2c").start();
    for request in ["GET / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.0\r\n\r\n", "P / HTTP/1.0\r\n\r\n"] {
        let response = proxy.raw(request);
        assert!(matches!(response.status, 200 | 501), "{request:?}: {response}");
    }
    // In two pieces, the first of which could begin the preface.
    let mut connection = proxy.connect();
    connection.send("P");
    wait_for("it has come in", || proxy.metric("compat_proxy_http_connections") > 0.5, || proxy.output());
    connection.send("OST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(connection.response_to("POST").expect("an answer").json()["body"], "abc");
}
