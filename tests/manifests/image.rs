//! The Dockerfile, read as far as needed to know what the image does.

use crate::{names, path, read};

/// Instructions with their words, continuation lines joined, comments dropped.
fn instructions(text: &str) -> Vec<(String, String)> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = code.join("\n").replace("\\\n", " ");
    let instruction = |line: &str| {
        let (word, rest) = line.trim().split_once(' ')?;
        Some((word.to_uppercase(), rest.trim().to_owned()))
    };
    joined.lines().filter_map(instruction).collect()
}

/// The instructions of each stage, FROM first.
fn stages() -> Vec<Vec<(String, String)>> {
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for instruction in instructions(&read("Dockerfile")) {
        if instruction.0 == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push(instruction);
    }
    stages
}

/// What `word` says, its last time, in a stage.
fn value<'a>(stage: &'a [(String, String)], word: &str) -> &'a str {
    let found = stage.iter().rev().find(|(name, _)| name == word);
    found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {word} in {stage:?}"))
}

fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("`{json}` must be in exec form: {error}"))
}

#[test]
fn the_image_holds_one_binary_and_runs_it_as_nobody_special() {
    let stages = stages();
    let [build, image] = stages.as_slice() else { panic!("{} stages", stages.len()) };
    assert_eq!(value(image, "FROM"), "scratch");
    assert_eq!(value(image, "COPY"), "--from=build /image/ /");
    assert_eq!(value(image, "USER"), "65532:65532");
    assert!(!image.iter().any(|(word, _)| word == "RUN" || word == "ADD"), "{image:?}");
    let program = words(value(image, "ENTRYPOINT"));
    assert_eq!(program, ["/compat-proxy"]);
    let compile = build.iter().find(|(word, text)| word == "RUN" && text.contains("cargo build"));
    let (_, compile) = compile.expect("a step that builds");
    for needed in ["--profile dist", "--locked", "+crt-static", "/image/compat-proxy"] {
        assert!(compile.contains(needed), "{needed} is not in {compile}");
    }
    assert!(build.iter().any(|(word, text)| word == "RUN" && text.contains("cmake")));
}

#[test]
fn the_image_tells_when_it_is_ready_and_stops_on_sigterm() {
    let stages = stages();
    let image = stages.last().expect("a stage");
    let check = value(image, "HEALTHCHECK");
    let command = check.split_once("CMD ").map(|(_, command)| words(command));
    assert_eq!(command.unwrap_or_default(), ["/compat-proxy", "healthcheck"]);
    assert_eq!(value(image, "STOPSIGNAL"), "SIGTERM");
    assert_eq!(value(image, "ENV"), "COMPAT_PROXY_ADMIN=0.0.0.0:9911");
    assert_eq!(value(image, "EXPOSE"), "8080 9911");
}

#[test]
fn versions_are_those_of_the_package() {
    let stages = stages();
    let image = stages.last().expect("a stage");
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    assert!(image.iter().any(|(word, text)| word == "ARG" && text == version), "{version}");
    let from = value(&stages[0], "FROM");
    let rust = concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), "-");
    assert!(from.starts_with(rust), "{from} is not {rust}");
    for label in ["title", "description", "licenses", "version", "revision"] {
        let label = format!("org.opencontainers.image.{label}=");
        assert!(value(image, "LABEL").contains(&label), "{label}");
    }
}

#[test]
fn the_build_gets_what_it_needs_and_nothing_else() {
    let ignored = read(".dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"));
    assert_eq!(kept, ["Cargo.toml", "Cargo.lock", "src", "LICENSE"]);
    assert!(kept.iter().all(|name| path(name).exists()));
    // Whatever src includes must lie in src.
    let mut folders = vec!["src".to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let name = format!("{folder}/{name}");
            if path(&name).is_dir() {
                folders.push(name);
            } else if name.ends_with(".rs") && !name.contains("tests") {
                let outside = read(&name).lines().any(|line| {
                    line.contains("include_") && line.matches("../").count() >= name.matches('/').count()
                });
                assert!(!outside, "{name} includes a file that the image build does not see");
            }
        }
    }
}
