//! Nothing a client sends is ever seen by the app as App Engine's own word, or ours: every such name, in every spelling
//! that some server reads as the same, by every way a header can come.

use std::collections::BTreeSet;

use crate::harness::origin::{Origin, Seen};
use crate::harness::{App, Proxy, h2c};

/// What only App Engine, its front end or we may say.
const NAMES: [&str; 34] = [
    "X-AppEngine-User-Email",
    "X-AppEngine-User-Id",
    "X-AppEngine-User-Nickname",
    "X-AppEngine-User-Organization",
    "X-AppEngine-User-Is-Admin",
    "X-AppEngine-User-IP",
    "X-AppEngine-Remote-Addr",
    "X-AppEngine-Https",
    "X-AppEngine-Auth-Domain",
    "X-AppEngine-Country",
    "X-AppEngine-Region",
    "X-AppEngine-City",
    "X-AppEngine-CityLatLong",
    "X-AppEngine-Cron",
    "X-AppEngine-QueueName",
    "X-AppEngine-TaskName",
    "X-AppEngine-TaskRetryCount",
    "X-AppEngine-TaskExecutionCount",
    "X-AppEngine-TaskETA",
    "X-AppEngine-FailFast",
    "X-AppEngine-Inbound-Appid",
    "X-AppEngine-Request-Id-Hash",
    "X-AppEngine-Request-Log-Id",
    "X-AppEngine-Default-Version-Hostname",
    "X-AppEngine-Timeout-Ms",
    "X-AppEngine-Fake-Is-Admin",
    "X-AppEngine-Cntry",
    "X-AppEngine-BlobSize",
    "X-Google-Real-IP",
    "X-Google-Internal-SkipAdminCheck",
    "X-Goog-IAP-JWT-Assertion",
    "X-Goog-Authenticated-User-Email",
    "X-Compat-Script",
    "X-Compat-Handler",
];
/// In no answer of ours, whatever the name.
const LIE: &str = "forged-by-a-client";

/// Spellings of a name that WSGI, CGI and their like read as the same.
fn spellings(name: &str) -> Vec<String> {
    let second = |letter: char| {
        // Only one dash is turned, and it is not the first.
        let at = name.match_indices('-').nth(1).map_or(0, |(at, _)| at);
        format!("{}{letter}{}", &name[..at], &name[at + 1..])
    };
    let swapped: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_uppercase() {
                letter.to_ascii_lowercase()
            } else {
                letter.to_ascii_uppercase()
            }
        })
        .collect();
    let all = [
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        swapped,
        name.replace('-', "_"),
        name.to_lowercase().replace('-', "_"),
        name.to_uppercase().replace('-', "_"),
        second('_'),
        name.replacen('-', "_", 1),
    ];
    all.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn start(origin: &Origin) -> Proxy {
    App::new().handlers("- url: /.*\n  script: main.app\n").upstream(origin).arg("--h2c").start()
}

/// What the app saw holds no lie, no underscore, and each of our words once.
#[track_caller]
fn expect_honest(seen: &[Seen], what: &str) {
    for request in seen {
        let mut ours = BTreeSet::new();
        for (name, value) in &request.headers {
            let plain = name.to_ascii_lowercase().replace('_', "-");
            assert!(!name.contains('_'), "{what}: `{name}` reached the app");
            assert!(!value.contains(LIE) || plain == "x-honest", "{what}: `{name}: {value}` reached the app");
            if NAMES.iter().any(|known| known.eq_ignore_ascii_case(&plain)) {
                assert!(ours.insert(plain.clone()), "{what}: `{name}` reached the app twice");
            }
        }
        for (name, value) in [
            ("x-appengine-user-is-admin", "0"),
            ("x-appengine-user-email", ""),
            ("x-appengine-user-ip", "127.0.0.1"),
            ("x-compat-script", "main.app"),
        ] {
            assert_eq!(request.header(name), Some(value), "{what}: {name}");
        }
        for name in
            ["x-appengine-cron", "x-appengine-queuename", "x-appengine-inbound-appid", "x-google-real-ip"]
        {
            assert_eq!(request.header(name), None, "{what}: {name}");
        }
    }
}

#[test]
fn no_spelling_of_a_forged_header_reaches_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut tried = 0;
    let mut connection = proxy.connect();
    for name in NAMES {
        for spelling in spellings(name) {
            tried += 1;
            connection.request("GET", "/x", &[("X-Honest", LIE), (&spelling, LIE), (&spelling, LIE)], b"");
            let answer = connection.response_to("GET").expect("an answer");
            assert_eq!(answer.status, 200, "{spelling}: {answer}");
            assert_eq!(answer.seen("x-honest").as_deref(), Some(LIE), "{spelling}");
        }
    }
    println!("{tried} spellings");
    assert!(tried >= 250, "{tried}");
    assert_eq!(origin.seen().len(), tried);
    expect_honest(&origin.seen(), "a header");
    assert!(proxy.metric("compat_proxy_headers_stripped_total{kind=\"appengine\"}") >= 200.0);
    assert!(proxy.metric("compat_proxy_headers_stripped_total{kind=\"underscore\"}") >= 250.0);
}

#[test]
fn no_spelling_of_a_forged_header_reaches_the_app_over_http_2() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for name in NAMES {
        for spelling in spellings(name).into_iter().filter(|spelling| *spelling == spelling.to_lowercase()) {
            let answer =
                h2c::get(proxy.address(), "/x", &[(&spelling, LIE), ("x-honest", "yes")]).expect("an answer");
            assert_eq!((answer.status, answer.seen("x-honest").as_deref()), (200, Some("yes")), "{spelling}");
        }
    }
    let usual: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/x")];
    for name in [
        ":x-appengine-cron",
        "X-AppEngine-Cron",
        ":authority",
        "x-appengine-cron:",
        "x-appengine-cron ",
        "x_compat_script",
    ] {
        h2c::hand_made(proxy.address(), &usual.iter().copied().chain([(name, LIE)]).collect::<Vec<_>>());
    }
    expect_honest(&origin.seen(), "http/2");
}

#[test]
fn no_other_way_brings_a_forged_header_to_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let requests = [
        // In trailers.
        format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-AppEngine-Cron\r\n\r\n1\r\na\r\n0\r\nX-AppEngine-Cron: {LIE}\r\n\r\n"),
        // In a chunk's extension.
        format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;X-AppEngine-Cron={LIE}\r\na\r\n0\r\n\r\n"),
        // Ours, named as belonging to the connection.
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: x-appengine-user-is-admin, x-appengine-user-email\r\n\r\n".to_owned(),
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: x-compat-script\r\nConnection: x-appengine-user-ip\r\n\r\n".to_owned(),
        "GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, X-Compat-Script, X-AppEngine-User-IP\r\n\r\n".to_owned(),
        // Both at once: sent, and named.
        format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Compat-Script: {LIE}\r\nConnection: close, x-compat-script\r\n\r\n"),
        // With a websocket, which pingora carries.
        format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-compat-script\r\nUpgrade: websocket\r\nX-Compat-Script: {LIE}\r\nX_AppEngine_Cron: {LIE}\r\n\r\n"),
        // With HTTP/1.0, chunks and Expect, which pingora carries too.
        format!("GET /x HTTP/1.0\r\nHost: a\r\nX-AppEngine-Cron: {LIE}\r\nX_AppEngine_Cron: {LIE}\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX_Compat-Script: {LIE}\r\n\r\n0\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\nX-AppEngine_User-Email: {LIE}\r\n\r\na"),
        // Names no parser should take.
        format!("GET /x HTTP/1.1\r\nHost: a\r\nX-AppEngine-Cron : {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\n X-AppEngine-Cron: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\n\tX-AppEngine-Cron: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nA: b\rX-AppEngine-Cron: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nA: b\nX-AppEngine-Cron: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nX-AppEngine-Cron\0: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\n: {LIE}\r\nX-AppEngine-Cron: {LIE}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nX-AppEngine-Cron: {LIE}\r\nHost: a\r\n\r\n"),
    ];
    let mut served = 0;
    for request in &requests {
        let answer = proxy.raw(request);
        assert!(matches!(answer.status, 200 | 400), "{request:?}: {answer}");
        served += usize::from(answer.status == 200);
    }
    assert!(served >= 10, "{served} were served");
    // Those that were refused because of what they name reached nobody; all others came without a lie.
    expect_honest(&origin.seen(), "another way");
}
