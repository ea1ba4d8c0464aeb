//! The rules of the house, kept by a machine: imports go down the floors, files are one noun long and open with what
//! they are, and what is written twice is the same in both places.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The floor of each room. A room imports from lower floors only.
const FLOORS: [(&str, u8); 26] = [
    ("pattern", 0),
    ("secrets", 0),
    ("appyaml", 1),
    ("settings", 1),
    ("telemetry", 1),
    ("listen", 1),
    ("route", 2),
    ("files", 2),
    ("headers", 2),
    ("balance", 2),
    ("drain", 2),
    ("site", 3),
    ("door", 3),
    ("worker", 3),
    ("upstream", 3),
    ("plan", 4),
    ("explain", 4),
    ("export", 4),
    ("proxy", 5),
    ("reload", 5),
    ("admin", 6),
    ("run", 7),
    ("cli", 8),
    // The crate's own roots: they may name every room.
    ("lib", 9),
    ("main", 9),
    ("fuzz", 9),
];

/// The longest a file may be.
const MOST_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file beneath a folder: its path relative to that folder, and its text.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let base = root().join(folder);
    let mut found = BTreeMap::new();
    let mut open = vec![base.clone()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&base).unwrap().to_owned(), text);
            }
        }
    }
    assert!(found.len() > 4, "{} is nearly empty", base.display());
    found
}

fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Lines of code, comments left out, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The rooms a line names: `crate::room` and `crate::{room, other::Thing}`.
fn named(line: &str) -> Vec<String> {
    let word =
        |text: &str| text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    let mut rooms = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        // `$crate` and `some_crate::` are something else.
        if line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        match line[at + 7..].strip_prefix('{') {
            Some(list) => rooms.extend(list.split(['{', '}', ',']).map(|part| word(part.trim()))),
            None => rooms.push(word(&line[at + 7..])),
        }
    }
    rooms.retain(|room: &String| !room.is_empty());
    rooms
}

#[test]
fn every_room_has_its_floor() {
    for path in sources("src").keys() {
        assert!(floor(&room(path)).is_some(), "src/{} is on no floor", path.display());
    }
}

#[test]
fn every_import_goes_down() {
    let mut wrong = Vec::new();
    for (path, text) in &sources("src") {
        let own = room(path);
        let here = floor(&own).unwrap_or(u8::MAX);
        for (number, line) in code(text) {
            for other in named(line) {
                let Some(there) = floor(&other) else {
                    // What starts with a capital would be a name of the crate's root, which has none.
                    wrong.push(format!("src/{}:{number}: no room `{other}`: {line}", path.display()));
                    continue;
                };
                if other != own && there >= here {
                    let text = format!("`{own}` (floor {here}) imports from `{other}` (floor {there})");
                    wrong.push(format!("src/{}:{number}: {text}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_import_leaves_its_room_by_the_back_door() {
    let mut wrong = Vec::new();
    for (path, text) in &sources("src") {
        // `src/a/b/c.rs` is three modules deep, `src/a/mod.rs` one; `super` that often is the crate's root. An
        // inline `mod tests` is one deeper, so one more is let pass there.
        let names = path.components().count();
        let mut depth = if path.ends_with("mod.rs") { names - 1 } else { names };
        // `flags_tests.rs` is the module `flags::tests`.
        depth += usize::from(path.to_string_lossy().ends_with("_tests.rs"));
        let tests = text.find("mod tests {").unwrap_or(text.len());
        let mut at = 0;
        for line in text.lines() {
            let allowed = if at > tests { depth } else { depth - 1 };
            let supers = line.matches("super::").count();
            if line.trim_start().starts_with("use super::") && supers > allowed {
                wrong.push(format!("src/{}: {line}", path.display()));
            }
            at += line.len() + 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_opens_with_what_it_is() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (path, text) in &sources(folder) {
            if !text.starts_with("//! ") {
                wrong.push(format!("{folder}/{}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these do not open with `//!`: {wrong:#?}");
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let sources = [sources("src"), sources("benches")];
    let sources = sources.iter().flatten();
    let long = sources.map(|(path, text)| (path.display().to_string(), text.lines().count()));
    let long: Vec<_> = long.filter(|(_, lines)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:?}");
}

#[test]
fn no_test_is_switched_off_and_unsafe_has_one_home() {
    let mut homes = Vec::new();
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in &sources(folder) {
            for (number, line) in code(text) {
                let code = line.trim_start();
                if code.starts_with("#[ignore") || code.starts_with("#[should_panic") {
                    wrong.push(format!("{folder}/{}:{number}: {line}", path.display()));
                }
                if code.contains("unsafe {") || code.starts_with("unsafe ") || code.contains(" unsafe fn ") {
                    homes.push(path.display().to_string());
                }
            }
        }
    }
    homes.dedup();
    homes.retain(|path| path != "house.rs");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(homes.iter().all(|path| path == "worker/process.rs"), "unsafe code in {homes:?}");
}

#[test]
fn the_pingora_version_in_the_metrics_is_the_one_we_build_with() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"pingora\"\n")).unwrap();
    let line = entry.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
    let all = sources("src");
    let text: String =
        all.iter().filter(|(path, _)| path.starts_with("telemetry")).map(|(_, text)| text.as_str()).collect();
    let body = text.split("fn pingora_version()").nth(1).unwrap();
    let said = body.split('"').nth(1).unwrap();
    assert_eq!(format!("\"{said}\""), line);
}

#[test]
fn the_test_of_imports_sees_what_it_must() {
    assert_eq!(named("use crate::route::{UrlMap, Why};"), ["route"]);
    assert_eq!(named("use crate::{route, site::Site};"), ["route", "site"]);
    assert_eq!(named("let x = crate::plan::make(crate::site::read());"), ["plan", "site"]);
    assert_eq!(named("use other_crate::thing; // nothing"), Vec::<String>::new());
}
