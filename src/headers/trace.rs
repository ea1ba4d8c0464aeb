//! Ids: one for the request, and the trace it belongs to, taken from the client when it names one rightly
//! (`X-Cloud-Trace-Context`, W3C `traceparent`), made otherwise. Nothing here is secret or must be unguessable.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

/// The ids of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// 32 hex digits, unique.
    pub request: String,
    /// 32 hex digits.
    pub trace: String,
    /// The span: the client's, or one made here.
    pub span: u64,
    /// Whether the client asked for the trace to be kept.
    pub sampled: bool,
}

impl Ids {
    /// Reads the trace of a request, or begins one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let request = format!("{:032x}", fastrand::u128(..));
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let given =
            text("x-cloud-trace-context").and_then(cloud).or_else(|| text("traceparent").and_then(w3c));
        let (trace, span, sampled) = given.unwrap_or_else(|| (request.clone(), fastrand::u64(1..), false));
        Self { request, trace, span, sampled }
    }

    /// `TRACE/SPAN;o=1`, the span in decimal.
    #[must_use]
    pub fn cloud(&self) -> String {
        format!("{}/{};o={}", self.trace, self.span, u8::from(self.sampled))
    }

    /// `00-TRACE-SPAN-01`, the span in hex.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        // Writing to a string cannot fail.
        let _ = write!(text, "00-{}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        text
    }

    /// The span as 16 hex digits.
    #[must_use]
    pub fn span_hex(&self) -> String {
        format!("{:016x}", self.span)
    }
}

type Given = (String, u64, bool);

/// `hex32/decimal;o=n`; span and options may be absent.
fn cloud(text: &str) -> Option<Given> {
    let (ids, options) = text.split_once(';').unwrap_or((text, ""));
    let (trace, span) = ids.split_once('/').unwrap_or((ids, "0"));
    let trace = hex_id(trace, 32)?;
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
    let version = hex_id(parts.next()?, 2)?;
    let trace = hex_id(parts.next()?, 32)?;
    let span = u64::from_str_radix(&hex_id(parts.next()?, 16)?, 16).ok()?;
    let flags = u8::from_str_radix(&hex_id(parts.next()?, 2)?, 16).ok()?;
    let unknown = version == "ff" || (version == "00" && parts.next().is_some());
    let zero = span == 0 || trace.bytes().all(|byte| byte == b'0');
    (!unknown && !zero).then_some((trace, span, flags & 1 == 1))
}

fn hex_id(text: &str, length: usize) -> Option<String> {
    let right = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    right.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0123456789abcdef0123456789abcdef";

    fn ids(name: &'static str, value: &str) -> Ids {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Ids::of(&headers)
    }

    #[test]
    fn a_trace_named_rightly_goes_on() {
        let given = ids("x-cloud-trace-context", &format!("{TRACE}/255;o=1"));
        assert_eq!(given.cloud(), format!("{TRACE}/255;o=1"));
        assert_eq!(given.traceparent(), format!("00-{TRACE}-00000000000000ff-01"));
        let given = ids("traceparent", &format!("00-{TRACE}-00000000000000ff-00"));
        assert_eq!(given.cloud(), format!("{TRACE}/255;o=0"));
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
