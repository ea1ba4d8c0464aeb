//! One request and its response, from head to record: what pingora carries from phase to phase. Whatever must
//! be given back (the worker's place, the drain's latch, the gauge) is given back by dropping it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType};
use prometheus::IntGauge;

use crate::balance::{Again, Lease, Seat};
use crate::drain::Latch;
use crate::headers::send;
use crate::headers::trace::Ids;
use crate::headers::trust::Client;
use crate::site::Site;
use crate::telemetry::metrics::{Answered, HandlerMetrics};
use crate::telemetry::{Log, Origin, Reason, Record};

/// The context of one request.
pub struct Exchange {
    /// The site taken at its start.
    pub site: Arc<Site>,
    /// When its head had been read.
    pub started: Instant,
    /// Who asks.
    pub client: Client,
    /// Its ids.
    pub ids: Ids,
    /// The matched handler.
    pub handler: Option<usize>,
    /// The login rule that answered it.
    pub login: Option<&'static str>,
    /// The script, where it is not the same for every request of the handler.
    pub script: Option<HeaderValue>,
    /// The right to ask one worker.
    pub lease: Option<Lease>,
    /// The worker that was tried last.
    pub tried: Option<Arc<Seat>>,
    /// The right to try once more, after a try that failed.
    pub again: Option<Again>,
    /// Time in the queue, over all tries.
    pub queued: Option<Duration>,
    /// When a worker was chosen.
    pub sent: Option<Instant>,
    /// From then to the worker's response head.
    pub first_byte: Option<Duration>,
    /// Tried again, once or more often, for nothing could be sent.
    pub refused: bool,
    /// Tried again, for the connection broke before an answer.
    pub broken: bool,
    /// Body bytes received so far.
    pub bytes_in: u64,
    /// What was read of a large body before a worker was asked.
    pub early: Vec<u8>,
    /// Who answers.
    pub origin: Origin,
    /// Why the proxy answers by itself.
    pub reason: Option<Reason>,
    /// A request to change protocols, which may then stay quiet for long.
    pub upgrade: bool,
    in_flight: IntGauge,
    _latch: Latch,
}

impl Exchange {
    /// Begins when the head has been read.
    #[must_use]
    pub fn begin(site: Arc<Site>, latch: Latch, in_flight: IntGauge) -> Self {
        in_flight.inc();
        Self {
            site,
            started: Instant::now(),
            client: Client::default(),
            ids: Ids::default(),
            handler: None,
            login: None,
            script: None,
            lease: None,
            tried: None,
            again: None,
            queued: None,
            sent: None,
            first_byte: None,
            refused: false,
            broken: false,
            bytes_in: 0,
            early: Vec::new(),
            origin: Origin::Proxy,
            reason: None,
            upgrade: false,
            in_flight,
            _latch: latch,
        }
    }

    /// Says who answers, and why when it is the proxy.
    pub fn answered_by_proxy(&mut self, reason: Reason) {
        self.origin = Origin::Proxy;
        self.reason = Some(reason);
    }

    /// How often another worker was tried.
    #[must_use]
    pub fn retries(&self) -> u32 {
        u32::from(self.refused) + u32::from(self.broken)
    }

    /// Why another worker was tried: the `reason` label.
    #[must_use]
    pub const fn retried(&self) -> &'static str {
        if self.broken { "reset" } else { "connect_error" }
    }

    /// The script header for the app.
    #[must_use]
    pub fn script(&self) -> Option<&HeaderValue> {
        self.script.as_ref().or_else(|| self.site.desks.get(self.handler?)?.script.as_ref())
    }

    /// The handler-index header for the app.
    #[must_use]
    pub fn index(&self) -> Option<&HeaderValue> {
        Some(&self.site.desks.get(self.handler?)?.index)
    }

    /// What the app is told of it.
    #[must_use]
    pub fn facts<'a>(&'a self, request: &'a RequestHeader) -> send::Facts<'a> {
        send::Facts {
            client: self.client,
            host: host(request),
            ids: &self.ids,
            script: self.script(),
            handler: self.index(),
        }
    }

    /// Counts bytes of the request body.
    ///
    /// # Errors
    /// 413 above `--max-request-body`; after an upgrade there is no limit.
    pub fn received(&mut self, length: usize, upgraded: bool) -> pingora::Result<()> {
        self.moved();
        self.bytes_in += length as u64;
        if self.bytes_in > self.site.max_request_body && !upgraded {
            self.reason = Some(Reason::BodyTooLarge);
            return Err(Error::explain(ErrorType::HTTPStatus(413), "request body too large").into_down());
        }
        Ok(())
    }

    /// Something moved between the worker and this request.
    pub fn moved(&self) {
        if let Some(lease) = &self.lease {
            lease.moved();
        }
    }

    /// Someone who looks every few seconds whether it still lives: kubelet, or a load balancer. Only what such a look can be
    /// counts, for anybody may call himself so.
    fn is_probe(&self, request: &RequestHeader) -> bool {
        const PROBES: [&str; 3] = ["kube-probe/", "GoogleHC/", "ELB-HealthChecker/"];
        let agent = || text(&request.headers, USER_AGENT).unwrap_or_default();
        self.reason == Some(Reason::Health)
            || (matches!(request.method, Method::GET | Method::HEAD)
                && PROBES.iter().any(|probe| agent().starts_with(probe))
                && !request.raw_path().contains(&b'?'))
    }

    /// Counts the answer and writes its record, if the log wants it.
    pub fn finish(&self, session: &ServerSession, status: u16, log: &Log) {
        let request = session.req_header();
        let duration = self.started.elapsed();
        let desk = self.handler.and_then(|handler| self.site.desks.get(handler));
        let bytes_out = session.body_bytes_sent();
        let bytes_in = session.body_bytes_read();
        let metrics: &HandlerMetrics = match desk {
            Some(desk) => {
                desk.requests.fetch_add(1, Ordering::Relaxed);
                &desk.metrics
            }
            None if self.reason == Some(Reason::NoHandler) || self.origin == Origin::App => {
                &self.site.unmatched
            }
            None if matches!(self.reason, Some(Reason::LoginBlocked | Reason::Reserved)) => {
                &self.site.blocked
            }
            None => &self.site.internal,
        };
        // Probes would drown an app that has little to do.
        if self.reason != Some(Reason::Health) {
            metrics.answered(&Answered {
                method: &request.method,
                status,
                seconds: duration.as_secs_f64(),
                bytes_in,
                bytes_out,
            });
        }
        if !log.wants(status) || (is_success(status) && self.is_probe(request)) {
            return;
        }
        let raw = request.raw_path();
        // Nearly always it is plain text; the way for the rest costs more.
        let raw = std::str::from_utf8(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Borrowed);
        let (path, query) = match raw.bytes().position(|byte| byte == b'?') {
            Some(end) => (&raw[..end], Some(&raw[end + 1..])),
            None => (&*raw, None),
        };
        log.request(&Record {
            method: request.method.as_str(),
            path,
            query,
            host: host(request),
            scheme: if self.client.https { "https" } else { "http" },
            proto: proto(request.version),
            status,
            handler: metrics.label(),
            handler_type: metrics.kind().as_str(),
            login: self.login,
            duration,
            queue: self.queued,
            upstream: self.first_byte,
            first_byte: self.first_byte.zip(self.sent).map(|(took, sent)| sent - self.started + took),
            bytes_in,
            bytes_out,
            client: self.client.ip.as_deref(),
            peer: self.client.peer.as_deref(),
            user_agent: text(&request.headers, USER_AGENT),
            referer: text(&request.headers, REFERER),
            request_id: self.ids.request.as_str(),
            trace_id: self.ids.trace.as_str(),
            span_id: &self.ids.span_hex(),
            sampled: self.ids.sampled,
            worker: self.tried.as_ref().map(|seat| seat.slot),
            upstream_addr: self.tried.as_ref().map(|seat| seat.label.as_str()),
            retries: self.retries(),
            origin: self.origin,
            reason: self.reason,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// The host asked for: `Host`, or the authority of HTTP/2.
#[must_use]
pub(super) fn host(request: &RequestHeader) -> &str {
    let authority = if request.version == Version::HTTP_2 { request.uri.authority() } else { None };
    authority.map(http::uri::Authority::as_str).or_else(|| text(&request.headers, HOST)).unwrap_or_default()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

const fn proto(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
