//! What one request costs in allocations, counted over real sockets with everything in one process, that this does not
//! grow with handlers and workers (`e2e scale` measures the same in processor time), and what a file held in memory takes. Counts are the same on every machine, so a cost that grows is noticed here and not by users.
//!
//! No harness: nothing else may allocate while it is counted. To add a request, add a line to [`REQUESTS`].

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and print")]

use std::alloc::System;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_proxy::appyaml::{self, StaticOptions};
use compat_proxy::balance::{Address, Limits, Pool, Seat};
use compat_proxy::files::{Coding, FileServer};
use compat_proxy::route::{Facts, Look, UrlMap};
use compat_proxy::telemetry::metrics::Metrics;
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method};
use rustix::process::{Signal, getpid, kill_process};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is asked, the status that answers it, and the allocations that may take.
///
/// More than a tenth above the figure is a failure; so is more than a tenth below: write the new figure down, or the
/// next growth hides in the room that was won.
const REQUESTS: [(&str, &str, u16, f64); 5] = [
    ("a file", "GET /static/f.bin HTTP/1.1\r\nHost: a.example\r\n\r\n", 200, 23.0),
    (
        "a packed file",
        "GET /static/f.js HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip, br\r\n\r\n",
        200,
        23.0,
    ),
    (
        "a file the client has",
        "GET /static/f.bin HTTP/1.1\r\nHost: a.example\r\nIf-None-Match: *\r\n\r\n",
        304,
        23.0,
    ),
    ("no file", "GET /static/none HTTP/1.1\r\nHost: a.example\r\n\r\n", 404, 28.0),
    ("the app", "GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 200, 27.0),
];

const APP_YAML: &str = "runtime: python27
api_version: 1
threadsafe: true
handlers:
- url: /static
  static_dir: static
- url: /.*
  script: main.app
";

/// The app behind the proxy says always the same, and allocates nothing.
const ORIGIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // The proxy starts its guard from its own executable, which is this one.
    if args.get(1).is_some_and(|word| word == "__guard") {
        return compat_proxy::cli::main(args);
    }
    let tests: [(&str, fn()); 4] = [
        (
            "a_decision_among_200_handlers_costs_what_it_does_among_5",
            a_decision_among_200_handlers_costs_what_it_does_among_5,
        ),
        (
            "a_place_on_one_of_64_workers_is_taken_and_given_back_without_an_allocation",
            a_place_on_one_of_64_workers_is_taken_and_given_back_without_an_allocation,
        ),
        ("a_request_costs_what_it_did", a_request_costs_what_it_did),
        ("a_file_in_memory_takes_what_it_counts_for", a_file_in_memory_takes_what_it_counts_for),
    ];
    let filters: Vec<String> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let filters: Vec<&String> = filters.iter().filter(|word| !word.starts_with('-')).collect();
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn text(length: usize) -> Vec<u8> {
    b"var compat = function (proxy) { return proxy.answer; };\n"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn a_request_costs_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app");
    std::fs::create_dir_all(app.join("static")).unwrap();
    std::fs::write(app.join("app.yaml"), APP_YAML).unwrap();
    std::fs::write(app.join("static/f.bin"), text(1_024)).unwrap();
    std::fs::write(app.join("static/f.js"), text(5_000)).unwrap();
    let socket = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let listener = UnixListener::bind(folder.path().join("origin")).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(|| answer(connection));
        }
    });
    let mut args = vec!["compat-proxy".to_owned(), app.display().to_string()];
    for (option, value) in [
        ("--listen", socket("listen")),
        ("--admin", socket("admin")),
        ("--upstream", socket("origin")),
        ("--access-log", "off".to_owned()),
        ("--threads", "1".to_owned()),
    ] {
        args.extend([option.to_owned(), value]);
    }
    let proxy = std::thread::spawn(|| compat_proxy::cli::main(args.into_iter().map(OsString::from)));
    let mut client = connect(&folder.path().join("listen"));
    let mut wrong = Vec::new();
    for (what, request, status, figure) in REQUESTS {
        let length = settle(&mut client, request, status);
        let counted = (0..5).map(|_| count(&mut client, request, length)).fold(f64::MAX, f64::min);
        println!("{counted:>8.1} allocations: {what}");
        if counted > figure * 1.1 || counted < figure * 0.9 {
            wrong.push(format!("{what}: {counted:.1}, and the figure is {figure}"));
        }
    }
    drop(client);
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(proxy.join().unwrap(), ExitCode::SUCCESS);
    assert!(wrong.is_empty(), "allocations a request: {wrong:#?}");
}

/// Answers every request on one connection; each comes in one read.
fn answer(mut connection: UnixStream) {
    let mut request = [0; 4_096];
    while connection.read(&mut request).is_ok_and(|read| read > 0) {
        if connection.write_all(ORIGIN).is_err() {
            return;
        }
    }
}

fn connect(path: &Path) -> UnixStream {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "{}: {error}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks until the answer is the one wanted and everything is warm; returns its length, which stays the same.
fn settle(client: &mut UnixStream, request: &str, status: u16) -> usize {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let mut length = 0;
    for warm in 0.. {
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // Its end is where nothing more comes: only here, where it does not matter how long that takes.
        let mut piece = [0; 16 * 1024];
        while let Ok(read @ 1..) = client.read(&mut piece) {
            answer.extend_from_slice(&piece[..read]);
        }
        let right = answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes());
        assert!(right || Instant::now() < end, "{request}{}", String::from_utf8_lossy(&answer));
        if right && warm >= 2 && answer.len() == length {
            break;
        }
        length = if right { answer.len() } else { 0 };
    }
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = count(client, request, length);
    length
}

/// Allocations a request, over a few hundred of them.
fn count(client: &mut UnixStream, request: &str, length: usize) -> f64 {
    const TIMES: u32 = 300;
    let mut answer = vec![0; length];
    let counted = allocations(|| {
        for _ in 0..TIMES {
            client.write_all(request.as_bytes()).unwrap();
            client.read_exact(&mut answer).unwrap();
        }
    });
    f64::from(u32::try_from(counted).unwrap()) / f64::from(TIMES)
}

/// Allocations, one made larger among them, of what `work` does.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATOR.stats();
    work();
    let after = ALLOCATOR.stats();
    (after.allocations - before.allocations) + (after.reallocations - before.reallocations)
}

/// Handlers of every kind, more than one app.yaml may have (100).
fn map(count: usize) -> UrlMap {
    let part = |numbers: std::ops::Range<usize>| {
        let mut text = "runtime: python27\nthreadsafe: true\nhandlers:\n".to_owned();
        for number in numbers {
            text += &match number % 3 {
                0 => format!("- url: /static{number}\n  static_dir: static/{number}\n"),
                1 => format!("- url: /page{number}/(\\d+)/?\n  script: page{number}.app\n"),
                _ => format!("- url: /admin{number}/.*\n  script: admin.app\n  login: admin\n"),
            };
        }
        appyaml::load(Path::new("app.yaml"), &mut |_| Ok(text.as_bytes().to_vec())).app.unwrap()
    };
    let mut app = part(0..count.min(100));
    (100..count).step_by(100).for_each(|first| app.handlers.extend(part(first..count).handlers));
    UrlMap::compile(&app).unwrap()
}

fn a_decision_among_200_handlers_costs_what_it_does_among_5() {
    let counted = |count: usize, path: &str| {
        let map = map(count);
        let facts = Facts { https: true, path: path.as_bytes(), query: None };
        let decide = || drop(map.decide(&facts, &mut |_, _| Look::Found(())));
        // The first one makes room for the automaton's states.
        decide();
        allocations(decide)
    };
    for (first, last) in [
        ("/static0/a.css", "/static198/a.css"),
        ("/page1/7", "/page199/7"),
        ("/admin2/", "/admin197/"),
        ("/none", "/none"),
    ] {
        let [few, many] = [counted(5, first), counted(200, last)];
        println!("{few:>8} and {many} allocations: {first} of 5 handlers, {last} of 200");
        assert_eq!(few, many, "{first} and {last}");
    }
}

fn a_place_on_one_of_64_workers_is_taken_and_given_back_without_an_allocation() {
    for workers in [1, 64] {
        let limits = Limits { concurrency: 2, queue_depth: 1, queue_timeout: Duration::from_secs(1) };
        let pool = Pool::new(limits, Arc::new(Metrics::new().unwrap()));
        for slot in 0..workers {
            let address = Address::Tcp(([127, 0, 0, 1], 8000).into());
            pool.admit(Arc::new(Seat::new(slot, slot as u64, address, None)));
        }
        let lease = || drop(pool.try_lease(None).unwrap());
        lease();
        assert_eq!(allocations(|| (0..1000).for_each(|_| lease())), 0, "{workers} workers");
    }
}

fn a_file_in_memory_takes_what_it_counts_for() {
    const FILES: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    for i in 0..FILES {
        std::fs::write(folder.path().join(format!("{i}.js")), text(2_000)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = StaticOptions {
        mime_type: None,
        http_headers: vec![("X-Own".to_owned(), "a value of the app's".to_owned())],
        expiration: Duration::from_secs(600),
        require_matching_file: false,
    };
    let mut packed = HeaderMap::new();
    packed.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let mut again = packed.clone();
    again.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    let held = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
    };
    let server = FileServer::open(folder.path(), &["app.yaml".into()], 64 * 1024 * 1024).unwrap();
    let before = held();
    for i in 0..FILES {
        // Every answer there is leaves something behind.
        for (request, status, coding) in [
            (&HeaderMap::new(), 200, Coding::Identity),
            (&packed, 200, Coding::Gzip),
            (&again, 304, Coding::Identity),
        ] {
            let entry = server.look(&format!("{i}.js")).unwrap();
            let answer = runtime.block_on(server.answer(&entry, &options, &Method::GET, request));
            assert_eq!((answer.status, answer.coding), (status, coding));
        }
    }
    let taken = (held() - before) / FILES as i64;
    let usage = server.usage();
    let counted = i64::try_from(usage.bytes / usage.entries).unwrap();
    println!("{taken:>8} bytes for a file of 2,000, which counts for {counted}");
    assert_eq!(usage.entries, FILES as u64);
    assert!(taken <= counted, "{taken} bytes are taken and {counted} counted");
    assert!(counted <= 2 * taken, "{counted} bytes are counted and {taken} taken");
}
