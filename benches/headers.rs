//! A request's head: judged, and written anew for the app.

use std::time::Duration;

use compat_proxy::headers::send::{Facts, Policy, Stripped};
use compat_proxy::headers::strict;
use compat_proxy::headers::trace::Ids;
use compat_proxy::headers::trust;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

/// What a browser sends with a small GET.
const BROWSER: [(&str, &str); 8] = [
    ("host", "shop.example:8080"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/"),
    ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ("connection", "keep-alive"),
];

/// What a load balancer in front adds, whose words are believed.
const BALANCER: [(&str, &str); 5] = [
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example"),
    ("x-cloud-trace-context", "105445aa7843bc8bf206b12000100000/1;o=1"),
    ("via", "1.1 google"),
];

/// What a client may not say: all of it is taken away.
const HOSTILE: [(&str, &str); 10] = [
    ("x-appengine-user-is-admin", "1"),
    ("x-appengine-user-email", "root@example.com"),
    ("x-appengine-inbound-appid", "shop"),
    ("x-google-internal-skipadmincheck", "true"),
    ("x-goog-iap-jwt-assertion", "eyJhbGciOiJFUzI1NiJ9"),
    ("x_appengine_cron", "true"),
    ("x-compat-script", "admin.app"),
    ("x-forwarded-for", "127.0.0.1"),
    ("proxy", "http://203.0.113.7"),
    ("te", "trailers"),
];

fn request(lists: &[&[(&'static str, &'static str)]], more: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lists.iter().copied().flatten() {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for number in 0..more {
        let name = HeaderName::try_from(format!("x-shop-feature-{number}")).unwrap();
        headers.append(name, HeaderValue::from_static("enabled"));
    }
    headers
}

/// The lines the app gets, written as often as it takes.
fn write(bencher: Bencher<'_, '_>, headers: &HeaderMap, trusted: bool, expected: Stripped) {
    let policy = Policy::new(true, Duration::from_secs(60));
    let peer = Some("10.0.0.1:4711".parse().unwrap());
    let networks = if trusted { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() };
    let client = trust::client(peer, headers, &networks);
    assert_eq!(client.trusted, trusted);
    let (ids, script) = (Ids::of(headers), HeaderValue::from_static("main.app"));
    let facts = Facts {
        client,
        host: "shop.example:8080",
        ids: &ids,
        script: Some(&script),
        handler: Some(&HeaderValue::from_static("3")),
    };
    let mut lines = Vec::with_capacity(8 * 1024);
    assert_eq!(policy.write(&mut lines, Version::HTTP_11, headers, &facts), expected);
    bencher.bench_local(|| {
        lines.clear();
        policy.write(black_box(&mut lines), Version::HTTP_11, black_box(headers), black_box(&facts))
    });
}

#[divan::bench]
fn write_small_get(bencher: Bencher<'_, '_>) {
    write(bencher, &request(&[&BROWSER], 0), false, Stripped::default());
}

#[divan::bench]
fn write_get_with_25_headers(bencher: Bencher<'_, '_>) {
    let headers = request(&[&BROWSER], 17);
    assert_eq!(headers.len(), 25);
    write(bencher, &headers, false, Stripped::default());
}

#[divan::bench]
fn write_behind_a_load_balancer(bencher: Bencher<'_, '_>) {
    write(bencher, &request(&[&BROWSER, &BALANCER], 0), true, Stripped::default());
}

#[divan::bench]
fn write_hostile(bencher: Bencher<'_, '_>) {
    let expected = Stripped { appengine: 6, underscore: 1 };
    write(bencher, &request(&[&BROWSER, &HOSTILE], 0), false, expected);
}

/// Whether the head can be read in one way only.
#[divan::bench(args = [0, 17])]
fn check_browser_and_more(bencher: Bencher<'_, '_>, more: usize) {
    let headers = request(&[&BROWSER], more);
    let (target, uri) = (b"/guestbook?page=2", Uri::from_static("/guestbook?page=2"));
    let check = || {
        let headers = black_box(&headers);
        strict::check(&Method::GET, Version::HTTP_11, black_box(target), &uri, headers, 1024).is_ok()
    };
    // So that the first one measured is like the others.
    assert!((0..100).all(|_| check()));
    bencher.bench_local(check);
}

/// Ids for the request and its trace.
#[divan::bench]
fn make_ids(bencher: Bencher<'_, '_>) {
    let headers = request(&[&BROWSER, &BALANCER], 0);
    let make = || Ids::of(black_box(&headers));
    for _ in 0..100 {
        black_box(make());
    }
    bencher.bench_local(make);
}
