//! Whether some reader could take a request target for a protected page, and where such targets come from.
//!
//! Written without a look at the proxy's own code: bytes, every rewriting in any order, until nothing new comes. Shared
//! by the property tests, the end-to-end tests and the fuzzer.

use std::collections::BTreeSet;

use percent_encoding::percent_decode;
use unicode_normalization::UnicodeNormalization;

/// More readings than any honest target has.
const MOST: usize = 20_000;

/// Whether one of the readings of a target satisfies `protected`; none when there are too many to tell.
pub fn some_reading(target: &[u8], protected: impl Fn(&[u8]) -> bool) -> Option<bool> {
    let mut open = vec![strip_authority(target)];
    let mut seen: BTreeSet<Vec<u8>> = open.iter().cloned().collect();
    // The query of the target itself takes part in no reading.
    open[0] = open[0].split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    while let Some(path) = open.pop() {
        if protected(&path) {
            return Some(true);
        }
        if seen.len() >= MOST {
            return None;
        }
        for step in STEPS {
            let next = step(&path);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Some(false)
}

fn strip_authority(target: &[u8]) -> Vec<u8> {
    match target.windows(3).position(|window| window == b"://") {
        Some(at) if !target.starts_with(b"/") => {
            let rest = &target[at + 3..];
            rest.iter()
                .position(|byte| matches!(byte, b'/' | b'\\'))
                .map_or_else(Vec::new, |slash| rest[slash..].to_vec())
        }
        _ => target.to_vec(),
    }
}

/// One way to read a path otherwise.
type Step = fn(&[u8]) -> Vec<u8>;

const STEPS: [Step; 10] = [
    |path| percent_decode(path).collect(),
    |path| replaced(path, "%u"),
    overlong,
    |path| path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(),
    |path| {
        let mut merged = path.to_vec();
        merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
        merged
    },
    |path| {
        let segments = path.split(|byte| *byte == b'/');
        let cut = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
        cut.collect::<Vec<_>>().join(&b'/')
    },
    |path| path.split(|byte| matches!(byte, b'?' | b'#' | 0)).next().unwrap_or_default().to_vec(),
    |path| path.iter().copied().filter(|byte| *byte > 0x1f && *byte != 0x7f).collect(),
    |path| String::from_utf8_lossy(path).nfkc().collect::<String>().into_bytes(),
    without_dots,
];

fn replaced(path: &[u8], mark: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).into_owned();
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.to_ascii_lowercase().find(mark) {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 2..at + 6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match digits.and_then(char::from_u32) {
            Some(letter) => {
                out.push(letter);
                rest = &rest[at + 6..];
            }
            None => {
                out.push_str(&rest[at..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out.into_bytes()
}

fn overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let tail = |count: usize| {
            path.get(at + 1..=at + count).filter(|tail| tail.iter().all(|byte| byte & 0xc0 == 0x80))
        };
        let (value, used) = match path[at] {
            lead @ (0xc0 | 0xc1) => tail(1).map_or((None, 1), |tail| {
                (Some((u32::from(lead & 0x1f) << 6) | u32::from(tail[0] & 0x3f)), 2)
            }),
            0xe0 => tail(2).map_or((None, 1), |tail| {
                (Some((u32::from(tail[0] & 0x3f) << 6) | u32::from(tail[1] & 0x3f)), 3)
            }),
            0xf0 => tail(3).map_or((None, 1), |tail| {
                let high = u32::from(tail[0] & 0x3f) << 12;
                (Some(high | (u32::from(tail[1] & 0x3f) << 6) | u32::from(tail[2] & 0x3f)), 4)
            }),
            _ => (None, 1),
        };
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) if byte < 0x80 => {
                out.push(byte);
                at += used;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"." => {}
            b".." => {
                if kept.len() > 1 {
                    kept.pop();
                }
            }
            other => kept.push(other),
        }
    }
    kept.join(&b'/')
}
