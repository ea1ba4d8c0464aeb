//! Keeps the application's processes running, and tells the pool which of them are ready.
//!
//! 1. `command`: from a command line as written to the words and variables of one process.
//! 2. `place`: where a process is to listen: a private unix socket or a loopback port.
//! 3. `process`: starts it in a group of its own, so that it cannot outlive us; signals that group.
//! 4. `output`: its lines, tagged, handed on without ever holding it up; `fold`: which of them belong together.
//! 5. `probe`: asks it until it answers; `pulse`: whether it still does.
//! 6. `slot`: what follows from what happened, as a pure table.
//! 7. `supervisor`: the one loop where events come in; `crew` asks the table and carries its orders out, `launch` brings
//!    a worker to life, `ending` clears away what ended, `roll` replaces workers while they serve, `books` keeps the
//!    status.
//! 8. `guard`, `stray`, `reaper`: nothing is left behind, whoever dies first.
//!
//! Nothing here knows what a request is. The supervisor restarts a process when it ends, does not get ready, or hangs; the
//! pool's breaker only passes over a seat for a moment.

mod books;
mod changes;
pub mod command;
mod crew;
mod ending;
mod fold;
pub mod guard;
mod launch;
mod output;
mod place;
mod post;
mod probe;
mod process;
mod pulse;
mod reaper;
mod roll;
mod slot;
mod status;
mod stray;
mod supervisor;
#[cfg(test)]
mod tests;
mod usage;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use command::{CommandError, Template};
pub use output::{Line, Sink, Stream};
pub use probe::{Check, Request, Upstream};
pub use slot::State;
pub use status::{Handle, WorkerStatus};
pub use supervisor::{Supervisor, supervisor};

/// App Engine gave an instance 30 s for `/_ah/stop`.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// What the workers must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What runs in each slot.
    pub command: Command,
    /// Processes to keep running. Ignored for [`Command::Attach`] (one slot an upstream) and [`Command::None`].
    pub workers: usize,
    /// The directory the command runs in.
    pub app_dir: PathBuf,
    /// Variables set on top of our own environment. `PORT` and `COMPAT_PROXY_WORKER` are ours and win.
    pub env: Vec<(String, String)>,
    /// What a worker must answer, in this order, before it is given requests. Empty is as [`Check::Connect`].
    pub checks: Vec<Check>,
    /// Asked of a worker that has served, before its SIGTERM: App Engine's `/_ah/stop`. It has half the stop timeout for the
    /// answer, 30 s at most.
    pub stop: Option<Request>,
    /// Asked of a worker whose life is in doubt; any answer is a sign of it.
    pub pulse: Request,
    /// A worker that has answered nothing and nobody for longer hangs: it is killed and replaced. As long as a request
    /// may take.
    pub silence: Duration,
    /// A worker not ready by then is killed and tried again.
    pub start_timeout: Duration,
    /// From SIGTERM to SIGKILL, the answer to [`Plan::stop`] included.
    pub stop_timeout: Duration,
    /// How long a worker that is replaced may finish what it holds before its SIGTERM.
    pub drain_timeout: Duration,
    /// Replace a worker after about this many requests.
    pub max_requests: Option<u64>,
    /// Replace a worker at about this age.
    pub max_lifetime: Option<Duration>,
    /// Replace a worker whose resident memory, in bytes, passes about this: its process and that one's descendants.
    pub max_rss: Option<u64>,
}

impl Plan {
    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        match &self.command {
            Command::Wrap(_) => self.workers,
            Command::Attach(upstreams) => upstreams.len(),
            Command::None => 0,
        }
    }

    /// How long a worker may take over its last request: what is left of the stop timeout is for its SIGTERM.
    fn last_words(&self) -> Duration {
        LAST_WORDS.min(self.stop_timeout / 2)
    }

    /// Whether the command's program is there: asked once at load, so that a wrong name is a clear error at once.
    ///
    /// # Errors
    /// Names the program and what to do.
    pub fn check(&self) -> Result<(), CommandError> {
        let Command::Wrap(template) = &self.command else { return Ok(()) };
        let path = process::search_path(&self.env);
        template.find_program(&self.app_dir, path.as_deref()).map(drop)
    }
}

/// What runs in the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Child processes of ours.
    Wrap(Template),
    /// Programs that somebody else runs.
    Attach(Vec<Upstream>),
    /// Nothing: no handler needs an application.
    None,
}

/// What the supervisor takes from the program around it.
#[derive(Clone)]
pub struct Surroundings {
    /// Takes each line a worker writes. Called on a thread of its own; it may block.
    pub sink: Sink,
    /// The command that runs [`guard::main`]; none starts no guard.
    pub guard: Option<Vec<OsString>>,
    /// Become the parent of orphans and bury them.
    pub reap: bool,
    /// Private directories that the guard removes if we are killed; otherwise they are their owner's affair.
    pub private: Vec<PathBuf>,
}

impl Surroundings {
    /// As the program needs it: the guard is our own executable with the word `__guard`, and orphans are buried.
    /// Process 1 needs no guard, for the kernel ends everything with it.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        let guard = (std::process::id() != 1).then(|| vec!["/proc/self/exe".into(), guard::WORD.into()]);
        Self { sink, guard, reap: true, private: Vec::new() }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("guard", &self.guard)
            .field("reap", &self.reap)
            .finish_non_exhaustive()
    }
}

/// How [`Supervisor::run`] ended. No worker is left in either case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop.
    Stopped,
    /// No worker ever became ready, five times in a row in every slot: exit code 69.
    NeverReady {
        /// What the last one did, for the message.
        last: Arc<str>,
    },
}

/// Why the workers were not, or not all, replaced.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RollError {
    /// The new worker did not get ready. Those not yet replaced, all of them for the first, are kept.
    #[error("the new worker {worker} did not get ready ({last}), {replaced} were replaced before")]
    NeverReady {
        /// The slot's number.
        worker: usize,
        /// What the new worker did.
        last: Arc<str>,
        /// Slots that run the new plan.
        replaced: usize,
    },
    /// A later call took the place of this one before it began.
    #[error("a later reload took its place")]
    Superseded,
    /// The program is being stopped.
    #[error("the workers are being stopped")]
    Stopping,
}
