//! What must never happen, for all inputs: the fuzzer's questions, asked of generated inputs in every run of the suite.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod heads;
mod readings;
mod targets;

use proptest::prelude::*;

/// Pieces that heads go wrong with.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "OPTIONS", "get", "HEAD", "CONNECT", "", "G T"]);
    let blank = prop::sample::select(vec![" ", "  ", "\t", "\x0b", " \t"]);
    let target = prop_oneof![
        "[a-z/?#%@:.;\\\\ *]{0,12}",
        prop::sample::select(vec![
            "/",
            "*",
            "http://a/x",
            "http://a",
            "http://b/",
            "//a/b",
            "http://a?x",
            "ftp://a/"
        ])
        .prop_map(str::to_owned),
    ];
    let version = prop::sample::select(vec![
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.1 ",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.2",
        "",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\n", "\r\r\n", "\r", "\n\r\n"]);
    let name = prop::sample::select(vec![
        "Host",
        "host",
        "HOST",
        "Content-Length",
        "content-length",
        "Content_Length",
        "Transfer-Encoding",
        "Transfer_Encoding",
        "Transfer-Encoding ",
        " Host",
        "X-AppEngine-User-Email",
        "x_appengine_user_email",
        "X-Forwarded-For",
        "X-Compat-Script",
        "Connection",
        "X",
        "",
        "X-Google-Real-IP",
        "Upgrade",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "a",
            "",
            "b",
            "3",
            "03",
            "3, 3",
            "+3",
            "0x3",
            "chunked",
            "Chunked",
            "identity, chunked",
            "gzip, chunked",
            "\x0bchunked",
            " chunked",
            "chunked ",
            "x-compat-script, host",
            "a:80",
            "u@a",
            "a/b",
            "1",
            "root@a",
            "close",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,6}",
    ];
    let separator = prop::sample::select(vec![": ", ":", " : ", ":\t", ":\r\n ", " "]);
    let header = (name, separator, value, end.clone()).prop_map(|(a, b, c, d)| format!("{a}{b}{c}{d}"));
    let line = (method, blank.clone(), target, blank, version, end)
        .prop_map(|(a, b, c, d, e, f)| format!("{a}{b}{c}{d}{e}{f}"));
    (line, prop::collection::vec(header, 0..5)).prop_map(|(line, headers)| {
        let mut bytes = line.into_bytes();
        bytes.extend(headers.concat().into_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes
    })
}

/// A sound head with one thing broken in it.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop::sample::select(vec![
        &b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"[..],
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
    ]);
    (sound, any::<prop::sample::Index>(), any::<u8>(), 0..4_u8).prop_map(|(head, at, byte, how)| {
        let mut head = head.to_vec();
        let at = at.index(head.len());
        match how {
            0 => head[at] = byte,
            1 => head.insert(at, byte),
            2 => drop(head.remove(at)),
            _ => {}
        }
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_head_that_passes_can_be_read_in_one_way_only(bytes in head()) {
        heads::agree(&bytes);
    }

    #[test]
    fn a_head_with_one_thing_broken_is_refused_or_read_as_before(bytes in nearly_right()) {
        heads::agree(&bytes);
    }

    #[test]
    fn no_target_reaches_the_app_that_some_reader_takes_for_a_protected_page(target in targets::disguised()) {
        targets::judge(target.as_bytes());
    }

    #[test]
    fn no_bytes_of_a_target_reach_a_protected_page(target in prop::collection::vec(any::<u8>(), 0..24)) {
        targets::judge(&[b"/", target.as_slice()].concat());
    }
}

#[test]
fn sound_heads_pass() {
    for head in [
        &b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"[..],
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(heads::agree(head), "{:?}", String::from_utf8_lossy(head));
    }
}
