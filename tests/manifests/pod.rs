//! What holds for every pod that runs compat-proxy, whether it is written by hand or by `export`.

use std::time::Duration;

use compat_proxy::settings::Settings;
use serde_yaml::Value;

/// Longer than what the program may take beyond its own limits while it stops.
const RESERVE: Duration = Duration::from_secs(5);

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    items(value)
        .map(|item| item.as_str().unwrap_or_else(|| panic!("{item:?} is no text")).to_owned())
        .collect()
}

/// The objects of one app, its name in messages, and what compat-proxy is told in them.
pub(crate) struct Whole {
    pub(crate) name: String,
    pub(crate) objects: Vec<Value>,
    pub(crate) settings: Settings,
    /// The app has a container of its own.
    pub(crate) attached: bool,
}

impl Whole {
    pub(crate) fn find(&self, kind: &str) -> Option<&Value> {
        self.objects.iter().find(|object| object["kind"] == kind)
    }

    pub(crate) fn object(&self, kind: &str) -> &Value {
        self.find(kind).unwrap_or_else(|| panic!("{} has no {kind}", self.name))
    }

    pub(crate) fn pod(&self) -> &Value {
        &self.object("Deployment")["spec"]["template"]["spec"]
    }

    /// Init containers first.
    pub(crate) fn containers(&self) -> Vec<&Value> {
        let pod = self.pod();
        items(&pod["initContainers"]).chain(items(&pod["containers"])).collect()
    }

    /// The one that runs compat-proxy.
    pub(crate) fn proxy(&self) -> &Value {
        let runs = |container: &&&Value| !container["ports"].is_null();
        self.containers().iter().find(runs).copied().unwrap_or_else(|| panic!("{}: no ports", self.name))
    }

    /// All of it.
    pub(crate) fn holds(&self) {
        self.is_locked_down();
        self.is_probed_at_the_admin_port();
        self.has_time_to_stop();
        self.is_found_by_its_labels();
        self.is_scaled_by_what_there_is();
    }

    fn is_locked_down(&self) {
        let pod = self.pod();
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false, "COMPAT_PROXY_PORT of a Service is not a setting");
        assert_eq!(pod["serviceAccountName"], self.object("ServiceAccount")["metadata"]["name"]);
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["runAsUser"], 65532);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        for container in self.containers() {
            let name = format!("{}: {:?}", self.name, container["name"]);
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"], "{name}");
            for size in ["cpu", "memory"] {
                assert!(container["resources"]["requests"][size].is_string(), "{name}: {size}");
            }
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            assert!(container["resources"]["limits"]["cpu"].is_null(), "{name}: a limit only slows");
            let serves =
                container["restartPolicy"] == "Always" || items(&pod["containers"]).any(|it| it == container);
            assert_eq!(container["livenessProbe"].is_mapping(), serves, "{name}");
            let volumes: Vec<&Value> = items(&pod["volumes"]).map(|volume| &volume["name"]).collect();
            let mut mounts = items(&container["volumeMounts"]);
            assert!(mounts.all(|mount| volumes.contains(&&mount["name"])), "{name}");
            let temporary = items(&container["volumeMounts"]).any(|mount| mount["mountPath"] == "/tmp");
            assert_eq!(temporary, serves, "{name}: the root is read-only, and sockets need a place");
        }
        for volume in items(&pod["volumes"]).filter(|volume| volume["emptyDir"].is_mapping()) {
            assert!(volume["emptyDir"]["sizeLimit"].is_string(), "{}: {volume:?}", self.name);
        }
    }

    fn is_probed_at_the_admin_port(&self) {
        let proxy = self.proxy();
        let port = |name: &str| {
            let found =
                items(&proxy["ports"]).find(|port| port["name"] == name).map(|port| &port["containerPort"]);
            found.and_then(Value::as_u64).unwrap_or_else(|| panic!("{}: no port named {name}", self.name))
        };
        let admin = self.settings.admin.value.to_string();
        assert_eq!(admin, format!("0.0.0.0:{}", port("metrics")), "the kubelet asks from outside");
        let listen: Vec<String> = self.settings.listen.value.iter().map(ToString::to_string).collect();
        assert_eq!(listen, [format!("0.0.0.0:{}", port("http"))]);
        // A sidecar holds the app back until its startup probe passes: it must not ask for the app.
        let startup = if self.attached { "/livez" } else { "/startupz" };
        for (probe, path) in
            [("startupProbe", startup), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            let asked = &proxy[probe]["httpGet"];
            let asked = (asked["path"].as_str(), asked["port"].as_str());
            assert_eq!(asked, (Some(path), Some("metrics")), "{}: {probe}", self.name);
        }
        let tries = proxy["startupProbe"]["failureThreshold"].as_u64().unwrap_or_default();
        let seconds = tries * proxy["startupProbe"]["periodSeconds"].as_u64().unwrap_or_default();
        if !self.attached {
            assert!(Duration::from_secs(seconds) >= self.settings.start_timeout.value * 5, "{seconds}s");
        }
    }

    fn has_time_to_stop(&self) {
        let settings = &self.settings;
        let own =
            settings.drain_quiet.value + settings.grace_period.value + settings.stop_timeout.value + RESERVE;
        assert!(settings.drain_quiet.value > Duration::ZERO, "{}", self.name);
        // A sidecar is stopped when the app's container is gone: after its preStop and its own last requests.
        let mut before = Duration::ZERO;
        if self.attached {
            let app = items(&self.pod()["containers"]).next().expect("the app");
            let sleep = strings(&app["lifecycle"]["preStop"]["exec"]["command"]);
            assert_eq!(sleep[0], "sleep");
            before = Duration::from_secs(sleep[1].parse().expect("seconds")) + settings.grace_period.value;
        }
        let given = self.pod()["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        assert!(Duration::from_secs(given) >= before + own, "{}: {given}s", self.name);
    }

    fn is_found_by_its_labels(&self) {
        let deployment = self.object("Deployment");
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let service = self.object("Service");
        let mut selectors = vec![
            &deployment["spec"]["selector"]["matchLabels"],
            &self.object("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            &service["spec"]["selector"],
        ];
        selectors.extend(
            items(&self.pod()["topologySpreadConstraints"]).map(|one| &one["labelSelector"]["matchLabels"]),
        );
        selectors.extend(self.find("NetworkPolicy").map(|one| &one["spec"]["podSelector"]["matchLabels"]));
        selectors.extend(self.find("PodMonitor").map(|one| &one["spec"]["selector"]["matchLabels"]));
        for selector in selectors {
            let selector = selector.as_mapping().expect("a selector");
            assert!(!selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value));
        }
        let ports: Vec<&Value> = items(&service["spec"]["ports"]).collect();
        assert_eq!(ports.len(), 1, "the admin port is not for the world");
        let http = items(&self.proxy()["ports"]).find(|port| port["name"] == "http").expect("a port");
        // Before 1.32 a Service finds a sidecar's port only by its number.
        let target = &ports[0]["targetPort"];
        assert!(
            *target == http["containerPort"] || (*target == http["name"] && !self.attached),
            "{}",
            self.name
        );
    }

    fn is_scaled_by_what_there_is(&self) {
        let deployment = self.object("Deployment");
        let Some(scaler) = self.find("HorizontalPodAutoscaler") else {
            assert!(deployment["spec"]["replicas"].as_u64() > Some(0), "{}", self.name);
            return;
        };
        assert!(deployment["spec"]["replicas"].is_null(), "{}: the autoscaler's number", self.name);
        let spec = &scaler["spec"];
        assert_eq!(spec["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
        assert!(spec["minReplicas"].as_u64() > Some(0), "{}", self.name);
        assert!(spec["minReplicas"].as_u64() <= spec["maxReplicas"].as_u64(), "{}", self.name);
        for metric in items(&spec["metrics"]).filter(|metric| metric["type"] == "ContainerResource") {
            let container = &metric["containerResource"]["container"];
            let found =
                self.containers().into_iter().find(|one| one["name"] == *container).expect("a container");
            assert!(found["resources"]["requests"]["cpu"].is_string(), "a share of nothing");
        }
    }
}
