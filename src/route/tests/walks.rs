//! Random disguises: a protected path is rewritten backwards, step by step, so that some reader certainly finds it
//! again. None of them may be served.
//!
//! The readers are written anew here, without a look at `readings`.

use std::sync::LazyLock;

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;

use super::super::path;
use super::*;

static MAP: LazyLock<UrlMap> = LazyLock::new(|| {
    map(
        Era::Modern,
        &[
            "/admin/x script a admin",
            "/(tasks|cron|jobs)/.* script t admin",
            "/account|/account/.* script c required always",
            "/.* script main",
        ],
    )
});

const PAGES: [&str; 5] = ["/admin/x", "/tasks/run", "/jobs/", "/account", "/_ah/start"];

/// A way to disguise a path at a place (any number; what it means is the disguise's own), and the reader who sees
/// through it. A disguise counts only if the reader gives back just what was there.
type Disguise = (fn(&[u8], usize) -> Vec<u8>, fn(&[u8]) -> Vec<u8>);

const DISGUISES: [Disguise; 14] = [
    (|path, at| escape(path, at), |path| percent_encoding::percent_decode(path).collect()),
    (|path, at| insert(path, next(path, at, b'/'), b"/"), merged),
    (|path, at| swap(path, at, overlong_2), shortened),
    (|path, at| swap(path, at, overlong_3), shortened),
    (|path, at| swap(path, at, overlong_4), shortened),
    (|path, at| swap(path, at, |byte| format!("%u{byte:04x}").into_bytes()), percent_u),
    (
        |path, at| swap(path, next(path, at, b'/').wrapping_sub(1), |_| b"\\".to_vec()),
        |path| path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(),
    ),
    (
        |path, at| insert(path, end_of_segment(path, at), b";a=b"),
        |path| {
            let segments = path.split(|byte| *byte == b'/');
            let cut = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
            cut.collect::<Vec<_>>().join(&b'/')
        },
    ),
    (
        |path, at| [path, [b"?x", b"#/"][at % 2]].concat(),
        |path| path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap().to_vec(),
    ),
    (|path, _| [path, b"\0.css"].concat(), |path| path.split(|byte| *byte == 0).next().unwrap().to_vec()),
    (
        |path, at| insert(path, at, &[[0, 1, 9, 10, 13, 31, 127][at % 7]]),
        |path| path.iter().copied().filter(|byte| !matches!(byte, 0..=31 | 127)).collect(),
    ),
    (
        |path, at| swap(path, at, full_width),
        |path| match std::str::from_utf8(path) {
            Ok(text) => text.nfkc().collect::<String>().into_bytes(),
            Err(_) => path.to_vec(),
        },
    ),
    (|path, at| insert(path, next(path, at, b'/'), b"/."), path::without_dots),
    (|path, at| insert(path, next(path, at, b'/'), b"/y/.."), path::without_dots),
];

fn insert(path: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    // The slash in front stays in front.
    let at = if what.starts_with(b"/") { at % path.len() } else { 1 + at % path.len() };
    [&path[..at], what, &path[at..]].concat()
}

fn swap(path: &[u8], at: usize, other: fn(u8) -> Vec<u8>) -> Vec<u8> {
    let at = if path.len() == 1 { 0 } else { 1 + at % (path.len() - 1) };
    if at == 0 || !path[at].is_ascii() {
        return path.to_vec();
    }
    [&path[..at], &other(path[at]), &path[at + 1..]].concat()
}

fn next(path: &[u8], at: usize, wanted: u8) -> usize {
    let at = at % path.len();
    path[at..].iter().position(|byte| *byte == wanted).map_or(0, |offset| at + offset)
}

fn end_of_segment(path: &[u8], at: usize) -> usize {
    let at = 1 + at % path.len();
    path[at..].iter().position(|byte| *byte == b'/').map_or(path.len(), |offset| at + offset) - 1
}

/// Every `%` and one other byte: else the reader would decode more than was encoded.
fn escape(path: &[u8], at: usize) -> Vec<u8> {
    let at = 1 + at % path.len();
    let escaped = path.iter().enumerate().map(|(index, byte)| {
        if *byte == b'%' || index == at { format!("%{byte:02X}").into_bytes() } else { vec![*byte] }
    });
    escaped.collect::<Vec<_>>().concat()
}

fn overlong_2(byte: u8) -> Vec<u8> {
    vec![0xc0 | byte >> 6, 0x80 | byte & 0x3f]
}

fn overlong_3(byte: u8) -> Vec<u8> {
    vec![0xe0, 0x80 | byte >> 6, 0x80 | byte & 0x3f]
}

fn overlong_4(byte: u8) -> Vec<u8> {
    vec![0xf0, 0x80, 0x80 | byte >> 6, 0x80 | byte & 0x3f]
}

fn full_width(byte: u8) -> Vec<u8> {
    let letter = if (0x21..0x7f).contains(&byte) { 0xfee0 + u32::from(byte) } else { u32::from(byte) };
    char::from_u32(letter).unwrap().to_string().into_bytes()
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    path.dedup_by(|next, before| *next == b'/' && *before == b'/');
    path
}

fn shortened(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    for byte in 0..0x80 {
        for form in [overlong_2(byte), overlong_3(byte), overlong_4(byte)] {
            while let Some(at) = path.windows(form.len()).position(|window| window == form) {
                path.splice(at..at + form.len(), [byte]);
            }
        }
    }
    path
}

fn percent_u(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    let mut at = 0;
    while at + 6 <= out.len() {
        let digits = std::str::from_utf8(&out[at + 2..at + 6]).ok().filter(|_| out[at..].starts_with(b"%u"));
        if let Some(code) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.splice(at..at + 6, [code]);
        }
        at += 1;
    }
    out
}

/// As a client would send it: decoded once it is the path again. Some send more in the clear than others.
fn sent(path: &[u8], sparing: bool) -> Vec<u8> {
    let plain = |byte: u8| byte == b'/' || byte.is_ascii_alphanumeric();
    let must = |byte: u8| matches!(byte, b'%' | b'?' | b'#' | 0..=b' ' | 127);
    let bytes = path.iter().map(|byte| {
        if must(*byte) || !sparing && !plain(*byte) {
            format!("%{byte:02x}").into_bytes()
        } else {
            vec![*byte]
        }
    });
    bytes.collect::<Vec<_>>().concat()
}

fn walk(page: &str, steps: &[(usize, usize)]) -> Vec<u8> {
    steps.iter().fold(page.as_bytes().to_vec(), |path, &(disguise, at)| {
        let (disguise, reader) = DISGUISES[disguise];
        let disguised = disguise(&path, at);
        if reader(&disguised) == path { disguised } else { path }
    })
}

#[track_caller]
fn is_refused(target: &[u8]) -> bool {
    !matches!(ask(&MAP, true, target), Decision::App { .. } | Decision::File { .. } | Decision::Health)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_random_disguise_of_a_protected_page_is_served(
        page in proptest::sample::select(PAGES.to_vec()),
        steps in proptest::collection::vec((0..DISGUISES.len(), 0_usize..64), 1..9),
        sparing in any::<bool>(),
    ) {
        let path = walk(page, &steps);
        let target = sent(&path, sparing);
        prop_assert!(is_refused(&target), "{}", String::from_utf8_lossy(&target));
    }
}

#[test]
fn every_disguise_changes_some_page() {
    let changed = |at: usize| PAGES.iter().any(|page| walk(page, &[(at, 3)]) != page.as_bytes());
    let used = (0..DISGUISES.len()).filter(|&at| changed(at)).count();
    assert!(used == DISGUISES.len(), "only {used} of the disguises do anything");
}

#[test]
fn targets_that_once_reached_the_app_are_refused() {
    for target in [
        "/admin%f0%80%80%afx",
        "/admin%25f0%2580%2580%25afx",
        "/%25c1%25a1dmin/x",
        "/j%c0%a5c1%af%62s/",
        "/%u0025c1%u0025a1dmin/x",
        "/t%e0%80%a5u0061sks/run",
        "/y%255cz/%252e%252e/..%255cadmin/x",
        "/%U0061dmin/x",
    ] {
        assert_eq!(told(&ask(&MAP, true, target.as_bytes())), "404 Reading", "{target}");
    }
}
