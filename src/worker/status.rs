//! What the outside may see of the workers, and ask of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::balance::{Address, Seat};

use super::slot::State;
use super::{Plan, RollError, usage};

/// One worker as the status page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// The slot's number, from 0. While a worker is being replaced its number is there twice.
    pub worker: usize,
    /// The application's process; none while there is none, and for attached upstreams.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub state: State,
    /// Where it listens, once that is known.
    pub address: Option<Address>,
    /// Requests it holds.
    pub in_flight: u32,
    /// Requests it was given since it started.
    pub requests: u64,
    /// Processes started in this slot after the first.
    pub restarts: u64,
    /// Resident memory of the process.
    pub rss_bytes: Option<u64>,
    /// When the process was started.
    pub started_at: Option<SystemTime>,
}

/// What the supervisor writes down whenever something changes.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) worker: usize,
    pub(super) pid: Option<u32>,
    pub(super) state: State,
    pub(super) address: Option<Address>,
    pub(super) restarts: u64,
    pub(super) started_at: Option<SystemTime>,
    pub(super) seat: Option<Arc<Seat>>,
}

/// Shared between the supervisor, which writes, and everybody else.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) rows: ArcSwap<Vec<Row>>,
    pub(super) ever_ready: AtomicBool,
}

/// A wish for other workers, and whom to tell how it went.
#[derive(Debug)]
pub(super) struct RollRequest {
    pub(super) plan: Plan,
    pub(super) reply: oneshot::Sender<Result<(), RollError>>,
}

/// The outside's hold on the supervisor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) board: Arc<Board>,
    pub(super) rolls: mpsc::UnboundedSender<RollRequest>,
}

impl Handle {
    /// All workers, by slot; in a slot the one that serves comes first.
    #[must_use]
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.board.rows.load().iter().map(WorkerStatus::from).collect()
    }

    /// Whether any worker has been ready at some time.
    #[must_use]
    pub fn ever_ready(&self) -> bool {
        self.board.ever_ready.load(Ordering::Relaxed)
    }

    /// Replaces all workers by those of `plan`, one slot after another: the new one is ready before the old one stops
    /// taking requests. Resolves when the last old one has ended. Dropping the future does not stop it.
    ///
    /// # Errors
    /// If a new worker does not get ready, the ones not yet replaced are kept. Of calls that come in while one is
    /// being carried out, only the last counts.
    pub async fn roll(&self, plan: Plan) -> Result<(), RollError> {
        let (reply, answer) = oneshot::channel();
        self.rolls.send(RollRequest { plan, reply }).map_err(|_| RollError::Stopping)?;
        answer.await.unwrap_or(Err(RollError::Stopping))
    }
}

impl From<&Row> for WorkerStatus {
    fn from(row: &Row) -> Self {
        let seat = row.seat.as_ref();
        Self {
            worker: row.worker,
            pid: row.pid,
            state: row.state,
            address: row.address.clone(),
            in_flight: seat.map_or(0, |seat| seat.in_flight()),
            requests: seat.map_or(0, |seat| seat.requests()),
            restarts: row.restarts,
            rss_bytes: row.pid.and_then(usage::resident),
            started_at: row.started_at,
        }
    }
}
