//! From the bytes of a request target to a clean path, a redirect (R-DOTS) or a refusal (R-UTF8).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What may stand in a path as it is (RFC 3986, section 3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What a raw path turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading<'a> {
    /// Decoded once, starting with `/`, without dot segments. Need not be UTF-8.
    Clean(Cow<'a, [u8]>),
    /// It had dot segments; this is the path without them, encoded (R-DOTS).
    Dots(String),
    /// Not a path at all, or one with a NUL (R-UTF8).
    Bad,
}

/// Reads a path as received. Copies nothing when nothing is encoded.
pub(super) fn read(raw: &[u8]) -> Reading<'_> {
    if raw.first() != Some(&b'/') {
        return Reading::Bad;
    }
    let path = decode(raw);
    if path.contains(&0) {
        return Reading::Bad;
    }
    if has_dots(&path) { Reading::Dots(encode(&without_dots(&path))) } else { Reading::Clean(path) }
}

/// One percent-decoding; a malformed escape stays as written.
pub(super) fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.contains(&b'%') { percent_encoding::percent_decode(raw).into() } else { Cow::Borrowed(raw) }
}

/// The path as it may stand in a `Location`.
pub(super) fn encode(path: &[u8]) -> String {
    percent_encode(path, PATH).to_string()
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

pub(super) fn has_dots(path: &[u8]) -> bool {
    // Most paths have no dot behind a slash; looking for one is cheaper than splitting.
    path.windows(2).any(|pair| pair == b"/.") && path.split(|byte| *byte == b'/').any(is_dots)
}

/// Without `.` and `..` segments; empty segments stay, and nothing goes above the first `/`.
pub(super) fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"." => {}
            b".." if kept.len() > 1 => drop(kept.pop()),
            b".." => {}
            _ => kept.push(segment),
        }
    }
    let clean = kept.join(&b'/');
    if clean.first() == Some(&b'/') { clean } else { [b"/", clean.as_slice()].concat() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let told = match read(raw.as_bytes()) {
            Reading::Clean(path) => format!("path {}", String::from_utf8_lossy(&path)),
            Reading::Dots(path) => format!("redirect {path}"),
            Reading::Bad => "bad".to_owned(),
        };
        assert_eq!(told, expected, "{raw}");
    }

    #[test]
    fn a_path_is_decoded_once_and_a_malformed_escape_stays() {
        check("/a/b", "path /a/b");
        check("/%61dmin/x%2Fy", "path /admin/x/y");
        check("/a%252Fb", "path /a%2Fb");
        check("/a%zz%4", "path /a%zz%4");
        check("/a+b%3Fc%23", "path /a+b?c#");
    }

    #[test]
    fn dot_segments_redirect_and_empty_segments_stay() {
        check("/..", "redirect /");
        check("/a/.", "redirect /a");
        check("/a/./b", "redirect /a/b");
        check("/a/%2e%2e/b", "redirect /b");
        check("/a//../b", "redirect /a/b");
        check("/.//evil/x", "redirect //evil/x");
        check("/a/../..%2F/b", "redirect //b");
        check("/..hidden/...", "path /..hidden/...");
        check("//x", "path //x");
    }

    #[test]
    fn a_redirect_keeps_bytes_that_are_no_utf8_and_encodes_again_what_was_decoded() {
        check("/x/../caf%E9", "redirect /caf%E9");
        check("/./a%252e%20%3F", "redirect /a%252e%20%3F");
    }

    #[test]
    fn a_nul_and_a_missing_slash_are_refused() {
        check("/a%00b", "bad");
        check("admin", "bad");
        check("", "bad");
        check("*", "bad");
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        assert!(matches!(read(b"/foo/bar.css"), Reading::Clean(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(path in r"(/|\.|\.\.|a|%|\x00){0,12}") {
            let once = without_dots(path.as_bytes());
            prop_assert!(!has_dots(&once) && once.starts_with(b"/"));
            prop_assert_eq!(without_dots(&once), once);
        }

        #[test]
        fn following_a_redirect_ends_at_a_clean_path(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let raw = [b"/", raw.as_slice()].concat();
            if let Reading::Dots(path) = read(&raw) {
                prop_assert!(matches!(read(path.as_bytes()), Reading::Clean(_)), "{}", path);
            }
        }
    }
}
