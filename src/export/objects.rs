//! The objects around the pod, in the order they are applied, and the labels that hold them together.

use serde_json::{Map, Value, json};

use super::size::{Pods, Size};
use super::variables::Variables;
use super::{Request, name, pod};

/// All that the objects are made of.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) request: &'a Request<'a>,
    pub(super) size: &'a Size,
    pub(super) variables: &'a Variables,
}

/// Every object, in the order they are applied.
pub(super) fn all(named: &Named<'_>) -> Vec<Value> {
    let mut objects = vec![service_account(named)];
    if !named.variables.open.is_empty() {
        objects.push(with(named, "v1", "ConfigMap", json!({ "data": named.variables.open })));
    }
    if !named.variables.secret.is_empty() {
        objects.push(secret(named));
    }
    objects.extend([deployment(named), service(named), budget(named)]);
    objects.extend(autoscaler(named));
    objects
}

/// What selects the pods; never changed, or the Deployment cannot be updated.
pub(super) fn selector(named: &Named<'_>) -> Value {
    json!({ "app.kubernetes.io/name": named.name })
}

/// What every object and pod is marked with.
pub(super) fn labels(named: &Named<'_>) -> Value {
    let app = named.request.app;
    let mut labels = Map::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value.and_then(name::value) {
            labels.insert(format!("app.kubernetes.io/{key}"), value.into());
        }
    };
    set("name", Some(named.name));
    set("component", Some("web"));
    set("version", app.version.as_deref());
    set("part-of", app.application.as_deref().and_then(|id| id.rsplit(['~', ':']).next()));
    Value::Object(labels)
}

/// An object of the app's name, with these fields beneath its metadata.
fn with(named: &Named<'_>, version: &str, kind: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "name": named.name, "labels": labels(named) },
    });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

fn service_account(named: &Named<'_>) -> Value {
    with(named, "v1", "ServiceAccount", json!({ "automountServiceAccountToken": false }))
}

/// Without data: applied once more, it takes nothing away that was put into it.
fn secret(named: &Named<'_>) -> Value {
    let mut secret = with(named, "v1", "Secret", json!({ "type": "Opaque" }));
    secret["metadata"]["annotations"] = json!({ "compat-proxy/needs": named.variables.secret.join(", ") });
    secret
}

fn deployment(named: &Named<'_>) -> Value {
    let mut spec = Map::new();
    if let Pods::Fixed(pods) = named.size.pods {
        spec.insert("replicas".to_owned(), pods.into());
    }
    spec.insert("selector".to_owned(), json!({ "matchLabels": selector(named) }));
    spec.insert(
        "strategy".to_owned(),
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } }),
    );
    spec.insert("template".to_owned(), pod::template(named));
    with(named, "apps/v1", "Deployment", json!({ "spec": spec }))
}

/// The app's traffic alone: the admin port is not for the world.
fn service(named: &Named<'_>) -> Value {
    let ports = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
    with(named, "v1", "Service", json!({ "spec": { "selector": selector(named), "ports": ports } }))
}

fn budget(named: &Named<'_>) -> Value {
    let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": selector(named) } });
    with(named, "policy/v1", "PodDisruptionBudget", json!({ "spec": spec }))
}

fn autoscaler(named: &Named<'_>) -> Option<Value> {
    let Pods::Range { least, most, target_cpu } = named.size.pods else { return None };
    let spec = json!({
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": named.name },
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": pod::CONTAINER,
                "target": { "type": "Utilization", "averageUtilization": target_cpu },
            },
        }],
    });
    Some(with(named, "autoscaling/v2", "HorizontalPodAutoscaler", json!({ "spec": spec })))
}
