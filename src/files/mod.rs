//! Answers a request from a file.
//!
//! 1. `resolve` (with `walk` where the kernel lacks openat2): from a relative path to an open file beneath the
//!    application root, or why there is none.
//! 2. `cache`: what was found lately, bounded in bytes, looked at again once a second.
//! 3. `entry`: one file: its stamp, its bytes or descriptor, the tag of its content.
//! 4. `media` and `head`: its type, and the header fields for one set of handler options, built once.
//! 5. `conditional`: 304 or 412 before any byte is sent (RFC 9110, section 13.2.2).
//! 6. `range`: the slice asked for, or 416.
//! 7. `reader`: the pieces of a body too big to hold.
//!
//! Nothing here writes to a socket: an [`Answer`] says what to send. Everything textual about a path (templates,
//! R-CLEANPATH, R-UPLOAD, R-SKIP) is decided before [`FileServer::look`] is asked.
//!
//! An [`Entry`] holds one representation, the identity one. Packed ones (`.br`, `.gz`) would be further
//! `entry::Loaded` values beside it, each with a tag of its own, chosen before step 5.

mod cache;
mod conditional;
mod entry;
mod head;
mod media;
mod range;
mod reader;
mod resolve;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prometheus::IntCounter;
use tokio::sync::Semaphore;

use crate::appyaml::StaticOptions;

use self::cache::{Cache, Found};
use self::conditional::Verdict;
use self::entry::Content;
use self::head::Head;
use self::range::Wanted;
use self::resolve::Root;

pub use self::cache::Usage;
pub use self::entry::Entry;
pub use self::reader::Reader;

/// How many big files may be hashed at once: each takes a blocking thread and a core.
const HASHERS: usize = 4;

/// How long an answer may wait for the tag of a big file before it goes without one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The static files beneath one application root. Shared by all proxy threads.
#[derive(Debug)]
pub struct FileServer {
    root: Root,
    cache: Cache,
    hashers: Arc<Semaphore>,
    epoch: Instant,
    counters: Option<[IntCounter; 3]>,
}

/// Why there is nothing to serve at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// As if it did not exist; the name of the rule that says so (`R-MISSING`, `R-DIR404`, `R-LINK`, …).
    Missing(&'static str),
    /// It exists and may not be read: 403.
    Forbidden,
    /// Nobody knows now, for want of descriptors or memory: 503.
    Unknown,
}

/// What to send.
#[derive(Debug)]
pub struct Answer {
    /// 200, 206, 304, 412, 416, or 500 when the file could not be read.
    pub status: u16,
    /// In order, `Content-Length` included (but for 304); `Date` is the writer's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What follows the head.
    pub body: Body,
}

/// The bytes of an [`Answer`].
#[derive(Debug)]
pub enum Body {
    /// Nothing: HEAD, 304, 412, 416.
    None,
    /// All of it, from memory.
    Bytes(Bytes),
    /// Piece by piece, as fast as the client takes it.
    Stream(Reader),
}

/// Places of the counters of looks.
const HIT: usize = 0;
const MISS: usize = 1;
const ABSENT: usize = 2;

impl FileServer {
    /// Opens the application root. `never_served` are the active app.yaml and what it includes, relative to
    /// `root` (R-CONFIG); `cache` is the number of bytes that may be held in memory.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn open(root: &Path, never_served: &[PathBuf], cache: u64) -> io::Result<Self> {
        Ok(Self::over(Root::open(root, never_served)?, cache))
    }

    fn over(root: Root, cache: u64) -> Self {
        Self {
            root,
            cache: Cache::new(cache),
            hashers: Arc::new(Semaphore::new(HASHERS)),
            epoch: Instant::now(),
            counters: None,
        }
    }

    /// Counts every look: the file was known, was opened, or was known not to be there.
    #[must_use]
    pub fn counted_by(self, counters: [IntCounter; 3]) -> Self {
        Self { counters: Some(counters), ..self }
    }

    fn count(&self, result: usize) {
        if let Some(counters) = &self.counters {
            counters[result].inc();
        }
    }

    /// The file at a clean path relative to the root, as it was at most about a second ago.
    ///
    /// # Errors
    /// [`Absent`] when there is none, or none that may be served.
    pub fn look(&self, rel: &str) -> Result<Arc<Entry>, Absent> {
        let millis = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.look_at(rel, millis)
    }

    /// [`Self::look`] at a given time, in milliseconds since the server began.
    fn look_at(&self, rel: &str, now: u64) -> Result<Arc<Entry>, Absent> {
        let stale = match self.cache.get(rel, now) {
            Found::Fresh(entry) => {
                self.count(HIT);
                return Ok(entry);
            }
            Found::Absent(absent) => {
                self.count(ABSENT);
                return Err(absent);
            }
            Found::Stale(entry) if entry.settled && self.root.stat(rel) == Ok(entry.stamp) => {
                self.count(HIT);
                return Ok(entry);
            }
            Found::Stale(entry) => Some(entry),
            Found::Nothing => None,
        };
        self.count(MISS);
        match self.root.read(rel) {
            Ok((file, stamp)) => {
                let entry = Arc::new(self.cache.entry(rel, file, stamp, now));
                self.cache.keep(rel, &entry);
                Ok(entry)
            }
            // Being out of descriptors or memory says nothing about the file.
            Err(error) if error.is_passing() => stale.ok_or(error.absent()),
            Err(error) => {
                self.cache.keep_absent(rel, error.absent(), now);
                Err(error.absent())
            }
        }
    }

    /// The answer to a request for `entry` under a handler's options. HEAD gets the head of GET; every method
    /// but HEAD is treated as GET.
    pub async fn answer(
        &self,
        entry: &Arc<Entry>,
        options: &StaticOptions,
        method: &Method,
        request: &HeaderMap,
    ) -> Answer {
        if !entry.is_loaded() {
            // Boxed: this branch is rare, and its state would be moved about with every request.
            if Box::pin(self.load(entry, request)).await.is_err() {
                return Answer::bare(500);
            }
        }
        match entry.head(options) {
            Some(head) => respond(entry, head, method, request),
            // Still being hashed, or asked for under more sets of options than are kept: a head for this once.
            None => respond(entry, &Head::build(entry, entry.tag(), options), method, request),
        }
    }

    /// Sees to it that the entry's content and tag are known; that a big file's tag is not is no error.
    async fn load(&self, entry: &Arc<Entry>, request: &HeaderMap) -> io::Result<()> {
        if entry.load_resident()? {
            return Ok(());
        }
        let work = self.load_blocking(entry);
        // Who asks by tag must be answered by tag, however long it takes.
        if entry.is_small() || conditional::asks_by_tag(request) {
            return work.await;
        }
        tokio::time::timeout(PATIENCE, work).await.unwrap_or(Ok(()))
    }

    async fn load_blocking(&self, entry: &Arc<Entry>) -> io::Result<()> {
        let turn = entry.turn().lock_owned().await;
        if entry.is_loaded() {
            return Ok(());
        }
        // Small files are not to wait behind big ones.
        let permit = if entry.is_small() {
            None
        } else {
            Some(Arc::clone(&self.hashers).acquire_owned().await.map_err(io::Error::other)?)
        };
        let (entry, tags) = (Arc::clone(entry), self.cache.tags());
        // Turn and permit go with the work, so that clients who leave early cannot start it many times over.
        let work = tokio::task::spawn_blocking(move || {
            let _held = (turn, permit);
            entry.load(&tags)
        });
        work.await.map_err(io::Error::other)?
    }

    /// What the cache holds, for the metrics.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.cache.usage()
    }
}

/// Steps 5 to 7, on a head that is there.
fn respond(entry: &Entry, head: &Head, method: &Method, request: &HeaderMap) -> Answer {
    let now = SystemTime::now();
    match conditional::evaluate(request, &head.validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => {
            return Answer { status: 304, headers: head.not_modified(now), body: Body::None };
        }
        Verdict::Failed => return Answer::bare(412),
    }
    let length = entry.length();
    let wanted = if *method == Method::GET && head.ranges {
        range::wanted(request, length, |request| conditional::if_range(request, &head.validators, now))
    } else {
        Wanted::Whole
    };
    match wanted {
        Wanted::Whole => {
            let body = if *method == Method::HEAD { Body::None } else { entry.body(0, length) };
            Answer { status: 200, headers: head.whole(now), body }
        }
        Wanted::Part { first, last } => Answer {
            status: 206,
            headers: head.part(now, first, last, length),
            body: entry.body(first, last + 1 - first),
        },
        Wanted::Unsatisfiable => {
            let mut answer = Answer::bare(416);
            answer.headers.push((CONTENT_RANGE, range::unsatisfied(length)));
            answer
        }
    }
}

impl Answer {
    /// An answer of ours that is not the file: no body, not to be kept.
    fn bare(status: u16) -> Self {
        let headers = vec![
            (CONTENT_LENGTH, HeaderValue::from_static("0")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        Self { status, headers, body: Body::None }
    }
}

impl Entry {
    /// `length` bytes from `from` on; the caller has checked them against the length.
    fn body(&self, from: u64, length: u64) -> Body {
        match self.content() {
            Content::Memory(bytes) => {
                let (from, length) = (usize::try_from(from), usize::try_from(length));
                let (from, length) = (from.unwrap_or(usize::MAX), length.unwrap_or(usize::MAX));
                let end = from.saturating_add(length).min(bytes.len());
                Body::Bytes(bytes.slice(from.min(end)..end))
            }
            Content::File(file) => Body::Stream(Reader::new(file, from, length)),
        }
    }
}

#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod tests;
