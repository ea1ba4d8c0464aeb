//! The request line as it came. Pingora's parser mends what a target must not hold (a tab becomes `%09`, a bare CR `%0D`)
//! before anybody else sees it; whoever sends such bytes means no good. A blank it makes `%20`, and careless clients do
//! send those.

/// What the first line of a head is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its bytes, without its end.
    pub length: usize,
    /// It holds a control character.
    pub odd: bool,
}

impl Line {
    /// Looks at the first line of `head`, or at what has come of it.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        // Empty lines before a request are ignored (RFC 9112, section 2.2).
        let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
        let rest = &head[start..];
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        // All of them are looked at, without an early way out: that goes many at a time.
        let odd = line.iter().fold(false, |odd, byte| odd | byte.is_ascii_control());
        Self { length: line.len(), odd }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn plain_lines_are_plain() {
        for head in [
            &b"GET / HTTP/1.1\r\nHost: a\tb\r\n\r\n"[..],
            b"GET / HTTP/1.1\nX: \x01\n",
            b"\r\n\r\nGET /caf\xc3\xa9 HTTP/1.1\r\n",
            b"GET /a b HTTP/1.1\r\n",
            b"GET / HTTP/1.1",
            b"\r\n",
            b"",
        ] {
            assert!(!Line::of(head).odd, "{head:?}");
        }
        assert_eq!(Line::of(b"\r\nGET / HTTP/1.1\r\nX: y").length, 14);
    }

    #[test]
    fn control_characters_are_odd() {
        for head in [
            &b"GET /a\tb HTTP/1.1\r\n"[..],
            b"GET /a\rb HTTP/1.1\r\n",
            b"GET /a\0b HTTP/1.1\r\n",
            b"GET /a\x7f HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\r\n",
        ] {
            assert!(Line::of(head).odd, "{head:?}");
        }
    }
}
