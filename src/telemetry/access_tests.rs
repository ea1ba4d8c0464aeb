//! The line of a request in each format, and what must not be in it.

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
        first_byte: None,
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
    let line = written(&Format::Text { colour: false }, "/\u{1b}[2J\n");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
}

fn of(format: &Format, record: &Record<'_>) -> String {
    let mut buffer = Vec::new();
    line(&mut buffer, format, SystemTime::UNIX_EPOCH, record);
    String::from_utf8(buffer).unwrap()
}

const FORMATS: [Format; 3] = [Format::Text { colour: false }, Format::Json, Format::Gcp { project: None }];

#[test]
fn a_gcp_line_has_the_types_that_cloud_logging_asks_for() {
    let record = Record {
        worker: Some(3),
        upstream_addr: Some("127.0.0.1:9000"),
        referer: Some("https://me:pw@b.example/?x"),
        status: 200,
        login: None,
        reason: None,
        duration: Duration::from_micros(61_000_042),
        ..record("/\"x\"")
    };
    let value: serde_json::Value =
        serde_json::from_str(&of(&Format::Gcp { project: None }, &record)).unwrap();
    let request = &value["httpRequest"];
    assert_eq!((&request["requestSize"], &request["responseSize"]), (&"0".into(), &"68".into()));
    assert_eq!((&request["status"], &request["latency"]), (&200.into(), &"61.000042s".into()));
    assert_eq!((&request["serverIp"], &request["remoteIp"]), (&"127.0.0.1:9000".into(), &"1.1.1.1".into()));
    assert_eq!(request["referer"], "https://[redacted]@b.example/?x");
    assert_eq!(value["message"], "GET /\"x\"?q=1 200");
    assert_eq!((&value["severity"], &value["time"]), (&"INFO".into(), &"1970-01-01T00:00:00.000Z".into()));
    assert_eq!(value["logging.googleapis.com/trace"], "0f");
    assert_eq!(value["logging.googleapis.com/trace_sampled"], true);
    let labels = value["logging.googleapis.com/labels"].as_object().unwrap();
    assert!(labels.values().all(serde_json::Value::is_string), "{labels:?}");
    assert_eq!((&labels["worker"], &labels["origin"]), (&"3".into(), &"proxy".into()));
    let failed = of(&Format::Gcp { project: None }, &Record { status: 503, ..record });
    assert!(failed.contains("\"severity\":\"ERROR\""), "{failed}");
    let socket = of(&Format::Gcp { project: None }, &Record { upstream_addr: Some("unix:/s"), ..record });
    assert!(!socket.contains("serverIp"), "{socket}");
}

#[test]
fn no_format_shows_a_secret_of_a_url() {
    let record = Record {
        query: Some("q=1&api_key=hunter2"),
        referer: Some("https://me:hunter2@b.example/?token=hunter2"),
        ..record("/x")
    };
    for format in FORMATS {
        let line = of(&format, &record);
        assert!(!line.contains("hunter2") && line.contains("api_key=[redacted]"), "{line}");
    }
}

#[test]
fn what_never_was_a_request_has_no_ids() {
    let record = Record { request_id: "", trace_id: "", span_id: "", ..record("/x") };
    for format in FORMATS {
        let line = of(&format, &record);
        assert!(!line.contains("race") && !line.contains("request_id"), "{line}");
    }
}

#[test]
fn text_has_its_columns_under_one_another_and_colours_only_for_a_terminal() {
    let plain = of(&Format::Text { colour: false }, &record("/x"));
    assert_eq!(plain, "1970-01-01T00:00:00.000Z   404 GET  /x?q=1 1.5ms proxy (login_blocked) 1.1.1.1\n");
    let coloured = of(&Format::Text { colour: true }, &record("/x"));
    assert!(coloured.contains("\x1b[33m  404\x1b[0m GET"), "{coloured}");
}

/// The lines that config/README.md shows.
#[test]
fn the_documentation_shows_lines_as_they_are() {
    const PAGE: &str = include_str!("../../config/README.md");
    let record = Record {
        method: "GET",
        path: "/cart",
        query: Some("id=7&token=[redacted]"),
        host: "shop.example",
        scheme: "https",
        status: 200,
        handler: "/.*",
        handler_type: "script",
        login: None,
        duration: Duration::from_micros(12_345),
        queue: Some(Duration::ZERO),
        upstream: Some(Duration::from_micros(11_900)),
        first_byte: Some(Duration::from_micros(12_010)),
        bytes_out: 512,
        client: Some("203.0.113.9"),
        peer: Some("10.0.0.2"),
        user_agent: Some("curl/8"),
        request_id: "3f2b6c0d9e8a47b1a5c4d3e2f1a0b9c8",
        trace_id: "0af7651916cd43dd8448eb211c80319c",
        span_id: "b7ad6b7169203331",
        sampled: true,
        worker: Some(0),
        upstream_addr: Some("127.0.0.1:40001"),
        origin: Origin::App,
        reason: None,
        ..record("/")
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_793_000_000_123);
    for format in
        [Format::Text { colour: false }, Format::Json, Format::Gcp { project: Some("shop".to_owned()) }]
    {
        let mut buffer = Vec::new();
        line(&mut buffer, &format, now, &record);
        let text = String::from_utf8(buffer).unwrap();
        assert!(PAGE.contains(&format!("\n{text}```")), "config/README.md should show:\n{text}");
    }
}
