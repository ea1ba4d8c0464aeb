//! YAML timestamps as the text `str()` of Python's date or datetime gives.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::code;

#[expect(clippy::expect_used, reason = "a constant expression, compiled by the tests")]
static PARTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^(?<year>[0-9]{4})-(?<month>[0-9][0-9]?)-(?<day>[0-9][0-9]?)(?:(?:[Tt]|[ \t]+)",
        r"(?<hour>[0-9][0-9]?):(?<minute>[0-9][0-9]):(?<second>[0-9][0-9])(?:\.(?<fraction>[0-9]*))?",
        r"(?:[ \t]*(?:Z|(?<sign>[-+])(?<tz_hour>[0-9][0-9]?)(?::(?<tz_minute>[0-9][0-9]))?))?)?$",
    ))
    .expect("a constant expression")
});

/// `2012-01-01` stays, `2001-12-14t21:59:43.10-05:00` becomes `2001-12-15 02:59:43.100000` (in UTC).
pub(super) fn timestamp(text: &str) -> Result<String, String> {
    let wrong = || format!("{} looks like a date, but there is no such day or time", code(text));
    let found = PARTS.captures(text).ok_or_else(wrong)?;
    let (year, month, day) = (number(&found, "year"), number(&found, "month"), number(&found, "day"));
    if year < 1 || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err(wrong());
    }
    if found.name("hour").is_none() {
        return Ok(format!("{year:04}-{month:02}-{day:02}"));
    }
    let (hour, minute, second) = (number(&found, "hour"), number(&found, "minute"), number(&found, "second"));
    let micro = micros(found.name("fraction").map_or("", |part| part.as_str()));
    if hour > 23 || minute > 59 || second > 59 || micro > 999_999 {
        return Err(wrong());
    }
    let offset = number(&found, "tz_hour") * 3600 + number(&found, "tz_minute") * 60;
    let offset = if found.name("sign").is_some_and(|sign| sign.as_str() == "-") { -offset } else { offset };
    let seconds = day_number(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let (year, month, day) = date_of(seconds.div_euclid(86_400));
    if !(1..=9999).contains(&year) {
        return Err(wrong());
    }
    let rest = seconds.rem_euclid(86_400);
    let fraction = if micro == 0 { String::new() } else { format!(".{micro:06}") };
    Ok(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{fraction}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    ))
}

fn number(found: &Captures<'_>, name: &str) -> i64 {
    found.name(name).and_then(|part| part.as_str().parse().ok()).unwrap_or(0)
}

/// Six digits, rounded by the seventh.
fn micros(fraction: &str) -> i64 {
    let digits = format!("{fraction:0<6}");
    let micro: i64 = digits[..6].parse().unwrap_or(0);
    micro + i64::from(fraction.as_bytes().get(6).is_some_and(|digit| *digit > b'4'))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The reverse of [`day_number`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}
