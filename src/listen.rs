//! The sockets the proxy listens on: bound by us before anything serves, so that a taken port is an error
//! with a way out, port 0 works, and the end can be orderly. Accepting is pingora's work, not ours.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use thiserror::Error;

/// The kernel clamps it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Drops whoever begins a handshake (SYN without ACK, byte 13 of the TCP header) and lets all else through:
/// handshakes under way finish, and connections inherit the filter without harm.
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 13),
    SockFilter::new(AND, 0, 0, 0x12),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];
/// Classic BPF, by the names of `linux/filter.h`: `BPF_LD | BPF_B | BPF_ABS`.
const LOAD_BYTE: u16 = 0x30;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`: how many bytes of the packet to keep.
const RETURN: u16 = 0x06;

/// One bound address: a socket for each shard on TCP, one shared socket on a path.
#[derive(Debug)]
pub struct Bound {
    address: Local,
    sockets: Vec<OwnedFd>,
    /// Set when the path is gone already: whatever stands there by then is somebody else's.
    released: AtomicBool,
}

/// Where a socket is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// TCP, with the port the kernel gave.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address could not be bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on `{address}`: it is in use by another program; stop that program or choose another {option}"
    )]
    Taken {
        /// As given.
        address: String,
        /// The option to change.
        option: &'static str,
    },
    /// A port below 1024, or a directory that is not ours.
    #[error(
        "cannot listen on `{address}`: permission denied; choose a port from 1024 up, or a directory you may write to, with {option}"
    )]
    Denied {
        /// As given.
        address: String,
        /// The option to change.
        option: &'static str,
    },
    /// The path is something else than a socket.
    #[error("cannot listen on `{address}`: the path exists and is not a socket; choose another {option}")]
    NotASocket {
        /// As given.
        address: String,
        /// The option to change.
        option: &'static str,
    },
    /// Anything else.
    #[error("cannot listen on `{address}`: {source}; see {option}")]
    Other {
        /// As given.
        address: String,
        /// The option to change.
        option: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: &str, option: &'static str, source: io::Error) -> Self {
        let address = address.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { address, option },
            io::ErrorKind::PermissionDenied => Self::Denied { address, option },
            _ => Self::Other { address, option, source },
        }
    }
}

impl Bound {
    /// Binds `host:port` with one socket for each of `shards`, among which the kernel spreads connections.
    ///
    /// # Errors
    /// Names `option` as the one to change.
    pub fn tcp(address: &str, shards: usize, option: &'static str) -> Result<Self, BindError> {
        let fail = |source| BindError::new(address, option, source);
        let wanted = address
            .to_socket_addrs()
            .and_then(|mut found| found.next().ok_or_else(|| io::Error::other("the name has no address")))
            .map_err(fail)?;
        Self::tcp_sockets(wanted, shards).map_err(fail)
    }

    /// The first socket is bound without SO_REUSEPORT, so a port that anyone holds is refused; only then is
    /// the option set, for the sockets of the other shards.
    fn tcp_sockets(wanted: SocketAddr, shards: usize) -> io::Result<Self> {
        let first = tcp_socket(wanted)?;
        first.bind(&wanted.into())?;
        let actual = first
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the kernel gave no address of the internet family"))?;
        first.set_reuse_port(true)?;
        let mut sockets = vec![first];
        for _ in 1..shards {
            let socket = tcp_socket(actual)?;
            socket.set_reuse_port(true)?;
            socket.bind(&actual.into())?;
            sockets.push(socket);
        }
        for socket in &sockets {
            socket.listen(BACKLOG)?;
        }
        let sockets = sockets.into_iter().map(|socket| OwnedFd::from(TcpListener::from(socket))).collect();
        Ok(Self { address: Local::Tcp(actual), sockets, released: AtomicBool::new(false) })
    }

    /// Binds a unix socket at `path`, mode 0660; a dead socket left there is replaced, a living one is not.
    ///
    /// # Errors
    /// Names `option` as the one to change.
    pub fn unix(path: &Path, option: &'static str) -> Result<Self, BindError> {
        let address = format!("unix:{}", path.display());
        let fail = |source| BindError::new(&address, option, source);
        if let Ok(meta) = std::fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(BindError::NotASocket { address, option });
            }
            if UnixStream::connect(path).is_ok() {
                return Err(BindError::Taken { address, option });
            }
            std::fs::remove_file(path).map_err(fail)?;
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(Self {
            address: Local::Unix(path.to_owned()),
            sockets: vec![listener.into()],
            released: AtomicBool::new(false),
        })
    }

    /// Where it is bound.
    #[must_use]
    pub const fn address(&self) -> &Local {
        &self.address
    }

    /// The name under which shard `shard` finds its socket in pingora's table of descriptors, and a descriptor
    /// for it to own. Each shard needs a name of its own; for a path pingora sets the mode again, so the name
    /// must lead to the same file: slashes are doubled.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn hand_over(&self, shard: usize) -> io::Result<(String, RawFd)> {
        let socket = self.sockets.get(shard).or_else(|| self.sockets.first());
        let socket = socket.ok_or_else(|| io::Error::other("nothing is bound"))?.try_clone()?;
        let name = match &self.address {
            Local::Tcp(address) => format!("{shard}/{address}"),
            Local::Unix(path) => {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let parent = path.parent().unwrap_or_else(|| Path::new("")).to_string_lossy();
                let parent = if parent.is_empty() { "." } else { &parent };
                format!("{parent}{}{file}", "/".repeat(shard + 1))
            }
        };
        Ok((name, socket.into_raw_fd()))
    }

    /// Lets no new connection in, while those the kernel has accepted already can still be taken.
    ///
    /// On TCP a socket filter drops every further SYN: the client's kernel tries again a second later and
    /// then finds the port closed, or another replica. A path is removed.
    pub fn refuse_new(&self) {
        match &self.address {
            Local::Tcp(_) => {
                for socket in &self.sockets {
                    // Where the kernel refuses, connections in the queue are lost as with any other server.
                    let _ = SockRef::from(socket).attach_filter(&DROP_SYN);
                }
            }
            Local::Unix(path) => self.release(path),
        }
    }

    fn release(&self, path: &Path) {
        if !self.released.swap(true, Ordering::Relaxed) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether connections wait to be taken.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let mut fds: Vec<_> =
            self.sockets.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Local::Unix(path) = &self.address {
            self.release(path);
        }
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn port(bound: &Bound) -> SocketAddr {
        match bound.address() {
            Local::Tcp(address) => *address,
            Local::Unix(_) => panic!("not TCP"),
        }
    }

    #[test]
    fn port_zero_is_answered_with_the_port_the_kernel_chose() {
        let bound = Bound::tcp("127.0.0.1:0", 2, "--listen").unwrap();
        assert_ne!(port(&bound).port(), 0);
        TcpStream::connect(port(&bound)).unwrap();
    }

    #[test]
    fn a_port_held_by_a_twin_is_taken_although_both_would_share_it() {
        let twin = Bound::tcp("127.0.0.1:0", 2, "--listen").unwrap();
        let error = Bound::tcp(&port(&twin).to_string(), 2, "--listen").unwrap_err();
        assert!(matches!(error, BindError::Taken { .. }), "{error}");
    }

    #[test]
    fn every_shard_gets_a_share_of_the_connections() {
        let bound = Bound::tcp("127.0.0.1:0", 2, "--listen").unwrap();
        let _held: Vec<_> = (0..64).map(|_| TcpStream::connect(port(&bound)).unwrap()).collect();
        for shard in 0..2 {
            let (_, fd) = bound.hand_over(shard).unwrap();
            let ready = {
                let listener = &bound.sockets[shard];
                let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
                poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap()
            };
            assert_eq!(ready, 1, "shard {shard} (descriptor {fd}) got none of 64");
        }
    }

    #[test]
    fn after_refuse_new_what_was_accepted_waits_and_nothing_new_comes() {
        let bound = Bound::tcp("127.0.0.1:0", 1, "--listen").unwrap();
        let _first = TcpStream::connect(port(&bound)).unwrap();
        bound.refuse_new();
        assert!(bound.has_waiting());
        let late = TcpStream::connect_timeout(&port(&bound), std::time::Duration::from_millis(50));
        assert!(late.is_err());
    }

    #[test]
    fn a_dead_socket_is_replaced_a_living_one_and_a_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let living = Bound::unix(&path, "--listen").unwrap();
        assert!(matches!(Bound::unix(&path, "--listen"), Err(BindError::Taken { .. })));
        drop(living);
        assert!(!path.exists());
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(Bound::unix(&path, "--listen"), Err(BindError::NotASocket { .. })));
    }
}
