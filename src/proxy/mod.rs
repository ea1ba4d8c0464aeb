//! The front desk of the traffic. Each request is read in one way or refused, then decided; what is ours is answered, what
//! is plain goes to a worker and back (`plain`), all in `front`. Only the rest (upgrades, chunked requests, HTTP/1.0,
//! HTTP/2) takes pingora's way through its phases, each a few lines here that call a mechanism:
//!
//! 1. `request_filter`: the same reading and deciding.
//! 2. `upstream_peer`: a lease on the least busy worker, or a place in the queue.
//! 3. `upstream_request_filter`, `response_filter`: the header policy, both ways.
//! 4. `fail_to_connect`, `error_while_proxy`, `fail_to_proxy`: another try where it is safe, then 502, 503 or 504.
//! 5. `logging`: the record.
//!
//! What is decided lives in `route`, what headers mean in `headers`, who is free in `balance`.

mod body;
mod decide;
mod exchange;
mod failure;
mod file;
mod front;
mod plain;
mod reply;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, Result};
use prometheus::IntCounter;

use crate::balance::{Address, Lease, Pool};
use crate::door;
use crate::drain::Drain;
use crate::headers::{finish, send};
use crate::settings::WORKERS_MAX;
use crate::site::Current;
use crate::telemetry::metrics::{Metrics, class_of};
use crate::telemetry::{Log, Reason};
use crate::upstream::Connections;

use decide::{Act, ForApp};
pub use exchange::Exchange;
pub use front::Front;
use reply::Own;

/// An unused connection to a worker is closed after this long: below the 2 s after which gunicorn closes it by
/// default, so that a request does not meet a connection its worker is just closing.
const WORKER_IDLE: std::time::Duration = std::time::Duration::from_millis(1500);
/// Pingora's word for a connection that is kept and that pingora does not time: `door` does.
const KEPT: Option<u64> = Some(0);
/// What is left of a request body after an early answer must arrive within this time.
const BODY_REST: std::time::Duration = std::time::Duration::from_secs(5);

/// What all proxy threads share.
pub struct Shared {
    /// The live site.
    pub current: Arc<Current>,
    /// The ready workers.
    pub pool: Pool,
    /// The way out.
    pub drain: Drain,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The log.
    pub log: Log,
    /// Counters of the worker slots by class of status code.
    pub slots: Slots,
}

/// Counters of the worker slots by class of status code, resolved at a slot's first answer: a reload may bring
/// more slots.
pub struct Slots(Vec<OnceLock<[IntCounter; 5]>>);

impl Default for Slots {
    fn default() -> Self {
        Self((0..WORKERS_MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Slots {
    fn count(&self, metrics: &Metrics, slot: usize, status: u16) {
        if let Some(classes) = self.0.get(slot) {
            classes.get_or_init(|| metrics.worker_classes(slot))[class_of(status)].inc();
        }
    }
}

/// The proxy on one thread.
pub struct Gateway {
    shared: Arc<Shared>,
    connections: Connections,
}

impl Gateway {
    /// A gateway over what all of them share.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, connections: Connections::default() }
    }

    /// The right to ask a worker, after a wait in the queue if need be.
    async fn lease(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<Lease> {
        exchange.lease = None;
        let pool = &self.shared.pool;
        let lease = match pool.try_lease(exchange.again.as_ref()) {
            Some(lease) => {
                self.shared.metrics.queue_wait.observe(0.0);
                lease
            }
            None => failure::wait(session, pool.lease(exchange.again.as_ref()))
                .await
                .map_err(|busy| failure::busy(exchange, busy))?,
        };
        exchange.queued = Some(exchange.queued.unwrap_or_default() + lease.waited());
        let now = std::time::Instant::now();
        lease.seat().begun(&exchange.ids.asked(), now);
        exchange.sent = Some(now);
        exchange.tried = Some(Arc::clone(lease.seat()));
        if let Some(visitor) = door::of(session) {
            visitor.leased();
        }
        Ok(lease)
    }

    /// The worker accepted a connection, or kept one.
    fn connected(&self, exchange: &Exchange, reused: bool) {
        if let Some(lease) = &exchange.lease {
            lease.reached();
        }
        if let (false, Some(sent)) = (reused, exchange.sent) {
            self.shared.metrics.upstream_connect.observe(sent.elapsed().as_secs_f64());
        }
    }

    fn count_stripped(&self, stripped: send::Stripped) {
        // Most requests bring nothing to strip, and these two are shared by all threads.
        if stripped.appengine > 0 {
            self.shared.metrics.stripped_appengine.inc_by(stripped.appengine);
        }
        if stripped.underscore > 0 {
            self.shared.metrics.stripped_underscore.inc_by(stripped.underscore);
        }
    }

    /// The head of the worker's answer is there: makes it what the client gets.
    fn began(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        response: &mut ResponseHeader,
    ) -> Result<()> {
        exchange.moved();
        if let (None, Some(sent)) = (exchange.first_byte, exchange.sent) {
            let first_byte = sent.elapsed();
            exchange.first_byte = Some(first_byte);
            self.shared.metrics.upstream_first_byte.observe(first_byte.as_secs_f64());
        }
        if exchange.retries() > 0 && !response.status.is_informational() {
            self.shared.metrics.upstream_retries.with_label_values(&[exchange.retried(), "ok"]).inc();
        }
        if self.shared.drain.begun() {
            session.set_keepalive(None);
        }
        finish::finish(response, session.req_header().version)
    }

    fn begin(&self) -> Exchange {
        let Shared { current, drain, metrics, .. } = &*self.shared;
        Exchange::begin(current.get(), drain.exchange(), metrics.in_flight.clone())
    }

    /// Reads the request in one way and answers it, if it is not the app's; what is the app's comes back.
    async fn settle(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<Option<ForApp>> {
        session.set_total_drain_timeout(Some(BODY_REST));
        if self.shared.drain.begun() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            session.set_keepalive(KEPT);
        }
        if let (more, Some(visitor)) = (!session.is_body_done(), door::of(session)) {
            visitor.decided(more);
        }
        let act = self.decide(session, exchange);
        act.tell(session, exchange);
        match act {
            Act::App(request) => return Ok(Some(request)),
            Act::File { handler, entry } => self.file(session, exchange, handler, &entry).await?,
            Act::Own(own, reason) => self.own(session, exchange, &own, reason).await?,
            Act::Refuse(refusal) => {
                // Where a message ends is in doubt: nothing more is read from this connection.
                session.set_keepalive(None);
                let own = Own::refusal(refusal.status());
                self.own(session, exchange, &own, failure::refusal(refusal)).await?;
            }
        }
        Ok(None)
    }

    async fn own(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        own: &Own,
        reason: Reason,
    ) -> Result<()> {
        exchange.answered_by_proxy(reason);
        self.shared.metrics.generated(reason);
        reply::own(session, &exchange.site, own).await
    }

    /// A request failed for good: says so to a client that can still be told.
    async fn fail(&self, session: &mut ServerSession, exchange: &mut Exchange, error: &Error) -> u16 {
        let (status, reason) = failure::verdict(exchange, error);
        failure::tell(exchange, error, reason);
        exchange.answered_by_proxy(reason);
        self.shared.metrics.generated(reason);
        if let (Reason::UpstreamTimeout, Some(lease)) = (reason, &exchange.lease) {
            lease.timed_out();
        }
        if exchange.retries() > 0 {
            self.shared.metrics.upstream_retries.with_label_values(&[exchange.retried(), "failed"]).inc();
        }
        if status != failure::NOBODY_LISTENS && session.response_written().is_none() {
            let own = Own::Error { status, page: failure::page(reason), retry: status == 503 };
            session.set_keepalive(None);
            // When this cannot be written either, the client is gone.
            let _ = reply::own(session, &exchange.site, &own).await;
        }
        status
    }

    /// Counts and records a request that is over.
    fn finish(&self, session: &ServerSession, exchange: &mut Exchange, error: Option<&Error>) {
        let sent = session.response_written().map(|response| response.status.as_u16());
        let status = sent.unwrap_or(failure::CLIENT_GONE);
        if sent.is_none() && exchange.reason.is_none() {
            exchange.answered_by_proxy(Reason::ClientGone);
        } else if let (Some(_), Some(error), None) = (sent, error, exchange.reason) {
            // The head went out, the rest did not.
            exchange.reason = Some(failure::verdict(exchange, error).1);
        }
        if let Some(lease) = &exchange.lease {
            self.shared.slots.count(&self.shared.metrics, lease.slot, status);
        }
        exchange.finish(session, status, &self.shared.log);
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        self.begin()
    }

    /// No modules: compression is the app's choice, and each module costs a call per chunk.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let downstream = session.as_downstream_mut();
        let Some(ForApp { rewrite, .. }) = self.settle(downstream, exchange).await? else { return Ok(true) };
        if let Some(target) = rewrite {
            downstream.req_header_mut().set_raw_path(target.as_bytes())?;
        }
        decide::tell_app(downstream, exchange);
        body::begin(downstream, exchange, &self.shared.metrics, false).await?;
        exchange.upgrade = failure::wants_websocket(downstream);
        Ok(false)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let (true, Some(visitor)) = (end, door::of(session.as_downstream())) {
            visitor.body_over();
        }
        let length = body.as_ref().map_or(0, Bytes::len);
        // After a change of protocols this is a conversation, not a body.
        exchange.received(length, session.as_downstream().was_upgraded())
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let lease = self.lease(session.as_downstream_mut(), exchange).await?;
        let mut peer = match &lease.address {
            Address::Tcp(address) => HttpPeer::new(*address, false, String::new()),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?,
        };
        peer.group_key = lease.generation;
        let site = &exchange.site;
        let options = &mut peer.options;
        options.connection_timeout = Some(site.connect_timeout);
        options.total_connection_timeout = Some(site.connect_timeout);
        options.idle_timeout = Some(WORKER_IDLE);
        options.write_timeout = Some(site.request_timeout);
        // A websocket may be quiet for as long as both ends like.
        options.read_timeout = (!exchange.upgrade).then_some(site.request_timeout);
        exchange.lease = Some(lease);
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        #[cfg(unix)] _: std::os::unix::io::RawFd,
        _: Option<&pingora::protocols::Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        self.connected(exchange, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let facts = exchange.facts(session.req_header());
        let stripped = exchange.site.policy.send(request, &facts)?;
        self.count_stripped(stripped);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<std::time::Duration>> {
        exchange.moved();
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        failure::check_answer(exchange, response)?;
        if response.status == 101
            && let Some(visitor) = door::of(session.as_downstream())
        {
            visitor.upgraded();
        }
        self.began(session.as_downstream_mut(), exchange, response)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        failure::unreachable(exchange, error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        failure::interrupted(session.as_downstream(), exchange, error, client_reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let status = self.fail(session.as_downstream_mut(), exchange, error).await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        // The access log tells it, with a reason.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        self.finish(session.as_downstream(), exchange, error);
    }
}
