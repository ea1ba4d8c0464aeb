//! What README.md and its sisters tell people to type is what is run here, and what they name exists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use compat_proxy::settings::KEYS;
use regex::Regex;

use crate::{BINARY, path, read};

/// Words with two dashes that are not options of ours.
const OTHER_FLAGS: [&str; 7] = ["release", "locked", "bind", "start-period", "from", "help", "test"];
/// What people read before they type.
const PAGES: [&str; 4] = ["README.md", "CHANGELOG.md", "config/README.md", "config/leaving-app-engine.md"];

/// What a command says of itself.
fn help(words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).arg("--help").env("COLUMNS", "110").output();
    String::from_utf8(output.expect("the program starts").stdout).expect("text")
}

/// The commands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("\nCommands:\n").expect("a list of commands");
    let names = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// `code meaning` for each exit code of a sentence that begins with `Exit codes:`.
fn exit_codes(text: &str) -> Vec<String> {
    let (_, codes) = text.split_once("Exit codes:").expect("exit codes");
    let codes = codes.split("\n\n").next().unwrap_or_default().replace('\n', " ").replace(" or ", ", ");
    let code = Regex::new(r"\d+ [a-z]").expect("a pattern");
    let starts: Vec<usize> = code.find_iter(&codes).map(|found| found.start()).collect();
    let ends = starts.iter().skip(1).copied().chain([codes.len()]);
    let tidy = |text: &str| {
        let text = text.trim().trim_end_matches(['.', ',', '·', ' ']).replace('`', "");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    starts.iter().zip(ends).map(|(start, end)| tidy(&codes[*start..end])).collect()
}

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
    let flag = Regex::new("--([a-z][a-z0-9-]*)").expect("a pattern");
    let mut known: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    known.extend(OTHER_FLAGS.map(str::to_owned));
    for words in [&["check"][..], &["explain"], &["routes"], &["export", "kubernetes"]] {
        known.extend(flag.captures_iter(&help(words)).map(|found| found[1].to_owned()));
    }
    for file in PAGES {
        let text = read(file);
        for found in flag.captures_iter(&text) {
            assert!(known.contains(&found[1]), "{file} names --{}", &found[1]);
        }
    }
}

#[test]
fn every_command_is_named_and_every_command_named_exists() {
    let (text, commands) = (read("README.md"), subcommands());
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands.iter().filter(|command| *command != "help") {
        let named = ["`compat-proxy COMMAND ", "`COMMAND`"];
        assert!(
            named.iter().any(|way| text.contains(&way.replace("COMMAND", command))),
            "README.md: {command}"
        );
    }
    let named = Regex::new("`compat-proxy ([a-z]+)").expect("a pattern");
    for file in PAGES {
        for found in named.captures_iter(&read(file)) {
            assert!(commands.contains(&found[1].to_owned()), "{file} names `{}`", &found[1]);
        }
    }
}

#[test]
fn exit_codes_are_told_alike_in_the_readme_and_the_help() {
    let (readme, help) = (exit_codes(&read("README.md")), exit_codes(&help(&[])));
    let codes: Vec<&str> = help.iter().filter_map(|told| told.split(' ').next()).collect();
    assert_eq!(codes, ["0", "1", "2", "65", "69", "71", "78"]);
    assert_eq!(readme, help);
}

#[test]
fn every_path_linked_or_applied_exists() {
    let link = Regex::new(r"\]\(([^)#:]+)\)").expect("a pattern");
    let folder = Regex::new("`(kubernetes/[a-z/-]+)`").expect("a pattern");
    let mut seen = 0;
    for file in PAGES {
        let text = read(file);
        let beside = Path::new(file).parent().expect("a folder");
        for found in link.captures_iter(&text).chain(folder.captures_iter(&text)) {
            seen += 1;
            let target = beside.join(&found[1]).to_string_lossy().into_owned();
            assert!(path(&target).exists(), "{file}: {target}");
        }
    }
    assert!(seen >= 20, "{seen}");
}

/// All Rust source beneath a folder, one text.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let texts = entries.map(|entry| match entry.path() {
        folder if folder.is_dir() => sources(&folder),
        file if file.extension().is_some_and(|kind| kind == "rs") => {
            std::fs::read_to_string(file).expect("text")
        }
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| promise | test | measured |").expect("the table");
    let table = table.split("\n## ").next().unwrap_or_default();
    let code = ["tests", "src", "fuzz/fuzz_targets"].map(|folder| sources(&path(folder))).concat();
    let named = Regex::new(r"`(?:e2e |properties )?((?:\w+::)+)(\w+|\*)`").expect("a pattern");
    let mut checked = 0;
    for found in named.captures_iter(table) {
        let (modules, name) = (&found[1], &found[2]);
        let module = modules.trim_end_matches("::").rsplit("::").next().unwrap_or_default();
        let known = code.contains(&format!("fn {name}(")) || code.contains(&format!("mod {name};"));
        let whole = name == "*" && code.contains(&format!("mod {module}"));
        assert!(known || whole, "{}", &found[0]);
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}
