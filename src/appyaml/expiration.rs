//! `4d 5h`: how long a static file may be kept; and `2.5s`: how long a request may wait.

use std::time::Duration;

/// App Engine's answer when neither the handler nor `default_expiration` says anything.
pub(super) const DEFAULT: Duration = Duration::from_secs(600);

/// Numbers with `d`, `h`, `m`, `s` or nothing, blanks between, summed.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut any = false;
    for item in text.split_whitespace() {
        any = true;
        let digits = item.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
        let factor = match item[digits.len()..].to_ascii_lowercase().as_str() {
            "d" => 86_400,
            "h" => 3600,
            "m" => 60,
            "s" | "" => 1,
            _ => return None,
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // A number too large for 64 bits means forever.
        let amount = digits.parse::<u64>().unwrap_or(u64::MAX);
        total = total.saturating_add(amount.saturating_mul(factor));
    }
    any.then(|| Duration::from_secs(total))
}

/// `\d+(\.\d{1,3})?s` or `\d+ms`.
pub(super) fn latency(text: &str) -> Option<Duration> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    if let Some(millis) = text.strip_suffix("ms") {
        return digits(millis).then(|| Duration::from_millis(number(millis)));
    }
    let (whole, fraction) = text.strip_suffix('s').map(|text| text.split_once('.').unwrap_or((text, "0")))?;
    let good = digits(whole) && digits(fraction) && fraction.len() <= 3;
    good.then(|| {
        Duration::from_secs(number(whole))
            .saturating_add(Duration::from_millis(number(&format!("{fraction:0<3}"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_summed_and_units_may_have_any_case() {
        for (text, seconds_) in [
            ("1d", 86_400),
            ("10", 10),
            ("1d 6h", 108_000),
            ("5m 30", 330),
            ("7d 7d 7d", 1_814_400),
            ("3H", 10_800),
            (" 0s ", 0),
        ] {
            assert_eq!(seconds(text), Some(Duration::from_secs(seconds_)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["1w", "-1", "1.5h", "1d6h", "1d,2h", "1 d", "10 m", "", " ", "d", "1dd"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_latency_has_a_unit_and_three_decimals_at_most() {
        assert_eq!(latency("2.5s"), Some(Duration::from_millis(2500)));
        assert_eq!(latency("30ms"), Some(Duration::from_millis(30)));
        for text in ["30", "2.0", "1.2345s", ".5s", "1.s", "ms", "s", "1.5ms"] {
            assert_eq!(latency(text), None, "{text}");
        }
    }
}
