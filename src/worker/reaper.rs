//! Buries orphans: processes whose parents, our workers or their children, ended before them.
//!
//! As process 1 they come to us by law; otherwise we ask for them, so that a worker's stray children are ours
//! and not the system's. A process of our own is buried by whoever started it and must be left alone. Owners
//! do that at once, so a dead child seen twice, half a second apart, has no owner.

use std::collections::BTreeSet;
use std::time::Duration;

use procfs::process::{ProcState, all_processes};
use rustix::process::{WaitOptions, set_child_subreaper, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::process;

/// How long an owner has for burying its own.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks for orphans. Before the first worker is started: what is orphaned earlier never comes to us.
pub(super) fn adopt() {
    if std::process::id() != 1
        && let Err(error) = set_child_subreaper(process::pid(std::process::id()))
    {
        warn!(%error, "cannot become the parent of orphans");
    }
}

/// Buries orphans for ever.
pub(super) async fn run() {
    let mut died = match signal(SignalKind::child()) {
        Ok(died) => died,
        Err(error) => return warn!(%error, "cannot hear of ended processes: orphans stay zombies"),
    };
    let mut seen = BTreeSet::new();
    loop {
        // While there is a suspect, look again without waiting for a further death.
        if seen.is_empty() && died.recv().await.is_none() {
            return;
        }
        sleep(PATIENCE).await;
        seen = pass(&seen);
    }
}

/// Buries the dead children that were dead in the last pass; returns those that are new.
fn pass(seen: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut new = BTreeSet::new();
    for child in dead_children() {
        if !seen.contains(&child) {
            new.insert(child);
        } else if let Some(pid) = rustix::process::Pid::from_raw(child) {
            let buried = waitpid(Some(pid), WaitOptions::NOHANG);
            debug!(pid = child, ?buried, "buried an orphan");
        }
    }
    new
}

fn dead_children() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let Ok(processes) = all_processes() else { return Vec::new() };
    processes
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.ppid == own && matches!(stat.state(), Ok(ProcState::Zombie)))
        .map(|stat| stat.pid)
        .collect()
}
