//! Whether a worker that is ready still answers anybody: asked only when there is doubt.
//!
//! A worker may be busy for as long as requests may take, and one that answers one request at a time says nothing to
//! anybody else meanwhile. So silence alone only makes the pool prefer others. A worker *hangs*, and is replaced, when
//! its process is stopped, when it refuses connections and holds none, or when it has been silent for longer than any request may be:
//! nothing moved on any of its connections, and a request of ours on a new one was not answered either.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::balance::Seat;

use super::post::Why;
use super::probe::{self, Request};
use super::process;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Doubt that lasts so long is put to the proof.
const DOUBT: Duration = Duration::from_secs(3);
/// For the proof: with the doubt before it, and one look, well below ten seconds.
const ANSWER: Duration = Duration::from_secs(3);
/// What a worker that hangs has for telling where: see [`process::DUMP`].
const LAST_LOOK: Duration = Duration::from_millis(500);

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Speaks,
    Silent,
    Refuses,
}

/// Resolves with what is wrong when the worker hangs, and why the next one is started. Until then it tells the seat
/// whether it is silent.
pub(super) async fn until_hung(
    seat: Arc<Seat>,
    pid: u32,
    question: Request,
    longest: Duration,
) -> (Why, String) {
    let mut since = None;
    loop {
        sleep(LOOK).await;
        // Doubt that has begun ends with a sign of life, not with requests that gave up.
        let calm = since.is_none() && seat.in_flight() == 0 && seat.failures() == 0 && !seat.is_doubted();
        if (seat.has_moved() || calm) && !process::is_stopped(pid) {
            since = None;
            seat.trust();
            continue;
        }
        let began = *since.get_or_insert_with(Instant::now);
        if began.elapsed() < DOUBT {
            continue;
        }
        let proof = prove(&seat, &question).await;
        if proof == Proof::Speaks {
            since = None;
            seat.trust();
            continue;
        }
        seat.set_silent();
        match proof {
            // One that finishes what it holds, and then ends by itself, is let finish.
            Proof::Refuses if seat.in_flight() == 0 => {
                return (Why::Unhealthy, "it runs, but accepts no connection".to_owned());
            }
            Proof::Silent if process::is_any_stopped(pid) => {
                return (Why::Unhealthy, "it was stopped by a signal and did not go on".to_owned());
            }
            _ if began.elapsed() > longest + LOOK && !seat.has_moved() => {
                process::ask_where(pid);
                sleep(LAST_LOOK).await;
                let what = format!("it has answered nothing for {} s", began.elapsed().as_secs());
                return (Why::Deadline, what);
            }
            _ => {}
        }
    }
}

async fn prove(seat: &Seat, question: &Request) -> Proof {
    match probe::tell(&seat.address, question, ANSWER).await {
        Ok(()) => Proof::Speaks,
        Err(error) => match error.kind() {
            // A full backlog (of a unix socket) is no sign of life either.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Proof::Silent,
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Proof::Refuses,
            // It hung up, or talked nonsense: somebody is there.
            _ => Proof::Speaks,
        },
    }
}
