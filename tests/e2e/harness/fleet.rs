//! The fixture `workers`, an app whose every move a test can dictate, and what is known of its processes.

use std::ffi::OsString;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub use crate::packages::python;

use super::client::{Connection, Response};
use super::{App, Proxy, wait_for};

/// The command that runs a script of the fixture, ready as soon as Python can be.
pub fn script(words: &str) -> String {
    format!("{} -S -E {words}", python())
}

/// The fixture with so many workers, each on a port.
pub fn fleet(workers: usize) -> App {
    App::from("workers").arg("--upstream-cmd").arg(script("server.py {port}")).workers(workers)
}

/// The fixture with so many workers, each on a unix socket.
pub fn fleet_on_sockets(workers: usize) -> App {
    App::from("workers").arg("--upstream-cmd").arg(script("server.py unix:{socket}")).workers(workers)
}

impl App {
    /// `--workers N`.
    pub fn workers(self, count: usize) -> Self {
        self.args(["--workers", &count.to_string()])
    }

    /// The arguments so far.
    pub fn arguments(&self) -> &[OsString] {
        &self.args
    }
}

/// A worker as `/status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub slot: u64,
    pub pid: i32,
    pub state: String,
    pub address: String,
}

/// The workers in a `/status`.
pub fn workers_of(status: &Value) -> Vec<Worker> {
    let of = |worker: &Value| Worker {
        slot: worker["worker"].as_u64().unwrap_or_default(),
        pid: worker["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
        state: worker["state"].as_str().unwrap_or_default().to_owned(),
        address: worker["address"].as_str().unwrap_or_default().to_owned(),
    };
    status["workers"].as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

impl Proxy {
    /// Waits until exactly `count` workers are there and all are ready.
    #[track_caller]
    pub fn wait_workers(&self, count: usize) -> Vec<Worker> {
        workers_of(&self.wait_until(&format!("{count} workers are ready"), |status| {
            let all = workers_of(status);
            all.len() == count && all.iter().all(|worker| worker.state == "ready")
        }))
    }

    /// Waits until exactly `count` workers are there, all are ready, and none of them is one of `old`.
    #[track_caller]
    pub fn wait_other_workers(&self, count: usize, old: &[Worker]) -> Vec<Worker> {
        workers_of(&self.wait_until(&format!("{count} other workers are ready"), |status| {
            let all = workers_of(status);
            all.len() == count
                && all.iter().all(|worker| worker.state == "ready")
                && !all.iter().any(|new| old.iter().any(|old| old.pid == new.pid))
        }))
    }

    /// Waits until so many requests wait in the queue.
    #[track_caller]
    pub fn wait_queue(&self, count: u64) {
        self.wait_until(&format!("{count} requests wait"), |status| status["queue"]["waiting"] == count);
    }

    /// Waits until so many requests are at the workers.
    #[track_caller]
    pub fn wait_in_flight(&self, count: u64) {
        self.wait_until(&format!("{count} requests are at the workers"), |status| {
            status["queue"]["in_flight"] == count
        });
    }

    /// Lets everything go on that waits for the file `name`.
    pub fn open_gate(&self, name: &str) {
        std::fs::write(self.path().join(name), "").expect("a file");
    }

    /// Takes a file of the application folder away.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("the file was there");
    }

    /// One request, its answer awaited in the background.
    pub fn send(&self, method: &'static str, path: &str, body: &[u8]) -> Pending {
        let mut connection = self.connect();
        connection.request(method, path, &[], body);
        let path = path.to_owned();
        Pending(std::thread::spawn(move || {
            connection.response_to(method).map_err(|error| format!("{method} {path}: {error}"))
        }))
    }

    /// How many answers the proxy has made itself for `reason`.
    #[track_caller]
    pub fn generated(&self, reason: &str) -> f64 {
        self.metric(&format!("compat_proxy_responses_generated_total{{reason=\"{reason}\"}}"))
    }

    /// Fails unless the proxy has made `count` answers for `reason`: in the metric and in the access log, with `status`.
    #[track_caller]
    pub fn expect_reason(&self, reason: &str, status: u16, count: usize) {
        wait_for(
            &format!("{count} access lines with {reason}"),
            || self.access().iter().filter(|line| line["reason"] == reason).count() == count,
            || self.output(),
        );
        for line in self.access().iter().filter(|line| line["reason"] == reason) {
            assert_eq!(line["status"], status, "{line}");
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let counted = count as f64;
        assert!((self.generated(reason) - counted).abs() < 0.5, "{} {reason}", self.generated(reason));
    }

    /// Waits for the end, which must come within `seconds` with exit code 0, and returns how long it took.
    #[track_caller]
    pub fn expect_clean_end(&mut self, seconds: u64) -> std::time::Duration {
        let began = std::time::Instant::now();
        let code = self.wait_end().code();
        let took = began.elapsed();
        assert_eq!(code, Some(0), "{}", self.output());
        assert!(took < std::time::Duration::from_secs(seconds), "it took {took:?}\n{}", self.output());
        took
    }
}

/// An answer to come.
pub struct Pending(JoinHandle<Result<Response, String>>);

impl Pending {
    /// The answer, or how it failed.
    pub fn result(self) -> Result<Response, String> {
        self.0.join().expect("a thread")
    }

    /// The answer.
    #[track_caller]
    pub fn answer(self) -> Response {
        self.result().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.0.is_finished()
    }
}

/// Sends a signal to any process.
pub fn send_signal(pid: i32, signal: Signal) {
    // It may have ended already.
    let _ = kill_process(Pid::from_raw(pid).expect("a pid"), signal);
}

/// CPU time of a process so far, and of all its children that have ended and were buried.
pub fn cpu_time(pid: i32) -> (std::time::Duration, std::time::Duration) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a line").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // Linux tells them in hundredths of a second: fields 14 to 17 of proc(5), two of which are cut off.
    let time = |at: usize| std::time::Duration::from_millis((ticks(at) + ticks(at + 1)) * 10);
    (time(11), time(13))
}

/// Whether there is such a process, not counting one that is only waiting to be buried.
pub fn lives(pid: i32) -> bool {
    state_of(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The children of a process, dead ones included: pid and state.
pub fn children_of(parent: i32) -> Vec<(i32, char)> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    pids.filter_map(|pid| state_of(pid).filter(|(_, of)| *of == parent).map(|(state, _)| (pid, state)))
        .collect()
}

fn state_of(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut rest = stat.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// Whether somebody accepts at the first listener; a connection that gets no answer from the kernel is none.
pub fn accepts(proxy: &Proxy) -> bool {
    let limit = std::time::Duration::from_millis(300);
    match proxy.address().strip_prefix("unix:") {
        Some(_) => Connection::try_open(proxy.address()).is_ok(),
        None => std::net::TcpStream::connect_timeout(&proxy.socket_address(), limit).is_ok(),
    }
}
