//! Which workers are to be replaced, and how far that is.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::post::Why;
use super::status::RollRequest;
use super::{Plan, RollError};

/// What is to be replaced.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) roll: Option<Roll>,
    pub(super) next: Option<RollRequest>,
    /// Posts to be replaced by their like, and why.
    pub(super) worn: VecDeque<(u64, Why)>,
    /// The one of them whose successor is starting.
    pub(super) replacing: Option<(u64, Why)>,
}

#[derive(Debug)]
pub(super) struct Roll {
    pub(super) plan: Arc<Plan>,
    pub(super) reply: Option<oneshot::Sender<Result<(), RollError>>>,
    /// Slots that run the new plan.
    pub(super) done: usize,
    /// The post that is starting.
    pub(super) new: Option<u64>,
    /// Ends of it seen so far.
    pub(super) fallen: u32,
}
