//! Answers a request from a file.
//!
//! 1. `resolve` (with `walk` where the kernel lacks openat2): from a relative path to an open file beneath the
//!    application root, or why there is none.
//! 2. `cache`: what was found lately, bounded in bytes, looked at again once a second.
//! 3. `entry`: one file: its stamp, its bytes or descriptor, the tag of its content.
//! 4. `media`, `head` and `fields`: its type, and the header fields for one set of handler options, built once.
//! 5. `conditional`: 304 or 412 before any byte is sent (RFC 9110, section 13.2.2).
//! 6. `range`: the slice asked for, or 416.
//! 7. `reader`: the pieces of a body too big to hold.
//! 8. `coding` and `pack`: which packed copy the request wants, and where that comes from.
//!
//! Nothing here writes to a socket: an [`Answer`] says what to send. Everything textual about a path (templates,
//! R-CLEANPATH, R-UPLOAD, R-SKIP) is decided before [`FileServer::look`] is asked; only names the server makes up
//! itself, those of packed siblings, are held against R-SKIP here.

mod answer;
mod cache;
mod coding;
mod conditional;
mod entry;
mod fields;
mod head;
mod media;
mod pack;
mod range;
mod reader;
mod resolve;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use prometheus::IntCounter;
use rustix::fs::stat;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::appyaml::StaticOptions;
use crate::pattern::Pattern;

use self::answer::Wanted;
use self::cache::{Cache, Found};
use self::coding::Accepted;
use self::head::Head;
use self::pack::Siblings;
use self::resolve::{Root, Stamp};

pub use self::answer::{Answer, Body};
pub use self::cache::Usage;
pub use self::coding::Coding;
pub use self::entry::Entry;
pub use self::reader::Reader;

/// How many big files may be hashed at once: each takes a blocking thread and a core.
const HASHERS: usize = 4;

/// How long an answer may wait for the tag of a big file before it goes without one, or for a packed copy before
/// the file goes as it lies.
const PATIENCE: Duration = Duration::from_secs(1);

/// What fits into one packet is not made smaller.
const SMALLEST_PACKED: u64 = 1_024;

/// The static files beneath one application root. Shared by all proxy threads.
#[derive(Debug)]
pub struct FileServer {
    root: Arc<Root>,
    /// R-SKIP, for the names of packed siblings.
    skip_files: Option<Pattern>,
    cache: Arc<Cache>,
    budget: u64,
    hashers: Arc<Semaphore>,
    packers: Arc<Semaphore>,
    epoch: Instant,
    counters: Option<[IntCounter; 3]>,
}

/// Places of the counters of looks.
const HIT: usize = 0;
const MISS: usize = 1;
const ABSENT: usize = 2;

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
        // Packing never takes more than half of the cores from serving.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            root: Arc::new(root),
            skip_files: None,
            cache: Arc::new(Cache::new(cache)),
            budget: cache,
            hashers: Arc::new(Semaphore::new(HASHERS)),
            packers: Arc::new(Semaphore::new((cores / 2).max(1))),
            epoch: Instant::now(),
            counters: None,
        }
    }

    /// Packed siblings with names that match are not used (R-SKIP).
    #[must_use]
    pub fn skipping(mut self, skip_files: Pattern) -> Self {
        self.skip_files = Some(skip_files);
        self
    }

    /// Counts every look: the file was known, was opened, or was known not to be there.
    #[must_use]
    pub fn counted_by(mut self, counters: [IntCounter; 3]) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Whether a server opened with all of this would do what this one does; then it may go on with what it knows.
    #[must_use]
    pub fn is_over(&self, root: &Path, never_served: &[PathBuf], skip_files: &Pattern, cache: u64) -> bool {
        self.budget == cache
            && self.skip_files.as_ref().map(Pattern::as_str) == Some(skip_files.as_str())
            && self.root.never_served() == never_served
            // Another directory may have come to the same place.
            && stat(root).is_ok_and(|stat| self.root.is(&stat))
    }

    /// To be called when handlers' options have changed: what was built for the old ones makes room.
    pub fn forget_heads(&self) {
        self.cache.forget_heads();
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
            Found::Fresh(entry) => return self.counted(HIT, Ok(entry)),
            Found::Absent(absent) => return self.counted(ABSENT, Err(absent)),
            Found::Stale(entry) if self.holds(&entry) => return self.counted(HIT, Ok(entry)),
            Found::Stale(entry) => Some(entry),
            Found::Nothing => None,
        };
        self.counted(MISS, ());
        match self.root.read(rel) {
            Ok((file, stamp)) => {
                let siblings = self.siblings(rel, &stamp);
                let entry = Arc::new(self.cache.entry(rel, file, stamp, siblings, now));
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

    fn counted<T>(&self, place: usize, found: T) -> T {
        if let Some(counters) = &self.counters {
            counters[place].inc();
        }
        found
    }

    /// Whether the file and what lies beside it are as they were.
    fn holds(&self, entry: &Entry) -> bool {
        entry.settled
            && self.root.stat(&entry.rel) == Ok(entry.stamp)
            && self.siblings(&entry.rel, &entry.stamp) == entry.siblings
    }

    fn siblings(&self, rel: &str, stamp: &Stamp) -> Siblings {
        // A pattern that cannot tell forbids.
        let skips = |name: &str| self.skip_files.as_ref().is_some_and(|skip| skip.starts(name) != Ok(false));
        pack::siblings(&self.root, skips, rel, stamp)
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
        match with_head(entry, options, |head| answer::of(entry, head, method, request)) {
            Ok(answer) => answer,
            Err(wanted) => Box::pin(self.answer_packed(entry, options, method, request, wanted)).await,
        }
    }

    /// The answer that a packed copy has to be found for first.
    async fn answer_packed(
        &self,
        entry: &Arc<Entry>,
        options: &StaticOptions,
        method: &Method,
        request: &HeaderMap,
        Wanted { make, accepted }: Wanted,
    ) -> Answer {
        let packed = self.pack(entry, make, accepted).await;
        let entry = packed.as_ref().unwrap_or(entry);
        with_head(entry, options, |head| answer::best(entry, head, accepted, method, request))
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
        timeout(PATIENCE, work).await.unwrap_or(Ok(()))
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
        let work = spawn_blocking(move || {
            let _held = (turn, permit);
            entry.load(&tags)
        });
        work.await.map_err(io::Error::other)?
    }

    /// The entry with its packed copies. The first one to ask waits for them (and so does everyone else meanwhile):
    /// what a shared cache before us gets first it keeps as long as `max-age` says, and that should be the small one.
    /// But nobody waits long, who takes the file as it lies.
    async fn pack(&self, entry: &Arc<Entry>, make: bool, accepted: Accepted) -> Option<Arc<Entry>> {
        let work = self.pack_blocking(entry, make);
        if accepted.takes(Coding::Identity) {
            timeout(PATIENCE, work).await.ok().flatten()
        } else {
            work.await
        }
    }

    async fn pack_blocking(&self, entry: &Arc<Entry>, make: bool) -> Option<Arc<Entry>> {
        let turn = entry.turn().lock_owned().await;
        let entry = entry.newest();
        if pack::are_known(&entry, make) {
            return Some(entry);
        }
        let permit = Arc::clone(&self.packers).acquire_owned().await.ok()?;
        let (root, cache) = (Arc::clone(&self.root), Arc::clone(&self.cache));
        // As with hashing, the work outlives who asked for it.
        let work = spawn_blocking(move || {
            let _held = (turn, permit);
            let packs = pack::all(&root, &entry, cache.limits(), cache.proofs(), make);
            let next = Arc::new(entry.with_packs(packs));
            entry.replaced_by(&next);
            cache.renew(&entry, &next);
            next
        });
        work.await.ok()
    }

    /// What the cache holds, for the metrics.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.cache.usage()
    }
}

fn with_head<T>(entry: &Entry, options: &StaticOptions, answer: impl FnOnce(&Head) -> T) -> T {
    match entry.head(options) {
        Some(head) => answer(head),
        // Still being hashed, or asked for under more sets of options than are kept: a head for this once.
        None => answer(&Head::build(entry, entry.tag(), options)),
    }
}

#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod tests;
