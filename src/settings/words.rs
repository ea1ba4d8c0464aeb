//! The closed sets of words some settings choose from, and the count that may be `auto`.

use std::fmt;

/// `--threadsafe`: what `threadsafe: false` in app.yaml means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threadsafe {
    /// Nothing but a note at start.
    Ignore,
    /// One request at a time per worker.
    Enforce,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// JSON with the field names Google Cloud Logging reads.
    Gcp,
}

/// `--access-log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Every request.
    On,
    /// None.
    Off,
    /// Requests answered with 500 and above.
    Errors,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what may surprise.
    Warn,
    /// And what happened.
    Info,
    /// And how it was decided.
    Debug,
    /// And every step.
    Trace,
}

/// A number that was given, or counted because `auto` was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many; at least 1.
    pub number: usize,
    /// Counted from the usable cores.
    pub auto: bool,
}

/// An enum written as one of a few words.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// Every word and what it means, in the order help shows them; of several with one meaning the first is its name.
    const WORDS: &'static [(&'static str, Self)];
}

impl Word for Threadsafe {
    const WORDS: &'static [(&'static str, Self)] = &[("ignore", Self::Ignore), ("enforce", Self::Enforce)];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("text", Self::Text), ("json", Self::Json), ("gcp", Self::Gcp)];
}

impl Word for AccessLog {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("on", Self::On),
        ("off", Self::Off),
        ("errors", Self::Errors),
        ("true", Self::On),
        ("false", Self::Off),
    ];
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Word for bool {
    const WORDS: &'static [(&'static str, Self)] =
        &[("on", true), ("off", false), ("true", true), ("false", false), ("1", true), ("0", false)];
}

/// The first word of a value, which is its name.
pub(super) fn name_of<W: Word>(value: W) -> &'static str {
    W::WORDS.iter().find(|(_, meaning)| *meaning == value).map_or("", |(word, _)| word)
}

macro_rules! shown_by_its_word {
    ($($name:ident),*) => {$(
        impl $name {
            /// The word of the option.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                name_of(self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

shown_by_its_word!(Threadsafe, LogFormat, AccessLog, LogLevel);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.auto { write!(f, "auto, {}", self.number) } else { write!(f, "{}", self.number) }
    }
}
