//! A folder, the real binary over it, and what it says: every end-to-end test begins with an [`App`] and gets a
//! [`Proxy`]. `client` speaks HTTP byte by byte, `origin` is the app behind the proxy in attach mode, `h2c` is a
//! client of cleartext HTTP/2.
//!
//! Nothing here sleeps for luck: [`wait_for`] asks until a condition holds or a deadline passes, and every socket
//! has a time-out. A [`Proxy`] that is dropped is killed, and a process of its family that is left fails the test.

pub mod browser;
pub mod client;
pub mod crowd;
pub mod fleet;
pub mod h2c;
pub mod load;
pub mod namespaces;
pub mod origin;
pub mod prometheus;
pub mod pythons;
pub mod scripted;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use client::{Connection, Response};
use origin::Origin;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_compat-proxy");
/// How long a condition may take to hold. Generous: two cores may be shared with a whole build.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Marks every process of one test, so that the ones left behind can be found.
const MARK: &str = "COMPAT_PROXY_E2E_MARK";

/// Asks `ready` until it holds; panics with `what` and `context` after the deadline.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool, context: impl FnOnce() -> String) {
    let end = Instant::now() + DEADLINE;
    while !ready() {
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain until {what}\n{}", context());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An application folder and how the proxy is started over it.
pub struct App {
    folder: TempDir,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
}

impl App {
    /// An empty folder; give it an `app.yaml` with [`App::yaml`].
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("app")).expect("a folder for the app");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder for temporary files");
        Self { folder, args: Vec::new(), env: BTreeMap::new() }
    }

    /// A copy of a folder beneath `tests/fixtures/apps`.
    pub fn from(fixture: &str) -> Self {
        let app = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apps").join(fixture);
        copy(&from, &app.path());
        app
    }

    /// Where the application lies.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// A path beside the application, for sockets and the like.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes app.yaml.
    pub fn yaml(self, text: &str) -> Self {
        self.file("app.yaml", text)
    }

    /// An app.yaml of a classic app with these handlers (indented as a list at column 0).
    pub fn handlers(self, handlers: &str) -> Self {
        let text = format!(
            "runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n{}\n",
            handlers.trim_matches('\n')
        );
        self.yaml(&text)
    }

    /// Writes a file beneath the application folder.
    pub fn file(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, contents).expect("a file");
        self
    }

    /// A symbolic link in the application folder.
    pub fn link(self, path: &str, target: impl AsRef<Path>) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::os::unix::fs::symlink(target, path).expect("a link");
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Attach mode before this origin.
    pub fn upstream(self, origin: &Origin) -> Self {
        let address = origin.address();
        self.args(["--upstream", &address])
    }

    /// Starts, and waits until it is ready.
    pub fn start(self) -> Proxy {
        let proxy = self.launch();
        proxy.wait_ready();
        proxy
    }

    /// Starts, and waits until it listens.
    pub fn launch(self) -> Proxy {
        Proxy::spawn(self)
    }

    /// Runs the binary to its end with exactly `args` in the application folder; kills it after the deadline.
    pub fn run(&self, args: &[&str]) -> Finished {
        let mark = mark();
        let mut command = self.command(&mark);
        command.args(args).args(&self.args);
        let child = command.spawn().expect("the binary starts");
        finish(child, &mark, args)
    }

    fn command(&self, mark: &str) -> Command {
        let mut command = Command::new(BINARY);
        let inherited = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("COMPAT_PROXY_")
                || ["PORT", "WEB_CONCURRENCY", "MODULE_YAML_PATH", "GOOGLE_CLOUD_PROJECT"].contains(&&*name)
        });
        for (name, _) in inherited {
            command.env_remove(name);
        }
        command
            .current_dir(self.path())
            .env("TMPDIR", self.beside("tmp"))
            .env("RUST_BACKTRACE", "1")
            .env(MARK, mark)
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn mark() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes that carry `mark`: pid and command line.
fn family(mark: &str) -> Vec<(i32, String)> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let state = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if !state.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z') {
                found.push((pid, line));
            }
        }
    }
    found
}

/// A command that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// What was typed.
    pub args: Vec<String>,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails with everything that was printed unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{:?}: {self:#?}", self.args);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Standard output as one JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        self.stdout.lines().map(parse).collect()
    }
}

fn finish(mut child: Child, mark: &str, args: &[&str]) -> Finished {
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let err = read(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let end = Instant::now() + DEADLINE;
    let mut status = child.try_wait().expect("a status");
    while status.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        status = child.try_wait().expect("a status");
    }
    let hung = status.is_none();
    if hung {
        let _ = child.kill();
        let _ = child.wait();
    }
    let left = family(mark);
    end_all(&left);
    let done = Finished {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        code: status.and_then(|status| status.code()),
        stdout: out.join().expect("standard output"),
        stderr: err.join().expect("standard error"),
    };
    assert!(!hung, "still running after {DEADLINE:?}: {done:#?}");
    assert!(left.is_empty(), "processes were left running: {left:?}\n{done:#?}");
    done
}

fn end_all(processes: &[(i32, String)]) {
    for (pid, _) in processes {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}

/// A running compat-proxy.
pub struct Proxy {
    app: App,
    child: Option<Child>,
    mark: String,
    stdout: Lines,
    stderr: Lines,
    addresses: Vec<String>,
    admin: String,
}

impl Proxy {
    fn spawn(app: App) -> Self {
        let mark = mark();
        let mut command = app.command(&mark);
        if !app.args.iter().any(|arg| arg == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !app.args.iter().any(|arg| arg == "--log-format") {
            command.args(["--log-format", "json"]);
        }
        if !app.args.iter().any(|arg| arg == "--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let mut child = command.args(&app.args).spawn().expect("the binary starts");
        let stdout = collect(child.stdout.take().expect("standard output"));
        let stderr = collect(child.stderr.take().expect("standard error"));
        let mut proxy = Self {
            app,
            child: Some(child),
            mark,
            stdout,
            stderr,
            addresses: Vec::new(),
            admin: String::new(),
        };
        proxy.await_listening();
        proxy
    }

    fn await_listening(&mut self) {
        // What is told in another format is known from the arguments.
        let told = |option: &str| {
            let at = self.app.args.iter().position(|arg| arg == option)?;
            Some(self.app.args.get(at + 1)?.to_string_lossy().into_owned())
        };
        if told("--log-format").is_some_and(|format| format != "json") {
            self.addresses = vec![told("--listen").expect("a path to listen on")];
            self.admin = told("--admin").expect("a path for the admin listener");
            return;
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let events = self.events();
            let address = |event: &Value| {
                event["address"].as_str().map(|url| url.trim_start_matches("http://").to_owned())
            };
            let of = |message: &str| -> Vec<String> {
                events.iter().filter(|event| event["msg"] == message).filter_map(address).collect()
            };
            if let [admin] = of("admin listening").as_slice() {
                self.admin.clone_from(admin);
                self.addresses = of("listening");
                return;
            }
            let over = self.child.as_mut().and_then(|child| child.try_wait().expect("a status"));
            assert!(over.is_none(), "it ended with {over:?} before it listened\n{}", self.output());
            assert!(Instant::now() < end, "it does not listen after {DEADLINE:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The first `--listen` address: `127.0.0.1:PORT` or `unix:/path`.
    pub fn address(&self) -> &str {
        self.addresses.first().expect("a listen address")
    }

    /// All `--listen` addresses.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The first `--listen` address, which is TCP.
    pub fn socket_address(&self) -> SocketAddr {
        self.address().parse().expect("a TCP address")
    }

    /// The admin address.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// The application folder.
    pub fn path(&self) -> PathBuf {
        self.app.path()
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).expect("it runs")
    }

    /// Everything it printed so far, for a failing test.
    pub fn output(&self) -> String {
        let join = |lines: &Lines| lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        format!("--- stdout\n{}\n--- stderr\n{}\n---", join(&self.stdout), join(&self.stderr))
    }

    /// Lines of standard output: access lines and what workers print there.
    pub fn stdout_lines(&self) -> Vec<String> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines of standard error: events and what workers print there.
    pub fn stderr_lines(&self) -> Vec<String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Events: the JSON lines of standard error.
    pub fn events(&self) -> Vec<Value> {
        self.stderr_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Events with this message.
    pub fn events_named(&self, message: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["msg"] == message).collect()
    }

    /// Access lines: the JSON lines of standard output that have a status.
    pub fn access(&self) -> Vec<Value> {
        let lines = self.stdout_lines();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line.get("status").is_some()).collect()
    }

    /// Waits for an access line that `wanted` likes, and returns it.
    pub fn wait_access(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_for(
            &format!("there is an access line: {what}"),
            || {
                found = self.access().into_iter().find(&wanted);
                found.is_some()
            },
            || self.output(),
        );
        found.expect("just found")
    }

    /// Waits for an event that `wanted` likes, and returns it.
    pub fn wait_event(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_for(
            &format!("there is an event: {what}"),
            || {
                found = self.events().into_iter().find(&wanted);
                found.is_some()
            },
            || self.output(),
        );
        found.expect("just found")
    }

    /// Waits until `/readyz` says 200.
    pub fn wait_ready(&self) {
        wait_for(
            "it is ready",
            || self.try_admin("/readyz").is_some_and(|answer| answer.status == 200),
            || self.output(),
        );
    }

    /// Waits until `/status` looks as `wanted` wants it, and returns it.
    pub fn wait_until(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = self.try_admin("/status") {
                last = answer.json();
                if wanted(&last) {
                    return last;
                }
            }
            assert!(Instant::now() < end, "waited in vain until {what}: {last:#}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A new connection to the first listener.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// `GET path` on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut connection = self.connect();
        connection.request(method, path, headers, body);
        connection
            .response_to(method)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.output()))
    }

    /// Sends bytes on a connection of its own and reads one answer (to a GET).
    #[track_caller]
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Response {
        let bytes = bytes.as_ref();
        let mut connection = self.connect();
        connection.send(bytes);
        connection.response_to("GET").unwrap_or_else(|error| {
            panic!("{:?}: {error}\n{}", String::from_utf8_lossy(bytes), self.output())
        })
    }

    /// `GET path` on the admin listener; none when nobody answers.
    pub fn try_admin(&self, path: &str) -> Option<Response> {
        let mut connection = Connection::try_open(&self.admin).ok()?;
        connection.request("GET", path, &[("Connection", "close")], b"");
        connection.response_to("GET").ok()
    }

    /// `GET path` on the admin listener.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Response {
        self.try_admin(path).unwrap_or_else(|| panic!("no answer to {path}\n{}", self.output()))
    }

    /// `/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// The value of one series as it stands in `/metrics`, for example `name{a="b"}`; 0 when it is not there.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    /// The sum of all series of `name` whose labels contain every one of `labels` (`a="b"`).
    #[track_caller]
    pub fn metric_sum(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").text();
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            labels.iter().all(|label| found.contains(label)).then(|| value.trim().parse::<f64>().ok())?
        });
        series.sum()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a pid");
        kill_process(pid, signal).expect("a signal is delivered");
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Writes a file beneath the application folder, in one step as editors do.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        let aside = path.with_extension("new");
        std::fs::write(&aside, contents).expect("a file");
        std::fs::rename(aside, path).expect("a rename");
    }

    /// Whether the process ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a status")
    }

    /// Waits for the end; panics after the deadline.
    pub fn wait_end(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "it still runs after {DEADLINE:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, the exit code, and everything it printed.
    pub fn terminate(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let status = self.wait_end();
        (status.code(), self.output())
    }

    /// The processes it and its workers consist of: pid and command line.
    pub fn family(&self) -> Vec<(i32, String)> {
        family(&self.mark)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let end = Instant::now() + Duration::from_secs(5);
        let mut left = family(&self.mark);
        while !left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
            left = family(&self.mark);
        }
        end_all(&left);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "processes outlived the proxy: {left:?}\n{}", self.output());
        }
    }
}

/// Runs the binary without a folder of its own.
pub fn run(args: &[&str]) -> Finished {
    App::new().run(args)
}
