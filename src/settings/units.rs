//! From text to a value with a unit and within its range: durations, sizes, counts, words, networks.
//!
//! Every function takes what the user wrote and gives the value, or a sentence that says what to write instead.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::words::{Count, LogFormat, Word, name_of};

/// What the word `off` gives.
const OFF: &str = "off";

/// A duration with its unit, in milliseconds between the two ends.
pub(super) fn duration(millis: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> {
    let range = Duration::from_millis(*millis.start())..=Duration::from_millis(*millis.end());
    move |text| {
        if text != "0" && is_number(text) {
            return Err(format!(
                "`{text}` has no unit; write `{text}s` for seconds or `{text}ms` for milliseconds"
            ));
        }
        let value = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a duration; write for example `500ms`, `10s`, `2m` or `1h 30m`")
        })?;
        within(text, value, &range, |end| humantime::format_duration(*end).to_string())
    }
}

/// A size; `KiB`, `MiB` and `GiB` count by 1024, `KB`, `MB` and `GB` by 1000, a bare number is bytes.
pub(super) fn size(bytes: RangeInclusive<u64>) -> impl Fn(&str) -> Result<ByteSize, String> {
    move |text| {
        let value = text.parse::<ByteSize>().map_err(|_| {
            format!("`{text}` is not a size; write for example `64KiB`, `32MiB` or `1GiB` (`KB`, `MB`, `GB` count by 1000)")
        })?;
        within(text, value, &(ByteSize(*bytes.start())..=ByteSize(*bytes.end())), |end| {
            super::show::size(*end)
        })
    }
}

/// A whole number.
pub(super) fn number<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    move |text| {
        let (low, high) = (range.start(), range.end());
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // Digits alone that do not fit the type are out of range too.
            if let Some(value) = text.parse::<N>().ok().filter(|value| range.contains(value)) {
                return Ok(value);
            }
            return Err(format!("`{text}` is out of range; write a number from {low} to {high}"));
        }
        Err(format!("`{text}` is not a whole number; write one from {low} to {high}"))
    }
}

/// A number of things that defaults to the usable cores, here counted already.
pub(super) fn count(cores: usize, max: usize) -> impl Fn(&str) -> Result<Count, String> {
    move |text| {
        if text == "auto" {
            return Ok(Count { number: cores.clamp(1, max), auto: true });
        }
        let number = number(1..=max)(text).map_err(|message| format!("{message}, or `auto`"))?;
        Ok(Count { number, auto: false })
    }
}

/// A value that a word stands for the absence of.
pub(super) fn unless<T>(
    word: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| {
        if text == word {
            return Ok(None);
        }
        parse(text).map(Some).map_err(|message| format!("{message}, or `{word}`"))
    }
}

/// A value or the word `off`.
pub(super) fn or_off<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    unless(OFF, parse)
}

/// One of a few words.
pub(super) fn word<W: Word>(text: &str) -> Result<W, String> {
    if let Some((_, value)) = W::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let main = W::WORDS.iter().filter(|(word, meaning)| name_of(*meaning) == *word);
    let words: Vec<&str> = main.map(|(word, _)| *word).collect();
    Err(format!("`{text}` is none of {}", listed(&words)))
}

/// How log lines look; `auto` asks whether they go to a terminal.
pub(super) fn log_format(terminal: bool) -> impl Fn(&str) -> Result<LogFormat, String> {
    move |text| match text {
        "auto" if terminal => Ok(LogFormat::Text),
        "auto" => Ok(LogFormat::Json),
        text => word(text).map_err(|message| format!("{message}, or `auto`")),
    }
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse::<IpNet>().map(|network| network.trunc()).map_err(|_| {
        format!("`{text}` is not a network; write for example `10.0.0.0/8`, `fd00::/8` or one address")
    })
}

/// A path of the HTTP readiness probe.
pub(super) fn request_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a path to ask for; write one that starts with `/`, percent-encoded, for example `/healthz`"
        ))
    }
}

/// A command a shell could split.
pub(super) fn command(text: &str) -> Result<String, String> {
    match shell_words::split(text) {
        Ok(words) if !words.is_empty() => Ok(text.to_owned()),
        Ok(_) => Err(format!("`{text}` holds no command; write the program and its arguments")),
        Err(_) => Err(format!("`{text}` has a quote that is not closed")),
    }
}

/// A program: a name or a path, anything but nothing.
pub(super) fn program(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains('\0') {
        Err(format!("`{text}` is not a program; write its name or its path, for example `python3`"))
    } else {
        Ok(text.to_owned())
    }
}

/// A file.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err(format!("`{text}` is not a file; write its path"))
    } else {
        Ok(PathBuf::from(text))
    }
}

fn within<T: PartialOrd>(
    text: &str,
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "`{text}` is out of range; write something from {} to {}",
        show(range.start()),
        show(range.end())
    ))
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `a`, `b` and `c`, each in backticks.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

#[cfg(test)]
#[path = "units_tests.rs"]
mod tests;
