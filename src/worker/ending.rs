//! How workers end, and how everything does.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::crew::Crew;
use super::post::{Dismissal, Post, What};
use super::probe;
use super::process::{self, Exit};
use super::slot::{Event, State};
use super::{Command, Outcome, stray};

/// How long the last lines of output are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two looks whether a group is empty.
const GROUP_STEP: Duration = Duration::from_millis(20);

impl Crew {
    /// A process has ended, could not be started, or an upstream was lost.
    pub(super) fn ended(&mut self, id: u64, how: Result<ExitStatus, String>) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let state = post.slot.state;
        let killed = post.live.as_ref().is_some_and(|live| live.killed);
        if let (Some(group), State::Draining, false, Ok(_)) = (post.pid(), state, killed, &how)
            && process::group_lives(group)
        {
            // Its children were told to end, too, and have the same time for it.
            return self.task(id, async move {
                while process::group_lives(group) {
                    sleep(GROUP_STEP).await;
                }
                What::Ended(how)
            });
        }
        let exit = match how {
            Ok(status) => {
                let now = process::oom_kills();
                let before = std::mem::replace(&mut self.oom_kills, now);
                let ooms = now.zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
                Some(Exit::new(status, killed, ooms))
            }
            Err(what) => {
                post.last = what.into();
                matches!(post.plan.command, Command::Wrap(_)).then(Exit::unstarted)
            }
        };
        self.bury(id, exit, killed);
        if state == State::Starting {
            self.fell(id);
        }
        self.feed(id, Event::Exited { hope: self.ever_ready || self.is_attached(id) });
        if let Some(post) = self.posts.get_mut(&id) {
            // Only now: the table's answer withdrew the seat.
            post.live = None;
        }
    }

    /// Clears away what an ended process leaves.
    fn bury(&mut self, id: u64, exit: Option<Exit>, killed: bool) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        post.tasks = JoinSet::new();
        if let Some(exit) = exit {
            let labels = [post.worker.to_string(), exit.kind.to_owned(), exit.status.clone()];
            self.metrics.worker_exits.with_label_values(&labels).inc();
            if exit.status != "not_started" && !(killed && post.slot.state == State::Starting) {
                post.last = exit.to_string().into();
            }
        }
        post.last_pid = None;
        let Some(live) = &mut post.live else { return };
        if let Some(group) = live.pid.take() {
            post.last_pid = Some(group);
            process::signal_group(group, Signal::KILL);
            self.guard.remove(group);
        }
        if let Some(place) = &live.place {
            self.places.release(place);
        }
    }

    /// Asks a worker to end: App Engine's `/_ah/stop` first, once, if it has served; then SIGTERM. SIGKILL follows when
    /// the time for both is over.
    pub(super) fn dismiss(&mut self, id: u64) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let (plan, worker) = (Arc::clone(&post.plan), post.worker);
        self.later(id, plan.stop_timeout, Event::StopTimedOut);
        let Some(post) = self.posts.get_mut(&id) else { return };
        let Some(live) = &mut post.live else { return };
        let (Some(request), Some(seat), Dismissal::Unasked) = (&plan.stop, &live.seat, live.dismissed) else {
            // While it is being asked, its SIGTERM is on its way.
            if live.dismissed != Dismissal::Asked {
                self.terminate(id);
            }
            return;
        };
        live.dismissed = Dismissal::Asked;
        let (request, address, limit) = (request.clone(), seat.address.clone(), plan.last_words());
        self.task(id, async move {
            if let Err(error) = probe::tell(&address, &request, limit).await {
                warn!(worker, %error, path = request.path, "worker did not answer that it is to stop");
            }
            What::Dismissed
        });
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self, id: u64) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let Some((live, group)) = post.live.as_mut().and_then(|live| live.pid.map(|pid| (live, pid))) else {
            return;
        };
        live.dismissed = Dismissal::Over;
        process::signal_group(group, Signal::TERM);
    }

    fn is_attached(&self, id: u64) -> bool {
        self.posts.get(&id).is_some_and(|post| matches!(post.plan.command, Command::Attach(_)))
    }

    /// Ends everything; `now` without waiting. Returns whether that was news.
    pub(super) fn stop(&mut self, now: bool) -> bool {
        match self.stopping {
            Some(true) => return false,
            Some(false) if !now => return false,
            Some(false) => {}
            None => {
                self.abandon();
                self.pool.close();
            }
        }
        let first = self.stopping.replace(now).is_none();
        if first {
            self.feed_all(Event::Stop);
        }
        if now {
            self.feed_all(Event::StopTimedOut);
        }
        true
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Nobody has asked for the end yet: workers may be replaced.
    pub(super) fn set_calm(&mut self, calm: bool) {
        self.calm = calm;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }

    /// The longest a worker may take to stop.
    pub(super) fn patience(&self) -> Duration {
        self.posts.values().map(|post| post.plan.stop_timeout).max().unwrap_or_default()
    }

    /// Whether it is over, and how.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.is_stopping() {
            return self.posts.is_empty().then_some(Outcome::Stopped);
        }
        let failed = |post: &Post| post.slot.state == State::Failed;
        let last = self.posts.values().next().map(|post| Arc::clone(&post.last))?;
        self.posts.values().all(failed).then_some(Outcome::NeverReady { last })
    }

    /// Nothing is left behind.
    pub(super) async fn finish(mut self) {
        self.pool.close();
        self.publish();
        if !self.starts.is_empty() {
            let strays = stray::kill_all(&self.token);
            if strays > 0 {
                warn!(strays, "killed processes that had left their worker's group");
            }
        }
        let _ = timeout(LAST_LINES, async { while self.pumps.join_next().await.is_some() {} }).await;
        self.output.flush().await;
        // With workers left, the guard is to act: it sees the end of its pipe.
        if self.posts.is_empty() {
            self.guard.dismiss().await;
        }
    }
}
