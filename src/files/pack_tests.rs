//! Packed copies: which file is sent to whom, and what is not taken for one.

use std::io::Write;

use flate2::read::MultiGzDecoder;
use http::Method;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, VARY,
};

use super::super::tests::{MIB, Shop, bytes, field, plain, with_headers};
use super::super::{Answer, Body};
use super::*;

pub(super) const GZIP: (HeaderName, &str) = (ACCEPT_ENCODING, "gzip");

/// A text of `length` bytes that packs well.
pub(super) fn text(length: usize) -> Vec<u8> {
    let words = b"var compat = function (proxy) { return proxy.answer; };\n";
    words.iter().copied().cycle().take(length).collect()
}

/// What nothing can pack.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) async fn unpacked(answer: Answer) -> Vec<u8> {
    let mut all = Vec::new();
    let packed = bytes(answer.body).await.unwrap();
    MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut all).unwrap();
    all
}

pub(super) fn coding(answer: &Answer) -> Option<String> {
    field(answer, CONTENT_ENCODING)
}

#[tokio::test]
async fn a_text_is_packed_once_and_says_so() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let packed = shop.get("a.js", &[GZIP]).await;
    assert_eq!((packed.status, coding(&packed).as_deref()), (200, Some("gzip")));
    assert_eq!(field(&packed, VARY).as_deref(), Some("Accept-Encoding"));
    assert_eq!(field(&packed, ACCEPT_RANGES), None);
    let length: usize = field(&packed, CONTENT_LENGTH).unwrap().parse().unwrap();
    assert!(length < 1_000, "{length}");
    let Body::Bytes(first) = packed.body else { panic!("not in memory") };
    assert_eq!(first.len(), length);
    let again = shop.get("a.js", &[GZIP]).await;
    assert_eq!(again.coding, Coding::Gzip);
    let Body::Bytes(second) = again.body else { panic!("not in memory") };
    assert_eq!(first.as_ptr(), second.as_ptr(), "packed twice");
    let whole = shop.get("a.js", &[]).await;
    assert_eq!((coding(&whole), field(&whole, VARY).as_deref()), (None, Some("Accept-Encoding")));
    assert_eq!(bytes(whole.body).await.unwrap(), text(5_000));
}

#[tokio::test]
async fn what_was_packed_is_the_file() {
    // In memory, and too big for that.
    for length in [1_025, 900_000, 3_000_000] {
        let shop = Shop::new(64 * MIB);
        shop.write("a.css", text(length));
        let packed = shop.get("a.css", &[GZIP]).await;
        assert_eq!(coding(&packed).as_deref(), Some("gzip"), "{length}");
        assert_eq!(unpacked(packed).await, text(length));
    }
}

#[tokio::test]
async fn only_texts_above_a_packet_are_packed_and_nothing_without_a_cache() {
    let shop = Shop::new(64 * MIB);
    for (name, length) in [("a.js", 1_024), ("a.png", 5_000), ("noext", 5_000), ("huge.js", 9_000_000)] {
        shop.write(name, text(length));
        let answer = shop.get(name, &[GZIP]).await;
        assert_eq!((coding(&answer), field(&answer, VARY)), (None, None), "{name}");
    }
    let noise = noise(5_000);
    shop.write("noise.js", noise);
    assert_eq!(coding(&shop.get("noise.js", &[GZIP]).await), None, "not smaller");
    let shop = Shop::new(0);
    shop.write("a.js", text(5_000));
    assert_eq!(coding(&shop.get("a.js", &[GZIP]).await), None);
}

#[tokio::test]
async fn head_is_the_head_of_the_packed_copy() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let head = shop.ask("a.js", &Method::HEAD, &plain(), &[GZIP]).await;
    assert!(matches!(head.body, Body::None));
    let get = shop.get("a.js", &[GZIP]).await;
    let told = |answer: &Answer| {
        [CONTENT_LENGTH, CONTENT_ENCODING, ETAG, VARY, LAST_MODIFIED].map(|name| field(answer, name))
    };
    assert_eq!(told(&head), told(&get));
    assert!(coding(&get).is_some());
}

#[tokio::test]
async fn each_coding_has_its_tag_and_304_names_the_one_the_client_has() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let whole = field(&shop.get("a.js", &[]).await, ETAG).unwrap();
    let gzip = field(&shop.get("a.js", &[GZIP]).await, ETAG).unwrap();
    assert_eq!(gzip, format!("W/{}-gzip\"", &whole[..33]));
    for (accepts, tag, status) in [
        ("gzip", &gzip, 304),
        ("gzip", &whole, 304),
        ("", &whole, 304),
        // Who cannot read gzip does not have it, whatever a cache between us says.
        ("", &gzip, 200),
        ("identity;q=0, gzip", &whole, 200),
    ] {
        let request = [(ACCEPT_ENCODING, accepts), (IF_NONE_MATCH, tag.as_str())];
        let answer = shop.get("a.js", &request).await;
        assert_eq!(answer.status, status, "{accepts} {tag}");
        assert_eq!(field(&answer, VARY).as_deref(), Some("Accept-Encoding"));
        if status == 304 {
            assert_eq!(field(&answer, ETAG).as_ref(), Some(tag));
            assert_eq!(coding(&answer), None);
        }
    }
}

#[tokio::test]
async fn a_304_by_tag_packs_nothing() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let whole = field(&shop.get("a.js", &[]).await, ETAG).unwrap();
    let gzip = format!("W/{}-gzip\"", &whole[..33]);
    let before = shop.server.usage();
    assert_eq!(shop.get("a.js", &[GZIP, (IF_NONE_MATCH, &gzip)]).await.status, 304);
    assert_eq!(shop.server.usage(), before);
}

#[tokio::test]
async fn a_304_by_date_names_the_packed_copy() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let get = shop.get("a.js", &[GZIP]).await;
    let date = field(&get, LAST_MODIFIED).unwrap();
    let answer = shop.get("a.js", &[GZIP, (IF_MODIFIED_SINCE, &date)]).await;
    assert_eq!((answer.status, field(&answer, ETAG)), (304, field(&get, ETAG)));
}

#[tokio::test]
async fn parts_and_strong_conditions_are_of_the_file_as_it_lies() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    let whole = field(&shop.get("a.js", &[]).await, ETAG).unwrap();
    let part = shop.get("a.js", &[GZIP, (RANGE, "bytes=0-3")]).await;
    assert_eq!((part.status, coding(&part)), (206, None));
    assert_eq!(field(&part, VARY).as_deref(), Some("Accept-Encoding"));
    assert_eq!(bytes(part.body).await.unwrap(), b"var ");
    let several = shop.get("a.js", &[GZIP, (RANGE, "bytes=0-1,3-4")]).await;
    assert_eq!((several.status, coding(&several)), (200, None));
    assert_eq!(shop.get("a.js", &[GZIP, (IF_MATCH, &whole)]).await.status, 200);
}

#[tokio::test]
async fn packed_copies_count_for_the_bound() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(500_000));
    shop.get("a.js", &[]).await;
    let before = shop.server.usage();
    let packed = bytes(shop.get("a.js", &[GZIP]).await.body).await.unwrap();
    let after = shop.server.usage();
    assert_eq!((after.entries, after.bytes - before.bytes), (1, packed.len() as u64));

    let shop = Shop::new(4 * MIB);
    for i in 0..300 {
        // Texts that gzip halves, to make the copies matter.
        let half: String = (0..15_000_u32).map(|at| format!("{:02x}", (at * at / 7 + i) % 251)).collect();
        shop.write(&format!("{i}.js"), half);
        shop.get(&format!("{i}.js"), &[GZIP]).await;
        assert!(shop.server.usage().bytes <= 4 * MIB);
    }
    assert!(shop.server.usage().bytes > MIB);
}

#[tokio::test]
async fn an_app_that_speaks_of_the_representation_is_left_alone() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    for own in [("ETag", "\"own\""), ("Content-Encoding", "br"), ("Cache-Control", "public, No-Transform")] {
        let answer = shop.ask("a.js", &Method::GET, &with_headers(&[own]), &[GZIP]).await;
        assert_eq!((answer.coding, field(&answer, VARY)), (Coding::Identity, None), "{own:?}");
        assert_eq!(bytes(answer.body).await.unwrap(), text(5_000));
    }
    for (own, vary) in [
        ("Origin", "Origin, Accept-Encoding"),
        ("accept-encoding, Origin", "accept-encoding, Origin"),
        ("*", "*"),
    ] {
        let answer = shop.ask("a.js", &Method::GET, &with_headers(&[("Vary", own)]), &[GZIP]).await;
        assert_eq!((answer.coding, field(&answer, VARY).as_deref()), (Coding::Gzip, Some(vary)));
    }
}

#[tokio::test]
async fn the_type_of_the_handler_decides_what_is_a_text() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.bin", text(5_000));
    let mut options = plain();
    assert_eq!(shop.ask("a.bin", &Method::GET, &options, &[GZIP]).await.coding, Coding::Identity);
    options.mime_type = Some("application/vnd.api+json; charset=utf-8".to_owned());
    assert_eq!(shop.ask("a.bin", &Method::GET, &options, &[GZIP]).await.coding, Coding::Gzip);
    assert_eq!(shop.ask("a.bin", &Method::GET, &plain(), &[GZIP]).await.coding, Coding::Identity);
}

#[tokio::test]
async fn whoever_refuses_the_file_as_it_lies_waits_and_the_others_do_not() {
    let shop = Arc::new(Shop::new(64 * MIB));
    shop.write("a.js", text(5_000));
    shop.get("a.js", &[]).await;
    let busy = Arc::clone(&shop.server.packers);
    let all = busy.acquire_many(u32::try_from(busy.available_permits()).unwrap()).await.unwrap();
    let patient = tokio::spawn({
        let shop = Arc::clone(&shop);
        async move { shop.get("a.js", &[(ACCEPT_ENCODING, "gzip, identity;q=0")]).await }
    });
    let answer = shop.get("a.js", &[GZIP]).await;
    assert_eq!((answer.coding, field(&answer, VARY).as_deref()), (Coding::Identity, Some("Accept-Encoding")));
    assert!(!patient.is_finished());
    drop(all);
    assert_eq!(patient.await.unwrap().coding, Coding::Gzip);
    assert_eq!(shop.get("a.js", &[GZIP]).await.coding, Coding::Gzip);
}

#[tokio::test]
async fn many_at_once_pack_once() {
    let shop = Arc::new(Shop::new(64 * MIB));
    shop.write("a.js", text(900_000));
    let asking: Vec<_> = (0..32)
        .map(|_| {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move { shop.get("a.js", &[(ACCEPT_ENCODING, "gzip, identity;q=0")]).await })
        })
        .collect();
    let mut places = Vec::new();
    for answer in asking {
        let Body::Bytes(body) = answer.await.unwrap().body else { panic!("not in memory") };
        places.push(body);
    }
    assert!(places.iter().all(|body| body.as_ptr() == places[0].as_ptr()));
}
