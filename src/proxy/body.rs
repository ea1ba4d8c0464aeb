//! A small request body is there in full before a worker is asked, so that a client that sends it drop by drop keeps
//! nobody busy. Larger ones stream.

use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

/// What pingora keeps of a body, to send it again on a second try; a body that fits is sent from there.
const KEPT: usize = 64 * 1024;

/// Reads the body if it is small and its length is known.
///
/// # Errors
/// When the client leaves, or is too slow.
pub(super) async fn complete(session: &mut Session) -> Result<()> {
    let headers = &session.req_header().headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // Who expects to be told to go on waits for the app to say so.
    if length.is_none_or(|length| length > KEPT) || headers.contains_key(EXPECT) {
        return Ok(());
    }
    let downstream = session.as_downstream_mut();
    if downstream.is_body_done() {
        return Ok(());
    }
    downstream.enable_retry_buffering();
    while downstream.read_request_body().await.map_err(Error::into_down)?.is_some() {}
    if downstream.retry_buffer_truncated() {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "more body than announced").into_down());
    }
    Ok(())
}
