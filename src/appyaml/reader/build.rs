//! From parser events to a value and its marks: a stack, no recursion.

use std::sync::Arc;

use saphyr_parser::{Event, ScalarStyle, Span, Tag};
use serde_yaml::{Mapping, Value};

use super::scalar::{self, Dialect, Kind};
use super::text::quote;
use super::{At, DEEPEST, Document, Findings, MOST_NODES, Mark, code};

const YAML: &str = "tag:yaml.org,2002:";

/// Reading cannot go on; the findings say why.
pub(super) struct Stop;

pub(super) struct Builder<'f> {
    file: &'f Arc<str>,
    dialect: Dialect,
    open: Vec<Frame>,
    root: Option<(Value, Mark)>,
    nodes: usize,
    texts: Vec<Text>,
    source: &'f str,
    /// The length of the source in characters.
    length: usize,
}

/// Start and end of a scalar that is not plain, in characters from the start; true for a block.
pub(super) type Text = (usize, usize, bool);

/// A collection not yet closed.
enum Frame {
    List { mark: Mark, items: Vec<Value> },
    Map { mark: Mark, map: Mapping, key: Option<Key> },
}

struct Key {
    name: String,
    at: At,
    /// A second key of the same name: its value is read and dropped.
    again: bool,
}

impl<'f> Builder<'f> {
    pub(super) fn new(source: &'f str, file: &'f Arc<str>, dialect: Dialect) -> Self {
        let length = source.chars().count();
        Self { file, dialect, open: Vec::new(), root: None, nodes: 0, texts: Vec::new(), source, length }
    }

    /// The document that has just ended.
    pub(super) fn finish(&mut self) -> Document {
        let (value, mark) = self.root.take().unwrap_or_default();
        Document { value, mark }
    }

    /// Where quoted and block scalars stand.
    pub(super) fn into_texts(self) -> Vec<Text> {
        self.texts
    }

    pub(super) fn take(&mut self, event: Event<'_>, span: Span, findings: &mut Findings) -> Result<(), Stop> {
        let at = At::of(span.start);
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            findings.error(&at.in_file(self.file), format!("more than {MOST_NODES} values in one file"));
            return Err(Stop);
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.anchor(anchor, at, findings);
                self.scalar(&text, style, tag.as_deref(), span, findings)
            }
            Event::SequenceStart(anchor, _) => {
                self.anchor(anchor, at, findings);
                let mark = Mark { at, ..Mark::default() };
                self.nest(Frame::List { mark, items: Vec::new() }, at, findings)
            }
            Event::MappingStart(anchor, _) => {
                self.anchor(anchor, at, findings);
                let mark = Mark { at, ..Mark::default() };
                self.nest(Frame::Map { mark, map: Mapping::new(), key: None }, at, findings)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                match self.open.pop() {
                    Some(Frame::List { mark, items }) => self.put(Value::Sequence(items), mark),
                    Some(Frame::Map { mark, map, .. }) => self.put(Value::Mapping(map), mark),
                    None => {}
                }
                Ok(())
            }
            Event::Alias(_) => {
                findings
                    .error(&at.in_file(self.file), "references (`*name`) are not supported in app.yaml")
                    .hint("write the value out, or quote it if the star belongs to it: \"*\"");
                self.put(Value::String("*".to_owned()), Mark { at, broken: true, ..Mark::default() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn anchor(&self, anchor: usize, at: At, findings: &mut Findings) {
        if anchor > 0 {
            findings
                .error(&at.in_file(self.file), "anchors (`&name`) are not supported in app.yaml")
                .hint("write the value out where it is needed, or quote it if the `&` belongs to it: \"&\"");
        }
    }

    fn nest(&mut self, frame: Frame, at: At, findings: &mut Findings) -> Result<(), Stop> {
        if self.key_expected() {
            let line = self.source.lines().nth(at.line as usize - 1).unwrap_or_default();
            let template = line.contains("{{");
            findings.error(&at.in_file(self.file), "a list or a map cannot be a key").hint(if template {
                "this looks like a template that was not filled in"
            } else {
                "quote a text that starts with `[` or `{`"
            });
            return Err(Stop);
        }
        if self.open.len() >= DEEPEST {
            findings.error(&at.in_file(self.file), format!("nested deeper than {DEEPEST} levels"));
            return Err(Stop);
        }
        self.open.push(frame);
        Ok(())
    }

    fn key_expected(&self) -> bool {
        matches!(self.open.last(), Some(Frame::Map { key: None, .. }))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
        findings: &mut Findings,
    ) -> Result<(), Stop> {
        let at = At::of(span.start);
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        if style != ScalarStyle::Plain {
            self.texts.push((span.start.index(), span.end.index(), block));
        }
        let text = match text.strip_suffix('\n') {
            Some(shorter)
                if block && span.end.index() >= self.length && self.ends_open(span.start.line()) =>
            {
                shorter
            }
            _ => text,
        };
        // The SDK takes a key as its text, whatever it would resolve to.
        let value = match tag {
            None if self.key_expected() || style != ScalarStyle::Plain => Ok(Value::String(text.to_owned())),
            None => scalar::plain(text, self.dialect),
            Some(tag) => kind(tag).and_then(|kind| scalar::tagged(text, kind, self.dialect)),
        };
        let broken = value.is_err();
        let value = value.unwrap_or_else(|message| {
            findings.error(&at.in_file(self.file), message).hint(quote(text));
            Value::String(text.to_owned())
        });
        if self.key_expected() {
            self.key(super::super::raw::text_of(&value).into_owned(), at, findings);
            return Ok(());
        }
        let written = (style == ScalarStyle::Plain && !matches!(value, Value::String(_) | Value::Null))
            .then(|| text.to_owned().into_boxed_str());
        self.put(value, Mark { at, written, broken, ..Mark::default() });
        Ok(())
    }

    /// Whether the parser has put a line break at the end of a block text that reaches the end of the file and has
    /// none there. YAML 1.1 puts none.
    fn ends_open(&self, start: usize) -> bool {
        let last = self.source.rsplit('\n').next().unwrap_or_default();
        if last.is_empty() || last.ends_with('\r') {
            return false;
        }
        let blank = |line: &&str| line.trim().is_empty();
        let first =
            self.source.lines().skip(start.saturating_sub(1)).find(|line| !blank(line)).unwrap_or_default();
        let indent = first.len() - first.trim_start_matches(' ').len();
        !blank(&last) || last.len() >= indent
    }

    fn key(&mut self, name: String, at: At, findings: &mut Findings) {
        let Some(Frame::Map { map, key, .. }) = self.open.last_mut() else { return };
        let place = at.in_file(self.file);
        let again = map.contains_key(name.as_str());
        if name.is_empty() {
            findings.error(&place, "there is no key in front of this value").hint("write `key: value`");
        } else if name == "<<" {
            findings
                .error(&place, "merge keys (`<<`) are not supported in app.yaml")
                .hint("write the keys out");
        } else if again {
            findings
                .error(&place, format!("duplicate attribute {}", code(&name)))
                .hint("keep one of the two");
        }
        *key = Some(Key { again: again || name == "<<", name, at });
    }

    /// A finished value goes where it belongs.
    fn put(&mut self, value: Value, mark: Mark) {
        match self.open.last_mut() {
            None => self.root = Some((value, mark)),
            Some(Frame::List { mark: list, items }) => {
                items.push(value);
                list.parts.push(mark);
            }
            Some(Frame::Map { mark: of_map, map, key }) => {
                if let Some(key) = key.take().filter(|key| !key.again) {
                    map.insert(Value::String(key.name), value);
                    of_map.keys.push(key.at);
                    of_map.parts.push(mark);
                }
            }
        }
    }
}

fn kind(tag: &Tag) -> Result<Kind, String> {
    let full = format!("{}{}", tag.handle, tag.suffix);
    Ok(match full.strip_prefix(YAML) {
        Some("null") => Kind::Null,
        Some("bool") => Kind::Bool,
        Some("int") => Kind::Int,
        Some("float") => Kind::Float,
        Some("timestamp") => Kind::Timestamp,
        Some("str") => Kind::Text,
        Some(other) => return Err(format!("the tag `!!{other}` cannot be used here")),
        None => return Err(format!("the tag {} is not known", code(&full))),
    })
}
