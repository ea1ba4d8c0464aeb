//! The end of the log: a thread that writes lines to an output, behind a queue that is bounded in lines and in bytes.
//!
//! When the reader of our output stalls, when it is gone, or when a disk is full, lines are dropped and counted, and nobody
//! waits. What a line says is not known here.

use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::metrics::Metrics;

/// Lines that may wait; beyond it lines are dropped. As many may be on their way out.
const WAITING_LINES: usize = 16_384;
/// Bytes of them.
const WAITING_BYTES: usize = 8 << 20;
/// How long the writer gathers lines after the first one.
const GATHER: Duration = Duration::from_millis(5);
/// Room for lines that is kept when they are written.
const KEPT_BYTES: usize = 1 << 20;

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Stdout,
    Stderr,
}

/// What a line is of: the `stream` label when it is dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Access,
    Event,
    Worker,
}

impl Kind {
    const WORDS: [&str; 3] = ["access", "events", "workers"];
}

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
    dropped: [IntCounter; 3],
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or to say about it.
    work: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch,
    /// The writer waits to be woken: only then is it, for that is a system call.
    idle: bool,
    /// There is no writer.
    closed: bool,
    /// Flushes asked for, and those that were done.
    asked: u64,
    done: u64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Lines are appended whole: a panic elsewhere leaves the queue in order.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    pub(super) fn start(target: Target, metrics: &Metrics) -> Self {
        let dropped = Kind::WORDS.map(|word| metrics.log_dropped.with_label_values(&[word]));
        let name = match target {
            Target::Stdout => "log-stdout",
            Target::Stderr => "log-stderr",
        };
        let shared = Arc::new(Shared::default());
        let (queue, lost) = (Arc::clone(&shared), dropped.clone());
        let thread = std::thread::Builder::new().name(name.to_owned());
        // Without a thread every line counts as dropped.
        shared.queue().closed = thread.spawn(move || write_lines(&queue, target, &lost)).is_err();
        Self { shared, dropped }
    }

    /// Hands a line over, or drops it.
    pub(super) fn send(&self, kind: Kind, line: &[u8]) {
        let mut queue = self.shared.queue();
        let full = queue.batch.lines.len() >= WAITING_LINES
            || queue.batch.bytes.len() + line.len() > WAITING_BYTES
            || queue.closed;
        if full {
            drop(queue);
            self.dropped[kind as usize].inc();
            return;
        }
        queue.batch.add(kind, line);
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.shared.work.notify_one();
        }
    }

    /// Waits until what was handed over is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = self.shared.queue();
        queue.asked += 1;
        let mine = queue.asked;
        self.shared.work.notify_one();
        while queue.done < mine && !queue.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Lines that are written together.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends, and what it is of.
    lines: Vec<(usize, Kind)>,
}

impl Batch {
    fn add(&mut self, kind: Kind, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines.push((self.bytes.len(), kind));
    }

    /// Writes it, and counts the lines that did not go out whole: they are gone. `torn`: the last line of the batch before
    /// went out in part.
    fn write(&mut self, to: impl AsFd, torn: &mut bool, dropped: &[IntCounter; 3]) {
        let whole = !*torn || write_all(&to, b"\n") == 1;
        let written = if whole { write_all(&to, &self.bytes) } else { 0 };
        for (_, kind) in self.lines.iter().filter(|(end, _)| *end > written) {
            dropped[*kind as usize].inc();
        }
        if whole {
            let at_end = self.lines.iter().any(|(end, _)| *end == written);
            *torn = written > 0 && !at_end;
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.lines.clear();
    }
}

fn write_lines(shared: &Shared, target: Target, dropped: &[IntCounter; 3]) {
    let (mut batch, mut torn) = (Batch::default(), false);
    loop {
        let mut queue = shared.queue();
        while queue.batch.lines.is_empty() && queue.asked == queue.done {
            queue.idle = true;
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        if queue.asked == queue.done {
            // Not idle now, it is not woken for each line: that would cost every request a system call.
            queue = shared.work.wait_timeout(queue, GATHER).unwrap_or_else(PoisonError::into_inner).0;
        }
        let asked = queue.asked;
        std::mem::swap(&mut batch, &mut queue.batch);
        drop(queue);
        match target {
            Target::Stdout => batch.write(std::io::stdout(), &mut torn, dropped),
            Target::Stderr => batch.write(std::io::stderr(), &mut torn, dropped),
        }
        shared.queue().done = asked;
        shared.written.notify_all();
    }
}

/// Writes as much as can be written; how much that was. The standard library's own would keep what it could not
/// write, and does not tell.
fn write_all(to: impl AsFd, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(&to, rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Somebody made it non-blocking: the reader is slow, not gone.
            Err(Errno::AGAIN) => {
                let mut one = [PollFd::new(&to, PollFlags::OUT)];
                if poll(&mut one, None).is_err_and(|error| error != Errno::INTR) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(dropped: &[IntCounter; 3]) -> [u64; 3] {
        [0, 1, 2].map(|kind| dropped[kind].get())
    }

    #[test]
    fn lines_that_do_not_go_out_are_counted_by_what_they_are() {
        let dropped = Kind::WORDS.map(|word| IntCounter::new(word, "lines").unwrap());
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut batch = Batch::default();
        batch.add(Kind::Access, b"one\n");
        batch.add(Kind::Access, b"two\n");
        batch.add(Kind::Worker, b"three\n");
        let mut torn = false;
        batch.write(&full, &mut torn, &dropped);
        assert_eq!(counts(&dropped), [2, 0, 1]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        batch.add(Kind::Event, b"four\n");
        batch.write(&writer, &mut torn, &dropped);
        assert_eq!(counts(&dropped), [2, 1, 1]);
        assert!(!torn);
    }

    #[test]
    fn a_line_cut_in_half_does_not_spoil_the_next() {
        let dropped = Kind::WORDS.map(|word| IntCounter::new(word, "lines").unwrap());
        let (mut batch, mut torn) = (Batch::default(), true);
        batch.add(Kind::Access, b"whole\n");
        let (mut reader, writer) = std::io::pipe().unwrap();
        batch.write(&writer, &mut torn, &dropped);
        assert!(!torn);
        drop(writer);
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "\nwhole\n");
        assert_eq!(counts(&dropped), [0, 0, 0]);
    }

    #[test]
    fn what_was_handed_over_before_a_flush_is_written_after_it_by_many_threads_at_once() {
        let metrics = Metrics::new().unwrap();
        let outlet = Outlet::start(Target::Stderr, &metrics);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        outlet.send(Kind::Event, b"");
                        outlet.flush(Duration::from_secs(10));
                        assert!(outlet.shared.queue().done > 0);
                    }
                });
            }
        });
        let queue = outlet.shared.queue();
        assert!(queue.batch.lines.is_empty() && queue.done == queue.asked);
        assert_eq!(counts(&outlet.dropped), [0, 0, 0]);
    }

    #[test]
    fn without_a_writer_lines_are_dropped_once_there_is_no_room() {
        let dropped = Kind::WORDS.map(|word| IntCounter::new(word, "lines").unwrap());
        let outlet = Outlet { shared: Arc::new(Shared::default()), dropped };
        for _ in 0..WAITING_LINES + 7 {
            outlet.send(Kind::Access, b"line\n");
        }
        outlet.send(Kind::Worker, &vec![b'x'; WAITING_BYTES]);
        assert_eq!(counts(&outlet.dropped), [7, 0, 1]);
        outlet.shared.queue().closed = true;
        outlet.flush(Duration::from_secs(60));
    }
}
