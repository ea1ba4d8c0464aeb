//! What workers use: memory, processor, descriptors, threads, of a process and its descendants, for under gunicorn
//! the app is a child of the worker's process. Looked at once a second; pages they share count twice.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use crate::telemetry::metrics::WorkerUsage;

use super::crew::Crew;
use super::post::{Role, Why};
use super::process;
use super::slot::State;

/// Processor time of a process and its descendants, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cpu {
    user: f64,
    system: f64,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Processor time by process.
    cpu: BTreeMap<u32, Cpu>,
}

impl Crew {
    /// Looks at what every worker uses.
    pub(super) fn look(&mut self) {
        while self.pumps.try_join_next().is_some() {}
        self.metrics.memory_limit.set(i64::try_from(memory_limit().unwrap_or(0)).unwrap_or(i64::MAX));
        let (mut heavy, mut cpu) = (Vec::new(), BTreeMap::new());
        let mut used: BTreeMap<usize, WorkerUsage> =
            self.starts.keys().map(|worker| (*worker, WorkerUsage::default())).collect();
        let mut processes = false;
        for (id, post) in &self.posts {
            let Some((pid, live)) = post.pid().zip(post.live.as_ref()) else { continue };
            processes = true;
            let Some((usage, time)) = of(pid) else { continue };
            let before = self.meter.cpu.get(&pid).copied().unwrap_or_default();
            self.metrics.worker_usage.add_cpu(
                post.worker,
                time.user - before.user,
                time.system - before.system,
            );
            cpu.insert(pid, time);
            let sum = used.entry(post.worker).or_default();
            sum.resident += usage.resident;
            sum.virtual_memory += usage.virtual_memory;
            sum.descriptors += usage.descriptors;
            sum.threads += usage.threads;
            let began = live.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            // While a worker is being replaced, that of the newer one.
            sum.start_time = sum.start_time.max(began);
            let serves = post.role == Role::Main && post.slot.state == State::Ready;
            if serves && live.max_rss.is_some_and(|most| usage.resident > most) {
                heavy.push(*id);
            }
        }
        // Attached upstreams have no processes of ours; a slot whose process is just gone uses nothing.
        if processes || !self.meter.cpu.is_empty() {
            used.iter().for_each(|(worker, usage)| self.metrics.worker_usage.set(*worker, usage));
        }
        self.meter.cpu = cpu;
        for id in heavy {
            self.wear(id, Why::MaxRss);
        }
        self.advance();
    }
}

/// The resident memory of a process and its descendants in bytes.
pub(super) fn resident(pid: u32) -> Option<u64> {
    of(pid).map(|(usage, _)| usage.resident)
}

/// What a process and its descendants use; none when it is gone.
fn of(pid: u32) -> Option<(WorkerUsage, Cpu)> {
    let (mut sum, mut cpu, mut found) = (WorkerUsage::default(), Cpu::default(), false);
    let ticks = procfs::ticks_per_second() as f64;
    process::walk(pid, |process| {
        let Ok(stat) = process.stat() else { return };
        found = true;
        sum.resident += stat.rss.saturating_mul(procfs::page_size());
        sum.virtual_memory += stat.vsize;
        sum.threads += u64::try_from(stat.num_threads).unwrap_or(0);
        sum.descriptors += process.fd_count().map_or(0, |count| count as u64);
        // Of children that have ended, too.
        cpu.user += (stat.utime as f64 + stat.cutime.max(0) as f64) / ticks;
        cpu.system += (stat.stime as f64 + stat.cstime.max(0) as f64) / ticks;
    });
    found.then_some((sum, cpu))
}

/// What the memory controller allows our control group; none where there is no limit or it is not told.
fn memory_limit() -> Option<u64> {
    let paths = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let text = paths.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    // Version 1 says "no limit" with a number near 2^63, version 2 with a word.
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_use_something() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (usage, cpu) = of(std::process::id()).unwrap();
        let (own, _) = of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own.resident > 0 && own.threads == 1 && own.descriptors > 0, "{own:?}");
        assert!(usage.resident > own.resident && usage.virtual_memory > usage.resident, "{usage:?}");
        assert!(usage.threads > own.threads && usage.descriptors > own.descriptors, "{usage:?}");
        assert!(cpu.user >= 0.0 && cpu.system >= 0.0, "{cpu:?}");
        assert_eq!(of(u32::MAX), None);
    }
}
