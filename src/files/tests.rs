//! Answers over a temporary folder: heads, conditions, ranges.

use std::fs::{self, File, FileTimes};
use std::time::SystemTime;

use http::header::{ETAG, EXPIRES, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, RANGE, VARY};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A folder and a server over it.
pub(super) struct Shop {
    dir: TempDir,
    pub(super) server: FileServer,
}

impl Shop {
    pub(super) fn new(cache: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let server = FileServer::open(dir.path(), &[PathBuf::from("app.yaml")], cache).unwrap();
        Self { dir, server }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(super) async fn get(&self, name: &str, request: &[(HeaderName, &str)]) -> Answer {
        self.ask(name, &Method::GET, &plain(), request).await
    }

    pub(super) async fn ask(
        &self,
        name: &str,
        method: &Method,
        options: &StaticOptions,
        request: &[(HeaderName, &str)],
    ) -> Answer {
        let entry = self.server.look(name).unwrap();
        self.server.answer(&entry, options, method, &head_of(request)).await
    }

    /// GET at a time, in milliseconds.
    pub(super) async fn get_at(&self, name: &str, now: u64, request: &[(HeaderName, &str)]) -> Answer {
        self.answer(&self.server.look_at(name, now).unwrap(), request).await
    }

    pub(super) async fn answer(&self, entry: &Arc<Entry>, request: &[(HeaderName, &str)]) -> Answer {
        self.server.answer(entry, &plain(), &Method::GET, &head_of(request)).await
    }

    /// What a reader gets at a time, in milliseconds.
    pub(super) async fn text_at(&self, name: &str, now: u64) -> Result<String, Absent> {
        let entry = self.server.look_at(name, now)?;
        let answer = self.server.answer(&entry, &plain(), &Method::GET, &HeaderMap::new()).await;
        Ok(String::from_utf8(bytes(answer.body).await.unwrap()).unwrap())
    }
}

fn head_of(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn plain() -> StaticOptions {
    StaticOptions {
        mime_type: None,
        http_headers: Vec::new(),
        expiration: Duration::from_secs(600),
        require_matching_file: false,
    }
}

pub(super) fn with_headers(headers: &[(&str, &str)]) -> StaticOptions {
    let http_headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    StaticOptions { http_headers, ..plain() }
}

pub(super) fn field(answer: &Answer, name: impl AsRef<str>) -> Option<String> {
    let mut values = answer.headers.get_all(name.as_ref()).into_iter();
    let value = values.next()?.to_str().unwrap().to_owned();
    assert!(values.next().is_none(), "{} twice", name.as_ref());
    Some(value)
}

pub(super) async fn bytes(body: Body) -> io::Result<Vec<u8>> {
    match body {
        Body::None => Ok(Vec::new()),
        Body::Bytes(bytes) => Ok(bytes.to_vec()),
        Body::Stream(mut reader) => {
            let mut all = Vec::new();
            while let Some(piece) = reader.next().await? {
                assert!(!piece.is_empty() && piece.len() <= 256 * 1024);
                all.extend_from_slice(&piece);
            }
            Ok(all)
        }
    }
}

/// In order, without the two that are only room for the writer's.
fn names(answer: &Answer) -> Vec<&str> {
    let ours = answer.headers.iter().filter(|(_, value)| !value.is_empty());
    ours.map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_file_is_answered_whole() {
    let shop = Shop::new(64 * MIB);
    shop.write("css/site.css", "body{}");
    let answer = shop.get("css/site.css", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        names(&answer),
        [
            "content-type",
            "content-length",
            "etag",
            "last-modified",
            "accept-ranges",
            "cache-control",
            "expires"
        ]
    );
    assert_eq!(field(&answer, "content-type").unwrap(), "text/css");
    assert_eq!(field(&answer, "content-length").unwrap(), "6");
    assert_eq!(field(&answer, "cache-control").unwrap(), "public, max-age=600");
    assert_eq!(bytes(answer.body).await.unwrap(), b"body{}");
}

#[tokio::test]
async fn head_has_the_head_of_get_and_no_body() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    let get = shop.get("a.txt", &[]).await;
    let head = shop.ask("a.txt", &Method::HEAD, &plain(), &[]).await;
    assert_eq!((head.status, names(&head)), (200, names(&get)));
    assert_eq!(field(&head, "content-length").unwrap(), "4");
    assert!(matches!(head.body, Body::None));
    // RFC 9110, section 14.2: a range is for GET alone.
    assert_eq!(shop.ask("a.txt", &Method::HEAD, &plain(), &[(RANGE, "bytes=0-1")]).await.status, 200);
}

#[tokio::test]
async fn any_other_method_is_answered_like_get() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
        let answer = shop.ask("a.txt", &method, &plain(), &[]).await;
        assert_eq!(bytes(answer.body).await.unwrap(), b"text", "{method}");
    }
}

#[tokio::test]
async fn expires_is_now_and_the_expiration() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    for expiration in [0, 600, u64::MAX] {
        let options = StaticOptions { expiration: Duration::from_secs(expiration), ..plain() };
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let answer = shop.ask("a.txt", &Method::GET, &options, &[]).await;
        let expires = httpdate::parse_http_date(&field(&answer, EXPIRES).unwrap()).unwrap();
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        // A date has four digits for the year, whatever the application asks for.
        let expected = before.saturating_add(expiration).min(253_402_300_799);
        assert!(expires == expected || expires == expected + 1, "{expiration}");
        assert_eq!(field(&answer, "cache-control").unwrap(), format!("public, max-age={expiration}"));
    }
}

#[tokio::test]
async fn the_type_is_the_header_s_then_mime_type_s_then_the_name_s() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.css", "");
    let media = |options: StaticOptions| {
        let shop = &shop;
        async move { field(&shop.ask("a.css", &Method::GET, &options, &[]).await, "content-type").unwrap() }
    };
    assert_eq!(media(plain()).await, "text/css");
    let mime_type = Some("text/x-own; charset=utf-8".to_owned());
    assert_eq!(
        media(StaticOptions { mime_type: mime_type.clone(), ..plain() }).await,
        "text/x-own; charset=utf-8"
    );
    let both = StaticOptions { mime_type, ..with_headers(&[("content-TYPE", "a/b")]) };
    assert_eq!(media(both).await, "a/b");
}

#[tokio::test]
async fn an_app_that_speaks_about_caching_is_not_talked_over() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    let own = with_headers(&[("Cache-Control", "no-store")]);
    let answer = shop.ask("a.txt", &Method::GET, &own, &[]).await;
    assert_eq!(
        (field(&answer, "cache-control").as_deref(), field(&answer, EXPIRES)),
        (Some("no-store"), None)
    );
    let own = with_headers(&[("Expires", "0")]);
    let answer = shop.ask("a.txt", &Method::GET, &own, &[]).await;
    assert_eq!((field(&answer, "cache-control"), field(&answer, EXPIRES).as_deref()), (None, Some("0")));
}

#[tokio::test]
async fn http_headers_stand_on_200_206_and_304_and_win() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    let headers = [
        ("ETag", "\"own\""),
        ("Last-Modified", "Sun, 02 Jan 2022 00:00:00 GMT"),
        ("X-Own", "1"),
        ("Vary", "Origin"),
        ("Accept-Ranges", "bytes"),
    ];
    let own = with_headers(&headers);
    for (request, status) in
        [(vec![], 200), (vec![(RANGE, "bytes=0-1")], 206), (vec![(IF_NONE_MATCH, "\"own\"")], 304)]
    {
        let answer = shop.ask("a.txt", &Method::GET, &own, &request).await;
        assert_eq!(answer.status, status);
        assert_eq!(field(&answer, ETAG).unwrap(), "\"own\"");
        assert_eq!(field(&answer, "x-own").unwrap(), "1");
        assert_eq!(field(&answer, VARY).unwrap(), "Origin");
    }
    let no_ranges = with_headers(&[("Accept-Ranges", "none")]);
    assert_eq!(shop.ask("a.txt", &Method::GET, &no_ranges, &[(RANGE, "bytes=0-1")]).await.status, 200);
}

#[tokio::test]
async fn a_known_tag_is_answered_304_with_what_a_cache_needs() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    let tag = field(&shop.get("a.txt", &[]).await, ETAG).unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
    let answer = shop.get("a.txt", &[(IF_NONE_MATCH, &tag)]).await;
    assert_eq!((answer.status, names(&answer)), (304, vec!["etag", "cache-control", "expires"]));
    assert!(matches!(answer.body, Body::None));
    let failed = shop.get("a.txt", &[(IF_MATCH, "\"other\"")]).await;
    assert_eq!((failed.status, names(&failed)), (412, vec!["content-length", "cache-control"]));
}

#[tokio::test]
async fn the_tag_is_of_the_content_and_of_nothing_else() {
    let shop = Shop::new(64 * MIB);
    let big = vec![b'x'; 3 * 1024 * 1024];
    for (one, other, content) in [("a.txt", "b.css", &b"text"[..]), ("big", "big2", &big)] {
        shop.write(one, content);
        shop.write(other, content);
        let old = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        File::options().write(true).open(shop.path(other)).unwrap().set_times(old).unwrap();
        let (one, other) = (shop.get(one, &[]).await, shop.get(other, &[]).await);
        assert_eq!(field(&one, ETAG), field(&other, ETAG));
        assert_eq!(field(&one, ETAG).unwrap()[1..33], blake3::hash(content).to_hex()[..32]);
    }
}

#[tokio::test]
async fn last_modified_is_told_only_when_believable() {
    let shop = Shop::new(64 * MIB);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let told = Some("Sun, 09 Sep 2001 01:46:40 GMT".to_owned());
    let cases = [(at(0), None), (at(315_532_800), None), (tomorrow, None), (at(1_000_000_000), told)];
    for (i, (modified, told)) in cases.into_iter().enumerate() {
        let name = format!("{i}.txt");
        shop.write(&name, "text");
        let file = File::options().write(true).open(shop.path(&name)).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(field(&shop.get(&name, &[]).await, LAST_MODIFIED), told, "{modified:?}");
    }
}

#[tokio::test]
async fn one_file_under_many_handlers_has_each_one_s_head() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    for _ in 0..2 {
        for age in 0..10 {
            let options = StaticOptions { expiration: Duration::from_secs(age), ..plain() };
            let answer = shop.ask("a.txt", &Method::GET, &options, &[]).await;
            assert_eq!(field(&answer, "cache-control").unwrap(), format!("public, max-age={age}"));
            assert!(field(&answer, ETAG).is_some());
        }
    }
}

#[test]
fn a_root_that_is_no_directory_is_an_error() {
    let shop = Shop::new(0);
    shop.write("file", "");
    assert!(FileServer::open(&shop.path("file"), &[], 0).is_err());
    assert!(FileServer::open(&shop.path("none"), &[], 0).is_err());
}

#[test]
fn it_can_be_shared_by_all_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let shop = Shop::new(0);
    shop.write("a", "");
    shared(&shop.server);
    let (entry, options, request) = (shop.server.look("a").unwrap(), plain(), HeaderMap::new());
    sent(&shop.server.answer(&entry, &options, &Method::GET, &request));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_range_field_gets_a_sound_answer(
        line in prop_oneof![
            "bytes=[0-9]{0,6}-[0-9]{0,6}",
            "bytes=[0-9]{0,6}-[0-9]{0,6}(,[0-9]{0,2}-[0-9]{0,2})?",
            "[ -~]{0,20}",
        ],
        length in prop_oneof![0_usize..40, 65_000_usize..70_000, 250_000_usize..600_000],
    ) {
        let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let shop = Shop::new(0);
        shop.write("f", &content);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = shop.get("f", &[(RANGE, &line)]).await;
            let announced = field(&answer, "content-length").unwrap();
            let range = field(&answer, "content-range");
            let (status, sent) = (answer.status, bytes(answer.body).await.unwrap());
            assert_eq!(announced, sent.len().to_string());
            match (status, range) {
                (200, None) => assert_eq!(sent, content),
                (416, Some(range)) => assert_eq!(range, format!("bytes */{length}")),
                (206, Some(range)) => {
                    let (span, all) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
                    let (first, last) = span.split_once('-').unwrap();
                    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                    assert_eq!(all, length.to_string());
                    assert_eq!(sent, content[first..=last]);
                }
                other => panic!("{other:?}"),
            }
        });
    }
}
