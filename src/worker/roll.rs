//! Replaces workers while they serve: a new one is ready before the old one stops taking requests, and only one
//! is surplus at a time.
//!
//! A *roll* replaces all by those of another plan; a worker that is *worn* is replaced by its like. A successor is an
//! ordinary worker that takes the slot when it gets ready; a failing one rests and tries again as any other does.

use std::sync::Arc;

use tracing::{info, warn};

use super::RollError;
use super::changes::{Changes, Roll};
use super::crew::Crew;
use super::post::{Role, Why};
use super::slot::{Event, State};
use super::status::RollRequest;

/// How often a new worker may fail once another one of its plan has got ready.
const TRIES: u32 = 3;

impl Crew {
    /// Takes a wish for other workers; it is carried out when the one before is.
    pub(super) fn roll(&mut self, request: RollRequest) {
        if self.is_stopping() {
            let _ = request.reply.send(Err(RollError::Stopping));
        } else if let Some(earlier) = self.changes.next.replace(request) {
            let _ = earlier.reply.send(Err(RollError::Superseded));
        }
        self.advance();
    }

    /// The worker of `post` should be replaced by its like.
    pub(super) fn wear(&mut self, post: u64, why: Why) {
        if !self.changes.worn.iter().any(|(other, _)| *other == post) {
            self.changes.worn.push_back((post, why));
        }
        self.advance();
    }

    /// Gives up all changes, as everything ends.
    pub(super) fn abandon(&mut self) {
        let Changes { roll, next, .. } = std::mem::take(&mut self.changes);
        let replies = roll.and_then(|roll| roll.reply).into_iter().chain(next.map(|next| next.reply));
        replies.for_each(|reply| drop(reply.send(Err(RollError::Stopping))));
    }

    /// A process of `post` ended before it was ready.
    pub(super) fn fell(&mut self, post: u64) {
        if let Some(roll) = &mut self.changes.roll
            && roll.new == Some(post)
        {
            roll.fallen += 1;
        }
    }

    /// Takes the next step of what is under way, if its time has come.
    pub(super) fn advance(&mut self) {
        if self.is_stopping() {
            return;
        }
        if self.changes.roll.is_none()
            && let Some(RollRequest { plan, reply }) = self.changes.next.take()
        {
            info!(workers = plan.slots(), "replacing the workers one after another");
            self.retire_all(|post| post.role == Role::Successor);
            // Should the roll fail, it still is worn.
            self.changes.worn.extend(self.changes.replacing.take());
            let plan = Arc::new(plan);
            self.changes.roll = Some(Roll { plan, reply: Some(reply), done: 0, new: None, fallen: 0 });
        }
        // Some steps take no time: a slot fewer, or none at all.
        while self.changes.roll.is_some() {
            if !self.step() {
                return;
            }
        }
        if self.is_calm() {
            self.replace_worn();
        }
    }

    /// One step of the roll; whether another may follow at once.
    fn step(&mut self) -> bool {
        let Some(roll) = &mut self.changes.roll else { return false };
        if let Some(new) = roll.new {
            let role = self.posts.get(&new).map(|post| (post.role, post.slot.state, Arc::clone(&post.last)));
            return match role {
                // It got ready and took the slot; what becomes of it later is another matter.
                Some((Role::Main, ..)) => {
                    *roll = Roll {
                        done: roll.done + 1,
                        new: None,
                        fallen: 0,
                        reply: roll.reply.take(),
                        plan: Arc::clone(&roll.plan),
                    };
                    true
                }
                Some((_, State::Backoff | State::Failed, last))
                    if roll.done == 0
                        || roll.fallen >= TRIES
                        || self.posts[&new].slot.state == State::Failed =>
                {
                    self.give_up(new, last);
                    true
                }
                Some(_) => false,
                None => {
                    self.give_up(new, "it was stopped".into());
                    true
                }
            };
        }
        // A surge of one: the old one must be gone before the next is started.
        if self.posts.values().any(|post| post.role == Role::Leaving) {
            return false;
        }
        let (worker, plan) = (roll.done, Arc::clone(&roll.plan));
        if worker < plan.slots() {
            let known = self.posts.values().any(|post| post.worker == worker);
            let why = if known { Why::Reload } else { Why::Scale };
            let new = self.add(worker, Role::Successor, why, plan);
            if let Some(roll) = &mut self.changes.roll {
                roll.new = Some(new);
            }
            return true;
        }
        self.retire_all(|post| post.worker >= plan.slots());
        self.target = plan;
        if let Some(reply) = self.changes.roll.take().and_then(|roll| roll.reply) {
            let _ = reply.send(Ok(()));
        }
        info!("all workers are replaced");
        true
    }

    fn give_up(&mut self, new: u64, last: Arc<str>) {
        let Some(Roll { reply, done, .. }) = self.changes.roll.take() else { return };
        warn!(worker = done, %last, replaced = done, "a new worker does not get ready: keeping the old ones");
        self.feed(new, Event::Retire);
        if let Some(reply) = reply {
            let _ = reply.send(Err(RollError::NeverReady { worker: done, last, replaced: done }));
        }
    }

    fn replace_worn(&mut self) {
        if self.posts.values().any(|post| post.role != Role::Main) {
            return;
        }
        while let Some((worn, why)) = self.changes.worn.pop_front() {
            // It may have ended by itself in the meantime.
            if let Some(post) = self.posts.get(&worn).filter(|post| post.slot.state == State::Ready) {
                info!(worker = post.worker, pid = post.pid(), why = why.word(), "replacing a worker");
                let (worker, plan) = (post.worker, Arc::clone(&post.plan));
                self.changes.replacing = Some((worn, why));
                self.add(worker, Role::Successor, why, plan);
                return;
            }
        }
    }
}
