//! One file as it was when opened: its stamp, its content in memory or behind a descriptor, the tag of its content.
//!
//! The tag is a hash of the content and nothing else: image builds set every mtime to one old date, and replicas
//! must agree. The content is read at the first answer, not at the first look.
//!
//! What an entry counts for in the cache never changes: when packed copies are known, an entry that has them takes
//! its place ([`Entry::with_packs`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use rustix::fs::fstat;
use tokio::sync::Mutex as Turn;

use crate::appyaml::StaticOptions;

use super::cache::Tags;
use super::coding::Coding;
use super::head::Head;
use super::media;
use super::pack::{Pack, Siblings};
use super::reader;
use super::resolve::Stamp;

/// Read and hashed at once, without a blocking thread, when the page cache has it.
const INLINE: u64 = 64 * 1024;

/// Pieces in which a big file is hashed.
const PIECE: usize = 256 * 1024;

/// A file changed less than this before it was read may change again without its stamp telling: clocks of file
/// systems tick as slowly as this.
const SETTLING: Duration = Duration::from_secs(2);

/// Above this a file is hashed only once it has settled: one that grows all the time would be hashed all the time.
const RESTLESS: u64 = 64 * 1024 * 1024;

/// 1990-01-01: build tools that set dates at all set them to 1970 or 1980.
const BELIEVABLE: u64 = 631_152_000;

/// Sets of handler options an entry keeps a head for; more handlers than this for one file are rare.
const HEADS: usize = 4;

/// One file that may be served.
#[derive(Debug)]
pub struct Entry {
    /// Where it lies beneath the root.
    pub(super) rel: Box<str>,
    /// The type by its name.
    pub(super) media: &'static str,
    /// The state the file was in.
    pub(super) stamp: Stamp,
    /// Whether an equal stamp means equal content.
    pub(super) settled: bool,
    /// When it was last changed, if that is believable.
    pub(super) modified: Option<SystemTime>,
    /// Packed copies beside it that may be used once they are known to be the file.
    pub(super) siblings: Siblings,
    /// Whether it may be packed here, were it a text.
    pub(super) packable: bool,
    packs: [Pack; 3],
    /// The entry that took the place of this one, with packed copies.
    next: OnceLock<Arc<Self>>,
    small: bool,
    checked: AtomicU64,
    handle: Mutex<Option<Arc<OwnedFd>>>,
    loaded: OnceLock<Loaded>,
    turn: Arc<Turn<()>>,
    heads: [OnceLock<Box<Head>>; HEADS],
}

/// The content, once known.
#[derive(Debug, Clone)]
struct Loaded {
    content: Content,
    /// None when the file was being changed while it was hashed.
    tag: Option<HeaderValue>,
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// All of them here.
    Memory(Bytes),
    /// In an open file.
    File(Arc<OwnedFd>),
}

/// What an entry is made of.
pub(super) struct Opened {
    /// The open file.
    pub(super) file: OwnedFd,
    /// Its state.
    pub(super) stamp: Stamp,
    /// What lies beside it.
    pub(super) siblings: Siblings,
    /// Whether it is held in memory.
    pub(super) small: bool,
    /// Whether it may be packed here.
    pub(super) packable: bool,
    /// When a file of this stamp was hashed before.
    pub(super) tag: Option<HeaderValue>,
}

impl Entry {
    pub(super) fn new(rel: &str, opened: Opened, now: u64) -> Self {
        let Opened { file, stamp, siblings, small, packable, tag } = opened;
        let wall = SystemTime::now();
        let file = Arc::new(file);
        let loaded = OnceLock::new();
        if let Some(tag) = tag {
            let _ = loaded.set(Loaded { content: Content::File(Arc::clone(&file)), tag: Some(tag) });
        }
        let stamps = std::iter::once(stamp).chain(siblings.into_iter().flatten());
        Self {
            rel: rel.into(),
            media: media::of(rel),
            stamp,
            settled: stamps.into_iter().all(|stamp| is_settled(stamp.changed, wall)),
            modified: believable(stamp.modified.0, wall),
            siblings,
            packable,
            packs: Default::default(),
            next: OnceLock::new(),
            small,
            checked: AtomicU64::new(now),
            handle: Mutex::new(Some(file)),
            loaded,
            turn: Arc::new(Turn::new(())),
            heads: [const { OnceLock::new() }; HEADS],
        }
    }

    /// The same file with these packed copies. Its heads are built anew.
    pub(super) fn with_packs(&self, packs: [Pack; 3]) -> Self {
        Self {
            rel: self.rel.clone(),
            media: self.media,
            stamp: self.stamp,
            settled: self.settled,
            modified: self.modified,
            siblings: self.siblings,
            packable: self.packable,
            packs,
            next: OnceLock::new(),
            small: self.small,
            checked: AtomicU64::new(self.checked.load(Ordering::Relaxed)),
            handle: Mutex::new(self.handle()),
            loaded: self.loaded.clone(),
            turn: Arc::clone(&self.turn),
            heads: [const { OnceLock::new() }; HEADS],
        }
    }

    /// The same file and copies without its heads: the handlers' options may have changed.
    pub(super) fn without_heads(&self) -> Self {
        self.with_packs(self.packs.clone())
    }

    pub(super) fn pack(&self, coding: Coding) -> &Pack {
        &self.packs[coding as usize]
    }

    /// The newest entry for this state of the file.
    pub(super) fn newest(self: &Arc<Self>) -> Arc<Self> {
        let mut newest = self;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        Arc::clone(newest)
    }

    pub(super) fn replaced_by(&self, next: &Arc<Self>) {
        let _ = self.next.set(Arc::clone(next));
    }

    /// Whether the caller is the one to look again; the others go on with what is there.
    pub(super) fn is_due(&self, now: u64, fresh: u64) -> bool {
        let checked = self.checked.load(Ordering::Relaxed);
        now >= checked.saturating_add(fresh)
            && self.checked.compare_exchange(checked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn is_small(&self) -> bool {
        self.small
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// Whoever holds it does the loading.
    pub(super) fn turn(&self) -> Arc<Turn<()>> {
        Arc::clone(&self.turn)
    }

    /// The number of bytes that will be sent for the whole.
    pub(super) fn length(&self) -> u64 {
        match self.loaded.get() {
            // What was read: the file may have been cut since it was opened.
            Some(Loaded { content: Content::Memory(bytes), .. }) => bytes.len() as u64,
            _ => self.stamp.size,
        }
    }

    pub(super) fn content(&self) -> Content {
        match (self.loaded.get(), self.handle()) {
            (Some(loaded), _) => loaded.content.clone(),
            (None, Some(file)) => Content::File(file),
            (None, None) => Content::Memory(Bytes::new()),
        }
    }

    /// The tag of the content, with its quotes.
    pub(super) fn tag(&self) -> Option<&HeaderValue> {
        self.loaded.get()?.tag.as_ref()
    }

    /// The head for these options, built at the first call; none as long as the content is not known.
    pub(super) fn head(&self, options: &StaticOptions) -> Option<&Head> {
        let loaded = self.loaded.get()?;
        for slot in &self.heads {
            let head = slot.get_or_init(|| Box::new(Head::build(self, loaded.tag.as_ref(), options)));
            if head.is_for(options) {
                return Some(head);
            }
        }
        None
    }

    /// Loads a small file if that means no waiting for a disk. True when it is loaded then.
    pub(super) fn load_resident(&self) -> io::Result<bool> {
        if !self.small || self.stamp.size > INLINE {
            return Ok(self.is_loaded());
        }
        let Some(file) = self.handle() else { return Ok(self.is_loaded()) };
        let length = usize::try_from(self.stamp.size).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        if reader::resident(&file, &mut bytes, 0)? != Some(length) {
            return Ok(length == 0 && self.hold(Vec::new()));
        }
        Ok(self.hold(bytes))
    }

    /// Loads the content, or hashes it where it lies. Blocks.
    pub(super) fn load(&self, tags: &Tags) -> io::Result<()> {
        let Some(file) = self.handle() else { return Ok(()) };
        if self.small {
            let mut bytes = vec![0; usize::try_from(self.stamp.size).map_err(io::Error::other)?];
            let read = reader::fill(&file, &mut bytes, 0)?;
            bytes.truncate(read);
            self.hold(bytes);
            return Ok(());
        }
        let hash =
            if self.settled || self.stamp.size <= RESTLESS { hash(&file, self.stamp.size)? } else { None };
        // Only a file that stayed as it was has the content that was hashed.
        let tag = hash.filter(|_| fstat(&*file).is_ok_and(|stat| Stamp::of(&stat) == self.stamp));
        if let (Some(tag), true) = (&tag, self.settled) {
            tags.insert(self.stamp, tag.clone());
        }
        let _ = self.loaded.set(Loaded { content: Content::File(file), tag });
        Ok(())
    }

    fn hold(&self, bytes: Vec<u8>) -> bool {
        let tag = quoted(&blake3::hash(&bytes));
        let _ = self.loaded.set(Loaded { content: Content::Memory(bytes.into()), tag });
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = None;
        true
    }

    fn handle(&self) -> Option<Arc<OwnedFd>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn hash(file: &OwnedFd, size: u64) -> io::Result<Option<HeaderValue>> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let wanted = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let read = reader::fill(file, &mut piece[..wanted], at)?;
        if read == 0 {
            return Ok(None);
        }
        hasher.update(&piece[..read]);
        at += read as u64;
    }
    Ok(quoted(&hasher.finalize()))
}

/// A strong tag: half of the hash is more than anyone can collide by accident.
pub(super) fn quoted(hash: &blake3::Hash) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(format!("\"{}\"", &hash.to_hex().as_str()[..32]))).ok()
}

fn is_settled((seconds, nanos): (i64, u32), now: SystemTime) -> bool {
    let Some(changed) =
        u64::try_from(seconds).ok().and_then(|s| UNIX_EPOCH.checked_add(Duration::new(s, nanos)))
    else {
        return true;
    };
    // A date from far ahead is a clock set back since: it will not change with the next write alone.
    match now.duration_since(changed) {
        Ok(age) => age >= SETTLING,
        Err(ahead) => ahead.duration() >= SETTLING,
    }
}

fn believable(seconds: i64, now: SystemTime) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds >= BELIEVABLE)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|&modified| modified <= now)
}
