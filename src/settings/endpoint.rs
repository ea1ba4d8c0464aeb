//! Addresses as people write them: `host:port`, `[::]:port`, `unix:/path`.
//!
//! Reading the text asks nobody; only [`Endpoint::resolve`] looks a host name up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

/// The longest path of a unix socket: `sun_path` is 108 bytes with its closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// An address to listen on or to connect to, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP.
    Tcp {
        /// An IP address (IPv6 without brackets) or a host name.
        host: String,
        /// The port; 0 lets the kernel pick one (listening only).
        port: u16,
    },
    /// A unix socket, by absolute path.
    Unix(PathBuf),
}

/// An address the kernel understands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resolved {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Looks the host name up, if it is one. Of several addresses the first IPv4 one is taken, so that `localhost`
    /// means the 127.0.0.1 most apps listen on.
    ///
    /// # Errors
    /// When the name has no address.
    pub fn resolve(&self) -> io::Result<Resolved> {
        let (host, port) = match self {
            Self::Unix(path) => return Ok(Resolved::Unix(path.clone())),
            Self::Tcp { host, port } => (host.as_str(), *port),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Resolved::Tcp(SocketAddr::new(ip, port)));
        }
        let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        found
            .iter()
            .find(|address| address.is_ipv4())
            .or(found.first())
            .map(|address| Resolved::Tcp(*address))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }

    /// True when both cannot be bound by different listeners: the same socket path, or the same port on hosts of
    /// which one includes the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Tcp { host, port }, Self::Tcp { host: other_host, port: other_port }) => {
                port == other_port
                    && *port != 0
                    && (host == other_host || is_wildcard(host) || is_wildcard(other_host))
            }
            _ => false,
        }
    }
}

impl Resolved {
    /// Where a client on this host reaches a listener bound here: loopback for `0.0.0.0` and `[::]`.
    #[must_use]
    pub fn reachable(&self) -> Self {
        match self {
            Self::Tcp(address) if address.ip().is_unspecified() => {
                let loopback = match address {
                    SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                };
                Self::Tcp(SocketAddr::new(loopback, address.port()))
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// An address to listen on. A port alone (`8080`, `:8080`, `*:8080`) means every IPv4 address.
pub(super) fn listen(text: &str) -> Result<Endpoint, String> {
    endpoint(text, Some("0.0.0.0"))
}

/// The admin address. A port alone is refused: whether others may read the metrics must be said.
pub(super) fn admin(text: &str) -> Result<Endpoint, String> {
    endpoint(text, None)
}

/// An address to connect to. A port alone means this host.
pub(super) fn upstream(text: &str) -> Result<Endpoint, String> {
    match endpoint(text, Some("127.0.0.1"))? {
        Endpoint::Tcp { port: 0, .. } => Err(format!("`{text}` names port 0, which nobody can connect to")),
        Endpoint::Tcp { host, .. } if is_wildcard(&host) => {
            Err(format!("`{text}` is an address to listen on, not to connect to; this host is `127.0.0.1`"))
        }
        endpoint => Ok(endpoint),
    }
}

fn endpoint(text: &str, alone: Option<&str>) -> Result<Endpoint, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(text, path);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("`{text}` is a URL; leave `{scheme}://` away and write `{}`", host_part(rest)));
    }
    let (host, port) = match text.rsplit_once(':') {
        None if text.bytes().all(|b| b.is_ascii_digit()) => ("", text),
        None => return Err(format!("`{text}` has no port; write `host:port`, `[::]:port` or `unix:/path`")),
        Some(parts) => parts,
    };
    let port =
        port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit())).ok_or_else(|| {
            format!("`{port}` in `{text}` is not a port; write `host:port` with a number from 0 to 65535")
        })?;
    let host = match (host, alone) {
        ("" | "*", Some(host)) => host.to_owned(),
        ("" | "*", None) => {
            return Err(format!(
                "`{text}` does not say who may connect; write `127.0.0.1:{port}` (this host) or `0.0.0.0:{port}` (everyone)"
            ));
        }
        (host, _) => self::host(text, host)?,
    };
    Ok(Endpoint::Tcp { host, port })
}

fn host_part(rest: &str) -> &str {
    rest.split('/').next().unwrap_or(rest)
}

fn socket(text: &str, path: &str) -> Result<Endpoint, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(format!(
            "`{text}` does not name a socket; write `unix:` and an absolute path, for example `unix:/run/app.sock`"
        ));
    }
    if path.len() > SOCKET_PATH_MAX {
        return Err(format!(
            "the path in `{text}` is {} bytes long, the system allows {SOCKET_PATH_MAX}; use a shorter one",
            path.len()
        ));
    }
    Ok(Endpoint::Unix(PathBuf::from(path)))
}

fn host(text: &str, host: &str) -> Result<String, String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(ip.to_string()),
            Err(_) => Err(format!("`{inner}` in `{text}` is not an IPv6 address")),
        };
    }
    if host.contains(':') {
        return Err(format!(
            "`{text}` is unclear; put an IPv6 address in brackets, for example `[::1]:8080`"
        ));
    }
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let fits = if numeric {
        host.parse::<Ipv4Addr>().is_ok()
    } else {
        host.len() <= 253 && host.bytes().all(is_name_byte) && !host.starts_with('.') && !host.contains("..")
    };
    if fits {
        Ok(host.to_owned())
    } else {
        Err(format!("`{host}` in `{text}` is neither an IP address nor a host name"))
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
