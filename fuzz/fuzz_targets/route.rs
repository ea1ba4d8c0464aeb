//! A pattern and a path, both from the fuzzer: nothing panics, what is protected stays so, `explain` agrees.
//!
//! The input is a url pattern, a newline, and the path as received.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use compat_proxy::appyaml::{self, App};
use compat_proxy::pattern::Pattern;
use compat_proxy::route::{Decision, Facts, Look, UrlMap};
use libfuzzer_sys::fuzz_target;

const APP: &str = "\
runtime: python27
threadsafe: true
handlers:
- url: /admin(/.*)?
  script: admin.app
  login: admin
- url: /static
  static_dir: static
  require_matching_file: true
- url: /fuzzed
  script: fuzzed.app
- url: /.*
  script: main.app
";
/// The handler whose pattern comes from the fuzzer.
const FUZZED: usize = 2;

static BASE: LazyLock<App> = LazyLock::new(|| {
    let loaded = appyaml::load(Path::new("app.yaml"), &mut |_| Ok(APP.as_bytes().to_vec()));
    loaded.app.expect("the app.yaml above is right")
});

fn look(_: usize, path: &str) -> Look<()> {
    if path.len() % 2 == 0 { Look::Found(()) } else { Look::Missing("R-MISSING") }
}

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (pattern, path) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let Ok(pattern) = Pattern::parse(pattern) else { return };
    let mut app = BASE.clone();
    app.handlers[FUZZED].url = pattern;
    let Ok(map) = UrlMap::compile(&app) else { return };
    let facts = Facts { https: false, path, query: None };
    let decision = map.decide(&facts, &mut look);
    let explained = map.explain(&facts, &mut look);
    assert_eq!(decision, explained.decision);
    if let (Decision::File { .. } | Decision::App { .. }, Some(path)) = (&decision, &explained.path) {
        assert!(!path.starts_with("/admin/") && path != "/admin", "{path}");
    }
    if let Decision::File { path, .. } = &decision {
        assert!(path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{path}");
    }
});
