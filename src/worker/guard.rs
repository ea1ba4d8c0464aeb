//! The guard: a process of its own that ends the workers when the proxy dies without a chance to do so.
//!
//! The kernel kills a worker when its parent dies, but not what the worker has started. So one small process waits
//! at a pipe of which only the proxy holds the other end. Lines on it say which process groups exist (`+PID`,
//! `-PID`), which directories are ours (`d PATH`) and which token the workers carry (`t TOKEN`). At the end of the
//! input it kills all of them; after `q` it just ends. The proxy starts it again if it dies.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, PipeWriter, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;
use tokio::process::Child;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::{process, stray};

/// The hidden first argument with which our own executable is [`main`].
pub const WORD: &str = "__guard";
/// The first pause before another guard is started; doubled each time, as something may be wrong with starting it.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause. A guard that lived as long was a good one.
const AGAIN_MOST: Duration = Duration::from_secs(64);
/// How long a guard may take to leave.
const LEAVE: Duration = Duration::from_secs(1);
/// Rounds of killing what escaped, until none is found.
const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(25);

/// The guard's whole life. Call it first thing, before any thread is started, when the first argument is [`WORD`].
#[must_use]
pub fn main() -> ExitCode {
    watch(io::stdin().lock());
    ExitCode::SUCCESS
}

fn watch(input: impl BufRead) {
    let mut groups = BTreeSet::new();
    let (mut token, mut dirs) = (None, Vec::new());
    // A line that is not UTF-8 or a read error is the end, too: better to kill than to leave behind.
    for line in input.lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", pid)) => groups.extend(pid.parse::<u32>()),
            Some(("-", pid)) => groups.retain(|group| pid.parse() != Ok(*group)),
            Some(("t", text)) => token = Some(text.trim_start().to_owned()),
            Some(("d", path)) => dirs.push(PathBuf::from(path.trim_start())),
            Some(("q", _)) => return,
            _ => {}
        }
    }
    for group in groups {
        process::signal_group(group, Signal::KILL);
    }
    if let Some(token) = token {
        for _ in 0..ROUNDS {
            if stray::kill_all(&token) == 0 {
                break;
            }
            std::thread::sleep(ROUND);
        }
    }
    for dir in dirs {
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// The proxy's hold on its guard.
pub(super) struct Guard {
    command: Option<Vec<OsString>>,
    token: String,
    dirs: Vec<PathBuf>,
    groups: BTreeSet<u32>,
    running: Option<(Child, PipeWriter)>,
    /// When to try again if none is running.
    next: Instant,
    pause: Duration,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl Guard {
    /// Starts a guard with `command`; none means that there is never one.
    pub(super) fn new(command: Option<Vec<OsString>>, token: String) -> Self {
        let mut guard = Self {
            command,
            token,
            dirs: Vec::new(),
            groups: BTreeSet::new(),
            running: None,
            next: Instant::now(),
            pause: AGAIN,
        };
        guard.start();
        guard
    }

    fn start(&mut self) {
        let Some(command) = &self.command else { return };
        let now = Instant::now();
        self.pause = if now > self.next + AGAIN_MOST { AGAIN } else { self.pause };
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(AGAIN_MOST);
        match begin(command) {
            Ok(running) => self.running = Some(running),
            Err(error) => warn!(%error, "cannot start the guard: a killed proxy may leave processes behind"),
        }
        let mut text = format!("t {}\n", self.token);
        text.extend(self.dirs.iter().map(|dir| format!("d {}\n", dir.display())));
        text.extend(self.groups.iter().map(|group| format!("+{group}\n")));
        self.tell(&text);
    }

    /// What a starting worker writes its group to.
    pub(super) fn pipe(&self) -> Option<RawFd> {
        self.running.as_ref().map(|(_, pipe)| pipe.as_raw_fd())
    }

    /// The group exists: its process has said so on the pipe already, this is for the next guard.
    pub(super) fn add(&mut self, group: u32) {
        self.groups.insert(group);
    }

    /// No process of the group is left.
    pub(super) fn remove(&mut self, group: u32) {
        self.groups.remove(&group);
        self.tell(&format!("-{group}\n"));
    }

    /// A directory to remove when the proxy dies.
    pub(super) fn owns(&mut self, dir: Option<&Path>) {
        if let Some(dir) = dir.filter(|dir| !self.dirs.iter().any(|known| known == dir)) {
            self.dirs.push(dir.to_owned());
            self.tell(&format!("d {}\n", dir.display()));
        }
    }

    fn tell(&self, text: &str) {
        if let Some((_, mut pipe)) = self.running.as_ref().map(|(child, pipe)| (child, pipe)) {
            // A dead guard is noticed by its exit, and the next one is told everything.
            let _ = pipe.write_all(text.as_bytes());
        }
    }

    /// Resolves when the guard has died, or when it is time to try again. Cancel safe.
    pub(super) async fn lost(&mut self) {
        match &mut self.running {
            Some((child, _)) => {
                let _ = child.wait().await;
                warn!("the guard has died, starting another");
                self.running = None;
            }
            None if self.command.is_some() => sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Starts a new one after [`Guard::lost`], not more often than once a second.
    pub(super) fn renew(&mut self) {
        if self.running.is_none() && Instant::now() >= self.next {
            self.start();
        }
    }

    /// Ends the guard; nothing is left to guard.
    pub(super) async fn dismiss(mut self) {
        self.tell("q\n");
        if let Some((mut child, pipe)) = self.running.take() {
            drop(pipe);
            if timeout(LEAVE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

fn begin(command: &[OsString]) -> io::Result<(Child, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // A guard that was stopped must not stop us.
    fcntl_setfl(&writer, OFlags::NONBLOCK)?;
    Ok((process::spawn_guard(command, reader)?, writer))
}
