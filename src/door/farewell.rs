//! The last answer to a connection whose request never began: its head was refused by the parser, too large, or too
//! slow, or there were too many connections. It is written, counted and logged here, because no request exists that
//! would be.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use super::Door;
use crate::headers::line::Line;
use crate::headers::strict::TARGET_LIMIT;
use crate::telemetry::metrics::Answered;
use crate::telemetry::{Origin, Reason, Record};

/// Bytes of a request line that a log line shows.
const SHOWN: usize = 120;
/// Pingora's parser takes no more lines in a head.
const LINES_MOST: usize = 256;

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The parser refused the head.
    Unreadable,
    /// The head did not end.
    TooLarge,
    /// The head did not come in time.
    TooSlow,
    /// There are as many connections as may be.
    TooMany,
}

/// Method and target of a head, as far as they can be told.
fn words(head: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(&head[..head.len().min(SHOWN)]).into_owned();
    let line = text.trim_start().lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let is_name = |word: &str| word.len() < 20 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let method = if is_name(method) && !method.is_empty() { method } else { "-" };
    (method.to_owned(), words.next().unwrap_or_default().to_owned())
}

impl Cause {
    fn status(self, head: &[u8]) -> u16 {
        let long_target = Line::of(head).length > TARGET_LIMIT;
        let lines = || head.iter().filter(|byte| **byte == b'\n').count();
        match self {
            Self::TooMany => 503,
            Self::TooSlow => 408,
            Self::Unreadable | Self::TooLarge if long_target => 414,
            Self::TooLarge => 431,
            Self::Unreadable if lines() > LINES_MOST => 431,
            Self::Unreadable => 400,
        }
    }

    const fn reason(self, status: u16) -> Reason {
        match (self, status) {
            (Self::TooMany, _) => Reason::ConnectionLimit,
            (_, 408) => Reason::RequestTimeout,
            (_, 414) => Reason::UriTooLong,
            (_, 431) => Reason::HeadTooLarge,
            _ => Reason::BadRequest,
        }
    }
}

impl Door {
    /// The answer, counted and logged. `head` is what came of the head.
    pub(super) fn farewell(
        &self,
        cause: Cause,
        head: &[u8],
        peer: Option<IpAddr>,
        took: Duration,
    ) -> Vec<u8> {
        let status = cause.status(head);
        let reason = cause.reason(status);
        self.metrics.generated(reason);
        let (method, target) = words(head);
        let peer = peer.map(|ip| ip.to_string());
        let known = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
        self.internal.answered(&Answered {
            method: &known,
            status,
            seconds: took.as_secs_f64(),
            bytes_in: 0,
            bytes_out: 0,
        });
        if self.log.wants(status) {
            let (path, query) = match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target.as_str(), None),
            };
            let peer = peer.map(|ip| ip.to_string());
            self.log.request(&Record {
                method: &method,
                path,
                query,
                host: "",
                scheme: "http",
                proto: "HTTP/1.1",
                status,
                handler: self.internal.label(),
                handler_type: self.internal.kind().as_str(),
                login: None,
                duration: took,
                queue: None,
                upstream: None,
                first_byte: None,
                bytes_in: 0,
                bytes_out: 0,
                client: peer.as_deref(),
                peer: peer.as_deref(),
                user_agent: None,
                referer: None,
                request_id: "",
                trace_id: "",
                span_id: "",
                sampled: false,
                worker: None,
                upstream_addr: None,
                retries: 0,
                origin: Origin::Proxy,
                reason: Some(reason),
            });
        }
        page(status)
    }
}

/// A short page that ends the connection.
fn page(status: u16) -> Vec<u8> {
    let reason =
        StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Error");
    let body = format!("<!doctype html>\n<title>{status} {reason}</title>\n<h1>{status} {reason}</h1>\n");
    let more = match status {
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n{more}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_was_wrong() {
        let long = [b"GET /".repeat(5000).as_slice(), b" HTTP/1.1\r\n"].concat();
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(300)].concat();
        let plain = b"GET / HTTP/1.1\r\nA:\x01\r\n";
        assert_eq!(Cause::Unreadable.status(plain), 400);
        assert_eq!(Cause::Unreadable.status(&long), 414);
        assert_eq!(Cause::TooLarge.status(&long), 414);
        assert_eq!(Cause::Unreadable.status(&many), 431);
        assert_eq!(Cause::TooLarge.status(plain), 431);
        assert_eq!(Cause::TooSlow.status(plain), 408);
        assert_eq!(Cause::TooMany.status(b""), 503);
    }

    #[test]
    fn a_line_shows_what_can_be_told_of_the_request() {
        assert_eq!(words(b"\r\nPOST /x?y HTTP/1.1\r\n"), ("POST".into(), "/x?y".into()));
        assert_eq!(words(b"\x16\x03\x01\x02"), ("-".into(), String::new()));
        assert_eq!(words(b""), ("-".into(), String::new()));
        assert!(words(&b"GET /".repeat(100)).1.len() < SHOWN);
    }
}
