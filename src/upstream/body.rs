//! The body of a worker's answer, taken piece by piece from what has come: the framing goes, the bytes stay.

use bytes::{Bytes, BytesMut};

use super::{Framing, Malformed};

/// The longest line between chunks, and the longest trailer section, bytes.
const LINES_LIMIT: usize = 16 * 1024;
/// Trailers that may come; they are not passed on.
const TRAILERS_LIMIT: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Close,
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// Where in a body we are.
#[derive(Debug)]
pub struct Body(State);

impl Body {
    /// At its start.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        })
    }

    /// Whether all of it was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// The next piece of it in `buffer`; none when more must come first, or at its end.
    ///
    /// # Errors
    /// When the chunks are none.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        loop {
            match self.0 {
                State::Done => return Ok(None),
                _ if buffer.is_empty() => return Ok(None),
                State::Close => return Ok(Some(buffer.split().freeze())),
                State::Length(left) => {
                    let (piece, left) = take(buffer, left);
                    self.0 = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Some(piece));
                }
                State::Chunk(left) => {
                    let (piece, left) = take(buffer, left);
                    self.0 = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Some(piece));
                }
                State::Size | State::ChunkEnd | State::Trailers => {
                    if !self.step(buffer)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the body has not.
    pub fn end(&mut self) -> Result<(), Malformed> {
        match self.0 {
            State::Done | State::Close => {
                self.0 = State::Done;
                Ok(())
            }
            _ => Err(Malformed("its body is cut off")),
        }
    }

    /// Reads what stands between chunks; false when more must come.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<bool, Malformed> {
        const WRONG: Malformed = Malformed("its chunks cannot be read");
        let read = match self.0 {
            State::Size => match httparse::parse_chunk_size(buffer).map_err(|_| WRONG)? {
                httparse::Status::Complete((read, size)) => {
                    self.0 = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    Some(read)
                }
                httparse::Status::Partial => None,
            },
            State::ChunkEnd => match &buffer[..] {
                [b'\r', b'\n', ..] => {
                    self.0 = State::Size;
                    Some(2)
                }
                [b'\r'] => None,
                _ => return Err(WRONG),
            },
            _ => {
                let mut fields = [httparse::EMPTY_HEADER; TRAILERS_LIMIT];
                match httparse::parse_headers(buffer, &mut fields).map_err(|_| WRONG)? {
                    httparse::Status::Complete((read, _)) => {
                        self.0 = State::Done;
                        Some(read)
                    }
                    httparse::Status::Partial => None,
                }
            }
        };
        match read {
            Some(read) => {
                let _ = buffer.split_to(read);
                Ok(self.0 != State::Done)
            }
            None if buffer.len() > LINES_LIMIT => Err(WRONG),
            None => Ok(false),
        }
    }
}

fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(length).freeze(), left - length as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `wire` in pieces of these sizes; the body, and what is left over.
    fn read(framing: Framing, wire: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut body, mut buffer, mut out) = (Body::new(framing), BytesMut::new(), Vec::new());
        let (mut rest, mut sizes) = (wire, sizes.iter().cycle());
        loop {
            while let Some(piece) = body.next(&mut buffer)? {
                out.extend_from_slice(&piece);
            }
            if body.is_done() || rest.is_empty() {
                buffer.extend_from_slice(rest);
                return Ok((out, buffer.to_vec(), body.is_done()));
            }
            let size = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
            buffer.extend_from_slice(&rest[..size]);
            rest = &rest[size..];
        }
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_arrives(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            sizes in prop::collection::vec(1_usize..50, 1..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\nHTTP/1.1");
            let whole = chunks.concat();
            prop_assert_eq!(
                read(Framing::Chunked, &wire, &sizes),
                Ok((whole.clone(), b"HTTP/1.1".to_vec(), true))
            );
            let mut wire = whole.clone();
            wire.extend_from_slice(b"HTTP/1.1");
            let length = Framing::Length(whole.len() as u64);
            prop_assert_eq!(read(length, &wire, &sizes), Ok((whole, b"HTTP/1.1".to_vec(), true)));
        }

        #[test]
        fn no_bytes_are_too_much_for_it(
            wire in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..80),
            sizes in prop::collection::vec(1_usize..9, 1..4),
        ) {
            let _ = read(Framing::Chunked, &wire, &sizes);
        }
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        for wire in ["zz\r\n", "-1\r\n", "3\r\nabcX", "3\r\nabc\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
            assert!(read(Framing::Chunked, wire.as_bytes(), &[1]).is_err(), "{wire:?}");
        }
        let endless = format!("1;{}", "x".repeat(2 * LINES_LIMIT));
        assert!(read(Framing::Chunked, endless.as_bytes(), &[512]).is_err());
    }

    #[test]
    fn a_body_that_ends_early_is_no_body() {
        assert!(Body::new(Framing::Length(2)).end().is_err());
        assert!(Body::new(Framing::Chunked).end().is_err());
        assert!(Body::new(Framing::Close).end().is_ok());
        assert!(Body::new(Framing::Length(0)).is_done());
    }
}
