//! compat-proxy.yaml as written: known keys, each with its values and their places.
//!
//! One flat mapping of option names to texts; a list for what may be repeated. It is read from YAML events, because
//! every value must know its line and all mistakes are told at once. What a value means is not decided here.

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::error::{Fault, SettingsError};
use super::key::{self, Arity, KEYS, Key};
use super::origin::{FilePlace, Origin};

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Written {
    keys: BTreeMap<&'static str, Entry>,
    seen: BTreeMap<String, usize>,
}

/// What the file says about one key.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its value begins.
    pub(super) place: FilePlace,
    /// Its values; one unless it is a list.
    pub(super) values: Vec<(String, FilePlace)>,
    /// Written as a YAML list, so that a value is never split again.
    pub(super) list: bool,
}

impl Written {
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.keys.get(key.name)
    }
}

/// Reads the text of the file; `path` is its name in messages. Mistakes go to `errors`, the rest is kept.
pub(super) fn parse(path: &str, text: &str, errors: &mut Vec<SettingsError>) -> Written {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut mistakes = Vec::new();
    let mut reader =
        Reader { path: Arc::from(path), events: Parser::new_from_str(text), errors: &mut mistakes };
    let mut written = Written::default();
    if let Err(stop) = reader.stream(&mut written) {
        // What was read before the break may not be what was meant, so the break is all we tell.
        reader.errors.clear();
        let place = reader.place_at(stop.marker().line(), stop.marker().col());
        let message =
            format!("not valid YAML: {}; quote a value that holds YAML's own characters", stop.info());
        reader.report("", place, Fault::Yaml(message));
        written = Written::default();
    }
    errors.append(&mut mistakes);
    written
}

struct Reader<'t, 'e> {
    path: Arc<str>,
    events: Parser<'t, StrInput<'t>>,
    errors: &'e mut Vec<SettingsError>,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, FilePlace), ScanError> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, self.place(span))),
            Some(Err(error)) => Err(error),
            None => Ok((Event::StreamEnd, self.place_at(1, 0))),
        }
    }

    fn stream(&mut self, written: &mut Written) -> Result<(), ScanError> {
        let mut documents = 0;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_) => documents += 1,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                _ if documents > 1 => {
                    let message = "a second YAML document; keep all settings in the first one";
                    self.report("", place, Fault::Yaml(message.to_owned()));
                    self.skip(&event)?;
                }
                Event::MappingStart(..) => self.mapping(written)?,
                Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => {}
                other => {
                    let message = "settings are written one a line, `name: value`";
                    self.report("", place, Fault::Yaml(message.to_owned()));
                    self.skip(&other)?;
                }
            }
        }
    }

    fn mapping(&mut self, written: &mut Written) -> Result<(), ScanError> {
        loop {
            let (event, place) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(name, ..) => name.into_owned(),
                other => {
                    self.report("", place, Fault::Yaml("a setting's name is one word".to_owned()));
                    self.skip(&other)?;
                    self.skip_next()?;
                    continue;
                }
            };
            let first = *written.seen.entry(name.clone()).or_insert(place.line);
            let Some(key) = KEYS.into_iter().find(|key| key.name == name) else {
                let near = key::nearest(&name, KEYS.iter().map(|key| key.name));
                self.report("", place, Fault::Unknown { name, near });
                self.skip_next()?;
                continue;
            };
            if written.keys.contains_key(key.name) || first != place.line {
                self.report("", place, Fault::Twice { name, first });
                self.skip_next()?;
                continue;
            }
            if let Some(entry) = self.value(key)? {
                written.keys.insert(key.name, entry);
            }
        }
    }

    /// The value of a key; none when it is null, which is the same as leaving the key out.
    fn value(&mut self, key: &Key) -> Result<Option<Entry>, ScanError> {
        let (event, place) = self.next()?;
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Ok(None),
            Event::Scalar(text, ..) => {
                let values = vec![(text.trim().to_owned(), place.clone())];
                Ok(Some(Entry { place, values, list: false }))
            }
            Event::SequenceStart(..) if key.arity == Arity::Many => {
                let values = self.list(key)?;
                Ok(Some(Entry { place, values, list: true }))
            }
            other => {
                let message = match other {
                    Event::SequenceStart(..) => "takes one value, not a list".to_owned(),
                    Event::MappingStart(..) => "takes a value, not a mapping".to_owned(),
                    _ => "anchors and aliases are not understood here; write the value itself".to_owned(),
                };
                self.report(key.name, place, Fault::Value(message));
                self.skip(&other)?;
                Ok(None)
            }
        }
    }

    fn list(&mut self, key: &Key) -> Result<Vec<(String, FilePlace)>, ScanError> {
        let mut values = Vec::new();
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(values),
                Event::Scalar(text, ..) => values.push((text.trim().to_owned(), place)),
                other => {
                    self.report(
                        key.name,
                        place,
                        Fault::Value(
                            "takes a list of plain values; quote one that begins with `[`".to_owned(),
                        ),
                    );
                    self.skip(&other)?;
                }
            }
        }
    }

    /// Passes over the rest of a node whose first event was `event`.
    fn skip(&mut self, event: &Event<'_>) -> Result<(), ScanError> {
        let mut depth = depth_of(event);
        while depth > 0 {
            depth += depth_of(&self.next()?.0);
        }
        Ok(())
    }

    fn skip_next(&mut self) -> Result<(), ScanError> {
        let (event, _) = self.next()?;
        self.skip(&event)
    }

    fn report(&mut self, name: &str, place: FilePlace, fault: Fault) {
        self.errors.push(SettingsError { name: name.to_owned(), origin: Origin::File(place), fault });
    }

    fn place(&self, span: Span) -> FilePlace {
        self.place_at(span.start.line(), span.start.col())
    }

    fn place_at(&self, line: usize, column_from_zero: usize) -> FilePlace {
        FilePlace { path: Arc::clone(&self.path), line, column: column_from_zero + 1 }
    }
}

const fn depth_of(event: &Event<'_>) -> i32 {
    match event {
        Event::SequenceStart(..) | Event::MappingStart(..) => 1,
        Event::SequenceEnd | Event::MappingEnd => -1,
        _ => 0,
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
