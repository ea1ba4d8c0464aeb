//! What the app is told and what it may tell: App Engine's own words, forwarding, traces, hop-by-hop headers and
//! the defaults of responses.

use crate::harness::origin::Origin;
use crate::harness::{App, Proxy};

fn start(origin: &Origin, trusted: bool) -> Proxy {
    let app = App::new().handlers("- url: /.*\n  script: main.app\n").upstream(origin);
    if trusted { app.args(["--trusted-proxy", "127.0.0.0/8"]).start() } else { app.start() }
}

#[test]
fn no_client_speaks_in_app_engines_name() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let lies = [
        ("X-AppEngine-User-Email", "root@example.com"),
        ("X-AppEngine-User-Is-Admin", "1"),
        ("X-AppEngine-User-Id", "1"),
        ("x-appengine-cron", "true"),
        ("X-APPENGINE-QUEUENAME", "default"),
        ("X-AppEngine-TaskName", "t"),
        ("X-AppEngine-Inbound-Appid", "me"),
        ("X-AppEngine-Fake-Is-Admin", "1"),
        ("X-AppEngine-Cntry", "US"),
        ("X_AppEngine_Cron", "true"),
        ("X-AppEngine_Cron", "true"),
        ("x_appengine_user_is_admin", "1"),
        ("X-Google-Real-IP", "6.6.6.6"),
        ("X-Google-Internal-SkipAdminCheck", "true"),
        ("X-Goog-IAP-JWT-Assertion", "x"),
        ("X-Goog-Authenticated-User-Email", "root"),
        ("X-Compat-Script", "admin.app"),
        ("X-Compat-Handler", "9"),
        ("X_Compat_Script", "admin.app"),
        ("Proxy", "http://evil:1"),
        ("Any_Name", "x"),
    ];
    let response = proxy.request("GET", "/x", &lies, b"");
    for (name, lie) in lies {
        let seen = response.seen(name).unwrap_or_default();
        assert_ne!(seen, lie, "{name} came through");
    }
    let json = response.json();
    let names = json["headers"].as_array().expect("headers").iter();
    assert!(!names.clone().any(|pair| pair[0].as_str().is_some_and(|name| name.contains('_'))), "{json:#}");
    assert_eq!(response.seen("x-appengine-user-is-admin").as_deref(), Some("0"));
    assert_eq!(response.seen("x-appengine-user-email").as_deref(), Some(""));
    assert_eq!(response.seen("x-appengine-cron"), None);
    assert_eq!(response.seen("x-compat-script").as_deref(), Some("main.app"));
    assert_eq!(response.seen("x-compat-handler").as_deref(), Some("0"));
    assert!(proxy.metric("compat_proxy_headers_stripped_total{kind=\"appengine\"}") >= 10.0);
    assert!(proxy.metric("compat_proxy_headers_stripped_total{kind=\"underscore\"}") >= 5.0);
}

#[test]
fn the_app_is_told_what_app_engine_tells() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let response = proxy.request("GET", "/x", &[("Host", "shop.example:8080")], b"");
    for (name, value) in [
        ("x-appengine-country", "ZZ"),
        ("x-appengine-user-ip", "127.0.0.1"),
        ("x-appengine-remote-addr", "127.0.0.1"),
        ("x-appengine-https", "off"),
        ("x-appengine-default-version-hostname", "shop.example:8080"),
        ("x-appengine-auth-domain", "gmail.com"),
        ("x-appengine-timeout-ms", "60000"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example:8080"),
        ("host", "shop.example:8080"),
    ] {
        assert_eq!(response.seen(name).as_deref(), Some(value), "{name}: {response}");
    }
    let long = response.seen("x-appengine-request-log-id").expect("an id");
    assert!(long.len() >= 30 && long.bytes().all(|byte| byte.is_ascii_hexdigit()), "{long}");
    assert_eq!(response.seen("x-appengine-request-id-hash").map(|hash| hash.len()), Some(8));
    let other = proxy.get("/x").seen("x-appengine-request-log-id");
    assert_ne!(other, Some(long), "each request has its own");
}

#[test]
fn a_strangers_forwarding_headers_are_replaced() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let lies = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "443"),
        ("Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-Server", "evil"),
    ];
    let response = proxy.request("GET", "/x", &lies, b"");
    let everything = response.text();
    for lie in ["6.6.6.6", "evil", "\"https\""] {
        assert!(!everything.contains(lie), "{lie}: {response}");
    }
    assert_eq!(response.seen("x-appengine-https").as_deref(), Some("off"));
    assert_eq!(response.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[test]
fn a_trusted_proxys_forwarding_headers_are_believed() {
    let origin = Origin::start();
    let proxy = start(&origin, true);
    let response = proxy.request(
        "GET",
        "/x",
        &[("X-Forwarded-For", "198.51.100.7, 127.0.0.9"), ("X-Forwarded-Proto", "https")],
        b"",
    );
    assert_eq!(response.seen("x-appengine-user-ip").as_deref(), Some("198.51.100.7"));
    assert_eq!(response.seen("x-appengine-https").as_deref(), Some("on"));
    assert_eq!(response.seen("x-forwarded-for").as_deref(), Some("198.51.100.7, 127.0.0.9, 127.0.0.1"));
    assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("https"));
    let line = proxy.wait_access("/x", |line| line["path"] == "/x");
    assert_eq!(line["client_ip"], "198.51.100.7", "{line}");
    // What a client put in front of the last stranger is not the client.
    let response = proxy.request("GET", "/y", &[("X-Forwarded-For", "1.1.1.1, 198.51.100.7")], b"");
    assert_eq!(response.seen("x-appengine-user-ip").as_deref(), Some("198.51.100.7"));
    // Even a trusted proxy does not pass on App Engine's own words.
    let response = proxy.request("GET", "/z", &[("X-AppEngine-Cron", "true")], b"");
    assert_eq!(response.seen("x-appengine-cron"), None);
}

#[test]
fn connection_cannot_make_our_headers_vanish() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let nominated = "X-Compat-Script, X-AppEngine-User-IP, X-Forwarded-Port, Forwarded, X-Mine, Traceparent";
    let response = proxy.request("GET", "/x", &[("Connection", nominated), ("X-Mine", "gone")], b"");
    assert_eq!(response.seen("x-mine"), None);
    assert_eq!(response.seen("x-compat-script").as_deref(), Some("main.app"));
    assert_eq!(response.seen("x-appengine-user-ip").as_deref(), Some("127.0.0.1"));
    for name in ["traceparent", "x-forwarded-port", "forwarded"] {
        assert!(response.seen(name).is_some(), "{name}");
    }
    // These are refused outright.
    for name in ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-host"] {
        assert_eq!(proxy.request("GET", "/x", &[("Connection", name)], b"").status, 400, "{name}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn hop_by_hop_headers_of_a_request_end_here() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let headers = [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "gzip"),
        ("Trailer", "X"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAA"),
        ("Accept-Encoding", "gzip"),
    ];
    let response = proxy.request("GET", "/x", &headers, b"");
    for (name, _) in headers {
        assert_eq!(response.seen(name), None, "{name}: {response}");
    }
    let modern = App::new().yaml("runtime: python312\n").upstream(&origin).start();
    let response = modern.request("GET", "/x", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(response.seen("accept-encoding").as_deref(), Some("gzip"), "modern runtimes get it");
}

#[test]
fn ordinary_headers_arrive_as_sent() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let headers = [
        ("Cookie", "a=b; c=d"),
        ("Authorization", "Bearer x"),
        ("User-Agent", "e2e"),
        ("If-None-Match", "\"x\""),
        ("Range", "bytes=0-1"),
        ("X-Custom-Thing", "  spaced  out"),
        ("Accept", "*/*"),
        ("Origin", "http://a"),
    ];
    let response = proxy.request("GET", "/x", &headers, b"");
    for (name, value) in headers {
        assert_eq!(response.seen(name).as_deref(), Some(value.trim()), "{name}");
    }
    let response = proxy.request("GET", "/x", &[("X-Twice", "1"), ("X-Twice", "2")], b"");
    assert_eq!(response.seen_all("x-twice"), ["1", "2"]);
}

#[test]
fn traces_are_kept_when_valid_and_made_when_not() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let response = proxy.request("GET", "/parent", &[("traceparent", &parent)], b"");
    let passed = response.seen("traceparent").expect("a trace");
    assert!(passed.starts_with(&format!("00-{trace}-")) && passed.ends_with("-01"), "{passed}");
    let cloud = response.seen("x-cloud-trace-context").expect("a trace");
    assert!(cloud.starts_with(trace) && cloud.ends_with("o=1"), "{cloud}");
    let line = proxy.wait_access("/parent", |line| line["path"] == "/parent");
    assert!(line.to_string().contains(trace), "{line}");

    let cloud = "105445aa7843bc8bf206b12000100000/123;o=1";
    let response = proxy.request("GET", "/cloud", &[("X-Cloud-Trace-Context", cloud)], b"");
    let passed = response.seen("traceparent").expect("a trace");
    assert!(passed.contains("105445aa7843bc8bf206b12000100000"), "{passed}");

    let valid = |header: &str| {
        let words: Vec<&str> = header.split('-').collect();
        let zero = words[1].bytes().all(|byte| byte == b'0') || words[2].bytes().all(|byte| byte == b'0');
        words.len() == 4 && words[1].len() == 32 && words[2].len() == 16 && !zero
    };
    let span = "b7ad6b7169203331";
    for bad in [
        "nonsense",
        "",
        "00-xyz-1-1",
        &format!("00-{}-{span}-01", "0".repeat(32)),
        &format!("00-{trace}-{}-01", "0".repeat(16)),
        &format!("ff-{trace}-{span}-01"),
        &format!("00-{}-{span}-01", trace.to_uppercase()),
        &format!("00-{trace}-{span}-01-more"),
        &format!("00-{trace}-{span}-1"),
    ] {
        let headers = [("traceparent", bad), ("tracestate", "a=1")];
        let response = proxy.request("GET", "/bad", &headers, b"");
        let made = response.seen("traceparent").expect("a trace");
        assert!(made != bad && valid(&made) && !made.contains(trace), "{bad}: {made}");
        assert_eq!(
            response.seen("tracestate"),
            None,
            "{bad}: it says something of a trace that is not there"
        );
    }
}

#[test]
fn traces_are_converted_and_their_ids_are_in_the_log() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let (parent, cloud) = ("traceparent", "X-Cloud-Trace-Context");
    let w3c = format!("00-{trace}-00000000000000ff-01");
    let later = format!("cc-{trace}-00000000000000ff-01-more");
    let other = "1".repeat(32);
    for (number, (headers, expected)) in [
        (vec![(parent, w3c.clone()), ("tracestate", "a=1".into())], Some((255, true))),
        (vec![(parent, later)], Some((255, true))),
        (vec![(parent, w3c.clone()), (cloud, format!("{other}/7;o=0"))], Some((255, true))),
        (vec![(cloud, format!("{trace}/255;o=1"))], Some((255, true))),
        (vec![(cloud, format!("{trace}/255;o=0"))], Some((255, false))),
        (vec![(cloud, format!("{}/255", trace.to_uppercase()))], Some((255, false))),
        (vec![(cloud, format!("{trace};o=1"))], None),
        (vec![(cloud, trace.to_owned())], None),
        (
            vec![(parent, w3c.clone()), (parent, w3c.clone()), (cloud, format!("{trace}/255;o=1"))],
            Some((255, true)),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/trace/{number}");
        let given: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = proxy.request("GET", &path, &given, b"");
        let told = response.seen("traceparent").expect("a trace");
        let told_cloud = response.seen("x-cloud-trace-context").expect("a trace");
        let line = proxy.wait_access(&path, |line| line["path"] == path);
        assert_eq!(line["trace_id"], trace, "{headers:?}");
        let span = u64::from_str_radix(line["span_id"].as_str().expect("a span"), 16).expect("hex");
        let sampled = line["sampled"].as_bool().expect("a flag");
        if let Some(expected) = expected {
            assert_eq!((span, sampled), expected, "{headers:?}");
        }
        assert!(span != 0, "{headers:?}");
        assert_eq!(told, format!("00-{trace}-{span:016x}-{:02x}", u8::from(sampled)), "{headers:?}");
        assert_eq!(told_cloud, format!("{trace}/{span};o={}", u8::from(sampled)), "{headers:?}");
        let state = headers.iter().find(|(name, _)| *name == "tracestate").map(|(_, value)| value.clone());
        assert_eq!(response.seen("tracestate"), state, "{headers:?}");
        assert_eq!(line["request_id"].as_str(), response.seen("x-appengine-request-log-id").as_deref());
    }
}

#[test]
fn internal_and_hop_by_hop_headers_of_a_response_end_here() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let headers = [
        "X-AppEngine-BlobKey:k",
        "X-AppEngine-Log-Marker:k",
        "Keep-Alive:timeout=5",
        "Connection:X-Hop",
        "X-Hop:1",
        "Proxy-Authenticate:Basic",
        "Trailer:X",
        "Server:gunicorn",
        "X-Stays:yes",
        "Content-Encoding:br",
    ];
    let query: Vec<String> = headers.iter().map(|header| format!("header={header}")).collect();
    let response = proxy.get(&format!("/answer?body=hello&{}", query.join("&")));
    for name in [
        "x-appengine-blobkey",
        "x-appengine-log-marker",
        "keep-alive",
        "x-hop",
        "proxy-authenticate",
        "trailer",
    ] {
        assert_eq!(response.header(name), None, "{response}");
    }
    assert_ne!(response.header("server"), Some("gunicorn"));
    assert_eq!(response.header("x-stays"), Some("yes"));
    assert_eq!(response.header("content-encoding"), Some("br"));
    assert_eq!(response.text(), "hello");
}

#[test]
fn responses_get_the_defaults_of_production() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    let response = proxy.get("/answer?body=x");
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert_eq!(response.header("expires"), Some("Fri, 01 Jan 1990 00:00:00 GMT"));
    assert!(response.header("date").is_some());
    let response =
        proxy.get("/answer?header=Cache-Control:public,+max-age=60&header=Content-Type:text/plain");
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(response.header("expires"), None);
    let response = proxy.get("/answer?header=Cache-Control:public,+max-age=60&header=Set-Cookie:a%3Db");
    assert_eq!(response.header("cache-control"), Some("max-age=60, private"));
    assert_eq!(response.all("set-cookie"), ["a=b"]);
    let response = proxy.get("/answer?header=Set-Cookie:a%3Db&header=Set-Cookie:c%3Dd");
    assert_eq!(response.all("set-cookie"), ["a=b", "c=d"]);
}

#[test]
fn error_pages_of_the_proxy_are_plain_and_echo_nothing() {
    let origin = Origin::start();
    let proxy = start(&origin, false);
    for request in [
        "GET /%00<script> HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "FOO /secret HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /_ah/login HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let response = proxy.raw(request);
        assert!(response.status >= 400, "{response}");
        assert!(!response.text().contains("script") && !response.text().contains("secret"), "{response}");
    }
    let response = proxy.get("/_ah/login");
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
}
