//! From app.yaml to objects, without a disk. Whether Kubernetes takes them is shown by `tests/manifests`.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use super::*;
use crate::settings::{Cli, Command, Export};

/// The documents and remarks for an app.yaml and what is typed after `export kubernetes --image`.
fn exported(yaml: &str, words: &[&str]) -> Result<(Vec<Value>, Vec<String>), ExportError> {
    let mut read = |_: &Path| Ok(yaml.as_bytes().to_vec());
    let app = crate::appyaml::load(Path::new("app.yaml"), &mut read).app.unwrap();
    let line = ["compat-proxy", "export", "kubernetes", "--image=shop:1"].iter().chain(words);
    let Ok(Command::Export(Export::Kubernetes { image, proxy_image, name, options, .. })) = Cli::read(line)
    else {
        panic!("not a command: {words:?}")
    };
    let settings = Settings::load_for_elsewhere(&options, Path::new("/nowhere")).unwrap();
    let only_files = !yaml.contains("script:");
    let made = kubernetes(&Request {
        app: &app,
        settings: &settings,
        options: &options,
        app_dir: Path::new("/srv/shop"),
        only_files,
        image: &image,
        proxy_image: proxy_image.as_deref(),
        name: name.as_deref(),
    })?;
    let documents = serde_yaml::Deserializer::from_str(&made.yaml);
    Ok((documents.map(|document| Value::deserialize(document).unwrap()).collect(), made.remarks))
}

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

fn container(objects: &[Value]) -> &Value {
    &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

const PYTHON: &str = "runtime: python27\nthreadsafe: true\nhandlers:\n- url: /.*\n  script: main.app\n";
const FILES: &str = "runtime: python39\nhandlers:\n- url: /\n  static_dir: www\n";

fn with(more: &str) -> String {
    format!("{PYTHON}{more}")
}

#[test]
fn the_same_app_gives_the_same_text() {
    let yaml = with("service: shop\nenv_variables:\n  B: 1\n  A: 2\n");
    let (first, _) = exported(&yaml, &[]).unwrap();
    assert_eq!(first, exported(&yaml, &[]).unwrap().0);
    let kinds: Vec<&str> = first.iter().filter_map(|object| object["kind"].as_str()).collect();
    let expected = [
        "ServiceAccount",
        "ConfigMap",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    ];
    assert_eq!(kinds, expected);
    assert!(first.iter().all(|object| object["metadata"]["name"] == "shop"));
}

#[test]
fn scaling_becomes_bounds_and_manual_scaling_a_number() {
    let bounds = |more: &str| {
        let (objects, _) = exported(&with(more), &[]).unwrap();
        let spec = &one(&objects, "HorizontalPodAutoscaler")["spec"];
        assert!(one(&objects, "Deployment")["spec"].get("replicas").is_none(), "the autoscaler's");
        (spec["minReplicas"].as_u64().unwrap(), spec["maxReplicas"].as_u64().unwrap())
    };
    assert_eq!(bounds(""), (2, 10));
    assert_eq!(bounds("automatic_scaling:\n  min_instances: 3\n  max_instances: 30\n"), (3, 30));
    assert_eq!(bounds("automatic_scaling:\n  min_instances: 0\n  max_instances: 1\n"), (1, 1));
    assert_eq!(bounds("automatic_scaling:\n  min_instances: 20\n"), (20, 20));
    assert_eq!(bounds("automatic_scaling:\n  min_instances: 9\n  max_instances: 4\n"), (4, 4));
    assert_eq!(bounds("basic_scaling:\n  max_instances: 5\n"), (1, 5));
    let (objects, _) = exported(&with("manual_scaling:\n  instances: 4\n"), &[]).unwrap();
    assert_eq!(one(&objects, "Deployment")["spec"]["replicas"], 4);
    assert!(objects.iter().all(|object| object["kind"] != "HorizontalPodAutoscaler"));
}

#[test]
fn an_instance_class_becomes_what_a_pod_asks_for() {
    let size = |more: &str, words: &[&str]| {
        let (objects, _) = exported(&with(more), words).unwrap();
        let container = container(&objects);
        let workers = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|word| word.as_str()?.strip_prefix("--workers=").map(ToOwned::to_owned));
        let asked = &container["resources"]["requests"];
        let limit = container["resources"]["limits"]["memory"].as_str().unwrap().to_owned();
        let text = |name: &str| asked[name].as_str().unwrap().to_owned();
        (workers.unwrap(), text("cpu"), text("memory"), limit)
    };
    let of = |words: [&str; 4]| words.map(ToOwned::to_owned).into();
    assert_eq!(size("", &[]), of(["1", "250m", "384Mi", "512Mi"]));
    assert_eq!(size("instance_class: F4\n", &[]), of(["1", "1000m", "1536Mi", "1664Mi"]));
    assert_eq!(size("instance_class: f4_1g\n", &[]), of(["1", "1000m", "3072Mi", "3200Mi"]));
    let b8 = "instance_class: B8\nmanual_scaling:\n  instances: 1\n";
    assert_eq!(size(b8, &[]), of(["2", "2000m", "3072Mi", "3200Mi"]));
    assert_eq!(size(b8, &["--workers=4", "--static-cache=0B"]), of(["4", "4000m", "6144Mi", "6208Mi"]));
    let flexible = "env: flex\nresources:\n  cpu: 2.5\n  memory_gb: 1.5\n";
    assert_eq!(size(flexible, &[]), of(["3", "2500m", "1536Mi", "1664Mi"]));
    let huge = "env: flex\nresources:\n  cpu: 1e300\n  memory_gb: 1e300\n";
    assert_eq!(size(huge, &["--workers=512"]).0, "512");
    let (_, remarks) = exported(&with("instance_class: F9\n"), &[]).unwrap();
    assert!(remarks[0].contains("`instance_class: F9`"), "{remarks:?}");
}

#[test]
fn files_alone_need_no_worker_and_little_room() {
    let (objects, _) = exported(FILES, &[]).unwrap();
    let container = container(&objects);
    let args = container["args"].to_string();
    assert!(!args.contains("--workers") && !args.contains("--health-path"), "{args}");
    assert_eq!(container["resources"]["requests"]["memory"], "64Mi");
}

#[test]
fn options_of_run_become_the_containers_and_the_addresses_stay_ours() {
    let words = [
        "--upstream-cmd=gunicorn --bind unix:{socket} main:app",
        "--trusted-proxy=10.0.0.0/8",
        "--trusted-proxy=fd00::/8",
        "--admin=127.0.0.1:1",
        "--listen=127.0.0.1:2",
        "--grace-period=90s",
        "--start-timeout=3m",
    ];
    let (objects, _) = exported(&with(""), &words).unwrap();
    let container = container(&objects);
    let args: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        args,
        [
            "--listen=0.0.0.0:8080",
            "--admin=0.0.0.0:9911",
            "--drain-quiet=5s",
            "--workers=1",
            "--threads=1",
            "--grace-period=90s",
            "--start-timeout=3m",
            "--trusted-proxy=10.0.0.0/8",
            "--trusted-proxy=fd00::/8",
            "--upstream-cmd=gunicorn --bind unix:{socket} main:app",
            "/app",
        ]
    );
    let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 120);
    assert_eq!(container["startupProbe"]["failureThreshold"], 450);
    let readiness = with("env: flex\nreadiness_check:\n  path: /ready\n");
    let args = |words: &[&str]| self::container(&exported(&readiness, words).unwrap().0)["args"].to_string();
    assert!(args(&[]).contains("--health-path=/ready"));
    assert!(!args(&["--health-path=/own"]).contains("--health-path=/ready"));
}

#[test]
fn a_proxy_image_brings_the_program_into_the_apps_container() {
    let (objects, _) = exported(PYTHON, &["--proxy-image=compat-proxy:9"]).unwrap();
    let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["image"], "compat-proxy:9");
    assert_eq!(pod["initContainers"][0]["args"].to_string(), r#"["install","/compat"]"#);
    assert_eq!(container(&objects)["command"][0], "/compat/compat-proxy");
}

#[test]
fn secrets_are_named_and_never_told() {
    let yaml =
        with("env_variables:\n  MODE: \"yes\"\n  API_KEY: hunter2\n  DATABASE_URL: mysql://u:hunter2@db/x\n");
    let (objects, remarks) = exported(&yaml, &[]).unwrap();
    assert_eq!(one(&objects, "ConfigMap")["data"].to_string(), r#"{"MODE":"yes"}"#);
    let secret = one(&objects, "Secret");
    assert_eq!(secret["metadata"]["annotations"]["compat-proxy/needs"], "API_KEY, DATABASE_URL");
    assert!(secret.get("data").is_none() && secret.get("stringData").is_none());
    assert_eq!(container(&objects)["envFrom"].as_array().unwrap().len(), 2);
    assert!(!format!("{objects:?}{remarks:?}").contains("hunter2"));
    assert_eq!(remarks.iter().filter(|remark| remark.contains("looks like a secret")).count(), 2);
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(matches!(exported(PYTHON, &["--name=Shop"]), Err(ExportError::Name(_))));
    assert!(matches!(exported(PYTHON, &["--proxy-image=a b"]), Err(ExportError::Image { .. })));
    assert!(matches!(exported(PYTHON, &["--upstream=127.0.0.1:1"]), Err(ExportError::Attached)));
}

#[test]
fn the_kubelet_leaves_the_command_as_it_was_typed() {
    let typed = "--upstream-cmd=sh -c 'exec srv --bind $(HOST):{port} $$(PID) ${X} $'";
    let (objects, _) = exported(PYTHON, &[typed]).unwrap();
    let args = container(&objects)["args"].as_array().unwrap();
    let command =
        args.iter().filter_map(Value::as_str).find(|arg| arg.starts_with("--upstream-cmd")).unwrap();
    assert!(!command.replace("$$", "").contains('$'), "{command}");
    assert_eq!(command.replace("$$", "$"), typed);
}
