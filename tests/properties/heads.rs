//! A request head read twice: by pingora's parser and our strict check, and by a reader of its own made of nothing but
//! bytes. What the first lets through, the second must read in the same way. Shared by the property tests and the fuzzer.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use compat_proxy::headers::line::Line;
use compat_proxy::headers::send::{Facts, Policy};
use compat_proxy::headers::strict::{self, Asked};
use compat_proxy::headers::trace::Ids;
use compat_proxy::headers::trust;
use http::HeaderMap;
use percent_encoding::percent_decode;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::server::HttpSession;

const BODY_LIMIT: u64 = 1 << 20;

/// What a head means, as far as it can be read in two ways.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: Vec<u8>,
    /// Decoded once.
    target: Vec<u8>,
    host: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

/// Reads `bytes` both ways; true when our side let the head through.
///
/// # Panics
/// When the two do not agree about a head that was let through.
pub fn agree(bytes: &[u8]) -> bool {
    let Some((ours, passed_on)) = ours(bytes) else { return false };
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let theirs = independent(bytes).unwrap_or_else(|why| panic!("let through, but {why}: {:?}", shown()));
    assert_eq!(ours, theirs, "read in two ways: {:?}", shown());
    nothing_forged(&passed_on, &shown());
    true
}

/// By pingora and [`strict::check`], as the proxy does it.
fn ours(bytes: &[u8]) -> Option<(Meaning, RequestHeader)> {
    let mut session = HttpSession::new(Box::new(Cursor::new(bytes.to_vec())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(session.read_request()).ok()??;
    let raw = session.get_headers_raw_bytes();
    let request = session.req_header();
    let raw_target = request.raw_path().to_vec();
    let head = strict::check(
        &request.method,
        request.version,
        &raw_target,
        &request.uri,
        &request.headers,
        BODY_LIMIT,
    );
    let head = head.ok()?;
    let lost_length = strict::has_lost_length(&request.headers, || raw);
    if lost_length || Line::of(bytes).odd {
        return None;
    }
    let target = match head.asked {
        Asked::Server => b"*".to_vec(),
        Asked::Resource(target) => {
            let text = match target.query {
                Some(query) => format!("{}?{query}", target.path),
                None => target.path.to_owned(),
            };
            percent_decode(text.as_bytes()).collect()
        }
    };
    let length = request.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let meaning = Meaning {
        method: request.method.as_str().as_bytes().to_vec(),
        target,
        host: head.host.as_bytes().to_ascii_lowercase(),
        length,
        chunked: request.headers.contains_key("transfer-encoding"),
    };
    let mut passed_on = request.clone();
    let ids = Ids::of(&HeaderMap::new());
    policy().send(&mut passed_on, &facts(head.host, &ids)).expect("ours can be read");
    Some((meaning, passed_on))
}

fn policy() -> Policy {
    Policy::new(true, Duration::from_secs(60))
}

fn facts<'a>(host: &'a str, ids: &'a Ids) -> Facts<'a> {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let client = trust::client(Some(peer), &HeaderMap::new(), &[]);
    Facts { client, host, ids, script: None, handler: None }
}

/// What only App Engine or we may say is said by us, once, and nobody else.
fn nothing_forged(passed_on: &RequestHeader, shown: &str) {
    let mut empty = RequestHeader::build("GET", b"/", None).expect("a request");
    let ids = Ids::of(&HeaderMap::new());
    policy().send(&mut empty, &facts("h", &ids)).expect("ours can be read");
    for name in passed_on.headers.keys() {
        let plain = name.as_str().to_ascii_lowercase();
        assert!(!plain.contains('_'), "`{plain}` reached the app: {shown:?}");
        let ours = ["x-appengine-", "x-google-", "x-compat-", "x-goog-", "x-forwarded-"];
        if ours.iter().any(|start| plain.starts_with(start)) {
            assert!(empty.headers.contains_key(name), "`{plain}` reached the app: {shown:?}");
            let values = passed_on.headers.get_all(name).iter().count();
            assert_eq!(values, 1, "`{plain}` reached the app {values} times: {shown:?}");
        }
    }
    for (name, value) in [
        ("x-appengine-user-is-admin", "0"),
        ("x-appengine-user-email", ""),
        ("x-appengine-user-ip", "127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-appengine-https", "off"),
    ] {
        let got = passed_on.headers.get(name).map(|value| value.as_bytes().to_vec());
        assert_eq!(got.as_deref(), Some(value.as_bytes()), "{name}: {shown:?}");
    }
}

/// By the book (RFC 9112), from the bytes, with no knowledge of any parser.
fn independent(bytes: &[u8]) -> Result<Meaning, String> {
    let mut lines = lines(bytes)?.into_iter();
    let first = lines.next().ok_or("there is no request line")?;
    // Our side may encode what a target must not hold; the words are then those at the ends.
    let from = first.iter().position(|byte| *byte == b' ').ok_or("the request line has one word")?;
    let to = first.iter().rposition(|byte| *byte == b' ').unwrap_or(from);
    let (method, version) = (&first[..from], &first[to + 1..]);
    let target = first.get(from + 1..to).ok_or("the request line has two words")?;
    let one_zero = match version {
        b"HTTP/1.0" => true,
        b"HTTP/1.1" => false,
        _ => return Err("the version is not 1.0 or 1.1".to_owned()),
    };
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err("the method is not a known one".to_owned());
    }
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a header line has no colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(format!("`{}` is no name", String::from_utf8_lossy(name)));
        }
        if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err("a value holds a line end".to_owned());
        }
        match name.to_ascii_lowercase().as_slice() {
            b"host" => hosts.push(value.to_vec()),
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => codings.push(value.to_vec()),
            _ => {}
        }
    }
    if hosts.len() > 1 || lengths.len() + codings.len() > 1 {
        return Err(format!("hosts {}, lengths {}, codings {}", hosts.len(), lengths.len(), codings.len()));
    }
    if !codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        || (one_zero && !codings.is_empty())
    {
        return Err("the coding is not chunked, or not of HTTP/1.1".to_owned());
    }
    let length = match lengths.first() {
        Some(digits) if digits.iter().all(u8::is_ascii_digit) && !digits.is_empty() => {
            let text = String::from_utf8_lossy(digits).into_owned();
            let length: u64 = text.parse().map_err(|_| "the length is too long")?;
            if length.to_string() != text {
                return Err("the length has zeros before it".to_owned());
            }
            Some(length)
        }
        Some(_) => return Err("the length is not a number".to_owned()),
        None => None,
    };
    let host = hosts.pop().unwrap_or_default();
    if host.is_empty() && !one_zero {
        return Err("there is no host".to_owned());
    }
    let target = origin_form(target, &host)?;
    Ok(Meaning {
        method: method.to_vec(),
        target: percent_decode(&target).collect(),
        host: host.to_ascii_lowercase(),
        length,
        chunked: !codings.is_empty(),
    })
}

/// The lines of the head. A bare line feed ends a line too (RFC 9112, section 2.2); what comes after is made anew.
fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    // Empty lines before a request are to be ignored.
    while let Some(next) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        rest = next;
    }
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("the head has no end")?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            return Ok(lines);
        }
        if line.contains(&b'\r') {
            return Err("a line holds a bare carriage return".to_owned());
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err("a line is folded".to_owned());
        }
        lines.push(line);
    }
}

fn origin_form(target: &[u8], host: &[u8]) -> Result<Vec<u8>, String> {
    // A fragment is cut before anything is decided or passed on; what is nothing else is the root, to the app too.
    if target.starts_with(b"#") {
        return Ok(b"/".to_vec());
    }
    let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    if target.starts_with(b"/") || target == b"*" {
        return Ok(target.to_vec());
    }
    let lower = target.to_ascii_lowercase();
    let skip = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| lower.starts_with(scheme))
        .map(|scheme| scheme.len());
    let rest = &target[skip.ok_or("the target has no slash and no scheme")?..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !rest[..end].eq_ignore_ascii_case(host) {
        return Err("the target names another host".to_owned());
    }
    Ok(if rest[end..].starts_with(b"/") { rest[end..].to_vec() } else { [b"/", &rest[end..]].concat() })
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
