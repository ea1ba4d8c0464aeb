//! Lines that belong together, as one entry: a Python traceback with all it was caused by, or any line with the indented
//! ones after it. A pure value: what time it is and which line came is said to it. It loses nothing and changes no order.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::telemetry::Asked;

/// An entry that would be longer is cut in two.
pub(super) const LONGEST: usize = 64 * 1024;
/// A line waits this long for those that may belong to it.
const QUIET: Duration = Duration::from_millis(20);
/// Within a traceback, whose lines are written one by one: a busy machine may pause between them.
const QUIET_TRACEBACK: Duration = Duration::from_millis(100);
/// Nothing waits longer, whatever follows.
const MOST: Duration = Duration::from_secs(1);

const HEADER: &[u8] = b"Traceback (most recent call last):";
const CONNECTORS: [&[u8]; 2] = [
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
];

/// When a line was read, and for which request it was printed, if that is certain; the number is the request's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) at: SystemTime,
    pub(super) now: Instant,
    pub(super) asked: Option<(u64, Asked)>,
}

/// One or more lines, with line feeds between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) text: Vec<u8>,
    /// When the first of them was read.
    pub(super) at: SystemTime,
    /// The request that all of them were printed for.
    pub(super) asked: Option<(u64, Asked)>,
    /// It is a traceback, or a part of one.
    pub(super) traceback: bool,
}

/// What may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Indented lines, or the traceback that this line announces.
    Plain,
    /// The frames of a traceback, then its exception.
    Frames,
    /// Indented lines, or an empty one and the words that join two tracebacks.
    Told,
    /// The same, and the empty line has come: it is not part of the entry yet.
    Pause,
    /// The words have come: the next traceback.
    Joined,
}

/// The entry that is being put together.
#[derive(Debug)]
struct Held {
    entry: Entry,
    state: State,
    first: Instant,
    last: Instant,
}

/// Puts the lines of one stream of one worker together.
#[derive(Debug, Default)]
pub(super) struct Fold(Option<Held>);

impl Fold {
    /// The next line, without its line feed. Entries that are whole go to `out`.
    pub(super) fn line(&mut self, text: Vec<u8>, read: Read, out: &mut impl FnMut(Entry)) {
        if let Some(held) = &mut self.0
            && let Some(state) = held.follows(&text)
        {
            let paused = held.state == State::Pause;
            if state == State::Pause {
                held.state = state;
                held.last = read.now;
                return;
            }
            if held.entry.text.len() + text.len() + 2 <= LONGEST {
                held.add(paused, &text, state, read);
                return;
            }
            let traceback = held.entry.traceback;
            self.release(out);
            self.0 = Some(Held::of(text, read, state, traceback));
            return;
        }
        self.release(out);
        if text.is_empty() || (text.starts_with(b"{") && text.ends_with(b"}")) {
            // Nothing, or an object of JSON, which must stay one.
            out(Entry::of(text, read, false));
        } else {
            let (state, traceback) = header(&text).map_or((State::Plain, false), |state| (state, true));
            self.0 = Some(Held::of(text, read, state, traceback));
        }
    }

    /// A piece of a line that is too long: nothing belongs to it.
    pub(super) fn piece(&mut self, text: Vec<u8>, read: Read, out: &mut impl FnMut(Entry)) {
        self.release(out);
        out(Entry::of(text, read, false));
    }

    /// When to [`Fold::release`] what is held, if nothing comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let held = self.0.as_ref()?;
        let quiet = if held.entry.traceback { QUIET_TRACEBACK } else { QUIET };
        Some((held.last + quiet).min(held.first + MOST))
    }

    /// Lets go what is held.
    pub(super) fn release(&mut self, out: &mut impl FnMut(Entry)) {
        let Some(Held { entry, state, .. }) = self.0.take() else { return };
        let empty = Entry { text: Vec::new(), traceback: false, ..entry };
        out(entry);
        if state == State::Pause {
            out(empty);
        }
    }
}

impl Entry {
    fn of(text: Vec<u8>, read: Read, traceback: bool) -> Self {
        Self { text, at: read.at, asked: read.asked, traceback }
    }
}

impl Held {
    fn of(text: Vec<u8>, read: Read, state: State, traceback: bool) -> Self {
        Self { entry: Entry::of(text, read, traceback), state, first: read.now, last: read.now }
    }

    fn add(&mut self, paused: bool, text: &[u8], state: State, read: Read) {
        let Self { entry, .. } = self;
        entry.text.extend_from_slice(if paused { b"\n\n" } else { b"\n" });
        entry.text.extend_from_slice(text);
        entry.traceback |= state != State::Plain;
        if entry.asked.map(|(number, _)| number) != read.asked.map(|(number, _)| number) {
            entry.asked = None;
        }
        (self.state, self.last) = (state, read.now);
    }

    /// The state after `line`, if that belongs to this entry.
    fn follows(&self, line: &[u8]) -> Option<State> {
        let indented = line.starts_with(b" ") || line.starts_with(b"\t");
        match self.state {
            State::Plain => match header(line) {
                Some(state) => announces(&self.entry.text).then_some(state),
                None => indented.then_some(State::Plain),
            },
            State::Frames if indented => Some(State::Frames),
            State::Frames => (!line.is_empty()).then_some(State::Told),
            State::Told if line.is_empty() => Some(State::Pause),
            State::Told => (indented && header(line).is_none()).then_some(State::Told),
            State::Pause => CONNECTORS.contains(&line).then_some(State::Joined),
            State::Joined if line.is_empty() => Some(State::Joined),
            State::Joined => header(line),
        }
    }
}

/// The state after the first line of a traceback. All lines of a group are indented.
fn header(line: &[u8]) -> Option<State> {
    let bare = line.trim_ascii_start();
    if bare.starts_with(HEADER) && bare.len() == line.len() {
        return Some(State::Frames);
    }
    let group = bare.strip_prefix(b"+ Exception Group ")?;
    group.starts_with(HEADER).then_some(State::Told)
}

/// Whether a line is the kind after which a traceback follows, such as a logger's message.
fn announces(line: &[u8]) -> bool {
    const WORDS: [&[u8]; 5] = [b"rror", b"xception", b"ERROR", b"CRITICAL", b"WARNING"];
    !line.contains(&b'\n') && WORDS.iter().any(|word| line.windows(word.len()).any(|part| part == *word))
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
