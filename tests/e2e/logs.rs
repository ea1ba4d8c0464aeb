//! Nobody reads the log: service goes on, and what was not written is counted.

use std::fs::{File, OpenOptions};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::client::{Connection, Response};
use crate::harness::fleet::script;
use crate::harness::origin::Origin;
use crate::harness::{App, BINARY, DEADLINE, wait_for};

/// A proxy whose output goes where the test says; it listens on paths, as nobody can read on which port.
struct Mute {
    child: Child,
    app: App,
}

impl Mute {
    fn start(origin: &Origin, stdout: Stdio, stderr: Stdio) -> Self {
        let app = App::new().handlers("- url: /.*\n  script: main.app\n");
        Self::over(app, &["--upstream".to_owned(), origin.address()], stdout, stderr)
    }

    fn over(app: App, words: &[String], stdout: Stdio, stderr: Stdio) -> Self {
        let at = |name: &str| format!("unix:{}", app.beside(name).display());
        let child = Command::new(BINARY)
            .args(["--listen", &at("front"), "--admin", &at("admin")])
            .args(words)
            .args(["--log-format", "json"])
            .current_dir(app.path())
            .env_remove("PORT")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let mute = Self { child, app };
        wait_for(
            "it is ready",
            || mute.try_get("admin", "/readyz").is_some_and(|answer| answer.status == 200),
            String::new,
        );
        mute
    }

    fn open(&self, name: &str) -> Option<Connection> {
        Connection::try_open(&format!("unix:{}", self.app.beside(name).display())).ok()
    }

    fn try_get(&self, name: &str, path: &str) -> Option<Response> {
        let mut connection = self.open(name)?;
        connection.request("GET", path, &[("Connection", "close")], b"");
        connection.response_to("GET").ok()
    }

    fn dropped(&self, stream: &str) -> u64 {
        let text = self.try_get("admin", "/metrics").expect("metrics").text();
        let series = format!("compat_proxy_log_dropped_total{{stream=\"{stream}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).expect("the series")
    }

    /// So many requests, each answered with 200; the slowest of them.
    fn ask(&self, count: usize, target: &str) -> Duration {
        let mut connection = self.open("front").expect("it accepts");
        let mut slowest = Duration::ZERO;
        for _ in 0..count {
            let began = Instant::now();
            connection.request("GET", target, &[], b"");
            assert_eq!(connection.response_to("GET").expect("an answer").status, 200);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    }

    /// SIGTERM ends it cleanly and soon.
    fn stop(mut self) {
        kill_process(
            Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid"),
            Signal::TERM,
        )
        .expect("a signal");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                assert_eq!(status.code(), Some(0));
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
                return;
            }
            assert!(began.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_whose_reader_has_gone_stops_nothing_and_is_counted() {
    let origin = Origin::start();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mute = Mute::start(&origin, writer.try_clone().expect("a pipe").into(), writer.into());
    drop(reader);
    mute.ask(500, "/x");
    wait_for(
        "all lines are counted as dropped",
        || mute.dropped("access") == 500,
        || mute.dropped("access").to_string(),
    );
    mute.stop();
}

#[test]
fn a_log_on_a_full_disk_stops_nothing_and_is_counted() {
    let origin = Origin::start();
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mute = Mute::start(&origin, full().into(), full().into());
    mute.ask(500, "/x");
    wait_for(
        "all lines are counted as dropped",
        || mute.dropped("access") == 500,
        || mute.dropped("access").to_string(),
    );
    assert!(mute.dropped("events") > 0);
    mute.stop();
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_is_counted() {
    let origin = Origin::echoing();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mute = Mute::start(&origin, writer.into(), File::create("/dev/null").expect("/dev/null").into());
    // More than may wait: a line for each of these has more than ten thousand bytes.
    let target = format!("/{}", "x".repeat(10_000));
    let slowest = mute.ask(2500, &target);
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let dropped = mute.dropped("access");
    assert!((300..2500).contains(&dropped), "{dropped} lines were dropped");
    println!("slowest of 2500 requests {slowest:?}, {dropped} lines dropped");
    mute.stop();
    drop(reader);
}

#[test]
fn what_workers_print_on_a_full_disk_stops_nothing_and_is_counted() {
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let words =
        ["--upstream-cmd".to_owned(), script("server.py {port}"), "--workers".to_owned(), "1".to_owned()];
    let mute = Mute::over(App::from("workers"), &words, full().into(), full().into());
    mute.ask(200, "/print/stdout/hello");
    mute.ask(100, "/print/stderr/hello");
    wait_for(
        "all lines are counted as dropped",
        || mute.dropped("workers") == 300,
        || mute.dropped("workers").to_string(),
    );
    mute.stop();
}
