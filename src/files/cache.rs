//! What was found lately: entries bounded in bytes, absences and tags bounded in number.
//!
//! A kept crate decides what goes first, so that a scan does not flush what is asked for all the time. Whether an
//! entry still holds is not known here: one asker a second is told that it is stale and looks again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use quick_cache::sync::{Cache as Kept, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::coding::Coding;
use super::entry::{Content, Entry, Opened};
use super::pack::{Limits, Pack, Proofs, Siblings};
use super::resolve::Stamp;
use super::{Absent, SMALLEST_PACKED};

/// How long what was found is believed, in milliseconds.
const FRESH: u64 = 1_000;

/// How many absences are remembered, and how long a path may be for that.
const ABSENCES: usize = 1_024;
const LONGEST: usize = 512;

/// How many tags of big files are remembered, and of how many siblings whether they are their files.
const TAGS: usize = 1_024;

/// Up to this a file is read whole rather than streamed, even when there is no room to keep it.
const ALWAYS_WHOLE: u64 = 64 * 1024;

/// Above this no file is held in memory, whatever the budget.
const LARGEST_HELD: u64 = 1024 * 1024;

/// Files up to so many times the largest one held are packed: what comes out of a text is mostly small enough.
const PACKED_TIMES: u64 = 8;

/// What an entry takes beside its content: names, header fields, the table's own. `tests/cost.rs` measures it.
const OVERHEAD: u64 = 6_656;

/// Tags of big files by the state of the file they belong to.
pub(super) type Tags = Arc<Kept<Stamp, HeaderValue>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Kept<Box<str>, Arc<Entry>, Weight>,
    absences: Kept<Box<str>, (Absent, u64)>,
    tags: Tags,
    proofs: Proofs,
    limits: Limits,
    opened: AtomicU64,
}

/// What [`Cache::get`] knows.
#[derive(Debug)]
pub(super) enum Found {
    /// Use it.
    Fresh(Arc<Entry>),
    /// Look whether it still holds; everyone else is told that it is fresh meanwhile.
    Stale(Arc<Entry>),
    /// There was nothing a moment ago.
    Absent(Absent),
    /// Not known.
    Nothing,
}

/// How full the cache is, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Files known.
    pub entries: u64,
    /// Bytes they count for.
    pub bytes: u64,
    /// Files opened since the start, that is questions the cache could not answer.
    pub opened: u64,
}

impl Cache {
    /// A cache of `budget` bytes; with 0 every question goes to the disk.
    pub(super) fn new(budget: u64) -> Self {
        // A shard keeps a part of itself for what was asked for once, and where that part has no room for an item, the
        // item pushes out what is asked for all the time: so shards are few, that part large, and items, a 64th of
        // the whole at most, a quarter of it.
        let largest_held = (budget / 64).clamp(ALWAYS_WHOLE, LARGEST_HELD);
        let items = usize::try_from(budget / (8 * 1024)).unwrap_or(usize::MAX).clamp(64, 128 * 1024);
        // A descriptor held open counts as much as a 256th, so that there are never more than 256.
        let weight = Weight { file: (budget / 256).max(OVERHEAD), largest_held };
        let packed = (budget / 64).min(LARGEST_HELD) * PACKED_TIMES;
        let options = OptionsBuilder::new()
            .shards(4)
            .hot_allocation(0.75)
            .estimated_items_capacity(items)
            .weight_capacity(budget)
            .build();
        let entries = match options {
            Ok(options) => Kept::with_options(
                options,
                weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Only said of options left out.
            Err(_) => Kept::with_weighter(items, budget, weight),
        };
        Self {
            entries,
            absences: Kept::new(ABSENCES),
            tags: Arc::new(Kept::new(TAGS)),
            proofs: Arc::new(Kept::new(TAGS)),
            limits: Limits { held: largest_held, packed },
            opened: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self, rel: &str, now: u64) -> Found {
        if let Some(entry) = self.entries.get(rel) {
            return if entry.is_due(now, FRESH) { Found::Stale(entry) } else { Found::Fresh(entry) };
        }
        match self.absences.get(rel) {
            Some((absent, at)) if now < at.saturating_add(FRESH) => Found::Absent(absent),
            _ => Found::Nothing,
        }
    }

    /// An entry for a file just opened.
    pub(super) fn entry(
        &self,
        rel: &str,
        file: OwnedFd,
        stamp: Stamp,
        siblings: Siblings,
        now: u64,
    ) -> Entry {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let small = stamp.size <= self.limits.held;
        let packable = stamp.size > SMALLEST_PACKED && stamp.size <= self.limits.packed;
        let tag = if small { None } else { self.tags.get(&stamp) };
        Entry::new(rel, Opened { file, stamp, siblings, small, packable, tag }, now)
    }

    pub(super) fn keep(&self, rel: &str, entry: &Arc<Entry>) {
        self.entries.insert(rel.into(), Arc::clone(entry));
        self.absences.remove(rel);
    }

    /// Puts `next` in the place of `entry`, if that is still there. One that has come since for a newer state of the
    /// file may be lost by this; the next look, a second later at most, finds it again.
    pub(super) fn renew(&self, entry: &Arc<Entry>, next: &Arc<Entry>) {
        if self.entries.peek(&*entry.rel).is_some_and(|kept| Arc::ptr_eq(&kept, entry)) {
            let _ = self.entries.replace(entry.rel.clone(), Arc::clone(next), true);
        }
    }

    /// Forgets what was built for handlers' options, not what was read.
    pub(super) fn forget_heads(&self) {
        for (_, entry) in self.entries.iter() {
            self.renew(&entry, &Arc::new(entry.without_heads()));
        }
    }

    pub(super) fn keep_absent(&self, rel: &str, absent: Absent, now: u64) {
        self.entries.remove(rel);
        if rel.len() <= LONGEST {
            self.absences.insert(rel.into(), (absent, now));
        }
    }

    pub(super) fn tags(&self) -> Tags {
        Arc::clone(&self.tags)
    }

    pub(super) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    #[cfg(test)]
    pub(super) fn absences(&self) -> usize {
        self.absences.len()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.entries.len() as u64,
            bytes: self.entries.weight(),
            opened: self.opened.load(Ordering::Relaxed),
        }
    }
}

/// What an entry counts for.
#[derive(Debug, Clone)]
struct Weight {
    file: u64,
    largest_held: u64,
}

impl Weighter<Box<str>, Arc<Entry>> for Weight {
    fn weight(&self, rel: &Box<str>, entry: &Arc<Entry>) -> u64 {
        // By what the file was when opened: more than that is never read into memory.
        let content = if entry.stamp.size <= self.largest_held { entry.stamp.size } else { self.file };
        let packs = Coding::ALL.map(|coding| match entry.pack(coding) {
            Pack::Ready(Content::Memory(_), length) => *length,
            Pack::Ready(Content::File(_), _) => self.file,
            Pack::Unknown | Pack::None => 0,
        });
        // The name is here and in the entry.
        content.saturating_add(packs.iter().sum()).saturating_add(OVERHEAD + 2 * rel.len() as u64)
    }
}
