//! compat-proxy as process 1 of a process namespace, as it is in a container: `unshare` starts it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::client::{Connection, Response};
use super::fleet::{children_of, lives, send_signal};
use super::{App, BINARY, DEADLINE, wait_for};

const UNSHARE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// Whether namespaces may be made here.
pub fn available() -> bool {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// The proxy as process 1. Ends with everything in it when dropped.
pub struct Process1 {
    unshare: Child,
    pid: i32,
    app: App,
    address: String,
    log: Arc<Mutex<String>>,
}

impl Process1 {
    /// Starts, and waits until it answers.
    pub fn start(app: App) -> Self {
        let mut command = Command::new("unshare");
        command.args(UNSHARE).arg(BINARY).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--log-format", "json"]).args(app.arguments()).current_dir(app.path());
        command.env("TMPDIR", app.beside("tmp")).env_remove("PORT");
        let mut unshare = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare");
        let (address, log) = follow(unshare.stderr.take().expect("standard error"));
        let told = || log.lock().expect("the log").clone();
        let address = address.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error}: {}", told()));
        let parent = i32::try_from(unshare.id()).expect("a pid");
        let (pid, _) = children_of(parent).pop().expect("unshare has a child");
        let first = Self { unshare, pid, app, address, log: Arc::clone(&log) };
        wait_for("it answers", || first.get("/").status == 200, told);
        first
    }

    /// The process as it is known outside.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The application folder.
    pub fn app_dir(&self) -> PathBuf {
        self.app.path()
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let mut connection = Connection::open(&self.address);
        connection.request("GET", path, &[], b"");
        connection.response_to("GET").unwrap_or_else(|error| panic!("{error}: {:?}", self.log))
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        send_signal(self.pid, Signal::TERM);
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.unshare.try_wait().expect("a status") {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.log);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL; returns which processes of the namespace are left two seconds later.
    pub fn kill(mut self) -> BTreeSet<i32> {
        let mut family = BTreeSet::from([self.pid]);
        let mut next = vec![self.pid];
        while let Some(parent) = next.pop() {
            let children = children_of(parent);
            next.extend(children.iter().map(|(pid, _)| *pid));
            family.extend(children.iter().map(|(pid, _)| *pid));
        }
        assert!(family.len() > 3, "the test tests something: {family:?}");
        send_signal(self.pid, Signal::KILL);
        let _ = self.unshare.wait();
        let end = Instant::now() + Duration::from_secs(2);
        while family.iter().any(|pid| lives(*pid)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        family.retain(|pid| lives(*pid));
        family
    }
}

impl Drop for Process1 {
    fn drop(&mut self) {
        // --kill-child: process 1 dies with unshare, and everything with process 1.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Keeps everything that is printed; sends the address once it is told.
fn follow(stream: impl std::io::Read + Send + 'static) -> (Receiver<String>, Arc<Mutex<String>>) {
    let (sender, receiver) = channel();
    let log = Arc::<Mutex<String>>::default();
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["msg"] == "listening" {
                let address = event["address"].as_str().unwrap_or_default();
                let _ = sender.send(address.trim_start_matches("http://").to_owned());
            }
            let mut kept = kept.lock().expect("the log");
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    (receiver, log)
}
