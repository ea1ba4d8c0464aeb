//! The time of a line, RFC 3339 in UTC with milliseconds. Formatted once a second on each thread: a line is every
//! request's cost, and only its milliseconds are new.

use std::cell::Cell;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use arrayvec::ArrayString;

/// `2026-11-23T01:40:08`
type Second = [u8; 19];

/// Beyond this year there is no form for it.
const LAST: Second = *b"9999-12-31T23:59:59";

thread_local! {
    static LATEST: Cell<(u64, Second)> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// Appends `at`, without quotes.
pub(super) fn append(buffer: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = LATEST.get();
    if second != since.as_secs() {
        second = since.as_secs();
        text = format(UNIX_EPOCH + since);
        LATEST.set((second, text));
    }
    buffer.extend_from_slice(&text);
    let millis = since.subsec_millis();
    let digits = [millis / 100, millis / 10 % 10, millis % 10];
    buffer.push(b'.');
    buffer.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or_default()));
    buffer.push(b'Z');
}

fn format(at: SystemTime) -> Second {
    let mut text = ArrayString::<32>::new();
    match write!(text, "{}", humantime::format_rfc3339_seconds(at)) {
        Ok(()) => text.as_bytes().first_chunk().copied().unwrap_or(LAST),
        Err(_) => LAST,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_what_humantime_says() {
        for millis in
            [0, 1, 999, 1000, 1_795_398_008_414, 1_795_398_008_999, 1_795_398_009_000, 951_782_400_000]
        {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            let mut buffer = Vec::new();
            append(&mut buffer, at);
            assert_eq!(String::from_utf8(buffer).unwrap(), humantime::format_rfc3339_millis(at).to_string());
        }
    }

    #[test]
    fn times_without_a_form_are_no_panic() {
        let mut buffer = Vec::new();
        append(&mut buffer, UNIX_EPOCH + Duration::from_secs(1 << 40));
        append(&mut buffer, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(buffer, b"9999-12-31T23:59:59.000Z1970-01-01T00:00:00.000Z");
    }
}
