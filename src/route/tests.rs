//! Whole decisions, rule by rule, as tables. What must hold for every path is in `properties`.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::appyaml::{Login, Place, Secure, StaticOptions, Target};
use crate::pattern::Template;

mod properties;
mod walks;

const SKIP: &str = r"^(.*/)?((#.*#)|(.*~)|(.*\.py[co])|(.*/RCS/.*)|(\..*)|)$";
/// The files that are there; `locked` cannot be read, `dir` is a directory.
const FILES: [&str; 6] = ["static/a.css", "static/.hid", "img/a.png", "index.html", "b.txt", "caf\u{fffd}"];

/// A handler from a line: `URL script NAME`, `URL dir DIR` or `URL file TEMPLATE UPLOAD`, then flags.
fn handler(line: &str) -> Handler {
    let words: Vec<&str> = line.split(' ').collect();
    let has = |flag: &str| words.contains(&flag);
    let options = || StaticOptions {
        mime_type: None,
        http_headers: Vec::new(),
        expiration: Duration::ZERO,
        require_matching_file: has("must_exist"),
    };
    let target = match words[1] {
        "script" => Target::Script { script: Template::parse(words[2]) },
        "dir" => {
            let reachable = !words[2].starts_with('/') && !words[2].contains("..");
            Target::StaticDir { dir: words[2].to_owned(), reachable, options: options() }
        }
        _ => Target::StaticFiles {
            path: Template::parse(words[2]),
            upload: Pattern::parse(words[3]).ok(),
            options: options(),
        },
    };
    let login = match (has("admin"), has("required")) {
        (true, _) => Login::Admin,
        (_, true) => Login::Required,
        _ => Login::Optional,
    };
    let secure = match (has("always"), has("never")) {
        (true, _) => Secure::Always,
        (_, true) => Secure::Never,
        _ => Secure::Optional,
    };
    let place = Place { file: Arc::from("app.yaml"), line: 1, column: 1 };
    let redirect_code = if has("307") { 307 } else { 302 };
    Handler { url: Pattern::parse(words[0]).unwrap(), target, login, secure, redirect_code, place }
}

fn map(era: Era, lines: &[&str]) -> UrlMap {
    of(era, lines.iter().map(|line| handler(line)).collect())
}

fn of(era: Era, handlers: Vec<Handler>) -> UrlMap {
    let table = Table::compile(&handlers).unwrap();
    UrlMap { handlers, table, skip_files: Pattern::parse(SKIP).unwrap(), era }
}

fn look(_: usize, path: &str) -> Look<()> {
    match path {
        "locked" => Look::Forbidden,
        "dir" | "static" => Look::Missing("R-DIR404"),
        _ if FILES.contains(&path) => Look::Found(()),
        _ => Look::Missing("R-MISSING"),
    }
}

fn ask<'m>(map: &'m UrlMap, https: bool, target: &[u8]) -> Decision<'m, ()> {
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or_default();
    let query = parts.next().and_then(|query| std::str::from_utf8(query).ok());
    map.decide(&Facts { https, path, query }, &mut look)
}

fn told(decision: &Decision<'_, ()>) -> String {
    let by = |handler: &Option<usize>| handler.map_or(String::new(), |handler| format!(" by {handler}"));
    match decision {
        Decision::Health => "health".to_owned(),
        Decision::App { handler, script } => {
            format!("app {}{}", script.as_deref().unwrap_or("-"), by(handler))
        }
        Decision::File { handler, path, .. } => format!("file {path} by {handler}"),
        Decision::Redirect { status, to, why, .. } => format!("{status} {} {why:?}", to.url("own", "h:1")),
        Decision::Refuse { status, handler, why } => format!("{status} {why:?}{}", by(handler)),
    }
}

#[track_caller]
fn check(map: &UrlMap, table: &[(&str, &str)]) {
    for (target, expected) in table {
        assert_eq!(told(&ask(map, false, target.as_bytes())), *expected, "{target}");
    }
}

#[test]
fn the_first_match_in_file_order_decides_and_covers_the_whole_path() {
    let map = map(
        Era::Classic,
        &["/a|/b script ab", "/alt|/altx script alt", "/x$ script x", "/(\\w+)/v script \\1.app"],
    );
    check(
        &map,
        &[
            ("/a", "app ab by 0"),
            ("/ab", "404 NoHandler"),
            ("/altx", "app alt by 1"),
            ("/x", "app x by 2"),
            ("/x%0A", "404 NoHandler"),
            ("/foo/v", "app foo.app by 3"),
            ("/foo/v?q=/a", "app foo.app by 3"),
        ],
    );
}

#[test]
fn a_login_handler_is_404_before_any_redirect_file_or_fall_through() {
    let map = map(
        Era::Modern,
        &[
            "/admin.* script a admin always",
            "/f/(.*) file static/\\1 .* required must_exist",
            "/.* script main",
        ],
    );
    check(
        &map,
        &[
            ("/admin", "404 Login by 0"),
            ("/%61dmin/x", "404 Login by 0"),
            ("/f/none", "404 Login by 1"),
            ("/f/a.css", "404 Login by 1"),
            ("/Admin", "app main by 2"),
            ("/administrator", "404 Login by 0"),
            ("/pub/admin", "app main by 2"),
            ("/x?u=/admin", "app main by 2"),
        ],
    );
}

#[test]
fn a_path_another_reader_would_find_protected_is_404() {
    let map = map(Era::Classic, &["/admin(/.*)? script a admin", "/.* script main"]);
    for target in [
        "//admin",
        "/%2561dmin",
        "/admin;a=b",
        "/admin%3Fx",
        "/admin%23x",
        "/x%5C..%5Cadmin",
        "/..;/admin",
        "/%c1%a1dmin",
        "/%25u0061dmin",
        "/%EF%BD%81dmin",
        "/ad%01min",
        "/admin%2500.png",
        "/x/%252e%252e/admin/",
        "/_ah//start",
        "/_ah/upload;x/y",
    ] {
        assert_eq!(told(&ask(&map, false, target.as_bytes())), "404 Reading", "{target}");
    }
    for target in
        ["/a%2Fb", "/x;y=z", "/caf%E9", "/..hidden", "//x", "/a%20b", "/admin.", "/%E6%97%A5%E6%9C%AC"]
    {
        assert_eq!(told(&ask(&map, false, target.as_bytes())), "app main by 1", "{target}");
    }
}

#[test]
fn more_readings_than_an_honest_path_has_are_refused() {
    let map = map(Era::Classic, &["/.* script main"]);
    assert_eq!(told(&ask(&map, false, format!("/a%{}", "25".repeat(100)).as_bytes())), "app main by 0");
    assert_eq!(told(&ask(&map, false, format!("/a%{}", "25".repeat(400)).as_bytes())), "404 Reading");
    let long = format!("/{}", "a//%25;".repeat(2_000));
    assert_eq!(told(&ask(&map, false, long.as_bytes())), "app main by 0");
}

#[test]
fn dot_segments_redirect_before_any_handler_and_keep_the_query() {
    let map = map(Era::Classic, &["/.* script main admin"]);
    check(
        &map,
        &[
            ("/a/../b?q=1", "302 own://h:1/b?q=1 Dots"),
            ("/..", "302 own://h:1/ Dots"),
            ("/.//evil/x", "302 own://h:1//evil/x Dots"),
            ("/%2e%2e/_ah/health", "302 own://h:1/_ah/health Dots"),
        ],
    );
}

#[test]
fn health_is_answered_and_reserved_paths_are_nobodys() {
    let map = map(Era::Modern, &["/_ah/.* script ah"]);
    check(
        &map,
        &[
            ("/_ah/health", "health"),
            ("/_ah/health?VersionID=1", "health"),
            ("/_ah/health/", "app ah by 0"),
            ("/_ah/start", "404 Reserved"),
            ("/_ah/%73top", "404 Reserved"),
            ("/_ah/upload/x", "404 Reserved"),
            ("/_ah/upload", "app ah by 0"),
            ("/_ah/warmup", "app ah by 0"),
        ],
    );
}

#[test]
fn a_path_that_is_none_is_400_and_one_that_is_no_utf8_still_goes_to_the_app() {
    let map = map(Era::Classic, &["/dir/(.*) file \\1 .*", "/.* script main"]);
    check(&map, &[("admin", "400 BadPath"), ("/a%00", "400 BadPath"), ("/caf%E9", "app main by 1")]);
    assert_eq!(told(&ask(&map, false, b"/caf\xe9")), "app main by 1");
    check(
        &map,
        &[("/dir/caf%E9", "404 Missing(\"R-UTF8\") by 0"), ("/dir/caf%EF%BF%BD", "file caf\u{fffd} by 0")],
    );
}

#[test]
fn a_scheme_the_handler_does_not_want_is_redirected() {
    let map = map(Era::Classic, &["/s/.* script s always 307", "/n/.* script n never"]);
    assert_eq!(told(&ask(&map, false, b"/s/a%20b?q=1")), "307 https://h/s/a%20b?q=1 Secure");
    assert_eq!(told(&ask(&map, true, b"/s/a")), "app s by 0");
    assert_eq!(told(&ask(&map, true, b"/n/caf%E9?q=1")), "302 http://h/n/caf%E9 Secure");
    assert_eq!(told(&ask(&map, false, b"/n/a")), "app n by 1");
}

#[test]
fn a_static_file_must_be_clean_uploaded_and_not_skipped() {
    let map = map(
        Era::Classic,
        &[
            "/st dir ./static/",
            "/up dir ../x",
            "/img/(.*) file img/\\1 img/.*\\.png",
            "/f/(.*) file ./\\1 ./.*",
            "/bad/(.*) file \\2 .*",
            "/r/st(x)? dir .",
        ],
    );
    check(
        &map,
        &[
            ("/st/a.css", "file static/a.css by 0"),
            ("/st", "404 NoHandler"),
            ("/st/", "404 Missing(\"R-CLEANPATH\") by 0"),
            ("/st//a.css", "404 Missing(\"R-CLEANPATH\") by 0"),
            ("/st/a%5Cb", "404 Missing(\"R-CLEANPATH\") by 0"),
            ("/st/.hid", "404 Missing(\"R-SKIP\") by 0"),
            ("/st/none", "404 Missing(\"R-MISSING\") by 0"),
            ("/up/a", "404 Missing(\"R-CLEANPATH\") by 1"),
            ("/img/a.png", "file img/a.png by 2"),
            ("/img/a.pngx", "404 Missing(\"R-UPLOAD\") by 2"),
            ("/f/b.txt", "file b.txt by 3"),
            ("/f/dir", "404 Missing(\"R-DIR404\") by 3"),
            ("/f/locked", "403 Forbidden by 3"),
            ("/f//etc/passwd", "404 Missing(\"R-CLEANPATH\") by 3"),
            ("/bad/x", "404 Missing(\"R-CLEANPATH\") by 4"),
            ("/r/stx/b.txt", "file b.txt by 5"),
            ("/r/st/b.txt", "file b.txt by 5"),
        ],
    );
}

#[test]
fn a_file_that_must_exist_and_does_not_goes_on_to_the_next_match() {
    let map = map(
        Era::Modern,
        &[
            "/(.*) file \\1 .* must_exist",
            "/(?!x).*l script hard",
            "/.*t dir img must_exist",
            "/st.* script st admin",
            "/b.* script b",
        ],
    );
    check(
        &map,
        &[
            ("/b.txt", "file b.txt by 0"),
            ("/bxt", "app b by 4"),
            ("/bl", "app hard by 1"),
            ("/xl", "app -"),
            ("/st/none", "404 Login by 3"),
            ("/t/a.png", "file img/a.png by 2"),
            ("/q", "app -"),
            ("/locked", "403 Forbidden by 0"),
        ],
    );
}

#[test]
fn a_pattern_that_does_not_end_is_500_and_never_falls_past_a_login_handler() {
    let map = map(Era::Modern, &[r"/(a|aa)+\1?(?!x)b script a admin", "/.* script main"]);
    let path = format!("/{}", "a".repeat(200));
    assert_eq!(told(&ask(&map, false, path.as_bytes())), "500 Overrun");
    assert_eq!(told(&ask(&map, false, format!("/{path}").as_bytes())), "500 Overrun", "a reading counts too");
}

#[test]
fn patterns_that_are_too_large_together_are_told_with_the_largest_before_any_is_compiled() {
    let mut lines = vec!["/(a{1000}){100} script big"; 90];
    lines.push("/(a{1000}){101} script bigger");
    let handlers: Vec<Handler> = lines.iter().map(|line| handler(line)).collect();
    let problems = Table::compile(&handlers).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(
        problem.message,
        "the patterns of all handlers are too large together: 9119384 steps, at most 200000; the largest is \
         `url: /(a{1000}){101}` with 101204"
    );
}

#[test]
fn a_directory_url_that_only_its_slash_completes_is_a_problem_with_its_place() {
    let problems = Table::compile(&[handler("/x script x"), handler("/a\\/ dir static")]).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.message, "`url: /a\\/` for a directory: bad escape (end of pattern) at position 2");
    assert_eq!(problem.place, handler("/x script x").place);
}

#[test]
fn an_ordinary_decision_names_the_script_without_a_copy() {
    let map = map(Era::Classic, &["/.* script main.app"]);
    assert!(matches!(
        ask(&map, false, b"/foo/bar"),
        Decision::App { script: Some(Cow::Borrowed("main.app")), .. }
    ));
}

#[test]
fn an_explanation_tells_why_each_earlier_handler_was_not_it() {
    let map =
        map(Era::Classic, &["/st dir static must_exist", "/a script a", "/.* script main", "/z script z"]);
    let explain = |path: &str| {
        let told = map.explain(&Facts { https: false, path: path.as_bytes(), query: None }, &mut look);
        let steps = told.steps.iter().map(|step| match step.handler {
            Some(handler) => format!("{handler} {}", step.reason),
            None => step.reason.clone(),
        });
        steps.collect::<Vec<_>>()
    };
    assert_eq!(
        explain("/st/.hid"),
        ["0 file missing (R-SKIP), require_matching_file: next", "1 url does not match", "2 script: main"]
    );
    assert_eq!(explain("/_ah/start"), ["reserved by App Engine (R-RESERVED): 404"]);
    assert_eq!(explain("/a/.."), ["dot segments: 302 to / (R-DOTS)"]);
    assert_eq!(explain("/_ah//stop"), ["could be read as `/_ah/stop`, which is reserved (R-READINGS): 404"]);
}

#[test]
fn a_protected_reading_is_explained_with_its_handler() {
    let map = map(Era::Classic, &["/x script x", "/admin script a admin", "/.* script main"]);
    let told = map.explain(&Facts { https: false, path: b"//admin", query: None }, &mut look);
    let reason = &told.steps.last().unwrap().reason;
    assert_eq!(reason, "could be read as `/admin`, which is handler 1, login: admin (R-READINGS): 404");
    assert_eq!(told.path.as_deref(), Some("//admin"));
}

#[test]
fn handlers_behind_a_catch_all_are_told_and_those_behind_a_file_that_must_exist_are_not() {
    let map = map(
        Era::Classic,
        &[
            "/(.*) file \\1 .* must_exist",
            "/a/.* script a",
            "/a/b script b",
            "/st dir static",
            "/st/.* script s",
            "/.* script c",
            "/(?!q).* script d",
        ],
    );
    let told: Vec<_> = map.unreachable().iter().map(|covered| (covered.handler, covered.by)).collect();
    assert_eq!(told, [(2, 1), (4, 3), (6, 5)]);
}

#[test]
fn two_hundred_handlers_are_one_table() {
    let lines: Vec<String> = (0..200).map(|number| format!("/h{number}/(.*)/x$ script s{number}")).collect();
    let map = map(Era::Classic, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(told(&ask(&map, false, b"/h199/a/b/x")), "app s199 by 199");
    assert_eq!(told(&ask(&map, false, b"/h200/a/x")), "404 NoHandler");
}
