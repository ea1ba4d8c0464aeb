//! Ids: one for the request, and the trace it belongs to, taken from the client when it names one rightly
//! (`X-Cloud-Trace-Context`, W3C `traceparent`), made otherwise. Nothing here is secret or must be unguessable.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

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
}

impl Default for Ids {
    /// Of no request: zeros.
    fn default() -> Self {
        let none = Hex([b'0'; 32]);
        Self { request: none, trace: none, span: 0, sampled: false }
    }
}

impl Ids {
    /// Reads the trace of a request, or begins one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let request = Hex::of(fastrand::u128(..).to_be_bytes());
        let text = |name: HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let given = text(CLOUD).and_then(cloud).or_else(|| text(W3C).and_then(w3c));
        let (trace, span, sampled) = given.unwrap_or_else(|| (request, fastrand::u64(1..), false));
        Self { request, trace, span, sampled }
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

type Given = (Hex, u64, bool);

/// `hex32/decimal;o=n`; span and options may be absent.
fn cloud(text: &str) -> Option<Given> {
    let (ids, options) = text.split_once(';').unwrap_or((text, ""));
    let (trace, span) = ids.split_once('/').unwrap_or((ids, "0"));
    let trace = trace_id(trace)?;
    let span: u64 = span.parse().ok()?;
    let sampled = match options {
        "" => false,
        _ => options.strip_prefix("o=")?.parse::<u8>().ok()? & 1 == 1,
    };
    Some((trace, span, sampled))
}

/// W3C Trace Context, level 1, section 3.2: version 00, or a later one read as 00.
fn w3c(text: &str) -> Option<Given> {
    let mut parts = text.split('-');
    let version = parts.next().filter(|part| is_hex(part, 2))?;
    let trace = trace_id(parts.next()?)?;
    let span = u64::from_str_radix(parts.next().filter(|part| is_hex(part, 16))?, 16).ok()?;
    let flags = u8::from_str_radix(parts.next().filter(|part| is_hex(part, 2))?, 16).ok()?;
    let unknown = version.eq_ignore_ascii_case("ff") || (version == "00" && parts.next().is_some());
    let zero = span == 0 || trace.0 == [b'0'; 32];
    (!unknown && !zero).then_some((trace, span, flags & 1 == 1))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn trace_id(text: &str) -> Option<Hex> {
    let mut digits: [u8; 32] = text.as_bytes().try_into().ok()?;
    digits.make_ascii_lowercase();
    digits.iter().all(u8::is_ascii_hexdigit).then_some(Hex(digits))
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
    fn a_trace_named_wrongly_is_replaced() {
        for bad in ["", "x/1;o=1", &format!("{TRACE}/-1"), &format!("{TRACE}/1;o=x"), &format!("{TRACE}0/1")]
        {
            let made = ids("x-cloud-trace-context", bad);
            assert_eq!(made.trace, made.request, "{bad}");
        }
        for bad in
            [&format!("ff-{TRACE}-00000000000000ff-00"), &format!("00-{TRACE}-0000000000000000-00"), "00"]
        {
            let made = ids("traceparent", bad);
            assert_eq!(made.trace, made.request, "{bad}");
        }
    }
}
