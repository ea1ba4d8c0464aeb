//! The way out: stages, what must finish first, and the listener service held back from pingora's own stop.
//!
//! TERM: [`Stage::Quiet`] (readiness false, still accepting, `--drain-quiet`), [`Stage::Closing`] (no new
//! connections; requests finish within `--grace-period`), [`Stage::Stopping`] (the supervisor ends the
//! workers), [`Stage::Gone`]. INT skips the quiet stage; a second INT skips every wait. Nobody else interprets
//! TERM or INT. Pingora's own stop cuts requests, so its services see our watch instead of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::listen::Bound;

/// How often the waits of the drain look.
const TICK: Duration = Duration::from_millis(5);
/// Between letting nobody in and closing idle connections: whoever just sent a request on a kept connection
/// is answered with `Connection: close` instead of a reset.
const LINGER: Duration = Duration::from_millis(150);
/// Beats of every proxy thread in that time: on a starved machine time passes and nobody has looked at a socket.
const LINGER_BEATS: u64 = 10;
/// Beats after which idle connections are closed although requests keep coming, as on HTTP/2.
const MOST_BEATS: u64 = 400;
/// Beyond `--stop-timeout`, for the supervisor to reap what it killed.
const REAP: Duration = Duration::from_secs(3);

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Serving.
    Running,
    /// Not ready any more, still accepting; every response closes its connection.
    Quiet,
    /// Accepting nothing; what is under way finishes.
    Closing,
    /// The workers are being stopped.
    Stopping,
    /// Nothing is left.
    Gone,
}

/// How long each stage may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// `--drain-quiet`.
    pub quiet: Duration,
    /// `--grace-period`.
    pub grace: Duration,
    /// `--stop-timeout`.
    pub stop: Duration,
}

/// The state of the drain; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stage: watch::Sender<Stage>,
    /// The stage again, for the request path.
    flag: AtomicU8,
    /// What the listener services watch instead of pingora's own.
    accept: watch::Sender<bool>,
    /// Requests that began, and that ended.
    begun: AtomicUsize,
    ended: AtomicUsize,
    finishers: AtomicUsize,
    /// One for each proxy thread: counts its turns once the stage is Closing.
    beats: Mutex<Vec<Arc<AtomicU64>>>,
    bound: Mutex<Vec<Bound>>,
    /// A fatal end asked for from inside: its exit code, or -1.
    fatal: AtomicI32,
    fatal_asked: tokio::sync::Notify,
}

/// Held by whoever must finish before the process may end; dropped when done.
#[derive(Debug)]
pub struct Latch {
    drain: Drain,
    count: Count,
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Exchange,
    Finisher,
}

impl Drain {
    /// A drain that has not begun, over the listening sockets it will close.
    #[must_use]
    pub fn new(bound: Vec<Bound>) -> Self {
        Self(Arc::new(Inner {
            stage: watch::Sender::new(Stage::Running),
            flag: AtomicU8::new(Stage::Running as u8),
            accept: watch::Sender::new(false),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            finishers: AtomicUsize::new(0),
            beats: Mutex::new(Vec::new()),
            bound: Mutex::new(bound),
            fatal: AtomicI32::new(-1),
            fatal_asked: tokio::sync::Notify::new(),
        }))
    }

    /// A latch for one request; the stage Closing waits for all of them.
    #[must_use]
    pub fn exchange(&self) -> Latch {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        Latch { drain: self.clone(), count: Count::Exchange }
    }

    /// A latch for one who finishes last, such as the supervisor; the stage Stopping waits for all of them.
    #[must_use]
    pub fn finisher(&self) -> Latch {
        self.0.finishers.fetch_add(1, Ordering::AcqRel);
        Latch { drain: self.clone(), count: Count::Finisher }
    }

    /// Requests under way.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        // In this order: a request that ends in between is counted as under way.
        let ended = self.0.ended.load(Ordering::Acquire);
        self.0.begun.load(Ordering::Acquire).saturating_sub(ended)
    }

    /// Whether the way out has begun: every response then closes its connection.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed) != Stage::Running as u8
    }

    /// The stage, to be watched.
    #[must_use]
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Ends the process from inside with `code`, as after TERM but without the quiet stage.
    pub fn fail(&self, code: i32) {
        let first = self.0.fatal.compare_exchange(-1, code, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            self.0.fatal_asked.notify_one();
        }
    }

    /// The exit code: 0 unless [`Drain::fail`] was called.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.0.fatal.load(Ordering::Acquire).max(0)
    }

    /// Wraps a listener service so that it stops accepting when the drain says so.
    pub fn hold<S: Service>(&self, service: S) -> Held<S> {
        let beat = Arc::new(AtomicU64::new(0));
        lock(&self.0.beats).push(Arc::clone(&beat));
        Held { service, drain: self.clone(), beat }
    }

    fn enter(&self, stage: Stage) {
        self.0.flag.store(stage as u8, Ordering::Relaxed);
        self.0.stage.send_replace(stage);
    }

    /// Waits for a signal, then walks every stage to the end.
    pub async fn conduct(self, mut signals: Signals, patience: Patience) {
        let quiet = tokio::select! {
            _ = signals.term.recv() => patience.quiet,
            _ = signals.interrupt.recv() => Duration::ZERO,
            () = self.0.fatal_asked.notified() => Duration::ZERO,
        };
        info!(in_flight = self.exchanges(), "draining");
        let in_a_hurry = tokio::select! {
            () = self.walk(quiet, patience) => false,
            _ = signals.interrupt.recv() => true,
        };
        if in_a_hurry {
            warn!(in_flight = self.exchanges(), "second interrupt: stopping at once");
            self.0.accept.send_replace(true);
        }
        self.enter(Stage::Gone);
    }

    async fn walk(&self, quiet: Duration, patience: Patience) {
        self.enter(Stage::Quiet);
        sleep(quiet).await;
        self.enter(Stage::Closing);
        let begun = Instant::now();
        self.close_listeners(patience.grace).await;
        if !self.wait(|| self.exchanges(), patience.grace.saturating_sub(begun.elapsed())).await {
            warn!(in_flight = self.exchanges(), "grace period over: requests are cut; see --grace-period");
        }
        self.enter(Stage::Stopping);
        if !self.wait(|| self.0.finishers.load(Ordering::Acquire), patience.stop + REAP).await {
            warn!("workers did not end in time");
        }
    }

    /// Nobody new, then whoever the kernel let in already, then the idle connections.
    async fn close_listeners(&self, limit: Duration) {
        let bound = std::mem::take(&mut *lock(&self.0.bound));
        for socket in &bound {
            socket.refuse_new();
        }
        // However starved the machine is, this ends with the grace period.
        let _ = timeout(limit, self.settle(&bound)).await;
        self.0.accept.send_replace(true);
    }

    /// Waits until every proxy thread has looked at its sockets for a while and found nothing new.
    async fn settle(&self, bound: &[Bound]) {
        let first = self.beats();
        loop {
            let (since, beats, begun) = (Instant::now(), self.beats(), self.0.begun.load(Ordering::Acquire));
            while since.elapsed() < LINGER || !self.beaten(&beats, LINGER_BEATS) {
                sleep(TICK).await;
            }
            let quiet =
                begun == self.0.begun.load(Ordering::Acquire) && !bound.iter().any(Bound::has_waiting);
            if quiet || self.beaten(&first, MOST_BEATS) {
                return;
            }
        }
    }

    fn beats(&self) -> Vec<u64> {
        lock(&self.0.beats).iter().map(|beat| beat.load(Ordering::Acquire)).collect()
    }

    fn beaten(&self, since: &[u64], times: u64) -> bool {
        self.beats().iter().zip(since).all(|(now, then)| now - then >= times)
    }

    async fn wait(&self, left: impl Fn() -> usize, limit: Duration) -> bool {
        let done = async {
            while left() > 0 {
                sleep(TICK).await;
            }
        };
        timeout(limit, done).await.is_ok()
    }
}

/// What is guarded here stays whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Latch {
    fn drop(&mut self) {
        match self.count {
            Count::Exchange => self.drain.0.ended.fetch_add(1, Ordering::AcqRel),
            Count::Finisher => self.drain.0.finishers.fetch_sub(1, Ordering::AcqRel),
        };
    }
}

/// TERM and INT, caught from the moment this exists.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches TERM and INT; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// For `Server::run`: returns when everything is over, so that pingora's own stop finds nothing to cut.
#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.stage().wait_for(|stage| *stage == Stage::Gone).await;
        ShutdownSignal::GracefulTerminate
    }
}

/// A listener service that sees the drain's watch instead of pingora's.
pub struct Held<S> {
    service: S,
    drain: Drain,
    beat: Arc<AtomicU64>,
}

#[async_trait]
impl<S: Service> Service for Held<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        let accept = self.drain.0.accept.subscribe();
        let (mut stage, beat) = (self.drain.stage(), Arc::clone(&self.beat));
        // On this service's own thread: each turn tells that its sockets have been looked at.
        tokio::spawn(async move {
            // The sender outlives every service.
            let _ = stage.wait_for(|stage| *stage >= Stage::Closing).await;
            loop {
                beat.fetch_add(1, Ordering::Release);
                sleep(TICK).await;
            }
        });
        self.service.start_service(fds, accept, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}
