//! `config/kubernetes`: built by the real kustomize, taken by Kubernetes' own schemas, complete, locked down, and in
//! words the program accepts.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use compat_proxy::settings::{Options, Settings, Sources};
use serde_yaml::Value;

use crate::kustomize::{build, copied, objects, tools, validate};
use crate::pod::{Whole, items, strings};
use crate::{BINARY, names, path, read};

const SHAPES: [&str; 3] = ["wrap", "init-copy", "attach"];
const SETTINGS: &str = "/etc/compat-proxy/compat-proxy.yaml";

/// Each shape as it is, then each with every component that its kustomization names in a comment; built once.
fn texts(tools: &Path) -> &'static [(String, String)] {
    static BUILT: OnceLock<Vec<(String, String)>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut built = Vec::new();
        let copy = copied();
        for name in SHAPES {
            built.push((name.to_owned(), build(tools, &path("config/kubernetes").join(name))));
            let folder = copy.path().join("config/kubernetes").join(name);
            let file = folder.join("kustomization.yaml");
            let text = std::fs::read_to_string(&file).expect("a kustomization");
            let all = text.replace("  #- ../components/", "  - ../components/");
            assert!(all != text, "{name} offers no component");
            std::fs::write(&file, all).expect("it is written");
            built.push((format!("{name}-with-all"), build(tools, &folder)));
        }
        built
    })
}

fn whole(name: &str, text: &str) -> Whole {
    let objects = objects(text);
    let settings = {
        let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
        let text = maps.filter_map(|map| map["data"]["compat-proxy.yaml"].as_str()).next().expect("settings");
        let flags = Options::default();
        let sources =
            Sources { flags: &flags, env: &|_| None, file: Some((name, text)), cores: 4, terminal: false };
        Settings::resolve(&sources).unwrap_or_else(|errors| panic!("{errors}"))
    };
    Whole { name: name.to_owned(), objects, settings, attached: name.starts_with("attach") }
}

fn wholes() -> Vec<Whole> {
    let Some(tools) = tools() else { return Vec::new() };
    texts(tools).iter().map(|(name, text)| whole(name, text)).collect()
}

#[test]
fn kubernetes_takes_every_object_of_every_shape_with_every_component() {
    let Some(tools) = tools() else { return };
    let texts = texts(tools);
    let said = validate(tools, texts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let said = said.unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains("Kubernetes 1.29 to 1.37 (9 versions), 0 wrong"), "{said}");
    println!("{said}");
    let all = &texts.last().expect("a text").1;
    let kinds: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    for kind in ["HorizontalPodAutoscaler", "NetworkPolicy", "PodMonitor", "PrometheusRule"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == "ConfigMap").count(), 7, "settings and six dashboards");
}

#[test]
fn another_name_is_given_by_the_command_of_the_page() {
    let Some(tools) = tools() else { return };
    let page = read("config/README.md");
    let command =
        page.split("```sh\n").nth(1).and_then(|rest| Some(rest.split_once("\n```")?.0)).expect("a command");
    let copy = copied();
    let done = Command::new("sh").args(["-c", command]).current_dir(copy.path()).status().expect("a shell");
    assert!(done.success(), "{command}");
    for name in SHAPES {
        let text = build(tools, &copy.path().join("config/kubernetes").join(name));
        assert!(text.contains("app.kubernetes.io/name: shop") && !text.contains("legacy-app"), "{name}");
        // Nothing but the name is another; the hash of the settings in a name goes by their text.
        assert_eq!(objects(&text).len(), objects(&build(tools, &path("config/kubernetes").join(name))).len());
    }
}

#[test]
fn what_kubernetes_does_not_take_is_seen() {
    let Some(tools) = tools() else { return };
    let texts = texts(tools);
    let all = &texts.last().expect("a text").1;
    let slips = [
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
        ("containerPort: 8080", "containerPort: \"8080\""),
        ("maxReplicas: 10", "maxReplica: 10"),
        ("restartPolicy: Always", "restartPolicies: Always"),
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("interval: 15s", "interval: often"),
        ("kind: PodDisruptionBudget", "kind: PodDisruptionPlan"),
        ("      severity: page", "      severity: [page]"),
    ];
    let wrong: Vec<(String, String)> = slips
        .iter()
        .enumerate()
        .map(|(at, (right, wrong))| {
            assert!(all.contains(right), "{right}");
            (format!("slip-{at}"), all.replacen(right, wrong, 1))
        })
        .collect();
    let told = validate(tools, wrong.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let told = told.expect_err("none of them is taken");
    for ((name, _), (_, slip)) in wrong.iter().zip(slips) {
        assert!(
            told.lines().any(|line| line.starts_with(&format!("{name}.yaml: "))),
            "{slip} is taken: {told}"
        );
    }
}

#[test]
fn every_pod_is_locked_down_probed_found_scaled_and_given_time_to_stop() {
    for whole in wholes() {
        whole.holds();
        if whole.find("HorizontalPodAutoscaler").is_none() {
            let pods = whole.object("Deployment")["spec"]["replicas"].as_u64();
            assert!(pods > Some(1), "one pod cannot be evicted without an outage");
        }
    }
}

#[test]
fn every_file_is_part_of_a_kustomization_and_every_image_has_a_tag() {
    let mut folders = vec!["config/kubernetes".to_owned()];
    while let Some(folder) = folders.pop() {
        let names = names(&folder);
        for name in names.iter().filter(|name| path(&format!("{folder}/{name}")).is_dir()) {
            folders.push(format!("{folder}/{name}"));
        }
        if !names.contains(&"kustomization.yaml".to_owned()) {
            assert!(
                names.iter().all(|name| path(&format!("{folder}/{name}")).is_dir()),
                "{folder}: {names:?}"
            );
            continue;
        }
        let text = read(&format!("{folder}/kustomization.yaml"));
        let files = names.iter().filter(|name| *name != "kustomization.yaml");
        // For Prometheus' adapter, not for Kubernetes.
        for name in files.filter(|name| *name != "prometheus-adapter.yaml") {
            assert!(text.contains(name.as_str()), "{folder}/{name} belongs to nothing");
        }
    }
    for whole in wholes() {
        for container in whole.containers() {
            let image = container["image"].as_str().unwrap_or_default();
            assert!(image.contains(':'), "{}: `{image}` has no tag", whole.name);
            if image.starts_with("compat-proxy:") {
                assert_eq!(image, concat!("compat-proxy:", env!("CARGO_PKG_VERSION")));
            }
        }
        let config = &items(&whole.pod()["volumes"]).find(|volume| volume["configMap"].is_mapping());
        let config = config.expect("settings")["configMap"]["name"].as_str().unwrap_or_default();
        assert!(
            config.starts_with("legacy-app-compat-proxy-"),
            "no hash, so a change rolls nothing: {config}"
        );
    }
    for dashboard in names("dashboards").iter().filter_map(|name| name.strip_suffix(".json")) {
        assert!(
            read("dashboards/kustomization.yaml").contains(&format!("- name: {dashboard}\n")),
            "{dashboard}"
        );
    }
}

#[test]
fn the_program_accepts_its_arguments_and_settings() {
    for whole in wholes() {
        let maps = whole.objects.iter().filter(|object| object["kind"] == "ConfigMap");
        let text = maps.filter_map(|map| map["data"]["compat-proxy.yaml"].as_str()).next().expect("settings");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = folder.path().join("compat-proxy.yaml");
        std::fs::write(&settings, text).expect("the settings are written");
        let demo = path("tests/fixtures/apps/demo").to_string_lossy().into_owned();
        let here = |word: &String| match word.as_str() {
            "/app" | "/files" => demo.clone(),
            _ => word.replace(SETTINGS, &settings.to_string_lossy()),
        };
        let words: Vec<String> = strings(&whole.proxy()["args"]).iter().map(here).collect();
        assert!(words.iter().all(|word| !word.contains("/etc/")), "{words:?}");
        let output = Command::new(BINARY).arg("check").args(&words).output().expect("the program starts");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {words:?}\n{said}", whole.name);
    }
}

#[test]
fn the_sidecar_and_the_app_share_the_socket_and_the_files() {
    for attach in wholes().iter().filter(|whole| whole.attached) {
        let upstream = attach.settings.upstream.value.first().expect("an upstream").to_string();
        let socket = upstream.strip_prefix("unix:").expect("a unix socket");
        let app = items(&attach.pod()["containers"]).next().expect("the app");
        let command = strings(&app["command"]);
        assert!(command.contains(&format!("--bind=unix:{socket}")));
        let number = |flag: &str| {
            let number = command.iter().find_map(|word| word.strip_prefix(flag)?.parse::<u32>().ok());
            number.unwrap_or_else(|| panic!("no {flag} in {command:?}"))
        };
        let answered = number("--workers=") * number("--threads=");
        assert_eq!(
            attach.settings.concurrency.value, answered,
            "places nobody gets, or requests that wait in the app"
        );
        let folder = Path::new(socket).parent().expect("a folder").to_string_lossy().into_owned();
        let volume = |container: &Value, path: &str| {
            items(&container["volumeMounts"])
                .find(|mount| mount["mountPath"] == *path)
                .map(|mount| mount["name"].clone())
        };
        let proxy = attach.proxy();
        assert!(volume(app, &folder).is_some());
        assert_eq!(volume(app, &folder), volume(proxy, &folder));
        let copies = items(&attach.pod()["initContainers"]).next().expect("who copies");
        assert_eq!(volume(copies, "/files"), volume(proxy, "/files"));
        assert_eq!(proxy["restartPolicy"], "Always", "a native sidecar");
        for gone in ["args", "ports", "startupProbe", "readinessProbe"] {
            assert!(app[gone].is_null(), "{gone} was compat-proxy's");
        }
        assert!(app["livenessProbe"]["httpGet"].is_null());
        assert!(volume(app, "/etc/compat-proxy").is_none());
    }
}

#[test]
fn the_program_that_is_copied_is_the_one_that_is_started() {
    for whole in wholes().iter().filter(|whole| whole.name.starts_with("init-copy")) {
        let copies = items(&whole.pod()["initContainers"]).next().expect("who copies");
        let [word, folder] = strings(&copies["args"]).try_into().expect("two words");
        assert_eq!(word, "install");
        assert_eq!(strings(&whole.proxy()["command"]), [format!("{folder}/compat-proxy")]);
        for container in [copies, whole.proxy()] {
            let mut mounts = items(&container["volumeMounts"]);
            assert!(mounts.any(|mount| mount["mountPath"] == *folder && mount["name"] == "compat"));
        }
    }
}

#[test]
fn the_network_lets_in_what_the_pods_have_and_the_monitor_asks_there() {
    for whole in wholes().iter().filter(|whole| whole.name.ends_with("-with-all")) {
        let port = |name: &str| {
            let found = items(&whole.proxy()["ports"]).find(|port| port["name"] == name);
            found.expect("a port")["containerPort"].clone()
        };
        let rules: Vec<&Value> = items(&whole.object("NetworkPolicy")["spec"]["ingress"]).collect();
        assert_eq!(rules.len(), 2);
        assert_eq!((&rules[0]["ports"][0]["port"], &rules[0]["from"]), (&port("http"), &Value::Null));
        assert_eq!(rules[1]["ports"][0]["port"], port("metrics"));
        assert!(rules[1]["from"].is_sequence(), "the admin port is not for the world");
        let endpoints = &whole.object("PodMonitor")["spec"]["podMetricsEndpoints"];
        assert_eq!((&endpoints[0]["port"], &endpoints[0]["path"]), (&"metrics".into(), &"/metrics".into()));
    }
}
