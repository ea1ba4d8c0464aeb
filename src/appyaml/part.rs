//! What app.yaml and an included file have in common, read into values that can be merged.

use std::collections::BTreeMap;

use super::Place;
use super::findings::{Findings, code};
use super::handler::{self, Around, Entry};
use super::raw::Node;
use super::shape::{OFF, ON};
use super::skip;

/// A list of builtins or includes that is longer is not read on: its items repeat themselves, which is an error already.
const MOST: usize = 100;

/// The mergeable half of a file.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) builtins: Vec<Builtin>,
    pub(super) includes: Vec<(String, Place)>,
    pub(super) handlers: Vec<Entry>,
    pub(super) env_variables: BTreeMap<String, String>,
    pub(super) vm_settings: BTreeMap<String, String>,
    pub(super) skip_files: Option<(String, Place)>,
    pub(super) instances: Option<u32>,
    pub(super) vm: bool,
}

/// An item of `builtins`.
#[derive(Debug)]
pub(super) struct Builtin {
    pub(super) name: String,
    /// None when the value is empty: nothing happens then.
    pub(super) on: Option<bool>,
    pub(super) place: Place,
}

/// Reads what both kinds of files may hold; the tables of `fields` have checked the plain keys.
pub(super) fn read(node: Node<'_>, around: Around, findings: &mut Findings) -> Part {
    let skip = node.get("skip_files");
    Part {
        builtins: node.get("builtins").map(|node| builtins(node, findings)).unwrap_or_default(),
        includes: node.get("includes").map(|node| includes(node, findings)).unwrap_or_default(),
        handlers: node
            .get("handlers")
            .map(|node| handler::read_all(node, around, findings))
            .unwrap_or_default(),
        env_variables: node.get("env_variables").map(texts).unwrap_or_default(),
        vm_settings: node.get("vm_settings").map(texts).unwrap_or_default(),
        skip_files: skip.and_then(|node| Some((skip::read(node, findings)?, node.place()))),
        instances: node
            .get("manual_scaling")
            .and_then(|node| node.text_at("instances"))
            .map(|text| text.trim().parse().unwrap_or(u32::MAX)),
        vm: node.get("vm").and_then(Node::truth).unwrap_or(false),
    }
}

/// A map of names to the text Python would make of each value.
pub(super) fn texts(node: Node<'_>) -> BTreeMap<String, String> {
    node.entries().map(|(key, value)| (key.name.to_owned(), value.text().into_owned())).collect()
}

fn builtins(node: Node<'_>, findings: &mut Findings) -> Vec<Builtin> {
    let hint = "write `- deferred: on`, one builtin an item";
    if !node.value.is_sequence() {
        findings.error(&node.place(), "`builtins` must be a list").hint(hint);
        return Vec::new();
    }
    let mut found: Vec<Builtin> = Vec::new();
    for item in node.items().filter(|item| !item.is_broken()).take(MOST) {
        let mut entries = item.entries();
        let Some((key, value)) = entries.next() else {
            findings.error(&item.place(), "this item names no builtin").hint(hint);
            continue;
        };
        if let Some((second, _)) = entries.next() {
            findings
                .error(&second.place(), "more than one builtin in one item")
                .hint(format!("put `- ` in front of {}", code(second.name)));
        }
        if found.iter().any(|other| other.name == key.name) {
            findings.error(&key.place(), format!("the builtin {} is given twice", code(key.name)));
        }
        let text = value.text();
        let on = if ON.contains(&&*text) { Some(true) } else { OFF.contains(&&*text).then_some(false) };
        if on.is_none() && !value.is_null() {
            let message = format!("{} cannot be the value of {}", code(&value.shown()), code(key.name));
            findings.error(&value.place(), message).hint("write `on` or `off`");
        }
        found.push(Builtin { name: key.name.to_owned(), on, place: key.place() });
    }
    found
}

fn includes(node: Node<'_>, findings: &mut Findings) -> Vec<(String, Place)> {
    if !node.value.is_sequence() {
        findings
            .error(&node.place(), "`includes` must be a list")
            .hint(format!("write `- {}` on a line of its own", node.text()));
        return Vec::new();
    }
    let mut found = Vec::new();
    for item in node.items().filter(|item| !item.is_broken()) {
        if item.is_scalar() && item.value.is_string() {
            found.push((item.text().into_owned(), item.place()));
        } else {
            findings
                .error(&item.place(), "an item of `includes` must be the path of a file")
                .hint("write `- path`");
        }
    }
    found
}
