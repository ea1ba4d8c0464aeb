//! Packed static files over HTTP: who gets which copy, what a cache is told of it, and what is counted.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::harness::client::{Framing, Response};
use crate::harness::{App, Proxy, wait_for};

const HANDLERS: &str = r#"
- url: /static/secret\.js\.gz
  static_files: static/secret.js.gz
  upload: static/secret\.js\.gz
  login: admin
- url: /static
  static_dir: static
- url: /own
  static_dir: static
  http_headers:
    Vary: Origin
"#;

fn text(length: usize) -> Vec<u8> {
    b"var compat = function (proxy) { return proxy.answer; };\n"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut content).expect("gzip");
    content
}

fn start() -> Proxy {
    App::new()
        .handlers(HANDLERS)
        .file("static/a.js", text(20_000))
        .file("static/b.js", text(20_000))
        .file("static/b.js.gz", gzip(&text(20_000)))
        .file("static/secret.js", text(20_000))
        .file("static/secret.js.gz", gzip(b"not yours"))
        .file("static/huge.css", text(5_000_000))
        .file("static/a.png", text(20_000))
        .start()
}

fn with(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Response {
    proxy.request("GET", path, headers, b"")
}

const GZIP: (&str, &str) = ("Accept-Encoding", "gzip, deflate, br;q=0.9");

#[test]
fn a_text_comes_packed_to_who_can_read_it() {
    let proxy = start();
    for path in ["/static/a.js", "/static/b.js", "/static/secret.js"] {
        let packed = with(&proxy, path, &[GZIP]);
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")), "{packed}");
        assert_eq!((packed.framing, packed.header("vary")), (Framing::Length, Some("Accept-Encoding")));
        assert_eq!(packed.header("content-type"), Some("text/javascript"));
        assert_eq!(gunzip(&packed.body), text(20_000), "{path}");
        let whole = proxy.get(path);
        assert_eq!((whole.header("content-encoding"), whole.header("vary")), (None, Some("Accept-Encoding")));
        assert_eq!(whole.body, text(20_000));
        assert_ne!(whole.header("etag"), packed.header("etag"));
        let refused = with(&proxy, path, &[("Accept-Encoding", "gzip;q=0, br;q=0")]);
        assert_eq!(refused.body, text(20_000));
    }
    assert_eq!(proxy.get("/static/secret.js.gz").status, 404);
    assert_eq!(with(&proxy, "/own/a.js", &[GZIP]).header("vary"), Some("Origin, Accept-Encoding"));
    let png = with(&proxy, "/static/a.png", &[GZIP]);
    assert_eq!((png.header("content-encoding"), png.header("vary")), (None, None));
    let huge = with(&proxy, "/static/huge.css", &[("Accept-Encoding", "gzip, identity;q=0")]);
    assert_eq!(gunzip(&huge.body), text(5_000_000));
}

#[test]
fn head_conditions_and_ranges_know_the_packed_copy() {
    let proxy = start();
    let get = with(&proxy, "/static/a.js", &[GZIP]);
    let mut connection = proxy.connect();
    connection.request("HEAD", "/static/a.js", &[GZIP], b"");
    let head = connection.response_to("HEAD").expect("an answer");
    for name in ["content-length", "content-encoding", "content-type", "etag", "vary", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let (packed, whole) = (get.header("etag").expect("a tag"), proxy.get("/static/a.js"));
    let whole = whole.header("etag").expect("a tag");
    for tag in [packed, whole] {
        let known = with(&proxy, "/static/a.js", &[GZIP, ("If-None-Match", tag)]);
        assert_eq!((known.status, known.header("etag")), (304, Some(tag)), "{known}");
        assert_eq!(known.header("vary"), Some("Accept-Encoding"));
    }
    assert_eq!(with(&proxy, "/static/a.js", &[("If-None-Match", packed)]).status, 200);
    let part = with(&proxy, "/static/a.js", &[GZIP, ("Range", "bytes=0-9")]);
    assert_eq!((part.status, part.header("content-encoding")), (206, None));
    assert_eq!(part.body, text(10));
}

#[test]
fn a_changed_text_is_packed_anew() {
    let proxy = start();
    assert_eq!(gunzip(&with(&proxy, "/static/a.js", &[GZIP]).body), text(20_000));
    proxy.write("static/a.js", text(30_000));
    wait_for(
        "the new text comes packed",
        || {
            let answer = with(&proxy, "/static/a.js", &[GZIP]);
            answer.header("content-encoding") == Some("gzip") && gunzip(&answer.body) == text(30_000)
        },
        || proxy.output(),
    );
}

#[test]
fn the_static_cache_is_counted_and_outlives_a_reload() {
    let proxy = start();
    let cache = |series: &str| proxy.metric(&format!("compat_proxy_static_cache_{series}"));
    let (hits, misses) = ("requests_total{result=\"hit\"}", "requests_total{result=\"miss\"}");
    assert_eq!((cache(hits), cache(misses), cache("entries"), cache("bytes")), (0.0, 0.0, 0.0, 0.0));
    let sent = with(&proxy, "/static/a.js", &[GZIP]).body.len();
    assert_eq!((cache(misses), cache("entries")), (1.0, 1.0));
    assert!(cache("bytes") > 20_000.0 + sent as f64);
    proxy.get("/static/a.png");
    wait_for(
        "an answer from memory is counted",
        || with(&proxy, "/static/a.js", &[GZIP]).status == 200 && cache(hits) > 0.0,
        || proxy.output(),
    );
    let bytes = |coding: &str| {
        proxy.metric(&format!("compat_proxy_static_sent_bytes_total{{encoding=\"{coding}\"}}"))
    };
    wait_for("all are counted", || bytes("identity") >= 20_000.0, || proxy.output());
    assert!(bytes("gzip") >= 2.0 * sent as f64 && bytes("gzip") < 20_000.0);
    assert_eq!(bytes("br"), 0.0);

    let handlers = HANDLERS.replace("- url: /static\n", "- url: /static\n  expiration: 5m\n");
    let yaml = format!("runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n{}", handlers.trim());
    proxy.write("app.yaml", &yaml);
    let reloaded = |count| {
        wait_for(
            "a reload",
            || proxy.events_named("configuration reloaded").len() >= count,
            || proxy.output(),
        );
    };
    reloaded(1);
    assert_eq!(cache("entries"), 2.0, "what is in memory stays there");
    let answer = with(&proxy, "/static/a.js", &[GZIP]);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    // Other files may be used from now on: nothing that was found holds any more.
    proxy.write("app.yaml", format!("{yaml}\nskip_files: .*\\.gz$\n"));
    reloaded(2);
    assert_eq!(cache("entries"), 0.0);
}
