//! A connection's next request, from the first byte of its head to the last of its answer. What is not plain is handed to
//! pingora as if nobody had read it: its way through the phases costs ten thousand instructions and as many bytes of
//! state more, which an idle connection would hold too.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::{ErrorType, Result};
use tokio::sync::Notify;

use super::decide::ForApp;
use super::{Exchange, Gateway, KEPT, body};
use crate::door;

/// What the connections of one proxy thread are given to.
pub struct Front {
    gateway: Gateway,
    pingora: Arc<HttpProxy<Gateway>>,
    /// Idle connections are to end.
    closing: AtomicBool,
    closes: Notify,
}

/// What became of a request.
enum Outcome {
    Answered,
    Failed,
    /// Nothing was done about it: it is pingora's.
    NotPlain,
}

impl Front {
    /// A front of `gateway`, with `pingora` behind it.
    #[must_use]
    pub fn new(gateway: Gateway, pingora: HttpProxy<Gateway>) -> Self {
        Self { gateway, pingora: Arc::new(pingora), closing: AtomicBool::new(false), closes: Notify::new() }
    }

    /// Resolves when idle connections are to end.
    async fn closed(&self) {
        let mut closes = pin!(self.closes.notified());
        poll_fn(|cx| {
            let closed = closes.as_mut().poll(cx).is_ready() || self.closing.load(Ordering::Acquire);
            if closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Reads the next head; false when none comes.
    async fn read(&self, session: &mut ServerSession) -> Result<bool> {
        tokio::select! {
            biased;
            read = session.read_request() => read,
            () = self.closed() => Ok(false),
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Outcome {
        let gateway = &self.gateway;
        let mut exchange = gateway.begin();
        let error = match gateway.settle(session, &mut exchange).await {
            Ok(Some(ForApp { plain: false, .. })) => return Outcome::NotPlain,
            Ok(Some(request)) => self.ask(session, &mut exchange, request).await.err(),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = &error {
            gateway.fail(session, &mut exchange, error).await;
        }
        gateway.finish(session, &mut exchange, error.as_deref());
        if error.is_some() { Outcome::Failed } else { Outcome::Answered }
    }

    async fn ask(&self, session: &mut ServerSession, exchange: &mut Exchange, request: ForApp) -> Result<()> {
        if let Some(target) = request.rewrite {
            session.req_header_mut().set_raw_path(target.as_bytes())?;
        }
        body::begin(session, exchange, &self.gateway.shared.metrics, true).await?;
        self.gateway.plain(session, exchange).await
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Some(visitor) = door::of(&session) else {
            return self.pingora.process_new_http(session, shutdown).await;
        };
        visitor.expect_head();
        let keep_alive = session.get_keepalive().and(KEPT);
        session.set_keepalive(keep_alive);
        match self.read(&mut session).await {
            Ok(true) => {}
            Err(error) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                door::refuse(session);
                return None;
            }
            // It has ended, or nobody is to wait for it.
            Ok(false) | Err(_) => return None,
        }
        match self.answer(&mut session).await {
            Outcome::Answered => {
                let settings = HttpPersistentSettings::for_session(&session);
                let stream = session.finish().await.ok().flatten()?;
                Some(ReusedHttpStream::from_reusable_stream(stream, settings))
            }
            Outcome::Failed => None,
            Outcome::NotPlain => {
                let session = door::unread(session, keep_alive)?;
                self.pingora.process_new_http(session, shutdown).await
            }
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.pingora.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.pingora.server_options()
    }

    async fn http_cleanup(&self) {
        self.closing.store(true, Ordering::Release);
        self.closes.notify_waiters();
        self.pingora.http_cleanup().await;
    }
}
