//! `http_headers` of a static handler: which names and values App Engine allows.

use super::findings::{Findings, code};
use super::raw::{Key, Node};

/// Only in requests.
const REQUEST: [&str; 19] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "proxy-authorization",
    "range",
    "referer",
    "te",
    "user-agent",
];
/// About one connection, not about the file.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
];
/// Set by the server.
const SERVERS: [&str; 4] = ["content-encoding", "content-length", "date", "server"];
/// The longest `name: value` line, save for the names in [`longest`].
const LONGEST_LINE: usize = 500;
const MOST: usize = 500;

/// The headers in file order, without those that have no value.
pub(super) fn read(node: Node<'_>, findings: &mut Findings) -> Vec<(String, String)> {
    if !node.value.is_mapping() {
        findings
            .error(&node.place(), "`http_headers` must be a map of names and values")
            .hint("write `Name: value` lines, without `-`");
        return Vec::new();
    }
    if node.entries().count() > MOST {
        findings.error(&node.place(), format!("more than {MOST} headers"));
        return Vec::new();
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in node.entries() {
        check_name(key, findings);
        if value.is_broken() {
            continue;
        }
        if !value.is_scalar() {
            let message = format!("the value of {} must be one text", code(key.name));
            findings.error(&value.place(), message).hint("write the whole value on one line, in quotes");
            continue;
        }
        let text = if value.is_null() { String::new() } else { value.text().into_owned() };
        check_value(key.name, &text, value, findings);
        if text.is_empty() {
            findings.note(&key.place(), format!("{} has no value and is not sent", code(key.name)));
            continue;
        }
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(key.name)) {
            findings
                .warning(&key.place(), format!("{} is given twice, in different letters", code(key.name)));
        }
        headers.push((key.name.to_owned(), text));
    }
    headers
}

fn check_name(key: Key<'_>, findings: &mut Findings) {
    let name = key.name.to_ascii_lowercase();
    let token = |letter: char| letter.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(letter);
    let (what, hint) = if name.is_empty() || !name.chars().all(token) {
        ("is not a header name", "use letters, digits and `-`")
    } else if REQUEST.contains(&name.as_str()) {
        ("is a header of requests, not of responses", "remove it")
    } else if name.starts_with("x-appengine") {
        ("is reserved: names with `X-AppEngine` in front are App Engine's", "choose another name")
    } else if HOP_BY_HOP.contains(&name.as_str()) {
        ("is about the connection, which is not the file's to say", "remove it")
    } else if SERVERS.contains(&name.as_str()) {
        ("is set by the server", "remove it")
    } else {
        return;
    };
    findings.error(&key.place(), format!("{} {what}", code(key.name))).hint(hint);
}

fn check_value(name: &str, text: &str, value: Node<'_>, findings: &mut Findings) {
    if !text.chars().all(|letter| letter == ' ' || letter.is_ascii_graphic()) {
        findings
            .error(
                &value.place(),
                format!("the value of {} holds a line break or a letter beyond ASCII", code(name)),
            )
            .hint("use printable ASCII on one line");
        return;
    }
    let line = name.len() + text.len() + 4;
    let longest = longest(&name.to_ascii_lowercase());
    if line >= LONGEST_LINE && longest.is_none_or(|longest| text.len() > longest) {
        let most = longest.unwrap_or(LONGEST_LINE.saturating_sub(name.len() + 5));
        let message =
            format!("the value of {} has {} characters; {most} are allowed", code(name), text.len());
        findings.error(&value.place(), message).hint("send long headers from the app");
    }
}

/// Values that may be long.
fn longest(name: &str) -> Option<usize> {
    Some(match name {
        "content-security-policy" | "content-security-policy-report-only" => 10_240,
        "x-content-security-policy" | "x-webkit-csp" => 10_240,
        "set-cookie" | "set-cookie2" => 4096,
        "location" => 2047,
        _ => return None,
    })
}
