//! Which answer a request gets before any app is asked: handlers in their order, redirects, and the heads that
//! are refused because two programs could read them in two ways.

use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, h2c};

fn start(origin: &Origin, handlers: &str) -> Proxy {
    App::new()
        .handlers(handlers)
        .file("static/a.css", "a{}")
        .upstream(origin)
        .args(["--trusted-proxy", "127.0.0.1"])
        .start()
}

const CATCH_ALL: &str = "- url: /.*\n  script: main.app\n";

#[test]
fn the_first_handler_that_covers_the_whole_path_decides() {
    let origin = Origin::start();
    let handlers = r"
- url: /a
  script: a.app
- url: /a|/ab
  script: ab.app
- url: /(?P<who>\w+)/(x+?)
  script: \1/\g<who>.py
- url: /lazy.*?
  script: lazy.app
- url: /.*
  script: main.app
";
    // CGI scripts with templates, which need `threadsafe: false`.
    let yaml =
        format!("runtime: python27\napi_version: 1\nthreadsafe: false\nhandlers:\n{}", handlers.trim());
    let proxy = App::new().yaml(&yaml).upstream(&origin).start();
    for (path, script, handler) in [
        ("/a", "a.app", "0"),
        ("/a?b=c", "a.app", "0"),
        ("/ab", "ab.app", "1"),
        ("/jo/xxx", "jo/jo.py", "2"),
        ("/jo/xxxy", "main.app", "4"),
        ("/lazyfoo", "lazy.app", "3"),
        ("/%61", "a.app", "0"),
        ("/a%2Fx", "a/a.py", "2"),
        ("/a/", "main.app", "4"),
        ("/", "main.app", "4"),
    ] {
        let response = proxy.get(path);
        assert_eq!(response.header("echo-script"), Some(script), "{path}: {response}");
        assert_eq!(response.header("echo-handler"), Some(handler), "{path}");
    }
}

#[test]
fn a_path_without_a_handler_is_404_on_a_classic_runtime_and_the_apps_on_a_modern_one() {
    let origin = Origin::start();
    let classic = start(&origin, "- url: /only\n  script: main.app\n");
    assert_eq!(classic.get("/other").status, 404);
    assert_eq!(classic.get("/only%0A").status, 404, "the end of a pattern is the end of the path");
    assert!(origin.seen().is_empty());
    let modern = App::new()
        .yaml("runtime: python312\nhandlers:\n- url: /hidden\n  script: auto\n  login: admin\n")
        .upstream(&origin)
        .start();
    assert_eq!(modern.get("/other").status, 200);
    assert_eq!(modern.get("/hidden").status, 404);
    assert_eq!(origin.targets(), ["/other"]);
}

#[test]
fn a_login_handler_is_404_before_any_redirect_or_file() {
    let origin = Origin::start();
    let handlers = r"
- url: /static/a.css
  static_files: static/a.css
  upload: static/a.css
  login: required
- url: /safe
  script: main.app
  secure: always
  login: admin
- url: /.*
  script: main.app
";
    let proxy = start(&origin, handlers);
    for path in ["/static/a.css", "/safe", "/x/../safe"] {
        let response = proxy.get(path);
        let fine = response.status == 404 || (path.contains("..") && response.status == 302);
        assert!(fine, "{path}: {response}");
    }
    assert!(origin.seen().is_empty());
    let line = proxy.wait_access("the blocked page", |line| line["path"] == "/safe");
    assert_eq!((&line["login"], &line["reason"]), (&"admin".into(), &"login_blocked".into()), "{line}");
}

#[test]
fn secure_handlers_redirect_with_their_own_code() {
    let origin = Origin::start();
    let handlers = r"
- url: /always
  script: main.app
  secure: always
- url: /never
  script: main.app
  secure: never
  redirect_http_response_code: 307
- url: /.*
  script: main.app
";
    let proxy = start(&origin, handlers);
    let ask = |path: &str, proto: &str, host: &str| {
        proxy.request("GET", path, &[("Host", host), ("X-Forwarded-Proto", proto)], b"")
    };
    let response = ask("/always?a=b&c", "http", "shop.example:8080");
    assert_eq!(response.status, 302);
    // Port 8080 speaks http: the other scheme's own port is meant.
    assert_eq!(response.header("location"), Some("https://shop.example/always?a=b&c"));
    assert_eq!(ask("/always", "https", "a").status, 200);
    assert_eq!(ask("/always", "HTTPS", "a").status, 200, "a scheme has no case");
    let response = ask("/never?a=b", "https", "a");
    assert_eq!((response.status, response.header("location")), (307, Some("http://a/never")), "{response}");
    assert_eq!(ask("/never", "http", "a").status, 200);
    assert_eq!(ask("/other", "https", "a").status, 200);
    assert_eq!(ask("/%61lways/", "http", "a").status, 200, "another path");
}

#[test]
fn dots_are_redirected_away_with_an_absolute_location() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    for (path, location) in [
        ("/a/../b", "http://localhost/b"),
        ("/a/./b?q=1", "http://localhost/a/b?q=1"),
        ("/..", "http://localhost/"),
        ("/a/.", "http://localhost/a"),
        ("/a/%2e%2e/b", "http://localhost/b"),
        ("/.//evil.example/x", "http://localhost//evil.example/x"),
        ("/a/../%C3%A9%20%0d%0aX:y", "http://localhost/%C3%A9%20%0D%0AX:y"),
        ("/a/../%3fq", "http://localhost/%3Fq"),
    ] {
        let response = proxy.get(path);
        assert_eq!(
            (response.status, response.header("location")),
            (302, Some(location)),
            "{path}: {response}"
        );
    }
    let response =
        proxy.request("GET", "/a/../b", &[("Host", "x.example:81"), ("X-Forwarded-Proto", "https")], b"");
    assert_eq!(response.header("location"), Some("https://x.example:81/b"));
    assert!(origin.seen().is_empty());
}

#[test]
fn health_is_answered_by_the_proxy_and_reserved_paths_are_404() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    let response = proxy.get("/_ah/health");
    assert_eq!((response.status, response.text().as_str()), (200, "healthy"));
    for path in ["/_ah/start", "/_ah/stop", "/_ah/background", "/_ah/login", "/_ah/logout", "/_ah/upload/x"] {
        assert_eq!(proxy.get(path).status, 404, "{path}");
        assert_eq!(proxy.get(&path.replace("_ah", "%5Fah")).status, 404, "{path}");
    }
    assert!(origin.seen().is_empty());
    for path in ["/_ah/health/x", "/_ah/warmup", "/_ah/mail/a", "/_ah/admin", "/form"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
}

#[test]
fn health_is_503_while_no_worker_is_ready() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    origin.stop();
    proxy.wait_until("the upstream is gone", |status| status["workers"][0]["state"] != "ready");
    assert_eq!(proxy.get("/_ah/health").status, 503);
    assert_eq!(proxy.admin("/readyz").status, 503);
    assert_eq!(proxy.admin("/livez").status, 200);
    assert_eq!(proxy.admin("/startupz").status, 200, "it was ready once");
}

#[test]
fn methods_are_those_of_app_engine() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let response = proxy.request(method, "/x", &[], b"");
        assert_eq!(response.status, 200, "{method}");
        assert_eq!(response.json()["method"], method);
    }
    for (method, status) in [("TRACE", 405), ("FOO", 501), ("get", 501), ("PROPFIND", 501), ("CONNECT", 405)]
    {
        let target = if method == "CONNECT" { "localhost:80" } else { "/x" };
        let response = proxy.raw(format!("{method} {target} HTTP/1.1\r\nHost: localhost:80\r\n\r\n"));
        assert_eq!(response.status, status, "{method}: {response}");
    }
    let response = proxy.raw("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 200);
    assert!(response.header("allow").is_some_and(|allow| allow.contains("PATCH")), "{response}");
    let response = proxy.raw("TRACE /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(response.header("allow").is_some(), "{response}");
}

/// What is refused, and with which status. Nothing of it may reach the app.
const REFUSED: &[(&str, &str, u16)] = &[
    (
        "CL and TE",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "TE and CL",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "TE twice",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("TE gzip", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("TE xchunked", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("TE on 1.0", "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("CL twice", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("CL list", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    ("CL zeros", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", 400),
    ("CL sign", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("CL negative", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    ("CL empty", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    ("no Host", "GET /x HTTP/1.1\r\n\r\n", 400),
    ("empty Host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("two Hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("slash in Host", "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("space in Host", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("comma in Host", "GET /x HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    ("user in Host", "GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("port in words", "GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    ("absolute with another Host", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute with a user", "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("another scheme", "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no slash", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("NUL in target", "GET /x\0y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("encoded NUL", "GET /x%00y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("folded header", "GET /x HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    ("space before colon", "GET /x HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
    ("no colon", "GET /x HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
    ("empty name", "GET /x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("control in value", "GET /x HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
    ("NUL in value", "GET /x HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("bare CR in value", "GET /x HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    ("version 2.0", "GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    ("version 0.9", "GET /x\r\n\r\n", 400),
    ("lower-case version", "GET /x http/1.1\r\nHost: a\r\n\r\n", 400),
    ("nonsense", "\x16\x03\x01\x02\0\x01\0\r\n\r\n", 400),
];

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    let mut wrong = Vec::new();
    for (name, head, status) in REFUSED {
        let response = proxy.raw(head);
        if response.status != *status {
            wrong.push(format!("{name}: wanted {status}, got {}", response.status));
        }
        if !origin.seen().is_empty() {
            wrong.push(format!("{name}: the app saw {:?}", origin.seen()));
            origin.clear();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", proxy.output());
}

#[test]
fn heads_that_are_only_unusual_are_served() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    for (name, head, target) in [
        ("blank lines before", "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "/x"),
        ("a port", "GET /x HTTP/1.1\r\nHost: a:8080\r\n\r\n", "/x"),
        ("an IPv6 host", "GET /x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "/x"),
        ("bytes above 0x7f in a value", "GET /x HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", "/x"),
        ("a GET with a body", "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "/x"),
        ("a fragment", "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", "/x"),
        (
            "chunked in capitals",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "/x",
        ),
        (
            "a chunk extension",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\n\r\n",
            "/x",
        ),
        (
            "a trailer",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: b\r\n\r\n",
            "/x",
        ),
        ("1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", "/x"),
        // pingora's parser encodes it; there is one reading from then on.
        ("a space in the target", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", "/x%20y"),
    ] {
        origin.clear();
        let response = proxy.raw(head);
        assert_eq!((response.status, origin.targets()), (200, vec![target.to_owned()]), "{name}: {response}");
    }
}

#[test]
fn long_targets_and_large_heads_are_refused_and_ordinary_ones_served() {
    let origin = Origin::start();
    let proxy = start(&origin, CATCH_ALL);
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(proxy.get(&path(16 * 1024)).status, 200);
    assert_eq!(proxy.get(&path(16 * 1024 + 1)).status, 414);
    assert_eq!(proxy.get(&path(40_000)).status, 414);
    let value = "v".repeat(30_000);
    assert_eq!(proxy.request("GET", "/x", &[("A", &value), ("B", &value)], b"").status, 200);
    assert_eq!(proxy.request("GET", "/x", &[("A", &value), ("B", &value), ("C", &value)], b"").status, 431);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_refusal_does_not_end_the_connection_unless_it_must() {
    let origin = Origin::start();
    let proxy =
        start(&origin, "- url: /admin\n  script: a.app\n  login: admin\n- url: /.*\n  script: main.app\n");
    let mut connection = proxy.connect();
    for (path, status) in [("/admin", 404), ("/x", 200), ("/a/../b", 302), ("/_ah/health", 200), ("/x", 200)]
    {
        connection.request("GET", path, &[], b"");
        let response = connection.response_to("GET").expect("the connection lives on");
        assert_eq!(response.status, status, "{path}");
        assert!(response.header("date").is_some(), "{path}: {response}");
    }
}

#[test]
fn a_body_sent_to_a_page_that_is_404_does_not_become_the_next_request() {
    let origin = Origin::start();
    let proxy =
        start(&origin, "- url: /admin\n  script: a.app\n  login: admin\n- url: /.*\n  script: main.app\n");
    let body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in ["length", "chunked"] {
        let mut connection = proxy.connect();
        if framing == "length" {
            connection.request("POST", "/admin", &[], body);
        } else {
            connection.request("POST", "/admin", &[("Transfer-Encoding", "chunked")], b"");
            connection.send(format!("{:x}\r\n", body.len()));
            connection.send(body);
            connection.send("\r\n0\r\n\r\n");
        }
        assert_eq!(connection.response_to("POST").expect("an answer").status, 404);
        connection.request("GET", "/after", &[], b"");
        if let Ok(response) = connection.response_to("GET") {
            assert_eq!(
                (response.status, response.json()["target"].as_str()),
                (200, Some("/after")),
                "{framing}"
            );
        }
    }
    assert!(origin.targets().iter().all(|target| target == "/after"), "{:?}", origin.targets());
}

#[test]
fn http_2_is_routed_like_http_1() {
    let origin = Origin::start();
    let proxy = App::new()
        .handlers("- url: /admin\n  script: a.app\n  login: admin\n- url: /static\n  static_dir: static\n- url: /.*\n  script: main.app\n")
        .file("static/a.css", "a{}")
        .upstream(&origin)
        .arg("--h2c")
        .start();
    let get = |path: &str| h2c::get(proxy.address(), path, &[]).expect("an answer");
    assert_eq!(get("/admin").status, 404);
    assert_eq!(get("/static/a.css").text(), "a{}");
    assert_eq!(get("/_ah/health").text(), "healthy");
    let response = get("/a/../b");
    assert_eq!((response.status, response.header("location")), (302, Some("http://localhost/b")));
    let response = get("/x%2Fy?z");
    assert_eq!((response.status, response.seen("host")), (200, Some("localhost".to_owned())));
    let post = http::Request::post("http://localhost/size").body(()).expect("a request");
    assert_eq!(h2c::request(proxy.address(), post, &[7; 30_000]).expect("an answer").text(), "30000");
    assert_eq!(origin.targets(), ["/x%2Fy?z", "/size"]);
    // HTTP/1 beside it.
    assert_eq!(proxy.get("/x").status, 200);
}
