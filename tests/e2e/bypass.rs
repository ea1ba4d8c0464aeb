//! Ways around the 404 of a login handler. The origin must never see a request that any reader would take for a
//! protected page; and honest requests that merely look alike must reach the app byte for byte.

use std::time::Duration;

use crate::harness::client::Response;
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, h2c};
use crate::readings::some_reading;

const HANDLERS: &str = r"
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /(tasks|cron|jobs)/.*
  script: tasks.app
  login: admin
- url: /account|/account/.*
  script: account.app
  login: required
  secure: always
- url: /.*
  script: main.app
";

fn start(origin: &Origin) -> Proxy {
    App::new().handlers(HANDLERS).file("static/a.css", "a{}").upstream(origin).arg("--h2c").start()
}

/// Whether a reader somewhere could take this target for a protected page.
fn could_mean_a_protected_page(target: &str) -> bool {
    let bytes: Vec<u8> =
        target.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect();
    some_reading(&bytes, protected).unwrap_or_else(|| panic!("too many readings of {target}"))
}

fn protected(path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path);
    let path = format!("/{}", path.trim_start_matches('/'));
    ["/admin/", "/tasks/", "/cron/", "/jobs/", "/account/"].iter().any(|start| path.starts_with(start))
        || path == "/account"
}

/// Targets that some reader takes for a protected page.
const TRICKS: &[&str] = &[
    // As it is.
    "/admin/x",
    "/admin/",
    "/admin/..",
    "/admin/../x",
    "/admin/x?y=z",
    "/tasks/run",
    "/cron/run",
    "/jobs/run",
    "/account",
    "/account/close",
    // Encoded once.
    "/%61dmin/x",
    "/%61%64%6d%69%6e/x",
    "/%61%64%6D%69%6E%2f%78",
    "/admin%2fx",
    "/admin%2Fx",
    "/%2fadmin/x",
    "/acc%6funt",
    "/jo%62s/x",
    // Encoded twice and more.
    "/%2561dmin/x",
    "/admin%252fx",
    "/%25%36%31dmin/x",
    "/%252561dmin/x",
    "/%25252561dmin/x",
    "/acc%256funt",
    // Overlong UTF-8 and %u.
    "/admin%c0%afx",
    "/%c1%a1dmin/x",
    "/admin%e0%80%afx",
    "/admin%f0%80%80%afx",
    "/%25c1%25a1dmin/x",
    "/j%c0%a5c1%af%62s/",
    "/%u0061dmin/x",
    "/admin%u002fx",
    "/%U0061dmin/x",
    "/%25u0061dmin/x",
    // Dots.
    "/./admin/x",
    "/x/../admin/x",
    "/x/%2e%2e/admin/x",
    "/x/.%2e/admin/x",
    "/x/%252e%252e/admin/x",
    "/static/../admin/x",
    "/..//admin/x",
    "/../admin/x",
    "/x/..;/admin/x",
    "/x/..;a=b/admin/x",
    "/x/%2e%2e;/admin/x",
    "/x/..%2fadmin/x",
    "/x/..\\admin\\x",
    "/x%2f..%2fadmin/x",
    "/admin/./x",
    "/.;/admin/x",
    "/x/y/../../admin/x",
    "/x/%c0%ae%c0%ae/admin/x",
    // Slashes.
    "//admin/x",
    "///admin///x",
    "/admin//x",
    "/\\admin/x",
    "\\admin\\x",
    "/admin\\x",
    "/admin%5cx",
    "/%5cadmin%5cx",
    "/admin%255cx",
    "//account",
    "/%2f/account",
    // Parameters.
    "/admin;x=y/x",
    "/admin;/x",
    "/;a/admin/x",
    "/;a=b;c=d/admin;e/x",
    "/account;jsessionid=1",
    "/admin%3bx/x",
    "/account%3b",
    // Query and fragment read again.
    "/account%3fx",
    "/account%23x",
    "/account%253fx",
    "/account#x",
    "/admin/x#y",
    // NUL, control characters, blanks that vanish.
    "/account%00",
    "/account%00.css",
    "/%00/admin/x",
    "/admin/%00",
    "/ad%09min/x",
    "/ad%0amin/x",
    "/ad%0d%0amin/x",
    "/account%0a",
    "/account%250a",
    "/%7fadmin/x",
    // Full-width and other compatibility forms.
    "/%ef%bd%81dmin/x",
    "/\u{ff41}\u{ff44}\u{ff4d}\u{ff49}\u{ff4e}/x",
    "/admin%ef%bc%8fx",
    "/admin\u{ff0f}x",
    "/\u{24d0}dmin/x",
    "/adm\u{2071}n/x",
    "/x/%ef%bc%8e%ef%bc%8e/admin/x",
    // No slash, absolute forms, other schemes.
    "admin/x",
    "%61dmin/x",
    "%2fadmin/x",
    "http://localhost/admin/x",
    "HTTP://LOCALHOST/admin/x",
    "http://localhost//admin/x",
    "http://localhost/%61dmin/x",
    "https://localhost/admin/x",
    "ftp://localhost/admin/x",
    "javascript://localhost/admin/x",
    "http://elsewhere/admin/x",
    "http://user@localhost/admin/x",
    "http://localhost\\admin\\x",
    "http:///admin/x",
    "http:/admin/x",
    "http://localhost/x/../admin/x",
    "*/admin/x",
    "?/../admin/x",
];

#[test]
fn no_trick_with_the_target_reaches_the_app() {
    assert!(TRICKS.len() >= 40);
    let origin = Origin::start();
    let proxy = start(&origin);
    for target in TRICKS {
        for method in ["GET", "POST", "OPTIONS"] {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let response = proxy.raw(&head);
            let refused = matches!(response.status, 302 | 400 | 404);
            assert!(refused && origin.seen().is_empty(), "{head:?}: {response}\nseen: {:?}", origin.seen());
            if response.status == 302 {
                let location = response.header("location").unwrap_or_default();
                assert!(location.starts_with("http://localhost/"), "{target}: {location}");
            }
        }
    }
}

#[test]
fn the_plain_pages_and_their_alternatives_are_404_and_not_redirected() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for page in
        ["/admin/x", "/tasks/x", "/cron/x", "/jobs/x", "/account", "/account/x", "/%61dmin/x", "//admin/x"]
    {
        let response = proxy.get(page);
        assert_eq!(response.status, 404, "{page}: {response}");
        assert!(!response.text().contains("admin"), "the path is echoed: {response}");
    }
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn every_reading_the_test_knows_is_caught_on_random_walks() {
    // Rewrites a protected path backwards in pseudo-random order: what comes out may be refused or redirected,
    // but may not reach the app while a reader can still find the page in it.
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut dice = fastrand::Rng::with_seed(20_261_122);
    let pages = ["/admin/x", "/tasks/a", "/account", "/jobs/"];
    for _ in 0..400 {
        let mut target = (*dice.choice(&pages).expect("a page")).to_owned();
        for _ in 0..dice.usize(1..4) {
            target = disguise(&target, &mut dice);
        }
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let response = proxy.raw(&head);
        let seen = origin.targets();
        assert!(seen.is_empty(), "{target:?} reached the app: {response}");
        assert!(matches!(response.status, 302 | 400 | 404), "{target:?}: {response}");
    }
}

fn disguise(target: &str, dice: &mut fastrand::Rng) -> String {
    let letters: Vec<char> = target.chars().collect();
    let at = dice.usize(1..letters.len());
    let (before, after) =
        (letters[..at].iter().collect::<String>(), letters[at + 1..].iter().collect::<String>());
    let letter = letters[at];
    let code = u32::from(letter);
    match dice.u8(0..9) {
        0 | 1 => {
            format!("{before}%{code:02x}{after}").replace(if code > 0x7f { "%" } else { "\u{0}" }, "%25")
        }
        2 if letter == '/' => format!("{before}//{after}"),
        3 if letter == '/' => format!("{before}\\{after}"),
        4 if letter == '/' => format!("{before};a=b/{after}"),
        5 => format!("/x/..{target}"),
        6 => format!("/.{target}"),
        7 if code < 0x80 => format!("{before}%u{code:04x}{after}"),
        8 if code < 0x80 => {
            format!("{before}%{:02x}%{:02x}{after}", 0xc0 | (code >> 6), 0x80 | (code & 0x3f))
        }
        _ => format!("/{target}"),
    }
}

/// Requests that are odd below the target. Each is sent as it stands; whatever comes back, the app sees no
/// protected page, neither in this request nor hidden in its body.
fn odd_requests() -> Vec<(&'static str, String)> {
    let inner = "GET /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = inner.len();
    let chunk = format!("{length:x}\r\n{inner}\r\n0\r\n\r\n");
    let mut odd = vec![
        ("two spaces", "GET  /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a tab", "GET\t/admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a space before", " GET /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a space after", "GET /admin/x HTTP/1.1 \r\nHost: localhost\r\n\r\n".to_owned()),
        ("a vertical tab", "GET /\x0badmin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a space within", "GET /x /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("no version", "GET /admin/x\r\n\r\n".to_owned()),
        ("version 1.0", "GET /admin/x HTTP/1.0\r\n\r\n".to_owned()),
        ("version 2.0", "GET /admin/x HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned()),
        ("version 1.2", "GET /admin/x HTTP/1.2\r\nHost: localhost\r\n\r\n".to_owned()),
        ("bare LF", "GET /admin/x HTTP/1.1\nHost: localhost\n\n".to_owned()),
        ("blank lines before", "\r\n\r\nGET /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a bare CR in the target", "GET /x\rGET /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("no Host", "GET /admin/x HTTP/1.1\r\n\r\n".to_owned()),
        ("an empty Host", "GET /admin/x HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        ("two Hosts", "GET /admin/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a path in Host", "GET /x HTTP/1.1\r\nHost: localhost/admin/x?\r\n\r\n".to_owned()),
        ("a user in Host", "GET /x HTTP/1.1\r\nHost: admin@localhost\r\n\r\n".to_owned()),
        ("a line in Host", "GET /x HTTP/1.1\r\nHost: a\rGET /admin/x HTTP/1.1\r\n\r\n".to_owned()),
        ("a folded header", format!("GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\r\n {inner}")),
        ("a header with a bare LF", format!("GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\n\n{inner}")),
        ("a method of another world", "ADMIN /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("a method in lower case", "get /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned() + inner),
        ("CONNECT with a path", "CONNECT /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("TRACE", "TRACE /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("pipelining", format!("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n{inner}")),
        ("pipelining after HEAD", format!("HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n{inner}")),
        ("pipelining after a refusal", format!("GET /admin/y HTTP/1.1\r\nHost: localhost\r\n\r\n{inner}")),
        ("pipelining after a file", format!("GET /static/a.css HTTP/1.1\r\nHost: localhost\r\n\r\n{inner}")),
        ("an upgrade with more behind it", format!("GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n{inner}")),
        ("a refused websocket with more behind it", format!("GET /no-upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{inner}")),
        ("a websocket to the page", "GET /admin/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned()),
        ("an upgrade to h2c", "GET /admin/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".to_owned()),
        ("an upgrade to h2c elsewhere", format!("GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{inner}")),
        ("Expect with the body at once", format!("POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n{inner}")),
        ("headers that rewrite", "GET /x HTTP/1.1\r\nHost: localhost\r\nX-AppEngine-User-Is-Admin: 1\r\nX-Compat-Script: admin.app\r\nX-Compat-Handler: 1\r\n\r\n".to_owned()),
    ];
    let framings = [
        ("CL and TE", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked")),
        ("TE and CL", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}")),
        ("CL 0 and TE", "Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned()),
        ("CL twice", format!("Content-Length: 0\r\nContent-Length: {length}")),
        ("CL twice, equal", format!("Content-Length: {length}\r\nContent-Length: {length}")),
        ("CL as a list", format!("Content-Length: 0, {length}")),
        ("CL with a sign", format!("Content-Length: +{length}")),
        ("CL with zeros", format!("Content-Length: 00{length}")),
        ("CL negative", "Content-Length: -1".to_owned()),
        ("CL empty", "Content-Length:".to_owned()),
        ("CL hexadecimal", format!("Content-Length: 0x{length:x}")),
        ("CL with a blank", "Content-Length: 0 1".to_owned()),
        ("CL with a space before the colon", format!("Content-Length : {length}")),
        ("CL in underscores", format!("Content_Length: {length}")),
        ("TE xchunked", "Transfer-Encoding: xchunked".to_owned()),
        ("TE identity, chunked", "Transfer-Encoding: identity, chunked".to_owned()),
        ("TE chunked, identity", "Transfer-Encoding: chunked, identity".to_owned()),
        ("TE gzip, chunked", "Transfer-Encoding: gzip, chunked".to_owned()),
        ("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned()),
        ("TE twice, differing", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned()),
        ("TE with a space before the colon", "Transfer-Encoding : chunked".to_owned()),
        ("TE with a vertical tab", "Transfer-Encoding: \x0bchunked".to_owned()),
        ("TE folded", "Transfer-Encoding:\r\n chunked".to_owned()),
        ("TE quoted", "Transfer-Encoding: \"chunked\"".to_owned()),
        ("TE in underscores", "Transfer_Encoding: chunked".to_owned()),
        ("TE empty", "Transfer-Encoding:".to_owned()),
        ("neither", "X: y".to_owned()),
    ];
    for (name, framing) in &framings {
        for body in [inner, &chunk, &format!("0\r\n\r\n{inner}")] {
            odd.push((name, format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}")));
            odd.push((
                name,
                format!("GET /static/a.css HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}"),
            ));
        }
    }
    for size in
        ["0x0", "+0", "-0", " 0", "0 ", "0;x=\n", "00000000000000000", "ffffffffffffffff1", "0\n\n", "g"]
    {
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        odd.push(("a chunk size", format!("{head}{size}\r\n\r\n{inner}")));
        odd.push(("a chunk size after a chunk", format!("{head}1\r\na\r\n{size}\r\n\r\n{inner}")));
    }
    odd.push(("a chunk without its end", format!("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n{inner}")));
    odd.push((
        "1.0 with chunks",
        format!("POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
    ));
    odd.push((
        "1.0 kept alive",
        format!("GET /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n{inner}"),
    ));
    odd
}

#[test]
fn no_odd_request_brings_a_protected_page_to_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let odd = odd_requests();
    // Side by side: each waits a moment for whatever may come late.
    std::thread::scope(|scope| {
        for part in odd.chunks(odd.len().div_ceil(12)) {
            let proxy = &proxy;
            scope.spawn(move || {
                for (name, request) in part {
                    let mut connection = proxy.connect();
                    connection.send(request);
                    let answers = connection.all_responses(Duration::from_millis(300));
                    let leaked = answers.iter().any(shows_protected);
                    assert!(!leaked, "{name}: {request:?}: {answers:#?}");
                }
            });
        }
    });
    let seen = origin.seen();
    for request in &seen {
        assert!(!could_mean_a_protected_page(&request.target), "the app saw {request:#?}");
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!names.iter().any(|name| name.contains('_')), "{names:?}");
        assert_ne!(request.header("x-compat-script"), Some("admin.app"));
    }
    assert!(seen.iter().any(|request| request.target == "/x"), "nothing at all came through");
    assert_eq!(proxy.get("/x").status, 200, "it still works");
}

fn shows_protected(answer: &Response) -> bool {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else { return false };
    json["target"].as_str().is_some_and(could_mean_a_protected_page)
}

#[test]
fn no_trick_over_http_2_reaches_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut sent = 0;
    for target in TRICKS.iter().filter(|target| target.starts_with('/')) {
        // Some targets cannot even be written by an honest HTTP/2 client.
        if format!("http://localhost{target}").parse::<http::Uri>().is_err() {
            continue;
        }
        sent += 1;
        let response =
            h2c::get(proxy.address(), target, &[]).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert!(matches!(response.status, 302 | 400 | 404), "{target}: {response}");
        assert!(origin.seen().is_empty(), "{target}: {response}");
    }
    assert!(sent > 40, "only {sent} tricks were sent");
    assert_eq!(h2c::get(proxy.address(), "/x", &[]).expect("an answer").status, 200);
}

#[test]
fn hand_made_http_2_frames_bring_no_protected_page_to_the_app() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let usual: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/x")];
    let with = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
        usual
            .iter()
            .map(|(known, usual)| if *known == name { (name, value) } else { (*known, *usual) })
            .collect()
    };
    let and = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
        usual.iter().copied().chain([(name, value)]).collect()
    };
    let odd = [
        with(":path", "admin/x"),
        with(":path", "*"),
        with(":path", ""),
        with(":path", "http://localhost/admin/x"),
        with(":path", "/admin/x"),
        with(":path", "/x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /admin/x"),
        with(":path", "/x\r\n\r\nGET /admin/x"),
        with(":path", "/\tadmin/x"),
        with(":path", " /admin/x"),
        with(":path", "\\admin\\x"),
        with(":method", "GET /admin/x HTTP/1.1\r\nX: "),
        with(":method", "CONNECT"),
        with(":scheme", "ftp"),
        with(":scheme", "http://localhost/admin/x?"),
        with(":authority", "localhost/admin/x?"),
        with(":authority", "admin@localhost"),
        with(":authority", "localhost\r\n\r\nGET /admin/x HTTP/1.1"),
        and("x", "a\r\n\r\nGET /admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        and("x\r\ny", "a"),
        and("transfer-encoding", "chunked"),
        and("connection", "keep-alive"),
        and("host", "admin"),
        and("X-Upper", "a"),
        and(":path", "/admin/x"),
        and("content-length", "10"),
        and("upgrade", "websocket"),
        and("x_appengine_user_is_admin", "1"),
    ];
    for headers in odd {
        h2c::hand_made(proxy.address(), &headers);
    }
    // What came through came through as what it is.
    assert_eq!(h2c::get(proxy.address(), "/last", &[]).expect("an answer").status, 200);
    for seen in origin.seen() {
        assert!(seen.target == "/x" || seen.target == "/last", "the app saw {seen:#?}");
        assert!(
            !seen.headers.iter().any(|(name, value)| name.contains('_') || value.contains("GET")),
            "{seen:#?}"
        );
    }
}

#[test]
fn without_h2c_the_preface_of_http_2_is_refused() {
    let origin = Origin::start();
    let proxy = App::new().handlers(HANDLERS).file("static/a.css", "a{}").upstream(&origin).start();
    let response = proxy.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(response.status, 400, "{response}");
    assert!(origin.seen().is_empty());
}

#[test]
fn what_only_looks_alike_reaches_the_app_byte_for_byte() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let honest = [
        "/",
        "/administrator",
        "/admin",
        "/Admin/x",
        "/ADMIN/x",
        "/admin./x",
        "/admin%20/x",
        "/pub/admin",
        "/pub/admin/x",
        "/a%2Fb",
        "/a%2fb",
        "/a%252Fb",
        "/x;y=z",
        "/x;admin/y",
        "/caf%E9",
        "/caf%C3%A9",
        "/caf\u{e9}",
        "/..hidden",
        "/...",
        "/x?u=/admin/x",
        "/x?u=/../admin/x",
        "/x?/admin/x",
        "/x?a=b?c=d",
        "/x?",
        "/?",
        "/x?%zz",
        "/x?q=%00%0a",
        "/%zz",
        "/100%",
        "/a+b",
        "/a%20b",
        "/a:b@c",
        "/a,b=c&d$e!f~g",
        "/(a)'*",
        "/%7Euser",
        "/{a}|b^c[d]",
        "/x\"y",
        "/accounts",
        "/accountant/x",
        "/job/x",
        "/tasksx/",
        "/%41dmin/x",
        "//x",
        "/x//y",
        "/x\\y",
        "/%F0%9F%98%80",
    ];
    for target in honest {
        origin.clear();
        let response =
            proxy.raw(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let sent: String = target.bytes().map(char::from).collect();
        assert_eq!(response.status, 200, "{target}: {response}");
        assert_eq!(origin.targets(), [sent], "{target}");
        assert_eq!(origin.seen()[0].header("x-compat-script"), Some("main.app"), "{target}");
    }
}

#[test]
fn an_absolute_target_reaches_the_app_in_origin_form() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for (sent, wanted) in [
        ("http://localhost/x?y=z", "/x?y=z"),
        ("http://localhost", "/"),
        ("http://localhost?q", "/?q"),
        ("https://localhost/a%2Fb", "/a%2Fb"),
    ] {
        origin.clear();
        let response =
            proxy.raw(format!("GET {sent} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((response.status, origin.targets()), (200, vec![wanted.to_owned()]), "{sent}: {response}");
    }
    // pingora's parser compares case where RFC 9110, section 4.2.3, does not.
    origin.clear();
    let response =
        proxy.raw("GET HTTP://LOCALHOST/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(response.status == 400 || origin.targets() == ["/x"], "{response}");
}

#[test]
fn the_readings_of_this_test_find_what_they_should() {
    for target in TRICKS {
        let bytes: String = target.bytes().map(char::from).collect();
        let odd = ["/admin/..", "/admin/../x", "*/admin/x", "?/../admin/x", "http:/admin/x"].contains(target);
        assert!(odd || could_mean_a_protected_page(&bytes), "{target}");
    }
    for target in ["/administrator", "/admin", "/pub/admin/x", "/x?u=/admin/x", "/Admin/x", "/accounts"] {
        assert!(!could_mean_a_protected_page(target), "{target}");
    }
}
