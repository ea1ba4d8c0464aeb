//! Honest clients of every kind. Each knows the one right answer to what it asks.

use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::e2e::harness::client::Connection;
use crate::e2e::harness::crowd::{Crowd, Manner, memory};
use crate::e2e::harness::load::{Ask, Load, Report};
use crate::e2e::harness::origin::Origin;
use crate::e2e::harness::{App, Proxy, h2c};
use crate::tally::Tally;

/// What may come instead of 200 while workers die and hang: a GET may only run out of time with a worker that hangs; a
/// POST is never sent twice; and a queue may be full.
const EXCUSED: [u16; 3] = [502, 503, 504];

pub fn start<'s>(scope: &'s Scope<'s, '_>, proxy: &'s Proxy, tally: &'s Tally) {
    scope.spawn(|| load(proxy, tally));
    scope.spawn(|| files(proxy, tally));
    scope.spawn(|| http_2(proxy, tally));
    scope.spawn(|| websockets(proxy, tally));
    scope.spawn(|| streams(tally));
    scope.spawn(|| refusals(proxy, tally));
    scope.spawn(|| crowds(proxy, tally));
}

/// Takes a report of the load over into the books.
pub fn enter(tally: &Tally, what: &'static str, report: &Report, excused: &[u16]) {
    for (status, count) in &report.answered {
        tally.add(&format!("{what} {status}"), *count);
        if *status != 200 && !excused.contains(status) {
            tally.broke(format!("{what}: {count} answers with {status}"));
        }
    }
    tally.add("connections closed while idle", report.idle_closed + report.crossed);
    tally.took(what, report.slowest);
    for wrong in report.wrong.iter().chain(&report.lost) {
        tally.broke(format!("{what}: {wrong}"));
    }
}

fn load(proxy: &Proxy, tally: &Tally) {
    while !tally.is_over() {
        let load = Load::start(proxy, 8, Ask::mixed);
        tally.rest(Duration::from_secs(5));
        enter(tally, "load", &load.stop(), &EXCUSED);
    }
}

/// Files, redirects and pages that need no worker are answered whatever happens to the workers.
fn files(proxy: &Proxy, tally: &Tally) {
    let mut connection: Option<Connection> = None;
    while tally.rest(Duration::from_millis(5)) {
        for (path, status, length) in [
            ("/static/a.css", 200, 3),
            ("/static/large.bin", 200, 8 << 20),
            ("/static/none", 404, 0),
            ("/admin/x", 404, 0),
        ] {
            let mut open = connection.take().unwrap_or_else(|| proxy.connect());
            let began = Instant::now();
            open.request("GET", path, &[], b"");
            match open.response_to("GET") {
                Ok(answer) => {
                    tally.count(&format!("file {}", answer.status));
                    tally.took("file", began.elapsed());
                    let right = answer.status == status && (length == 0 || answer.body.len() == length);
                    if !right {
                        tally.broke(format!("{path}: {} with {} bytes", answer.status, answer.body.len()));
                    }
                    connection = Some(open).filter(|_| answer.header("connection") != Some("close"));
                }
                Err(error) => tally.broke(format!("{path}: {error}")),
            }
        }
    }
}

fn http_2(proxy: &Proxy, tally: &Tally) {
    while tally.rest(Duration::from_millis(20)) {
        let began = Instant::now();
        match h2c::get(proxy.address(), "/echo/h2/2000", &[]) {
            Ok(answer) => {
                tally.count(&format!("h2 {}", answer.status));
                tally.took("h2", began.elapsed());
                let right = answer.status == 200 && answer.body == b"h2".repeat(1000);
                if !right && !EXCUSED.contains(&answer.status) {
                    tally.broke(format!("h2: {answer}"));
                }
            }
            Err(error) => tally.broke(format!("h2: {error}")),
        }
    }
}

/// A websocket lives until its worker dies, and not shorter.
fn websockets(proxy: &Proxy, tally: &Tally) {
    while !tally.is_over() {
        let mut connection = proxy.connect();
        connection.request("GET", "/websocket", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b"");
        let Ok(answer) = connection.head() else {
            tally.count("websockets refused");
            tally.rest(Duration::from_millis(100));
            continue;
        };
        tally.count(&format!("websocket {}", answer.status));
        for _ in 0..100 {
            if answer.status != 101 || !tally.rest(Duration::from_millis(50)) {
                break;
            }
            connection.send(b"hello");
            match connection.exactly(5) {
                Ok(echo) if echo == b"hello" => tally.count("websocket messages"),
                Ok(echo) => tally.broke(format!("a websocket said {echo:?}")),
                // Its worker died.
                Err(_) => {
                    tally.count("websockets that ended");
                    break;
                }
            }
        }
    }
}

/// A gibibyte down and a gibibyte up, over and over, through a proxy of their own whose memory must stay flat.
fn streams(tally: &Tally) {
    const SIZE: u64 = 1 << 30;
    let origin = Origin::start();
    let proxy = App::new()
        .handlers("- url: /.*\n  script: main.app\n")
        .upstream(&origin)
        .args(["--max-request-body", "2GiB"])
        .start();
    let piece = vec![b'x'; 1 << 20];
    let _ = proxy.get("/big/1000000");
    let before = memory(proxy.pid(), "Rss");
    let mut most = before;
    while tally.left() > Duration::from_secs(20) {
        let mut connection = proxy.connect();
        connection.request("GET", &format!("/chunks/{SIZE}"), &[], b"");
        let mut taken = 0;
        if connection.head().is_ok_and(|head| head.status == 200) {
            while let Ok(Some(chunk)) = connection.chunk() {
                taken += chunk.len() as u64;
            }
        }
        most = most.max(memory(proxy.pid(), "Rss"));
        let mut connection = proxy.connect();
        connection.request("POST", "/size", &[("Content-Length", &SIZE.to_string())], b"");
        for _ in 0..SIZE / piece.len() as u64 {
            if connection.try_send(&piece).is_err() {
                break;
            }
        }
        most = most.max(memory(proxy.pid(), "Rss"));
        let up = connection.response_to("POST").map(|answer| answer.text()).unwrap_or_default();
        tally.add("MiB streamed down", taken >> 20);
        if (taken, up.as_str()) != (SIZE, SIZE.to_string().as_str()) {
            tally.broke(format!("of a gibibyte {taken} bytes came down and {up:?} went up"));
            return;
        }
        tally.add("MiB streamed up", SIZE >> 20);
    }
    let grown = (most - before) >> 10;
    println!("memory grew by {grown} KiB while gibibytes streamed");
    if grown > 16 << 10 {
        tally.broke(format!("memory grew by {grown} KiB while gibibytes streamed"));
    }
}

/// What must be refused is refused, whatever else goes on.
fn refusals(proxy: &Proxy, tally: &Tally) {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let asked = [
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
        ("GET /%61dmin/x HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET //admin/x HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (long.as_str(), 414),
        (large.as_str(), 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ];
    while tally.rest(Duration::from_millis(50)) {
        for (request, status) in asked {
            let mut connection = proxy.connect();
            connection.send(request);
            match connection.response_to("GET") {
                Ok(answer) => {
                    tally.count(&format!("refusal {}", answer.status));
                    if answer.status != status {
                        tally.broke(format!("{:?}: {}", request.get(..40), answer.status));
                    }
                }
                Err(error) => tally.broke(format!("{:?}: {error}", request.get(..40))),
            }
        }
    }
}

/// Slow clients come for a while, and go, and come again.
fn crowds(proxy: &Proxy, tally: &Tally) {
    while tally.rest(Duration::from_secs(5)) {
        let crowd = Crowd::gather(
            proxy.socket_address(),
            &[
                (200, Manner::Head),
                (50, Manner::Body(1_000_000)),
                (20, Manner::Body(10_000)),
                (40, Manner::Reader("/echo/x/20000000".to_owned())),
            ],
        );
        tally.rest(Duration::from_secs(12));
        tally
            .add("slow clients turned away", crowd.returned.load(std::sync::atomic::Ordering::SeqCst) as u64);
    }
}
