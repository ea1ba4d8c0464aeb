//! The manifests: complete, locked down, and in words the program accepts.

use std::process::Command;
use std::time::Duration;

use compat_proxy::settings::{Options, Settings, Sources};
use serde::Deserialize as _;
use serde_yaml::Value;

use crate::{BINARY, names, path, read};

/// Longer than what the program may take beyond its own limits while it stops.
const RESERVE: Duration = Duration::from_secs(5);

/// One way to deploy.
struct Shape {
    name: &'static str,
    kustomization: Value,
    objects: Vec<Value>,
    settings: Settings,
}

fn shapes() -> [Shape; 2] {
    ["wrap", "attach"].map(|name| {
        let file = |file: &str| read(&format!("config/kubernetes/{name}/{file}"));
        let kustomization = yaml(&file("kustomization.yaml")).remove(0);
        let resources = strings(&kustomization["resources"]);
        let objects = resources.iter().flat_map(|resource| yaml(&file(resource))).collect();
        let text = file("compat-proxy.yaml");
        let flags = Options::default();
        let sources =
            Sources { flags: &flags, env: &|_| None, file: Some((name, &text)), cores: 4, terminal: false };
        let settings = Settings::resolve(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        Shape { name, kustomization, objects, settings }
    })
}

fn yaml(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn strings(value: &Value) -> Vec<String> {
    items(value)
        .map(|item| item.as_str().unwrap_or_else(|| panic!("{item:?} is no text")).to_owned())
        .collect()
}

impl Shape {
    fn object(&self, kind: &str) -> &Value {
        let mut found = self.objects.iter().filter(|object| object["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("{} has no {kind}", self.name))
    }

    fn pod(&self) -> &Value {
        &self.object("Deployment")["spec"]["template"]["spec"]
    }

    /// Init containers first.
    fn containers(&self) -> Vec<&Value> {
        let pod = self.pod();
        items(&pod["initContainers"]).chain(items(&pod["containers"])).collect()
    }

    /// The one that runs compat-proxy.
    fn proxy(&self) -> &Value {
        let runs = |container: &&&Value| !container["ports"].is_null();
        self.containers().iter().find(runs).copied().unwrap_or_else(|| panic!("{}: no ports", self.name))
    }

    /// What stands in a shape's containers for the program's own words.
    fn arguments(&self) -> Vec<String> {
        strings(&self.proxy()["args"])
    }
}

#[test]
fn every_file_is_part_of_its_kustomization() {
    for shape in shapes() {
        let mut named = strings(&shape.kustomization["resources"]);
        for generator in items(&shape.kustomization["configMapGenerator"]) {
            named.extend(strings(&generator["files"]));
        }
        named.push("kustomization.yaml".to_owned());
        named.sort();
        assert_eq!(named, names(&format!("config/kubernetes/{}", shape.name)));
        let generated = &shape.kustomization["configMapGenerator"][0]["name"];
        let mut volumes = items(&shape.pod()["volumes"]);
        assert!(volumes.any(|volume| volume["configMap"]["name"] == *generated), "{}", shape.name);
        let tagged: Vec<&str> =
            items(&shape.kustomization["images"]).filter_map(|image| image["name"].as_str()).collect();
        for container in shape.containers() {
            let image = container["image"].as_str().unwrap_or_default();
            assert!(tagged.contains(&image), "{}: `{image}` has no tag", shape.name);
        }
        for image in items(&shape.kustomization["images"]).filter(|image| image["name"] == "compat-proxy") {
            assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"), "{}", shape.name);
        }
    }
}

#[test]
fn every_container_is_locked_down_and_knows_its_size() {
    for shape in shapes() {
        let pod = shape.pod();
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false, "COMPAT_PROXY_PORT of a Service is not a setting");
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["runAsUser"], 65532);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        for container in shape.containers() {
            let name = format!("{}: {:?}", shape.name, container["name"]);
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"], "{name}");
            for size in ["cpu", "memory"] {
                assert!(container["resources"]["requests"][size].is_string(), "{name}: {size}");
            }
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            let serves =
                container["restartPolicy"] == "Always" || items(&pod["containers"]).any(|it| it == container);
            assert_eq!(container["livenessProbe"].is_mapping(), serves, "{name}");
            let volumes: Vec<&Value> = items(&pod["volumes"]).map(|volume| &volume["name"]).collect();
            let mut mounts = items(&container["volumeMounts"]);
            assert!(mounts.all(|mount| volumes.contains(&&mount["name"])), "{name}");
            let temporary = items(&container["volumeMounts"]).any(|mount| mount["mountPath"] == "/tmp");
            assert_eq!(temporary, serves, "{name}: the root is read-only, and sockets need a place");
        }
    }
}

#[test]
fn probes_ask_the_admin_port_and_a_sidecar_never_waits_for_the_app_it_holds_back() {
    for shape in shapes() {
        let proxy = shape.proxy();
        let admin = shape.settings.admin.value.to_string();
        let port =
            items(&proxy["ports"]).find(|port| port["name"] == "metrics").map(|port| &port["containerPort"]);
        let port = port.and_then(Value::as_u64).expect("a port named metrics");
        assert_eq!(admin, format!("0.0.0.0:{port}"), "the kubelet asks from outside");
        let startup = if shape.name == "attach" { "/livez" } else { "/startupz" };
        for (probe, path) in
            [("startupProbe", startup), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            let asked = &proxy[probe]["httpGet"];
            assert_eq!(
                (asked["path"].as_str(), asked["port"].as_str()),
                (Some(path), Some("metrics")),
                "{probe}"
            );
        }
        let tries = proxy["startupProbe"]["failureThreshold"].as_u64().unwrap_or_default();
        let seconds = tries * proxy["startupProbe"]["periodSeconds"].as_u64().unwrap_or_default();
        if shape.name == "wrap" {
            assert!(Duration::from_secs(seconds) >= shape.settings.start_timeout.value * 5, "{seconds}s");
        }
    }
}

#[test]
fn there_is_time_to_stop() {
    for shape in shapes() {
        let settings = &shape.settings;
        let own =
            settings.drain_quiet.value + settings.grace_period.value + settings.stop_timeout.value + RESERVE;
        assert!(settings.drain_quiet.value > Duration::ZERO, "{}", shape.name);
        // A sidecar is stopped when the app's container is gone: after its preStop and its own last requests.
        let mut before = Duration::ZERO;
        if shape.name == "attach" {
            let app = items(&shape.pod()["containers"]).next().expect("the app");
            let sleep = app["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a preStop sleep");
            before = Duration::from_secs(sleep) + settings.grace_period.value;
        }
        let given = shape.pod()["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        assert!(Duration::from_secs(given) >= before + own, "{}: {given}s", shape.name);
    }
}

#[test]
fn services_and_budgets_find_the_pods() {
    for shape in shapes() {
        let deployment = shape.object("Deployment");
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let budget = shape.object("PodDisruptionBudget");
        let service = shape.object("Service");
        for selector in [
            &deployment["spec"]["selector"]["matchLabels"],
            &budget["spec"]["selector"]["matchLabels"],
            &service["spec"]["selector"],
        ] {
            let selector = selector.as_mapping().expect("a selector");
            assert!(!selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value));
        }
        assert!(
            deployment["spec"]["replicas"].as_u64() > Some(1),
            "one pod cannot be evicted without an outage"
        );
        let target = &service["spec"]["ports"][0]["targetPort"];
        let http =
            items(&shape.proxy()["ports"]).find(|port| port["name"] == "http").expect("a port named http");
        // Before 1.32 a Service finds a sidecar's port only by its number.
        let expected = if shape.name == "attach" { &http["containerPort"] } else { &http["name"] };
        assert_eq!(target, expected, "{}", shape.name);
        let only_http = items(&service["spec"]["ports"]).count();
        assert_eq!(only_http, 1, "the admin port is not for the world");
    }
}

#[test]
fn the_program_accepts_its_arguments_and_settings() {
    for shape in shapes() {
        let settings = path(&format!("config/kubernetes/{}/compat-proxy.yaml", shape.name));
        let demo = path("tests/fixtures/apps/demo");
        let here = |word: &String| {
            word.replace("/etc/compat-proxy/compat-proxy.yaml", &settings.to_string_lossy())
                .replace("/files", &demo.to_string_lossy())
        };
        let mut words: Vec<String> = shape.arguments().iter().map(here).collect();
        for word in words.iter_mut().filter(|word| *word == "/app") {
            *word = demo.to_string_lossy().into_owned();
        }
        assert!(words.iter().all(|word| !word.contains("/etc/")), "{words:?}");
        let mut command = Command::new(BINARY);
        command.arg("check").args(&words);
        for variable in items(&shape.proxy()["env"]) {
            let text =
                |key: &str| variable[key].as_str().unwrap_or_else(|| panic!("{variable:?}")).to_owned();
            command.env(text("name"), text("value"));
        }
        let output = command.output().expect("the program starts");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {words:?}\n{said}", shape.name);
    }
}

#[test]
fn the_sidecar_and_the_app_share_the_socket_and_the_files() {
    let [_, attach] = shapes();
    let upstream = attach.settings.upstream.value.first().expect("an upstream").to_string();
    let socket = upstream.strip_prefix("unix:").expect("a unix socket");
    let app = items(&attach.pod()["containers"]).next().expect("the app");
    assert!(strings(&app["command"]).contains(&format!("--bind=unix:{socket}")));
    let folder = std::path::Path::new(socket).parent().expect("a folder").to_string_lossy().into_owned();
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
}
