//! Packed siblings: which of them are sent, and which are not taken for the file.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, VARY};

use super::super::tests::{MIB, Shop, bytes, field};
use super::super::{Body, FileServer};
use super::tests::{GZIP, coding, gzip, noise, text, unpacked};
use super::*;
use crate::pattern::Pattern;

const BR: (HeaderName, &str) = (ACCEPT_ENCODING, "gzip, br");

/// `x` 100,000 times, packed by another program.
const BROTLI: &[u8] = &[0x5b, 0x9f, 0x86, 0x81, 0x5f, 2, 0x2f, 0x1e, 0x0b, 4, 0xb2, 0xfc, 2, 0];

/// A shop with `a.js` and, beside it, what calls itself its packed copy.
fn with_sibling(extension: &str, content: &[u8]) -> Shop {
    let shop = Shop::new(64 * MIB);
    shop.write("a.js", text(5_000));
    shop.write(&format!("a.js.{extension}"), content);
    shop
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
