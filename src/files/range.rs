//! The part of a file a request asks for (RFC 9110, section 14): one range of bytes, or the whole.
//!
//! Several ranges get the whole: multipart answers cost more than they save, and their readers are few.

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200: no range, none we understand, or several.
    Whole,
    /// 206, both ends included.
    Part {
        /// The first byte.
        first: u64,
        /// The last one, inside the file.
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// What of `length` bytes is wanted; `may` is asked only when there is a range (`If-Range`).
pub(super) fn wanted(request: &HeaderMap, length: u64, may: impl FnOnce(&HeaderMap) -> bool) -> Wanted {
    let mut lines = request.get_all(RANGE).iter();
    let Some(line) = lines.next() else { return Wanted::Whole };
    if lines.next().is_some() {
        return Wanted::Whole;
    }
    match one(line.as_bytes()) {
        Some(spec) if may(request) => spec.of(length),
        _ => Wanted::Whole,
    }
}

/// `Content-Range` of a 416.
pub(super) fn unsatisfied(length: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes */{length}")).unwrap_or(HeaderValue::from_static("bytes */0"))
}

/// A range as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl Spec {
    fn of(self, length: u64) -> Wanted {
        match self {
            Self::From { first, .. } if first >= length => Wanted::Unsatisfiable,
            Self::From { first, last } => {
                Wanted::Part { first, last: last.unwrap_or(u64::MAX).min(length - 1) }
            }
            Self::Suffix(0) => Wanted::Unsatisfiable,
            // The last bytes of nothing are nothing, and no 206 can say that.
            Self::Suffix(_) if length == 0 => Wanted::Whole,
            Self::Suffix(count) => Wanted::Part { first: length.saturating_sub(count), last: length - 1 },
        }
    }
}

/// The range of a line with exactly one.
fn one(line: &[u8]) -> Option<Spec> {
    let (unit, set) = line.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    let spec = specs.next()?;
    if specs.next().is_some() {
        return None;
    }
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return number(last).map(Spec::Suffix);
    }
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    if last.is_some_and(|last| last < first) { None } else { Some(Spec::From { first, last }) }
}

/// Digits only; more than 64 bits can hold is beyond any file all the same.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
