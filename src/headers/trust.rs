//! Who the client is: the peer of the connection, or whom a trusted peer names in `X-Forwarded-For`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayString;
use http::HeaderMap;
use ipnet::IpNet;

/// An address as text, written once for a request: the app is told it four times, the log twice. The longest
/// (an IPv4 address in an IPv6 one) has 45 characters.
pub type IpText = ArrayString<45>;

/// An address as text.
fn text(ip: IpAddr) -> IpText {
    let mut text = IpText::new();
    // It fits.
    let _ = write!(text, "{ip}");
    text
}

/// The client of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client {
    /// The client's address; none when the peer is a unix socket and names nobody.
    pub ip: Option<IpText>,
    /// The connection's peer; none on a unix socket.
    pub peer: Option<IpText>,
    /// Whether the client used https, as far as we know.
    pub https: bool,
    /// Whether the peer's forwarding headers are believed.
    pub trusted: bool,
}

/// Reads the client from the peer and, when the peer is in `trusted`, from its headers.
///
/// The list is read from its end: each trusted address was added by a proxy of ours, and the first one that
/// is not is the client. A peer on a unix socket is a neighbour with access to our files: it is trusted as
/// soon as anyone is.
#[must_use]
pub fn client(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let peer = peer.map(|address| address.ip().to_canonical());
    let known = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let believed = match &peer {
        Some(ip) => known(ip),
        None => !trusted.is_empty(),
    };
    let shown = peer.map(text);
    if !believed {
        return Client { ip: shown, peer: shown, https: false, trusted: false };
    }
    let mut ip = peer;
    'list: for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(address) = hop_address(hop.trim()) else { break 'list };
            ip = Some(address);
            if !known(&address) {
                break 'list;
            }
        }
    }
    let https = headers.get("x-forwarded-proto").is_some_and(|value| {
        // Each proxy appends; the first word is what the client used.
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .next()
            .is_some_and(|first| first.trim_ascii().eq_ignore_ascii_case(b"https"))
    });
    Client { ip: ip.map(text), peer: shown, https, trusted: true }
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: Option<&str>, forwarded: &[&str], proto: Option<&str>, trusted: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        if let Some(proto) = proto {
            headers.insert("x-forwarded-proto", proto.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let peer = peer.map(|ip| SocketAddr::new(ip.parse().unwrap(), 1));
        let client = client(peer, &headers, &trusted);
        (client.ip.map(|ip| ip.to_string()).unwrap_or_default(), client.https)
    }

    #[test]
    fn a_stranger_is_himself_whatever_he_says() {
        assert_eq!(
            seen(Some("9.9.9.9"), &["1.1.1.1"], Some("https"), &["10.0.0.0/8"]),
            ("9.9.9.9".into(), false)
        );
    }

    #[test]
    fn the_last_address_that_is_not_ours_is_the_client() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(
            seen(Some("10.0.0.1"), &["6.6.6.6, 1.1.1.1, 10.0.0.2"], Some("https"), &ours),
            ("1.1.1.1".into(), true)
        );
        assert_eq!(seen(Some("10.0.0.1"), &["6.6.6.6", "1.1.1.1"], None, &ours), ("1.1.1.1".into(), false));
        assert_eq!(seen(Some("10.0.0.1"), &["6.6.6.6, nonsense"], None, &ours), ("10.0.0.1".into(), false));
        assert_eq!(seen(Some("10.0.0.1"), &["[2001:db8::1]:44"], None, &ours), ("2001:db8::1".into(), false));
        assert_eq!(seen(Some("::ffff:10.0.0.1"), &["1.1.1.1:80"], None, &ours), ("1.1.1.1".into(), false));
    }

    #[test]
    fn a_neighbour_on_a_socket_is_believed_once_anyone_is() {
        assert_eq!(seen(None, &["1.1.1.1"], None, &["10.0.0.0/8"]), ("1.1.1.1".into(), false));
        assert_eq!(seen(None, &["1.1.1.1"], None, &[]), (String::new(), false));
    }
}
