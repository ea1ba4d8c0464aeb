//! Many clients at once, slow ones, idle ones, and more than there are descriptors: the others are served as ever, and
//! memory and processor time stay within bounds.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::client::Connection;
use crate::harness::crowd::{Crowd, Manner, descriptors, memory, open_files, processor_time};
use crate::harness::fleet::fleet;
use crate::harness::load::{Ask, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

const MIB: u64 = 1024 * 1024;

fn app(origin: &Origin) -> App {
    App::new()
        .handlers("- url: /static\n  static_dir: static\n- url: /.*\n  script: main.app\n")
        .file("static/a.css", "a{}")
        .upstream(origin)
}

#[test]
fn slow_clients_by_the_hundred_do_not_slow_the_others() {
    let proxy = fleet(2).start();
    let load = Load::start(&proxy, 8, Ask::mixed);
    load.wait_answered(200);
    let crowd = Crowd::gather(
        proxy.socket_address(),
        &[
            (500, Manner::Head),
            (50, Manner::Body(1_000_000)),
            (50, Manner::Body(50_000)),
            (60, Manner::Reader("/echo/x/20000000".to_owned())),
        ],
    );
    // Long enough for heads to run out of time and for those who were cut to come back.
    std::thread::sleep(Duration::from_secs(11));
    let waiting = proxy.metric("compat_proxy_http_connections");
    let report = load.stop();
    let returned = crowd.returned.load(Ordering::SeqCst);
    drop(crowd);
    println!(
        "with {waiting} slow ones, {returned} times turned away: p50 {:?}, p99 {:?}, {report}",
        report.percentile(50),
        report.percentile(99)
    );
    report.expect_all_good(&proxy);
    assert!(waiting > 500.0, "the crowd was there: {waiting}");
    assert!(report.percentile(99) < Duration::from_secs(1), "p99 {:?}, {report}", report.percentile(99));
}

/// Connections that are open and silent, some of which have made a request before.
fn idle(proxy: &Proxy, count: usize) -> Vec<Connection> {
    let open = |number: usize| {
        let mut connection = proxy.connect();
        if number.is_multiple_of(2) {
            connection.request("GET", "/static/a.css", &[], b"");
            assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
        }
        connection
    };
    (0..count).map(open).collect()
}

#[test]
fn idle_connections_cost_little_and_leave_nothing() {
    let origin = Origin::start();
    // Both ends are counted: half of them in this process.
    let count = 10_000.min(open_files() / 3 * 2);
    let proxy = app(&origin).args(["--max-connections", "20000"]).start();
    assert_eq!(proxy.get("/static/a.css").status, 200);
    let (before, files) = (memory(proxy.pid(), "Pss"), descriptors(proxy.pid()));
    let held = idle(&proxy, count);
    wait_for(
        "all are in",
        || proxy.metric("compat_proxy_http_connections") >= count as f64,
        || proxy.output(),
    );
    let each = (memory(proxy.pid(), "Pss").saturating_sub(before)) / count as u64;
    let began = Instant::now();
    assert_eq!(proxy.get("/x").status, 200);
    let took = began.elapsed();
    let spent = processor_time(proxy.pid());
    std::thread::sleep(Duration::from_secs(1));
    let busy = processor_time(proxy.pid()) - spent;
    println!(
        "{count} idle connections cost {each} bytes each; a request beside them takes {took:?}; in a second they use {busy:?}"
    );
    assert!(each < 40 * 1024, "{each} bytes for each idle connection");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(busy < Duration::from_millis(300), "{busy:?} in a second, for nothing");
    drop(held);
    wait_for(
        "their descriptors are closed",
        || descriptors(proxy.pid()) <= files + 4,
        || format!("{} of {files}", descriptors(proxy.pid())),
    );
}

#[test]
fn without_descriptors_nothing_crashes_or_spins_and_all_is_well_afterwards() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-connections", "10000"]).start();
    assert_eq!(proxy.get("/x").status, 200);
    let files = descriptors(proxy.pid());
    let few = Some(files as u64 + 60);
    let pid = Pid::from_raw(proxy.pid()).expect("a pid");
    let before =
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: few, maximum: few }).expect("a limit");
    // More connections than descriptors: the kernel accepts them, the proxy cannot.
    let mut held: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(proxy.socket_address()).expect("the kernel accepts")).collect();
    wait_for(
        "descriptors have run out",
        || descriptors(proxy.pid()) >= files + 60,
        || format!("{}", descriptors(proxy.pid())),
    );
    let spent = processor_time(proxy.pid());
    std::thread::sleep(Duration::from_secs(3));
    let busy = processor_time(proxy.pid()) - spent;
    println!("without descriptors it used {busy:?} of processor time in 3 s");
    assert!(busy < Duration::from_millis(600), "{busy:?} in 3 s");
    // Who is in is served what needs no descriptor, and told the truth about what does.
    let mut asked = 0;
    for stream in held.drain(..40) {
        let mut connection = Connection::over(stream);
        connection.read_timeout(Duration::from_millis(1500));
        connection.request("GET", "/y", &[], b"");
        if let Ok(answer) = connection.response_to("GET") {
            asked += 1;
            assert!(matches!(answer.status, 200 | 502 | 503), "{answer}");
            // An error ends the connection.
            if answer.header("connection") != Some("close") {
                connection.request("GET", "/static/a.css", &[], b"");
                let answer = connection.response_to("GET").expect("an answer");
                assert!(matches!(answer.status, 200 | 503), "{answer}");
            }
        }
    }
    assert!(asked > 10, "{asked} were answered\n{}", proxy.output());
    // They leave, and everything is as before.
    drop(held);
    let _ = prlimit(Some(pid), Resource::Nofile, before);
    wait_for(
        "it serves again",
        || {
            Connection::try_open(proxy.address()).is_ok_and(|mut connection| {
                connection.read_timeout(Duration::from_secs(2));
                connection.request("GET", "/x", &[], b"");
                connection.response_to("GET").is_ok_and(|answer| answer.status == 200)
            })
        },
        || proxy.output(),
    );
    wait_for(
        "descriptors are back",
        || descriptors(proxy.pid()) <= files + 8,
        || format!("{}", descriptors(proxy.pid())),
    );
    proxy.wait_ready();
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").status, 200);
        assert_eq!(proxy.get("/static/a.css").status, 200);
    }
    assert_eq!(proxy.metric("compat_proxy_panics_total"), 0.0);
    assert_eq!(proxy.terminate().0, Some(0));
}

#[test]
fn memory_stays_flat_while_much_streams_through() {
    let origin = Origin::start();
    let proxy = app(&origin).args(["--max-request-body", "2GiB"]).start();
    let size = 256 * MIB;
    // Once, so that every buffer has been made.
    assert_eq!(proxy.get("/big/1000000").body.len(), 1_000_000);
    let before = memory(proxy.pid(), "Rss");
    let mut most = before;
    for path in ["/big", "/chunks"] {
        let mut connection = proxy.connect();
        connection.request("GET", &format!("{path}/{size}"), &[], b"");
        assert_eq!(connection.head().expect("a head").status, 200);
        let mut left = size;
        while left > 0 {
            let now = left.min(4 * MIB);
            connection.exactly(usize::try_from(now).expect("small")).expect("the body");
            left -= now;
            most = most.max(memory(proxy.pid(), "Rss"));
        }
    }
    let piece = vec![b'x'; 4 << 20];
    for chunked in [false, true] {
        let mut connection = proxy.connect();
        let length = size.to_string();
        let framing =
            if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", length.as_str()) };
        connection.request("POST", "/size", &[framing], b"");
        for _ in 0..size / (4 * MIB) {
            if chunked {
                connection.try_send(format!("{:x}\r\n", piece.len())).expect("the upload goes on");
            }
            connection.try_send(&piece).expect("the upload goes on");
            if chunked {
                connection.try_send("\r\n").expect("the upload goes on");
            }
            most = most.max(memory(proxy.pid(), "Rss"));
        }
        if chunked {
            connection.send("0\r\n\r\n");
        }
        assert_eq!(connection.response_to("POST").expect("an answer").text(), length);
    }
    let grown = most - before;
    println!("memory grew by {} KiB while four times {} MiB streamed", grown / 1024, size / MIB);
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
}
