//! A target decided by our map, and judged by every reading the test knows: what is passed to the app or answered with
//! a file can be taken for a protected page by nobody.

use std::path::Path;
use std::sync::LazyLock;

use compat_proxy::appyaml;
use compat_proxy::route::{Decision, Facts, Look, UrlMap};
use proptest::prelude::*;

use super::readings::some_reading;

const APP: &str = "\
runtime: python27
threadsafe: true
handlers:
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /account|/account/.*
  script: account.app
  login: required
- url: /.*
  script: main.app
";

static MAP: LazyLock<UrlMap> = LazyLock::new(|| {
    let loaded = appyaml::load(Path::new("app.yaml"), &mut |_| Ok(APP.as_bytes().to_vec()));
    UrlMap::compile(&loaded.app.expect("the app.yaml above is right")).expect("a map")
});

fn protected(path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path);
    let path = format!("/{}", path.trim_start_matches('/'));
    path.starts_with("/admin/") || path.starts_with("/account/") || path == "/account"
}

/// Decides a path as it would come after the strict check, and judges what was decided.
///
/// # Panics
/// When a path is let through that somebody could take for a protected page.
pub fn judge(path: &[u8]) {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut look = |_: usize, path: &str| {
        if path.len().is_multiple_of(2) { Look::Found(()) } else { Look::Missing("R-MISSING") }
    };
    let decision = MAP.decide(&Facts { https: false, path, query: None }, &mut look);
    let let_through = matches!(decision, Decision::App { .. } | Decision::File { .. });
    if let_through {
        let reading = some_reading(path, protected);
        assert_eq!(reading, Some(false), "{:?} was let through: {decision:?}", String::from_utf8_lossy(path));
    }
}

/// Protected paths, rewritten so that only some reader still sees them.
pub fn disguised() -> impl Strategy<Value = String> {
    let page =
        prop::sample::select(vec!["/admin/x", "/account", "/account/x", "/admin/"]).prop_map(str::to_owned);
    let step = (any::<prop::sample::Index>(), 0..10_u8);
    (page, prop::collection::vec(step, 0..4)).prop_map(|(page, steps)| {
        steps.into_iter().fold(page, |target, (at, how)| disguise(&target, at, how))
    })
}

fn disguise(target: &str, at: prop::sample::Index, how: u8) -> String {
    let letters: Vec<char> = target.chars().collect();
    let at = 1 + at.index(letters.len().max(2) - 1).min(letters.len().saturating_sub(2));
    let (before, after): (String, String) =
        (letters[..at].iter().collect(), letters[at + 1..].iter().collect());
    let letter = letters[at];
    let code = u32::from(letter);
    match how {
        0 if code < 0x80 => format!("{before}%{code:02x}{after}"),
        1 => target.replace('%', "%25"),
        2 if letter == '/' => format!("{before}//{after}"),
        3 if letter == '/' => format!("{before}\\{after}"),
        4 if letter == '/' => format!("{before};a=b/{after}"),
        5 => format!("/x/..{target}"),
        6 => format!("/.{target}"),
        7 if code < 0x80 => format!("{before}%u{code:04x}{after}"),
        8 if code < 0x80 => {
            format!("{before}%{:02x}%{:02x}{after}", 0xc0 | (code >> 6), 0x80 | (code & 0x3f))
        }
        9 => format!("{before}%09{letter}{after}"),
        _ => format!("/{target}"),
    }
}
