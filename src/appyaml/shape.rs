//! What a value may be, and the one function that checks it.
//!
//! A [`Shape`] is a class of the SDK: its name, its keys, and the [`Rule`] of each. The tables are in `fields`.

use super::fields::URL;
use super::findings::{Findings, code, nearest, one_of};
use super::raw::{Key, Node};
use super::reader::quote;
use super::values::{check_bool, check_words, float, int};

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Shape {
    /// The SDK's name of the class, told in messages.
    pub(super) class: &'static str,
    /// The same for people: `a handler`.
    pub(super) what: &'static str,
    pub(super) fields: &'static [Field],
}

/// A key of a [`Shape`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    rule: Rule,
    need: Need,
    note: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// May be absent, and null means absent.
    Optional,
    /// May be absent, but not null.
    NotNull,
    /// Must be there.
    Required,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Looked at elsewhere, or not at all.
    Any,
    /// Any scalar, as text.
    Text,
    /// Text with a form, and the form in words.
    Form(fn(&str) -> bool, &'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// On or off in any of the SDK's spellings.
    Switch,
    /// A boolean.
    Bool,
    /// A whole number between two bounds.
    Int(i64, i64),
    /// A number between two bounds.
    Float(f64, f64),
    /// A list of such values.
    List(&'static Rule),
    /// A map with known keys.
    Map(&'static Shape),
    /// A map of identifiers to texts.
    Words(&'static str),
}

/// The SDK's spellings of on and off.
pub(super) const ON: [&str; 7] = ["on", "yes", "y", "True", "t", "1", "true"];
pub(super) const OFF: [&str; 7] = ["off", "no", "n", "False", "f", "0", "false"];

/// Keys that people write for another one.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("datastore_auto_id_policy", "auto_id_policy"),
    ("env", "env_variables"),
    ("environment", "env_variables"),
    ("environment_variables", "env_variables"),
    ("headers", "http_headers"),
];

/// An optional key.
pub(super) const fn field(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, need: Need::Optional, note: None }
}

impl Field {
    pub(super) const fn required(self) -> Self {
        Self { need: Need::Required, ..self }
    }

    pub(super) const fn not_null(self) -> Self {
        Self { need: Need::NotNull, ..self }
    }

    /// Told when the key is given: what we make of it.
    pub(super) const fn noted(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }
}

impl Shape {
    /// Checks a map and everything in it.
    pub(super) fn check(&self, node: Node<'_>, findings: &mut Findings) {
        if !node.value.is_mapping() {
            let message = format!("{} must be a map of keys and values", self.what);
            findings.error(&node.place(), message).hint("write `key: value` lines");
            return;
        }
        for (key, value) in node.entries() {
            match self.fields.iter().find(|field| field.name == key.name) {
                Some(field) => field.check(key, value, findings),
                None => self.unknown(key, findings),
            }
        }
        for field in self.fields.iter().filter(|field| field.need == Need::Required) {
            if !node.entries().any(|(key, _)| key.name == field.name) {
                findings
                    .error(&node.place(), format!("{} needs {}", self.what, code(field.name)))
                    .hint(format!("add a line `{}: …`", field.name));
            }
        }
    }

    fn unknown(&self, key: Key<'_>, findings: &mut Findings) {
        let message = format!("unexpected attribute {} for object of type {}", code(key.name), self.class);
        let names = self.fields.iter().map(|field| field.name);
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == key.name).map(|(_, name)| *name);
        let other = other.filter(|name| names.clone().any(|known| known == *name));
        findings.error(&key.place(), message).hint_with(|| {
            match other.or_else(|| nearest(key.name, names)) {
                Some(name) => format!("did you mean {}?", code(name)),
                None => format!("{} has no such key: remove it, or check the indentation", self.what),
            }
        });
    }
}

impl Field {
    fn check(&self, key: Key<'_>, node: Node<'_>, findings: &mut Findings) {
        if let Some(note) = self.note {
            findings.note(&key.place(), format!("{} {note}", code(self.name)));
        }
        if node.is_null() {
            if self.need != Need::Optional {
                findings
                    .error(&key.place(), format!("{} has no value", code(self.name)))
                    .hint("give it one, or remove the line");
            }
        } else if !node.is_broken() {
            self.rule.check(self.name, node, findings);
        }
    }
}

impl Rule {
    /// Complains unless `node`, the value of `name`, obeys.
    pub(super) fn check(self, name: &str, node: Node<'_>, findings: &mut Findings) {
        match self {
            Self::Any => {}
            Self::List(rule) => rule.check_items(name, node, findings),
            Self::Map(shape) => shape.check(node, findings),
            Self::Words(class) => check_words(class, name, node, findings),
            Self::Bool if node.value.is_sequence() => {
                findings
                    .warning(
                        &node.place(),
                        format!("{} is a list, which App Engine reads as false", code(name)),
                    )
                    .hint("write `true` or `false` without `-`");
            }
            _ if !node.is_scalar() => {
                let what = if node.value.is_sequence() { "a list" } else { "a map" };
                findings.error(&node.place(), format!("{} must be one value, not {what}", code(name)));
            }
            Self::Bool => check_bool(name, node, findings),
            _ => {
                if let Some(must) = self.refuses(&node.text()) {
                    let message = format!("{} cannot be the value of {}", code(&node.shown()), code(name));
                    let quoted = node.written().filter(|written| self.refuses(written).is_none());
                    findings.error(&node.place(), message).hint(match quoted {
                        Some(written) => {
                            format!("YAML reads it as {}: {}", code(&node.text()), quote(written))
                        }
                        None => must,
                    });
                }
            }
        }
    }

    /// Why a scalar's text does not obey, said as what it must be.
    fn refuses(self, text: &str) -> Option<String> {
        // The SDK's expressions end in `$`, which takes a last line break too.
        let line = text.strip_suffix('\n').unwrap_or(text);
        match self {
            Self::Form(_, must) if text.starts_with('^') && must == URL => {
                Some("remove the `^`: a url covers the whole path anyway".to_owned())
            }
            Self::Form(holds, must) => (!holds(line)).then(|| must.to_owned()),
            Self::OneOf(words) => (!words.contains(&text)).then(|| format!("write {}", one_of(words))),
            Self::Switch => {
                (!ON.contains(&text) && !OFF.contains(&text)).then(|| "write `on` or `off`".to_owned())
            }
            Self::Int(least, most) => match int(text) {
                Some(number) if (least..=most).contains(&number) => None,
                _ if least == i64::MIN => Some("write a whole number".to_owned()),
                _ => Some(format!("write a whole number, {least} or more")),
            },
            Self::Float(least, most) => match float(text) {
                Some(number) if (least..=most).contains(&number) || least == f64::MIN => None,
                _ if least == f64::MIN => Some("write a number".to_owned()),
                _ => Some(format!("write a number from {least} to {most}")),
            },
            _ => None,
        }
    }

    fn check_items(self, name: &str, node: Node<'_>, findings: &mut Findings) {
        if !node.value.is_sequence() {
            findings
                .error(&node.place(), format!("{} must be a list", code(name)))
                .hint("start each item on its own line with `- `");
            return;
        }
        for item in node.items() {
            if item.is_null() && !matches!(self, Self::Any) {
                findings
                    .error(&item.place(), format!("an item of {} is empty", code(name)))
                    .hint("remove the `-`");
            } else if !item.is_broken() {
                self.check(name, item, findings);
            }
        }
    }
}
