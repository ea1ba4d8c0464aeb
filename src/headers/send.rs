//! From the client's request head to the one the app gets: what only App Engine may say is taken away, then
//! said anew (spec section e). It is written as the bytes that go to the worker; what pingora carries itself is
//! read back from them, so that there is one policy. That happens after pingora removed what `Connection` names: a
//! client cannot make our own headers vanish (CVE-2026-105299).

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts as ReqParts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::trace::Ids;
use super::trust::Client;

/// Headers added to each request, at most.
const OURS: usize = 26;

/// What is the same for every request of a site, made once.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Production withholds `Accept-Encoding` from classic runtimes.
    withhold_accept_encoding: bool,
    /// The lines that are the same for every request.
    constant: Vec<u8>,
}

/// What the app is told of one request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub client: Client,
    /// The host asked for.
    pub host: &'a str,
    /// The ids.
    pub ids: &'a Ids,
    /// The matched handler's script, and its index, made at load.
    pub script: Option<&'a HeaderValue>,
    /// The matched handler's index.
    pub handler: Option<&'a HeaderValue>,
}

/// How many headers were taken away, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stripped {
    /// Only App Engine (or its front end) may say them.
    pub appengine: u64,
    /// Their name holds an underscore: WSGI and CGI cannot tell it from a dash.
    pub underscore: u64,
}

impl Policy {
    /// The policy of a site.
    #[must_use]
    pub fn new(classic: bool, request_timeout: std::time::Duration) -> Self {
        let constant = format!(
            "x-appengine-country: ZZ\r\nx-appengine-auth-domain: gmail.com\r\n\
             x-appengine-timeout-ms: {}\r\nx-appengine-user-is-admin: 0\r\nx-appengine-user-email: \r\n\
             x-appengine-user-id: \r\nx-appengine-user-nickname: \r\nx-appengine-user-organization: \r\n",
            request_timeout.as_millis()
        );
        Self { withhold_accept_encoding: classic, constant: constant.into_bytes() }
    }

    /// Appends the header lines the app gets to `out`. Names go in lower case: HTTP does not care (RFC 9110,
    /// section 5.1).
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        version: Version,
        headers: &HeaderMap,
        facts: &Facts<'_>,
    ) -> Stripped {
        let host = if version == Version::HTTP_2 { None } else { headers.get(HOST) };
        line(out, "host", host.map_or(facts.host.as_bytes(), HeaderValue::as_bytes));
        let mut stripped = Stripped::default();
        let upgrade = headers.contains_key(UPGRADE);
        for (name, value) in headers {
            match judge(name.as_str(), facts.client.trusted) {
                Word::Passes => line(out, name.as_str(), value.as_bytes()),
                Word::AcceptEncoding if self.withhold_accept_encoding => {}
                Word::AcceptEncoding => line(out, name.as_str(), value.as_bytes()),
                // Pingora has made it one word by now, or there is none.
                Word::Connection if upgrade => line(out, name.as_str(), value.as_bytes()),
                Word::TraceState if facts.ids.w3c => line(out, name.as_str(), value.as_bytes()),
                Word::AppEngines => stripped.appengine += 1,
                Word::Underscore => stripped.underscore += 1,
                Word::Connection | Word::TraceState | Word::Ours => {}
            }
        }
        if !upgrade && headers.contains_key(TRANSFER_ENCODING) {
            // A server that knows no chunks (many of Python's) would take what it left unread for the next request.
            line(out, CONNECTION.as_str(), b"close");
        }
        out.extend_from_slice(&self.constant);
        appengine(out, facts);
        forwarded(out, headers, facts);
        if let Some(script) = facts.script {
            line(out, "x-compat-script", script.as_bytes());
        }
        if let Some(handler) = facts.handler {
            line(out, "x-compat-handler", handler.as_bytes());
        }
        stripped
    }

    /// Makes `request` what the app gets, for pingora to carry.
    ///
    /// # Errors
    /// Never in practice: the lines were written by [`Policy::write`].
    pub fn send(&self, request: &mut RequestHeader, facts: &Facts<'_>) -> pingora::Result<Stripped> {
        let mut lines = Vec::with_capacity(2048);
        let stripped = self.write(&mut lines, request.version, &request.headers, facts);
        lines.extend_from_slice(b"\r\n");
        let wrong = || Error::explain(ErrorType::InvalidHTTPHeader, "a header of ours cannot be read");
        let mut fields = vec![httparse::EMPTY_HEADER; request.headers.len() + OURS];
        let status = httparse::parse_headers(&lines, &mut fields).map_err(|_| wrong())?;
        let read = if let httparse::Status::Complete((_, read)) = status { read } else { &[] };
        let mut headers = HeaderMap::with_capacity(read.len());
        for field in read {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| wrong())?;
            headers.append(name, value);
        }
        let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
        // Pingora's memory of how the client wrote the names goes with the old head.
        let mut parts: ReqParts = std::mem::replace(request, empty).into();
        parts.headers = headers;
        *request = RequestHeader::from(parts);
        Ok(stripped)
    }
}

/// What a client's header is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Passes,
    AcceptEncoding,
    Connection,
    /// Means something beside the `traceparent` it came with, and nothing beside another.
    TraceState,
    /// Said anew, or of this connection alone: left out without counting.
    Ours,
    AppEngines,
    Underscore,
}

/// Names arrive in lower case; one with an underscore is judged as what WSGI makes of it, and goes in any case.
fn judge(name: &str, trusted: bool) -> Word {
    if name.as_bytes().contains(&b'_') {
        return Word::Underscore;
    }
    let Some(rest) = name.strip_prefix("x-") else {
        return match name {
            "accept-encoding" => Word::AcceptEncoding,
            "connection" => Word::Connection,
            "tracestate" => Word::TraceState,
            // `Proxy` becomes HTTP_PROXY (httpoxy); the rest is hop-by-hop, of which pingora leaves some.
            "proxy"
            | "proxy-authorization"
            | "proxy-connection"
            | "keep-alive"
            | "trailer"
            | "te"
            | "http2-settings"
            | "host"
            | "traceparent" => Word::Ours,
            "forwarded" if !trusted => Word::Ours,
            _ => Word::Passes,
        };
    };
    let reserved = ["appengine-", "google-", "compat-", "goog-iap-", "goog-authenticated-user-"];
    if reserved.iter().any(|prefix| rest.starts_with(prefix)) {
        return Word::AppEngines;
    }
    match rest {
        "cloud-trace-context" | "forwarded-for" => Word::Ours,
        _ if !trusted && (rest.starts_with("forwarded-") || rest == "real-ip") => Word::Ours,
        _ => Word::Passes,
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn appengine(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let Facts { client, ids, host, .. } = facts;
    let ip = client.ip.as_deref().unwrap_or_default();
    line(out, "x-appengine-user-ip", ip.as_bytes());
    line(out, "x-appengine-remote-addr", ip.as_bytes());
    line(out, "x-appengine-https", if client.https { b"on" } else { b"off" });
    let id = ids.request.as_str();
    line(out, "x-appengine-request-id-hash", id.get(..8).unwrap_or_default().as_bytes());
    line(out, "x-appengine-request-log-id", id.as_bytes());
    line(out, "x-appengine-default-version-hostname", host.as_bytes());
    out.extend_from_slice(b"x-cloud-trace-context: ");
    ids.write_cloud(out);
    out.extend_from_slice(b"\r\ntraceparent: ");
    ids.write_traceparent(out);
    out.extend_from_slice(b"\r\n");
}

/// `X-Forwarded-*` and `Forwarded`: a trusted peer's words stay and its address is added, a stranger's are gone
/// by now and ours take their place.
fn forwarded(out: &mut Vec<u8>, headers: &HeaderMap, facts: &Facts<'_>) {
    let Facts { client, host, .. } = facts;
    let peer = client.peer.as_deref();
    let scheme = if client.https { "https" } else { "http" };
    let said = |name: &str| client.trusted && headers.contains_key(name);
    let standing = headers.get_all("x-forwarded-for").iter().filter(|_| client.trusted);
    let standing = standing.filter_map(|value| value.to_str().ok());
    let mut hops = standing.chain(peer);
    if let Some(first) = hops.next() {
        out.extend_from_slice(b"x-forwarded-for: ");
        out.extend_from_slice(first.as_bytes());
        for hop in hops {
            out.extend_from_slice(b", ");
            out.extend_from_slice(hop.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if !said("x-forwarded-proto") {
        line(out, "x-forwarded-proto", scheme.as_bytes());
    }
    if !said("x-forwarded-host") {
        line(out, "x-forwarded-host", host.as_bytes());
    }
    if !said("x-forwarded-port") {
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        let port = port.unwrap_or(if client.https { "443" } else { "80" });
        line(out, "x-forwarded-port", port.as_bytes());
    }
    if let Some(peer) = peer
        && !said("forwarded")
    {
        // One element of RFC 7239, section 4.
        let (open, close) = if peer.contains(':') { ("\"[", "]\"") } else { ("", "") };
        for part in ["forwarded: for=", open, peer, close, ";host=\"", host, "\";proto=", scheme, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::trust::IpText;

    fn sent(trusted: bool, headers: &[(&'static str, &str)]) -> (RequestHeader, Stripped) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        let ids = Ids::of(&HeaderMap::new());
        let client = Client {
            ip: IpText::from("1.1.1.1").ok(),
            peer: IpText::from("10.0.0.1").ok(),
            https: false,
            trusted,
        };
        let facts = Facts { client, host: "a.example:8080", ids: &ids, script: None, handler: None };
        let stripped =
            Policy::new(true, std::time::Duration::from_secs(60)).send(&mut request, &facts).unwrap();
        (request, stripped)
    }

    fn value<'a>(request: &'a RequestHeader, name: &str) -> &'a str {
        let all: Vec<_> = request.headers.get_all(name).iter().collect();
        assert!(all.len() <= 1, "{name} twice");
        all.first().map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn nothing_a_client_sends_looks_like_app_engines_own_word() {
        let (request, stripped) = sent(
            false,
            &[
                ("X-AppEngine-User-Email", "root@example.com"),
                ("X-Appengine-User-Is-Admin", "1"),
                ("X_AppEngine_Cron", "true"),
                ("X-AppEngine_Cron", "true"),
                ("X-Google-Real-IP", "6.6.6.6"),
                ("X-Compat-Script", "admin.app"),
                ("X-Goog-IAP-JWT-Assertion", "x"),
                ("Proxy", "evil:1"),
                ("X-Plain", "stays"),
            ],
        );
        assert_eq!(value(&request, "x-appengine-user-email"), "");
        assert_eq!(value(&request, "x-appengine-user-is-admin"), "0");
        for name in [
            "x_appengine_cron",
            "x-appengine_cron",
            "x-appengine-cron",
            "x-google-real-ip",
            "x-compat-script",
            "proxy",
        ] {
            assert!(!request.headers.contains_key(name), "{name}");
        }
        assert_eq!(value(&request, "x-plain"), "stays");
        assert_eq!(stripped, Stripped { appengine: 5, underscore: 2 });
    }

    #[test]
    fn a_connection_that_carried_chunks_is_not_used_again() {
        assert_eq!(value(&sent(false, &[("Transfer-Encoding", "chunked")]).0, "connection"), "close");
        assert_eq!(value(&sent(false, &[("Content-Length", "3")]).0, "connection"), "");
    }

    #[test]
    fn a_strangers_forwarding_headers_are_replaced() {
        let (request, _) = sent(
            false,
            &[
                ("X-Forwarded-For", "6.6.6.6"),
                ("X-Forwarded-Proto", "https"),
                ("Forwarded", "for=x"),
                ("X-Real-IP", "6.6.6.6"),
            ],
        );
        assert_eq!(value(&request, "x-forwarded-for"), "10.0.0.1");
        assert_eq!(value(&request, "x-forwarded-proto"), "http");
        assert_eq!(value(&request, "x-forwarded-port"), "8080");
        assert_eq!(value(&request, "forwarded"), "for=10.0.0.1;host=\"a.example:8080\";proto=http");
        assert!(!request.headers.contains_key("x-real-ip"));
    }

    #[test]
    fn a_trusted_peers_forwarding_headers_stay_and_its_address_is_added() {
        let (request, _) = sent(
            true,
            &[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https")],
        );
        assert_eq!(value(&request, "x-forwarded-for"), "6.6.6.6, 1.1.1.1, 10.0.0.1");
        assert_eq!(value(&request, "x-forwarded-proto"), "https");
    }
}
