//! Addresses as written: what is taken, what is refused, and what each means.

use super::*;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.to_owned(), port }
}

#[test]
fn a_listen_address_may_be_a_port_alone() {
    for text in ["8080", ":8080", "*:8080", "0.0.0.0:8080"] {
        assert_eq!(listen(text), Ok(tcp("0.0.0.0", 8080)), "{text}");
    }
}

#[test]
fn ipv6_stands_in_brackets_and_is_shown_in_brackets() {
    let endpoint = listen("[::]:80").unwrap();
    assert_eq!(endpoint, tcp("::", 80));
    assert_eq!(endpoint.to_string(), "[::]:80");
    assert!(listen("::1:80").unwrap_err().contains("brackets"));
    assert!(listen("[::g]:80").unwrap_err().contains("not an IPv6 address"));
}

#[test]
fn a_unix_socket_has_an_absolute_path_short_enough_for_the_kernel() {
    assert_eq!(listen("unix:/run/a.sock"), Ok(Endpoint::Unix("/run/a.sock".into())));
    assert_eq!(listen("unix:///run/a.sock"), Ok(Endpoint::Unix("/run/a.sock".into())));
    assert!(listen("unix:a.sock").is_err());
    assert!(listen("unix:").is_err());
    assert!(listen("unix:/").is_err());
    assert!(listen(&format!("unix:/{}", "a".repeat(106))).is_ok());
    assert!(listen(&format!("unix:/{}", "a".repeat(107))).unwrap_err().contains("108 bytes"));
}

#[test]
fn what_is_not_an_address_is_told_with_what_to_write() {
    for (text, say) in [
        ("foo", "has no port"),
        ("", "not a port"),
        ("http://a:80/x", "write `a:80`"),
        ("a:99999", "not a port"),
        ("a:+80", "not a port"),
        ("a:", "not a port"),
        ("1.2.3.400:80", "neither an IP address nor a host name"),
        ("a..b:80", "neither an IP address nor a host name"),
        ("a b:80", "neither an IP address nor a host name"),
    ] {
        let message = listen(text).unwrap_err();
        assert!(message.contains(say), "{text}: {message}");
    }
}

#[test]
fn the_admin_address_says_who_may_connect() {
    assert_eq!(admin("127.0.0.1:1"), Ok(tcp("127.0.0.1", 1)));
    for text in ["9911", ":9911"] {
        let message = admin(text).unwrap_err();
        assert!(message.contains("`127.0.0.1:9911`") && message.contains("`0.0.0.0:9911`"), "{message}");
    }
}

#[test]
fn an_upstream_is_something_one_can_connect_to() {
    assert_eq!(upstream("8081"), Ok(tcp("127.0.0.1", 8081)));
    assert_eq!(upstream("app:8081"), Ok(tcp("app", 8081)));
    assert!(upstream("app:0").is_err());
    assert!(upstream("0.0.0.0:80").unwrap_err().contains("127.0.0.1"));
    assert!(upstream("[::]:80").is_err());
}

#[test]
fn two_listeners_overlap_on_one_port_when_one_host_includes_the_other() {
    assert!(tcp("0.0.0.0", 80).overlaps(&tcp("127.0.0.1", 80)));
    assert!(tcp("a", 80).overlaps(&tcp("a", 80)));
    assert!(!tcp("127.0.0.1", 80).overlaps(&tcp("10.0.0.1", 80)));
    assert!(!tcp("0.0.0.0", 0).overlaps(&tcp("0.0.0.0", 0)));
    assert!(!tcp("a", 80).overlaps(&Endpoint::Unix("/a".into())));
}

#[test]
fn a_wildcard_listener_is_reached_over_loopback() {
    for (bound, reached) in
        [("0.0.0.0:5", "127.0.0.1:5"), ("[::]:5", "[::1]:5"), ("10.0.0.1:5", "10.0.0.1:5")]
    {
        assert_eq!(listen(bound).unwrap().resolve().unwrap().reachable().to_string(), reached);
    }
}

#[test]
fn localhost_means_its_ipv4_address() {
    assert_eq!(upstream("localhost:80").unwrap().resolve().unwrap().to_string(), "127.0.0.1:80");
}
