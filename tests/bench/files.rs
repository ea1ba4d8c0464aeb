//! What a hit of the static cache costs: a file looked up and answered, as it lies, packed or not modified, and a look
//! by one thread and by two.
//!
//! `cargo bench --bench files`. Times of a shared machine differ from run to run; compare within one.

#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot begin should stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use compat_proxy::appyaml::StaticOptions;
use compat_proxy::files::{Body, FileServer};
use http::header::{ACCEPT, ACCEPT_ENCODING, ETAG, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use tokio::runtime::Builder;

const ROUNDS: u32 = 7;
const TIMES: u32 = 200_000;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("static")).unwrap();
    std::fs::write(dir.path().join("static/1k.css"), [b'x'; 1024]).unwrap();
    std::fs::write(dir.path().join("static/20k.js"), [b'x'; 20 * 1024]).unwrap();
    std::fs::write(dir.path().join("static/10m.bin"), vec![b'x'; 10 * 1024 * 1024]).unwrap();
    let server = FileServer::open(dir.path(), &["app.yaml".into()], 64 * 1024 * 1024).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();

    let look = || {
        black_box(server.look(black_box("static/1k.css")).unwrap());
    };
    let hit = |request: &HeaderMap, options: &StaticOptions| {
        let entry = server.look(black_box("static/1k.css")).unwrap();
        black_box(runtime.block_on(server.answer(&entry, options, &Method::GET, request)));
    };
    let plain = options(&[]);
    let own = options(&[("Access-Control-Allow-Origin", "*"), ("X-Frame-Options", "DENY")]);
    let known = asking_again(&server, &runtime, &plain);

    tell("block_on of nothing (in all below)", TIMES, || runtime.block_on(async { black_box(()) }));
    tell("look", TIMES, look);
    tell("look and answer, 200", TIMES, || hit(&usual(), &plain));
    tell("the request's own headers (in all with answer)", TIMES, || drop(black_box(usual())));
    tell("look and answer, 200 with http_headers", TIMES, || hit(&usual(), &own));
    tell("look and answer, 304", TIMES, || hit(&known, &plain));
    tell("look and answer, 200 packed", TIMES, || {
        let entry = server.look(black_box("static/20k.js")).unwrap();
        black_box(runtime.block_on(server.answer(&entry, &plain, &Method::GET, &usual())));
    });
    tell("look for what is missing", TIMES, || drop(black_box(server.look(black_box("static/none")))));
    tell("10 MiB streamed", 20, || {
        runtime.block_on(async {
            let entry = server.look("static/10m.bin").unwrap();
            let answer = server.answer(&entry, &plain, &Method::GET, &usual()).await;
            let Body::Stream(mut reader) = answer.body else { return };
            while let Some(piece) = reader.next().await.unwrap() {
                black_box(piece);
            }
        });
    });
    let alone = two_at_once(&server, 1);
    println!("{:>10.1} ns  look, one thread", alone);
    println!("{:>10.1} ns  look, each of two threads at once", two_at_once(&server, 2));
}

fn options(headers: &[(&str, &str)]) -> StaticOptions {
    StaticOptions {
        mime_type: None,
        http_headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        expiration: Duration::from_secs(600),
        require_matching_file: false,
    }
}

/// What a browser sends.
fn usual() -> HeaderMap {
    let mut request = HeaderMap::new();
    for (name, value) in
        [(HOST, "localhost:8080"), (USER_AGENT, "bench"), (ACCEPT, "*/*"), (ACCEPT_ENCODING, "gzip, br")]
    {
        request.insert(name, HeaderValue::from_static(value));
    }
    request
}

/// A request with the tag of what it has.
fn asking_again(
    server: &FileServer,
    runtime: &tokio::runtime::Runtime,
    options: &StaticOptions,
) -> HeaderMap {
    let entry = server.look("static/1k.css").unwrap();
    let answer = runtime.block_on(server.answer(&entry, options, &Method::GET, &HeaderMap::new()));
    let tag = answer.headers.get(ETAG).unwrap().clone();
    let mut request = usual();
    request.insert(IF_NONE_MATCH, tag);
    request
}

/// The best of a few rounds: what disturbs only ever adds.
fn tell(what: &str, times: u32, mut work: impl FnMut()) {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..times {
            work();
        }
        start.elapsed()
    });
    let best = rounds.min().unwrap_or_default();
    println!("{:>10.1} ns  {what}", best.as_secs_f64() * 1e9 / f64::from(times));
}

fn two_at_once(server: &FileServer, threads: u32) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..TIMES {
                    black_box(server.look(black_box("static/1k.css")).unwrap());
                }
            });
        }
    });
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}
