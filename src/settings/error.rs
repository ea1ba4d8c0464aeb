//! What can be wrong with settings, and how it is said: which source, what it said, what to write instead.

use std::fmt;

use super::key::Key;
use super::origin::{FilePlace, Origin};

/// One thing wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", source_name(.name, .origin))]
pub struct SettingsError {
    /// The option's name; empty when the whole file is meant.
    pub name: String,
    /// Who said it.
    pub origin: Origin,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value of the wrong kind or out of range; the text says which and what to write.
    #[error("{0}")]
    Value(String),
    /// A key nobody knows.
    #[error("unknown setting `{name}`{}", near_hint(.near))]
    Unknown {
        /// As written.
        name: String,
        /// The key that was probably meant.
        near: Option<&'static str>,
    },
    /// A key given twice in the file.
    #[error("`{name}` is set twice, first in line {first}; remove one of them")]
    Twice {
        /// The key.
        name: String,
        /// The line of the first.
        first: usize,
    },
    /// Two settings that exclude each other.
    #[error("{0}")]
    Conflict(String),
    /// A file that is not YAML, or not of the shape asked for.
    #[error("{0}")]
    Yaml(String),
    /// A file that cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl SettingsError {
    pub(super) fn value(key: &Key, origin: Origin, message: String) -> Self {
        Self { name: key.name.to_owned(), origin, fault: Fault::Value(message) }
    }

    /// Where in compat-proxy.yaml it stands, when it stands there.
    #[must_use]
    pub const fn place(&self) -> Option<&FilePlace> {
        match &self.origin {
            Origin::File(place) => Some(place),
            _ => None,
        }
    }
}

/// The beginning of a message: `--workers: `, `COMPAT_PROXY_WORKERS: `, `compat-proxy.yaml:3:1: workers: `.
fn source_name(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Flag if name.is_empty() => String::new(),
        Origin::Flag => format!("--{name}: "),
        Origin::Env(variable) => format!("{variable}: "),
        Origin::File(place) if name.is_empty() => format!("{place}: "),
        Origin::File(place) => format!("{place}: {name}: "),
        Origin::Hint(field) => format!("app.yaml {field}: "),
        Origin::Default => format!("default of {name}: "),
    }
}

fn near_hint(near: &Option<&'static str>) -> String {
    match near {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `compat-proxy --help` lists every option, and the keys are the same words".to_owned(),
    }
}

/// Everything wrong with the settings, in the order it was found; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}
