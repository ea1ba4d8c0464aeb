//! What of a request body must be there before a worker is asked, so that a client that sends it drop by drop keeps nobody
//! busy: all of a small one, and of a large one a good piece while most workers are busy.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::Exchange;
use crate::door;
use crate::telemetry::metrics::Metrics;

/// What pingora keeps of a body, to send it again on a second try; a body that fits is sent from there. Also what a
/// larger one has to bring.
const KEPT: usize = 64 * 1024;
/// How often it is looked whether workers have become free.
const LOOK: Duration = Duration::from_millis(100);

/// Reads as much of the body as a worker may expect. `plain`: what of a large one is read can be passed on.
///
/// # Errors
/// When the client leaves, or is too slow.
pub(super) async fn begin(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    metrics: &Metrics,
    plain: bool,
) -> Result<()> {
    if session.is_body_done() {
        return Ok(());
    }
    let headers = &session.req_header().headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // Who expects to be told to go on waits for the app to say so.
    if headers.contains_key(EXPECT) {
        return Ok(());
    }
    match length {
        Some(length) if length <= KEPT => all(session).await?,
        Some(_) if plain => a_piece(session, exchange, metrics).await?,
        _ => return Ok(()),
    }
    if let (true, Some(visitor)) = (session.is_body_done(), door::of(session)) {
        visitor.body_over();
    }
    Ok(())
}

async fn all(session: &mut ServerSession) -> Result<()> {
    session.enable_retry_buffering();
    while session.read_request_body().await.map_err(Error::into_down)?.is_some() {}
    if session.retry_buffer_truncated() {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "more body than announced").into_down());
    }
    Ok(())
}

async fn a_piece(session: &mut ServerSession, exchange: &mut Exchange, metrics: &Metrics) -> Result<()> {
    let crowded = || metrics.concurrency_in_use.get() >= metrics.concurrency_limit.get() / 2;
    while crowded() && exchange.early.len() < KEPT {
        // The piece is read in one step: nothing is lost when the time is over first.
        let Ok(piece) = timeout(LOOK, session.read_request_body()).await else {
            continue;
        };
        let Some(piece) = piece.map_err(Error::into_down)? else { break };
        exchange.received(piece.len(), false)?;
        exchange.early.extend_from_slice(&piece);
    }
    Ok(())
}
