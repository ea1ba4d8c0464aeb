//! Whether a request's conditions let the file be sent, in the order of RFC 9110, section 13.2.2:
//!
//! 1. `If-Match`: 412 unless a tag is the same (strong comparison);
//! 2. without it, `If-Unmodified-Since`: 412 when changed since;
//! 3. `If-None-Match`: 304 when a tag is the same (weak comparison);
//! 4. without it, `If-Modified-Since`: 304 when not changed since;
//! 5. `If-Range`, asked by `range`: the part only if this is still the same file.
//!
//! Every method but HEAD is treated as GET (as App Engine does), so a failed step 3 is 304 for all of them.

use std::time::{Duration, SystemTime};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What conditions are compared with.
#[derive(Debug, Clone, Default)]
pub(super) struct Validators {
    /// `ETag` as sent, quotes and all.
    pub(super) tag: Option<HeaderValue>,
    /// `Last-Modified` as sent.
    pub(super) modified: Option<SystemTime>,
}

/// What the conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Steps 1 to 4.
pub(super) fn evaluate(request: &HeaderMap, validators: &Validators) -> Verdict {
    if request.contains_key(IF_MATCH) {
        if !any_tag(request, IF_MATCH, |tag| strongly_same(tag, validators)) {
            return Verdict::Failed;
        }
    } else if let (Some(since), Some(modified)) = (date(request, IF_UNMODIFIED_SINCE), validators.modified)
        && modified > since
    {
        return Verdict::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        if any_tag(request, IF_NONE_MATCH, |tag| weakly_same(tag, validators)) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(request, IF_MODIFIED_SINCE), validators.modified)
        && modified <= since
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Step 5: whether a range may be answered with a part. A date must be the very one we sent, and old enough that
/// the file cannot have changed twice in its second (section 8.8.2.2).
pub(super) fn if_range(request: &HeaderMap, validators: &Validators, now: SystemTime) -> bool {
    let mut values = request.get_all(IF_RANGE).iter();
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    let value = value.as_bytes().trim_ascii();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return strongly_same(value, validators);
    }
    let asked = std::str::from_utf8(value).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    match (asked, validators.modified) {
        (Some(asked), Some(modified)) => asked == modified && modified + Duration::from_secs(1) <= now,
        // An unquoted tag given in `http_headers` comes back as it was sent.
        _ => strongly_same(value, validators),
    }
}

/// Whether the request sets no conditions and asks for no part: most do not, and one look at each name is cheaper
/// than looking for six.
pub(super) fn is_plain(request: &HeaderMap) -> bool {
    !request.keys().any(|name| {
        let name = name.as_str();
        name == "range" || name.starts_with("if-")
    })
}

/// Whether only the file as it lies will do: parts are parts of that, and a strong comparison holds for that alone.
pub(super) fn asks_for_identity(request: &HeaderMap) -> bool {
    [RANGE, IF_RANGE, IF_MATCH].iter().any(|name| request.contains_key(name))
}

/// Whether `If-None-Match` names this tag.
pub(super) fn names(request: &HeaderMap, tag: &HeaderValue) -> bool {
    any_tag(request, IF_NONE_MATCH, |given| opaque(given) == opaque(tag.as_bytes()))
}

/// Whether the answer depends on the tag.
pub(super) fn asks_by_tag(request: &HeaderMap) -> bool {
    [IF_MATCH, IF_NONE_MATCH, IF_RANGE].iter().any(|name| request.contains_key(name))
}

/// `*`, or a tag in any of the lines that `same` accepts.
fn any_tag(request: &HeaderMap, name: HeaderName, same: impl Fn(&[u8]) -> bool) -> bool {
    request.get_all(name).iter().any(|line| {
        let line = line.as_bytes().trim_ascii();
        line == b"*" || Tags(line).any(&same)
    })
}

fn strongly_same(tag: &[u8], validators: &Validators) -> bool {
    let Some(ours) = &validators.tag else { return false };
    !ours.as_bytes().starts_with(b"W/") && tag == ours.as_bytes()
}

fn weakly_same(tag: &[u8], validators: &Validators) -> bool {
    let Some(ours) = &validators.tag else { return false };
    opaque(tag) == opaque(ours.as_bytes())
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The one date of a field; a list or anything else is no condition at all (section 13.1.3).
fn date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = request.get_all(name).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(text).ok()
}

/// The tags of one line. A comma inside quotes belongs to the tag.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let skip = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let rest = &self.0[skip..];
        let weak = if rest.starts_with(b"W/") { 2 } else { 0 };
        let end = if rest.get(weak) == Some(&b'"') {
            let close = rest[weak + 1..].iter().position(|&byte| byte == b'"');
            close.map_or(rest.len(), |close| weak + close + 2)
        } else {
            rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len())
        };
        self.0 = &rest[end..];
        Some(rest[..end].trim_ascii_end())
    }
}

#[cfg(test)]
#[path = "conditional_tests.rs"]
mod tests;
