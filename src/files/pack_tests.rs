//! Packed copies: which file is sent to whom, and what is not taken for one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use http::Method;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, VARY,
};

use super::super::tests::{MIB, Shop, bytes, field, plain, with_headers};
use super::super::{Answer, Body, FileServer};
use super::*;
use crate::pattern::Pattern;

const GZIP: (HeaderName, &str) = (ACCEPT_ENCODING, "gzip");
const BR: (HeaderName, &str) = (ACCEPT_ENCODING, "gzip, br");

/// A text of `length` bytes that packs well.
fn text(length: usize) -> Vec<u8> {
    let words = b"var compat = function (proxy) { return proxy.answer; };\n";
    words.iter().copied().cycle().take(length).collect()
}

/// What nothing can pack.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

async fn unpacked(answer: Answer) -> Vec<u8> {
    let mut all = Vec::new();
    let packed = bytes(answer.body).await.unwrap();
    MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut all).unwrap();
    all
}

fn coding(answer: &Answer) -> Option<String> {
    field(answer, CONTENT_ENCODING)
}

/// A shop with `a.js` and, beside it, what calls itself its packed copy.
fn with_sibling(extension: &str, content: &[u8]) -> Shop {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    shop.write(&format!("a.js.{extension}"), content);
    shop
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
async fn siblings_are_sent_for_any_type_when_they_are_the_file() {
    let content = [text(100_000), vec![7; 1_000]].concat();
    for name in ["app.wasm", "app.js"] {
        let shop = Shop::new(64 * MIB);
        shop.write(name, &content);
        let sibling = gzip(&content);
        shop.write(&format!("{name}.gz"), &sibling);
        let answer = shop.get(name, &[GZIP]).await;
        assert_eq!((coding(&answer).as_deref(), answer.coding), (Some("gzip"), Coding::Gzip));
        assert_eq!(bytes(answer.body).await.unwrap(), sibling);
        let whole = shop.get(name, &[]).await;
        assert_eq!(field(&whole, VARY).as_deref(), Some("Accept-Encoding"));
        assert_eq!(field(&whole, CONTENT_LENGTH).unwrap(), content.len().to_string());
    }
}

#[tokio::test]
async fn a_big_sibling_is_streamed_once_it_has_settled() {
    // Too big to be held: gzip of noise, with something to save at its end.
    let noise = noise(2_000_000);
    let content = [noise, vec![0; 500_000]].concat();
    let shop = Shop::new(64 * MIB);
    let sibling = gzip(&content);
    shop.write("a.bin", &content);
    shop.write("a.bin.gz", &sibling);
    assert_eq!(coding(&shop.get("a.bin", &[GZIP]).await), None, "it may still change unnoticed");
    let (file, stamp) = shop.server.root.read("a.bin").unwrap();
    let siblings = shop.server.siblings("a.bin", &stamp);
    let mut entry = shop.server.cache.entry("a.bin", file, stamp, siblings, 0);
    entry.settled = true;
    let answer = shop.answer(&Arc::new(entry), &[GZIP]).await;
    assert_eq!(coding(&answer).as_deref(), Some("gzip"));
    assert!(matches!(answer.body, Body::Stream(_)));
    assert_eq!(bytes(answer.body).await.unwrap(), sibling);
}

/// `x` 100,000 times, packed by another program.
const BROTLI: &[u8] = &[0x5b, 0x9f, 0x86, 0x81, 0x5f, 2, 0x2f, 0x1e, 0x0b, 4, 0xb2, 0xfc, 2, 0];

#[tokio::test]
async fn brotli_goes_before_gzip() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", b"x".repeat(100_000));
    shop.write("a.js.br", BROTLI);
    let answer = shop.get("a.js", &[BR]).await;
    assert_eq!((coding(&answer).as_deref(), answer.coding), (Some("br"), Coding::Brotli));
    assert!(field(&answer, ETAG).unwrap().ends_with("-br\""));
    assert_eq!(bytes(answer.body).await.unwrap(), BROTLI);
    assert_eq!(coding(&shop.get("a.js", &[GZIP]).await).as_deref(), Some("gzip"));
    assert_eq!(
        coding(&shop.get("a.js", &[(ACCEPT_ENCODING, "br;q=0.5, gzip")]).await).as_deref(),
        Some("gzip")
    );
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", b"x".repeat(100_001));
    shop.write("a.js.br", BROTLI);
    assert_eq!(coding(&shop.get("a.js", &[BR]).await).as_deref(), Some("gzip"), "a byte is missing");
}

#[tokio::test]
async fn a_sibling_that_is_not_the_file_is_not_sent() {
    let other = gzip(&text(4_999));
    let longer = gzip(&text(5_000_000));
    let trailing = [gzip(&text(5_000)), b"secret".to_vec()].concat();
    let twice = [gzip(&text(2_500)), gzip(&text(5_000)[2_500..])].concat();
    let own = gzip(&text(5_000));
    for (what, content) in [
        ("another text", &other[..]),
        ("a bomb", &longer),
        ("something behind it", &trailing),
        ("two members", &twice),
        ("cut", &own[..own.len() - 5]),
        ("nothing", b""),
        ("a text", b"not packed at all"),
    ] {
        let shop = with_sibling("gz", content);
        let answer = shop.get("a.js", &[GZIP]).await;
        assert_eq!(coding(&answer).as_deref(), Some("gzip"), "{what}: made here instead");
        assert_eq!(unpacked(answer).await, text(5_000), "{what}");
        let shop = with_sibling("br", content);
        assert_eq!(coding(&shop.get("a.js", &[(ACCEPT_ENCODING, "br")]).await), None, "{what}");
    }
}

#[tokio::test]
async fn a_sibling_keeps_to_the_rules_of_files() {
    let old = SystemTime::now() - Duration::from_secs(3_600);
    let refused = |shop: &Shop| {
        let stamp = shop.server.root.stat("a.js").unwrap();
        shop.server.siblings("a.js", &stamp) == [None; 3]
    };
    let shop = with_sibling("gz", &gzip(&text(5_000)));
    assert!(!refused(&shop));
    File::options().write(true).open(shop.path("a.js.gz")).unwrap().set_modified(old).unwrap();
    assert!(refused(&shop), "older than the file");

    let shop = with_sibling("gz", b"");
    fs::remove_file(shop.path("a.js.gz")).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), gzip(&text(5_000))).unwrap();
    symlink(outside.path(), shop.path("a.js.gz")).unwrap();
    assert!(refused(&shop), "R-LINK");
    fs::remove_file(shop.path("a.js.gz")).unwrap();
    fs::create_dir(shop.path("a.js.gz")).unwrap();
    assert!(refused(&shop), "R-DIR404");

    let shop = with_sibling("gz", &gzip(&text(5_000)));
    fs::hard_link(shop.path("a.js.gz"), shop.path("app.yaml")).unwrap();
    assert!(refused(&shop), "R-CONFIG");

    let mut shop = with_sibling("gz", &gzip(&text(5_000)));
    let skip = Pattern::parse(r".*\.gz$").unwrap();
    shop.server = FileServer::open(&shop.path(""), &[], 64 * MIB).unwrap().skipping(skip);
    assert!(refused(&shop), "R-SKIP");
}

#[tokio::test]
async fn a_sibling_that_comes_or_changes_is_noticed_after_a_second() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.bin", text(5_000));
    assert_eq!(coding(&shop.get_at("a.bin", 0, &[GZIP]).await), None);
    let (first, second) = (gzip(&text(5_000)), gzip(&text(4_000)));
    shop.write("a.bin.gz", &first);
    assert_eq!(coding(&shop.get_at("a.bin", 999, &[GZIP]).await), None);
    assert_eq!(bytes(shop.get_at("a.bin", 1_000, &[GZIP]).await.body).await.unwrap(), first);
    shop.write("a.bin", text(4_000));
    let answer = shop.get_at("a.bin", 2_000, &[GZIP]).await;
    assert_eq!((coding(&answer), bytes(answer.body).await.unwrap()), (None, text(4_000)));
    shop.write("a.bin.gz", &second);
    assert_eq!(bytes(shop.get_at("a.bin", 3_000, &[GZIP]).await.body).await.unwrap(), second);
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
