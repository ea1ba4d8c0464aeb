//! Brings a worker to life, and sets the watchers and timers of its life.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::balance::{Address, Pipes, Seat};
use crate::telemetry::metrics::Metrics;

use super::command::Template;
use super::crew::Crew;
use super::output::{Source, Stream};
use super::post::{Dismissal, Ears, Live, News, What, Why, spread, spread_time};
use super::probe::{self, Check, Upstream};
use super::slot::{Event, State};
use super::{Command, Plan, process, pulse, stray};

/// Ready for so long, a worker is trusted again.
const SETTLED: Duration = Duration::from_secs(10);
/// Between two looks at an attached upstream.
const LOOK: Duration = Duration::from_secs(1);
/// Between the first of them.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// The series of a slot, at zero.
pub(super) fn announce(metrics: &Metrics, worker: usize, plan: &Plan) {
    let wraps = matches!(plan.command, Command::Wrap(_));
    let reasons = Why::ALL.map(Why::word);
    metrics.begin_worker(worker, if wraps { &reasons } else { &[] });
}

impl Crew {
    /// Starts the process of a post, or begins to look at its upstream.
    pub(super) fn start(&mut self, id: u64) {
        let generation = self.number();
        let Some(post) = self.posts.get_mut(&id) else { return };
        post.generation = generation;
        let (worker, plan) = (post.worker, Arc::clone(&post.plan));
        let why = std::mem::replace(&mut post.why, Why::Crash);
        let starts = self.starts.entry(worker).or_default();
        *starts += 1;
        if *starts == 1 {
            announce(&self.metrics, worker, &plan);
        }
        match &plan.command {
            Command::Wrap(template) => {
                self.metrics
                    .worker_starts
                    .with_label_values(&[worker.to_string().as_str(), why.word()])
                    .inc();
                if let Err(error) = self.launch(id, template, &plan, why) {
                    let what = format!("cannot start `{}`: {error}", template.program());
                    self.task(id, async move { What::Ended(Err(what)) });
                }
            }
            Command::Attach(upstreams) => {
                if let Some(upstream) = upstreams.get(worker) {
                    self.attend(id, upstream.clone(), &plan);
                }
            }
            Command::None => {}
        }
    }

    fn launch(&mut self, id: u64, template: &Template, plan: &Plan, why: Why) -> io::Result<()> {
        let Some(post) = self.posts.get_mut(&id) else { return Ok(()) };
        let worker = post.worker;
        let place = self.places.allot(template, worker, post.generation)?;
        self.guard.owns(self.places.dir());
        let mut env = plan.env.clone();
        env.push(("COMPAT_PROXY_WORKER".to_owned(), worker.to_string()));
        env.push((stray::VARIABLE.to_owned(), self.token.clone()));
        // Our own `PORT` is the public one: a worker with a socket must not see it.
        let remove: &[&str] = if place.port.is_some() { &[] } else { &["PORT"] };
        env.retain(|(name, _)| name != "PORT");
        env.extend(place.port.map(|port| ("PORT".to_owned(), port.to_string())));
        let words = template.fill(&place, &plan.app_dir);
        let spawned = process::spawn_worker(&words, &plan.app_dir, remove, &env, self.guard.pipe());
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                self.places.release(&place);
                return Err(error);
            }
        };
        let pid = child.id().unwrap_or_default();
        self.guard.add(pid);
        let (ears, read) = (Ears::default(), Arc::default());
        let source = |stream| Source {
            slot: worker,
            pid,
            stream,
            seat: Arc::clone(&ears.seat),
            read: Arc::clone(&read),
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pipes = stdout.as_ref().zip(stderr.as_ref()).and_then(|(out, err)| {
            let ends = [out.as_fd().try_clone_to_owned().ok()?, err.as_fd().try_clone_to_owned().ok()?];
            Some(Pipes { ends, read: Arc::clone(&read) })
        });
        if let Some(stdout) = stdout {
            self.pumps.spawn(self.output.clone().pump(source(Stream::Stdout), stdout));
        }
        if let Some(stderr) = stderr {
            self.pumps.spawn(self.output.clone().pump(source(Stream::Stderr), stderr));
        }
        let address = place.address();
        info!(worker, pid, %address, why = why.word(), "worker started");
        post.live = Some(Live {
            pid: Some(pid),
            place: Some(place),
            address: Some(address.clone()),
            seat: None,
            ears: Ears { pipes, ..ears },
            began: Instant::now(),
            started_at: SystemTime::now(),
            max_rss: plan.max_rss.map(spread),
            dismissed: Dismissal::Unasked,
            killed: false,
        });
        self.task(id, async move { What::Ended(child.wait().await.map_err(|error| error.to_string())) });
        let (checks, limit) = (plan.checks.clone(), plan.start_timeout);
        self.task(id, async move {
            match probe::until_ready(&address, &checks, limit).await {
                Ok(()) => What::Answered(address),
                Err(failure) => What::Silent(failure),
            }
        });
        Ok(())
    }

    /// Looks at an upstream until it answers.
    fn attend(&mut self, id: u64, upstream: Upstream, plan: &Plan) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let worker = post.worker;
        post.live = Some(Live {
            pid: None,
            place: None,
            address: None,
            seat: None,
            ears: Ears::default(),
            began: Instant::now(),
            started_at: SystemTime::now(),
            max_rss: None,
            dismissed: Dismissal::Unasked,
            killed: false,
        });
        let checks = plan.checks.clone();
        self.task(id, async move {
            let mut pause = FIRST_LOOK;
            let mut told = false;
            loop {
                match probe::look(&upstream, &checks).await {
                    Ok(address) => return What::Answered(address),
                    // Both may be starting: only one who stays away is worth a line.
                    Err(error) if pause >= LOOK && !told => {
                        told = true;
                        warn!(worker, %upstream, %error, "upstream does not answer; looking again every second");
                    }
                    Err(_) => {}
                }
                sleep(pause).await;
                pause = (pause * 2).min(LOOK);
            }
        });
    }

    /// Gives a worker that answered its seat; the pool gets it when the state says so.
    pub(super) fn seat(&mut self, id: u64, address: Address) {
        let Some(post) = self.posts.get_mut(&id).filter(|post| post.slot.state == State::Starting) else {
            return;
        };
        let (worker, generation, limit) = (post.worker, post.generation, post.plan.max_requests);
        let Some(live) = &mut post.live else { return };
        if live.pid.is_some() {
            self.metrics.worker_start_duration.observe(live.began.elapsed().as_secs_f64());
        }
        live.address = Some(address.clone());
        let limit = limit.filter(|_| live.pid.is_some()).map(spread);
        let seat = Arc::new(Seat::new(worker, generation, address, limit));
        if let Some(pipes) = live.ears.pipes.take() {
            seat.listen(pipes);
        }
        // A process has one seat.
        let _ = live.ears.seat.set(Arc::clone(&seat));
        live.seat = Some(seat);
    }

    /// Sets the watchers of a worker that is ready.
    pub(super) fn look_after(&mut self, id: u64) {
        self.later(id, SETTLED, Event::Settled);
        let Some(post) = self.posts.get(&id) else { return };
        let (plan, worker) = (Arc::clone(&post.plan), post.worker);
        let Some((seat, began)) = post.live.as_ref().and_then(|live| Some((live.seat.clone()?, live.began)))
        else {
            return;
        };
        if let Some(pid) = post.pid() {
            let (seat, plan) = (Arc::clone(&seat), Arc::clone(&plan));
            self.task(id, async move {
                let (why, what) = pulse::until_hung(seat, pid, plan.pulse.clone(), plan.silence).await;
                What::Hung(why, what)
            });
        }
        if let Command::Attach(upstreams) = &plan.command {
            if let Some(upstream) = upstreams.get(worker) {
                let (upstream, checks) = (upstream.clone(), plan.checks.clone());
                self.task(id, async move {
                    What::Ended(Err(until_lost(&upstream, &seat.address, &checks).await))
                });
            }
            return;
        }
        if plan.max_requests.is_some() {
            self.task(id, async move {
                seat.spent().await;
                What::Worn(Why::MaxRequests)
            });
        }
        if let Some(limit) = plan.max_lifetime {
            let left = spread_time(limit).saturating_sub(began.elapsed());
            self.task(id, async move {
                sleep(left).await;
                What::Worn(Why::MaxLifetime)
            });
        }
    }

    /// Sends `event` after `delay`, unless the process has changed by then.
    pub(super) fn later(&mut self, id: u64, delay: Duration, event: Event) {
        self.task(id, async move {
            sleep(delay).await;
            What::Slot(event)
        });
    }

    /// Does something on the side for the current process of a post, and tells what came of it.
    pub(super) fn task(&mut self, id: u64, work: impl Future<Output = What> + Send + 'static) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let (news, generation) = (self.news.clone(), post.generation);
        post.tasks.spawn(async move {
            let what = work.await;
            // Nobody listens any more once everything has ended.
            let _ = news.send(News { post: id, generation, what });
        });
    }
}

/// Resolves with what is wrong when an upstream that was ready is not any more: refused once, or late twice.
async fn until_lost(upstream: &Upstream, at: &Address, checks: &[Check]) -> String {
    let mut late = false;
    loop {
        sleep(LOOK).await;
        match probe::look_again(upstream, at, checks).await {
            Ok(()) => late = false,
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !late => late = true,
            Err(error) => return error.to_string(),
        }
    }
}
