//! What workers write to stdout and stderr, line by line, those together that belong together (`fold`).
//!
//! A worker must never wait because our own output is slow: entries go to one thread through a bounded channel, and
//! are dropped and counted when it is full.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use prometheus::IntCounterVec;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::balance::Seat;
use crate::telemetry::Asked;

use super::fold::{Entry, Fold, LONGEST, Read};

/// Entries that may wait for the sink.
const LINES: usize = 4096;
/// Bytes that may wait for the sink.
const BYTES: usize = 8 * 1024 * 1024;
/// Room for what is read at once.
const ROOM: usize = 16 * 1024;

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

/// One line of a worker's output, or several that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The slot's number.
    pub slot: usize,
    /// The process.
    pub pid: u32,
    /// Where it was written.
    pub stream: Stream,
    /// Without the last line feed; any bytes.
    pub text: &'a [u8],
    /// When the first line was read.
    pub at: SystemTime,
    /// The request it was printed for, where that is certain.
    pub asked: Option<Asked>,
    /// It is a traceback of Python.
    pub traceback: bool,
}

/// Whose output it is.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) slot: usize,
    pub(super) pid: u32,
    pub(super) stream: Stream,
    /// The worker's seat, once it has one.
    pub(super) seat: Arc<OnceLock<Arc<Seat>>>,
    /// Bytes read from each of its streams, for the seat.
    pub(super) read: Arc<[AtomicU64; 2]>,
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
    source: Source,
    entry: Entry,
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

    /// Reads `stream` to its end.
    pub(super) async fn pump(self, source: Source, mut stream: impl AsyncRead + Unpin) {
        let mut room = vec![0; ROOM];
        let mut lines = Lines::default();
        let mut out = |entry| self.send(&source, entry);
        loop {
            let read = source.read(&mut stream, &mut room);
            let read = match lines.fold.due() {
                Some(due) => match timeout_at(due, read).await {
                    Ok(read) => read,
                    Err(_) => {
                        lines.fold.release(&mut out);
                        continue;
                    }
                },
                None => read.await,
            };
            match read {
                Ok((0, ..)) | Err(_) => break,
                Ok((length, read, asked)) => lines.cut(&room[..length], read, asked, &mut out),
            }
        }
        lines.end(&mut out);
    }

    fn send(&self, source: &Source, entry: Entry) {
        let size = entry.text.len();
        let lines = 1 + entry.text.iter().filter(|byte| **byte == b'\n').count();
        let fits = self.bytes.fetch_add(size, Ordering::Relaxed) + size <= BYTES;
        if !fits || self.lines.try_send(Owned { source: source.clone(), entry }).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.dropped.with_label_values(&[source.stream.word()]).inc_by(lines as u64);
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
    for Owned { source: Source { slot, pid, stream, .. }, entry } in lines {
        let Entry { text, at, asked, traceback } = entry;
        let asked = asked.map(|(_, asked)| asked);
        sink(Line { slot, pid, stream, text: &text, at, asked, traceback });
        bytes.fetch_sub(text.len(), Ordering::Relaxed);
    }
}

impl Source {
    /// Reads once; 0 bytes are the end. Besides, how many of the bytes were printed for the request that is told.
    ///
    /// A request that began before the read began with nothing left in the pipe. If it was alone all the time, what was
    /// printed before its end is its.
    async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        room: &mut [u8],
    ) -> io::Result<(usize, Read, usize)> {
        let sole = || self.seat.get().and_then(|seat| seat.sole());
        let (length, before) = poll_fn(|context| {
            let before = sole();
            let mut buffer = ReadBuf::new(room);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            Poll::Ready(io::Result::Ok((buffer.filled().len(), before)))
        })
        .await?;
        let own = usize::from(self.stream == Stream::Stderr);
        let from = self.read[own].fetch_add(length as u64, Ordering::AcqRel);
        let mut read = Read { at: SystemTime::now(), now: Instant::now(), asked: None };
        let Some(before) = before else { return Ok((length, read, 0)) };
        let known = if before.printed.is_some() { Some(before) } else { sole() };
        let Some(known) = known.filter(|known| known.number == before.number) else {
            return Ok((length, read, 0));
        };
        read.asked = Some((known.number, known.asked));
        let printed = known.printed.map_or(u64::MAX, |printed| printed[own].saturating_sub(from));
        Ok((length, read, usize::try_from(printed).unwrap_or(usize::MAX).min(length)))
    }
}

/// Bytes cut into lines.
#[derive(Default)]
struct Lines {
    fold: Fold,
    /// A line whose end has not come, and when it began.
    begun: Vec<u8>,
    began: Option<Read>,
    /// Pieces of it have gone out.
    long: bool,
}

impl Lines {
    /// The first `asked` of the bytes were printed for the request that `read` tells.
    fn cut(&mut self, bytes: &[u8], read: Read, asked: usize, out: &mut impl FnMut(Entry)) {
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let read = Read { asked: read.asked.filter(|_| at <= asked), ..read };
            let text = line.strip_suffix(b"\n");
            self.more(text.unwrap_or(line), read, out);
            if text.is_some() {
                self.whole(read, out);
            }
        }
    }

    /// More of a line.
    fn more(&mut self, mut bytes: &[u8], read: Read, out: &mut impl FnMut(Entry)) {
        let began = self.began.get_or_insert(read);
        if began.asked.map(|(number, _)| number) != read.asked.map(|(number, _)| number) {
            began.asked = None;
        }
        while self.begun.len() + bytes.len() >= LONGEST {
            let (piece, rest) = bytes.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(piece);
            let read = self.began.unwrap_or(read);
            self.fold.piece(std::mem::take(&mut self.begun), read, out);
            self.long = true;
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }

    /// The end of a line has come.
    fn whole(&mut self, read: Read, out: &mut impl FnMut(Entry)) {
        let mut text = std::mem::take(&mut self.begun);
        let began = self.began.take();
        let read = Read { now: read.now, ..began.unwrap_or(read) };
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        match std::mem::take(&mut self.long) {
            // All of it may have gone out.
            true if text.is_empty() => {}
            true => self.fold.piece(text, read, out),
            false => self.fold.line(text, read, out),
        }
    }

    fn end(&mut self, out: &mut impl FnMut(Entry)) {
        if let (Some(read), false) = (self.began, self.begun.is_empty()) {
            self.whole(read, out);
        }
        self.fold.release(out);
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
