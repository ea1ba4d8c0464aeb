//! A connection to a worker, TCP or unix, as one type with what the exchange needs: both directions at the same
//! time, and steps that lose nothing when they are dropped half-way.

use std::io;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::balance::Address;

/// A connection to a worker.
#[derive(Debug)]
pub enum Stream {
    /// Mostly on the loopback.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($self:ident, $stream:ident => $body:expr) => {
        match $self {
            Self::Tcp($stream) => $body,
            Self::Unix($stream) => $body,
        }
    };
}

impl Stream {
    /// Connects and sends the start of `first`, as much as goes at once; how much is told. On one machine the
    /// connection stands when the call returns, and waiting to be told so would cost a turn of the reactor.
    pub(super) async fn connect(address: &Address, first: &[u8]) -> io::Result<(Self, usize)> {
        let to: SockAddr = match address {
            Address::Tcp(address) => (*address).into(),
            Address::Unix(path) => SockAddr::unix(path)?,
        };
        let socket = Socket::new(to.domain(), Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&to) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let sent = match send(&socket, first, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::NOTCONN) => None,
            sent => Some(sent?),
        };
        let stream = match address {
            Address::Tcp(_) => {
                socket.set_tcp_nodelay(true)?;
                Self::Tcp(TcpStream::from_std(socket.into())?)
            }
            Address::Unix(_) => Self::Unix(UnixStream::from_std(socket.into())?),
        };
        if sent.is_none() {
            stream.stands().await?;
        }
        Ok((stream, sent.unwrap_or_default()))
    }

    /// Waits until it is connected, or is not going to be.
    async fn stands(&self) -> io::Result<()> {
        let error = either!(self, stream => {
            stream.writable().await?;
            stream.take_error()?
        });
        error.map_or(Ok(()), Err)
    }

    /// Whether nothing came on it: neither its end nor anything that no request asked for. Costs a system call only
    /// when the reactor has seen something.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = either!(self, stream => stream.try_read(&mut byte));
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`Stream::is_quiet`], asking the kernel: for what must not be sent to one who has hung up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = either!(self, stream => recv(stream, &mut [0_u8], flags));
        matches!(peeked, Err(Errno::AGAIN))
    }

    /// Its two directions.
    pub fn split(&mut self) -> (Reading<'_>, Writing<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (reading, writing) = stream.split();
                (Reading::Tcp(reading), Writing::Tcp(writing))
            }
            Self::Unix(stream) => {
                let (reading, writing) = stream.split();
                (Reading::Unix(reading), Writing::Unix(writing))
            }
        }
    }
}

/// What comes. It notes when all of it was taken, which saves the next one who asks a system call.
#[derive(Debug)]
pub enum Reading<'a> {
    /// See [`Stream::Tcp`].
    Tcp(tcp::ReadHalf<'a>),
    /// See [`Stream::Unix`].
    Unix(unix::ReadHalf<'a>),
}

impl Reading<'_> {
    /// Appends what has come to `buffer`, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        either!(self, half => half.read_buf(buffer).await)
    }
}

/// What goes.
#[derive(Debug)]
pub enum Writing<'a> {
    /// See [`Stream::Tcp`].
    Tcp(tcp::WriteHalf<'a>),
    /// See [`Stream::Unix`].
    Unix(unix::WriteHalf<'a>),
}

impl Writing<'_> {
    /// Sends some of `data`, at least one byte.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        either!(self, half => half.write(data).await)
    }
}
