//! The pod: compat-proxy with the app inside, its probes, its limits, and time to stop. `tests/manifests` holds it to
//! the same rules as the manifests in `config/kubernetes`.

use std::time::Duration;

use serde_json::{Value, json};

use super::objects::{Named, labels, selector};
use crate::settings::{Origin, Setting};

/// The one container.
pub(super) const CONTAINER: &str = "app";
/// Where the app is in its image.
const APP_DIR: &str = "/app";
/// Where the program is put when the image does not have it.
const COPIED: &str = "/compat";
const USER: u32 = 65532;
/// compat-proxy gives up after so many start-timeouts in a row; the kubelet must not be faster.
const STARTS: u32 = 5;
const STARTUP_PERIOD: u32 = 2;
/// While the cluster forgets the pod.
const QUIET: Duration = Duration::from_secs(5);
/// Beyond all that stopping may take by the settings.
const RESERVE: Duration = Duration::from_secs(15);
/// Proxy threads that nobody asked for.
const MOST_THREADS: usize = 4;
/// Settings with a value of the manifests' own.
const FIXED: [&str; 5] = ["listen", "admin", "workers", "threads", "drain-quiet"];

/// The pod template of the Deployment.
pub(super) fn template(named: &Named<'_>) -> Value {
    let mut metadata = json!({ "labels": labels(named) });
    if !named.variables.open.is_empty() {
        // A changed variable rolls the pods, which read the ConfigMap only when they start.
        let mut hasher = blake3::Hasher::new();
        for (key, value) in &named.variables.open {
            hasher.update(key.as_bytes()).update(&[0]).update(value.as_bytes()).update(&[0]);
        }
        let hash: String = hasher.finalize().to_hex().chars().take(16).collect();
        metadata["annotations"] = json!({ "compat-proxy/variables": hash });
    }
    json!({ "metadata": metadata, "spec": spec(named) })
}

fn spec(named: &Named<'_>) -> Value {
    let mut spec = json!({
        "serviceAccountName": named.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": grace(named).as_secs(),
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector(named) },
        }],
    });
    let mut volumes = vec![json!({ "name": "tmp", "emptyDir": { "sizeLimit": "256Mi" } })];
    if let Some(image) = named.request.proxy_image {
        spec["initContainers"] = json!([{
            "name": "compat-proxy",
            "image": image,
            "args": ["install", COPIED],
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
            "securityContext": locked(),
            "volumeMounts": [{ "name": "compat", "mountPath": COPIED }],
        }]);
        volumes.push(json!({ "name": "compat", "emptyDir": { "sizeLimit": "128Mi" } }));
    }
    spec["containers"] = json!([container(named)]);
    spec["volumes"] = Value::Array(volumes);
    spec
}

fn container(named: &Named<'_>) -> Value {
    let size = named.size;
    let copied = named.request.proxy_image.is_some();
    let program = if copied { format!("{COPIED}/compat-proxy") } else { "compat-proxy".to_owned() };
    let mut container = json!({
        "name": CONTAINER,
        "image": named.request.image,
        "command": [program],
        "args": arguments(named),
        "ports": [{ "name": "http", "containerPort": 8080 }, { "name": "metrics", "containerPort": 9911 }],
    });
    let mut sources = Vec::new();
    if !named.variables.open.is_empty() {
        sources.push(json!({ "configMapRef": { "name": named.name } }));
    }
    if !named.variables.secret.is_empty() {
        sources.push(json!({ "secretRef": { "name": named.name } }));
    }
    if !sources.is_empty() {
        container["envFrom"] = Value::Array(sources);
    }
    let start = named.request.settings.start_timeout.value.as_secs_f64().ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an hour at most")]
    let tries = (start as u32 * STARTS).div_ceil(STARTUP_PERIOD).max(30);
    container["startupProbe"] = probe("/startupz", STARTUP_PERIOD, 2, tries);
    container["readinessProbe"] = probe("/readyz", 2, 2, 2);
    // Never looks at the app: dead workers are replaced without restarting the container.
    container["livenessProbe"] = probe("/livez", 10, 3, 3);
    container["resources"] = json!({
        "requests": { "cpu": format!("{}m", size.millicores), "memory": format!("{}Mi", size.memory) },
        "limits": { "memory": format!("{}Mi", size.memory_limit) },
    });
    container["securityContext"] = locked();
    let mut mounts = vec![json!({ "name": "tmp", "mountPath": "/tmp" })];
    if copied {
        mounts.push(json!({ "name": "compat", "mountPath": COPIED, "readOnly": true }));
    }
    container["volumeMounts"] = Value::Array(mounts);
    container
}

/// What is typed becomes the container's, with the app where the image has it.
fn arguments(named: &Named<'_>) -> Vec<String> {
    let request = named.request;
    let quiet = humantime::format_duration(quiet(named)).to_string().replace(' ', "");
    let mut arguments = vec![
        "--listen=0.0.0.0:8080".to_owned(),
        // Probes and Prometheus come from outside the pod.
        "--admin=0.0.0.0:9911".to_owned(),
        format!("--drain-quiet={quiet}"),
    ];
    // `auto` of either would count the cores of the node. A proxy thread for each worker is more than enough.
    arguments.extend(named.size.workers.map(|workers| format!("--workers={workers}")));
    arguments.push(format!("--threads={}", threads(named)));
    let typed = request.options.typed().filter(|(name, _)| !FIXED.contains(name));
    let mut health = request.settings.health_path.value.is_some();
    for (name, values) in typed {
        health |= name == "health-path";
        arguments.extend(values.iter().map(|value| format!("--{name}={value}")));
    }
    if let Some(path) = request.app.sizing.readiness_path.as_ref().filter(|_| !health && !request.only_files)
    {
        arguments.push(format!("--health-path={path}"));
    }
    arguments.push(APP_DIR.to_owned());
    // The kubelet puts variables for `$(NAME)`, and makes one `$` of two.
    arguments.iter().map(|argument| argument.replace('$', "$$")).collect()
}

fn threads(named: &Named<'_>) -> usize {
    let Setting { value, origin } = &named.request.settings.threads;
    if *origin != Origin::Default && !value.auto {
        return value.number;
    }
    named.size.workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(1).clamp(1, MOST_THREADS)
}

/// The quiet period that somebody chose, else what a cluster needs.
fn quiet(named: &Named<'_>) -> Duration {
    let Setting { value, origin } = &named.request.settings.drain_quiet;
    if *origin == Origin::Default { QUIET } else { *value }
}

fn grace(named: &Named<'_>) -> Duration {
    let settings = named.request.settings;
    let whole = quiet(named) + settings.grace_period.value + settings.stop_timeout.value + RESERVE;
    Duration::from_secs(whole.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

fn probe(path: &str, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "metrics" },
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    })
}

fn locked() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}
