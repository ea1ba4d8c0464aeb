//! The request line as it came. Pingora's parser mends what a target must not hold (a tab becomes `%09`, a bare CR `%0D`)
//! before anybody else sees it; whoever sends such bytes means no good. A blank it makes `%20`, and careless clients do
//! send those.

/// Looks at the bytes of a head as they come, until its first line has ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Bytes of the line so far.
    length: usize,
    /// The byte before was a CR: only a line feed may follow.
    carriage: bool,
    odd: bool,
    ended: bool,
}

impl Line {
    /// Looks at the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.ended {
                return;
            }
            match byte {
                // Empty lines before a request are ignored (RFC 9112, section 2.2).
                b'\r' | b'\n' if self.length == 0 => {}
                b'\n' => self.ended = true,
                _ => self.take(*byte),
            }
        }
    }

    fn take(&mut self, byte: u8) {
        self.length += 1;
        self.odd |= self.carriage;
        self.carriage = byte == b'\r';
        self.odd |= matches!(byte, 0..=0x1f | 0x7f) && !self.carriage;
    }

    /// Whether the line ended.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes of the line so far.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Whether the line holds a control character.
    #[must_use]
    pub const fn is_odd(&self) -> bool {
        self.odd
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    fn line(pieces: &[&[u8]]) -> Line {
        let mut line = Line::default();
        pieces.iter().for_each(|piece| line.feed(piece));
        line
    }

    #[test]
    fn plain_lines_are_plain_however_they_arrive() {
        for pieces in [
            &[&b"GET / HTTP/1.1\r\nHost: a\tb\r\n\r\n"[..]][..],
            &[b"GET / HTTP/1.1\nX: \x01\n"],
            &[b"\r\n\r\nGET /caf\xc3\xa9 HTTP/1.1\r\n"],
            &[b"G", b"ET /", b" HTTP/1.1", b"\r", b"\n"],
            &[b"GET /a b HTTP/1.1\r\n"],
        ] {
            let line = line(pieces);
            assert!(line.ended() && !line.is_odd(), "{pieces:?}: {line:?}");
        }
    }

    #[test]
    fn control_characters_are_odd() {
        for bytes in [
            &b"GET /a\tb HTTP/1.1\r\n"[..],
            b"GET /a\rb HTTP/1.1\r\n",
            b"GET /a\0b HTTP/1.1\r\n",
            b"GET /a\x7f HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\r\n",
        ] {
            assert!(line(&[bytes]).is_odd(), "{bytes:?}");
        }
    }
}
