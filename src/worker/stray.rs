//! Finds what escaped: descendants of a worker that left its process group (daemons) keep its environment.

use std::os::unix::ffi::OsStrExt;

use rustix::process::{Signal, kill_process};

use super::process;

/// The variable every worker, and so everything it starts, carries; its value is this run of the program.
pub(super) const VARIABLE: &str = "COMPAT_PROXY_RUN";

/// Kills every process that carries `token`, and says how many there were.
pub(super) fn kill_all(token: &str) -> usize {
    let strays = find(token);
    for pid in &strays {
        if let Some(pid) = process::pid(*pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    strays.len()
}

/// Processes that carry `token`, other than this one. Those of other users cannot be read and are not ours.
pub(super) fn find(token: &str) -> Vec<u32> {
    let wanted = format!("{VARIABLE}={token}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| std::str::from_utf8(entry.ok()?.file_name().as_bytes()).ok()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}
