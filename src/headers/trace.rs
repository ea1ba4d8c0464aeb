//! Ids: one for the request, and the trace it belongs to, taken from the client when it names one rightly
//! (W3C `traceparent`, `X-Cloud-Trace-Context`), made otherwise. Nothing here is secret or must be unguessable.

use std::fmt;

use http::{HeaderMap, HeaderName};

use crate::telemetry::Asked;

const CLOUD: HeaderName = HeaderName::from_static("x-cloud-trace-context");
const W3C: HeaderName = HeaderName::from_static("traceparent");

/// 16 bytes as hex digits, on the stack: every request carries two, and most are only copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex([u8; 32]);

impl Hex {
    fn of(bytes: [u8; 16]) -> Self {
        let mut text = [b'0'; 32];
        // The room is exactly twice the bytes, the one thing that can be wrong here.
        let _ = hex::encode_to_slice(bytes, &mut text);
        Self(text)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ids of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Unique.
    pub request: Hex,
    /// The client's, or that of the request.
    pub trace: Hex,
    /// The span: the client's, or one made here.
    pub span: u64,
    /// Whether the client asked for the trace to be kept.
    pub sampled: bool,
    /// Named by a valid `traceparent`: its `tracestate` holds.
    pub w3c: bool,
}

impl Default for Ids {
    /// Of no request: zeros.
    fn default() -> Self {
        let none = Hex([b'0'; 32]);
        Self { request: none, trace: none, span: 0, sampled: false, w3c: false }
    }
}

impl Ids {
    /// Reads the trace of a request, or begins one. `traceparent` is asked first: the other is older and says less.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let request = Hex::of(fastrand::u128(..).to_be_bytes());
        if let Some((trace, span, sampled)) = only(headers, &W3C).and_then(w3c) {
            return Self { request, trace, span, sampled, w3c: true };
        }
        let (trace, span, sampled) = only(headers, &CLOUD).and_then(cloud).unwrap_or((request, None, false));
        // No span is 0, by either header's rules.
        let span = span.unwrap_or_else(|| fastrand::u64(1..));
        Self { request, trace, span, sampled, w3c: false }
    }

    /// For whoever reads what the worker prints meanwhile.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        Asked { request: self.request.0, trace: self.trace.0, span: self.span, sampled: self.sampled }
    }

    /// Writes `TRACE/SPAN;o=1`, the span in decimal.
    pub fn write_cloud(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trace.0);
        out.push(b'/');
        out.extend_from_slice(itoa::Buffer::new().format(self.span).as_bytes());
        out.extend_from_slice(if self.sampled { b";o=1" } else { b";o=0" });
    }

    /// Writes `00-TRACE-SPAN-01`, the span in hex.
    pub fn write_traceparent(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"00-");
        out.extend_from_slice(&self.trace.0);
        out.push(b'-');
        out.extend_from_slice(&self.span_digits());
        out.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
    }

    /// The span as 16 hex digits.
    #[must_use]
    pub fn span_hex(&self) -> String {
        String::from_utf8_lossy(&self.span_digits()).into_owned()
    }

    fn span_digits(&self) -> [u8; 16] {
        let mut text = [b'0'; 16];
        // As above: the room fits.
        let _ = hex::encode_to_slice(self.span.to_be_bytes(), &mut text);
        text
    }
}

/// The text of a header that is given once. Of two, neither is to be believed.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

/// `hex32/decimal;o=n`; span and options may be absent.
fn cloud(text: &str) -> Option<(Hex, Option<u64>, bool)> {
    let (ids, options) = text.split_once(';').unwrap_or((text, ""));
    let (trace, span) = ids.split_once('/').unwrap_or((ids, ""));
    let mut digits = *trace.as_bytes().as_array()?;
    digits.make_ascii_lowercase();
    let trace = trace_id(&digits)?;
    let span = match span {
        "" => None,
        // Neither `+1` nor what does not fit is a span.
        _ => Some(span.parse::<u64>().ok().filter(|_| span.bytes().all(|byte| byte.is_ascii_digit()))?),
    };
    let sampled = match options {
        "" => false,
        _ => options.strip_prefix("o=")?.parse::<u8>().ok()? & 1 == 1,
    };
    Some((trace, span.filter(|span| *span != 0), sampled))
}

/// W3C Trace Context, section 3.2: version 00, or a later one, of which only the beginning is read. Upper case is wrong.
fn w3c(text: &str) -> Option<(Hex, u64, bool)> {
    let (known, more) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    let mut next = |length| parts.next().filter(|part| part.len() == length && part.bytes().all(is_digit));
    let version = next(2)?;
    let trace = trace_id(next(32)?.as_bytes().as_array()?)?;
    let span = u64::from_str_radix(next(16)?, 16).ok().filter(|span| *span != 0)?;
    let flags = u8::from_str_radix(next(2)?, 16).ok()?;
    let fits = match version {
        "ff" => false,
        "00" => more.is_empty(),
        _ => more.is_empty() || more.starts_with('-'),
    };
    fits.then_some((trace, span, flags & 1 == 1))
}

const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn trace_id(digits: &[u8; 32]) -> Option<Hex> {
    let valid = digits.iter().all(|byte| is_digit(*byte)) && digits.iter().any(|byte| *byte != b'0');
    valid.then_some(Hex(*digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0123456789abcdef0123456789abcdef";

    fn cloud(ids: &Ids) -> String {
        let mut text = Vec::new();
        ids.write_cloud(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn traceparent(ids: &Ids) -> String {
        let mut text = Vec::new();
        ids.write_traceparent(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn ids(name: &'static str, value: &str) -> Ids {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Ids::of(&headers)
    }

    #[test]
    fn a_trace_named_rightly_goes_on() {
        let given = ids("x-cloud-trace-context", &format!("{TRACE}/255;o=1"));
        assert_eq!(cloud(&given), format!("{TRACE}/255;o=1"));
        assert_eq!(traceparent(&given), format!("00-{TRACE}-00000000000000ff-01"));
        let given = ids("traceparent", &format!("00-{TRACE}-00000000000000ff-00"));
        assert_eq!(cloud(&given), format!("{TRACE}/255;o=0"));
    }

    #[test]
    fn a_cloud_trace_may_leave_its_span_and_its_options_out() {
        for text in [TRACE.to_owned(), format!("{TRACE};o=1"), format!("{TRACE}/0;o=1"), format!("{TRACE}/")]
        {
            let given = ids("x-cloud-trace-context", &text);
            assert_eq!(given.trace.as_str(), TRACE, "{text}");
            assert_ne!(given.span, 0, "{text}: a span is made");
            assert_eq!(given.sampled, text.ends_with("o=1"), "{text}");
            assert!(!given.w3c);
        }
        let upper = ids("x-cloud-trace-context", &format!("{}/18446744073709551615", TRACE.to_uppercase()));
        assert_eq!((upper.trace.as_str(), upper.span), (TRACE, u64::MAX));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for more in ["", "-what-the-future-brings"] {
            let given = ids("traceparent", &format!("cc-{TRACE}-00000000000000ff-03{more}"));
            assert_eq!((given.trace.as_str(), given.span, given.sampled), (TRACE, 255, true));
            assert!(given.w3c);
        }
    }

    #[test]
    fn a_trace_named_wrongly_is_replaced() {
        let zero = "0".repeat(32);
        for bad in [
            "",
            "x/1;o=1",
            &format!("{TRACE}/-1"),
            &format!("{TRACE}/+1"),
            &format!("{TRACE}/18446744073709551616"),
            &format!("{TRACE}/1;o=x"),
            &format!("{TRACE}/1;x"),
            &format!("{TRACE}0/1"),
            &format!("{}g/1", &TRACE[1..]),
            &format!("{zero}/1"),
        ] {
            let made = ids("x-cloud-trace-context", bad);
            assert_eq!(made.trace, made.request, "{bad}");
            assert!(made.span != 0 && !made.sampled, "{bad}");
        }
        let span = "00000000000000ff";
        for bad in [
            &format!("ff-{TRACE}-{span}-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{zero}-{span}-01"),
            &format!("00-{}-{span}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-{}-01", span.to_uppercase()),
            &format!("0A-{TRACE}-{span}-01"),
            &format!("00-{TRACE}-{span}-0g"),
            &format!("00-{TRACE}-{span}-01-more"),
            &format!("cc-{TRACE}-{span}-01.more"),
            &format!("00-{TRACE}-{span}-1"),
            &format!("00-{TRACE}-{span}"),
            &format!("00-{TRACE}0-{}-01", &span[1..]),
            &format!(" 00-{TRACE}-{span}-01"),
            "00",
            "",
        ] {
            let made = ids("traceparent", bad.trim_end());
            assert_eq!(made.trace, made.request, "{bad}");
            assert!(!made.w3c && !made.sampled, "{bad}");
        }
    }

    #[test]
    fn of_two_headers_traceparent_counts_and_of_two_traceparents_none() {
        let other = "f".repeat(32);
        let mut headers = HeaderMap::new();
        headers.insert("x-cloud-trace-context", format!("{other}/1;o=1").parse().unwrap());
        headers.insert("traceparent", format!("00-{TRACE}-00000000000000ff-00").parse().unwrap());
        assert_eq!(Ids::of(&headers).trace.as_str(), TRACE);
        headers.append("traceparent", format!("00-{TRACE}-00000000000000ff-00").parse().unwrap());
        assert_eq!(Ids::of(&headers).trace.as_str(), other);
        headers.append("x-cloud-trace-context", format!("{other}/1;o=1").parse().unwrap());
        let made = Ids::of(&headers);
        assert_eq!(made.trace, made.request);
    }
}
