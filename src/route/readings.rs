//! Other ways a less strict reader could take a path (R-READINGS): slashes merged, decoded again, `\` for `/` and so on,
//! in any order, dot segments removed after each.
//!
//! What is done when a reading turns out to be protected is decided elsewhere.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::ControlFlow;

use unicode_normalization::{UnicodeNormalization, is_nfkc};

use super::path::{decode, has_dots, without_dots};

/// Readings of one path. Honest paths have a few.
const MOST: usize = 256;
/// Bytes of all readings together, so that long paths stay cheap too.
const MOST_BYTES: usize = 512 << 10;

/// One way to read a path otherwise; none when it changes nothing.
type Step = fn(&str) -> Option<String>;

const STEPS: [Step; 10] = [
    merge_slashes,
    decode_again,
    decode_overlong,
    decode_percent_u,
    backslashes,
    cut_parameters,
    cut_at_query,
    cut_at_nul,
    drop_controls,
    full_width,
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
pub(super) fn each(text: &str, bytes: &[u8], show: &mut dyn FnMut(&str) -> ControlFlow<()>) -> End {
    let mut seen = HashSet::from([text.to_owned()]);
    let mut open = vec![text.to_owned()];
    let mut size = 0;
    let first = overlong(bytes).map(|bytes| clean(lossy(&bytes)));
    let mut found = first.into_iter().collect::<Vec<_>>();
    loop {
        for reading in found.drain(..) {
            if seen.contains(&reading) {
                continue;
            }
            size += reading.len();
            if seen.len() >= MOST || size > MOST_BYTES {
                return End::TooMany;
            }
            // No request holds a NUL, but what is left without it may be asked for.
            if !reading.contains('\0') && show(&reading).is_break() {
                return End::Stopped;
            }
            open.push(reading.clone());
            seen.insert(reading);
        }
        let Some(path) = open.pop() else { return End::All };
        found.extend(STEPS.iter().filter_map(|step| step(&path)).map(clean));
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn clean(path: String) -> String {
    if path.starts_with('/') && !has_dots(path.as_bytes()) {
        path
    } else {
        lossy(&without_dots(path.as_bytes()))
    }
}

fn merge_slashes(path: &str) -> Option<String> {
    path.contains("//").then(|| {
        let mut merged = String::with_capacity(path.len());
        merged.extend(path.chars().filter({
            let mut before = None;
            move |letter| before.replace(*letter) != Some('/') || *letter != '/'
        }));
        merged
    })
}

fn decode_again(path: &str) -> Option<String> {
    match decode(path.as_bytes()) {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => Some(lossy(&decoded)),
    }
}

fn decode_overlong(path: &str) -> Option<String> {
    overlong(&decode(path.as_bytes())).map(|bytes| lossy(&bytes))
}

/// Two and three byte forms of ASCII undone: `C0 AF` is a slash to a careless decoder.
fn overlong(bytes: &[u8]) -> Option<Vec<u8>> {
    let ascii = |high: u8, low: u8| ((high & 1) << 6) | (low & 0x3f);
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [high @ 0xc0..=0xc1, low @ 0x80..=0xbf, rest @ ..]
            | [0xe0, high @ 0x80..=0x81, low @ 0x80..=0xbf, rest @ ..] => {
                out.push(ascii(*high, *low));
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
            [] => return (out.len() != bytes.len()).then_some(out),
        }
    }
}

/// `%u002f`, which some servers of the nineties read.
fn decode_percent_u(path: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once("%u") {
        out.push_str(before);
        let digits = after.get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = &after[4..];
            }
            None => {
                out.push_str("%u");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    (out != path).then_some(out)
}

fn backslashes(path: &str) -> Option<String> {
    path.contains('\\').then(|| path.replace('\\', "/"))
}

fn cut_parameters(path: &str) -> Option<String> {
    path.contains(';').then(|| {
        let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
        segments.collect::<Vec<_>>().join("/")
    })
}

fn cut_at_query(path: &str) -> Option<String> {
    path.split_once(['?', '#']).map(|(before, _)| before.to_owned())
}

fn cut_at_nul(path: &str) -> Option<String> {
    path.split_once('\0').map(|(before, _)| before.to_owned())
}

fn drop_controls(path: &str) -> Option<String> {
    let control = |letter: char| letter.is_ascii_control();
    path.contains(control).then(|| path.replace(control, ""))
}

fn full_width(path: &str) -> Option<String> {
    (!path.is_ascii() && !is_nfkc(path)).then(|| path.nfkc().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let end = each(path, path.as_bytes(), &mut |reading| {
            seen.push(reading.to_owned());
            ControlFlow::Continue(())
        });
        assert_eq!(end, End::All, "{path}");
        seen.sort();
        seen
    }

    #[track_caller]
    fn reads_as(path: &str, other: &str) {
        assert!(possible(path.as_bytes()), "{path}");
        let readings = all(path);
        assert!(readings.iter().any(|reading| reading == other), "{path}: {readings:?}");
    }

    #[test]
    fn an_ordinary_path_has_no_other_reading() {
        for path in ["/", "/foo/bar", "/a-b_c.d~e", "/..hidden", "/a b", "/x:y@z,(1)+2"] {
            assert!(!possible(path.as_bytes()), "{path}");
            assert_eq!(all(path), Vec::<String>::new());
        }
    }

    #[test]
    fn every_way_into_admin_is_read_as_admin() {
        reads_as("//admin", "/admin");
        reads_as("/x/..;y/admin", "/admin");
        reads_as("/%61dmin", "/admin");
        reads_as("/%2561dmin", "/admin");
        reads_as("/%c1%a1dmin", "/admin");
        reads_as("/%u0061dmin", "/admin");
        reads_as("/x\\..\\admin", "/admin");
        reads_as("/admin;a=b", "/admin");
        reads_as("/admin?x", "/admin");
        reads_as("/admin#x", "/admin");
        reads_as("/ad\u{1}min", "/admin");
        reads_as("/admin%00.png", "/admin");
        reads_as("/\u{ff41}dmin", "/admin");
        reads_as("/x%252f..%5c.%5c%2561dmin;q//", "/admin/");
    }

    #[test]
    fn case_and_trailing_dots_are_not_readings() {
        assert_eq!(all("/Admin."), Vec::<String>::new());
    }

    #[test]
    fn too_many_readings_are_told() {
        let path = format!("/a%{}", "25".repeat(400));
        assert_eq!(each(&path, path.as_bytes(), &mut |_| ControlFlow::Continue(())), End::TooMany);
    }

    #[test]
    fn overlong_bytes_as_received_are_undone() {
        let bytes = b"/\xc1\xa1dmin";
        let mut seen = Vec::new();
        each(&lossy(bytes), bytes, &mut |reading| {
            seen.push(reading.to_owned());
            ControlFlow::Continue(())
        });
        assert!(seen.contains(&"/admin".to_owned()), "{seen:?}");
    }

    proptest! {
        #[test]
        fn a_path_that_cannot_be_read_otherwise_is_not(path in r"/([ -~\x00-\x1f]|é|ａ|//|%2f){0,12}") {
            let path = lossy(&without_dots(path.as_bytes()));
            if !possible(path.as_bytes()) {
                prop_assert_eq!(all(&path), Vec::<String>::new());
            }
        }

        #[test]
        fn every_reading_is_a_clean_path(path in r"/(\.|/|%2e|%25|%5c|\\|;|\?|a|％|\x01){0,9}") {
            each(&path, path.as_bytes(), &mut |reading| {
                assert!(reading.starts_with('/') && !has_dots(reading.as_bytes()), "{reading}");
                ControlFlow::Continue(())
            });
        }
    }
}
