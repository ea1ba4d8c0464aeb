//! Where connections come in: each is counted and given to pingora, or turned away.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::farewell::Cause;
use super::visitor::Visitor;
use super::{Door, LINGER, LINGERERS, Ticket};

/// An answer to a client that takes nothing is not waited for longer.
const WRITE: Duration = Duration::from_secs(1);

/// A service behind the door.
pub struct Entrance<P> {
    service: Arc<P>,
    door: Arc<Door>,
}

impl<P> Entrance<P> {
    /// `service` behind `door`.
    pub fn new(service: P, door: Arc<Door>) -> Self {
        Self { service: Arc::new(service), door }
    }
}

#[async_trait]
impl<P: ServerApp + Send + Sync + 'static> ServerApp for Entrance<P> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(ticket) = self.door.enter() else {
            self.door.turn_away(stream).await;
            return None;
        };
        let visitor = Visitor::new(stream, ticket);
        ServerApp::process_new(&self.service, Box::new(visitor), shutdown).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.service).await;
    }
}

impl Door {
    /// 503 for a connection above the limit. Its request is not read.
    async fn turn_away(&self, mut stream: Stream) {
        let peer = peer(&stream);
        let answer = self.farewell(Cause::TooMany, b"", peer, Duration::ZERO);
        say(&mut stream, &answer).await;
        if self.lingerers.fetch_add(1, Ordering::Relaxed) < LINGERERS {
            linger(&mut stream).await;
        }
        self.lingerers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The address at the other end.
pub(super) fn peer(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(|address| address.ip().to_canonical())
}

/// Writes a last answer.
async fn say(stream: &mut Stream, answer: &[u8]) {
    // A client that takes nothing has nothing to be told.
    let _ = timeout(WRITE, async {
        stream.write_all(answer).await?;
        stream.flush().await
    })
    .await;
}

/// Closes our side, and takes what still comes for a moment: to close with bytes unread would reset the connection, and
/// the answer might be lost with it.
async fn linger(stream: &mut Stream) {
    let _ = timeout(LINGER, async {
        let _ = stream.shutdown().await;
        let mut rest = vec![0; 16 * 1024];
        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    })
    .await;
}

/// The end of a connection that pingora holds no more.
pub(super) async fn see_off(mut stream: Stream, ticket: Ticket, answer: Option<Vec<u8>>) {
    if let Some(answer) = answer {
        say(&mut stream, &answer).await;
    }
    linger(&mut stream).await;
    drop(stream);
    drop(ticket);
}
