//! A value together with the place it came from.
//!
//! Kept so that `check`, the log and every error can say which of five sources spoke.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Where a setting came from, strongest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable, by name.
    Env(String),
    /// A key of compat-proxy.yaml.
    File(FilePlace),
    /// A field of app.yaml, by name.
    Hint(&'static str),
    /// Nobody said anything.
    Default,
}

/// A place in compat-proxy.yaml; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePlace {
    /// The file as it was opened.
    pub path: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::File(place) => write!(f, "{}:{}", place.path, place.line),
            Self::Hint(field) => write!(f, "app.yaml {field}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting: its value and who gave it. Reads like the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// What holds.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// True when a person chose this value: flag, environment or file, not a hint and not the default.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        !matches!(self.origin, Origin::Hint(_) | Origin::Default)
    }
}

impl<T> Setting<T> {
    /// Takes what app.yaml suggests unless somebody chose; without a suggestion, the default.
    pub(super) fn hint(&mut self, value: Option<T>, field: &'static str, default: T) {
        if self.is_chosen() {
            return;
        }
        *self = match value {
            Some(value) => Self { value, origin: Origin::Hint(field) },
            None => Self { value: default, origin: Origin::Default },
        };
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
