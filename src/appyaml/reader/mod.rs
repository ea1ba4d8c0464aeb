//! YAML 1.1 text to one `serde_yaml` value, with the place of everything in it.
//!
//! 1. `text`: bytes to characters that YAML allows.
//! 2. the events of `saphyr-parser`, bounded in size, depth and number.
//! 3. `scalar` (with `number` and `time`): each scalar resolved once, as the SDK does.
//! 4. [`Document`]: the value, and a tree of [`Mark`]s of the same shape.
//!
//! What a key means is not known here: see `raw` and the tables in `fields`.

mod build;
mod number;
mod scalar;
mod tabs;
mod text;
mod time;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser};
use serde_yaml::Value;

use super::findings::{Findings, code};
use super::{Place, Problem};

pub(super) use number::float_text;
pub(super) use scalar::words;
pub(super) use text::{decode, quote};

/// No real file comes near these.
const MOST_BYTES: usize = 1 << 20;
const MOST_NODES: usize = 100_000;
const DEEPEST: usize = 32;

/// A whole file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) mark: Mark,
}

/// Where a value stands, and where its parts do: as many as the value has, in the same order.
#[derive(Debug, Default, Clone)]
pub(super) struct Mark {
    pub(super) at: At,
    /// Places of a mapping's keys.
    pub(super) keys: Vec<At>,
    /// Marks of a mapping's values or a list's items.
    pub(super) parts: Vec<Mark>,
    /// The text in the file, where reading it gave something else (`010` is 8).
    pub(super) written: Option<Box<str>>,
    /// Complained about already: not to be looked at again.
    pub(super) broken: bool,
}

/// Line and column, both from 1.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl At {
    fn of(mark: Marker) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: small(mark.line().max(1)), column: small(mark.col()).saturating_add(1) }
    }

    pub(super) fn in_file(self, file: &Arc<str>) -> Place {
        Place { file: Arc::clone(file), line: self.line, column: self.column }
    }
}

/// What a file holds.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing but comments and blank lines.
    Nothing,
    /// One document.
    Document(Document),
    /// Not YAML, or not the YAML the SDK takes: the findings say why.
    Broken,
}

/// Reads one file's text.
pub(super) fn read(text: &str, file: &Arc<str>, findings: &mut Findings) -> Content {
    let Some(dialect) = text::dialect(text, file, findings) else { return Content::Broken };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = build::Builder::new(text, file, dialect);
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let place = At::of(*error.marker()).in_file(file);
                findings.push(text::scan_problem(text, place, error.info()));
                return Content::Broken;
            }
        };
        match event {
            Event::DocumentStart(_) if document.is_some() => {
                findings
                    .error(
                        &At::of(span.start).in_file(file),
                        "a second document starts here, and only one is read",
                    )
                    .hint("remove the `---`, or keep the other document in a file of its own");
                return Content::Broken;
            }
            Event::DocumentEnd => document = Some(builder.finish()),
            event => {
                if builder.take(event, span, findings).is_err() {
                    return Content::Broken;
                }
            }
        }
    }
    tabs::refuse(text, &builder.into_texts(), file, findings);
    document.map_or(Content::Nothing, Content::Document)
}
