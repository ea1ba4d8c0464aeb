//! app.yaml itself: the checks that look at several fields at once, and the way to an [`App`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::expiration;
use super::fields;
use super::findings::{Findings, code};
use super::handler::{self, Around, Entry, MOST};
use super::notes;
use super::part::{self, Part};
use super::raw::Node;
use super::{App, Era, ErrorCode, ErrorHandler, Place, Sizing, sizing, skip};
use crate::pattern::Pattern;

/// What only app.yaml can say, read and checked.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) part: Part,
    pub(super) around: Around,
    place: Place,
    runtime: Option<String>,
    flexible: bool,
    service: String,
    version: Option<String>,
    application: Option<String>,
    entrypoint: Option<String>,
    threadsafe: Option<bool>,
    warmup: bool,
    max_concurrent_requests: Option<NonZeroU32>,
    max_pending_latency: Option<Duration>,
    basic_scaling: bool,
    sizing: Sizing,
    error_handlers: Vec<ErrorHandler>,
}

/// Checks the whole file and reads what acts.
pub(super) fn read(node: Node<'_>, findings: &mut Findings) -> Draft {
    fields::APP.check(node, findings);
    let default_expiration = node.text_at("default_expiration").and_then(|text| expiration::seconds(&text));
    let around = Around {
        default_expiration: default_expiration.unwrap_or(expiration::DEFAULT),
        included: false,
        builtin: false,
    };
    let part = part::read(node, around, findings);
    let scaling = node.get("automatic_scaling");
    let text = |name: &str| node.text_at(name).filter(|text| !text.is_empty());
    let draft = Draft {
        around,
        place: node.place(),
        runtime: node.text_at("runtime").map(|text| text.trim_end().to_owned()),
        flexible: matches!(node.text_at("env").as_deref(), Some("2" | "flex" | "flexible")),
        service: node
            .text_at("service")
            .or_else(|| node.text_at("module"))
            .unwrap_or_else(|| "default".to_owned()),
        version: text("version"),
        application: text("application").or_else(|| text("project")),
        entrypoint: text("entrypoint"),
        threadsafe: node.get("threadsafe").and_then(Node::truth),
        warmup: node
            .get("inbound_services")
            .is_some_and(|list| list.items().any(|item| item.text() == "warmup")),
        max_concurrent_requests: scaling
            .and_then(|node| node.text_at("max_concurrent_requests"))
            .map(|text| text.trim().parse().unwrap_or(NonZeroU32::MAX)),
        max_pending_latency: scaling
            .and_then(|node| node.text_at("max_pending_latency"))
            .and_then(|text| expiration::latency(text.trim_end())),
        basic_scaling: node.get("basic_scaling").is_some(),
        sizing: sizing::read(node),
        error_handlers: error_handlers(node, findings),
        part,
    };
    together(node, &draft, findings);
    notes::of_app(node, findings);
    draft
}

/// The checks across fields.
fn together(node: Node<'_>, draft: &Draft, findings: &mut Findings) {
    if node.value.is_mapping() && draft.runtime.is_none() && !draft.is_vm() {
        findings
            .error(&node.place(), "there is no `runtime`")
            .hint("add `runtime: python27`, or the runtime the app needs");
    }
    both(node, "application", "project", findings);
    both(node, "service", "module", findings);
    for text in ["-dot-", "ah-builtin"] {
        let version = draft.version.as_deref().unwrap_or_default();
        if if text == "-dot-" { version.contains(text) } else { version.starts_with(text) } {
            let place = node.get("version").map_or_else(|| node.place(), Node::place);
            findings.error(
                &place,
                format!("a version cannot have {} in it: App Engine keeps it for itself", code(text)),
            );
        }
    }
    scalings(node, findings);
    libraries(node, draft, findings);
    if let Some(entry) = draft.part.handlers.iter().find(|entry| entry.api)
        && node.get("api_config").is_none()
    {
        findings
            .error(&entry.handler.place, "`api_endpoint` needs `api_config` at the top of app.yaml")
            .hint("add `api_config:` with `url` and `script`, or use `script` alone");
    }
    // Unset counts as threadsafe here; in handlers of includes only a true one does.
    let threadsafe =
        draft.threadsafe.unwrap_or(true) && draft.max_concurrent_requests != Some(NonZeroU32::MIN);
    cgi(&draft.part.handlers, threadsafe && draft.runtime.as_deref() == Some("python27"), findings);
    super::rare::check(node, findings);
}

/// Two names for one thing.
fn both(node: Node<'_>, one: &str, other: &str, findings: &mut Findings) {
    if let (Some(_), Some((key, _))) = (node.entry(one), node.entry(other)) {
        findings
            .error(&key.place(), format!("both {} and {} are given", code(one), code(other)))
            .hint("keep one of the two");
    }
}

fn scalings(node: Node<'_>, findings: &mut Findings) {
    let kinds = ["automatic_scaling", "manual_scaling", "basic_scaling"];
    let mut given = node.entries().filter(|(key, value)| kinds.contains(&key.name) && !value.is_null());
    if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
        findings
            .error(&second.place(), format!("both {} and {} are given", code(first.name), code(second.name)))
            .hint("keep one kind of scaling");
    }
}

fn libraries(node: Node<'_>, draft: &Draft, findings: &mut Findings) {
    let Some((key, list)) = node.entry("libraries") else { return };
    if list.items().next().is_none() {
        return;
    }
    let runtime = draft.runtime.as_deref();
    let vm = draft.part.vm_settings.get("vm_runtime").map(String::as_str);
    let beta = node.get("beta_settings").and_then(|node| node.text_at("vm_runtime"));
    let python27 = runtime == Some("python27")
        || (runtime == Some("vm") && vm == Some("python27"))
        || beta.as_deref() == Some("python27");
    if !python27 {
        findings
            .error(&key.place(), "`libraries` is only for `runtime: python27`")
            .hint("list the libraries in requirements.txt instead");
    }
    let mut seen = BTreeSet::new();
    for (name, place) in
        list.items().filter_map(|item| Some((item.text_at("name")?, item.get("name")?.place())))
    {
        if seen.contains(&name) {
            findings
                .error(&place, format!("the library {} is given twice", code(&name)))
                .hint("keep one of the two");
        }
        seen.insert(name);
    }
}

fn cgi(handlers: &[Entry], refused: bool, findings: &mut Findings) {
    for entry in handlers.iter().filter(|_| refused) {
        if let Some(script) = entry.cgi() {
            let message = format!("threadsafe cannot be enabled with the CGI handler {}", code(script));
            let hint = "name the app object, such as `main.app`, or write `threadsafe: false`";
            findings.error(entry.script_place(), message).hint(hint);
        }
    }
}

fn error_handlers(node: Node<'_>, findings: &mut Findings) -> Vec<ErrorHandler> {
    let mut found: Vec<ErrorHandler> = Vec::new();
    for item in node.get("error_handlers").into_iter().flat_map(Node::items) {
        let Some(file) = item.text_at("file") else { continue };
        let code_text = item.text_at("error_code");
        let kind = match code_text.as_deref() {
            Some("over_quota") => ErrorCode::OverQuota,
            Some("dos_api_denial") => ErrorCode::DosApiDenial,
            Some("timeout") => ErrorCode::Timeout,
            _ => ErrorCode::Default,
        };
        if found.iter().any(|other| other.code == kind) {
            let message = format!(
                "a second page for {}: the first is used",
                code(code_text.as_deref().unwrap_or("default"))
            );
            findings.warning(&item.place(), message).hint("keep one of the two");
            continue;
        }
        let mime_type = item.text_at("mime_type").filter(|text| !text.is_empty());
        let mime_type = mime_type.unwrap_or_else(|| "text/html".to_owned());
        let place = item.get("file").map_or_else(|| item.place(), Node::place);
        found.push(ErrorHandler { code: kind, file, mime_type, place });
    }
    found
}

impl Draft {
    fn is_vm(&self) -> bool {
        self.part.vm || self.flexible
    }

    /// After the includes are merged: the last checks, and the result.
    pub(super) fn finish(mut self, sources: Vec<PathBuf>, findings: &mut Findings) -> Option<App> {
        if let Some(extra) = self.part.handlers.get(MOST).filter(|_| findings.errors() == 0) {
            findings
                .error(
                    &extra.handler.place,
                    format!("more than {MOST} handlers, those of includes and builtins counted"),
                )
                .hint("join handlers with patterns, or let the app route");
        }
        let vm = self.is_vm();
        let effective = if vm { "vm" } else { self.runtime.as_deref().unwrap_or_default() };
        let threadsafe = self.threadsafe == Some(true)
            || self.max_concurrent_requests.is_some_and(|most| most != NonZeroU32::MIN);
        let told = findings.errors() > 0;
        cgi(&self.part.handlers, threadsafe && effective == "python27" && !told, findings);
        let (text, place) =
            self.part.skip_files.take().unwrap_or_else(|| (skip::DEFAULT.to_owned(), self.place.clone()));
        let skip_files = Pattern::parse(&text);
        if let (Err(error), false) = (&skip_files, told) {
            findings.error(&place, format!("`skip_files` is not a regular expression: {error}"));
        }
        if findings.errors() > 0 {
            return None;
        }
        if vm && self.part.handlers.is_empty() {
            self.part.handlers.push(handler::placeholder(&self.place)?);
        }
        let era = match effective {
            "python27" | "python" | "python-compat" | "vm" => Era::Classic,
            _ => Era::Modern,
        };
        Some(App {
            era,
            vm_runtime: vm_runtime(vm, effective, self.runtime.as_deref(), &self.part.vm_settings),
            vm: vm || effective == "vm",
            runtime: self.runtime.unwrap_or_else(|| "custom".to_owned()),
            service: self.service,
            version: self.version,
            application: self.application,
            entrypoint: self.entrypoint,
            threadsafe: self.threadsafe,
            env_variables: self.part.env_variables,
            handlers: self.part.handlers.into_iter().map(|entry| entry.handler).collect(),
            skip_files: skip_files.ok()?,
            warmup: self.warmup,
            max_concurrent_requests: self.max_concurrent_requests,
            max_pending_latency: self.max_pending_latency,
            manual_instances: self.part.instances.and_then(NonZeroU32::new),
            basic_scaling: self.basic_scaling,
            sizing: self.sizing,
            error_handlers: self.error_handlers,
            sources,
        })
    }
}

/// The runtime inside a virtual machine: as set, else the runtime itself.
fn vm_runtime(
    vm: bool,
    effective: &str,
    runtime: Option<&str>,
    settings: &BTreeMap<String, String>,
) -> Option<String> {
    if !vm && effective != "vm" {
        return None;
    }
    settings.get("vm_runtime").cloned().or_else(|| runtime.map(ToOwned::to_owned))
}
