//! The access-log line of a [`Record`]: json, gcp (Cloud Logging's `httpRequest`) or text.
//! Appends to a buffer the caller owns; writes nothing anywhere.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::log::Format;
use super::{Origin, Record};

/// Appends one line, with its line feed.
pub fn line(buffer: &mut Vec<u8>, format: &Format, now: SystemTime, record: &Record<'_>) {
    let start = buffer.len();
    let done = match format {
        Format::Json => json(buffer, now, record).is_ok(),
        Format::Gcp { project } => {
            serde_json::to_writer(&mut *buffer, &Gcp::from(now, record, project.as_deref())).is_ok()
        }
        Format::Text => text(buffer, now, record).is_ok(),
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
    write!(buffer, "\"{}\"", humantime::format_rfc3339_millis(now))?;
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
    key!(buffer, "request_id");
    word(buffer, record.request_id);
    key!(buffer, "trace_id");
    word(buffer, record.trace_id);
    key!(buffer, "span_id");
    word(buffer, record.span_id);
    key!(buffer, "sampled");
    buffer.extend_from_slice(if record.sampled { b"true" } else { b"false" });
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

#[derive(Serialize)]
struct Gcp<'a> {
    severity: &'static str,
    time: String,
    message: String,
    #[serde(rename = "httpRequest")]
    http_request: HttpRequest<'a>,
    #[serde(rename = "logging.googleapis.com/trace")]
    trace: String,
    #[serde(rename = "logging.googleapis.com/spanId")]
    span: &'a str,
    #[serde(rename = "logging.googleapis.com/trace_sampled")]
    sampled: bool,
    #[serde(rename = "logging.googleapis.com/labels")]
    labels: Labels<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpRequest<'a> {
    request_method: &'a str,
    request_url: String,
    request_size: String,
    status: u16,
    response_size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<&'a str>,
    latency: String,
    protocol: &'static str,
}

#[derive(Serialize)]
struct Labels<'a> {
    handler: &'a str,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    request_id: &'a str,
}

impl<'a> Gcp<'a> {
    fn from(now: SystemTime, record: &Record<'a>, project: Option<&str>) -> Self {
        let severity = match record.status {
            500.. => "ERROR",
            _ if record.login.is_some() => "NOTICE",
            _ => "INFO",
        };
        let query = record.query.map(|query| format!("?{query}")).unwrap_or_default();
        Self {
            severity,
            time: humantime::format_rfc3339_millis(now).to_string(),
            message: format!("{} {}{query} {}", record.method, record.path, record.status),
            http_request: HttpRequest {
                request_method: record.method,
                request_url: format!("{}://{}{}{query}", record.scheme, record.host, record.path),
                request_size: record.bytes_in.to_string(),
                status: record.status,
                response_size: record.bytes_out.to_string(),
                user_agent: record.user_agent,
                remote_ip: record.client,
                referer: record.referer,
                latency: format!("{:.6}s", record.duration.as_secs_f64()),
                protocol: record.proto,
            },
            trace: match project {
                Some(project) => format!("projects/{project}/traces/{}", record.trace_id),
                None => record.trace_id.to_owned(),
            },
            span: record.span_id,
            sampled: record.sampled,
            labels: Labels {
                handler: record.handler,
                origin: record.origin.as_str(),
                reason: record.reason.map(super::Reason::as_str),
                worker: record.worker.map(|worker| worker.to_string()),
                request_id: record.request_id,
            },
        }
    }
}

fn text(buffer: &mut Vec<u8>, now: SystemTime, record: &Record<'_>) -> std::io::Result<()> {
    let Record { method, path, status, .. } = record;
    write!(buffer, "{} {status} {method} ", humantime::format_rfc3339_millis(now))?;
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
mod tests {
    use super::*;
    use crate::telemetry::Reason;

    fn record<'a>(path: &'a str) -> Record<'a> {
        Record {
            method: "GET",
            path,
            query: Some("q=1"),
            host: "a.example",
            scheme: "http",
            proto: "HTTP/1.1",
            status: 404,
            handler: "/admin/.*",
            handler_type: "blocked",
            login: Some("admin"),
            duration: Duration::from_micros(1500),
            queue: None,
            upstream: None,
            bytes_in: 0,
            bytes_out: 68,
            client: Some("1.1.1.1"),
            peer: None,
            user_agent: Some("\"quoted\""),
            referer: None,
            request_id: "00ff",
            trace_id: "0f",
            span_id: "1",
            sampled: true,
            worker: None,
            upstream_addr: None,
            retries: 0,
            origin: Origin::Proxy,
            reason: Some(Reason::LoginBlocked),
        }
    }

    fn written(format: &Format, path: &str) -> String {
        let mut buffer = b"before\n".to_vec();
        line(&mut buffer, format, SystemTime::UNIX_EPOCH, &record(path));
        String::from_utf8(buffer).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fields_operators_search() {
        let line = written(&Format::Json, "/admin/x");
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["ts"], "1970-01-01T00:00:00.000Z");
        assert_eq!((&value["path"], &value["status"]), (&"/admin/x".into(), &404.into()));
        assert_eq!((&value["reason"], &value["origin"]), (&"login_blocked".into(), &"proxy".into()));
        assert_eq!(value["duration_ms"], 1.5);
        assert_eq!(value["user_agent"], "\"quoted\"");
        assert!(value.get("worker").is_none());
    }

    #[test]
    fn a_gcp_line_is_what_cloud_logging_reads() {
        let line = written(&Format::Gcp { project: Some("p".to_owned()) }, "/admin/x");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["severity"], "NOTICE");
        assert_eq!(value["httpRequest"]["requestUrl"], "http://a.example/admin/x?q=1");
        assert_eq!(value["httpRequest"]["latency"], "0.001500s");
        assert_eq!(value["logging.googleapis.com/trace"], "projects/p/traces/0f");
    }

    #[test]
    fn a_path_cannot_steer_a_terminal() {
        let line = written(&Format::Text, "/\u{1b}[2J\n");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
