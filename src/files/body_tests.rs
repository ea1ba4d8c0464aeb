//! Bodies too big to hold: pieces, and files that change under the reader.

use std::fs::File;

use http::header::{ETAG, IF_NONE_MATCH, RANGE};

use super::tests::{MIB, Shop, bytes, field, plain};
use super::*;

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * i % 251) as u8).collect()
}

fn reader(answer: Answer) -> Reader {
    match answer.body {
        Body::Stream(reader) => reader,
        other => panic!("not streamed: {other:?}"),
    }
}

#[tokio::test]
async fn a_big_file_comes_in_pieces_and_whole() {
    let (shop, content) = (Shop::new(64 * MIB), noise(2_500_001));
    shop.write("big", &content);
    let answer = shop.get("big", &[]).await;
    assert_eq!(field(&answer, "content-length").unwrap(), "2500001");
    assert_eq!(bytes(reader(answer).into()).await.unwrap(), content);
    let part = shop.get("big", &[(RANGE, "bytes=262143-1000000")]).await;
    assert_eq!(bytes(part.body).await.unwrap(), content[262_143..=1_000_000]);
}

#[tokio::test]
async fn a_reader_says_what_is_left_and_pieces_may_be_kept() {
    let (shop, content) = (Shop::new(64 * MIB), noise(1_500_000));
    shop.write("big", &content);
    let mut reader = reader(shop.get("big", &[]).await);
    assert_eq!(reader.remaining(), 1_500_000);
    let mut kept = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        // All of them held at once: none may be written over.
        kept.push(piece);
    }
    assert_eq!((reader.remaining(), kept.concat()), (0, content));
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_cut_while_it_is_sent_is_an_error() {
    let (shop, content) = (Shop::new(64 * MIB), noise(1_500_000));
    shop.write("big", &content);
    let mut reader = reader(shop.get("big", &[]).await);
    assert!(reader.next().await.unwrap().is_some());
    let file = File::options().write(true).open(shop.path("big")).unwrap();
    file.set_len(300_000).unwrap();
    let mut sent = 256 * 1024;
    let error = loop {
        match reader.next().await {
            Ok(piece) => sent += piece.expect("the end was announced later").len(),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), sent), (io::ErrorKind::UnexpectedEof, 300_000));
    assert!(reader.next().await.is_err());
}

#[tokio::test]
async fn where_the_page_cache_cannot_be_asked_a_blocking_thread_reads_the_same() {
    let (shop, content) = (Shop::new(64 * MIB), noise(1_500_000));
    shop.write("big", &content);
    let reading = reader(shop.get("big", &[]).await).without_nowait();
    assert_eq!(bytes(reading.into()).await.unwrap(), content);
    let mut cut = reader(shop.get("big", &[]).await).without_nowait();
    File::options().write(true).open(shop.path("big")).unwrap().set_len(0).unwrap();
    assert_eq!(cut.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_sent_sends_what_was_announced() {
    let (shop, content) = (Shop::new(64 * MIB), noise(1_500_000));
    shop.write("big", &content);
    let reader = reader(shop.get("big", &[]).await);
    let mut more = content.clone();
    more.extend_from_slice(b"more");
    shop.write("big", &more);
    assert_eq!(bytes(reader.into()).await.unwrap(), content);
}

#[tokio::test]
async fn a_small_file_cut_before_it_is_read_announces_what_is_there() {
    let shop = Shop::new(64 * MIB);
    for length in [1_000, 500_000] {
        shop.write("small", noise(length));
        // Looked at in turn, so that the second is not the first still believed.
        let entry = shop.server.look_at("small", length as u64).unwrap();
        shop.write("small", "cut");
        let answer = shop.server.answer(&entry, &plain(), &Method::GET, &HeaderMap::new()).await;
        assert_eq!(field(&answer, "content-length").unwrap(), "3");
        assert_eq!(field(&answer, ETAG).unwrap()[1..33], blake3::hash(b"cut").to_hex()[..32]);
        assert_eq!(bytes(answer.body).await.unwrap(), b"cut");
    }
}

#[tokio::test]
async fn a_big_file_changed_while_it_is_hashed_has_no_tag() {
    let shop = Shop::new(64 * MIB);
    shop.write("big", noise(1_500_000));
    let entry = shop.server.look("big").unwrap();
    shop.write("big", noise(1_500_001));
    let answer = shop.server.answer(&entry, &plain(), &Method::GET, &HeaderMap::new()).await;
    assert_eq!((answer.status, field(&answer, ETAG)), (200, None));
    assert_eq!(bytes(answer.body).await.unwrap().len(), 1_500_000);
}

#[tokio::test]
async fn nobody_waits_long_for_the_tag_of_a_big_file_but_who_asks_by_tag() {
    let shop = Arc::new(Shop::new(64 * MIB));
    shop.write("big", noise(1_500_000));
    let entry = shop.server.look("big").unwrap();
    // Someone is at it, and takes long.
    let hashing = entry.turn().lock_owned().await;
    let answer = shop.get("big", &[]).await;
    assert_eq!((answer.status, field(&answer, ETAG)), (200, None));
    assert_eq!(bytes(answer.body).await.unwrap().len(), 1_500_000);
    let asking = tokio::spawn({
        let shop = Arc::clone(&shop);
        async move { shop.get("big", &[(IF_NONE_MATCH, "\"x\"")]).await }
    });
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    drop(hashing);
    assert!(field(&asking.await.unwrap(), ETAG).is_some());
}

#[tokio::test]
async fn the_tag_of_a_big_file_outlives_its_entry() {
    let shop = Shop::new(64 * MIB);
    shop.write("big", noise(1_500_000));
    let (file, mut stamp) = shop.server.root.read("big").unwrap();
    let mut entry = shop.server.cache.entry("big", file, stamp, [None; 3], 0);
    entry.settled = true;
    entry.load(&shop.server.cache.tags()).unwrap();
    let again = shop.server.root.read("big").unwrap().0;
    let known = shop.server.cache.entry("big", again, stamp, [None; 3], 0);
    assert_eq!((known.is_loaded(), known.tag()), (true, entry.tag()));
    stamp.changed.0 += 1;
    let again = shop.server.root.read("big").unwrap().0;
    assert!(!shop.server.cache.entry("big", again, stamp, [None; 3], 0).is_loaded());
}

impl From<Reader> for Body {
    fn from(reader: Reader) -> Self {
        Self::Stream(reader)
    }
}
