//! The one loop where events come in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::warn;

use crate::balance::Pool;
use crate::drain::Stage;
use crate::telemetry::metrics::Metrics;

use super::crew::Crew;
use super::launch::announce;
use super::place::Places;
use super::post::News;
use super::status::{Board, RollRequest};
use super::{Command, Handle, Outcome, Plan, Surroundings, reaper};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After SIGKILL, how long a process may take to be gone; the kernel may hold one that waits for a disk.
const UNKILLABLE: Duration = Duration::from_secs(5);

/// Keeps the slots filled. Nothing happens before [`Supervisor::run`].
#[derive(Debug)]
pub struct Supervisor {
    plan: Plan,
    pool: Pool,
    metrics: Arc<Metrics>,
    surroundings: Surroundings,
    board: Arc<Board>,
    rolls: mpsc::UnboundedReceiver<RollRequest>,
    places: Places,
}

/// A supervisor for `plan` that admits ready workers to `pool`, and the handle on it.
///
/// # Errors
/// If the private directory for the workers' sockets cannot be made.
pub fn supervisor(
    plan: Plan,
    pool: Pool,
    metrics: Arc<Metrics>,
    surroundings: Surroundings,
) -> io::Result<(Supervisor, Handle)> {
    let mut places = Places::default();
    if let Command::Wrap(template) = &plan.command {
        places.prepare(template)?;
    }
    // Before anybody can ask for them.
    (0..plan.slots()).for_each(|worker| announce(&metrics, worker, &plan));
    let board = Arc::new(Board::default());
    let (sender, rolls) = mpsc::unbounded_channel();
    let handle = Handle { board: Arc::clone(&board), rolls: sender };
    Ok((Supervisor { plan, pool, metrics, surroundings, board, rolls, places }, handle))
}

impl Supervisor {
    /// Runs until [`Stage::Stopping`] is seen and all workers are gone, or until there is no hope.
    ///
    /// Must be polled on one thread that lives as long as the process: the kernel kills the workers when the thread
    /// that started them ends. At [`Stage::Gone`] workers are killed at once.
    pub async fn run(self, mut stage: watch::Receiver<Stage>) -> Outcome {
        let Self { plan, pool, metrics, surroundings, board, mut rolls, places } = self;
        let mut helpers = JoinSet::new();
        if surroundings.reap {
            reaper::adopt();
            helpers.spawn(reaper::run());
        }
        let (sender, mut news) = mpsc::unbounded_channel::<News>();
        let mut crew = Crew::new(plan, pool, metrics, surroundings, board, places, sender);
        crew.begin();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut staged = true;
        let mut last_call = None;
        loop {
            let now = *stage.borrow_and_update();
            if (now >= Stage::Stopping || !staged) && crew.stop(now == Stage::Gone) {
                last_call = Some(Instant::now() + crew.patience() + UNKILLABLE);
            }
            crew.set_calm(now == Stage::Running && staged);
            crew.publish();
            if let Some(outcome) = crew.outcome() {
                return finish(crew, outcome).await;
            }
            tokio::select! {
                Some(news) = news.recv() => crew.hear(news),
                changed = stage.changed(), if staged => staged = changed.is_ok(),
                Some(request) = rolls.recv() => crew.roll(request),
                () = crew.guard.lost() => crew.guard.renew(),
                _ = look.tick() => crew.look(),
                () = sleep_until(last_call.unwrap_or_else(Instant::now)), if last_call.is_some() => {
                    warn!("workers that cannot be killed are left to the kernel");
                    return finish(crew, Outcome::Stopped).await;
                }
            }
        }
    }
}

async fn finish(crew: Crew, outcome: Outcome) -> Outcome {
    crew.finish().await;
    outcome
}
