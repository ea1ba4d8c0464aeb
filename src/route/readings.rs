//! Other ways a less strict reader could take a path (R-READINGS): slashes merged, decoded again, `\` for `/` and so on,
//! in any order. Bytes in between: a decoder may make what only the next one understands.
//!
//! What is done when a reading turns out to be protected is decided elsewhere.

use std::ops::ControlFlow;

use unicode_normalization::{UnicodeNormalization, is_nfkc};

use super::path::{decode, has_dots, without_dots};

#[cfg(test)]
mod tests;

/// Readings of one path, those on the way to others counted. Honest paths have a few.
const MOST: usize = 256;
/// Bytes of all readings together, so that long paths stay cheap too.
const MOST_BYTES: usize = 512 << 10;

/// One way to read a path otherwise; none when it changes nothing.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

const STEPS: [Step; 14] = [
    without_dot_segments,
    merge_slashes,
    decode_again,
    undo_overlong,
    undo_short_overlong,
    decode_percent_u,
    decode_percent_upper_u,
    backslashes,
    cut_parameters,
    cut_at_query,
    cut_at_nul,
    drop_controls,
    full_width,
    replace_bad,
];

/// How looking at the readings ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Every reading was shown.
    All,
    /// The caller had seen enough.
    Stopped,
    /// There are more readings than an honest path has.
    TooMany,
}

/// False when the path cannot be read otherwise. True is a guess on the safe side.
pub(super) fn possible(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let slashes = before == b'/' && byte == b'/';
        before = byte;
        slashes || !matches!(byte, b' '..=b'~') || matches!(byte, b'%' | b'\\' | b';' | b'?' | b'#')
    })
}

/// Shows every other reading of a decoded path; `text` is `bytes` as UTF-8, bad sequences replaced.
///
/// What still has dot segments or a NUL, or is no UTF-8, is only on the way to a reading: no handler is asked for it.
pub(super) fn each(text: &str, bytes: &[u8], show: &mut dyn FnMut(&str) -> ControlFlow<()>) -> End {
    let mut known = vec![bytes.to_vec()];
    if text.as_bytes() != bytes {
        known.push(text.as_bytes().to_vec());
    }
    let mut size = 0;
    let mut next = 0;
    let mut found = Vec::new();
    while let Some(path) = known.get(next) {
        next += 1;
        found.extend(STEPS.iter().filter_map(|step| step(path)));
        for reading in found.drain(..) {
            if known.contains(&reading) {
                continue;
            }
            size += reading.len();
            if known.len() >= MOST || size > MOST_BYTES {
                return End::TooMany;
            }
            if let Ok(text) = std::str::from_utf8(&reading)
                && !text.contains('\0')
                && !has_dots(&reading)
                && show(text).is_break()
            {
                return End::Stopped;
            }
            known.push(reading);
        }
    }
    End::All
}

fn without_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    has_dots(path).then(|| without_dots(path))
}

fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    path.windows(2).any(|pair| pair == b"//").then(|| {
        let mut merged = path.to_vec();
        merged.dedup_by(|next, before| (*next, *before) == (b'/', b'/'));
        merged
    })
}

fn decode_again(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode(path);
    (decoded.len() != path.len()).then(|| decoded.into_owned())
}

/// Longer forms than needed, up to the six bytes of old: `C0 AF`, `E0 80 AF`, `F0 80 80 AF` are a slash to a careless
/// decoder.
fn undo_overlong(path: &[u8]) -> Option<Vec<u8>> {
    shorten(path, |_, _| true)
}

/// ASCII in two or three bytes: there are decoders that go so far and no further.
fn undo_short_overlong(path: &[u8]) -> Option<Vec<u8>> {
    shorten(path, |letter, length| letter.is_ascii() && length <= 3)
}

fn shorten(path: &[u8], wanted: fn(char, usize) -> bool) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match overlong(rest) {
            Some((letter, length)) if wanted(letter, length) => {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    (out.len() != path.len()).then_some(out)
}

/// The overlong form that the bytes begin with: the character, and how many bytes it took.
fn overlong(bytes: &[u8]) -> Option<(char, usize)> {
    let lead = *bytes.first()?;
    let length = lead.leading_ones() as usize;
    let tail = bytes.get(1..length).filter(|_| (2..=6).contains(&length))?;
    let code = tail.iter().try_fold(u32::from(lead & (0x7f >> length)), |code, byte| {
        matches!(byte, 0x80..=0xbf).then_some(code << 6 | u32::from(byte & 0x3f))
    })?;
    char::from_u32(code).filter(|letter| letter.len_utf8() < length).map(|letter| (letter, length))
}

/// `%u002f`, which some servers of the nineties read; beyond 16 bits two of them are one character.
fn decode_percent_u(path: &[u8]) -> Option<Vec<u8>> {
    decode_utf16(path, b'u')
}

fn decode_percent_upper_u(path: &[u8]) -> Option<Vec<u8>> {
    decode_utf16(path, b'U')
}

fn decode_utf16(path: &[u8], mark: u8) -> Option<Vec<u8>> {
    if !path.contains(&b'%') {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let Some((code, after)) = utf16(rest, mark) else {
            out.push(byte);
            rest = after;
            continue;
        };
        let pair = utf16(after, mark).filter(|(low, _)| (code >> 10, low >> 10) == (0x36, 0x37));
        let (code, after) = match pair {
            Some((low, after)) => (0x1_0000 + ((code & 0x3ff) << 10 | low & 0x3ff), after),
            None => (code, after),
        };
        let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    (out.len() != path.len()).then_some(out)
}

fn utf16(text: &[u8], mark: u8) -> Option<(u32, &[u8])> {
    let digits = text.strip_prefix(&[b'%', mark])?;
    let (digits, rest) = digits.split_first_chunk::<4>()?;
    let code = digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))?;
    Some((code, rest))
}

fn backslashes(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b'\\').then(|| path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect())
}

fn cut_parameters(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b';').then(|| {
        let segments = path.split(|byte| *byte == b'/');
        let cut = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
        cut.collect::<Vec<_>>().join(&b'/')
    })
}

fn cut_at_query(path: &[u8]) -> Option<Vec<u8>> {
    cut_at(path, |byte| matches!(byte, b'?' | b'#'))
}

fn cut_at_nul(path: &[u8]) -> Option<Vec<u8>> {
    cut_at(path, |byte| byte == 0)
}

fn cut_at(path: &[u8], end: fn(u8) -> bool) -> Option<Vec<u8>> {
    path.iter().position(|&byte| end(byte)).map(|at| path[..at].to_vec())
}

fn drop_controls(path: &[u8]) -> Option<Vec<u8>> {
    path.iter()
        .any(u8::is_ascii_control)
        .then(|| path.iter().copied().filter(|byte| !byte.is_ascii_control()).collect())
}

/// NFKC of what is UTF-8; other bytes stay for the decoders.
fn full_width(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() || path.utf8_chunks().all(|chunk| is_nfkc(chunk.valid())) {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.extend(chunk.valid().nfkc().collect::<String>().into_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Some(out)
}

/// What is no UTF-8 as most libraries show it, each bad sequence U+FFFD.
fn replace_bad(path: &[u8]) -> Option<Vec<u8>> {
    match String::from_utf8_lossy(path) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(text) => Some(text.into_bytes()),
    }
}
