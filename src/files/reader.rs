//! Reading: the pieces of a body too big to hold, and the two reads underneath.
//!
//! What the page cache has is read at once (`RWF_NOWAIT`): handing a read to another thread costs more than the
//! read. What it has not is read on a blocking thread, so that a slow disk holds up one client and no other.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

/// The piece at which throughput stops growing and memory per client begins to hurt.
const PIECE: usize = 256 * 1024;

/// A part of an open file, read piece by piece.
#[derive(Debug)]
pub struct Reader {
    file: Arc<OwnedFd>,
    at: u64,
    left: u64,
    /// Whether the file system can say what its page cache has.
    nowait: bool,
    /// The last piece: its memory is used again once the writer is done with it.
    last: Bytes,
}

impl Reader {
    pub(super) fn new(file: Arc<OwnedFd>, from: u64, length: u64) -> Self {
        Self { file, at: from, left: length, nowait: true, last: Bytes::new() }
    }

    /// As on a file system that never says what its page cache has.
    #[cfg(test)]
    pub(super) fn without_nowait(mut self) -> Self {
        self.nowait = false;
        self
    }

    /// The bytes still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.left
    }

    /// The next piece, none at the end. Drop a piece before asking for the next, and its memory is used again.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter than what was announced: the response must then be
    /// cut, for the client to see that it is not whole. What a growing file gains is not sent.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = self.memory(wanted);
        let read = match self.resident(&mut piece)? {
            Some(read) => read,
            None => {
                let (file, at) = (Arc::clone(&self.file), self.at);
                let work = tokio::task::spawn_blocking(move || {
                    let read = fill(&file, &mut piece, at)?;
                    Ok::<_, io::Error>((piece, read))
                });
                let (filled, read) = work.await.map_err(io::Error::other)??;
                piece = filled;
                read
            }
        };
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was sent",
            ));
        }
        self.at += read as u64;
        self.left -= read as u64;
        let whole = piece.freeze();
        let piece = whole.slice(..read);
        self.last = whole;
        Ok(Some(piece))
    }

    /// Memory for `wanted` bytes, the last piece's own if nobody holds that any more: neither asked for nor
    /// cleared again.
    fn memory(&mut self, wanted: usize) -> BytesMut {
        match std::mem::take(&mut self.last).try_into_mut() {
            Ok(mut last) if last.len() >= wanted => {
                last.truncate(wanted);
                last
            }
            _ => BytesMut::zeroed(wanted),
        }
    }

    fn resident(&mut self, piece: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.nowait {
            return Ok(None);
        }
        match nowait(&self.file, piece, self.at) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) if is_unable(errno) => {
                self.nowait = false;
                Ok(None)
            }
            result => Ok(Some(result?)),
        }
    }
}

/// Reads what the page cache has; none when that cannot be known or is nothing.
pub(super) fn resident(file: &OwnedFd, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
    match nowait(file, into, at) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) if is_unable(errno) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// Fills as much of `into` as the file has from `at` on. Blocks.
pub(super) fn fill(file: &OwnedFd, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match pread(file, &mut into[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn nowait(file: &OwnedFd, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)
}

/// File systems and sandboxes that do not know the question.
fn is_unable(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM)
}
