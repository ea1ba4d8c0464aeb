//! What pingora may ask of a connection besides bytes: how it begins, and who is at its other end.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::visitor::{Stage, Visitor};
use super::{HEAD_TIME, KEEP_ALIVE};

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[async_trait]
impl Peek for Visitor {
    /// Looks whether HTTP/2 begins, and stops looking where it cannot: pingora's own would wait for as many bytes as
    /// the preface has, which a short request of HTTP/1 never sends.
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut got = 0;
        let mut limit = KEEP_ALIVE;
        while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
            let Ok(count) = timeout(limit, stream.read(rest)).await else { break };
            got += match count? {
                0 => break,
                count => count,
            };
            if !PREFACE.starts_with(buffer.get(..got).unwrap_or_default()) {
                break;
            }
            limit = HEAD_TIME;
        }
        self.back = buffer.get(..got).unwrap_or_default().to_vec();
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.back == PREFACE {
            self.enter(Stage::Frames);
        }
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Visitor {
    async fn shutdown(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.shutdown().await;
        }
    }
}

impl UniqueID for Visitor {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Visitor {}

impl GetTimingDigest for Visitor {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }
}

impl GetProxyDigest for Visitor {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.as_ref()?.get_proxy_digest()
    }
}

impl GetSocketDigest for Visitor {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").field("stage", &self.stage()).finish_non_exhaustive()
    }
}
