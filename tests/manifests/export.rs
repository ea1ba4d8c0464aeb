//! `export kubernetes` over apps of every kind, `tests/fixtures/export`, and over the corpus where it lies beside the
//! repository: what it prints is taken by Kubernetes and holds what the manifests of `config/kubernetes` hold.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use compat_proxy::settings::{Cli, Command as Parsed, Settings};
use serde_yaml::Value;
use tempfile::TempDir;

use crate::kustomize::{objects, tools, validate};
use crate::pod::{Whole, strings};
use crate::{BINARY, names, path, read};

const FOLDER: &str = "tests/fixtures/export";
const SUMMARY: &str = "tests/fixtures/export/summary.txt";
const HOW: &str = "UPDATE_SNAPSHOTS=1 cargo test --test manifests export";
const IMAGE: &str = "registry.example/shop:1.0";

/// An app of one file, in a folder of this name.
fn app(name: &str, yaml: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let app = folder.path().join(name);
    std::fs::create_dir(&app).expect("a folder");
    std::fs::write(app.join("app.yaml"), yaml).expect("a file");
    (folder, app)
}

fn export(app: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    // A variable of the machine that exports is not one of the cluster.
    command.env("WEB_CONCURRENCY", "7").env("COMPAT_PROXY_GRACE_PERIOD", "7h");
    command.args(["export", "kubernetes"]).arg(app).args(["--image", IMAGE]).args(more);
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Every fixture: its name, its exit code, what it prints and what it remarks.
fn all(more: &[&str]) -> Vec<(String, i32, String, String)> {
    let fixtures = names(FOLDER).into_iter().filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned()));
    let one = |name: String| {
        let (_folder, app) = app(&name, read(&format!("{FOLDER}/{name}.yaml")).as_bytes());
        let output = export(&app, more);
        let code = output.status.code().unwrap_or(-1);
        let said = text(&output.stderr).replace(&app.to_string_lossy().into_owned(), ".");
        (name, code, text(&output.stdout), said)
    };
    fixtures.map(one).collect()
}

/// The objects, with the settings that the container's own words make.
fn whole(name: &str, yaml: &str) -> Whole {
    let objects = objects(yaml);
    let found = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
    let words = strings(&found["spec"]["template"]["spec"]["containers"][0]["args"]);
    // As the kubelet reads them.
    let words = words.iter().map(|word| word.replace("$$", "$")).collect::<Vec<_>>();
    let Ok(Parsed::Run { options, app_dir }) =
        Cli::read(std::iter::once("compat-proxy".to_owned()).chain(words.clone()))
    else {
        panic!("{name}: the program does not take {words:?}")
    };
    assert_eq!(app_dir, Path::new("/app"));
    let settings =
        Settings::load_for_elsewhere(&options, &app_dir).unwrap_or_else(|errors| panic!("{errors}"));
    Whole { name: name.to_owned(), objects, settings, attached: false }
}

#[test]
fn kubernetes_takes_what_is_printed_for_every_kind_of_app() {
    let copying = ["--proxy-image", "registry.example/compat-proxy:0.1.0", "--name", "other"];
    let made: Vec<_> = all(&[]).into_iter().chain(all(&copying)).filter(|(_, code, ..)| *code == 0).collect();
    assert!(made.len() >= 2 * 18, "{}", made.len());
    for (name, _, yaml, _) in &made {
        whole(name, yaml).holds();
    }
    let Some(tools) = tools() else { return };
    let named: Vec<(String, &str)> = made
        .iter()
        .enumerate()
        .map(|(at, (name, _, yaml, _))| (format!("{at}-{name}"), yaml.as_str()))
        .collect();
    let said = validate(tools, named.iter().map(|(name, yaml)| (name.as_str(), *yaml)));
    println!("{}", said.unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn it_is_what_it_was_and_the_same_each_time() {
    let mut summary = format!("What `export kubernetes` makes of each file here. Written by `{HOW}`.\n");
    let made = all(&[]);
    assert_eq!(made, all(&[]));
    for (name, code, yaml, said) in made {
        let _ = writeln!(summary, "\n{name}: exit {code}");
        if code == 0 {
            summary += &told(&whole(&name, &yaml));
        } else {
            assert_eq!(yaml, "", "{name}");
        }
        for line in said.lines() {
            let _ = writeln!(summary, "  ! {line}");
        }
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path(SUMMARY), &summary).expect("the summary is written");
    }
    assert!(read(SUMMARY) == summary, "{SUMMARY} is not what is printed; look at it, then {HOW}\n{summary}");
    assert!(!summary.contains("never-printed") && !summary.contains("panicked"), "{summary}");
}

/// A few lines on what was made.
fn told(whole: &Whole) -> String {
    let kinds: Vec<&str> = whole.objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    let mut text = format!("  {}\n", kinds.join(" "));
    let container = whole.proxy();
    let size = |of: &str, what: &str| container["resources"][of][what].as_str().unwrap_or("-").to_owned();
    let pods = whole.find("HorizontalPodAutoscaler").map_or_else(
        || whole.object("Deployment")["spec"]["replicas"].as_u64().unwrap_or_default().to_string(),
        |scaler| {
            let number = |name: &str| scaler["spec"][name].as_u64().unwrap_or_default();
            let target = &scaler["spec"]["metrics"][0]["containerResource"]["target"]["averageUtilization"];
            let (least, most) = (number("minReplicas"), number("maxReplicas"));
            format!("{least} to {most} at {}%", target.as_u64().unwrap_or_default())
        },
    );
    let (cpu, memory, limit) =
        (size("requests", "cpu"), size("requests", "memory"), size("limits", "memory"));
    let name = whole.object("Service")["metadata"]["name"].as_str().unwrap_or_default();
    let _ = writeln!(text, "  {name}: {cpu} {memory} up to {limit}; pods {pods}");
    let _ = writeln!(text, "  {}", strings(&container["args"]).join(" "));
    if let Some(Value::Mapping(data)) = whole.find("ConfigMap").map(|map| &map["data"]) {
        for (key, value) in data {
            let (key, value) = (key.as_str(), value.as_str());
            let _ = writeln!(text, "  {}={:?}", key.unwrap_or("NO TEXT"), value.expect("a variable is text"));
        }
    }
    if let Some(secret) = whole.find("Secret") {
        let needs = secret["metadata"]["annotations"]["compat-proxy/needs"].as_str().unwrap_or_default();
        let _ = writeln!(text, "  secret {needs}");
    }
    text
}

#[test]
fn every_file_of_the_corpus_is_exported_or_refused_with_a_reason() {
    let folder = path("../shared/corpus");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".app.yaml"));
    files.sort();
    let mut texts = Vec::new();
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy().replace(".app.yaml", "");
        let (_folder, app) = app(&format!("app-{name}"), &std::fs::read(file).expect("a file"));
        let output = export(&app, &[]);
        let said = text(&output.stderr);
        assert!(!said.contains("panicked"), "{name}: {said}");
        match output.status.code() {
            Some(0) => texts.push((name, text(&output.stdout))),
            Some(65 | 78) => assert!(!said.trim().is_empty() && output.stdout.is_empty(), "{name}"),
            other => panic!("{name}: {other:?} {said}"),
        }
    }
    assert!(texts.len() * 2 > files.len(), "{} of {}", texts.len(), files.len());
    for (name, yaml) in &texts {
        whole(name, yaml).holds();
    }
    let Some(tools) = tools() else { return };
    let said = validate(tools, texts.iter().map(|(name, yaml)| (name.as_str(), yaml.as_str())));
    println!("{} of {} files: {}", texts.len(), files.len(), said.unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn each_refusal_has_its_exit_code_and_says_what_to_do() {
    let (_folder, good) = app("shop", b"runtime: python39\n");
    for (more, code, word) in [
        (&["--name", "Shop"][..], 2, "small letters"),
        (&["--proxy-image", ""], 2, "--proxy-image"),
        (&["--upstream", "127.0.0.1:1"], 78, "config/kubernetes/attach"),
        (&["--workers", "many"], 78, "--workers"),
        (&["--no-such-option"], 2, "--no-such-option"),
    ] {
        let output = export(&good, more);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(word) && output.stdout.is_empty(), "{more:?}: {said}");
    }
    assert_eq!(export(Path::new("/no/such/folder"), &[]).status.code(), Some(65));
    let bare = Command::new(BINARY).args(["export", "kubernetes"]).arg(&good).output().expect("it starts");
    assert_eq!(bare.status.code(), Some(2), "an image is needed");
}

#[test]
fn the_program_copies_itself_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let install = |to: &Path| Command::new(BINARY).arg("install").arg(to).output().expect("it starts");
    for _ in 0..2 {
        let output = install(folder.path());
        assert!(output.status.success(), "{output:?}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let copy = folder.path().join("compat-proxy");
    assert_eq!(std::fs::read(&copy).expect("the copy"), std::fs::read(BINARY).expect("the program"));
    let version = Command::new(&copy).arg("--version").output().expect("the copy starts");
    assert!(text(&version.stdout).starts_with("compat-proxy "));
    let refused = install(&folder.path().join("nowhere"));
    assert_eq!(refused.status.code(), Some(71));
    assert!(text(&refused.stderr).contains("nowhere"), "{refused:?}");
}
