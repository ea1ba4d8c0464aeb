//! Everything at once, for as long as told: traffic of all kinds, workers that die and hang, reloads, recycling, slow
//! clients, drains, an app that restarts behind attach mode. Not part of `cargo test`:
//!
//! ```text
//! cargo test --release --test soak -- 600        # seconds; SOAK_SECONDS does too; 60 if not told
//! ```
//!
//! Prints requests, errors by kind, memory and descriptors, and exits with 1 when a promise was broken. What takes its
//! time by nature (an idle connection's 75 seconds, a silent body's 30) is part of it when the time suffices.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no outside, and half of the harness is for the suite"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

#[path = "../e2e"]
mod e2e {
    pub mod harness;
}
mod patience;
mod tally;
mod traffic;
mod trouble;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::harness::crowd::{descriptors, memory, open_files};
use e2e::harness::fleet::script;
use e2e::harness::{App, Proxy};
use tally::Tally;

/// Workers of the app.
const WORKERS: usize = 3;
/// Between two looks at memory and descriptors.
const LOOK: Duration = Duration::from_secs(5);

const HANDLERS: &str = r"
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /.*
  script: main.app
";

fn main() -> ExitCode {
    // `cargo test -- --list` and the like ask every test binary.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let told = words.next().or_else(|| std::env::var("SOAK_SECONDS").ok());
    let seconds = match told.as_deref().map(str::parse) {
        None => 60,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            println!("`{}` is not a number of seconds", told.unwrap_or_default());
            return ExitCode::from(2);
        }
    };
    open_files();
    soak(Duration::from_secs(seconds))
}

/// The app with three workers, everything switched on.
pub fn start() -> Proxy {
    App::from("workers")
        .handlers(HANDLERS)
        .file("static/a.css", "a{}")
        .file("static/large.bin", vec![b'x'; 8 << 20])
        .arg("--upstream-cmd")
        .arg(script("server.py {port}"))
        .args(["--workers", &WORKERS.to_string(), "--h2c", "--request-timeout", "8s"])
        .args(["--max-requests", "5000", "--max-request-body", "2GiB", "--max-connections", "5000"])
        .args(["--access-log", "errors"])
        .start()
}

fn soak(time: Duration) -> ExitCode {
    let tally = Arc::new(Tally::new(time));
    let proxy = start();
    proxy.wait_workers(WORKERS);
    println!("soak: {} seconds, proxy {} at {}", time.as_secs(), proxy.pid(), proxy.address());
    let mut memories = Vec::new();
    let files = descriptors(proxy.pid());
    std::thread::scope(|scope| {
        traffic::start(scope, &proxy, &tally);
        patience::start(scope, &proxy, &tally);
        trouble::start(scope, &proxy, &tally);
        while !tally.is_over() {
            std::thread::sleep(LOOK.min(tally.left()));
            let now = (memory(proxy.pid(), "Rss") >> 20, descriptors(proxy.pid()));
            println!("{:5} s: {} MiB, {} descriptors, {}", tally.age().as_secs(), now.0, now.1, tally.line());
            memories.push(now.0);
        }
    });
    afterwards(&proxy, &tally, files, &memories);
    if tally.report() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// When everybody has gone home, everything must be as at the start.
fn afterwards(proxy: &Proxy, tally: &Tally, files: usize, memories: &[u64]) {
    let settled = |what: &str, holds: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
        if !holds() {
            tally.broke(format!("afterwards: {what}"));
        }
    };
    settled("all workers are ready", &|| {
        let status = proxy.status();
        let ready = |all: &Vec<serde_json::Value>| {
            all.len() == WORKERS && all.iter().all(|one| one["state"] == "ready")
        };
        status["workers"].as_array().is_some_and(ready)
    });
    settled("nothing is in flight or waits", &|| {
        let status = proxy.status();
        status["queue"]["in_flight"] == 0 && status["queue"]["waiting"] == 0
    });
    settled("no request is counted as handled", &|| {
        proxy.metric("compat_proxy_http_requests_in_flight") < 0.5
    });
    settled("connections are closed", &|| proxy.metric("compat_proxy_http_connections") < 1.5);
    settled("descriptors are closed", &|| descriptors(proxy.pid()) <= files + 16);
    if proxy.metric("compat_proxy_panics_total") > 0.0 {
        tally.broke(format!("it panicked\n{}", proxy.output()));
    }
    // Half of the time is for every buffer to have been made once.
    let (early, late) = memories.split_at(memories.len() / 2);
    let most = |half: &[u64]| half.iter().copied().max().unwrap_or(0);
    println!("memory: at most {} MiB in the first half, {} MiB in the second", most(early), most(late));
    println!("descriptors: {files} at the start, {} at the end", descriptors(proxy.pid()));
    if !early.is_empty() && most(late) > most(early) + most(early) / 4 + 32 {
        tally.broke("memory grew without end".to_owned());
    }
    tally.over.store(true, Ordering::SeqCst);
}
