//! A static file looked up and answered: from memory, packed, in part, unchanged, missing, and streamed.

use std::time::Duration;

use compat_proxy::appyaml::StaticOptions;
use compat_proxy::files::{Body, Coding, FileServer};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use http::header::{ACCEPT, ACCEPT_ENCODING, ETAG, HOST, IF_NONE_MATCH, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const BIG: usize = 10 * 1024 * 1024;

/// A folder of files, and what serves it.
struct Site {
    server: FileServer,
    runtime: Runtime,
    _folder: TempDir,
}

impl Site {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("static")).unwrap();
        for (name, size) in [("1k.css", 1024), ("20k.js", 20 * 1024), ("10m.bin", BIG)] {
            std::fs::write(folder.path().join("static").join(name), vec![b'x'; size]).unwrap();
        }
        let server = FileServer::open(folder.path(), &["app.yaml".into()], 64 * 1024 * 1024).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // So that the first one measured is like the others.
        for _ in 0..100 {
            let _ = (server.look("static/1k.css"), server.look("static/none"));
        }
        Self { server, runtime, _folder: folder }
    }

    /// What a request that looks up and answers `path` takes; the answer must be `expected`.
    fn hit(
        &self,
        bencher: Bencher<'_, '_>,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        headers: &[(&str, &str)],
        expected: (u16, Coding),
    ) {
        let (request, options) = (request(more), options(headers));
        let answer = || {
            let entry = self.server.look(black_box(path)).unwrap();
            self.runtime.block_on(self.server.answer(&entry, &options, &Method::GET, black_box(&request)))
        };
        // The first time it is read, and packed where it can be.
        drop(answer());
        let got = answer();
        assert_eq!((got.status, got.coding), expected, "{path}");
        bencher.bench_local(answer);
    }
}

fn options(headers: &[(&str, &str)]) -> StaticOptions {
    StaticOptions {
        mime_type: None,
        http_headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        expiration: Duration::from_secs(600),
        require_matching_file: false,
    }
}

/// What a browser sends, and more.
fn request(more: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let usual =
        [(HOST, "localhost:8080"), (USER_AGENT, "bench"), (ACCEPT, "*/*"), (ACCEPT_ENCODING, "gzip, br")];
    let usual = usual.map(|(name, value)| (name, HeaderValue::from_static(value)));
    usual.into_iter().chain(more.iter().cloned()).collect()
}

#[divan::bench]
fn look(bencher: Bencher<'_, '_>) {
    let site = Site::open();
    bencher.bench_local(|| drop(black_box(site.server.look(black_box("static/1k.css")).unwrap())));
}

/// Each of so many threads for itself.
#[divan::bench(threads = [1, 2])]
fn look_by_threads(bencher: Bencher<'_, '_>) {
    let site = Site::open();
    bencher.bench(|| drop(black_box(site.server.look(black_box("static/1k.css")).unwrap())));
}

#[divan::bench]
fn look_for_what_is_missing(bencher: Bencher<'_, '_>) {
    let site = Site::open();
    bencher.bench_local(|| black_box(site.server.look(black_box("static/none"))).is_err());
}

/// In each of the answers below.
#[divan::bench]
fn block_on_nothing(bencher: Bencher<'_, '_>) {
    let site = Site::open();
    bencher.bench_local(|| site.runtime.block_on(async { black_box(()) }));
}

#[divan::bench]
fn answer_200(bencher: Bencher<'_, '_>) {
    Site::open().hit(bencher, "static/1k.css", &[], &[], (200, Coding::Identity));
}

#[divan::bench]
fn answer_200_with_http_headers(bencher: Bencher<'_, '_>) {
    let own = [("Access-Control-Allow-Origin", "*"), ("X-Frame-Options", "DENY")];
    Site::open().hit(bencher, "static/1k.css", &[], &own, (200, Coding::Identity));
}

#[divan::bench]
fn answer_200_gzip(bencher: Bencher<'_, '_>) {
    Site::open().hit(bencher, "static/20k.js", &[], &[], (200, Coding::Gzip));
}

#[divan::bench]
fn answer_206(bencher: Bencher<'_, '_>) {
    let range = (RANGE, HeaderValue::from_static("bytes=100-199"));
    Site::open().hit(bencher, "static/1k.css", &[range], &[], (206, Coding::Identity));
}

#[divan::bench]
fn answer_304(bencher: Bencher<'_, '_>) {
    let site = Site::open();
    let entry = site.server.look("static/1k.css").unwrap();
    let (options, request) = (options(&[]), request(&[]));
    let whole = site.server.answer(&entry, &options, &Method::GET, &request);
    let tag = site.runtime.block_on(whole).headers.get(ETAG).unwrap().clone();
    site.hit(bencher, "static/1k.css", &[(IF_NONE_MATCH, tag)], &[], (304, Coding::Identity));
}

#[divan::bench(sample_count = 20)]
fn stream_10_mib(bencher: Bencher<'_, '_>) {
    let (site, options, request) = (Site::open(), options(&[]), request(&[]));
    bencher.counter(BytesCount::new(BIG)).bench_local(|| {
        site.runtime.block_on(async {
            let entry = site.server.look("static/10m.bin").unwrap();
            let answer = site.server.answer(&entry, &options, &Method::GET, &request).await;
            let Body::Stream(mut reader) = answer.body else { panic!("not a stream") };
            while let Some(piece) = reader.next().await.unwrap() {
                black_box(piece);
            }
        });
    });
}
