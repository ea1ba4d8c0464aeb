//! Static handlers over HTTP: what is served, with which headers, and what counts as missing.

use std::os::unix::fs::PermissionsExt;

use crate::harness::client::{Framing, Response};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy};

const HANDLERS: &str = r#"
- url: /favicon\.ico
  static_files: static/favicon.ico
  upload: static/favicon\.ico
  expiration: 1d
- url: /old/(.*\.txt)
  static_files: static/\1
  upload: static/.*\.txt
  mime_type: text/x-old; charset=latin-1
- url: /fall
  static_dir: static
  require_matching_file: true
- url: /hdr
  static_dir: static
  expiration: 0s
  http_headers:
    X-Frame-Options: DENY
    Access-Control-Allow-Origin: "*"
    Cache-Control: private
- url: /own
  static_dir: .
- url: /static
  static_dir: static
- url: /.*
  script: main.app
"#;

fn start() -> (Origin, Proxy) {
    let origin = Origin::start();
    let app = App::new();
    let outside = app.beside("outside.txt");
    std::fs::write(&outside, "not yours").expect("a file");
    let proxy = app
        .handlers(HANDLERS)
        .file("static/a.css", "a { color: red }")
        .file("static/favicon.ico", [0, 1, 2, 255])
        .file("static/empty.txt", "")
        .file("static/note.txt", "a note")
        .file("static/deep/er/x.js", "1")
        .file("static/.hidden", "h")
        .file("static/.git/config", "g")
        .file("static/main.pyc", "p")
        .file("static/back~", "b")
        .file("static/noext", "n")
        .file("static/with space+\u{e9}.txt", "s")
        .file("static/big.bin", pattern(3_000_000))
        .file("main.py", "app = None")
        .link("static/in.css", "a.css")
        .link("static/out.txt", &outside)
        .link("static/etc", "/etc")
        .link("static/loop", "loop")
        .upstream(&origin)
        .start();
    (origin, proxy)
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn with(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Response {
    proxy.request("GET", path, headers, b"")
}

#[test]
fn a_file_comes_with_its_type_length_age_and_validators() {
    let (origin, proxy) = start();
    let response = proxy.get("/static/a.css");
    assert_eq!((response.status, response.text().as_str()), (200, "a { color: red }"));
    assert_eq!(response.framing, Framing::Length);
    assert_eq!(response.header("content-type"), Some("text/css"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=600"));
    assert_eq!(response.header("accept-ranges"), Some("bytes"));
    let (date, expires) = (time(&response, "date"), time(&response, "expires"));
    let age = expires.duration_since(date).expect("expires after it was sent").as_secs();
    assert!((599..=601).contains(&age), "{age}");
    let etag = response.header("etag").expect("an etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
    assert!(response.header("last-modified").is_some());
    assert_eq!(proxy.get("/favicon.ico").header("cache-control"), Some("public, max-age=86400"));
    assert_eq!(proxy.get("/favicon.ico").body, [0, 1, 2, 255]);
    assert_eq!(proxy.get("/old/note.txt").header("content-type"), Some("text/x-old; charset=latin-1"));
    assert_eq!(proxy.get("/static/noext").header("content-type"), Some("application/octet-stream"));
    assert_eq!(proxy.get("/static/deep/er/x.js").text(), "1");
    let empty = proxy.get("/static/empty.txt");
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
    assert_eq!(proxy.get("/static/with%20space+%C3%A9.txt").text(), "s");
    assert_eq!(proxy.get("/static/in.css").status, 200, "a link within the app");
    assert!(origin.seen().is_empty());
}

fn time(response: &Response, name: &str) -> std::time::SystemTime {
    httpdate::parse_http_date(response.header(name).expect(name)).expect("a date")
}

#[test]
fn conditional_requests_are_answered() {
    let (_origin, proxy) = start();
    let first = proxy.get("/static/a.css");
    let (etag, date) = (first.header("etag").expect("etag"), first.header("last-modified").expect("date"));
    let weak = format!("W/{etag}");
    let list = format!("\"other\", {etag}");
    for headers in [
        [("If-None-Match", etag)],
        [("If-None-Match", &weak)],
        [("If-None-Match", &list)],
        [("If-None-Match", "*")],
        [("If-Modified-Since", date)],
    ] {
        let response = with(&proxy, "/static/a.css", &headers);
        assert_eq!((response.status, response.body.len()), (304, 0), "{headers:?}: {response}");
        assert_eq!(response.header("etag"), Some(etag));
        assert_eq!(response.header("cache-control"), first.header("cache-control"));
    }
    for headers in [
        [("If-None-Match", "\"other\"")],
        [("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")],
        [("If-Modified-Since", "nonsense")],
        [("If-Match", etag)],
    ] {
        assert_eq!(with(&proxy, "/static/a.css", &headers).status, 200, "{headers:?}");
    }
    let both = with(&proxy, "/static/a.css", &[("If-None-Match", "\"other\""), ("If-Modified-Since", date)]);
    assert_eq!(both.status, 200, "If-None-Match alone decides");
    assert_eq!(with(&proxy, "/static/a.css", &[("If-Match", "\"other\"")]).status, 412);
    let old = [("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")];
    assert_eq!(with(&proxy, "/static/a.css", &old).status, 412);
    assert_eq!(with(&proxy, "/static/none.css", &[("If-Match", "*")]).status, 404);
}

#[test]
fn head_is_get_without_the_body_and_other_methods_are_get() {
    let (origin, proxy) = start();
    let get = proxy.get("/static/a.css");
    let mut connection = proxy.connect();
    connection.request("HEAD", "/static/a.css", &[], b"");
    let head = connection.response_to("HEAD").expect("an answer");
    assert_eq!(head.status, 200);
    for name in ["content-length", "content-type", "etag", "cache-control", "last-modified"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    connection.request("GET", "/static/a.css", &[], b"");
    assert_eq!(connection.response_to("GET").expect("the connection lives on").body, get.body);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(proxy.request(method, "/static/a.css", &[], b"body").body, get.body, "{method}");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn ranges_are_answered() {
    let (_origin, proxy) = start();
    let whole = pattern(3_000_000);
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=2999999-", 2_999_999, 2_999_999),
        ("bytes=1000000-9999999", 1_000_000, 2_999_999),
        ("bytes=-5", 2_999_995, 2_999_999),
    ] {
        let response = with(&proxy, "/static/big.bin", &[("Range", range)]);
        let wanted = format!("bytes {from}-{to}/3000000");
        assert_eq!(
            (response.status, response.header("content-range")),
            (206, Some(wanted.as_str())),
            "{range}"
        );
        assert!(response.body == whole[from..=to], "{range}");
    }
    let response = with(&proxy, "/static/big.bin", &[("Range", "bytes=3000000-")]);
    assert_eq!(
        (response.status, response.header("content-range")),
        (416, Some("bytes */3000000")),
        "{response}"
    );
    for range in ["bytes=0-1,5-6", "lines=1-2", "bytes=5-1", "nonsense"] {
        let response = with(&proxy, "/static/big.bin", &[("Range", range)]);
        assert_eq!((response.status, response.body.len()), (200, 3_000_000), "{range}");
    }
    let etag = response_etag(&proxy);
    assert_eq!(with(&proxy, "/static/big.bin", &[("Range", "bytes=0-1"), ("If-Range", &etag)]).status, 206);
    assert_eq!(with(&proxy, "/static/big.bin", &[("Range", "bytes=0-1"), ("If-Range", "\"x\"")]).status, 200);
}

fn response_etag(proxy: &Proxy) -> String {
    proxy.request("HEAD", "/static/big.bin", &[], b"").header("etag").expect("an etag").to_owned()
}

#[test]
fn a_large_file_arrives_whole() {
    let (_origin, proxy) = start();
    assert!(proxy.get("/static/big.bin").body == pattern(3_000_000));
}

#[test]
fn what_must_not_be_served_is_404() {
    let (origin, proxy) = start();
    for path in [
        "/static/none.css",
        "/static/",
        "/static/deep",
        "/static/deep/",
        "/static/.hidden",
        "/static/.git/config",
        "/static/main.pyc",
        "/static/back~",
        "/static/out.txt",
        "/static/etc/hosts",
        "/static/loop",
        "/static//a.css",
        "/static/deep//er/x.js",
        "/static/a.css/",
        "/static/a.css%0a",
        "/static/deep%5cer%5cx.js",
        "/old/a.css.txt",
        "/own/app.yaml",
        "/own/.gitignore",
    ] {
        let response = proxy.get(path);
        assert_eq!(response.status, 404, "{path}: {response}");
        assert!(!response.text().contains("not yours"));
    }
    assert_eq!(proxy.get("/own/main.py").text(), "app = None", "what static_dir `.` says it does");
    assert!(origin.seen().is_empty(), "{:?}", origin.targets());
}

#[test]
fn a_missing_file_goes_on_to_the_next_handler_only_where_that_is_asked_for() {
    let (origin, proxy) = start();
    assert_eq!(proxy.get("/fall/a.css").text(), "a { color: red }");
    for path in ["/fall/none", "/fall/.hidden", "/fall/deep", "/fall/out.txt"] {
        assert_eq!(proxy.get(path).header("echo-script"), Some("main.app"), "{path}");
    }
    assert_eq!(origin.seen().len(), 4);
}

#[test]
fn http_headers_of_a_handler_are_added_and_replace_our_own() {
    let (_origin, proxy) = start();
    let response = proxy.get("/hdr/a.css");
    assert_eq!(response.header("x-frame-options"), Some("DENY"));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.all("cache-control"), ["private"]);
    assert_eq!(response.header("expires"), None);
    let etag = response.header("etag").expect("an etag").to_owned();
    let response = with(&proxy, "/hdr/a.css", &[("If-None-Match", &etag)]);
    assert_eq!((response.status, response.header("x-frame-options")), (304, Some("DENY")));
    assert_eq!(proxy.get("/hdr/none").header("x-frame-options"), None, "not on errors");
}

#[test]
fn a_changed_file_is_served_anew_with_another_etag() {
    let (_origin, proxy) = start();
    let before = proxy.get("/static/note.txt");
    proxy.write("static/note.txt", "another note");
    crate::harness::wait_for(
        "the new text is served",
        || proxy.get("/static/note.txt").text() == "another note",
        || proxy.output(),
    );
    let after = proxy.get("/static/note.txt");
    assert_ne!(before.header("etag"), after.header("etag"));
}

#[test]
fn a_file_that_cannot_be_read_is_403() {
    let (_origin, proxy) = start();
    let path = proxy.path().join("static/note.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("a mode");
    if std::fs::read(&path).is_ok() {
        println!("skipped: this user reads everything");
        return;
    }
    assert_eq!(proxy.get("/static/note.txt").status, 403);
}

#[test]
fn an_app_of_files_alone_needs_no_worker() {
    let proxy = App::new()
        .yaml("runtime: python312\nhandlers:\n- url: /\n  static_files: index.html\n  upload: index.html\n- url: /s\n  static_dir: s\n")
        .file("index.html", "<h1>hello</h1>")
        .file("s/a.txt", "a")
        .start();
    assert_eq!(proxy.get("/").text(), "<h1>hello</h1>");
    assert_eq!(proxy.get("/s/a.txt").text(), "a");
    assert_eq!(proxy.get("/other").status, 404);
    assert_eq!(proxy.get("/_ah/health").status, 200);
    assert_eq!(proxy.status()["workers"].as_array().map(Vec::len), Some(0));
}
