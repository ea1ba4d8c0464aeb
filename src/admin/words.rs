//! Numbers, sizes and times as a person reads them.

use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use maud::{Markup, html};

/// `1,234,567`.
pub(super) fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
    let all: Vec<_> = (!head.is_empty()).then(|| head.into()).into_iter().chain(groups).collect();
    all.join(",")
}

/// `1 request`, `2 requests`.
pub(super) fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number a second, to as many digits as mean something.
pub(super) fn rate(number: f64) -> String {
    if number < 9.95 && number.fract() != 0.0 {
        format!("{number:.1}")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and rounded on purpose"
        )]
        count(number.round() as u64)
    }
}

/// `12 ms`, `1.25 s`.
pub(super) fn latency(seconds: f64) -> String {
    match seconds {
        // The bounds of the histogram: nothing finer, nothing above is known.
        under if under <= 0.005 => "under 5 ms".to_owned(),
        over if over >= 60.0 => "over 60 s".to_owned(),
        millis if millis < 0.9995 => format!("{:.0} ms", millis * 1000.0),
        whole if whole.fract() == 0.0 => format!("{whole} s"),
        seconds if seconds < 9.995 => format!("{seconds:.2} s"),
        seconds => format!("{seconds:.1} s"),
    }
}

/// `48.2 MiB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `3 h 5 min`: the largest unit and the one below it.
pub(super) fn long(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let seconds = time.as_secs();
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut told = Vec::new();
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        if rest >= *unit || told.is_empty() {
            told.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    told.join(" ")
}

/// How long ago, with the moment itself for machines and for who points at it.
pub(super) fn ago(time: SystemTime, now: SystemTime) -> Markup {
    // A clock that was put back shows no time to come.
    let age = now.duration_since(time).unwrap_or_default();
    let moment = humantime::format_rfc3339_seconds(time).to_string();
    html! { time datetime=(moment) title=(moment) { (long(age)) " ago" } }
}

/// How long since, without a word.
pub(super) fn age(time: SystemTime, now: SystemTime) -> Markup {
    let age = now.duration_since(time).unwrap_or_default();
    let moment = humantime::format_rfc3339_seconds(time).to_string();
    html! { time datetime=(moment) title=(moment) { (long(age)) } }
}

/// `14:03:22 UTC`.
pub(super) fn clock(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let clock = text.split('T').nth(1).unwrap_or_default();
    format!("{} UTC", clock.trim_end_matches('Z'))
}

/// At most so many characters of it.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], count(text.len())),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn counts_are_grouped() {
        let told = [0_u64, 7, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(told, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(
            (plural(1, "worker"), plural(0, "worker")),
            ("1 worker".to_owned(), "0 workers".to_owned())
        );
    }

    #[test]
    fn rates_and_latencies_have_the_digits_that_mean_something() {
        assert_eq!([0.0, 0.1, 2.25, 3.0, 9.96, 1234.5].map(rate), ["0", "0.1", "2.2", "3", "10", "1,235"]);
        let told = [0.001, 0.005, 0.0123, 0.9994, 0.9996, 1.0, 1.25, 12.34, 60.0].map(latency);
        assert_eq!(
            told,
            ["under 5 ms", "under 5 ms", "12 ms", "999 ms", "1.00 s", "1 s", "1.25 s", "12.3 s", "over 60 s"]
        );
    }

    #[test]
    fn times_have_two_units_and_never_lie_ahead() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(long(Duration::from_millis(59_900)), "59 s");
        assert_eq!(long(Duration::ZERO), "0 s");
        assert_eq!(long(Duration::from_secs(300)), "5 min");
        assert_eq!(long(Duration::from_secs(2 * 86_400 + 3 * 3600 + 61)), "2 d 3 h");
        assert_eq!(clock(now), "22:13:20 UTC");
        let text = ago(now + Duration::from_secs(5), now).into_string();
        assert!(text.contains(">0 s ago<") && text.contains("2023-11-14T22:13:25Z"), "{text}");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü!", 2), "äö… (7 bytes)");
    }
}
