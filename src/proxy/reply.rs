//! The proxy's own answers: short pages, redirects and files, written so that the connection can live on
//! (pingora's `respond_error` closes it). Nothing of the request is echoed.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use crate::appyaml::ErrorCode;
use crate::files::{Answer, Body};
use crate::site::Site;

/// What the proxy says by itself.
#[derive(Debug, Clone)]
pub(super) enum Own {
    /// An error, with the text or the app's own page.
    Error {
        /// 400 to 599.
        status: u16,
        /// Which page of `error_handlers` may stand for it; none for our 4xx.
        page: Option<ErrorCode>,
        /// Whether the client may come back soon.
        retry: bool,
    },
    /// `/_ah/health`.
    Health {
        /// 200 or 503.
        ready: bool,
    },
    /// A redirect.
    Redirect {
        /// 301, 302, 303 or 307.
        status: u16,
        /// Absolute.
        location: String,
    },
    /// `OPTIONS *`.
    Options,
}

impl Own {
    /// An error of the client.
    #[must_use]
    pub(super) const fn refusal(status: u16) -> Self {
        Self::Error { status, page: None, retry: false }
    }
}

/// Sends one of the proxy's own answers.
///
/// # Errors
/// When the client is gone.
pub(super) async fn own(session: &mut ServerSession, site: &Site, own: &Own) -> pingora::Result<()> {
    let (head, body) = build(site, own)?;
    send(session, head, body).await
}

fn build(site: &Site, own: &Own) -> pingora::Result<(ResponseHeader, Bytes)> {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let (status, kind, body) = match own {
        Own::Error { status, page, .. } => match page.and_then(|code| site.error_page(code)) {
            Some(page) => (*status, page.mime_type.clone(), page.body.clone()),
            None => (*status, html, error_text(*status)),
        },
        Own::Health { ready: true } => {
            (200, HeaderValue::from_static("text/plain"), Bytes::from_static(b"healthy"))
        }
        Own::Health { ready: false } => {
            (503, HeaderValue::from_static("text/plain"), Bytes::from_static(b"no worker is ready"))
        }
        Own::Redirect { status, .. } => (*status, html, error_text(*status)),
        Own::Options => (200, html, Bytes::new()),
    };
    let mut head = ResponseHeader::build_no_case(status, Some(8))?;
    head.insert_header(CONTENT_TYPE, kind)?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))?;
    head.insert_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    match own {
        Own::Redirect { location, .. } => head.insert_header(LOCATION, location.as_str())?,
        Own::Error { retry: true, .. } => head.insert_header(RETRY_AFTER, HeaderValue::from_static("1"))?,
        Own::Error { status: 405, .. } | Own::Options => {
            head.insert_header(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
            )?;
        }
        _ => {}
    }
    Ok((head, body))
}

fn error_text(status: u16) -> Bytes {
    let reason =
        StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Error");
    Bytes::from(format!("<!doctype html>\n<title>{status} {reason}</title>\n<h1>{status} {reason}</h1>\n"))
}

async fn send(session: &mut ServerSession, head: ResponseHeader, body: Bytes) -> pingora::Result<()> {
    let empty = body.is_empty();
    session.write_response_header(Box::new(head)).await?;
    if !empty {
        session.write_response_body(body, true).await?;
    }
    Ok(())
}

/// Sends a file. Waiting for each write is the backpressure; the bytes sent are returned.
///
/// # Errors
/// When the client is gone, or the file became shorter than announced.
pub(super) async fn file(session: &mut ServerSession, answer: Answer) -> pingora::Result<u64> {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    parts.headers = answer.headers;
    let head = Box::new(ResponseHeader::from(parts));
    match answer.body {
        Body::None => {
            session.write_response_header(head).await?;
            Ok(0)
        }
        Body::Bytes(bytes) => {
            let sent = bytes.len() as u64;
            session.write_response_header(head).await?;
            session.write_response_body(bytes, true).await?;
            Ok(sent)
        }
        Body::Stream(mut reader) => {
            session.write_response_header(head).await?;
            let mut sent = 0;
            loop {
                let piece = reader.next().await.map_err(|error| {
                    pingora::Error::because(pingora::ErrorType::FileReadError, "reading a static file", error)
                })?;
                let Some(piece) = piece else { break };
                sent += piece.len() as u64;
                session.write_response_body(piece, false).await?;
            }
            session.write_response_body(Bytes::new(), true).await?;
            Ok(sent)
        }
    }
}
