//! Refuses every request head that two programs could read in two ways: pingora lets some of them through.
//! What passes has one target in origin form, one framing of its body and one host.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Version};

/// The longest request target, bytes; production App Engine refuses above about 2 KiB.
pub const TARGET_LIMIT: usize = 16 * 1024;
/// The largest request head, bytes of names and values.
pub const HEAD_LIMIT: usize = 64 * 1024;

/// The most header lines; the app's server has to take ours too, and many take a hundred.
pub const LINES_LIMIT: usize = 100;

/// Why a request is refused before anything is decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400: it can be read in more than one way.
    Ambiguous(&'static str),
    /// 405: TRACE and CONNECT.
    MethodForbidden,
    /// 501: a method App Engine does not know.
    MethodUnknown,
    /// 501: a transfer coding other than chunked.
    CodingUnknown,
    /// 413: the announced body is larger than `--max-request-body`.
    BodyTooLarge,
    /// 414: the target is longer than [`TARGET_LIMIT`].
    TargetTooLong,
    /// 431: the head is larger than [`HEAD_LIMIT`], or has more lines than [`LINES_LIMIT`].
    HeadTooLarge,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Ambiguous(_) => 400,
            Self::MethodForbidden => 405,
            Self::MethodUnknown | Self::CodingUnknown => 501,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ambiguous(why) => f.write_str(why),
            Self::MethodForbidden => f.write_str("TRACE and CONNECT are refused"),
            Self::MethodUnknown => f.write_str("App Engine does not know this method"),
            Self::CodingUnknown => f.write_str("the only transfer coding is chunked"),
            Self::BodyTooLarge => f.write_str("the body is larger than --max-request-body"),
            Self::TargetTooLong => write!(f, "the target is longer than {TARGET_LIMIT} bytes"),
            Self::HeadTooLarge => {
                write!(f, "the request head is larger than {HEAD_LIMIT} bytes or {LINES_LIMIT} lines")
            }
        }
    }
}

/// A target in origin form, split at the first `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// As sent, starts with `/`.
    pub path: &'a str,
    /// After the `?`, when there is one.
    pub query: Option<&'a str>,
    /// True when the request was in absolute form and must be rewritten before it is passed on.
    pub absolute: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A resource.
    Resource(Target<'a>),
    /// `OPTIONS *`: the server itself (RFC 9110, section 9.3.7).
    Server,
}

/// What is read of a head that passes.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The target.
    pub asked: Asked<'a>,
    /// `Host`, or the authority of HTTP/2; empty only in HTTP/1.0.
    pub host: &'a str,
    /// HTTP/1.1, a body of known length or none, nothing that changes the connection or names headers of it.
    pub plain: bool,
}

/// A header that may be given once.
#[derive(Default)]
struct Once<'a> {
    first: Option<&'a HeaderValue>,
    again: bool,
}

impl<'a> Once<'a> {
    fn take(&mut self, value: &'a HeaderValue) {
        self.again |= self.first.is_some();
        self.first = self.first.or(Some(value));
    }
}

/// What one look at the headers finds.
#[derive(Default)]
struct Seen<'a> {
    size: usize,
    coding: Once<'a>,
    length: Once<'a>,
    host: Once<'a>,
    /// Something changes the connection, or `Connection` names a header.
    changes: bool,
}

impl<'a> Seen<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            seen.size += name.as_str().len() + value.len() + 4;
            if name == HOST {
                seen.host.take(value);
            } else if name == CONTENT_LENGTH {
                seen.length.take(value);
            } else if name == TRANSFER_ENCODING {
                seen.coding.take(value);
            } else if name == CONNECTION {
                let value = value.as_bytes();
                seen.changes |=
                    !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close");
            } else if name == UPGRADE || name == EXPECT {
                seen.changes = true;
            }
        }
        seen
    }
}

/// Checks a head.
///
/// # Errors
/// The first reason to refuse it.
pub fn check<'a>(
    method: &Method,
    version: Version,
    raw_target: &'a [u8],
    uri: &'a http::Uri,
    headers: &'a HeaderMap,
    body_limit: u64,
) -> Result<Head<'a>, Refusal> {
    if raw_target.len() > TARGET_LIMIT {
        return Err(Refusal::TargetTooLong);
    }
    let seen = Seen::of(headers);
    if seen.size > HEAD_LIMIT || headers.len() > LINES_LIMIT {
        return Err(Refusal::HeadTooLarge);
    }
    method_known(method)?;
    framing(version, &seen, body_limit)?;
    let host = host(version, uri, &seen)?;
    let asked = target(method, raw_target, host)?;
    // Pingora keeps the small body of a GET for a second try.
    let kept_body = seen.length.first.is_some() && matches!(*method, Method::GET | Method::HEAD);
    let plain = version == Version::HTTP_11 && !seen.changes && seen.coding.first.is_none() && !kept_body;
    Ok(Head { asked, host, plain })
}

/// Whether both framings were given. Pingora drops `Content-Length` then, before anybody sees it; the bytes of the head
/// as they came tell. They are asked for only if there is a `Transfer-Encoding`.
#[must_use]
pub fn has_lost_length(headers: &HeaderMap, raw: impl FnOnce() -> bytes::Bytes) -> bool {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return false;
    }
    raw().split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

fn method_known(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::OPTIONS => Ok(()),
        Method::TRACE | Method::CONNECT => Err(Refusal::MethodForbidden),
        _ => Err(Refusal::MethodUnknown),
    }
}

/// RFC 9112, section 6.3, with no second chances: one length or one chunked coding, never both.
fn framing(version: Version, seen: &Seen<'_>, body_limit: u64) -> Result<(), Refusal> {
    if seen.coding.again {
        return Err(Refusal::Ambiguous("Transfer-Encoding is given twice"));
    }
    if seen.length.again {
        return Err(Refusal::Ambiguous("Content-Length is given twice"));
    }
    let (coding, length) = (seen.coding.first, seen.length.first);
    if let Some(coding) = coding {
        if length.is_some() {
            return Err(Refusal::Ambiguous("both Content-Length and Transfer-Encoding are given"));
        }
        if version != Version::HTTP_11 {
            return Err(Refusal::Ambiguous("Transfer-Encoding belongs to HTTP/1.1 alone"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::CodingUnknown);
        }
    }
    if let Some(length) = length {
        let text = length.to_str().unwrap_or_default();
        // `003`, `+3` and `3, 3` parse somewhere as 3 and elsewhere as something else.
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (text.len() > 1 && text.starts_with('0')) {
            return Err(Refusal::Ambiguous("Content-Length is not a plain number"));
        }
        let length: u64 = text.parse().map_err(|_| Refusal::BodyTooLarge)?;
        if length > body_limit {
            return Err(Refusal::BodyTooLarge);
        }
    }
    Ok(())
}

fn host<'a>(version: Version, uri: &'a http::Uri, seen: &Seen<'a>) -> Result<&'a str, Refusal> {
    let ascii = |value: &'a HeaderValue| value.to_str().map_err(|_| Refusal::Ambiguous("Host is not ASCII"));
    let host = seen.host.first.map(ascii);
    if seen.host.again {
        return Err(Refusal::Ambiguous("Host is given twice"));
    }
    // HTTP/2 names the host in :authority; a Host beside it must say the same (RFC 9113, section 8.3.1).
    let authority = if version == Version::HTTP_2 { uri.authority().map(Authority::as_str) } else { None };
    let host = match (host.transpose()?, authority) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            return Err(Refusal::Ambiguous("Host differs from :authority"));
        }
        (host, authority) => authority.or(host).unwrap_or_default(),
    };
    if host.is_empty() {
        // Only HTTP/1.0 may leave it out.
        return if version == Version::HTTP_10 { Ok("") } else { Err(Refusal::Ambiguous("Host is missing")) };
    }
    if is_usual(host) {
        return Ok(host);
    }
    match host.parse::<Authority>() {
        Ok(authority)
            if !host.contains('@') && plain_name(authority.host()) && port_is_number(&authority, host) =>
        {
            Ok(host)
        }
        _ => Err(Refusal::Ambiguous("Host is not a host name with an optional port")),
    }
}

/// A name and perhaps a port, as nearly all of them are: the parser would say the same.
fn is_usual(host: &str) -> bool {
    let colon = host.bytes().position(|byte| byte == b':');
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    let port = port
        .strip_prefix(':')
        .is_none_or(|port| matches!(port.len(), 1..=4) && port.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && plain_name(name) && !name.starts_with('[') && port
}

/// What host names are made of, or an IPv6 address; RFC 3986 would allow `,` and `;`, which somebody splits at.
fn plain_name(name: &str) -> bool {
    name.starts_with('[')
        || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'))
}

fn port_is_number(authority: &Authority, host: &str) -> bool {
    host.len() == authority.host().len() || authority.port_u16().is_some()
}

fn target<'a>(method: &Method, raw: &'a [u8], host: &str) -> Result<Asked<'a>, Refusal> {
    if raw == b"*" {
        return if method == Method::OPTIONS {
            Ok(Asked::Server)
        } else {
            Err(Refusal::Ambiguous("only OPTIONS may ask for *"))
        };
    }
    let text = std::str::from_utf8(raw).map_err(|_| Refusal::Ambiguous("the target is not UTF-8"))?;
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::Ambiguous("the target holds a space or a control character"));
    }
    if text.starts_with('/') {
        return Ok(Asked::Resource(split(text, false)));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Refusal::Ambiguous("the target does not start with a slash"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::Ambiguous("the target's scheme is neither http nor https"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Refusal::Ambiguous("the target names another host than Host"));
    }
    match path.as_bytes().first() {
        None => Ok(Asked::Resource(Target { path: "/", query: None, absolute: true })),
        Some(b'/') => Ok(Asked::Resource(split(path, true))),
        Some(b'?') => Ok(Asked::Resource(Target { path: "/", ..split(path, true) })),
        Some(_) => Err(Refusal::Ambiguous("the target has a fragment")),
    }
}

fn split(text: &str, absolute: bool) -> Target<'_> {
    // By bytes: on a text this short the search for a character costs more than looking at each.
    match text.bytes().position(|byte| byte == b'?') {
        Some(end) => Target { path: &text[..end], query: Some(&text[end + 1..]), absolute },
        None => Target { path: text, query: None, absolute },
    }
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
