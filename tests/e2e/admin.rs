//! The admin listener: probes, status, metrics that count what happened, and nothing of it on the main port.

use crate::harness::origin::Origin;
use crate::harness::{App, Proxy};

const HANDLERS: &str = r"
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /account
  script: account.app
  login: required
- url: /.*
  script: main.app
";

fn start(origin: &Origin) -> Proxy {
    App::new().handlers(HANDLERS).file("static/a.css", "a{}").upstream(origin).start()
}

#[test]
fn every_endpoint_answers() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for path in ["/livez", "/healthz", "/readyz", "/startupz"] {
        let response = proxy.admin(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{path}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
    }
    let page = proxy.admin("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.text().contains("<html"), "{page}");
    assert_eq!(
        proxy.admin("/metrics").header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(proxy.admin("/status").header("content-type"), Some("application/json"));
    assert_eq!(proxy.admin("/nothing").status, 404);
    assert_eq!(proxy.admin("/status?x=y").status, 200);
    assert!(origin.seen().is_empty());
}

#[test]
fn it_is_read_only() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut connection = crate::harness::client::Connection::open(proxy.admin_address());
    for path in ["/livez", "/metrics", "/status", "/explain?url=/x", "/", "/?url=/x"] {
        connection.request("HEAD", path, &[], b"");
        let head = connection.response_to("HEAD").expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            connection.request(method, path, &[("Connection", "close")], b"");
            let response = connection.response_to(method).expect("an answer");
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD")),
                "{method} {path}"
            );
            connection = crate::harness::client::Connection::open(proxy.admin_address());
        }
    }
}

#[test]
fn nothing_of_it_is_on_the_main_port() {
    let origin = Origin::echoing();
    let proxy = start(&origin);
    for path in ["/livez", "/healthz", "/readyz", "/startupz", "/metrics", "/status", "/explain?url=/x"] {
        assert_eq!(proxy.get(path).json()["target"], path);
    }
}

#[test]
fn status_has_every_field_of_the_contract() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for path in ["/x", "/y", "/admin/x", "/static/a.css"] {
        proxy.get(path);
    }
    let status = proxy.wait_until("all are counted", |status| {
        let counts = status["handlers"].as_array().into_iter().flatten();
        counts.filter_map(|handler| handler["requests"].as_u64()).sum::<u64>() == 4
    });
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["state"], "ready");
    assert!(status["uptime_seconds"].is_u64());
    let worker = &status["workers"][0];
    for key in
        ["worker", "pid", "state", "address", "in_flight", "requests", "restarts", "rss_bytes", "started_at"]
    {
        assert!(worker.get(key).is_some(), "{key}: {worker}");
    }
    assert_eq!(worker["state"], "ready");
    assert!(worker["pid"].is_null(), "an upstream has no pid: {worker}");
    assert_eq!(worker["requests"], 2);
    assert!(status["queue"].is_object());
    let told: Vec<(&str, &str, &str, &str, u64)> = status["handlers"]
        .as_array()
        .expect("handlers")
        .iter()
        .map(|handler| {
            let text = |key: &str| handler[key].as_str().unwrap_or("?");
            (
                text("url"),
                text("action"),
                text("login"),
                text("source"),
                handler["requests"].as_u64().unwrap_or(9),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/static", "static", "optional", "app.yaml:5", 1),
            ("/admin/.*", "blocked_login", "admin", "app.yaml:7", 1),
            ("/account", "blocked_login", "required", "app.yaml:10", 0),
            ("/.*", "script", "optional", "app.yaml:13", 2),
        ]
    );
    let config = &status["config"];
    assert_eq!((&config["path"], &config["reloads"]), (&"app.yaml".into(), &0.into()), "{config}");
    assert!(config["last_error"].is_null() && config["loaded_at"].is_string(), "{config}");
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for (path, times) in [
        ("/x", 3),
        ("/status/500", 2),
        ("/admin/x", 4),
        ("/account", 1),
        ("/static/a.css", 2),
        ("/static/no", 1),
    ] {
        for _ in 0..times {
            proxy.get(path);
        }
    }
    proxy.request("POST", "/x", &[], b"12345");
    proxy.raw("GET /x HTTP/1.1\r\nHost: a b\r\n\r\n");
    let count = |labels: &[&str]| proxy.metric_sum("compat_proxy_http_requests_total", labels);
    crate::harness::wait_for("all are counted", || count(&[]) >= 15.0, || proxy.output());
    assert_eq!(count(&["handler=\"/.*\"", "method=\"GET\"", "code=\"200\""]), 3.0);
    assert_eq!(count(&["handler=\"/.*\"", "method=\"POST\"", "code=\"200\""]), 1.0);
    assert_eq!(count(&["handler=\"/.*\"", "code=\"500\""]), 2.0);
    assert_eq!(count(&["handler=\"/admin/.*\"", "code=\"404\""]), 4.0);
    assert_eq!(count(&["handler=\"/static\"", "code=\"200\""]), 2.0);
    assert_eq!(count(&["handler=\"/static\"", "code=\"404\""]), 1.0);
    assert_eq!(count(&["handler=\"_internal\"", "code=\"400\""]), 1.0);
    for (series, value) in [
        ("login_blocked_total{handler=\"/admin/.*\",login=\"admin\"}", 4.0),
        ("login_blocked_total{handler=\"/account\",login=\"required\"}", 1.0),
        ("responses_generated_total{reason=\"login_blocked\"}", 5.0),
        ("responses_generated_total{reason=\"bad_request\"}", 1.0),
        ("worker_ready{worker=\"0\"}", 1.0),
        ("workers{state=\"ready\"}", 1.0),
        ("lifecycle_state{state=\"ready\"}", 1.0),
        ("lifecycle_state{state=\"draining\"}", 0.0),
        ("http_requests_in_flight", 0.0),
        ("config_last_reload_successful", 1.0),
        ("panics_total", 0.0),
    ] {
        let series = format!("compat_proxy_{series}");
        assert_eq!(proxy.metric(&series), value, "{series}\n{}", proxy.admin("/metrics").text());
    }
    assert_eq!(proxy.metric_sum("compat_proxy_worker_requests_total", &["worker=\"0\""]), 6.0);
    assert_eq!(
        proxy.metric_sum("compat_proxy_http_request_duration_seconds_count", &["handler=\"/.*\""]),
        6.0
    );
    assert!(proxy.metric_sum("compat_proxy_static_sent_bytes_total", &[]) >= 6.0);
}

#[test]
fn labels_never_come_from_a_request() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for number in 0..50 {
        proxy.get(&format!("/secret-path-{number}?token={number}"));
        proxy.raw(format!("METHOD{number} /x HTTP/1.1\r\nHost: secret-host\r\n\r\n"));
        proxy.get(&format!("/answer?status={}", 200 + number));
    }
    let text = proxy.admin("/metrics").text();
    assert!(!text.contains("secret") && !text.contains("METHOD"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("compat_proxy_http_requests_total{")) {
        let method =
            line.split("method=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        assert!(
            ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "OTHER"].contains(&method),
            "{line}"
        );
    }
}

#[test]
fn metrics_are_well_formed_text() {
    let origin = Origin::start();
    let proxy = start(&origin);
    proxy.get("/x");
    let text = proxy.admin("/metrics").text();
    let mut families = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            assert!(families.insert(name.to_owned()), "{name} is there twice");
        } else if !line.starts_with('#') && !line.is_empty() {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = series.split('{').next().unwrap_or_default();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(families.contains(family) || families.contains(name), "{line}: no TYPE before it");
        }
    }
    assert!(families.iter().any(|name| name.starts_with("process_")), "{families:?}");
    let info = text.lines().find(|line| line.starts_with("compat_proxy_build_info{")).expect("build_info");
    assert!(info.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{info}");
}

#[test]
fn an_access_line_tells_one_request() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let headers =
        [("User-Agent", "e2e \"quoted\" \u{1f600}"), ("Referer", "http://a/"), ("Host", "shop.example")];
    proxy.request("POST", "/x%2Fy?a=b", &headers, b"12345");
    let line = proxy.wait_access("the request", |line| line["path"] == "/x%2Fy");
    for (key, value) in [
        ("method", "POST"),
        ("handler", "/.*"),
        ("client_ip", "127.0.0.1"),
        ("host", "shop.example"),
        ("scheme", "http"),
        ("proto", "HTTP/1.1"),
        ("origin", "app"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(
        (&line["status"], &line["bytes_in"], &line["retries"]),
        (&200.into(), &5.into(), &0.into()),
        "{line}"
    );
    assert!(line["duration_ms"].as_f64().is_some_and(|duration| duration > 0.0), "{line}");
    assert_eq!(line["request_id"].as_str().map(str::len), Some(32), "{line}");
    assert_eq!(proxy.access().len(), 1, "one line a request");
}

#[test]
fn every_metric_a_dashboard_or_a_manifest_names_is_in_a_real_scrape() {
    // With a worker of its own, so that every family has a series.
    let proxy = App::new()
        .handlers(HANDLERS)
        .file("static/a.css", "a{}")
        .args(["--workers", "2", "--upstream-cmd", "python3 -m http.server --bind 127.0.0.1 {port}"])
        .start();
    for path in ["/", "/static/a.css", "/admin/x", "/a/../b"] {
        proxy.get(path);
    }
    let scrape = proxy.admin("/metrics").text();
    let mut known: std::collections::BTreeSet<&str> =
        scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    known.extend(
        scrape.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()),
    );
    // What the autoscaler asks for is worked out by the adapter, under this name.
    known.insert("compat_proxy_concurrency_utilization");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("dashboards"), root.join("config"), root.join("README.md")];
    let mut unknown = std::collections::BTreeSet::new();
    let mut found = 0;
    while let Some(path) = open.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            open.extend(entries.flatten().map(|entry| entry.path()));
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (at, _) in text.match_indices("compat_proxy_") {
            let name: &str = text[at..]
                .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .next()
                .unwrap_or("");
            found += 1;
            // A prefix ending in `_` stands in a pattern.
            if !known.contains(name) && !name.ends_with('_') {
                unknown.insert(format!("{name} ({})", path.display()));
            }
        }
    }
    println!("{found} mentions of metrics");
    assert!(unknown.is_empty(), "named, but not in a scrape: {unknown:#?}\n{scrape}");
}
