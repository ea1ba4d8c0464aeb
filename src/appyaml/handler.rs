//! One entry of `handlers`: from what is written to what can be served.

use std::time::Duration;

use super::expiration;
use super::fields::{self, COMMON, HANDLER};
use super::findings::{Findings, code};
use super::headers;
use super::raw::Node;
use super::target;
use super::{Handler, Login, Place, Secure, StaticOptions, Target};
use crate::pattern::{Pattern, Template};

/// The SDK's order: the first that is given decides what the handler is.
const KINDS: [&str; 4] = ["api_endpoint", "static_files", "static_dir", "script"];

/// Most handlers in one app, as on App Engine.
pub(super) const MOST: usize = 100;
/// So many are looked at for mistakes all the same.
const MOST_READ: usize = 500;

/// A valid handler, and what only the merging of includes needs.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) handler: Handler,
    /// `position: tail`.
    pub(super) tail: bool,
    /// An `api_endpoint`, which needs `api_config`.
    pub(super) api: bool,
    script_at: Option<Place>,
}

impl Entry {
    /// Where its script stands.
    pub(super) fn script_place(&self) -> &Place {
        self.script_at.as_ref().unwrap_or(&self.handler.place)
    }

    /// The script, when it is a file in the CGI style, which no threadsafe app may have.
    pub(super) fn cgi(&self) -> Option<&str> {
        match &self.handler.target {
            Target::Script { script } => {
                Some(script.as_str()).filter(|script| script.ends_with(".py") || script.contains('/'))
            }
            _ => None,
        }
    }
}

/// What the file around a handler says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    pub(super) default_expiration: Duration,
    /// An included file, which may say `position`.
    pub(super) included: bool,
    /// A builtin of ours: nothing in it is news to the user.
    pub(super) builtin: bool,
}

/// All of `handlers:`; the wrong ones are told and left out.
pub(super) fn read_all(node: Node<'_>, around: Around, findings: &mut Findings) -> Vec<Entry> {
    if !node.value.is_sequence() {
        findings
            .error(&node.place(), "`handlers` must be a list")
            .hint("start each handler on its own line with `- url: …`");
        return Vec::new();
    }
    if let Some(extra) = node.items().nth(MOST) {
        findings
            .error(&extra.place(), format!("more than {MOST} handlers"))
            .hint("join handlers with patterns, or let the app route");
    }
    node.items().take(MOST_READ).filter_map(|item| read(item, around, findings)).collect()
}

/// What the SDK gives an app in a virtual machine that has no handlers: everything goes to the app.
pub(super) fn placeholder(place: &Place) -> Option<Entry> {
    let handler = Handler {
        url: Pattern::parse(".*").ok()?,
        target: Target::Script { script: Template::parse("PLACEHOLDER") },
        login: Login::Optional,
        secure: Secure::Optional,
        redirect_code: 302,
        place: place.clone(),
    };
    Some(Entry { handler, tail: false, api: false, script_at: None })
}

fn read(node: Node<'_>, around: Around, findings: &mut Findings) -> Option<Entry> {
    let before = findings.errors();
    if node.is_broken() {
        return None;
    }
    HANDLER.check(node, findings);
    if !node.value.is_mapping() {
        return None;
    }
    let kind = kind(node, findings);
    conflicts(node, kind, around, findings);
    let url = url(node, findings);
    let options = options(node, around, findings);
    if findings.errors() > before {
        return None;
    }
    let (kind, url) = (kind?, url?);
    if kind == "static_dir" && !is_directory_url(node, &url, findings) {
        return None;
    }
    let target = target::read(node, kind, &url, options, findings)?;
    let login = login(node, around, findings);
    remarks(node, &url, login, findings);
    let secure = match node.text_at("secure").as_deref() {
        Some("always") => Secure::Always,
        Some("never") => Secure::Never,
        _ => Secure::Optional,
    };
    let redirect_code =
        node.text_at("redirect_http_response_code").and_then(|code| code.parse().ok()).unwrap_or(302);
    let place = node.place();
    let handler = Handler { url, target, login, secure, redirect_code, place };
    let tail = node.text_at("position").as_deref() == Some("tail");
    let script_at = node.get("script").map(Node::place);
    Some(Entry { handler, tail, api: kind == "api_endpoint", script_at })
}

fn kind(node: Node<'_>, findings: &mut Findings) -> Option<&'static str> {
    let kind = KINDS.into_iter().find(|kind| node.get(kind).is_some());
    if kind.is_none() {
        let empty = node.entries().find(|(key, _)| KINDS.contains(&key.name));
        match empty {
            Some((key, _)) => findings.error(&key.place(), format!("{} has no value", code(key.name))),
            None => findings.error(&node.place(), "this handler does not say what answers"),
        }
        .hint("give it one of `script`, `static_files` or `static_dir`");
    }
    kind
}

/// Keys that the handler's kind cannot have.
fn conflicts(node: Node<'_>, kind: Option<&'static str>, around: Around, findings: &mut Findings) {
    let Some(kind) = kind else { return };
    for (key, _) in node.entries().filter(|(_, value)| !value.is_null()) {
        let known = HANDLER.fields.iter().any(|field| field.name == key.name);
        let fits =
            key.name == kind || COMMON.contains(&key.name) || fields::allowed(kind).contains(&key.name);
        if key.name == "position" && fits && !around.included {
            findings
                .error(&key.place(), "`position` is only for handlers in included files")
                .hint("handlers are tried in the order they stand in: move it instead");
        } else if !known || fits {
        } else if KINDS.contains(&key.name) {
            findings
                .error(
                    &key.place(),
                    format!("conflict: one handler cannot have both {} and {}", code(kind), code(key.name)),
                )
                .hint("keep one of them, or make two handlers");
        } else {
            findings
                .error(
                    &key.place(),
                    format!("unexpected attribute {} for a handler with {}", code(key.name), code(kind)),
                )
                .hint(match (key.name, kind) {
                    ("upload", _) => "`upload` goes with `static_files`",
                    ("position", _) => "`position` goes with `script`",
                    _ => "only `static_files` and `static_dir` can have it",
                });
        }
    }
    if kind == "static_files" && node.get("upload").is_none() {
        let place = node.entry("static_files").map_or_else(|| node.place(), |(key, _)| key.place());
        findings
            .error(&place, "`static_files` needs `upload`")
            .hint("add `upload:` with a pattern of the files that may be served, such as `static/.*\\.css`");
    }
}

fn url(node: Node<'_>, findings: &mut Findings) -> Option<Pattern> {
    let Some(url) = node.get("url") else {
        // R-REGEX: the SDK lets this pass and fails at each request.
        findings.error(&node.place(), "this handler has no `url`").hint("give it one, such as `url: /.*`");
        return None;
    };
    let text = url.text();
    match Pattern::parse(&text) {
        Ok(pattern) => Some(pattern),
        Err(_) if url.is_broken() || !url.is_scalar() => None,
        Err(error) => {
            findings
                .error(&url.place(), format!("{} is not a regular expression: {error}", code(&text)))
                .hint("put `\\` in front of a sign that stands for itself, such as `\\(`");
            None
        }
    }
}

/// The url of a directory loses its last slash, which may have been the end of an escape.
fn is_directory_url(node: Node<'_>, url: &Pattern, findings: &mut Findings) -> bool {
    let Err(error) = Pattern::parse_directory(url.as_str()) else { return true };
    let place = node.get("url").map_or_else(|| node.place(), Node::place);
    findings
        .error(&place, format!("{} is not the url of a directory: {error}", code(url.as_str())))
        .hint("end it in plain text: the slash before the rest of the path is added");
    false
}

fn options(node: Node<'_>, around: Around, findings: &mut Findings) -> StaticOptions {
    let http_headers = node
        .get("http_headers")
        .filter(|headers| !headers.is_broken())
        .map_or_else(Vec::new, |headers| headers::read(headers, findings));
    let mime_type = node.text_at("mime_type").filter(|text| !text.is_empty());
    let twice = http_headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if let (Some((key, _)), true, true) = (node.entry("mime_type"), mime_type.is_some(), twice) {
        findings
            .error(&key.place(), "the content type is given twice: by `mime_type` and in `http_headers`")
            .hint("keep one of the two");
    }
    let expiration = node.text_at("expiration").and_then(|text| expiration::seconds(&text));
    StaticOptions {
        mime_type,
        http_headers,
        expiration: expiration.unwrap_or(around.default_expiration),
        require_matching_file: node.get("require_matching_file").and_then(Node::truth).unwrap_or(false),
    }
}

fn login(node: Node<'_>, around: Around, findings: &mut Findings) -> Login {
    let Some(value) = node.get("login") else { return Login::Optional };
    let login = match &*value.text() {
        "required" => Login::Required,
        "admin" => Login::Admin,
        _ => return Login::Optional,
    };
    if !around.builtin {
        let url = node.text_at("url").unwrap_or_default();
        findings.warning(
            &value.place(),
            format!(
                "{} with `login: {}` is always answered 404: there are no accounts here",
                code(&url),
                login.as_str()
            ),
        );
    }
    login
}

/// What is right and still worth saying.
fn remarks(node: Node<'_>, url: &Pattern, login: Login, findings: &mut Findings) {
    let text = url.as_str();
    let place = node.get("url").map_or_else(|| node.place(), Node::place);
    if url.needs_backtracking() {
        findings.warning(
            &place,
            format!(
                "{} needs backtracking: slower, and bounded in steps (500 when it takes too many)",
                code(text)
            ),
        );
    }
    if text == "/form" {
        findings
            .warning(&place, "`/form` is reserved on App Engine and never matched there; it is matched here");
    } else if text.ends_with('\n') {
        findings
            .warning(&place, "this url ends in a line break and never matches")
            .hint("write it on one line, without `|`");
    } else if text.ends_with("/*") && !text.contains(".*") {
        findings
            .warning(
                &place,
                format!("{} matches only more slashes: `*` repeats what stands before it", code(text)),
            )
            .hint(format!("write {}", code(&format!("{}.*", text.trim_end_matches('*')))));
    }
    if let Some((key, _)) = node.entry("redirect_http_response_code")
        && !matches!(node.text_at("secure").as_deref(), Some("always" | "never"))
    {
        findings.warning(
            &key.place(),
            "`redirect_http_response_code` has no effect without `secure: always` or `never`",
        );
    }
    if let Some((key, _)) = node.entry("auth_fail_action")
        && login == Login::Optional
    {
        findings.note(&key.place(), "`auth_fail_action` has no effect without `login`");
    }
    if let Some((key, _)) = node.entry("application_readable") {
        findings
            .note(&key.place(), "`application_readable` has no effect: the app can read all its files here");
    }
}
