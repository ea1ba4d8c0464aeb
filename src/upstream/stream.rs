//! A connection to a worker, TCP or unix, as one type with what the exchange needs: both directions at the same
//! time, and steps that lose nothing when they are dropped half-way.

use std::io;

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use tokio::net::{TcpStream, UnixStream};

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
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
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
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    /// Appends what has come to `buffer`, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            match either!(self, stream => stream.try_read_buf(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    either!(self, stream => stream.readable().await)?;
                }
                read => return read,
            }
        }
    }

    /// Sends some of `data`, at least one byte.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn write(&self, data: &[u8]) -> io::Result<usize> {
        loop {
            match either!(self, stream => stream.try_write(data)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    either!(self, stream => stream.writable().await)?;
                }
                written => return written,
            }
        }
    }
}
