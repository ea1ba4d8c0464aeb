//! The forms of text fields: the SDK's regular expressions as plain functions.
//!
//! Each gets a text without its last line break (the expressions end in `$`, which allows one).

/// What a handler's url must look like.
pub(in crate::appyaml) const URL: &str = "start it with `/`, `.` or `(`, and do not end a `(…)$` with `$`";
/// What a runtime must look like.
pub(in crate::appyaml) const RUNTIME: &str = "write a name such as `python27` or `python312`";

fn letters(text: &str, count: std::ops::RangeInclusive<usize>, more: &str) -> bool {
    count.contains(&text.len())
        && text
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || more.contains(letter))
}

fn one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains('\n')
}

/// `(?!\^)/.*|\..*|(\(.).*(?!\$).`
pub(super) fn handler_url(text: &str) -> bool {
    one_line(text)
        && match text.as_bytes()[0] {
            b'/' | b'.' => true,
            b'(' => text.chars().count() >= 3 && !text.ends_with('$'),
            _ => false,
        }
}

/// `.+`
pub(super) fn file(text: &str) -> bool {
    one_line(text)
}

/// `\s*(N[dhms])(\s+(N[dhms]))*\s*`
pub(super) fn expiration(text: &str) -> bool {
    super::super::expiration::seconds(text).is_some()
}

/// `gs://…` or `[a-z][a-z0-9\-\.]{0,29}`
pub(super) fn runtime(text: &str) -> bool {
    match text.strip_prefix("gs://") {
        Some(rest) => letters(rest, 1..=usize::MAX, "-._/"),
        None => text.starts_with(|first: char| first.is_ascii_lowercase()) && letters(text, 1..=30, "-."),
    }
}

/// `[\w.]{1,32}`
pub(super) fn word32(text: &str) -> bool {
    (1..=32).contains(&text.chars().count())
        && text.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '.')
}

pub(super) fn env(text: &str) -> bool {
    matches!(text, "1" | "2" | "standard" | "flex" | "flexible")
}

/// `(?!-)[a-z\d\-]{0,62}[a-z\d]`
pub(super) fn service_name(text: &str) -> bool {
    letters(text, 1..=63, "-") && !text.starts_with('-') && !text.ends_with('-')
}

/// `[\w.\-]{1,32}`
pub(super) fn source_language(text: &str) -> bool {
    word32(&text.replace('-', "_"))
}

/// `\S+`
pub(super) fn not_blank(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

/// `[a-z0-9]+`
pub(super) fn lower_case(text: &str) -> bool {
    letters(text, 1..=usize::MAX, "")
}

/// `[0-9]+(:[0-9]+)?(/(udp|tcp))?`
pub(super) fn forwarded_port(text: &str) -> bool {
    let ports = text.strip_suffix("/udp").or_else(|| text.strip_suffix("/tcp")).unwrap_or(text);
    let (first, second) = ports.split_once(':').unwrap_or((ports, "0"));
    digits(first) && digits(second)
}

/// `EXTERNAL|external|INTERNAL|internal`
pub(super) fn ip_mode(text: &str) -> bool {
    matches!(text, "EXTERNAL" | "external" | "INTERNAL" | "internal")
}

/// `[a-z]([a-z\d-]{0,61}[a-z\d])?`
pub(super) fn resource(text: &str) -> bool {
    letters(text, 1..=63, "-") && text.as_bytes()[0].is_ascii_lowercase() && !text.ends_with('-')
}

/// `[a-z\d-]+(/[a-z\d-]+)*`
pub(super) fn resource_path(text: &str) -> bool {
    text.split('/').all(|part| letters(part, 1..=usize::MAX, "-"))
}

/// `[a-z\d-]+(/.+)*`
pub(super) fn connector(text: &str) -> bool {
    let (first, rest) = text.split_once('/').unwrap_or((text, "x"));
    letters(first, 1..=usize::MAX, "-") && one_line(rest)
}

/// `(?!-)[a-z\d\-]{1,100}`
pub(super) fn backend_name(text: &str) -> bool {
    letters(text, 1..=100, "-") && !text.starts_with('-')
}

/// `[bB](1|2|4|8|4_1G)`
pub(super) fn backend_class(text: &str) -> bool {
    matches!(text.strip_prefix(['b', 'B']), Some("1" | "2" | "4" | "8" | "4_1G"))
}

/// `[a-z, ]*`
pub(super) fn backend_options(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_lowercase() || letter == ',' || letter == ' ')
}

pub(super) fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// `[1-9]\d*`
pub(super) fn natural(text: &str) -> bool {
    digits(text) && !text.starts_with('0')
}

/// `[\d]+|automatic`
pub(super) fn digits_or_automatic(text: &str) -> bool {
    text == "automatic" || digits(text)
}

/// `\d+((\.\d{1,3})?s|ms)|automatic`
pub(super) fn latency(text: &str) -> bool {
    text == "automatic" || super::super::expiration::latency(text).is_some()
}

/// `[\d]+(s|m)`
pub(super) fn idle_timeout(text: &str) -> bool {
    text.strip_suffix(['s', 'm']).is_some_and(digits)
}

pub(super) fn target_type(text: &str) -> bool {
    matches!(text, "GAUGE" | "DELTA_PER_SECOND" | "DELTA_PER_MINUTE")
}
