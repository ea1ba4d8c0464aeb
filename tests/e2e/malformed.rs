//! Answers of the app that are no answers: 502, and the next client gets its own. And what an upgrade may become.

use std::time::Duration;

use crate::harness::client::Framing;
use crate::harness::scripted::Scripted;
use crate::harness::scripted::Then::{self, Close, Keep};
use crate::harness::{App, Proxy, h2c};

/// Answers in which no head can be read: each is 502.
fn without_a_head() -> Vec<(Vec<u8>, Then)> {
    let long = |count: usize| "x".repeat(count);
    let texts = [
        "what is HTTP?\r\n\r\n".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1200 OK\r\n\r\n".to_owned(),
        "200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nA\0: b\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 0\r\n\r\n", long(2_000_000)),
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "A: b\r\n".repeat(2000)),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /admin".to_owned(),
        String::new(),
        "HTTP/1.1 200 OK\r\nContent-".to_owned(),
    ];
    let mut all: Vec<(Vec<u8>, Then)> = Vec::new();
    for text in texts {
        // Those that are cut short would be waited for.
        let keep = if text.is_empty() || text.ends_with('-') { Close } else { Keep };
        all.push((text.into_bytes(), keep));
    }
    all
}

/// Answers whose body goes wrong, or that bring more than one: what a client may see of them, and what not.
fn with_too_much() -> Vec<(Vec<u8>, Then)> {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{second}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodpoison".to_owned(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n{second}"),
        format!("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n{second}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n{second}"),
        format!("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n{second}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n{second}"),
        format!("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood{second}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{second}"),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{second}"),
        format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{second}"),
    ]
    .map(|text| (text.into_bytes(), Keep))
    .to_vec()
}

/// Bodies that break: the client must be able to tell.
fn broken() -> Vec<(Vec<u8>, Then)> {
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngo",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngoodXX5\r\nworse\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\ngood\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\ngood\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\ngood\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ngood\r\n0\r\n\r\n",
    ]
    .map(|text| (text.as_bytes().to_vec(), Close))
    .to_vec()
}

fn start(app: &Scripted) -> Proxy {
    App::new()
        .handlers("- url: /.*\n  script: main.app\n")
        .args(["--upstream", &app.address(), "--threads", "1", "--h2c", "--request-timeout", "5s"])
        .start()
}

/// Several ways a request travels to the app: by our own connections, and by pingora's.
fn ask(proxy: &Proxy, target: &str, way: usize) -> Result<(u16, Vec<u8>), String> {
    if way == 2 {
        return h2c::get(proxy.address(), target, &[]).map(|answer| (answer.status, answer.body));
    }
    let mut connection = proxy.connect();
    connection.read_timeout(Duration::from_secs(8));
    let version = if way == 0 { "1.1" } else { "1.0" };
    connection.send(format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n"));
    let answer = connection.response_to("GET").map_err(|error| error.to_string())?;
    // What has no end of its own cannot be told from what was cut.
    if answer.framing == Framing::Close && way == 0 {
        return Err("it ended with the connection".to_owned());
    }
    Ok((answer.status, answer.body))
}

/// A dozen ordinary requests, each of which must get its own answer.
#[track_caller]
fn next_clients_get_their_own(proxy: &Proxy, after: &str) {
    for way in 0..3 {
        for number in 0..3 {
            let target = format!("/mine-{way}-{number}");
            let answer = ask(proxy, &target, way).unwrap_or_else(|error| panic!("after {after}: {error}"));
            assert_eq!(
                (answer.0, String::from_utf8_lossy(&answer.1).as_ref()),
                (200, target.as_str()),
                "after {after}"
            );
        }
    }
}

#[test]
fn an_answer_without_a_readable_head_is_502_and_poisons_nobody() {
    let answers = without_a_head();
    let app = Scripted::start(answers.clone());
    let proxy = start(&app);
    for (number, (bytes, _)) in answers.iter().enumerate() {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(100).collect();
        for way in 0..3 {
            let answer = ask(&proxy, &format!("/{number}"), way);
            let (status, body) = answer.unwrap_or_else(|error| panic!("{shown:?} by way {way}: {error}"));
            let body = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(status, 502, "{shown:?} by way {way}: {body}");
            assert!(!body.contains("admin"), "{shown:?}: {body}");
        }
        next_clients_get_their_own(&proxy, &shown);
    }
    let told = proxy.generated("upstream_reset");
    assert_eq!(told, (answers.len() * 3) as f64, "each is counted");
}

#[test]
fn what_an_answer_brings_too_much_is_nobodys_answer() {
    let answers = with_too_much();
    let app = Scripted::start(answers.clone());
    let proxy = start(&app);
    for (number, (bytes, _)) in answers.iter().enumerate() {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        for way in 0..3 {
            if let Ok((status, body)) = ask(&proxy, &format!("/{number}"), way) {
                let body = String::from_utf8_lossy(&body).into_owned();
                let fine =
                    matches!((status, body.as_str()), (200, "good" | "") | (204 | 304, "")) || status == 502;
                assert!(fine, "{shown:?} by way {way}: {status} {body}");
            }
            next_clients_get_their_own(&proxy, &shown);
        }
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let answers = broken();
    let app = Scripted::start(answers.clone());
    let proxy = start(&app);
    for (number, (bytes, _)) in answers.iter().enumerate() {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        for way in [0, 2] {
            match ask(&proxy, &format!("/{number}"), way) {
                Err(_) => {}
                Ok((status, body)) => assert_eq!(status, 502, "{shown:?} by way {way}: {body:?}"),
            }
        }
        next_clients_get_their_own(&proxy, &shown);
    }
}

#[test]
fn an_upgrade_is_a_tunnel_only_for_a_websocket_and_after_the_apps_101() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let declined = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno";
    let app =
        Scripted::start([switched, other, declined].map(|text| (text.as_bytes().to_vec(), Keep)).to_vec());
    let proxy = start(&app);
    let upgrade = |number: usize, what: &str, behind: &str| {
        let mut connection = proxy.connect();
        connection.send(format!(
            "GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {what}\r\n\
             Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n{behind}"
        ));
        let answer = connection.response_to("GET");
        (connection, answer)
    };
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    // The one right way: what comes behind is the app's.
    let (mut connection, answer) = upgrade(0, "websocket", "");
    assert_eq!(answer.expect("an answer").status, 101);
    connection.send(smuggled);
    assert!(String::from_utf8_lossy(&connection.exactly(47).expect("raw bytes")).contains("/smuggled"));
    // The app declines: what comes behind is no tunnel, whether it is answered or not.
    let (mut connection, answer) = upgrade(2, "websocket", smuggled);
    assert_eq!(answer.expect("an answer").status, 426);
    let rest = connection.all_responses(Duration::from_secs(2));
    assert!(rest.iter().all(|answer| answer.status == 200 || answer.status >= 400), "{rest:?}");
    assert!(
        !proxy.access().iter().any(|line| line["status"] == 101 && line["path"] == "/2"),
        "{}",
        proxy.output()
    );
    // Another protocol is not passed on: the app's 101 to that is an answer to a question nobody asked.
    for what in ["x", "h2c", "TLS/1.0", "websocketx"] {
        for number in [0, 1] {
            let (mut connection, answer) = upgrade(number, what, smuggled);
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 502, "{what}: {answer}");
            let rest = connection.rest().expect("the end");
            assert!(!String::from_utf8_lossy(&rest).contains("smuggled"), "{what}: {rest:?}");
        }
    }
    next_clients_get_their_own(&proxy, "upgrades");
}
