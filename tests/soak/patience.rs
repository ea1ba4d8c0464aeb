//! Limits whose time is too long for the suite: an idle connection's 75 to 90 seconds, a silent body's 30, an answer that
//! nobody takes.

use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::e2e::harness::Proxy;
use crate::tally::Tally;

pub fn start<'s>(scope: &'s Scope<'s, '_>, proxy: &'s Proxy, tally: &'s Tally) {
    if tally.left() > Duration::from_secs(90) {
        scope.spawn(|| idle(proxy, tally, true));
        scope.spawn(|| idle(proxy, tally, false));
    }
    if tally.left() > Duration::from_secs(50) {
        scope.spawn(|| silent_body(proxy, tally, b""));
        scope.spawn(|| silent_body(proxy, tally, b"x"));
        scope.spawn(|| slow_head(proxy, tally));
    }
    if tally.left() > Duration::from_secs(80) {
        scope.spawn(|| untaken(proxy, tally));
    }
}

fn within(tally: &Tally, what: &'static str, took: Duration, from: u64, to: u64) {
    tally.took(what, took);
    if took < Duration::from_secs(from) || took > Duration::from_secs(to) {
        tally.broke(format!("{what}: {took:?} is not between {from} s and {to} s"));
    }
}

/// A connection without a request, or after one.
fn idle(proxy: &Proxy, tally: &Tally, used: bool) {
    let mut connection = proxy.connect();
    if used {
        connection.request("GET", "/static/a.css", &[], b"");
        if connection.response_to("GET").is_err() {
            tally.broke("a file was not answered".to_owned());
        }
    }
    connection.read_timeout(Duration::from_secs(120));
    let began = Instant::now();
    if !connection.is_closed() {
        tally.broke("an idle connection was not closed".to_owned());
    }
    within(tally, if used { "idle connection" } else { "unused connection" }, began.elapsed(), 74, 95)
}

fn silent_body(proxy: &Proxy, tally: &Tally, drip: &[u8]) {
    let mut connection = proxy.connect();
    connection.request("POST", "/echo/x/1", &[("Content-Length", "50000")], b"a part");
    let began = Instant::now();
    connection.read_timeout(Duration::from_secs(1));
    while began.elapsed() < Duration::from_secs(45) {
        if let Ok(answer) = connection.response_to("POST") {
            tally.count(&format!("silent body {}", answer.status));
            if answer.status != 408 {
                tally.broke(format!("a body that does not come: {answer}"));
            }
            break;
        }
        connection.send(drip);
    }
    within(tally, if drip.is_empty() { "silent body" } else { "dripping body" }, began.elapsed(), 28, 36);
}

fn slow_head(proxy: &Proxy, tally: &Tally) {
    let mut connection = proxy.connect();
    connection.send("GET / HTTP/1.1\r\nHo");
    let began = Instant::now();
    match connection.response_to("GET") {
        Ok(answer) if answer.status == 408 => tally.count("slow head 408"),
        other => tally.broke(format!("a head that does not come: {other:?}")),
    }
    within(tally, "slow head", began.elapsed(), 9, 14);
}

/// A file that nobody takes: no worker is kept, so that it has its minute.
fn untaken(proxy: &Proxy, tally: &Tally) {
    let mut connection = proxy.connect();
    connection.send("GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(75) {
        std::thread::sleep(Duration::from_secs(1));
        // A connection that was cut while bytes were under way is reset.
        if connection.try_send(b"").is_err() {
            break;
        }
    }
    let taken = connection.rest().map_or(0, |bytes| bytes.len());
    if taken >= 8 << 20 {
        tally.count("untaken answers that fitted the kernel's buffers");
    } else {
        tally.count("untaken answers cut");
    }
}
