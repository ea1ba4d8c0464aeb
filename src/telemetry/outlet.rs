//! The end of the log: a thread that writes lines to an output, behind a queue that is bounded in lines and in bytes.
//!
//! When the reader of our output stalls, when it is gone, or when a disk is full, lines are dropped and counted, and nobody
//! waits. What a line says is not known here.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::metrics::Metrics;

/// Lines that may wait; beyond it lines are dropped.
const WAITING_LINES: usize = 16_384;
/// Bytes of them.
const WAITING_BYTES: usize = 16 << 20;
/// How long the writer gathers lines after the first one.
const GATHER: Duration = Duration::from_millis(5);
/// The writer gathers lines up to this many bytes before it writes.
const BATCH_BYTES: usize = 64 * 1024;

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

enum Message {
    Line(Kind, Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    sender: SyncSender<Message>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    dropped: [IntCounter; 3],
}

impl Outlet {
    pub(super) fn start(target: Target, metrics: &Metrics) -> Self {
        let (sender, receiver) = sync_channel(WAITING_LINES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let dropped = Kind::WORDS.map(|word| metrics.log_dropped.with_label_values(&[word]));
        let name = match target {
            Target::Stdout => "log-stdout",
            Target::Stderr => "log-stderr",
        };
        let (held, lost) = (Arc::clone(&waiting), dropped.clone());
        // Without a thread the queue is closed and every line counts as dropped.
        let _ = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_lines(&receiver, target, &held, &lost));
        Self { sender, waiting, dropped }
    }

    /// Hands a line over, or drops it.
    pub(super) fn send(&self, kind: Kind, line: Vec<u8>) {
        let bytes = line.len();
        let fits = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES;
        if !fits || self.sender.try_send(Message::Line(kind, line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped[kind as usize].inc();
        }
    }

    /// Waits until what was handed over is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends, and what it is of.
    lines: Vec<(usize, Kind)>,
    /// The last line of the batch before went out in part.
    torn: bool,
}

impl Batch {
    fn add(&mut self, kind: Kind, line: &[u8]) {
        if std::mem::take(&mut self.torn) {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(line);
        self.lines.push((self.bytes.len(), kind));
    }

    /// Writes it, and counts the lines that did not go out whole: they are gone.
    fn write(&mut self, to: impl AsFd, dropped: &[IntCounter; 3]) {
        let written = write_all(to, &self.bytes);
        for (_, kind) in self.lines.iter().filter(|(end, _)| *end > written) {
            dropped[*kind as usize].inc();
        }
        self.torn = written > 0 && written < self.bytes.len();
        self.bytes.clear();
        self.lines.clear();
    }
}

fn write_lines(
    receiver: &Receiver<Message>,
    target: Target,
    waiting: &AtomicUsize,
    dropped: &[IntCounter; 3],
) {
    let mut batch = Batch::default();
    while let Ok(first) = receiver.recv() {
        let mut flushed = Vec::new();
        let mut next = Some(first);
        // Asleep here, it need not be woken for each line: that would cost every request a system call.
        if matches!(next, Some(Message::Line(..))) {
            std::thread::sleep(GATHER);
        }
        while let Some(message) = next {
            match message {
                Message::Line(kind, line) => {
                    waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    batch.add(kind, &line);
                }
                Message::Flush(done) => flushed.push(done),
            }
            next = if batch.bytes.len() < BATCH_BYTES { receiver.try_recv().ok() } else { None };
        }
        match target {
            Target::Stdout => batch.write(std::io::stdout(), dropped),
            Target::Stderr => batch.write(std::io::stderr(), dropped),
        }
        for done in flushed {
            let _ = done.try_send(());
        }
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
        batch.write(&full, &dropped);
        assert_eq!(counts(&dropped), [2, 0, 1]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        batch.add(Kind::Event, b"four\n");
        batch.write(&writer, &dropped);
        assert_eq!(counts(&dropped), [2, 1, 1]);
    }

    #[test]
    fn a_line_cut_in_half_does_not_spoil_the_next() {
        let dropped = Kind::WORDS.map(|word| IntCounter::new(word, "lines").unwrap());
        let mut batch = Batch { torn: true, ..Batch::default() };
        batch.add(Kind::Access, b"whole\n");
        assert_eq!(batch.bytes, b"\nwhole\n");
        let (mut reader, writer) = std::io::pipe().unwrap();
        batch.write(&writer, &dropped);
        drop(writer);
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "\nwhole\n");
        assert_eq!(counts(&dropped), [0, 0, 0]);
    }
}
