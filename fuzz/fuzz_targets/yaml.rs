//! Any bytes as app.yaml, and as every file it includes: never a panic, never an endless loop.
#![no_main]

use std::path::Path;

use compat_proxy::appyaml::{Severity, load, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let loaded = load(Path::new("app.yaml"), &mut |_| Ok(bytes.to_vec()));
    let wrong = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(loaded.app.is_none(), wrong, "an application exactly when nothing is wrong");
    for problem in &loaded.problems {
        let text = render(problem, &loaded.texts, true);
        assert!(!text.contains('\u{1b}'), "no escape sequence reaches a terminal");
    }
});
