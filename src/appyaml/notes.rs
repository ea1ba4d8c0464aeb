//! What is right in app.yaml and still worth a line: it does not act here, or acts otherwise than on App Engine.

use super::fields::is_retired_service;
use super::findings::{Findings, code};
use super::raw::Node;
use super::reader::quote;

/// The proxy's own variables, which app.yaml cannot change.
const RESERVED: [&str; 14] = [
    "APPENGINE_RUNTIME",
    "APPLICATION_ID",
    "AUTH_DOMAIN",
    "BACKEND_ID",
    "COMPAT_PROXY_WORKER",
    "CURRENT_MODULE_ID",
    "CURRENT_VERSION_ID",
    "DEFAULT_VERSION_HOSTNAME",
    "GOOGLE_CLOUD_PROJECT",
    "INSTANCE_ID",
    "MODULE_YAML_PATH",
    "NOTIFY_SOCKET",
    "PORT",
    "SERVER_SOFTWARE",
];

/// Notes on the top-level keys that the tables cannot say.
pub(super) fn of_app(node: Node<'_>, findings: &mut Findings) {
    runtime(node, findings);
    if let Some((key, _)) = node.entry("threadsafe") {
        findings.note(&key.place(), "`threadsafe` is not acted on, unless `--threadsafe enforce` is given");
    }
    if let Some((key, scaling)) = node.entry("automatic_scaling") {
        let idle = |name: &str| !matches!(name, "max_concurrent_requests" | "max_pending_latency");
        let names: Vec<String> =
            scaling.entries().filter(|(key, _)| idle(key.name)).map(|(key, _)| code(key.name)).collect();
        if !names.is_empty() {
            findings.note(&key.place(), format!("not acted on in `automatic_scaling`: {}", names.join(", ")));
        }
    }
    for service in node.get("inbound_services").into_iter().flat_map(Node::items) {
        match &*service.text() {
            "warmup" => {}
            name if is_retired_service(name) => {
                findings.note(
                    &service.place(),
                    format!("{} is gone from App Engine and not acted on", code(name)),
                );
            }
            name @ ("mail" | "mail_bounce" | "rest") => {
                findings.note(&service.place(), format!("{} is not delivered here", code(name)));
            }
            _ => {}
        }
    }
    for name in ["application", "project", "service", "module", "version"] {
        node.get(name).into_iter().for_each(|value| changed(value, findings));
    }
    for (key, value) in node.get("env_variables").into_iter().flat_map(Node::entries) {
        changed(value, findings);
        if RESERVED.contains(&key.name) || key.name.starts_with("GAE_") {
            findings
                .warning(
                    &key.place(),
                    format!("{} is set by the proxy: this value is not used", code(key.name)),
                )
                .hint("choose another name");
        }
    }
}

/// YAML made another text of it (`010` is 8), which is rarely meant.
fn changed(value: Node<'_>, findings: &mut Findings) {
    let text = value.text();
    if let Some(written) = value.written().filter(|written| *written != text) {
        let message = format!("{} is read as {}", code(written), code(&text));
        if value.value.is_bool() {
            findings.note(&value.place(), message).hint(quote(written));
        } else {
            findings.warning(&value.place(), message).hint(quote(written));
        }
    }
}

fn runtime(node: Node<'_>, findings: &mut Findings) {
    let Some(runtime) = node.get("runtime") else { return };
    let name = runtime.text();
    let known = name.starts_with(|first: char| first.is_ascii_lowercase());
    if known
        && !matches!(&*name, "python27" | "python" | "python-compat" | "vm")
        && !name.starts_with("python3")
    {
        let message = format!(
            "{} is treated as a modern runtime: a path without a handler goes to the app",
            code(&name)
        );
        findings.note(&runtime.place(), message);
    }
}
