//! The access-log line of a [`Record`]: json, gcp (Cloud Logging's `httpRequest`) or text.
//! Appends to a buffer the caller owns; writes nothing anywhere.

use std::fmt::Arguments;
use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Serializer as _;

use crate::secrets;

use super::log::Format;
use super::stamp;
use super::{Origin, Record};

/// Back to the terminal's own colour.
pub(super) const RESET: &str = "\x1b[0m";

/// Appends one line, with its line feed. What looks like a secret in the URLs is left out.
pub fn line(buffer: &mut Vec<u8>, format: &Format, now: SystemTime, record: &Record<'_>) {
    let start = buffer.len();
    let (query, referer) = (record.query.map(secrets::query), record.referer.map(secrets::url));
    let record = &Record { query: query.as_deref(), referer: referer.as_deref(), ..*record };
    let done = match format {
        Format::Json => json(buffer, now, record).is_ok(),
        Format::Gcp { project } => gcp(buffer, now, record, project.as_deref()).is_ok(),
        Format::Text { colour } => text(buffer, now, record, *colour).is_ok(),
    };
    if done {
        buffer.push(b'\n');
    } else {
        // Writing to memory cannot fail; were a value unprintable, no half line may stay.
        buffer.truncate(start);
    }
}

const fn level(record: &Record<'_>) -> &'static str {
    if record.status >= 500 { "error" } else { "info" }
}

/// Appends `"name":` with the comma before it.
macro_rules! key {
    ($buffer:expr, $name:literal) => {
        $buffer.extend_from_slice(concat!(",\"", $name, "\":").as_bytes())
    };
}

/// A word of ours: nothing in it needs escaping.
fn word(buffer: &mut Vec<u8>, word: &str) {
    buffer.push(b'"');
    buffer.extend_from_slice(word.as_bytes());
    buffer.push(b'"');
}

fn number(buffer: &mut Vec<u8>, number: impl itoa::Integer) {
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Milliseconds to the microsecond.
fn millis(buffer: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros();
    number(buffer, micros / 1000);
    buffer.push(b'.');
    let digits = [(micros / 100) % 10, (micros / 10) % 10, micros % 10];
    buffer.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or_default()));
}

/// One object, its keys and our own words written as they are: the line is every request's cost. What comes from
/// outside goes through serde_json.
fn json(buffer: &mut Vec<u8>, now: SystemTime, record: &Record<'_>) -> std::io::Result<()> {
    buffer.extend_from_slice(b"{\"ts\":");
    buffer.push(b'"');
    stamp::append(buffer, now);
    buffer.push(b'"');
    key!(buffer, "level");
    word(buffer, level(record));
    key!(buffer, "msg");
    word(buffer, "request");
    key!(buffer, "method");
    serde_json::to_writer(&mut *buffer, record.method)?;
    key!(buffer, "path");
    serde_json::to_writer(&mut *buffer, record.path)?;
    if let Some(query) = record.query {
        key!(buffer, "query");
        serde_json::to_writer(&mut *buffer, query)?;
    }
    key!(buffer, "status");
    number(buffer, record.status);
    key!(buffer, "handler");
    serde_json::to_writer(&mut *buffer, record.handler)?;
    key!(buffer, "handler_type");
    word(buffer, record.handler_type);
    if let Some(login) = record.login {
        key!(buffer, "login");
        word(buffer, login);
    }
    key!(buffer, "duration_ms");
    millis(buffer, record.duration);
    if let Some(queue) = record.queue {
        key!(buffer, "queue_ms");
        millis(buffer, queue);
    }
    if let Some(upstream) = record.upstream {
        key!(buffer, "upstream_ms");
        millis(buffer, upstream);
    }
    if let Some(first_byte) = record.first_byte {
        key!(buffer, "ttfb_ms");
        millis(buffer, first_byte);
    }
    key!(buffer, "bytes_in");
    number(buffer, record.bytes_in);
    key!(buffer, "bytes_out");
    number(buffer, record.bytes_out);
    if let Some(client) = record.client {
        key!(buffer, "client_ip");
        word(buffer, client);
    }
    if let Some(peer) = record.peer {
        key!(buffer, "peer_ip");
        word(buffer, peer);
    }
    key!(buffer, "host");
    serde_json::to_writer(&mut *buffer, record.host)?;
    key!(buffer, "scheme");
    word(buffer, record.scheme);
    key!(buffer, "proto");
    word(buffer, record.proto);
    json_rest(buffer, record)
}

fn json_rest(buffer: &mut Vec<u8>, record: &Record<'_>) -> std::io::Result<()> {
    if let Some(user_agent) = record.user_agent {
        key!(buffer, "user_agent");
        serde_json::to_writer(&mut *buffer, user_agent)?;
    }
    if let Some(referer) = record.referer {
        key!(buffer, "referer");
        serde_json::to_writer(&mut *buffer, referer)?;
    }
    // What never was a request has none.
    if !record.request_id.is_empty() {
        key!(buffer, "request_id");
        word(buffer, record.request_id);
        key!(buffer, "trace_id");
        word(buffer, record.trace_id);
        key!(buffer, "span_id");
        word(buffer, record.span_id);
        key!(buffer, "sampled");
        buffer.extend_from_slice(if record.sampled { b"true" } else { b"false" });
    }
    if let Some(worker) = record.worker {
        key!(buffer, "worker");
        number(buffer, worker);
    }
    if let Some(address) = record.upstream_addr {
        key!(buffer, "upstream_addr");
        serde_json::to_writer(&mut *buffer, address)?;
    }
    key!(buffer, "retries");
    number(buffer, record.retries);
    key!(buffer, "origin");
    word(buffer, record.origin.as_str());
    if let Some(reason) = record.reason {
        key!(buffer, "reason");
        word(buffer, reason.as_str());
    }
    buffer.push(b'}');
    Ok(())
}

/// An entry of Cloud Logging. Counts of bytes are text there: JSON has no numbers of 64 bits.
fn gcp(
    buffer: &mut Vec<u8>,
    now: SystemTime,
    record: &Record<'_>,
    project: Option<&str>,
) -> std::io::Result<()> {
    let severity = match record.status {
        500.. => "ERROR",
        _ if record.login.is_some() => "NOTICE",
        _ => "INFO",
    };
    let Record { method, path, status, host, scheme, .. } = record;
    let (mark, query) = record.query.map_or(("", ""), |query| ("?", query));
    write!(buffer, "{{\"severity\":\"{severity}\",\"time\":\"")?;
    stamp::append(buffer, now);
    buffer.push(b'"');
    key!(buffer, "message");
    quoted(buffer, format_args!("{method} {path}{mark}{query} {status}"))?;
    key!(buffer, "httpRequest");
    buffer.extend_from_slice(b"{\"requestMethod\":");
    serde_json::to_writer(&mut *buffer, method)?;
    key!(buffer, "requestUrl");
    quoted(buffer, format_args!("{scheme}://{host}{path}{mark}{query}"))?;
    write!(buffer, ",\"requestSize\":\"{}\",\"status\":{status}", record.bytes_in)?;
    write!(buffer, ",\"responseSize\":\"{}\"", record.bytes_out)?;
    if let Some(user_agent) = record.user_agent {
        key!(buffer, "userAgent");
        serde_json::to_writer(&mut *buffer, user_agent)?;
    }
    if let Some(client) = record.client {
        key!(buffer, "remoteIp");
        word(buffer, client);
    }
    // A worker on a unix socket has no address that means anything there.
    if let Some(address) = record.upstream_addr.filter(|address| !address.starts_with("unix:")) {
        key!(buffer, "serverIp");
        word(buffer, address);
    }
    if let Some(referer) = record.referer {
        key!(buffer, "referer");
        serde_json::to_writer(&mut *buffer, referer)?;
    }
    let (seconds, micros) = (record.duration.as_secs(), record.duration.subsec_micros());
    write!(buffer, ",\"latency\":\"{seconds}.{micros:06}s\",\"protocol\":\"{}\"}}", record.proto)?;
    if !record.trace_id.is_empty() {
        key!(buffer, "logging.googleapis.com/trace");
        match project {
            Some(project) => quoted(buffer, format_args!("projects/{project}/traces/{}", record.trace_id))?,
            None => word(buffer, record.trace_id),
        }
        key!(buffer, "logging.googleapis.com/spanId");
        word(buffer, record.span_id);
        key!(buffer, "logging.googleapis.com/trace_sampled");
        buffer.extend_from_slice(if record.sampled { b"true" } else { b"false" });
    }
    key!(buffer, "logging.googleapis.com/labels");
    buffer.extend_from_slice(b"{\"handler\":");
    serde_json::to_writer(&mut *buffer, record.handler)?;
    write!(
        buffer,
        ",\"handler_type\":\"{}\",\"origin\":\"{}\"",
        record.handler_type,
        record.origin.as_str()
    )?;
    if let Some(reason) = record.reason {
        write!(buffer, ",\"reason\":\"{}\"", reason.as_str())?;
    }
    if let Some(worker) = record.worker {
        write!(buffer, ",\"worker\":\"{worker}\"")?;
    }
    if !record.request_id.is_empty() {
        write!(buffer, ",\"request_id\":\"{}\"", record.request_id)?;
    }
    buffer.extend_from_slice(b"}}");
    Ok(())
}

/// A text put together of several, as JSON.
fn quoted(buffer: &mut Vec<u8>, text: Arguments<'_>) -> std::io::Result<()> {
    serde_json::Serializer::new(&mut *buffer).collect_str(&text).map_err(Into::into)
}

/// `TIME STATUS METHOD TARGET MILLISECONDS ORIGIN ...`, the columns of what has a width under one another and under those of
/// events.
fn text(buffer: &mut Vec<u8>, now: SystemTime, record: &Record<'_>, colour: bool) -> std::io::Result<()> {
    let Record { method, path, status, .. } = record;
    let (on, off) = match status {
        _ if !colour => ("", ""),
        500.. => ("\x1b[31m", RESET),
        400.. => ("\x1b[33m", RESET),
        _ => ("\x1b[32m", RESET),
    };
    stamp::append(buffer, now);
    write!(buffer, " {on}{status:>5}{off} {method:<4} ")?;
    // Pingora accepts only printable bytes and UTF-8 here, but a terminal must never be steered by a path.
    write!(buffer, "{}", path.escape_debug())?;
    if let Some(query) = record.query {
        write!(buffer, "?{}", query.escape_debug())?;
    }
    write!(buffer, " {:.1}ms {}", record.duration.as_secs_f64() * 1e3, record.origin.as_str())?;
    match (record.origin, record.worker, record.reason) {
        (_, _, Some(reason)) => write!(buffer, " ({})", reason.as_str())?,
        (Origin::App, Some(worker), _) => write!(buffer, " worker={worker}")?,
        _ => {}
    }
    if let Some(client) = record.client {
        write!(buffer, " {client}")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
