//! Single values: numbers and booleans as Python takes them, and maps of names to texts.

use serde_yaml::Value;

use super::findings::{Findings, code};
use super::raw::Node;
use super::reader::words;

/// Python's `int()`: of a float the whole part, of a boolean 0 or 1.
pub(super) fn int(text: &str) -> Option<i64> {
    match text.trim() {
        "True" => Some(1),
        "False" => Some(0),
        text if text.contains(['.', 'e']) => text.parse::<f64>().ok().map(|number| number as i64),
        text => text.replace('_', "").parse().ok(),
    }
}

/// Python's `float()`.
pub(super) fn float(text: &str) -> Option<f64> {
    match text.trim() {
        "True" => Some(1.0),
        "False" => Some(0.0),
        text => text.parse().ok(),
    }
}

/// A boolean; one in quotes is read as the boolean it names, and told.
pub(super) fn check_bool(name: &str, node: Node<'_>, findings: &mut Findings) {
    match (node.truth(), node.value) {
        (None, _) => findings
            .error(&node.place(), format!("{} cannot be the value of {}", code(&node.shown()), code(name)))
            .hint("write `true` or `false`"),
        (Some(false), Value::String(word)) => findings
            .warning(
                &node.place(),
                format!("{} is in quotes: read as false here, but true on App Engine", code(word)),
            )
            .hint("remove the quotes"),
        (Some(true), Value::String(word)) if words(&word.to_lowercase()).is_some() => findings
            .note(&node.place(), format!("{} is in quotes: read as the boolean true", code(word)))
            .hint("remove the quotes"),
        _ => {}
    }
}

/// A `ValidatedDict` of the SDK with identifiers as keys.
pub(super) fn check_words(class: &str, name: &str, node: Node<'_>, findings: &mut Findings) {
    if !node.value.is_mapping() {
        findings
            .error(&node.place(), format!("{} must be a map of names and values", code(name)))
            .hint("write `NAME: value` lines, without `-`");
        return;
    }
    for (key, value) in node.entries() {
        if !identifier(key.name) {
            findings
                .error(&key.place(), format!("{} cannot be a key in {class}", code(key.name)))
                .hint("use letters, digits and `_`, and no digit first");
        }
        if value.is_broken() {
        } else if value.value.is_mapping() {
            findings
                .error(&value.place(), format!("the value of {} must be text, not a map", code(key.name)))
                .hint("write one `NAME: value` line for each");
        } else if value.value.is_sequence() {
            findings
                .warning(
                    &value.place(),
                    format!("the value of {} is a list, which is read as `[]`", code(key.name)),
                )
                .hint("quote it if it is meant as text");
        }
    }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
fn identifier(name: &str) -> bool {
    let name = name.strip_suffix('\n').unwrap_or(name);
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
