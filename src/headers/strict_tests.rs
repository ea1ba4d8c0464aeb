//! Heads that can be read in two ways, and those that merely look so.

use super::*;

fn head(target: &str, method: &str, headers: &[(&str, &str)]) -> Result<String, Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let uri = http::Uri::from_static("/");
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    check(&method, Version::HTTP_11, target.as_bytes(), &uri, &map, 100).map(|head| match head.asked {
        Asked::Server => "*".to_owned(),
        Asked::Resource(Target { path, query, .. }) => match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        },
    })
}

fn get(target: &str) -> Result<String, Refusal> {
    head(target, "GET", &[("host", "a")])
}

#[test]
fn a_target_is_read_in_one_way_or_refused() {
    assert_eq!(get("/x?y=1?2"), Ok("/x?y=1?2".to_owned()));
    assert_eq!(get("http://a/x"), Ok("/x".to_owned()));
    assert_eq!(get("HTTP://A/x"), Ok("/x".to_owned()));
    assert_eq!(get("http://a"), Ok("/".to_owned()));
    assert_eq!(get("http://a?q"), Ok("/?q".to_owned()));
    for bad in
        ["admin", " /x", "/a b", "/\u{1}", "*", "ftp://a/x", "http://b/x", "http://u@a/x", "http://a#x", ""]
    {
        assert!(matches!(get(bad), Err(Refusal::Ambiguous(_))), "{bad:?}");
    }
    assert_eq!(head("*", "OPTIONS", &[("host", "a")]), Ok("*".to_owned()));
}

#[test]
fn a_body_has_one_length_or_is_refused() {
    let post = |headers: &[(&str, &str)]| {
        let mut all = vec![("host", "a")];
        all.extend(headers);
        head("/", "POST", &all).map(|_| ()).map_err(Refusal::status)
    };
    assert_eq!(post(&[("content-length", "3")]), Ok(()));
    assert_eq!(post(&[("content-length", "0")]), Ok(()));
    assert_eq!(post(&[("transfer-encoding", "Chunked")]), Ok(()));
    assert_eq!(post(&[("content-length", "101")]), Err(413));
    assert_eq!(post(&[("content-length", "99999999999999999999999")]), Err(413));
    for bad in ["003", "+3", "3, 3", "", "0x3", "3 "] {
        assert_eq!(post(&[("content-length", bad)]), Err(400), "{bad:?}");
    }
    assert_eq!(post(&[("content-length", "3"), ("content-length", "3")]), Err(400));
    assert_eq!(post(&[("content-length", "3"), ("transfer-encoding", "chunked")]), Err(400));
    assert_eq!(post(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]), Err(400));
    assert_eq!(post(&[("transfer-encoding", "gzip, chunked")]), Err(501));
    assert_eq!(post(&[("transfer-encoding", "identity")]), Err(501));
}

#[test]
fn a_host_is_a_name_with_an_optional_port() {
    for good in ["a", "a:80", "A.example", "[::1]", "[::1]:8080", "127.0.0.1:1"] {
        assert!(head("/", "GET", &[("host", good)]).is_ok(), "{good}");
    }
    for bad in ["", "a/b", "a b", "u@a", "u@[::1]:80", "u@a:80", "a:b", "a:", "a:99999", "a,b", "a\\b", "<a>"]
    {
        assert!(head("/", "GET", &[("host", bad)]).is_err(), "{bad}");
    }
    assert!(head("/", "GET", &[]).is_err());
    assert!(head("/", "GET", &[("host", "a"), ("host", "a")]).is_err());
}

#[test]
fn methods_app_engine_does_not_know_are_refused() {
    let status = |method| head("/", method, &[("host", "a")]).map_err(Refusal::status);
    assert_eq!(status("TRACE"), Err(405));
    assert_eq!(status("get"), Err(501));
    assert_eq!(status("FOO"), Err(501));
}

proptest::proptest! {
    #[test]
    fn whatever_passes_starts_with_a_slash(target in ".{0,40}", host in "[a-z:@/ .]{0,10}") {
        if let Ok(text) = head(&target, "GET", &[("host", &host)]) {
            proptest::prop_assert!(text.starts_with('/'), "{text}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn what_the_short_look_at_a_host_takes_the_parser_takes_too(host in "[a-zA-Z0-9.:~_@\\[\\]-]{0,14}") {
        if is_usual(&host) {
            let authority: Authority = host.parse().unwrap();
            assert!(!host.contains('@') && port_is_number(&authority, &host), "{host}");
            assert!(plain_name(authority.host()) && !authority.host().is_empty(), "{host}");
        }
    }
}
