//! What workers write to stdout and stderr, line by line.
//!
//! A worker must never wait because our own output is slow: lines go to one thread through a bounded channel, and
//! are dropped and counted when it is full.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tracing::warn;

/// A longer line is handed on in pieces of this size.
const LONGEST: usize = 64 * 1024;
/// Lines that may wait for the sink.
const LINES: usize = 4096;
/// Bytes that may wait for the sink.
const BYTES: usize = 8 * 1024 * 1024;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of a worker's output.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The slot's number.
    pub slot: usize,
    /// The process.
    pub pid: u32,
    /// Where it was written.
    pub stream: Stream,
    /// The line without its line feed; any bytes.
    pub text: &'a [u8],
}

/// Takes lines, one at a time, in the order they were read.
pub type Sink = Arc<dyn Fn(Line<'_>) + Send + Sync>;

/// The way to the sink. Cheap to clone; the sink's thread ends with the last clone.
#[derive(Clone)]
pub(super) struct Output {
    lines: SyncSender<Owned>,
    /// Bytes on their way.
    bytes: Arc<AtomicUsize>,
    dropped: IntCounterVec,
}

struct Owned {
    slot: usize,
    pid: u32,
    stream: Stream,
    text: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(sink: Sink, dropped: IntCounterVec) -> Self {
        let (lines, receiver) = sync_channel(LINES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::Builder::new().name("worker-output".to_owned());
        let counter = Arc::clone(&bytes);
        if let Err(error) = thread.spawn(move || deliver(&receiver, &sink, &counter)) {
            warn!(%error, "cannot start a thread: the output of workers is dropped");
        }
        Self { lines, bytes, dropped }
    }

    /// Reads `source` to its end.
    pub(super) async fn pump(self, slot: usize, pid: u32, stream: Stream, source: impl AsyncRead + Unpin) {
        let mut source = BufReader::with_capacity(16 * 1024, source);
        let mut text = Vec::new();
        loop {
            let chunk = match source.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(chunk) => chunk,
            };
            let (taken, whole) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (chunk.len().min(LONGEST.saturating_sub(text.len())).max(1), false),
            };
            text.extend_from_slice(&chunk[..taken - usize::from(whole)]);
            source.consume(taken);
            if whole || text.len() >= LONGEST {
                self.send(slot, pid, stream, std::mem::take(&mut text));
            }
        }
        if !text.is_empty() {
            self.send(slot, pid, stream, text);
        }
    }

    fn send(&self, slot: usize, pid: u32, stream: Stream, mut text: Vec<u8>) {
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        let size = text.len();
        let fits = self.bytes.fetch_add(size, Ordering::Relaxed) + size <= BYTES;
        if !fits || self.lines.try_send(Owned { slot, pid, stream, text }).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.dropped.with_label_values(&[stream.word()]).inc();
        }
    }

    /// Waits a moment for the lines on their way: the last ones often say why.
    pub(super) async fn flush(&self) {
        for _ in 0..50 {
            if self.bytes.load(Ordering::Relaxed) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn deliver(lines: &Receiver<Owned>, sink: &Sink, bytes: &AtomicUsize) {
    for Owned { slot, pid, stream, text } in lines {
        sink(Line { slot, pid, stream, text: &text });
        bytes.fetch_sub(text.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use prometheus::Opts;

    use super::*;

    fn counter() -> IntCounterVec {
        IntCounterVec::new(Opts::new("dropped", "lines"), &["stream"]).expect("valid metric")
    }

    async fn pumped(input: &[u8]) -> Vec<Vec<u8>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let output = Output::new(
            Arc::new(move |line: Line<'_>| sink.lock().unwrap().push(line.text.to_vec())),
            counter(),
        );
        output.clone().pump(0, 1, Stream::Stdout, input).await;
        output.flush().await;
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[tokio::test]
    async fn lines_come_out_one_by_one_and_the_last_needs_no_line_feed() {
        assert_eq!(pumped(b"a\r\n\n\xff\nend").await, [&b"a"[..], b"", b"\xff", b"end"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_and_nothing_of_it_is_lost() {
        let input = vec![b'x'; LONGEST * 2 + 10];
        let lengths: Vec<_> = pumped(&input).await.iter().map(Vec::len).collect();
        assert_eq!(lengths, [LONGEST, LONGEST, 10]);
    }

    #[tokio::test]
    async fn a_sink_that_hangs_never_holds_up_the_worker() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let dropped = counter();
        let output = Output::new(
            Arc::new(move |_: Line<'_>| {
                let _ = held.lock().unwrap().recv();
            }),
            dropped.clone(),
        );
        let input = b"line\n".repeat(LINES * 2);
        output.clone().pump(0, 1, Stream::Stderr, &input[..]).await;
        assert!(dropped.with_label_values(&["stderr"]).get() >= u64::try_from(LINES).unwrap() - 1);
        drop(release);
    }
}
