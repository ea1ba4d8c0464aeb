//! What a person reads when app.yaml is wrong: each file in `fixtures/broken` with all its findings beside it.
//!
//! After a change of wording, run once with `UPDATE_SNAPSHOTS=1` and read what changed.

use std::fs;
use std::path::Path;

use compat_proxy::appyaml::{Severity, load, render};

fn told(folder: &Path, name: &str) -> (String, bool) {
    let loaded = load(Path::new(name), &mut |path| fs::read(folder.join(path)));
    let texts: Vec<String> =
        loaded.problems.iter().map(|problem| render(problem, &loaded.texts, true) + "\n").collect();
    let wrong = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(loaded.app.is_none(), wrong, "{name}");
    (texts.join("\n"), wrong)
}

#[test]
fn every_broken_file_says_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/broken");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain names"))
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 40, "only {} broken files", names.len());

    let mut changed = Vec::new();
    for name in names {
        let (text, wrong) = told(&folder, &name);
        assert!(wrong, "{name} is not broken");
        let snapshot = folder.join(name.replace(".yaml", ".txt"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&snapshot, &text).expect("the snapshot can be written");
        }
        if fs::read_to_string(&snapshot).ok().as_deref() != Some(&*text) {
            changed.push(format!("--- {name}\n{text}"));
        }
    }
    assert!(changed.is_empty(), "these findings changed:\n{}", changed.join("\n"));
}
