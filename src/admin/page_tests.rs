//! The page of made-up states: what the app says is escaped, nothing of it is lost, and the oddest numbers have a page.

use std::time::{Duration, UNIX_EPOCH};

use super::super::status::{self, Config, Handler, Queue, Traffic, Worker};
use super::*;

const EVIL: &str = "</script><script>alert('x')</script>\"&";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn empty() -> Status {
    Status {
        version: "1.2.3",
        state: "starting",
        uptime_seconds: 0,
        obstacles: vec!["no worker is ready"],
        app: status::App {
            service: "default".to_owned(),
            version: None,
            runtime: "python27".to_owned(),
            runs: "started by entrypoint in app.yaml",
            python: None,
        },
        workers: Vec::new(),
        queue: Queue {
            waiting: 0,
            depth: 0,
            timeout_seconds: f64::INFINITY,
            in_flight: 0,
            concurrency: 1,
            capacity: 0,
            rejected_full: 0,
            rejected_late: 0,
        },
        traffic: Traffic {
            requests: 0,
            server_errors: 0,
            requests_per_second: 0.0,
            server_errors_per_second: 0.0,
            p50_seconds: None,
            p95_seconds: None,
            unmatched: 0,
            blocked_readings: 0,
            internal: 0,
        },
        handlers: Vec::new(),
        config: Config {
            path: "app.yaml".to_owned(),
            loaded_at: None,
            reloads: 0,
            last_error: None,
            failed_at: None,
        },
    }
}

fn worker(slot: usize, state: &'static str) -> Worker {
    Worker {
        worker: slot,
        pid: Some(4_194_304),
        state,
        address: None,
        in_flight: 3,
        requests: 1_234_567,
        restarts: 2,
        rss_bytes: Some(1 << 30),
        started_at: Some(now() - Duration::from_secs(3661)),
    }
}

fn handler(url: &str, login: &'static str) -> Handler {
    Handler {
        index: 0,
        url: url.to_owned(),
        action: if login == "optional" { "script" } else { "blocked_login" },
        login,
        source: "app.yaml:3".to_owned(),
        requests: 12,
        kind: "script",
        to: "main.app".to_owned(),
        secure: "always",
        redirect_code: 301,
        falls_on: false,
        last_request_at: None,
    }
}

#[test]
fn nothing_at_all_has_a_page() {
    let page = render(&empty(), &[], now(), None);
    for part in [
        "no worker is ready",
        "app.yaml has no handlers",
        "None: started by entrypoint in app.yaml.",
        "no request",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn everything_the_app_says_is_escaped() {
    let mut status = empty();
    status.app.service = EVIL.to_owned();
    status.app.version = Some(EVIL.to_owned());
    status.app.runtime = EVIL.to_owned();
    status.app.python = Some(EVIL.to_owned());
    status.config.path = EVIL.to_owned();
    status.config.last_error = Some(EVIL.to_owned());
    status.workers = vec![Worker { address: Some(EVIL.to_owned()), ..worker(0, "ready") }];
    for login in ["admin", "optional"] {
        status.handlers.push(Handler {
            to: EVIL.to_owned(),
            source: EVIL.to_owned(),
            ..handler(EVIL, login)
        });
    }
    let trial = Trial { url: EVIL.to_owned(), verdict: super::super::verdict::none(EVIL) };
    let page = render(&status, &[], now(), Some(&trial));
    assert!(!page.contains("<script>alert"), "{page}");
    assert_eq!((page.matches("<script>").count(), page.matches("</script>").count()), (1, 1), "{page}");
    assert!(page.contains("value=\"&lt;/script&gt;"), "{page}");
    assert_eq!(page.matches("alert('x')").count(), 17, "each place is there: {page}");
}

#[test]
fn a_blocked_handler_says_so_in_words_and_an_open_one_what_it_does() {
    let mut status = empty();
    status.handlers = vec![handler("/admin/.*", "admin"), handler("/.*", "optional")];
    let page = render(&status, &[], now(), None);
    for part in
        ["blocked: 404", "<code>login: admin</code>", "app: <code>main.app</code>", "https only (else 301)"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("<tr class=\"blocked\">").count(), 1, "{page}");
}

#[test]
fn workers_are_counted_by_slot_and_those_that_do_not_serve_are_named() {
    let mut status = empty();
    status.workers =
        vec![worker(0, "ready"), worker(1, "ready"), worker(1, "draining"), worker(2, "backoff")];
    let page = render(&status, &[], now(), None);
    for part in
        ["2<span class=\"of\"> / 3</span>", "1 draining, 1 backoff", "1,234,567", "1.0 GiB", "1 h 1 min"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn the_style_and_the_script_end_where_they_should_and_the_policy_names_them() {
    for text in [STYLE, SCRIPT] {
        assert!(!text.contains("</"), "it would end its element early");
    }
    let policy = POLICY.to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; ") && policy.matches("'sha256-").count() == 2,
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
}
