//! What must hold for every table of handlers and every path.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::decide::{self, is_reserved};
use super::super::{path, readings};
use super::*;

/// Handlers of every kind, for the properties.
const POOL: [&str; 13] = [
    "/a.* script a admin",
    "/a/b script ab",
    "/(?!a).*b script hard",
    "/(?=.*b).* script look required",
    "/b|/c script bc",
    "/(.*) file \\1 .* must_exist",
    "/static dir static must_exist",
    "/.*\\.css file static/a.css .*",
    "/(.)\\1.* script twice",
    "/[^/]* script flat",
    "/c/.* script c always",
    "/.* script rest",
    "/_ah/.* script ah admin",
];

static COMPILED: LazyLock<Vec<Handler>> = LazyLock::new(|| POOL.iter().map(|line| handler(line)).collect());

fn handlers() -> impl Strategy<Value = Vec<Handler>> {
    let places = proptest::collection::vec(0..POOL.len(), 0..9);
    places.prop_map(|places| places.into_iter().map(|place| COMPILED[place].clone()).collect())
}

fn paths() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"/",
        b"a",
        b"b",
        b"c",
        b".",
        b"..",
        b"static",
        b"a.css",
        b"%2f",
        b"%25",
        b"%61",
        b";",
        b"\\",
        b"?",
        b"%3f",
        b"\xe9",
        b"%c1%a1",
        b"%u0061",
        b"\xef\xbd\x81",
        b"%01",
        b"_ah",
        b"start",
        b"b.txt",
        b"%00",
        b"#",
    ];
    proptest::collection::vec(proptest::sample::select(parts), 0..8)
        .prop_map(|parts| [b"/", parts.concat().as_slice()].concat())
}

/// The rules of the handlers again, one handler after another.
fn naive(map: &UrlMap, path: &str) -> String {
    for (index, handler) in map.handlers.iter().enumerate() {
        let row = map.table.row(index);
        let Some(groups) = row.pattern.full_match(path).unwrap() else { continue };
        if handler.login != Login::Optional {
            return format!("404 Login by {index}");
        }
        if handler.secure == Secure::Always {
            return "secure".to_owned();
        }
        let file = match &handler.target {
            Target::Script { script } => return format!("app {} by {index}", script.as_str()),
            Target::StaticDir { dir, .. } => {
                let rest = groups.get(row.pattern.group_count()).unwrap();
                format!("{dir}/{rest}")
            }
            Target::StaticFiles { path, .. } => path.expand(&groups).unwrap().into_owned(),
        };
        if FILES.contains(&file.as_str()) && !file.contains("/.") {
            return format!("file {file} by {index}");
        }
        if !decide::may_fall_on(handler) {
            return "missing".to_owned();
        }
    }
    "404 NoHandler".to_owned()
}

proptest! {
    #[test]
    fn the_compiled_map_agrees_with_a_loop_over_the_handlers(handlers in handlers(), path in "/[abc]{0,2}(/|static|a\\.css|b\\.txt|b){0,3}") {
        prop_assume!(!readings::possible(path.as_bytes()));
        let map = of(Era::Classic, handlers);
        let decision = ask(&map, false, path.as_bytes());
        let told = match &decision {
            Decision::Redirect { .. } => "secure".to_owned(),
            Decision::Refuse { why: Why::Missing(_), .. } => "missing".to_owned(),
            other => told(other),
        };
        prop_assert_eq!(told, naive(&map, &path));
    }

    #[test]
    fn no_bytes_panic_and_explain_decides_the_same(handlers in handlers(), path in proptest::collection::vec(any::<u8>(), 0..60)) {
        let map = of(Era::Modern, handlers);
        let facts = Facts { https: false, path: &path, query: None };
        prop_assert_eq!(map.decide(&facts, &mut look), map.explain(&facts, &mut look).decision);
    }

    #[test]
    fn a_path_with_a_protected_reading_is_never_served(handlers in handlers(), target in paths()) {
        let map = of(Era::Modern, handlers);
        let facts = Facts { https: false, path: &target, query: None };
        if !matches!(map.decide(&facts, &mut look), Decision::App { .. } | Decision::File { .. }) {
            return Ok(());
        }
        let bytes = path::decode(&target);
        let text = String::from_utf8_lossy(&bytes);
        readings::each(&text, &bytes, &mut |reading| {
            assert!(!is_reserved(reading), "{text} as {reading}");
            let other = path::encode(reading.as_bytes());
            let other = map.decide(&Facts { path: other.as_bytes(), ..facts }, &mut look);
            assert!(!matches!(other, Decision::Refuse { why: Why::Login, .. }), "{text} as {reading}");
            ControlFlow::Continue(())
        });
    }

    #[test]
    fn no_disguise_leads_into_a_protected_page(disguise in proptest::collection::vec(0_usize..8, 7)) {
        static MAP: LazyLock<UrlMap> =
            LazyLock::new(|| map(Era::Modern, &["/admin/x script a admin", "/.* script main"]));
        let path: String = "admin/x".chars().zip(&disguise).map(|(letter, way)| match (way, letter) {
            (0, '/') => "//".to_owned(),
            (1, '/') => "/./".to_owned(),
            (2, '/') => "%5c".to_owned(),
            (3, '/') => ";j=1/".to_owned(),
            (4, _) => format!("%{:02x}", u32::from(letter)),
            (5, _) => format!("%25{:02X}", u32::from(letter)),
            (6, _) => format!("%u{:04x}", u32::from(letter)),
            (7, _) => format!("%c{}%{:02x}", u32::from(letter) >> 6, 0x80 | (u32::from(letter) & 0x3f)),
            _ => letter.to_string(),
        }).collect();
        let decision = ask(&MAP, false, format!("/{path}").as_bytes());
        prop_assert!(!matches!(decision, Decision::App { .. } | Decision::File { .. }), "/{path}: {}", told(&decision));
    }
}
