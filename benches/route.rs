//! From a request's target to a decision: the path read, the handler found, and an app.yaml compiled.

use std::fmt::Write as _;
use std::path::Path;

use compat_proxy::appyaml::{self, App};
use compat_proxy::route::{Decision, Facts, Look, UrlMap};
use divan::{Bencher, black_box};

/// How many handlers; a file of app.yaml holds 100 at most, more come with includes.
const SIZES: [usize; 3] = [5, 50, 200];

/// What apps have: directories, single files, patterns with groups, admin pages.
fn handler(number: usize) -> String {
    match number % 5 {
        0 => format!("- url: /static{number}\n  static_dir: static/{number}\n"),
        1 => format!("- url: /page{number}/(\\d+)/?\n  script: page{number}.app\n"),
        2 => format!("- url: /admin{number}/.*\n  script: admin.app\n  login: admin\n"),
        3 => format!(
            "- url: /(img|css){number}/(.*\\.(gif|png|css))$\n  static_files: \\1/\\2\n  upload: .*\n"
        ),
        _ => format!("- url: /api/v{number}/[a-z]+/[^/]+\n  script: api.app\n"),
    }
}

fn load(handlers: &str) -> App {
    let text = format!("runtime: python27\nthreadsafe: true\nhandlers:\n{handlers}");
    let loaded = appyaml::load(Path::new("app.yaml"), &mut |_| Ok(text.as_bytes().to_vec()));
    loaded.app.unwrap_or_else(|| panic!("the benchmark's app.yaml is wrong: {:?}", loaded.problems))
}

fn app(count: usize) -> App {
    let part = |first: usize| {
        let mut text = String::new();
        (first..count.min(first + 100)).for_each(|number| {
            let _ = write!(text, "{}", handler(number));
        });
        load(&text)
    };
    let mut app = part(0);
    (100..count).step_by(100).for_each(|first| app.handlers.extend(part(first).handlers));
    app
}

fn compile(app: &App) -> UrlMap {
    UrlMap::compile(app).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn decide<'m>(map: &'m UrlMap, path: &str) -> Decision<'m, ()> {
    let facts = Facts { https: true, path: path.as_bytes(), query: None };
    map.decide(&facts, &mut |_, _| Look::Found(()))
}

/// The path of a request that only a catch-all handler gets, read in all ways that matter (R-DOTS, R-READINGS).
#[divan::bench(args = [
    "/guestbook/entries",
    "/a/rather/long/path/of/the/kind/that/old/apps/use/index.html",
    "/caf%C3%A9/cr%C3%A8me",
    "/a/./b/../c/%2e%2e/d",
    "/foo//bar;x=1",
    "/%2561dmin/..%5c..%2f;/%EF%BD%81dmin",
])]
fn path(bencher: Bencher<'_, '_>, path: &str) {
    let map = compile(&load("- url: /.*\n  script: main.app\n"));
    // So that the first one measured is like the others.
    (0..100).for_each(|_| drop(decide(&map, path)));
    bencher.bench_local(|| drop(black_box(decide(&map, black_box(path)))));
}

#[divan::bench(args = SIZES)]
fn first_handler_matches(bencher: Bencher<'_, '_>, handlers: usize) {
    let map = compile(&app(handlers));
    assert!(matches!(decide(&map, "/static0/css/site.css"), Decision::File { handler: 0, .. }));
    bencher.bench_local(|| drop(black_box(decide(&map, black_box("/static0/css/site.css")))));
}

#[divan::bench(args = SIZES)]
fn last_handler_matches(bencher: Bencher<'_, '_>, handlers: usize) {
    let map = compile(&app(handlers));
    let (last, path) = (handlers - 1, format!("/api/v{}/users/1", handlers - 1));
    assert!(matches!(decide(&map, &path), Decision::App { handler: Some(handler), .. } if handler == last));
    bencher.bench_local(|| drop(black_box(decide(&map, black_box(&path)))));
}

#[divan::bench(args = SIZES)]
fn no_handler_matches(bencher: Bencher<'_, '_>, handlers: usize) {
    let map = compile(&app(handlers));
    assert!(matches!(decide(&map, "/none/of/them"), Decision::Refuse { handler: None, .. }));
    bencher.bench_local(|| drop(black_box(decide(&map, black_box("/none/of/them")))));
}

/// Once, at start and at each reload.
#[divan::bench(args = SIZES, sample_count = 20)]
fn load_and_compile(bencher: Bencher<'_, '_>, handlers: usize) {
    bencher.bench_local(|| compile(&app(handlers)));
}
