//! The supervisor with real processes. Nothing sleeps for luck: every test waits for what it wants to see.

mod attach;
mod death;
mod lives;
mod rolls;

use std::future::Future;
use std::process::{Command as Program, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::balance::{Limits, Pool};
use crate::drain::Stage;
use crate::telemetry::metrics::Metrics;

use super::*;

/// Answers everything on a unix socket, and says what it was given.
const APP: &str = r"
import os, socket, sys
print('worker', os.environ['COMPAT_PROXY_WORKER'], os.environ.get('PORT'), os.environ.get('EXTRA'), os.getcwd())
sys.stdout.flush()
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(64)
while True:
    c, _ = s.accept()
    if c.recv(9999):
        c.sendall(b'HTTP/1.0 %d X\r\n\r\n' % int(os.environ.get('STATUS', '200')))
    c.close()
";

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(30);

fn wrap(words: &[&str]) -> Plan {
    Plan {
        command: Command::Wrap(Template::from_words(words).expect("valid command")),
        workers: 2,
        app_dir: "/".into(),
        env: Vec::new(),
        checks: Vec::new(),
        stop: None,
        pulse: Request { path: "/".into(), headers: vec![] },
        silence: Duration::from_secs(60),
        start_timeout: Duration::from_secs(20),
        stop_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
        max_requests: None,
        max_lifetime: None,
        max_rss: None,
    }
}

fn app() -> Plan {
    wrap(&["python3", "-S", "-c", APP, "{socket}"])
}

/// A supervisor at work.
struct Fleet {
    handle: Handle,
    pool: Pool,
    metrics: Arc<Metrics>,
    stage: watch::Sender<Stage>,
    lines: Arc<Mutex<Vec<(usize, String)>>>,
    run: JoinHandle<Outcome>,
}

impl Fleet {
    fn of(plan: Plan) -> Self {
        Self::with(plan, None, false)
    }

    fn with(plan: Plan, guard: Option<Vec<OsString>>, reap: bool) -> Self {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let limits = Limits { concurrency: 4, queue_depth: 100, queue_timeout: LONG };
        let pool = Pool::new(limits, Arc::clone(&metrics));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let sink: Sink = Arc::new(move |line: Line<'_>| {
            kept.lock().expect("no panic").push((line.slot, String::from_utf8_lossy(line.text).into_owned()));
        });
        let surroundings = Surroundings { sink, guard, reap, private: Vec::new() };
        let (supervisor, handle) =
            supervisor(plan, pool.clone(), Arc::clone(&metrics), surroundings).expect("a private directory");
        let (stage, seen) = watch::channel(Stage::Running);
        let run = tokio::spawn(supervisor.run(seen));
        Self { handle, pool, metrics, stage, lines, run }
    }

    async fn until(&self, what: &str, holds: impl Fn(&[WorkerStatus]) -> bool) -> Vec<WorkerStatus> {
        until(what, async || Some(self.handle.status()).filter(|status| holds(status))).await
    }

    async fn all_ready(&self, count: usize) -> Vec<WorkerStatus> {
        self.until("all are ready", |all| {
            all.len() == count && all.iter().all(|one| one.state == State::Ready)
        })
        .await
    }

    async fn stop(self) -> Outcome {
        self.stage.send_replace(Stage::Stopping);
        self.over().await
    }

    async fn over(self) -> Outcome {
        tokio::time::timeout(LONG, self.run).await.expect("it ends").expect("no panic")
    }
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < LONG, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pids(status: &[WorkerStatus]) -> Vec<u32> {
    status.iter().filter_map(|one| one.pid).collect()
}

/// A process that is there and not a zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn kill(pid: u32) {
    let killed = Program::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    assert!(killed.expect("kill runs").success());
}
