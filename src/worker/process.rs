//! Starts processes so that they cannot outlive us, and signals them. The only `unsafe` of the crate is here:
//! what a child does between fork and exec.
//!
//! Four things keep a worker from outliving us: the kernel kills it when our thread ends (so the thread that
//! starts it must live as long as we do), it is in a process group of its own that is always killed as a whole,
//! it has told the guard of that group before its program began, and it carries a variable by which its
//! descendants are found.

#![expect(unsafe_code, reason = "what a child does between fork and exec cannot be said in safe Rust")]

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader};
use std::os::fd::RawFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use libc::c_int;
use procfs::process::{ProcState, Process};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};

/// Asks a process where it is: the launcher prints the stacks of its threads. Named for a coprocessor long gone, it is
/// used by nobody else; whoever does not know it dies of it.
pub(super) const DUMP: Signal = Signal::STKFLT;
/// The highest signal number of Linux.
const LAST_SIGNAL: c_int = 64;
/// Descriptors closed one by one on kernels without `close_range`.
const MANY: c_int = 1024;

/// Descendants of one worker that are looked at.
const MOST_PROCESSES: usize = 64;

/// Starts a worker: `words` in `dir`, with our environment, without `remove`, with `env` on top.
///
/// `guard` is the guard's pipe, told of the new group by the child itself: there is no moment in which the
/// program runs and the guard does not know it.
pub(super) fn spawn_worker(
    words: &[String],
    dir: &Path,
    remove: &[&str],
    env: &[(String, String)],
    guard: Option<RawFd>,
) -> io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in remove {
        command.env_remove(name);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let parent = std::process::id();
    // SAFETY: `prepare` only makes system calls that are safe in a signal handler, allocates nothing and takes
    // no lock, as is asked of code between fork and exec in a process with threads.
    unsafe { command.pre_exec(move || prepare(parent, guard)) };
    command.spawn()
}

/// Starts the guard: it must outlive us, and no signal meant for us may end it.
pub(super) fn spawn_guard(command: &[OsString], stdin: PipeReader) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).current_dir("/");
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: as above; `deafen` only makes system calls.
    unsafe { command.pre_exec(deafen) };
    command.spawn()
}

/// In the child: die with the parent, be known to the guard, inherit nothing by accident.
fn prepare(parent: u32, guard: Option<RawFd>) -> io::Result<()> {
    // SAFETY: plain system calls on values of this frame; none touches memory that another thread may have left
    // half written.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the line above.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(pipe) = guard {
            // A guard that has just died must not kill the worker with it.
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            let mut line = [0_u8; 16];
            let text = group_line(&mut line, libc::getpid());
            libc::write(pipe, text.as_ptr().cast(), text.len());
        }
        // What our own parent made us ignore or block is not the worker's affair. KILL and STOP refuse: fine.
        for signal in 1..=LAST_SIGNAL {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    keep_nothing_open();
    Ok(())
}

/// Descriptors that leaked into us do not leak any further.
fn keep_nothing_open() {
    // SAFETY: only sets the flag that closes a descriptor at exec; those of this program stay as they are.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for descriptor in 3..MANY {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// In the guard: only the end of its input ends it.
fn deafen() -> io::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGTSTP] {
        // SAFETY: sets a disposition that is inherited over exec; no memory is involved.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    keep_nothing_open();
    Ok(())
}

/// `+PID\n`, written without allocating.
fn group_line(buffer: &mut [u8; 16], pid: c_int) -> &[u8] {
    let mut rest = pid.unsigned_abs();
    let mut at = buffer.len() - 1;
    buffer[at] = b'\n';
    while at > 1 {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    buffer[at] = b'+';
    &buffer[at..]
}

/// Signals the whole group. It may be gone: then there is nothing to do.
pub(super) fn signal_group(group: u32, signal: Signal) {
    if let Some(group) = pid(group) {
        let _ = kill_process_group(group, signal);
    }
}

/// Whether any process of the group is left, a zombie included.
pub(super) fn group_lives(group: u32) -> bool {
    pid(group).is_some_and(|group| test_kill_process_group(group).is_ok())
}

/// Has every process of the group tell where it is, before it is killed.
pub(super) fn ask_where(group: u32) {
    signal_group(group, DUMP);
}

/// A process id of ours as the system calls want it. Never 1 and below, which would mean "everybody".
pub(super) fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw)
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// `exit`, `signal`, or `oom`: the `kind` label.
    pub(super) kind: &'static str,
    /// The code, or the signal's name: the `status` label.
    pub(super) status: String,
}

impl Exit {
    /// `oom_kills`: how often the kernel has killed for want of memory since the last look.
    pub(super) fn new(status: ExitStatus, killed_by_us: bool, oom_kills: u64) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match status.signal() {
            None => Self { kind: "exit", status: status.code().unwrap_or_default().to_string() },
            Some(libc::SIGKILL) if !killed_by_us && oom_kills > 0 => {
                Self { kind: "oom", status: name(libc::SIGKILL) }
            }
            Some(signal) => Self { kind: "signal", status: name(signal) },
        }
    }

    /// It did not even start.
    pub(super) fn unstarted() -> Self {
        Self { kind: "exit", status: "not_started".to_owned() }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            "exit" => write!(f, "exit code {}", self.status),
            "oom" => write!(f, "killed by the kernel: out of memory"),
            _ => f.write_str(&self.status),
        }
    }
}

fn name(signal: c_int) -> String {
    let known = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        other => return format!("SIG{other}"),
    };
    known.to_owned()
}

/// The kernel's count of processes killed for want of memory in our cgroup; none where it is not told.
pub(super) fn oom_kills() -> Option<u64> {
    let events = std::fs::read_to_string("/sys/fs/cgroup/memory.events").ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Whether a process was stopped by a signal.
pub(super) fn is_stopped(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()).is_some_and(|process| stands(&process))
}

/// Whether a process or one of its descendants was.
pub(super) fn is_any_stopped(pid: u32) -> bool {
    let mut stopped = false;
    walk(pid, |process| stopped |= stands(process));
    stopped
}

fn stands(process: &Process) -> bool {
    matches!(process.stat().and_then(|stat| stat.state()), Ok(ProcState::Stopped))
}

/// Looks at a process and its descendants: under gunicorn the app is a child of the worker's process.
pub(super) fn walk(pid: u32, mut look: impl FnMut(&Process)) {
    let (mut open, mut seen) = (vec![pid], 0);
    while let Some(pid) = open.pop().filter(|_| seen < MOST_PROCESSES) {
        seen += 1;
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { continue };
        look(&process);
        let tasks = process.tasks().into_iter().flatten().flatten();
        open.extend(tasks.filter_map(|task| task.children().ok()).flatten());
    }
}

/// The program's search path as the worker will see it.
pub(super) fn search_path(env: &[(String, String)]) -> Option<OsString> {
    let own =
        env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| OsStr::new(value).to_owned());
    own.or_else(|| std::env::var_os("PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_the_guard_is_right_for_every_pid() {
        for pid in [1, 9, 10, 4_194_304, i32::MAX] {
            assert_eq!(group_line(&mut [0; 16], pid), format!("+{pid}\n").as_bytes());
        }
    }

    #[test]
    fn nobody_ever_signals_process_1_or_everybody() {
        for raw in [0, 1, u32::MAX] {
            assert_eq!(pid(raw), None);
        }
    }
}
