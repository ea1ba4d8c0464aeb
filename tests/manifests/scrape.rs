//! One real scrape: the program over the demo app with two workers, after traffic of every kind, a crash and a reload.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{BINARY, path};

const DEADLINE: Duration = Duration::from_secs(60);

/// One line of `/metrics`.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) metric: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The first scrape of a proxy that nobody has asked anything.
pub(crate) static FIRST: LazyLock<Vec<Sample>> = LazyLock::new(|| SCRAPES.0.clone());
/// The last one.
pub(crate) static SCRAPE: LazyLock<Vec<Sample>> = LazyLock::new(|| SCRAPES.1.clone());

/// Both, made once for all tests.
static SCRAPES: LazyLock<(Vec<Sample>, Vec<Sample>)> = LazyLock::new(|| {
    let proxy = Proxy::start();
    proxy.wait("two workers are ready", |proxy| proxy.ready_workers() == 2);
    let first = parse(&get(&proxy.admin, "/metrics"));
    for target in
        ["/", "/static/style.css", "/static/none", "/admin/", "//admin/", "/a/../b", "/missing", "/error"]
    {
        // The statuses are other tests' business.
        let _ = get(&proxy.main, target);
    }
    let pid = proxy.status()["workers"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill(pid.expect("a worker has a pid"), Signal::KILL);
    proxy.wait("the worker is back", |proxy| {
        proxy.ready_workers() == 2 && proxy.status()["workers"][0]["restarts"].as_i64() > Some(0)
    });
    proxy.signal(Signal::HUP);
    proxy.wait("the reload is done", |proxy| proxy.status()["config"]["reloads"].as_i64() > Some(0));
    (first, parse(&get(&proxy.admin, "/metrics")))
});

struct Proxy {
    child: Child,
    main: String,
    admin: String,
}

impl Proxy {
    fn start() -> Self {
        let mut command = Command::new(BINARY);
        command.arg(path("tests/fixtures/apps/demo"));
        command.args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--workers=2", "--log-format=json"]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COMPAT_PROXY_") || name == "PORT" {
                command.env_remove(name);
            }
        }
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = follow(child.stderr.take().expect("a pipe"));
        let mut proxy = Self { child, main: String::new(), admin: String::new() };
        let mut seen = String::new();
        while proxy.main.is_empty() || proxy.admin.is_empty() {
            let line = lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no addresses in:\n{seen}"));
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let address = event["address"].as_str().unwrap_or_default().replace("http://", "");
            match event["msg"].as_str() {
                Some("listening") => proxy.main = address,
                Some("admin listening") => proxy.admin = address,
                _ => seen += &(line + "\n"),
            }
        }
        proxy
    }

    fn status(&self) -> Value {
        serde_json::from_str(&get(&self.admin, "/status")).unwrap_or_default()
    }

    fn ready_workers(&self) -> usize {
        let status = self.status();
        let workers = status["workers"].as_array();
        workers.map_or(0, |workers| workers.iter().filter(|worker| worker["state"] == "ready").count())
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < end, "waited in vain until {what}: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(i32::try_from(self.child.id()).expect("a pid"), signal);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The workers die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("the process is there");
}

/// Reads on for as long as the program writes, so that it never waits for us.
fn follow(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody listens any more: go on reading.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The body, whatever the status.
fn get(address: &str, target: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = ask().unwrap_or_else(|error| panic!("{address}{target}: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(head.starts_with("HTTP/1.1 "), "{target}: {head}");
    body.to_owned()
}

pub(crate) fn parse(text: &str) -> Vec<Sample> {
    let label = Regex::new(r#"(\w+)="((?:[^"\\]|\\.)*)""#).expect("a pattern");
    let sample = |line: &str| {
        let (metric, rest) = line.split_at(line.find(['{', ' '])?);
        let labels = label.captures_iter(rest).map(|found| (found[1].to_owned(), found[2].to_owned()));
        Some(Sample { metric: metric.to_owned(), labels: labels.collect() })
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}
