//! From the client's request head to the one the app gets: what only App Engine may say is taken away, then
//! said anew (spec section e). Runs after pingora removed what `Connection` names, so that a client cannot
//! make our own headers vanish (CVE-2026-105299).

use std::net::IpAddr;

use http::header::{ACCEPT_ENCODING, CONNECTION, FORWARDED, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts as ReqParts;
use http::{HeaderMap, HeaderValue, Version};
use pingora::http::RequestHeader;

use super::trace::Ids;
use super::trust::Client;

macro_rules! names {
    ($($constant:ident = $text:literal,)+) => {
        $(const $constant: HeaderName = HeaderName::from_static($text);)+
    };
}

names! {
    COUNTRY = "x-appengine-country",
    USER_IP = "x-appengine-user-ip",
    REMOTE_ADDR = "x-appengine-remote-addr",
    HTTPS = "x-appengine-https",
    REQUEST_ID_HASH = "x-appengine-request-id-hash",
    REQUEST_LOG_ID = "x-appengine-request-log-id",
    DEFAULT_VERSION_HOSTNAME = "x-appengine-default-version-hostname",
    AUTH_DOMAIN = "x-appengine-auth-domain",
    USER_EMAIL = "x-appengine-user-email",
    USER_ID = "x-appengine-user-id",
    USER_NICKNAME = "x-appengine-user-nickname",
    USER_ORGANIZATION = "x-appengine-user-organization",
    USER_IS_ADMIN = "x-appengine-user-is-admin",
    TIMEOUT_MS = "x-appengine-timeout-ms",
    CLOUD_TRACE = "x-cloud-trace-context",
    TRACEPARENT = "traceparent",
    FORWARDED_FOR = "x-forwarded-for",
    FORWARDED_PROTO = "x-forwarded-proto",
    FORWARDED_HOST = "x-forwarded-host",
    FORWARDED_PORT = "x-forwarded-port",
    SCRIPT = "x-compat-script",
    HANDLER = "x-compat-handler",
}

/// Headers added to each request, at most.
const OURS: usize = 26;

/// What is the same for every request of a site, made once.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Production withholds `Accept-Encoding` from classic runtimes.
    withhold_accept_encoding: bool,
    timeout_ms: HeaderValue,
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
        let timeout_ms = u64::try_from(request_timeout.as_millis()).unwrap_or(u64::MAX);
        Self { withhold_accept_encoding: classic, timeout_ms: HeaderValue::from(timeout_ms) }
    }

    /// Makes `request` what the app gets. Names go in lower case: pingora's memory of how the client wrote them
    /// costs two allocations a header, and HTTP does not care (RFC 9110, section 5.1).
    pub fn send(&self, request: &mut RequestHeader, facts: &Facts<'_>) -> Stripped {
        let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
        let mut parts: ReqParts = std::mem::replace(request, empty).into();
        let headers = &mut parts.headers;
        headers.reserve(OURS);
        let stripped = strip(headers, facts.client.trusted);
        if self.withhold_accept_encoding {
            headers.remove(ACCEPT_ENCODING);
        }
        if headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(UPGRADE) {
            // A server that knows no chunks (many of Python's) would take what it left unread for the next request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if parts.version == Version::HTTP_2 || !headers.contains_key(HOST) {
            headers.insert(HOST, text(facts.host));
        }
        appengine(headers, facts, &self.timeout_ms);
        forwarded(headers, facts);
        headers.insert(CLOUD_TRACE, owned(facts.ids.cloud()));
        headers.insert(TRACEPARENT, owned(facts.ids.traceparent()));
        if let Some(script) = facts.script {
            headers.insert(SCRIPT, script.clone());
        }
        if let Some(handler) = facts.handler {
            headers.insert(HANDLER, handler.clone());
        }
        *request = RequestHeader::from(parts);
        stripped
    }
}

/// Why a client's header does not pass.
enum Forbidden {
    AppEngine,
    Underscore,
    Quietly,
}

/// Names arrive in lower case; one with an underscore is judged as what WSGI makes of it, and goes in any case.
fn forbidden(name: &str, trusted: bool) -> Option<Forbidden> {
    if name.contains('_') {
        return Some(Forbidden::Underscore);
    }
    let rest = match name.strip_prefix("x-") {
        Some(rest) => rest,
        // `Proxy` becomes HTTP_PROXY (httpoxy); the rest is hop-by-hop, of which pingora leaves some.
        None => {
            return match name {
                "proxy" | "proxy-authorization" | "proxy-connection" | "keep-alive" | "trailer" => {
                    Some(Forbidden::Quietly)
                }
                "forwarded" if !trusted => Some(Forbidden::Quietly),
                _ => None,
            };
        }
    };
    let ours = ["appengine-", "google-", "compat-", "goog-iap-", "goog-authenticated-user-"];
    if ours.iter().any(|prefix| rest.starts_with(prefix)) {
        return Some(Forbidden::AppEngine);
    }
    if !trusted && (rest.starts_with("forwarded-") || rest == "real-ip") {
        return Some(Forbidden::Quietly);
    }
    None
}

fn strip(headers: &mut HeaderMap, trusted: bool) -> Stripped {
    let mut stripped = Stripped::default();
    let mut names: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let count = match forbidden(name.as_str(), trusted) {
            None => continue,
            Some(Forbidden::AppEngine) => &mut stripped.appengine,
            Some(Forbidden::Underscore) => &mut stripped.underscore,
            Some(Forbidden::Quietly) => &mut 0,
        };
        *count += 1;
        names.push(name.clone());
    }
    for name in names {
        headers.remove(name);
    }
    stripped
}

fn appengine(headers: &mut HeaderMap, facts: &Facts<'_>, timeout_ms: &HeaderValue) {
    const EMPTY: HeaderValue = HeaderValue::from_static("");
    let ip = facts.client.ip.map_or(EMPTY, |ip| owned(ip.to_string()));
    headers.insert(COUNTRY, HeaderValue::from_static("ZZ"));
    headers.insert(USER_IP, ip.clone());
    headers.insert(REMOTE_ADDR, ip);
    headers.insert(HTTPS, HeaderValue::from_static(if facts.client.https { "on" } else { "off" }));
    headers.insert(REQUEST_ID_HASH, text(facts.ids.request.get(..8).unwrap_or_default()));
    headers.insert(REQUEST_LOG_ID, text(&facts.ids.request));
    headers.insert(DEFAULT_VERSION_HOSTNAME, text(facts.host));
    headers.insert(AUTH_DOMAIN, HeaderValue::from_static("gmail.com"));
    headers.insert(TIMEOUT_MS, timeout_ms.clone());
    headers.insert(USER_IS_ADMIN, HeaderValue::from_static("0"));
    for name in [USER_EMAIL, USER_ID, USER_NICKNAME, USER_ORGANIZATION] {
        headers.insert(name, EMPTY);
    }
}

/// `X-Forwarded-*` and `Forwarded`: a trusted peer's words stay and its address is added, a stranger's are gone
/// by now and ours take their place.
fn forwarded(headers: &mut HeaderMap, facts: &Facts<'_>) {
    let scheme = if facts.client.https { "https" } else { "http" };
    let standing = facts.client.trusted.then(|| joined(headers)).flatten();
    let hops = match (standing, facts.client.peer) {
        (Some(hops), Some(peer)) => Some(format!("{hops}, {peer}")),
        (Some(hops), None) => Some(hops),
        (None, Some(peer)) => Some(peer.to_string()),
        (None, None) => None,
    };
    if let Some(hops) = hops {
        headers.insert(FORWARDED_FOR, owned(hops));
    }
    let port = facts.host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
    headers.entry(FORWARDED_PROTO).or_insert_with(|| HeaderValue::from_static(scheme));
    headers.entry(FORWARDED_HOST).or_insert_with(|| text(facts.host));
    headers
        .entry(FORWARDED_PORT)
        .or_insert_with(|| text(port.unwrap_or(if facts.client.https { "443" } else { "80" })));
    if let Some(peer) = facts.client.peer {
        headers.entry(FORWARDED).or_insert_with(|| owned(element(peer, facts.host, scheme)));
    }
}

/// One element of `Forwarded` (RFC 7239, section 4).
fn element(peer: IpAddr, host: &str, scheme: &str) -> String {
    match peer {
        IpAddr::V4(ip) => format!("for={ip};host=\"{host}\";proto={scheme}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";host=\"{host}\";proto={scheme}"),
    }
}

fn joined(headers: &HeaderMap) -> Option<String> {
    let values: Vec<&str> =
        headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// As [`text`], without a copy.
fn owned(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Every text passed in is made of digits, names or a checked host; one that were not is sent empty.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(trusted: bool, headers: &[(&'static str, &str)]) -> (RequestHeader, Stripped) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        let ids = Ids::of(&HeaderMap::new());
        let client =
            Client { ip: "1.1.1.1".parse().ok(), peer: "10.0.0.1".parse().ok(), https: false, trusted };
        let facts = Facts { client, host: "a.example:8080", ids: &ids, script: None, handler: None };
        let stripped = Policy::new(true, std::time::Duration::from_secs(60)).send(&mut request, &facts);
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
