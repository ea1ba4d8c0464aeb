//! What README.md tells people to type is what is run here, and what it names exists.

use std::collections::BTreeSet;

use compat_proxy::settings::KEYS;
use regex::Regex;

use crate::{path, read};

/// Words with two dashes that are not options of `run`.
const OTHER_FLAGS: [&str; 6] = ["release", "locked", "bind", "start-period", "from", "help"];

/// The commands in ```sh blocks.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    blocks.filter_map(|block| Some(block.split_once("\n```")?.0.to_owned())).collect()
}

#[test]
fn two_commands_set_everything_up_and_the_tests_one_is_what_ci_runs() {
    let commands = commands(&read("README.md"));
    let [demo, tests] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(demo.ends_with("cargo run --release --locked -- tests/fixtures/apps/demo"));
    assert!(tests.ends_with("cargo test --locked"));
    assert!(read(".ci/run").lines().any(|line| line == tests), "{tests}");
    assert!(path("tests/fixtures/apps/demo/app.yaml").exists());
}

#[test]
fn every_option_named_exists() {
    let known: BTreeSet<&str> =
        KEYS.iter().map(|key| key.name).chain(["config"]).chain(OTHER_FLAGS).collect();
    let flag = Regex::new("--([a-z][a-z0-9-]*)").expect("a pattern");
    for file in ["README.md", "CHANGELOG.md"] {
        let text = read(file);
        for found in flag.captures_iter(&text) {
            assert!(known.contains(&found[1]), "{file} names --{}", &found[1]);
        }
    }
}

#[test]
fn every_path_linked_or_applied_exists() {
    let text = read("README.md");
    let link = Regex::new(r"\]\(([^)#:]+)\)").expect("a pattern");
    let mut targets: Vec<&str> =
        link.captures_iter(&text).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    let apply = Regex::new(r"-k (\S+?)`").expect("a pattern");
    targets.extend(apply.captures_iter(&text).filter_map(|found| Some(found.get(1)?.as_str())));
    assert!(targets.len() >= 4, "{targets:?}");
    for target in targets {
        assert!(path(target).exists(), "{target}");
    }
}
