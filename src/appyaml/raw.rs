//! A file as written: every value with its place, before anything is known to be right.
//!
//! [`Node`] walks the value and its marks together. What a value must be stands in `fields`.

use std::borrow::Cow;
use std::sync::Arc;

use serde_yaml::Value;

use super::Place;
use super::reader::{At, Document, Mark, float_text};

/// One value in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'d> {
    pub(super) value: &'d Value,
    mark: &'d Mark,
    file: &'d Arc<str>,
}

/// The key in front of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'d> {
    pub(super) name: &'d str,
    at: At,
    file: &'d Arc<str>,
}

impl Key<'_> {
    pub(super) fn place(self) -> Place {
        self.at.in_file(self.file)
    }
}

impl<'d> Node<'d> {
    pub(super) fn root(document: &'d Document, file: &'d Arc<str>) -> Self {
        Self { value: &document.value, mark: &document.mark, file }
    }

    pub(super) fn place(self) -> Place {
        self.mark.at.in_file(self.file)
    }

    pub(super) fn is_null(self) -> bool {
        self.value.is_null()
    }

    /// The reader has complained about it already.
    pub(super) fn is_broken(self) -> bool {
        self.mark.broken
    }

    /// Neither a list nor a map.
    pub(super) fn is_scalar(self) -> bool {
        !self.value.is_sequence() && !self.value.is_mapping()
    }

    /// Python's `str()` of a scalar: what the SDK stores in a text field.
    pub(super) fn text(self) -> Cow<'d, str> {
        text_of(self.value)
    }

    /// What stands in the file, where YAML makes something else of it (`010`, `1.50`, `yes`).
    pub(super) fn written(self) -> Option<&'d str> {
        self.mark.written.as_deref()
    }

    /// The text as the user wrote it.
    pub(super) fn shown(self) -> Cow<'d, str> {
        self.written().map_or_else(|| self.text(), Cow::Borrowed)
    }

    /// The items of a list; nothing for anything else.
    pub(super) fn items(self) -> impl Iterator<Item = Node<'d>> {
        let values: &[Value] = self.value.as_sequence().map_or(&[], Vec::as_slice);
        values.iter().zip(&self.mark.parts).map(move |(value, mark)| Node { value, mark, ..self })
    }

    /// The entries of a map in file order; nothing for anything else.
    pub(super) fn entries(self) -> impl Iterator<Item = (Key<'d>, Node<'d>)> {
        let file = self.file;
        let marks = self.mark.keys.iter().zip(&self.mark.parts);
        self.value.as_mapping().into_iter().flatten().zip(marks).map(move |((key, value), (at, mark))| {
            let key = Key { name: key.as_str().unwrap_or_default(), at: *at, file };
            (key, Node { value, mark, ..self })
        })
    }

    /// A map's entry, unless it is absent or null.
    pub(super) fn get(self, name: &str) -> Option<Node<'d>> {
        self.entry(name).map(|(_, node)| node)
    }

    /// The same, with its key.
    pub(super) fn entry(self, name: &str) -> Option<(Key<'d>, Node<'d>)> {
        self.entries().find(|(key, _)| key.name == name).filter(|(_, node)| !node.is_null())
    }

    /// The text of a map's entry.
    pub(super) fn text_at(self, name: &str) -> Option<String> {
        self.get(name).filter(|node| node.is_scalar()).map(|node| node.text().into_owned())
    }

    /// A boolean as `fields` accepts it.
    pub(super) fn truth(self) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(*truth),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(word) => super::reader::words(&word.to_lowercase()),
            // The SDK looks at a list while it is still empty.
            Value::Sequence(_) => Some(false),
            _ => None,
        }
    }
}

/// Python's `str()`.
pub(super) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed("None"),
        Value::Bool(true) => Cow::Borrowed("True"),
        Value::Bool(false) => Cow::Borrowed("False"),
        Value::Number(number) => Cow::Owned(match number.as_f64() {
            Some(float) if number.is_f64() => float_text(float),
            _ => number.to_string(),
        }),
        Value::String(text) => Cow::Borrowed(text),
        Value::Sequence(_) => Cow::Borrowed("[]"),
        Value::Mapping(_) => Cow::Borrowed("{}"),
        Value::Tagged(tagged) => text_of(&tagged.value),
    }
}
