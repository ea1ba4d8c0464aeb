//! What one routing decision costs, and that 200 handlers cost no more than twice what 5 do and load in 20 ms.
//!
//! Plain `std`: the best of several rounds, since noise only ever adds. Fails when a promise is broken.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use compat_proxy::appyaml::{self, App};
use compat_proxy::route::{Decision, Facts, Look, UrlMap};

const ROUNDS: usize = 15;
const REQUESTS: u32 = 20_000;
/// For 200 handlers: reading the files, compiling, and finding handlers nobody reaches.
const LONGEST_LOAD: Duration = Duration::from_millis(20);

/// What apps have: directories, single files, patterns with groups, admin pages, and a catch-all.
fn app(first: usize, count: usize) -> App {
    let mut text = String::from("runtime: python27\nthreadsafe: true\nhandlers:\n");
    for number in first..first + count {
        let _ = match number % 5 {
            0 => writeln!(text, "- url: /static{number}\n  static_dir: static/{number}"),
            1 => writeln!(text, "- url: /page{number}/(\\d+)/?\n  script: page{number}.app"),
            2 => writeln!(text, "- url: /admin{number}/.*\n  script: admin.app\n  login: admin"),
            3 => writeln!(
                text,
                "- url: /(img|css){number}/(.*\\.(gif|png|css))$\n  static_files: \\1/\\2\n  upload: .*"
            ),
            _ => writeln!(text, "- url: /api/v{number}/[a-z]+/[^/]+\n  script: api.app"),
        };
    }
    load(&text)
}

/// `count` handlers, one in front whose file may be missing, and a catch-all. A file holds 100, so more come from several.
fn map(count: usize) -> UrlMap {
    let mut whole = load(
        "runtime: python27\nthreadsafe: true\nhandlers:\n- url: /(.*\\.txt)\n  static_files: txt/\\1\n  upload: txt/.*\n  \
         require_matching_file: true\n- url: /.*\n  script: main.app\n",
    );
    let catch_all = whole.handlers.pop();
    for first in (0..count).step_by(90) {
        whole.handlers.extend(app(first, (count - first).min(90)).handlers);
    }
    whole.handlers.extend(catch_all);
    let map = UrlMap::compile(&whole).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(map.handlers().len(), count + 2);
    map
}

fn load(text: &str) -> App {
    let loaded = appyaml::load(Path::new("app.yaml"), &mut |_| Ok(text.as_bytes().to_vec()));
    loaded.app.unwrap_or_else(|| panic!("the benchmark's app.yaml is wrong: {:?}", loaded.problems))
}

fn decide<'m>(map: &'m UrlMap, path: &str) -> Decision<'m, ()> {
    let facts = Facts { https: true, path: path.as_bytes(), query: None };
    map.decide(&facts, &mut |_, file| {
        if file.starts_with("txt/") { Look::Missing("R-MISSING") } else { Look::Found(()) }
    })
}

/// Nanoseconds for one decision, in this round.
fn round(map: &UrlMap, path: &str) -> f64 {
    let start = Instant::now();
    for _ in 0..REQUESTS {
        black_box(decide(black_box(map), black_box(path)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

/// The best of some loads from nothing.
fn load_time(count: usize) -> Duration {
    let once = || {
        let start = Instant::now();
        black_box(map(count).unreachable());
        start.elapsed()
    };
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

fn main() {
    let paths = [
        ("catch-all", "/foo/bar"),
        ("long catch-all", "/a/rather/long/path/of/the/kind/that/old/apps/use/index.html"),
        ("static_dir", "/static0/css/site.css"),
        ("script", "/page1/1234/"),
        ("login", "/admin2/users"),
        ("static_files", "/css3/site.css"),
        ("last of many", "/api/v199/users/1"),
        ("file missing", "/foo/readme.txt"),
        ("other readings", "/foo//bar;x=1"),
        ("encoded", "/caf%C3%A9/x"),
    ];
    let (few, many) = (map(5), map(200));
    let mut broken = false;
    println!("{:<16} {:>12} {:>14} {:>6}", "path", "5 handlers", "200 handlers", "ratio");
    for (name, path) in paths {
        let (mut cheap, mut dear) = (f64::INFINITY, f64::INFINITY);
        // Turn by turn, so that a busy moment of the machine meets both.
        for _ in 0..ROUNDS {
            cheap = cheap.min(round(&few, path));
            dear = dear.min(round(&many, path));
        }
        let ratio = dear / cheap;
        broken |= ratio > 2.0;
        println!("{name:<16} {cheap:>9.0} ns {dear:>11.0} ns {ratio:>6.2}");
    }
    let load = load_time(200);
    println!(
        "{:<16} {:>9.1} ms {:>11.1} ms",
        "load",
        load_time(5).as_secs_f64() * 1e3,
        load.as_secs_f64() * 1e3
    );
    if broken {
        println!("200 handlers cost more than twice 5");
    }
    if load > LONGEST_LOAD {
        println!("200 handlers take longer than {LONGEST_LOAD:?} to load");
    }
    if broken || load > LONGEST_LOAD {
        std::process::exit(1);
    }
}
