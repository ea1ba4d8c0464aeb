//! Packed copies of a file: the ones build tools left beside it (`.br`, `.gz`), and gzip made here, once.
//!
//! A sibling is served under the file's own URL, so it must be the file: it is unpacked once and compared with the
//! hash of the file's content. Nothing else (age, name) tells a stale copy, or another file that only has
//! the name of one and whose own URL may be protected. Everything here blocks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderValue;
use quick_cache::sync::Cache as Kept;
use rustix::fs::fstat;

use super::coding::Coding;
use super::entry::{Content, Entry, quoted};
use super::reader;
use super::resolve::{Root, Stamp};

/// Zlib's own choice. Level 9 gains a hundredth on scripts and styles and takes three times as long.
const LEVEL: u32 = 6;

/// Pieces in which files are read, packed and unpacked.
const PIECE: usize = 64 * 1024;

/// A packed copy of a file.
#[derive(Debug, Clone, Default)]
pub(super) enum Pack {
    /// Nobody has asked for it yet.
    #[default]
    Unknown,
    /// There is none, or it would not be smaller, or it is not the file.
    None,
    /// So many bytes.
    Ready(Content, u64),
}

/// What was found beside a file, by coding: the state the sibling was in.
pub(super) type Siblings = [Option<Stamp>; 3];

/// Whether a sibling in one state unpacks to a file in another: told once, not at each opening.
pub(super) type Proofs = Arc<Kept<(Stamp, Stamp), bool>>;

/// How large what is kept may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Files up to this are held in memory, packed copies too.
    pub(super) held: u64,
    /// Files up to this are packed here; 0 when nothing could be kept.
    pub(super) packed: u64,
}

/// The siblings that may be used, as they are now: regular files beneath the root, no older than the file.
pub(super) fn siblings(root: &Root, skips: impl Fn(&str) -> bool, rel: &str, stamp: &Stamp) -> Siblings {
    if stamp.size <= super::SMALLEST_PACKED {
        return [None; 3];
    }
    Coding::ALL.map(|coding| {
        if coding == Coding::Identity {
            return None;
        }
        let name = format!("{rel}{}", coding.extension());
        let found = root.stat(&name).ok()?;
        (found.modified >= stamp.modified && !skips(&name)).then_some(found)
    })
}

/// Whether [`all`] has nothing to find out.
pub(super) fn are_known(entry: &Entry, make: bool) -> bool {
    let unknown = |coding: Coding| matches!(entry.pack(coding), Pack::Unknown);
    let open = |coding: Coding| entry.siblings[coding as usize].is_some() || (make && coding == Coding::Gzip);
    !Coding::ALL.into_iter().any(|coding| unknown(coding) && open(coding))
}

/// The packed copies of a loaded file; gzip is made where there is no sibling if `make` says so.
pub(super) fn all(root: &Root, entry: &Entry, limits: Limits, proofs: &Proofs, make: bool) -> [Pack; 3] {
    Coding::ALL.map(|coding| {
        let Some(tag) = entry.tag().filter(|_| coding != Coding::Identity) else { return Pack::None };
        match entry.pack(coding) {
            Pack::Unknown => {}
            known => return known.clone(),
        }
        let sibling = entry.siblings[coding as usize];
        if let Some((content, length)) =
            sibling.and_then(|stamp| sibling_of(root, entry, coding, stamp, tag, limits, proofs))
        {
            return Pack::Ready(content, length);
        }
        match (coding, make) {
            (Coding::Gzip, true) => packed(entry, tag, limits).unwrap_or(Pack::None),
            // Another handler may call the same file a text.
            (Coding::Gzip, false) if sibling.is_none() => Pack::Unknown,
            _ => Pack::None,
        }
    })
}

/// The sibling, if it is what it was when it was found, smaller than the file, and the file.
fn sibling_of(
    root: &Root,
    entry: &Entry,
    coding: Coding,
    stamp: Stamp,
    tag: &HeaderValue,
    limits: Limits,
    proofs: &Proofs,
) -> Option<(Content, u64)> {
    let (file, found) = root.read(&format!("{}{}", entry.rel, coding.extension())).ok()?;
    if found != stamp || stamp.size >= entry.length() {
        return None;
    }
    let known = proofs.get(&(entry.stamp, stamp)).filter(|_| entry.settled);
    if known == Some(false) {
        return None;
    }
    let unpacks = |packed: &mut dyn BufRead| known.unwrap_or_else(|| is_same(packed, coding, entry, tag));
    let (content, same) = if stamp.size <= limits.held {
        let mut bytes = vec![0; usize::try_from(stamp.size).ok()?];
        let read = reader::fill(&file, &mut bytes, 0).ok()?;
        let same = read == bytes.len() && unpacks(&mut bytes.as_slice());
        (Content::Memory(Bytes::from(bytes)), same)
    } else {
        // It is not held, so it can still change: only one that would be noticed to have done so is used.
        let same = entry.settled && unpacks(&mut BufReader::with_capacity(PIECE, FileReader::new(&file)));
        let unchanged = fstat(&file).is_ok_and(|stat| Stamp::of(&stat) == stamp);
        (Content::File(Arc::new(file)), same && unchanged)
    };
    if entry.settled {
        proofs.insert((entry.stamp, stamp), same);
    }
    same.then_some((content, stamp.size))
}

/// Whether `packed` unpacks to the content with this tag, and nothing follows it.
fn is_same(packed: &mut dyn BufRead, coding: Coding, entry: &Entry, tag: &HeaderValue) -> bool {
    let length = entry.length();
    let unpacked = match coding {
        Coding::Identity => return false,
        Coding::Gzip => {
            let mut decoder = GzDecoder::new(packed);
            let hash = hash_of(&mut decoder, length);
            let rest = decoder.into_inner().fill_buf().map(<[u8]>::is_empty);
            hash.filter(|_| rest.unwrap_or(false))
        }
        Coding::Brotli => hash_of(&mut Decompressor::new(packed, PIECE), length),
    };
    unpacked.and_then(|hash| quoted(&hash)).is_some_and(|own| own == *tag)
}

/// The hash of what comes, if that is exactly `length` bytes: more is not even unpacked.
fn hash_of(from: &mut dyn Read, length: u64) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut left = length;
    loop {
        match from.read(&mut piece) {
            Ok(0) => return (left == 0).then(|| hasher.finalize()),
            Ok(read) => {
                left = left.checked_sub(read as u64)?;
                hasher.update(&piece[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Gzip of the content with this tag, when it is small enough to be packed and to be kept.
fn packed(entry: &Entry, tag: &HeaderValue, limits: Limits) -> io::Result<Pack> {
    let length = entry.length();
    if length > limits.packed {
        return Ok(Pack::None);
    }
    let most = usize::try_from(limits.held.min(length - 1)).unwrap_or(usize::MAX);
    let mut encoder = GzEncoder::new(Vec::with_capacity(most / 4), Compression::new(LEVEL));
    match entry.content() {
        Content::Memory(bytes) => encoder.write_all(&bytes)?,
        Content::File(file) => {
            // Packed and hashed in one go: what is kept is what the tag says, or nothing.
            let mut hasher = blake3::Hasher::new();
            let mut source = FileReader::new(&file).take(length);
            let mut piece = vec![0; PIECE];
            loop {
                let read = source.read(&mut piece)?;
                if read == 0 || encoder.get_ref().len() > most {
                    break;
                }
                hasher.update(&piece[..read]);
                encoder.write_all(&piece[..read])?;
            }
            if quoted(&hasher.finalize()).is_none_or(|own| own != *tag) {
                return Ok(Pack::None);
            }
        }
    }
    let mut bytes = encoder.finish()?;
    if bytes.len() > most {
        return Ok(Pack::None);
    }
    bytes.shrink_to_fit();
    let length = bytes.len() as u64;
    Ok(Pack::Ready(Content::Memory(bytes.into()), length))
}

/// A file from its beginning, without a position that others share.
struct FileReader<'a> {
    file: &'a OwnedFd,
    at: u64,
}

impl<'a> FileReader<'a> {
    fn new(file: &'a OwnedFd) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = reader::fill(self.file, into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[path = "sibling_tests.rs"]
mod sibling_tests;
#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
