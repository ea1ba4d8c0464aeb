//! What goes wrong between client and worker, and what follows: another try, a status, a reason.
//!
//! | what happened | again? | answer |
//! |---|---|---|
//! | the worker did not accept the connection: nothing was sent | as long as one may wait | 503, `Retry-After` |
//! | the connection broke before a response byte, GET or HEAD | once, within the budget | 502 |
//! | the same, any other method | no | 502 |
//! | the worker was silent too long | no | 504 |
//! | queue full, or waited too long | no | 503, `Retry-After` |
//! | no descriptor is left for a connection | no | 503, `Retry-After` |
//! | the client was silent or slow for too long, or left | no | 408, or nothing (499 in the log) |

use std::future::Future;
use std::time::Duration;

use http::Method;
use http::header::UPGRADE;
use pingora::http::RequestHeader;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;
use tracing::debug;

use super::Exchange;
use crate::appyaml::ErrorCode;
use crate::balance::{Busy, Lease};
use crate::headers::finish;
use crate::headers::strict::Refusal;
use crate::telemetry::Reason;

/// The status of a request whose client left, in the log.
pub(super) const CLIENT_GONE: u16 = 499;
/// How often it is looked whether a client that waits with a body to send is still there.
const LOOK: Duration = Duration::from_millis(250);
/// The kernel's number for an established TCP connection: in any other state the client has left.
const ESTABLISHED: u8 = 1;
/// No answer can reach anybody.
pub(super) const NOBODY_LISTENS: u16 = 0;

/// A debug line about a request that failed, with what the system or the worker said.
pub(super) fn tell(exchange: &Exchange, error: &Error, reason: Reason) {
    debug!(
        reason = reason.as_str(),
        %error,
        worker = exchange.tried.as_ref().map(|seat| seat.slot),
        retries = exchange.retries(),
        request_id = %exchange.ids.request,
        trace_id = %exchange.ids.trace,
        "request failed"
    );
}

/// The reason of a head that was refused.
pub(super) const fn refusal(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Ambiguous(_) | Refusal::CodingUnknown => Reason::BadRequest,
        Refusal::MethodForbidden | Refusal::MethodUnknown => Reason::MethodRefused,
        Refusal::BodyTooLarge => Reason::BodyTooLarge,
        Refusal::TargetTooLong => Reason::UriTooLong,
        Refusal::HeadTooLarge => Reason::HeadTooLarge,
    }
}

/// Why a request has no worker.
pub(super) enum NoLease {
    Busy(Busy),
    ClientGone(Box<Error>),
}

/// Waits for a lease while the client stays.
pub(super) async fn wait(
    session: &mut ServerSession,
    lease: impl Future<Output = Result<Lease, Busy>>,
) -> Result<Lease, NoLease> {
    tokio::select! {
        biased;
        lease = lease => lease.map_err(NoLease::Busy),
        error = gone(session) => Err(NoLease::ClientGone(error)),
    }
}

/// Resolves when the client has left. Pingora can tell of a client that has nothing more to send; of one with a body
/// to come it could only by reading that body, so there the kernel is asked now and then.
async fn gone(session: &mut ServerSession) -> Box<Error> {
    if session.is_http2() || session.is_body_done() {
        let end = session.read_body_or_idle(true).await;
        return end.err().unwrap_or_else(|| {
            Error::explain(ErrorType::ConnectionClosed, "more than one request was sent at once")
        });
    }
    let socket = session.digest().and_then(|digest| digest.socket_digest.clone());
    loop {
        tokio::time::sleep(LOOK).await;
        let state = socket.as_ref().and_then(|socket| socket.tcp_info()).map(|info| info.tcpi_state);
        if state.is_some_and(|state| state != ESTABLISHED) {
            return Error::explain(ErrorType::ConnectionClosed, "the client left while it waited");
        }
    }
}

/// The error for pingora when there is no lease.
pub(super) fn busy(exchange: &mut Exchange, why: NoLease) -> Box<Error> {
    let reason = match why {
        NoLease::ClientGone(error) => {
            exchange.reason = Some(Reason::ClientGone);
            return error.into_down();
        }
        NoLease::Busy(Busy::QueueFull) => Reason::QueueFull,
        // There were workers, and none accepted a connection.
        NoLease::Busy(Busy::QueueTimeout) if exchange.refused => Reason::ConnectError,
        NoLease::Busy(Busy::QueueTimeout) => Reason::QueueTimeout,
        NoLease::Busy(Busy::NoWorker) => Reason::NoReadyWorker,
        NoLease::Busy(Busy::Draining) => Reason::Draining,
    };
    exchange.reason = Some(reason);
    Error::explain(ErrorType::HTTPStatus(503), reason.as_str())
}

/// Nothing was sent, so it may be tried again, whatever the method: on another worker, or on the successor of one that
/// died. How long is a matter of the pool.
pub(super) fn unreachable(exchange: &mut Exchange, mut error: Box<Error>) -> Box<Error> {
    let earlier = exchange.again.take();
    exchange.again = exchange.lease.as_ref().map(|lease| lease.refused(earlier.as_ref()));
    exchange.refused = true;
    error.set_retry(exchange.again.is_some());
    error
}

/// Whether a worker could not be reached for want of descriptors of our own: it says nothing about the worker, and to wait
/// for its turn again would not help.
pub(super) fn is_ours(error: &std::io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// The answer then.
pub(super) fn no_descriptor(exchange: &mut Exchange) -> Box<Error> {
    exchange.reason = Some(Reason::ConnectionLimit);
    Error::explain(ErrorType::HTTPStatus(503), "no descriptor is left for a connection to a worker")
}

/// Whether the app may be asked twice for one request of a client (RFC 9110, section 9.2.1).
pub(super) fn harmless_twice(request: &RequestHeader) -> bool {
    matches!(request.method, Method::GET | Method::HEAD)
}

/// The connection broke after something was sent. Only what does no harm twice is tried again, once, and only
/// when the client has seen nothing.
pub(super) fn interrupted(
    session: &ServerSession,
    exchange: &mut Exchange,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    let harmless = harmless_twice(session.req_header())
        && !session.retry_buffer_truncated()
        && session.response_written().is_none();
    let broken = *error.esource() == ErrorSource::Upstream
        && matches!(
            error.etype(),
            ErrorType::ConnectionClosed
                | ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::ConnectError
        );
    // Pingora marks what a stale kept connection may have caused; asking before that is decided panics.
    error.retry.decide_reuse(client_reused);
    let again = harmless && (broken || error.retry()) && !exchange.broken;
    exchange.again = exchange.lease.as_ref().filter(|_| again).and_then(Lease::broke);
    exchange.broken |= exchange.again.is_some();
    error.set_retry(exchange.again.is_some());
    error
}

/// The status and the reason of a request that failed for good.
pub(super) fn verdict(exchange: &Exchange, error: &Error) -> (u16, Reason) {
    if let ErrorType::HTTPStatus(status) = error.etype() {
        return (*status, exchange.reason.unwrap_or(Reason::Internal));
    }
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ErrorType::ReadTimedout => (408, Reason::RequestTimeout),
            ErrorType::ReadError if is_late(error) => (408, Reason::RequestTimeout),
            ErrorType::WriteError if is_late(error) => (NOBODY_LISTENS, Reason::ClientSlow),
            ErrorType::InvalidHTTPHeader => (400, Reason::BadRequest),
            _ => (NOBODY_LISTENS, Reason::ClientGone),
        },
        ErrorSource::Upstream => match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => (504, Reason::UpstreamTimeout),
            _ => (502, Reason::UpstreamReset),
        },
        ErrorSource::Internal | ErrorSource::Unset => match error.etype() {
            ErrorType::WriteError | ErrorType::ConnectionClosed => (NOBODY_LISTENS, Reason::ClientGone),
            _ => (500, Reason::Internal),
        },
    }
}

/// Whether the client asks for a websocket; other changes of protocol are not passed on.
pub(super) fn wants_websocket(session: &ServerSession) -> bool {
    let upgrade = session.req_header().headers.get(UPGRADE);
    session.is_upgrade_req()
        && upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Refuses what pingora lets through: an answer that can be read in two ways, or that changes protocols unasked.
pub(super) fn check_answer(exchange: &Exchange, response: &ResponseHeader) -> pingora::Result<()> {
    let why = match response.status.as_u16() {
        101 if !exchange.upgrade => "the answer changes protocols unasked",
        _ if !finish::is_plain(response) => "the answer's transfer coding is not chunked",
        _ => return Ok(()),
    };
    Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
}

/// Whether the door lost patience with the client.
fn is_late(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// Which page of `error_handlers` stands for a failure (spec section g).
pub(super) const fn page(reason: Reason) -> Option<ErrorCode> {
    match reason {
        Reason::UpstreamTimeout => Some(ErrorCode::Timeout),
        Reason::QueueFull | Reason::QueueTimeout => Some(ErrorCode::OverQuota),
        Reason::NoReadyWorker
        | Reason::ConnectError
        | Reason::UpstreamReset
        | Reason::Draining
        | Reason::Internal => Some(ErrorCode::Default),
        _ => None,
    }
}
